"""Denoised inter-frame difference, the map of DDL's DFDC module, in full and at its surviving positions only."""

from typing import Any

import torch
from torch import Tensor

from dfops import reference
from dfops.ops._checks import (
    accumulation_dtype,
    autocast_to_widest,
    check_clip,
    check_floating,
    check_like,
    forbid_second_derivative,
    is_channels_last,
    new_clip,
    register_fake,
)


def interframe_difference(
    query: Tensor,
    key: Tensor,
    *,
    num_keep: int | None = None,
    mask_rule: str = "le",
    normalize: bool = True,
    eps: float = 1e-8,
    min_variance: float = 0.0,
) -> Tensor:
    """Negative cosine similarity between frames, kept where it fluctuates most over time.

    s[b, t, h, w] = max(-sum_j cos(query[b, t, :, h, w], key[b, j, :, h, w]), -T)
    v[b, h, w]    = unbiased variance of s over t, 0 where below min_variance
    tau[b]        = the num_keep-th largest v of the clip
    s             = -T where v <= tau (mask_rule "le") or v < tau ("lt")
    out           = (s - min) / (max - min + eps), min and max over (H, W) of each frame; s if not normalize

    Args:
        query: clip features (B, T, C, H, W), floating point, T >= 2.
        key: shape, dtype and device of query. Under autocast both are brought to the wider dtype of the two.
        num_keep: rank of the threshold, 1 <= num_keep <= H * W; H by default.
        mask_rule: "le", the released code (at most num_keep - 1 positions of a clip survive), or "lt", the published
            text (num_keep, more with ties).
        normalize: min-max per frame, or s itself.
        eps: added to the range, positive.
        min_variance: smaller variances count as 0.

    Returns:
        (B, T, H, W), contiguous, dtype of query; half types are computed in float32.

    Raises:
        ValueError: a shape, device or number other than the ones above.
        TypeError: a dtype other than the ones above, no tensor, or num_keep no integer.

    Differentiable in query and key, mask and tau being constants. Under "le" only the surviving vectors are saved for
    backward.

    >>> query, key = torch.ones(2, 1, 4, 2, 3, 3)  # clips of one batch entry, 4 frames, 2 channels, 3 x 3
    >>> query[0, 2, :, 1, 1] = -1  # one frame turns at one position
    >>> out = dfops.interframe_difference(query, key, num_keep=2, normalize=False)
    >>> out.shape, out[0, :, 1, 1].round().tolist(), out[0, :, 0, 0].tolist()
    (torch.Size([1, 4, 3, 3]), [-4.0, -4.0, 4.0, -4.0], [-4.0, -4.0, -4.0, -4.0])

    Source: DDL, IEEE TIFS 2023, dynamic fine-grained difference capture.
    """
    query, key, num_keep = _checked(query, key, num_keep, eps, min_variance)
    if mask_rule not in ("le", "lt"):
        raise ValueError(f'mask_rule must be "le" or "lt", got {mask_rule!r}')
    if reference.is_active():
        return reference.interframe_difference(
            query, key, num_keep=num_keep, mask_rule=mask_rule, normalize=normalize, eps=eps, min_variance=min_variance
        )
    return torch.ops.dfops.interframe_difference(
        query, key, num_keep, mask_rule == "lt", normalize, float(eps), float(min_variance)
    )[0]


def interframe_difference_sparse(
    query: Tensor,
    key: Tensor,
    *,
    num_keep: int | None = None,
    normalize: bool = True,
    eps: float = 1e-8,
    min_variance: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """`interframe_difference` under the rule "le" without its zeros.

    Args:
        query: clip features (B, T, C, H, W), floating point, T >= 2.
        key: shape, dtype and device of query.
        num_keep: rank of the threshold and number of slots, 1 <= num_keep <= H * W; H by default.
        normalize: min-max per frame, or s itself.
        eps: added to the range, positive.
        min_variance: smaller variances count as 0.

    Returns:
        positions (B, num_keep), int64: h * W + w of the survivors, ascending, -1 in unused slots at the end.
        values (B, T, num_keep): the map there, 0 in unused slots. If tau is NaN (num_keep positions or more have a NaN
        variance), the slots hold the first of these and values are NaN.

    The vectors at the positions, zeros in unused slots, are a clip (B, T, C, num_keep, 1) whose `interframe_difference`
    is values again, unused slots beside a NaN aside: a layer that has these vectors differentiates the map without
    gradients of the size of query and key.

    Raises:
        ValueError, TypeError: as `interframe_difference`.

    Differentiable in query and key through values.

    >>> query, key = torch.ones(2, 1, 4, 2, 3, 3)
    >>> query[0, 2, :, 1, 1] = -1
    >>> positions, values = dfops.interframe_difference_sparse(query, key, num_keep=2, normalize=False)
    >>> positions.tolist(), values.shape, values[0, :, 0].round().tolist()
    ([[4, -1]], torch.Size([1, 4, 2]), [-4.0, -4.0, 4.0, -4.0])

    Source: DDL, IEEE TIFS 2023, dynamic fine-grained difference capture.
    """
    query, key, num_keep = _checked(query, key, num_keep, eps, min_variance)
    if reference.is_active():
        return reference.interframe_difference_sparse(
            query, key, num_keep=num_keep, normalize=normalize, eps=eps, min_variance=min_variance
        )
    values, positions = torch.ops.dfops.interframe_difference_sparse(
        query, key, num_keep, normalize, float(eps), float(min_variance)
    )
    return positions, values


def _checked(
    query: Tensor, key: Tensor, num_keep: int | None, eps: float, min_variance: float
) -> tuple[Tensor, Tensor, int]:
    check_floating(query=query, key=key)
    query, key = autocast_to_widest(query, key)
    check_clip(query=query)
    check_like("query", query, key=key)
    _, frames, _, height, width = query.shape
    if frames < 2:
        raise ValueError(f"query must have at least 2 frames for a variance over time, got {frames}")
    if num_keep is None:
        num_keep = height
    elif isinstance(num_keep, bool) or not isinstance(num_keep, (int, torch.SymInt)):
        raise TypeError(f"num_keep must be an integer, got {type(num_keep).__name__}")
    least, most = (1, height * width) if height * width > 0 else (0, num_keep)
    if not least <= num_keep <= most:
        raise ValueError(f"num_keep must lie in [1, H * W = {height * width}], got {num_keep}")
    if not eps > 0:
        raise ValueError(f"eps must be positive, got {eps}")
    if not min_variance >= 0:
        raise ValueError(f"min_variance must not be negative, got {min_variance}")
    return query, key, num_keep


@register_fake("interframe_difference")
def _(
    query: Tensor, key: Tensor, num_keep: int, strict: bool, normalize: bool, eps: float, min_variance: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    b, t, _, h, w = query.shape
    accumulated = accumulation_dtype(query)
    return (
        query.new_empty(b, t, h, w),
        query.new_empty(b, h, w, dtype=accumulated),
        query.new_empty(b, dtype=accumulated),
        query.new_empty(b, 0 if strict else num_keep, dtype=torch.int64),
    )


@register_fake("interframe_difference_sparse")
def _(
    query: Tensor, key: Tensor, num_keep: int, normalize: bool, eps: float, min_variance: float
) -> tuple[Tensor, Tensor]:
    b, t, _, _, _ = query.shape
    return query.new_empty(b, t, num_keep), query.new_empty(b, num_keep, dtype=torch.int64)


@register_fake("_interframe_difference_backward")
def _(
    grad: Tensor, query: Tensor, key: Tensor, variance: Tensor, threshold: Tensor, normalize: bool, eps: float
) -> tuple[Tensor, Tensor]:
    shape = tuple(query.shape)
    return new_clip(query, shape, is_channels_last(query)), new_clip(key, shape, is_channels_last(key))


@register_fake("_interframe_difference_sparse_backward")
def _(
    grad: Tensor, query: Tensor, key: Tensor, positions: Tensor, normalize: bool, eps: float
) -> tuple[Tensor, Tensor]:
    return query.new_empty(query.shape), key.new_empty(key.shape)


def _gather(clip: Tensor, positions: Tensor) -> Tensor:
    """The vectors at the positions, (B, T, C, num_keep); any vector in unused slots."""
    b, t, c, h, w = clip.shape
    num_keep = positions.shape[1]
    if h * w == 0:
        return clip.new_zeros(b, t, c, num_keep)
    index = positions.clamp(min=0)[:, None, None].expand(b, t, c, num_keep)
    return clip.reshape(b, t, c, h * w).gather(3, index)


def _scatter(slots: Tensor, positions: Tensor, shape: tuple[int, ...], channels_last: bool) -> Tensor:
    """The slots at their positions in a clip of zeros; unused slots hold zeros and may be added anywhere."""
    b, t, c, h, w = shape
    clip = new_clip(slots, shape, channels_last).zero_()
    if h * w > 0:
        index = positions.clamp(min=0)[:, None, None].expand(slots.shape)
        clip.view(b, t, c, h * w).scatter_add_(3, index, slots)
    return clip


def _save_slots(ctx: Any, query: Tensor, key: Tensor, positions: Tensor) -> None:
    ctx.save_for_backward(_gather(query, positions), _gather(key, positions), positions)
    ctx.shape = tuple(query.shape)
    ctx.channels_last = is_channels_last(query), is_channels_last(key)


def _slots_backward(ctx: Any, grad_values: Tensor) -> tuple[Tensor, Tensor]:
    query_slots, key_slots, positions = ctx.saved_tensors
    grads = torch.ops.dfops._interframe_difference_sparse_backward(
        grad_values, query_slots, key_slots, positions, ctx.normalize, ctx.eps
    )
    return (
        _scatter(grads[0], positions, ctx.shape, ctx.channels_last[0]),
        _scatter(grads[1], positions, ctx.shape, ctx.channels_last[1]),
    )


def _setup_sparse(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, _, ctx.normalize, ctx.eps, _ = inputs
    ctx.mark_non_differentiable(output[1])
    _save_slots(ctx, query, key, output[1])


def _backward_sparse(ctx: Any, grad: Tensor, _: None) -> tuple[Tensor | None, ...]:
    return *_slots_backward(ctx, grad), None, None, None, None


def _setup_dense(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    query, key, _, ctx.strict, ctx.normalize, ctx.eps, _ = inputs
    _, variance, threshold, positions = output
    ctx.mark_non_differentiable(variance, threshold, positions)
    if ctx.strict:
        ctx.save_for_backward(query, key, variance, threshold)
    else:
        _save_slots(ctx, query, key, positions)


def _backward_dense(ctx: Any, grad: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    if ctx.strict:
        grads = torch.ops.dfops._interframe_difference_backward(grad, *ctx.saved_tensors, ctx.normalize, ctx.eps)
    else:
        positions = ctx.saved_tensors[2]
        grads = _slots_backward(ctx, _gather(grad[:, :, None], positions)[:, :, 0])
    return *grads, None, None, None, None, None


torch.library.register_autograd("dfops::interframe_difference", _backward_dense, setup_context=_setup_dense)
torch.library.register_autograd("dfops::interframe_difference_sparse", _backward_sparse, setup_context=_setup_sparse)
forbid_second_derivative("_interframe_difference_backward")
forbid_second_derivative("_interframe_difference_sparse_backward")
