"""Clips in 2-D layers: folding, and 1x1 convolutions as one product over positions with the norm folded in."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def fold(x: Tensor) -> Tensor:
    """(B, T, C, H, W) -> (B*T, C, H, W), the same memory.

    A plain flatten of a channels-last clip with B = T = 1 gives the first axis the stride C, and torch's batch norm
    computes wrong gradients from such a tensor (seen in 2.13).
    """
    if x.stride(2) == 1:
        return x.permute(0, 1, 3, 4, 2).flatten(0, 1).permute(0, 3, 1, 2)
    return x.flatten(0, 1)


def unfold(x: Tensor, num_frames: int) -> Tensor:
    """(B*T, C, H, W) -> (B, T, C, H, W) with T = num_frames, the same memory."""
    return x.unflatten(0, (x.shape[0] // num_frames, num_frames))


FRAMES_IN_CACHE = 9 << 20  # bytes of the widest intermediate result that one round of `by_frames` may have


def by_frames(
    module: nn.Module, function: Callable[..., Tensor], *clips: Tensor, width: int, out: Tensor | None = None
) -> Tensor:
    """`function(*clips)`; in evaluation on a CPU, without gradients, a few frames at a time.

    The intermediate results of a few frames stay in the cache, and are small enough for the allocator to reuse: fresh
    memory for whole clips would cost as much as the arithmetic. Hooks inside `function` then see a few frames a call.

    Args:
        module: what `function` belongs to; while any part of it trains, norms join the frames of a batch.
        function: of clips (1, t, C_i, H, W), giving (1, t, O, H', W'), every frame for itself.
        clips: (B, T, C_i, H, W).
        width: most channels at H x W that `function` holds at once.
        out: where the result may be written.

    Returns:
        (B, T, O, H', W').
    """
    x = clips[0]
    b, t = x.shape[:2]
    frame = width * x.shape[3] * x.shape[4] * x.element_size()
    at_once = max(1, FRAMES_IN_CACHE // max(1, frame))
    whole = x.is_cuda or torch.is_grad_enabled() or torch.compiler.is_compiling() or b * t <= at_once
    if whole or any(part.training for part in module.modules()):
        return function(*clips)
    for i in range(b):
        for j in range(0, t, at_once):
            part = function(*(clip[i : i + 1, j : j + at_once] for clip in clips))
            if out is None:
                out = _empty_like_frames(part, b, t)
            out[i : i + 1, j : j + at_once] = part
    assert out is not None
    return out


def _empty_like_frames(part: Tensor, b: int, t: int) -> Tensor:
    """Uninitialised (b, t, C, H, W) in the layout of `part`."""
    c, h, w = part.shape[2:]
    if part.stride(2) == 1:
        return part.new_empty(b, t, h, w, c).permute(0, 1, 4, 2, 3)
    return part.new_empty(b, t, c, h, w)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """1x1 convolution of a clip.

    Args:
        x: features (B, T, C, H, W).
        weight: (O, C).
        bias: (O,).

    Returns:
        (B, T, O, H, W) in the layout of x. In channels-last the positions are the rows of one product, without a copy.
    """
    if x.stride(2) == 1:
        return F.linear(x.permute(0, 1, 3, 4, 2), weight, bias).permute(0, 1, 4, 2, 3)
    return F.conv2d(fold(x), weight[:, :, None, None], bias).unflatten(0, x.shape[:2])


def folded_norm(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift (C,) that equal the norm with its running statistics."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


def pointwise_norm(x: Tensor, weight: Tensor, norm: nn.BatchNorm2d, bias: Tensor | None = None) -> Tensor:
    """`norm` of the 1x1 convolution of a clip: batch statistics when the norm trains, else folded into the product."""
    if norm.training:
        return norm(fold(pointwise(x, weight, bias))).unflatten(0, x.shape[:2])
    scale, shift = folded_norm(norm)
    return pointwise(x, weight * scale[:, None], shift if bias is None else shift + bias * scale)
