"""Gate of features by two attention maps, the common last step of DDL's MSA and STIL's TIM."""

from typing import Any

import torch
from torch import Tensor

from dfops import reference
from dfops.ops._checks import (
    accumulation_dtype,
    autocast_to_widest,
    check_device,
    check_floating,
    check_like,
    check_number,
    forbid_second_derivative,
    register_fake,
)


def inconsistency_gate(x: Tensor, vertical: Tensor, horizontal: Tensor, gamma: Tensor | float) -> Tensor:
    """Gate features by the mean of two centred sigmoids, in one pass.

    out = x + gamma * x * (1/2 (sigmoid(vertical) - 1/2) + 1/2 (sigmoid(horizontal) - 1/2))

    Args:
        x: features of any shape, floating point.
        vertical, horizontal: values before the sigmoid; shape, dtype and device of x. Under autocast the three are
            brought to the widest dtype among them.
        gamma: a learned gate (one element, any floating dtype, device of x) or a number.

    Returns:
        Shape, dtype and memory layout of x.

    Raises:
        ValueError: a shape or device other than the ones above.
        TypeError: a dtype other than the ones above, or no tensor.

    Differentiable in all four; the sum for gamma has a fixed order, so it is deterministic.

    >>> x = torch.ones(1, 8, 4, 7, 7)
    >>> out = dfops.inconsistency_gate(x, torch.zeros_like(x), torch.full_like(x, 20.0), 1.0)
    >>> out.shape, round(out.max().item(), 4)
    (torch.Size([1, 8, 4, 7, 7]), 1.25)

    Source: DDL, IEEE TIFS 2023, the unified inconsistency of the MSA module; STIL, arXiv:2109.01860, TIM (gamma = 1).
    """
    check_floating(x=x, vertical=vertical, horizontal=horizontal)
    x, vertical, horizontal = autocast_to_widest(x, vertical, horizontal)
    check_like("x", x, vertical=vertical, horizontal=horizontal)
    if isinstance(gamma, Tensor):
        check_floating(gamma=gamma)
        check_device("x", x, gamma=gamma)
        if gamma.numel() != 1:
            raise ValueError(f"gamma must have one element, got shape {tuple(gamma.shape)}")
    else:
        check_number("gamma", gamma)
    if reference.is_active():
        return reference.inconsistency_gate(x, vertical, horizontal, gamma)
    # Without gradients the compiler gains more by fusing the plain formula with its neighbours (a batch norm before it)
    # than the kernel does, 1.4 times on CPU; with gradients the kernel is as fast or faster.
    traced = torch.compiler.is_compiling() and not torch.compiler.is_exporting()
    if traced and not _differentiated(x, vertical, horizontal, gamma):
        return _plain(x, vertical, horizontal, gamma)
    if isinstance(gamma, Tensor):
        return torch.ops.dfops.inconsistency_gate(x, vertical, horizontal, gamma, 1.0)
    return torch.ops.dfops.inconsistency_gate(x, vertical, horizontal, None, float(gamma))


def _differentiated(*values: Tensor | float) -> bool:
    return torch.is_grad_enabled() and any(isinstance(value, Tensor) and value.requires_grad for value in values)


def _plain(x: Tensor, vertical: Tensor, horizontal: Tensor, gamma: Tensor | float) -> Tensor:
    accumulated = accumulation_dtype(x)
    vertical, horizontal = torch.sigmoid(vertical.to(accumulated)), torch.sigmoid(horizontal.to(accumulated))
    factor = gamma.to(accumulated).reshape(()) if isinstance(gamma, Tensor) else gamma
    wide = x.to(accumulated)
    return (wide + factor * wide * ((vertical - 0.5) / 2 + (horizontal - 0.5) / 2)).to(x.dtype)


@register_fake("inconsistency_gate")
def _(x: Tensor, vertical: Tensor, horizontal: Tensor, gamma: Tensor | None, scale: float) -> Tensor:
    return torch.empty_like(x)


@register_fake("_inconsistency_gate_backward")
def _(
    grad: Tensor, x: Tensor, vertical: Tensor, horizontal: Tensor, gamma: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    accumulated = accumulation_dtype(x)
    return torch.empty_like(x), torch.empty_like(x), torch.empty_like(x), x.new_empty(1, dtype=accumulated)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, vertical, horizontal, gamma, scale = inputs
    ctx.save_for_backward(x, vertical, horizontal, gamma)
    ctx.scale = scale


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, vertical, horizontal, gamma = ctx.saved_tensors
    grads = torch.ops.dfops._inconsistency_gate_backward(grad, x, vertical, horizontal, gamma, ctx.scale)
    grad_gamma = None if gamma is None else grads[3].to(gamma.dtype).reshape(gamma.shape)
    return grads[0], grads[1], grads[2], grad_gamma, None


torch.library.register_autograd("dfops::inconsistency_gate", _backward, setup_context=_setup_context)
forbid_second_derivative("_inconsistency_gate_backward")
