"""Signed cosine distances of several maps from one anchor, position by position: LSDA's identity loss."""

from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from dfops import reference
from dfops.ops._checks import (
    accumulation_dtype,
    autocast_to_widest,
    check_axes,
    check_floating,
    check_kind,
    forbid_second_derivative,
    new_clip,
    register_fake,
)

MOST_OTHERS = 256  # kMostOthers in csrc/paired_cosine/paired_cosine.h


def paired_cosine(anchor: Tensor, others: Tensor, signs: Sequence[float], *, eps: float = 1e-8) -> Tensor:
    """Sum of the signed cosine distances of K maps from one, at every position; one pass over all of them.

    a^, b^_k    = a / (|a| + eps), b_k / (|b_k| + eps)                  norms over C; eps is added, not a clamp
    out[g,h,w]  = sum_k signs[k] * (1 - sum_c a^[c] * b^_k[c])

    Args:
        anchor: maps a (G, C, H, W), floating point.
        others: maps b (G, K, C, H, W), K at most 256; dtype and device of anchor. Under autocast both are brought to
            the wider of their dtypes. Both may be slices of one (G, K + 1, C, H, W): any strides of the axes G and K
            are read in place; the maps themselves are contiguous or channels-last.
        signs: K numbers.
        eps: positive.

    Returns:
        (G, H, W), contiguous; float32 for half types.

    Raises:
        ValueError: a shape, device or number other than the ones above.
        TypeError: a dtype other than the ones above, no tensor, or signs that are no numbers.

    Differentiable in anchor and others; a vector of norm 0 gets the gradient of a^ = a / eps.

    >>> anchor = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    >>> others = torch.tensor([[0.0, 3.0], [-2.0, 0.0]]).reshape(1, 2, 2, 1, 1)  # at a right angle, opposite
    >>> out = dfops.paired_cosine(anchor, others, [1.0, -1.0])
    >>> out.shape, round(out.item(), 4)  # distances 1 and 2
    (torch.Size([1, 1, 1]), -1.0)

    Source: LSDA, arXiv:2311.11278, as in the released code (four maps, signs -1, 1, -1, 1).
    """
    check_floating(anchor=anchor, others=others)
    anchor, others = autocast_to_widest(anchor, others)
    check_axes("(G, K, C, H, W)", others=others)
    g, k, c, h, w = others.shape
    if tuple(anchor.shape) != (g, c, h, w):
        raise ValueError(
            f"anchor must be (G, C, H, W) with the axes of others, {(g, c, h, w)}, got {tuple(anchor.shape)}"
        )
    check_kind("anchor", anchor, others=others)
    if not isinstance(signs, Sequence) or not all(isinstance(sign, Real) for sign in signs):
        raise TypeError(f"signs must be a sequence of numbers, got {signs!r}")
    if len(signs) != k or k > MOST_OTHERS:
        raise ValueError(
            f"signs must hold K = {k} numbers, one for each of the others, {MOST_OTHERS} at most, got {len(signs)}"
        )
    if not eps > 0:
        raise ValueError(f"eps must be positive, got {eps}")
    if reference.is_active():
        return reference.paired_cosine(anchor, others, signs, eps=eps)
    return torch.ops.dfops.paired_cosine(anchor, others, [float(sign) for sign in signs], eps)[0]


def _is_channels_last(maps: Tensor) -> bool:
    """The layout of the last three axes; mirrors map_layout in csrc/paired_cosine/paired_cosine_host.h."""
    c, h, w = maps.shape[-3:]

    def has(strides: tuple[int, ...]) -> bool:
        axes = zip(maps.shape[-3:], maps.stride()[-3:], strides, strict=True)
        return all(n <= 1 or have == want for n, have, want in axes)

    return not has((h * w, w, 1)) and has((1, w * c, c))


@register_fake("paired_cosine")
def _(anchor: Tensor, others: Tensor, signs: list[float], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    g, k, _, h, w = others.shape
    shapes = (g, h, w), (g, k + 1, h, w), (g, k, h, w)
    out, norms, cosines = (others.new_empty(shape, dtype=accumulation_dtype(others)) for shape in shapes)
    return out, norms, cosines


@register_fake("_paired_cosine_backward")
def _(
    grad: Tensor,
    anchor: Tensor,
    others: Tensor,
    norms: Tensor,
    cosines: Tensor,
    signs: list[float],
    eps: float,
    need_anchor: bool,
    need_others: bool,
) -> tuple[Tensor, Tensor]:
    grad_anchor, grad_others = anchor.new_empty(0), others.new_empty(0)
    if need_anchor:
        grad_anchor = new_clip(anchor, tuple(anchor[:, None].shape), _is_channels_last(anchor))[:, 0]
    if need_others:
        grad_others = new_clip(others, tuple(others.shape), _is_channels_last(others))
    return grad_anchor, grad_others


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    anchor, others, ctx.signs, ctx.eps = inputs
    _, norms, cosines = output
    ctx.mark_non_differentiable(norms, cosines)
    ctx.save_for_backward(anchor, others, norms, cosines)


def _backward(ctx: Any, grad: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    need_anchor, need_others = ctx.needs_input_grad[:2]
    grad_anchor, grad_others = torch.ops.dfops._paired_cosine_backward(
        grad, *ctx.saved_tensors, ctx.signs, ctx.eps, need_anchor, need_others
    )
    return grad_anchor if need_anchor else None, grad_others if need_others else None, None, None


torch.library.register_autograd("dfops::paired_cosine", _backward, setup_context=_setup_context)
forbid_second_derivative("_paired_cosine_backward")
