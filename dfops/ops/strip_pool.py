"""Multi-scale strip pooling with per-channel filters along one axis."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dfops import reference
from dfops.ops._axes import dimension_of, with_length
from dfops.ops._checks import (
    autocast_to_widest,
    check_clip,
    check_floating,
    check_kind,
    forbid_second_derivative,
    is_channels_last,
    new_clip,
    register_fake,
)


def strip_pool(x: Tensor, weight: Tensor | None = None, *, axis: str, scales: Sequence[int] = (1, 2, 4)) -> list[Any]:
    """Average over windows of several sizes along one axis, then filter every channel along it; one pass over x.

    p_s[j] = mean of x[j s], ..., x[j s + s - 1]                                  an incomplete last window is dropped
    y_s[j] = sum_m weight[s, c, m] * p_s[j + m - M // 2]                          zero outside p_s

    Args:
        x: clip features (B, T, C, H, W), floating point; contiguous or channels-last, read in place.
        weight: one odd filter for each scale and channel (S, C, M), or for several directions (D, S, C, M); dtype and
            device of x. Under autocast both are brought to the widest dtype among them. Without it the result is p_s.
        axis: "T", "H" or "W".
        scales: S window sizes, any positive integers in any order.

    Returns:
        One tensor for each scale, the axis shortened to floor(length / s), empty where that is 0; memory layout of x.
        With a weight (D, S, C, M), a list of D such lists.

    Raises:
        ValueError: a shape, device, axis or scale other than the ones above.
        TypeError: a dtype other than the ones above, or no tensor.

    Differentiable in x and weight; the gradient of weight has a fixed order of summation, so it is deterministic.

    >>> x = torch.arange(5.0).reshape(1, 5, 1, 1, 1)
    >>> [y.flatten().tolist() for y in dfops.strip_pool(x, axis="T")]
    [[0.0, 1.0, 2.0, 3.0, 4.0], [0.5, 2.5], [1.5]]
    >>> weight = torch.tensor([0.0, 0.0, 1.0]).expand(2, 3, 1, 3)  # two directions, each the next position
    >>> forward, backward = dfops.strip_pool(x, weight, axis="T")
    >>> forward[1].shape, forward[1].flatten().tolist()
    (torch.Size([1, 2, 1, 1, 1]), [2.5, 0.0])

    Source: DDL, IEEE TIFS 2023, MSA (axis T, scales 1, 2, 4, two directions); STIL, arXiv:2109.01860 (temporal shift:
    axis T, scale 1; pooling of height and width).
    """
    check_floating(x=x)
    check_clip(x=x)
    dim = dimension_of(axis)
    sizes = _checked_scales(scales)
    if weight is None:
        if reference.is_active():
            return reference.strip_pool(x, axis=axis, scales=sizes)
        return torch.ops.dfops.strip_pool(x, None, dim, sizes)
    check_floating(weight=weight)
    x, weight = autocast_to_widest(x, weight)
    check_kind("x", x, weight=weight)
    several = weight.dim() == 4
    if (
        weight.dim() not in (3, 4)
        or weight.shape[-3] != len(sizes)
        or weight.shape[-2] != x.shape[2]
        or weight.shape[-1] % 2 == 0
        or weight.shape[0] == 0
    ):
        raise ValueError(
            f"weight must be (S, C, M) or (D, S, C, M) with S = {len(sizes)}, C = {x.shape[2]} and M odd, "
            f"got {tuple(weight.shape)}"
        )
    if reference.is_active():
        return reference.strip_pool(x, weight, axis=axis, scales=sizes)
    out = torch.ops.dfops.strip_pool(x, weight if several else weight.unsqueeze(0), dim, sizes)
    if not several:
        return out
    return [out[first : first + len(sizes)] for first in range(0, len(out), len(sizes))]


def _checked_scales(scales: Sequence[int]) -> list[int]:
    sizes = list(scales)
    if not sizes or any(isinstance(s, bool) or not isinstance(s, int) for s in sizes) or min(sizes) < 1:
        raise ValueError(f"scales must be one or more positive integers, got {scales!r}")
    return sizes


@register_fake("strip_pool")
def _(x: Tensor, weight: Tensor | None, axis: int, scales: list[int]) -> list[Tensor]:
    channels_last = is_channels_last(x)
    directions = 1 if weight is None else weight.shape[0]
    shapes = [with_length(x, axis, x.shape[axis] // s) for s in scales]
    return [new_clip(x, shape, channels_last) for _ in range(directions) for shape in shapes]


@register_fake("_strip_pool_backward")
def _(
    grads: list[Tensor], x: Tensor, weight: Tensor | None, axis: int, scales: list[int], need_x: bool, need_weight: bool
) -> tuple[Tensor, Tensor]:
    grad_x = new_clip(x, tuple(x.shape), is_channels_last(x)) if need_x else x.new_empty(0)
    grad_weight = x.new_empty(0) if weight is None or not need_weight else x.new_empty(weight.shape)
    return grad_x, grad_weight


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, weight, ctx.axis, ctx.scales = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, grads: list[Tensor]) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    need_x, need_weight = ctx.needs_input_grad[:2]
    grad_x, grad_weight = torch.ops.dfops._strip_pool_backward(
        grads, x, weight, ctx.axis, ctx.scales, need_x, need_weight
    )
    return grad_x if need_x else None, grad_weight if need_weight else None, None, None


torch.library.register_autograd("dfops::strip_pool", _backward, setup_context=_setup_context)
forbid_second_derivative("_strip_pool_backward")
