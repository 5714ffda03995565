"""Augmentation of latent maps inside their forgery domain and mixup across domains: the training step of LSDA."""

from typing import Any

import torch
from torch import Tensor

from dfops import reference
from dfops.ops._checks import (
    accumulation_dtype,
    autocast_to_widest,
    check_axes,
    check_device,
    check_floating,
    check_index,
    check_like,
    check_values,
    forbid_second_derivative,
    is_channels_last,
    new_clip,
    register_fake,
)

GRANULARITIES = ("sample", "channel")
TRANSFORMS = ("interpolation", "extrapolation", "additive", "difference", "rotation")  # the names of ids 0 to 4


def latent_augment(
    z: Tensor,
    choice: Tensor | str,
    lam: Tensor,
    sigma: Tensor | None = None,
    noise: Tensor | None = None,
    angle: Tensor | None = None,
    perm: Tensor | None = None,
    mix_lam: Tensor | None = None,
    *,
    centroid: Tensor | None = None,
    granularity: str = "sample",
    detach_statistics: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Transform every latent map of a batch inside its forgery domain, each as its id says, in one call.

    mu[d]     = mean of the rows of domain d         a row is a map z[g, d], at granularity "channel" a plane z[g, d, c]
    hard[d]   = the row farthest from mu[d]          Euclidean; the first of several, NaN counts as the largest
    out[g, d] = z + lam (hard[d] - z)                choice 0, interpolation (centrifugal, indirect)
                z + lam (z - mu[d])                         1, extrapolation (centrifugal, direct)
                z + lam sigma noise                         2, additive
                z + lam (z_j - z_k)                         3, difference: rows 0 and 1 of the domain; at granularity
                                                            "channel" channels 0 and 1 of the same map
                z rotated by angle[g, d]                    4, every plane about its centre, bilinear, zeros outside

    The random draws are arguments: `draws = dfops.augment.draw(z)` makes them, `latent_augment(z, *draws)` takes them.
    A map is copied if its id is another one or lacks its argument, and where ids 0, 1 (unless `centroid` is given) and
    3 have a single row.

    Args:
        z: latent maps (G, D, C, H, W) of G groups and D domains, floating point; contiguous or channels-last, read in
            place.
        choice: ids (G, D), int64, or the name of one transformation for all maps: "interpolation", "extrapolation",
            "additive", "difference" or "rotation".
        lam, sigma: (G, D), at granularity "channel" (G, D, C); dtype of z, or float32 where z is a half type. sigma is
            for id 2.
        noise: shape and dtype of z, for id 2. Under autocast z and noise are brought to the wider of their dtypes.
        angle: radians (G, D), dtype as that of lam, for id 4. A positive one turns counter-clockwise, row 0 at the top.
        perm, mix_lam: not used here: the rest of what `draw` gives, for `latent_augment_mix`.
        centroid: (D, C, H, W), at granularity "channel" (D, H, W), dtype as that of lam: replaces mu in the distances
            and in id 1, and gets no gradient.
        granularity: "sample" or "channel".
        detach_statistics: no gradient through mu and hard.

    Returns:
        out, shape and memory layout of z; mu of this batch in the shape of `centroid`, also where one was given,
        float32 for half types; the number of the farthest row of every domain (D,), int64: g, or g * C + c.

    Raises:
        ValueError: a shape, device, name or granularity other than the ones above.
        TypeError: a dtype other than the ones above, or no tensor.

    Differentiable in z alone, through mu and hard too; the sums have a fixed order, so it is deterministic. No value is
    read by the host, so with DFOPS_DEBUG=1 in the environment alone an id out of range or without argument is an error.

    >>> z = torch.tensor([0.0, 2.0, 7.0]).reshape(3, 1, 1, 1, 1)  # three groups of one domain
    >>> out, mu, hard_index = dfops.latent_augment(z, "interpolation", torch.full((3, 1), 0.5))
    >>> out.flatten().tolist(), mu.item(), hard_index.tolist()  # halfway to the farthest of them
    ([3.5, 4.5, 7.0], 3.0, [2])
    >>> z = torch.ones(3, 4, 8, 2, 2)
    >>> draws = dfops.augment.draw(z, transforms=("additive", "rotation"), granularity="channel")
    >>> dfops.latent_augment(z, *draws, granularity="channel")[0].shape
    torch.Size([3, 4, 8, 2, 2])

    Source: LSDA, arXiv:2311.11278.
    """
    z, noise = _with_noise(z, noise)
    choice = _ids(z, choice)
    _check_arguments(z, choice, lam, sigma, noise, angle, centroid, granularity)
    if reference.is_active():
        draws = (choice, lam, sigma, noise, angle)
        return reference.latent_augment(
            z, *draws, centroid=centroid, granularity=granularity, detach_statistics=detach_statistics
        )
    return torch.ops.dfops.latent_augment(
        z, choice, lam, sigma, noise, angle, centroid, granularity == "channel", detach_statistics
    )


def latent_augment_mix(
    z: Tensor,
    perm: Tensor,
    mix_lam: Tensor,
    choice: Tensor | str,
    lam: Tensor,
    sigma: Tensor | None = None,
    noise: Tensor | None = None,
    angle: Tensor | None = None,
    *,
    centroid: Tensor | None = None,
    granularity: str = "sample",
    detach_statistics: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """`latent_augment`, and beside its result the mixup of z across domains: the input of LSDA's fusion stack.

    out[g * D + d, :C] = the augmented map
    out[g * D + d, C:] = m z[g, d] + (1 - m) z[g, perm[g, d]]                m = mix_lam[g] or mix_lam[g, d]

    `latent_augment_mix(z, **draw(z)._asdict())` takes all that `dfops.augment.draw` gives.

    Args:
        z: latent maps (G, D, C, H, W).
        perm: the domain mixed into each map (G, D), int64, 0 <= perm < D. Out of range is an error: on the CPU and with
            DFOPS_DEBUG=1 an exception, on a GPU a device assert.
        mix_lam: (G,) or (G, D), dtype as that of lam.
        choice, lam, sigma, noise, angle, centroid, granularity, detach_statistics: as in `latent_augment`.

    Returns:
        out (G * D, 2C, H, W), contiguous or channels-last as z is; the other two as in `latent_augment`.

    Raises:
        ValueError: a shape, device or granularity other than the ones above.
        TypeError: a dtype other than the ones above, or no tensor.

    Differentiable in z alone, deterministic.

    >>> z = torch.ones(3, 4, 8, 2, 2)
    >>> out, _, _ = dfops.latent_augment_mix(z, **dfops.augment.draw(z)._asdict())
    >>> out.shape, out[:, 8:].eq(1).all().item()  # equal maps stay what they are when they are mixed
    (torch.Size([12, 16, 2, 2]), True)

    Source: LSDA, arXiv:2311.11278.
    """
    z, noise = _with_noise(z, noise)
    choice = _ids(z, choice)
    _check_arguments(z, choice, lam, sigma, noise, angle, centroid, granularity)
    groups, domains = z.shape[:2]
    check_index("z", z, perm=perm)
    _check_shape("perm", perm, "(G, D)", (groups, domains))
    _check_scalars(z, mix_lam=mix_lam)
    if tuple(mix_lam.shape) not in ((groups,), (groups, domains)):
        raise ValueError(f"mix_lam must be (G,) or (G, D) = {(groups, domains)}, got {tuple(mix_lam.shape)}")
    check_values(f"perm must hold domains from 0 to {domains - 1}", lambda: (perm >= 0) & (perm < domains))
    if reference.is_active():
        draws = (perm, mix_lam, choice, lam, sigma, noise, angle)
        return reference.latent_augment_mix(
            z, *draws, centroid=centroid, granularity=granularity, detach_statistics=detach_statistics
        )
    return torch.ops.dfops.latent_augment_mix(
        z, perm, mix_lam, choice, lam, sigma, noise, angle, centroid, granularity == "channel", detach_statistics
    )


def transform_id(name: str, value: str) -> int:
    """The id of a transformation by its name; `name` is that of the argument."""
    if value not in TRANSFORMS:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, TRANSFORMS))}, got {value!r}")
    return TRANSFORMS.index(value)


def _ids(z: Tensor, choice: Tensor | str) -> Tensor:
    if not isinstance(choice, str):
        return choice
    return z.new_full(z.shape[:2], transform_id("choice", choice), dtype=torch.int64)


def _with_noise(z: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor | None]:
    check_floating(z=z)
    check_axes("(G, D, C, H, W)", z=z)
    if noise is None:
        return z, None
    check_floating(noise=noise)
    z, noise = autocast_to_widest(z, noise)
    check_like("z", z, noise=noise)
    return z, noise


def _check_arguments(
    z: Tensor,
    choice: Tensor,
    lam: Tensor,
    sigma: Tensor | None,
    noise: Tensor | None,
    angle: Tensor | None,
    centroid: Tensor | None,
    granularity: str,
) -> None:
    if granularity not in GRANULARITIES:
        raise ValueError(f'granularity must be "sample" or "channel", got {granularity!r}')
    g, d, c, h, w = z.shape
    sample = granularity == "sample"
    check_index("z", z, choice=choice)
    _check_shape("choice", choice, "(G, D)", (g, d))
    shapes: dict[str, tuple[Tensor | None, str, tuple[int, ...]]] = {
        "lam": (lam, "(G, D)", (g, d)) if sample else (lam, "(G, D, C)", (g, d, c)),
        "sigma": (sigma, "(G, D)", (g, d)) if sample else (sigma, "(G, D, C)", (g, d, c)),
        "angle": (angle, "(G, D)", (g, d)),
        "centroid": (centroid, "(D, C, H, W)", (d, c, h, w)) if sample else (centroid, "(D, H, W)", (d, h, w)),
    }
    for name, (value, axes, shape) in shapes.items():
        if value is not None or name == "lam":
            _check_scalars(z, **{name: value})
            _check_shape(name, value, axes, shape)
    check_values("choice must hold ids from 0 to 4", lambda: (choice >= 0) & (choice <= 4))
    if sigma is None or noise is None:
        check_values("choice holds id 2, which needs sigma and noise", lambda: choice != 2)
    if angle is None:
        check_values("choice holds id 4, which needs angle", lambda: choice != 4)


def _check_shape(name: str, value: Any, axes: str, shape: tuple[int, ...]) -> None:
    if tuple(value.shape) != shape:
        raise ValueError(f"{name} must be {axes} = {shape}, got {tuple(value.shape)}")


def _check_scalars(z: Tensor, **tensors: Any) -> None:
    """Draws have the dtype of z, or the one that halves accumulate in."""
    wide = accumulation_dtype(z)
    for name, value in tensors.items():
        check_floating(**{name: value})
        if value.dtype not in (z.dtype, wide):
            expected = z.dtype if z.dtype == wide else f"{z.dtype} or {wide}"
            raise TypeError(f"{name} must have the dtype of z, {expected}, got {value.dtype}")
        check_device("z", z, **{name: value})


def _new_statistics(z: Tensor, per_channel: bool) -> tuple[Tensor, Tensor]:
    _, d, c, h, w = z.shape
    if per_channel:
        centroid = z.new_empty((d, h, w), dtype=accumulation_dtype(z))
    else:
        strides = (c * h * w, 1, w * c, c) if is_channels_last(z) else (c * h * w, h * w, w, 1)
        centroid = z.new_empty_strided((d, c, h, w), strides, dtype=accumulation_dtype(z))
    return centroid, z.new_empty(d, dtype=torch.int64)


@register_fake("latent_augment")
def _(
    z: Tensor,
    choice: Tensor,
    lam: Tensor,
    sigma: Tensor | None,
    noise: Tensor | None,
    angle: Tensor | None,
    centroid: Tensor | None,
    per_channel: bool,
    detach_statistics: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return new_clip(z, tuple(z.shape), is_channels_last(z)), *_new_statistics(z, per_channel)


@register_fake("latent_augment_mix")
def _(
    z: Tensor,
    perm: Tensor,
    mix_lam: Tensor,
    choice: Tensor,
    lam: Tensor,
    sigma: Tensor | None,
    noise: Tensor | None,
    angle: Tensor | None,
    centroid: Tensor | None,
    per_channel: bool,
    detach_statistics: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    g, d, c, h, w = z.shape
    out = new_clip(z, (1, g * d, 2 * c, h, w), is_channels_last(z))[0]
    return out, *_new_statistics(z, per_channel)


@register_fake("_latent_augment_backward")
def _(
    grad: Tensor,
    choice: Tensor,
    lam: Tensor,
    angle: Tensor | None,
    hard_index: Tensor,
    perm: Tensor | None,
    mix_lam: Tensor | None,
    per_channel: bool,
    given_centroid: bool,
    detach_statistics: bool,
    channels_last: bool,
) -> Tensor:
    c, h, w = grad.shape[-3:]
    return new_clip(grad, (*choice.shape, c if perm is None else c // 2, h, w), channels_last)


def _save(ctx: Any, z: Tensor, perm: Tensor | None, mix_lam: Tensor | None, draws: tuple[Any, ...],
          output: tuple[Tensor, Tensor, Tensor]) -> None:  # fmt: skip
    choice, lam, _, _, angle, centroid, per_channel, detach_statistics = draws
    _, mean, hard_index = output
    ctx.mark_non_differentiable(mean)
    ctx.save_for_backward(choice, lam, angle, hard_index, perm, mix_lam)
    ctx.options = (per_channel, centroid is not None, detach_statistics, is_channels_last(z))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    z, *draws = inputs
    _save(ctx, z, None, None, tuple(draws), output)


def _setup_context_mix(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    z, perm, mix_lam, *draws = inputs
    _save(ctx, z, perm, mix_lam, tuple(draws), output)


def _backward(ctx: Any, grad: Tensor, *others: Any) -> tuple[Tensor | None, ...]:
    if not ctx.needs_input_grad[0]:
        return (None,) * len(ctx.needs_input_grad)
    grad_z = torch.ops.dfops._latent_augment_backward(grad, *ctx.saved_tensors, *ctx.options)
    return grad_z, *(None,) * (len(ctx.needs_input_grad) - 1)


torch.library.register_autograd("dfops::latent_augment", _backward, setup_context=_setup_context)
torch.library.register_autograd("dfops::latent_augment_mix", _backward, setup_context=_setup_context_mix)
forbid_second_derivative("_latent_augment_backward")
