"""Rotation of feature maps about their centres: the affine transformation of LSDA's latent augmentation."""

from typing import Any

import torch
from torch import Tensor

from dfops import reference
from dfops.ops._checks import (
    accumulation_dtype,
    check_axes,
    check_floating,
    forbid_second_derivative,
    is_channels_last,
    new_clip,
    per_map,
    register_fake,
)

# kernels know them by number
MODES = ("bilinear", "nearest")
PADDINGS = ("zeros", "border", "reflection")


def latent_rotate(x: Tensor, angle: Tensor | float, *, mode: str = "bilinear", padding_mode: str = "zeros") -> Tensor:
    """Rotate every (H, W) map about its centre, in normalised coordinates; no grid is written.

    X  = (2 col + 1)/W - 1      Y  = (2 row + 1)/H - 1       the output position
    X' = X cos - Y sin          Y' = X sin + Y cos           reads x at
    column ((X' + 1) W - 1)/2   row ((Y' + 1) H - 1)/2

    A positive angle turns the picture counter-clockwise, row 0 at the top. For H != W the map is stretched as well.

    Args:
        x: maps (N, C, H, W), floating point; contiguous or channels-last, read in place.
        angle: radians, one for each map (N,), any floating dtype, device of x; or a number. Used unrounded beside
            half-precision maps.
        mode: "bilinear" or "nearest".
        padding_mode: what lies outside, "zeros", "border" or "reflection"; as in F.grid_sample(align_corners=False).

    Returns:
        Shape, dtype and memory layout of x.

    Raises:
        ValueError: a shape, device, mode or padding other than the ones above.
        TypeError: a dtype other than the ones above, or no tensor.

    Differentiable in x and in a tensor of angles (zero for "nearest"); deterministic.

    >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 1, 2, 2)
    >>> out = dfops.latent_rotate(x, torch.pi / 2)
    >>> out.shape, out[0, 0].round().tolist()
    (torch.Size([1, 1, 2, 2]), [[2.0, 4.0], [1.0, 3.0]])

    Source: LSDA, arXiv:2311.11278, the affine transformation of the within-domain augmentation.
    """
    check_floating(x=x)
    check_axes("(N, C, H, W)", x=x)
    angle = per_map("angle", angle, x)
    for name, value, known in (("mode", mode, MODES), ("padding_mode", padding_mode, PADDINGS)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    if reference.is_active():
        return reference.latent_rotate(x, angle, mode=mode, padding_mode=padding_mode)
    # maps are clips of one frame: both have the same two layouts
    out = torch.ops.dfops.latent_rotate(x.unsqueeze(1), angle, MODES.index(mode), PADDINGS.index(padding_mode))
    return out.squeeze(1)  # a select would copy the gradient


@register_fake("latent_rotate")
def _(x: Tensor, angle: Tensor, mode: int, padding: int) -> Tensor:
    return new_clip(x, tuple(x.shape), is_channels_last(x))


@register_fake("_latent_rotate_backward")
def _(grad: Tensor, x: Tensor | None, angle: Tensor, mode: int, padding: int, need_x: bool) -> tuple[Tensor, Tensor]:
    accumulated = accumulation_dtype(grad)
    grad_x = new_clip(grad, tuple(grad.shape), is_channels_last(grad)) if need_x else grad.new_empty(0)
    return grad_x, grad.new_empty(0 if x is None else grad.shape[0] * grad.shape[1], dtype=accumulated)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, angle, ctx.mode, ctx.padding = inputs
    ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, angle)  # the gradient of x does not depend on x


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, angle = ctx.saved_tensors
    need_x = ctx.needs_input_grad[0]
    grad_x, grad_angle = torch.ops.dfops._latent_rotate_backward(grad, x, angle, ctx.mode, ctx.padding, need_x)
    grad_angle = None if x is None else grad_angle.to(angle.dtype).reshape(angle.shape)
    return grad_x if need_x else None, grad_angle, None, None


torch.library.register_autograd("dfops::latent_rotate", _backward, setup_context=_setup_context)
forbid_second_derivative("_latent_rotate_backward")
