"""Blend of every feature map with another one of the batch: the cross-domain augmentation of LSDA."""

from typing import Any

import torch
from torch import Tensor

from dfops import reference
from dfops.ops._checks import (
    accumulation_dtype,
    check_floating,
    check_index,
    forbid_second_derivative,
    per_map,
    register_fake,
)


def feature_mixup(x: Tensor, index: Tensor, lam: Tensor | float) -> Tensor:
    """Gather and blend along the first axis, in one pass.

    out[i] = lam[i] * x[i] + (1 - lam[i]) * x[index[i]]

    Args:
        x: features (N, ...), at least one axis, floating point; read in place where they are dense with the first axis
            outermost.
        index: (N,) int64, 0 <= index < N, may repeat; device of x.
        lam: one weight for each row (N,), any floating dtype, device of x; or a number. Used unrounded beside
            half-precision features.

    Returns:
        Shape and dtype of x, and its memory layout where that is one of the above, else contiguous.

    Raises:
        ValueError: a shape or device other than the ones above.
        TypeError: a dtype other than the ones above, or no tensor.
        RuntimeError: an index out of range. On CUDA, where no host looks at values, a device-side assertion reports it.

    Differentiable in x and in a tensor of weights; sums have a fixed order, also where indices repeat.

    >>> x = torch.tensor([[0.0, 0.0], [4.0, 8.0]])
    >>> out = dfops.feature_mixup(x, torch.tensor([1, 1]), torch.tensor([0.75, 0.5]))
    >>> out.shape, out.tolist()
    (torch.Size([2, 2]), [[1.0, 2.0], [4.0, 8.0]])

    Source: LSDA, arXiv:2311.11278, cross-domain augmentation.
    """
    check_floating(x=x)
    if x.dim() == 0:
        raise ValueError("x must have at least one axis, got shape ()")
    check_index("x", x, index=index)
    if index.shape != x.shape[:1]:
        raise ValueError(f"index must be (N,) with N = {x.shape[0]}, got shape {tuple(index.shape)}")
    lam = per_map("lam", lam, x)
    if reference.is_active():
        return reference.feature_mixup(x, index, lam)
    return torch.ops.dfops.feature_mixup(x, index, lam)


def _new_rows(x: Tensor) -> Tensor:
    """Uninitialised, strides as the kernels set them."""
    result = torch.empty_like(x)
    if x.shape[0] > 1 and result.stride(0) != x[0].numel():
        return x.new_empty(x.shape)
    return result


@register_fake("feature_mixup")
def _(x: Tensor, index: Tensor, lam: Tensor) -> Tensor:
    return _new_rows(x)


@register_fake("_feature_mixup_backward")
def _(grad: Tensor, x: Tensor | None, index: Tensor, lam: Tensor, need_x: bool) -> tuple[Tensor, Tensor]:
    accumulated = accumulation_dtype(grad)
    grad_x = _new_rows(grad) if need_x else grad.new_empty(0)
    return grad_x, grad.new_empty(0 if x is None else grad.shape[0], dtype=accumulated)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, index, lam = inputs
    ctx.save_for_backward(x if ctx.needs_input_grad[2] else None, index, lam)  # the gradient of x does not depend on x


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, index, lam = ctx.saved_tensors
    need_x = ctx.needs_input_grad[0]
    grad_x, grad_lam = torch.ops.dfops._feature_mixup_backward(grad, x, index, lam, need_x)
    return grad_x if need_x else None, None, None if x is None else grad_lam.to(lam.dtype)


torch.library.register_autograd("dfops::feature_mixup", _backward, setup_context=_setup_context)
forbid_second_derivative("_feature_mixup_backward")
