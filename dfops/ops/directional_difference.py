"""Difference of neighbouring frames, the later one filtered along height or width: the front of STIL's TIM."""

from typing import Any

import torch
from torch import Tensor

from dfops import reference
from dfops.ops._axes import DIMENSIONS
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


def directional_difference(x: Tensor, weight: Tensor, *, axis: str) -> Tensor:
    """Subtract every frame from the next one, which is filtered along one axis first; one pass over x.

    out[b, t]     = D(x[b, t + 1]) - x[b, t]                                      t = 0 .. T - 2
    out[b, T - 1] = 0
    D(y)[i]       = sum_m weight[c, m] * y[i + m - M // 2]                        along `axis`, zero outside

    Args:
        x: clip features (B, T, C, H, W), floating point; contiguous or channels-last, read in place.
        weight: one filter of odd length for each channel (C, M); dtype and device of x. Under autocast both are
            brought to the widest dtype among them.
        axis: "H" or "W".

    Returns:
        Shape and memory layout of x.

    Raises:
        ValueError: a shape, device or axis other than the ones above.
        TypeError: a dtype other than the ones above, or no tensor.

    Differentiable in x and weight; the gradient of weight has a fixed order of summation, so it is deterministic.

    >>> x = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).reshape(1, 2, 1, 1, 2)  # two frames of one row
    >>> taps = torch.tensor([[0.0, 1.0, 1.0]])  # one channel: each position and the one behind it
    >>> out = dfops.directional_difference(x, taps, axis="W")
    >>> out.shape, out.flatten().tolist()
    (torch.Size([1, 2, 1, 1, 2]), [5.0, 2.0, 0.0, 0.0])

    Source: STIL, arXiv:2109.01860, TIM.
    """
    check_floating(x=x, weight=weight)
    x, weight = autocast_to_widest(x, weight)
    check_clip(x=x)
    if axis not in ("H", "W"):
        raise ValueError(f'axis must be "H" or "W", got {axis!r}')
    check_kind("x", x, weight=weight)
    if weight.dim() != 2 or weight.shape[0] != x.shape[2] or weight.shape[1] % 2 == 0:
        raise ValueError(f"weight must be (C, M) with C = {x.shape[2]} and M odd, got {tuple(weight.shape)}")
    if reference.is_active():
        return reference.directional_difference(x, weight, axis=axis)
    # under torch.compile too: the compiled formula, which pads and gathers, is slower but on the smallest maps
    return torch.ops.dfops.directional_difference(x, weight, DIMENSIONS[axis])


@register_fake("directional_difference")
def _(x: Tensor, weight: Tensor, axis: int) -> Tensor:
    return new_clip(x, tuple(x.shape), is_channels_last(x))


@register_fake("_directional_difference_backward")
def _(grad: Tensor, x: Tensor, weight: Tensor, axis: int, need_x: bool, need_weight: bool) -> tuple[Tensor, Tensor]:
    grad_x = new_clip(x, tuple(x.shape), is_channels_last(x)) if need_x else x.new_empty(0)
    return grad_x, x.new_empty(weight.shape) if need_weight else x.new_empty(0)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, ctx.axis = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    need_x, need_weight = ctx.needs_input_grad[:2]
    grad_x, grad_weight = torch.ops.dfops._directional_difference_backward(
        grad, x, weight, ctx.axis, need_x, need_weight
    )
    return grad_x if need_x else None, grad_weight if need_weight else None, None


torch.library.register_autograd("dfops::directional_difference", _backward, setup_context=_setup_context)
forbid_second_derivative("_directional_difference_backward")
