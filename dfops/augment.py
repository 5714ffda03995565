"""Augmentations of latent maps, and the random draws of `dfops.latent_augment`: on the device, without a host read.

The draws follow LSDA (arXiv:2311.11278). Functions of uniforms are pure; whatever draws takes a `torch.Generator`.
Latent maps are (G, D, C, H, W), G groups of D domains, or (N, C, H, W), taken as N groups of one domain.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from dfops.ops._checks import accumulation_dtype, check_axes, check_device, check_floating, check_index
from dfops.ops.feature_mixup import feature_mixup
from dfops.ops.latent_augment import GRANULARITIES, TRANSFORMS, latent_augment, transform_id

INTERPOLATION, EXTRAPOLATION, ADDITIVE, DIFFERENCE, ROTATION = range(len(TRANSFORMS))
MOST_RADIANS = math.pi / 6
PARTNERS = ("cyclic", "permutation")


class Draws(NamedTuple):
    """Arguments of `dfops.latent_augment`, in its order, and of `dfops.latent_augment_mix`, by name.

    latent_augment(z, *draws)
    latent_augment_mix(z, **draws._asdict())                        both with the granularity of the draw

    Attributes:
        choice: id of every map (G, D), int64.
        lam: (G, D), at granularity "channel" (G, D, C); float32, or float64 beside a float64 z.
        sigma: as lam; None where the pool has no additive transformation.
        noise: (G, D, C, H, W), dtype of z; None likewise.
        angle: radians (G, D); None where the pool has no rotation.
        perm: the domain mixed into every map (G, D), int64.
        mix_lam: (G,) or (G, D).

    >>> draws = dfops.augment.draw(torch.zeros(6, 4, 8, 2, 2))
    >>> draws.choice.shape, draws.mix_lam.shape, draws._fields
    (torch.Size([6, 4]), torch.Size([6]), ('choice', 'lam', 'sigma', 'noise', 'angle', 'perm', 'mix_lam'))
    """

    choice: Tensor
    lam: Tensor
    sigma: Tensor | None
    noise: Tensor | None
    angle: Tensor | None
    perm: Tensor
    mix_lam: Tensor


def draw(
    z: Tensor,
    *,
    transforms: Sequence[int | str] = (INTERPOLATION, EXTRAPOLATION, ADDITIVE, ROTATION),
    transform_weights: Sequence[float] | None = None,
    granularity: str = "sample",
    noise: str = "scaled",
    mixture: tuple[Tensor, Tensor] | None = None,
    partner: str = "cyclic",
    mix_weight: str = "beta",
    mix_per: str = "group",
    generator: Generator | None = None,
) -> Draws:
    """Draw everything random of one augmentation of z.

    Args:
        z: latent maps (G, D, C, H, W); only shape, dtype, device and memory layout matter.
        transforms: the pool, as numbered or named in `dfops.latent_augment`: ids from 0 to 4, "interpolation",
            "extrapolation", "additive", "difference" or "rotation".
        transform_weights: how likely each of them is; equally by default.
        granularity: "sample", or "channel" for one lam and sigma a channel.
        noise: "scaled", sigma ~ U[0, 1) and noise ~ N(0, 1), or "mixture", sigma = 1 and noise of a Gaussian mixture.
        mixture: weights (K,) that sum to 1, and variances (K, C), of the mixture; device of z.
        partner: which domain is mixed in, as in `partners`.
        mix_weight: "beta", Beta(a, a) with a ~ U(0.5, 2) for each group, or "uniform", U[0, 1).
        mix_per: one mix_lam a "group" or a "map".
        generator: of the device of z.

    Raises:
        ValueError: an option or shape other than the ones above.
        TypeError: a dtype other than the ones above, or no tensor.

    >>> z, generator = torch.zeros(6, 4, 8, 2, 2), torch.Generator().manual_seed(0)
    >>> draws = dfops.augment.draw(z, transforms=("rotation",), granularity="channel", generator=generator)
    >>> draws.choice.unique().tolist(), draws.lam.shape, draws.noise
    ([4], torch.Size([6, 4, 8]), None)
    """
    check_floating(z=z)
    check_axes("(G, D, C, H, W)", z=z)
    _check_option("granularity", granularity, GRANULARITIES)
    _check_option("noise", noise, ("scaled", "mixture"))
    _check_option("partner", partner, PARTNERS)
    _check_option("mix_weight", mix_weight, ("beta", "uniform"))
    _check_option("mix_per", mix_per, ("group", "map"))
    pool = _pool(transforms)
    thresholds = _thresholds(pool, transform_weights)
    if (noise == "mixture") != (mixture is not None):
        raise ValueError(f'mixture must be given with noise="mixture" and only then, got noise={noise!r}')
    groups, domains, channels = z.shape[:3]

    def uniform(*shape: int) -> Tensor:
        return _uniform(z, shape, generator)

    u = uniform(groups, domains)
    choice = z.new_full((groups, domains), pool[0], dtype=torch.int64)
    for threshold, transform in zip(thresholds, pool[1:], strict=True):
        choice = torch.where(u >= threshold, transform, choice)
    scalars = (groups, domains) if granularity == "sample" else (groups, domains, channels)
    lam = uniform(*scalars)
    sigma = values = angle = None
    if ADDITIVE in pool:
        values = _normal(z, generator)
        if mixture is None:
            sigma = uniform(*scalars)
        else:
            weights, variances = mixture
            values = mixture_noise(values, mixture_components(uniform(groups, domains), weights), variances)
            sigma = torch.ones_like(lam)
    if ROTATION in pool:
        angle = _angles(z, generator)
    perm = partners(uniform(groups, domains), partner)
    mix_lam = uniform(groups) if mix_per == "group" else uniform(groups, domains)
    if mix_weight == "beta":
        mix_lam = _beta(uniform(groups).reshape(-1, *(1,) * (mix_lam.dim() - 1)).expand_as(mix_lam), generator)
    return Draws(choice, lam, sigma, values, angle, perm, mix_lam)


def partners(u: Tensor, kind: str = "cyclic") -> Tensor:
    """The domain that each is mixed with, from uniforms.

    perm[g, o[i]] = o[(i + 1) mod D], o = argsort(u[g])     "cyclic": one cycle through all domains, never itself
                                                            if D > 1
    perm[g]       = argsort(u[g])                           "permutation": may be itself

    Args:
        u: (G, D).
        kind: "cyclic" or "permutation".

    Returns:
        (G, D), int64.

    >>> dfops.augment.partners(torch.tensor([[0.3, 0.1, 0.9]])).tolist()  # 1 -> 0 -> 2 -> 1
    [[2, 0, 1]]
    """
    _check_option("kind", kind, PARTNERS)
    check_floating(u=u)
    check_axes("(G, D)", u=u)
    order = u.argsort(dim=1, stable=True)
    return order if kind == "permutation" else torch.empty_like(order).scatter_(1, order, order.roll(-1, 1))


def mixture_components(u: Tensor, weights: Tensor) -> Tensor:
    """The component of a mixture that each uniform falls into.

    k = the number of entries of cumsum(weights) not greater than u, at most K - 1

    Args:
        u: uniforms of any shape.
        weights: (K,), K >= 1, that sum to 1.

    Returns:
        Shape of u, int64.

    >>> dfops.augment.mixture_components(torch.tensor([0.0, 0.6, 0.9]), torch.tensor([0.5, 0.25, 0.25])).tolist()
    [0, 1, 2]
    """
    check_floating(u=u, weights=weights)
    check_device("u", u, weights=weights)
    if weights.dim() != 1 or len(weights) == 0:
        raise ValueError(f"weights must be (K,) with K >= 1, got shape {tuple(weights.shape)}")
    return (weights.cumsum(0) <= u[..., None]).sum(-1).clamp(max=len(weights) - 1)


def mixture_noise(eps: Tensor, component: Tensor, variances: Tensor) -> Tensor:
    """Noise of a Gaussian mixture with means 0 and a diagonal covariance for each component.

    noise[g, d, c] = sqrt(variances[component[g, d], c]) * eps[g, d, c]

    Args:
        eps: standard normal values (G, D, C, H, W).
        component: (G, D), int64.
        variances: (K, C).

    Returns:
        Shape and dtype of eps.

    >>> variances = torch.tensor([[1.0, 4.0], [9.0, 16.0]])
    >>> noise = dfops.augment.mixture_noise(torch.ones(1, 2, 2, 1, 1), torch.tensor([[1, 0]]), variances)
    >>> noise.shape, noise.flatten().tolist()
    (torch.Size([1, 2, 2, 1, 1]), [3.0, 4.0, 1.0, 2.0])
    """
    check_floating(eps=eps, variances=variances)
    check_device("eps", eps, component=component, variances=variances)
    if eps.dim() != 5 or component.shape != eps.shape[:2]:
        raise ValueError(
            "component must be (G, D) beside eps (G, D, C, H, W), "
            f"got shapes {tuple(component.shape)} and {tuple(eps.shape)}"
        )
    if variances.dim() != 2 or variances.shape[1] != eps.shape[2]:
        raise ValueError(f"variances must be (K, C) with C = {eps.shape[2]}, got shape {tuple(variances.shape)}")
    return eps * variances[component].sqrt().to(eps.dtype)[..., None, None]


def centrifugal_direct(z: Tensor, lam: Tensor | float | None = None, *, generator: Generator | None = None,
                       **options: Any) -> Tensor:  # fmt: skip
    """Push every map away from the centroid of its domain: z + lam (z - mu).

    Args:
        z: latent maps.
        lam: a number, or one for each map, (G, D) or (N,), at granularity "channel" also for each channel, (G, D, C)
            or (N, C); None draws U[0, 1), one for each map.
        generator: for the draw.
        **options: granularity, centroid and detach_statistics of `dfops.latent_augment`.

    Returns:
        Shape and memory layout of z.

    >>> z = torch.tensor([0.0, 2.0, 7.0]).reshape(3, 1, 1, 1)  # one domain, its mean is 3
    >>> dfops.augment.centrifugal_direct(z, 0.5).flatten().tolist()
    [-1.5, 1.5, 9.0]
    """
    return _augmented(z, EXTRAPOLATION, lam, generator, **options)


def centrifugal_indirect(z: Tensor, lam: Tensor | float | None = None, *, generator: Generator | None = None,
                         **options: Any) -> Tensor:  # fmt: skip
    """Pull every map towards the hard example of its domain, the one farthest from the centroid: z + lam (hard - z).

    Args and returns as in `centrifugal_direct`.

    >>> z = torch.tensor([0.0, 2.0, 7.0]).reshape(3, 1, 1, 1)  # one domain, its mean is 3
    >>> dfops.augment.centrifugal_indirect(z, 0.5).flatten().tolist()
    [3.5, 4.5, 7.0]
    """
    return _augmented(z, INTERPOLATION, lam, generator, **options)


def affine_rotation(z: Tensor, angle: Tensor | float | None = None, *, generator: Generator | None = None) -> Tensor:
    """Rotate every map about its centre, bilinear, zeros outside.

    Args:
        z: latent maps.
        angle: radians, a number or one for each map, (G, D) or (N,); None draws U(-pi/6, pi/6).
        generator: for the draw.

    Returns:
        Shape and memory layout of z.

    >>> z = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 1, 2, 2)
    >>> dfops.augment.affine_rotation(z, torch.pi / 2)[0, 0].round().tolist()
    [[2.0, 4.0], [1.0, 3.0]]
    """
    maps = _grouped(z)
    angles = _angles(maps, generator) if angle is None else _scalars("angle", angle, z, maps)
    return _augmented(z, ROTATION, 0.0, None, angle=angles)


def additive(z: Tensor, lam: Tensor | float | None = None, noise: Tensor | None = None,
             sigma: Tensor | float | None = None, *, generator: Generator | None = None) -> Tensor:  # fmt: skip
    """Add noise to every map: z + lam sigma noise.

    Args:
        z: latent maps.
        lam: a number, or one for each map, (G, D) or (N,), or channel, (G, D, C) or (N, C); None draws U[0, 1), one for
            each map.
        noise: shape and dtype of z; None draws N(0, 1). `mixture_noise` makes that of a Gaussian mixture.
        sigma: as lam; None is 1.
        generator: for the draws.

    Returns:
        Shape and memory layout of z.

    >>> z = torch.zeros(3, 1, 2, 2)
    >>> dfops.augment.additive(z, torch.tensor([0.0, 1.0, 2.0]), torch.ones_like(z), 0.5)[:, 0, 0, 0].tolist()
    [0.0, 0.5, 1.0]
    """
    maps = _grouped(z)
    scale = _scalars("sigma", 1.0 if sigma is None else sigma, z, maps, per_channel=True)
    if noise is None:
        noise = _normal(maps, generator)
    elif noise.shape != z.shape:
        raise ValueError(f"noise must have the shape of z, {tuple(z.shape)}, got {tuple(noise.shape)}")
    return _augmented(z, ADDITIVE, lam, generator, sigma=scale, noise=noise.reshape(maps.shape))


def difference(z: Tensor, lam: Tensor | float | None = None, *, generator: Generator | None = None,
               **options: Any) -> Tensor:  # fmt: skip
    """Move every map by the difference of the first two of its domain: z + lam (z[0] - z[1]).

    Args and returns as in `centrifugal_direct`; at granularity "channel" of the first two channels of the same map.

    >>> z = torch.tensor([0.0, 2.0, 7.0]).reshape(3, 1, 1, 1)  # one domain
    >>> dfops.augment.difference(z, 0.5).flatten().tolist()
    [-1.0, 1.0, 6.0]
    """
    return _augmented(z, DIFFERENCE, lam, generator, **options)


def cross_domain_mixup(z: Tensor, perm: Tensor | None = None, mix_lam: Tensor | float | None = None, *,
                       generator: Generator | None = None) -> Tensor:  # fmt: skip
    """Blend every map with the one of another domain of its group: m z[g, d] + (1 - m) z[g, perm[g, d]].

    Args:
        z: latent maps (G, D, C, H, W).
        perm: the domain mixed into every map (G, D), int64, 0 <= perm < D; None draws one random cycle.
        mix_lam: a number, or one for each group (G,) or map (G, D); None draws Beta(a, a) for each group
            with a ~ U(0.5, 2).
        generator: for the draws.

    Returns:
        Shape and memory layout of z.

    >>> z = torch.tensor([0.0, 8.0]).reshape(1, 2, 1, 1, 1)  # one group of two domains
    >>> dfops.augment.cross_domain_mixup(z, torch.tensor([[1, 0]]), 0.75).flatten().tolist()
    [2.0, 6.0]
    """
    check_floating(z=z)
    check_axes("(G, D, C, H, W)", z=z)
    groups, domains = z.shape[:2]
    if perm is None:
        perm = partners(_uniform(z, (groups, domains), generator))
    check_index("z", z, perm=perm)
    if perm.shape != (groups, domains):
        raise ValueError(f"perm must be (G, D) = {(groups, domains)}, got {tuple(perm.shape)}")
    if mix_lam is None:
        mix_lam = _beta(_uniform(z, (groups,), generator), generator)
    if isinstance(mix_lam, Tensor) and mix_lam.shape == (groups,):
        mix_lam = mix_lam[:, None].expand(groups, domains)
    weights = _scalars("mix_lam", mix_lam, z, z)
    index = torch.arange(groups, device=z.device)[:, None] * domains + perm
    index = index.masked_fill((perm < 0) | (perm >= domains), -1)  # a map of the next group would pass unseen
    return feature_mixup(z.flatten(0, 1), index.flatten(), weights.flatten()).view_as(z)


def _augmented(z: Tensor, transform: int, lam: Tensor | float | None, generator: Generator | None,
               **arguments: Any) -> Tensor:  # fmt: skip
    """One transformation for all maps."""
    maps = _grouped(z)
    choice = maps.new_full(maps.shape[:2], transform, dtype=torch.int64)
    per_channel = arguments.get("granularity") == "channel"
    if lam is None:
        lam = _uniform(maps, maps.shape[:2], generator)
    else:
        lam = _scalars("lam", lam, z, maps, per_channel or transform == ADDITIVE)
    sigma = arguments.pop("sigma", None)
    if per_channel or any(x is not None and x.dim() == 3 for x in (lam, sigma)):
        arguments["granularity"] = "channel"
        lam, sigma = (
            x[..., None].expand(maps.shape[:3]) if x is not None and x.dim() == 2 else x for x in (lam, sigma)
        )
    return latent_augment(maps, choice, lam, sigma, **arguments)[0].reshape(z.shape)


def _grouped(z: Tensor) -> Tensor:
    """(N, C, H, W) as N groups of one domain."""
    check_floating(z=z)
    if z.dim() not in (4, 5):
        raise ValueError(f"z must be (G, D, C, H, W) or (N, C, H, W), got shape {tuple(z.shape)}")
    return z[:, None] if z.dim() == 4 else z


def _scalars(name: str, value: Tensor | float, z: Tensor, maps: Tensor, per_channel: bool = False) -> Tensor:
    """(G, D), from a number or one for each map; or (G, D, C), from one for each channel."""
    if not isinstance(value, Tensor):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{name} must be a number or a tensor, got {type(value).__name__}")
        return maps.new_full(maps.shape[:2], value, dtype=accumulation_dtype(z))
    if per_channel and value.shape == z.shape[:-2]:
        return value.reshape(maps.shape[:3])
    shape = z.shape[: z.dim() - 3]
    if value.shape != shape:
        raise ValueError(f"{name} must be a number or have one for each map, {tuple(shape)}, got {tuple(value.shape)}")
    return value.reshape(maps.shape[:2])


def _uniform(z: Tensor, shape: Sequence[int], generator: Generator | None) -> Tensor:
    return torch.rand(tuple(shape), generator=generator, device=z.device, dtype=accumulation_dtype(z))


def _beta(u: Tensor, generator: Generator | None) -> Tensor:
    """Beta(a, a) with a = 1/2 + 3/2 u."""
    one, other = (torch._standard_gamma(0.5 + 1.5 * u, generator=generator) for _ in range(2))
    return one / (one + other)


def _normal(z: Tensor, generator: Generator | None) -> Tensor:
    """In the memory layout of z."""
    return torch.empty_like(z.detach()).normal_(generator=generator)


def _angles(z: Tensor, generator: Generator | None) -> Tensor:
    return (2 * _uniform(z, z.shape[:2], generator) - 1) * MOST_RADIANS


def _pool(transforms: Sequence[int | str]) -> list[int]:
    """The ids of transformations given by id or name."""
    if isinstance(transforms, str):
        transforms = (transforms,)
    pool = [transform_id("transforms", each) if isinstance(each, str) else each for each in transforms]
    if not pool or len(set(pool)) != len(pool) or not set(pool) <= set(range(len(TRANSFORMS))):
        raise ValueError(
            f"transforms must be different ids from 0 to 4 or names, at least one, got {tuple(transforms)}"
        )
    return pool


def _thresholds(transforms: Sequence[int], weights: Sequence[float] | None) -> list[float]:
    """Where a uniform passes from one id of the pool to the next."""
    if weights is None:
        weights = [1.0] * len(transforms)
    if len(weights) != len(transforms) or min(weights) < 0 or not 0 < sum(weights) < math.inf:
        raise ValueError(
            f"transform_weights must be {len(transforms)} numbers, one for each of transforms, none negative and not "
            f"all zero, got {tuple(weights)}"
        )
    return [sum(weights[: i + 1]) / sum(weights) for i in range(len(weights) - 1)]


def _check_option(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be {' or '.join(repr(option) for option in known)}, got {value!r}")
