"""Clips in 2-D layers: folding, a few frames at a time, verdicts of frames, 1x1 convolutions as one product."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dfmodels.detector import Optimizable


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


def mean_logits(logits: Tensor) -> Tensor:
    """Logits (B, K) whose softmax is the mean of the softmax of logits (B, T, K).

    out[b, k] = log(mean_t softmax(logits[b, t])[k]) + mean_t logsumexp_k(logits[b, t])

    The last term is the same for all classes. With it the logits of frames that are alike are those of each.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    level = wide.logsumexp(2, keepdim=True)
    logs = wide - level
    peak = logs.detach().amax(1, keepdim=True)  # a frame may be surer of itself than exp can say
    mean = (logs - peak).exp().mean(1).log() + peak[:, 0] + level.mean(1)
    return mean.to(logits.dtype)


FRAMES_IN_CACHE = 9 << 20  # bytes of the widest intermediate result that one round of `by_frames` may have


def by_frames(
    module: Optimizable,
    function: Callable[..., Tensor | tuple[Tensor, ...]],
    *frames: Tensor,
    width: int,
    out: Tensor | None = None,
) -> Any:
    """`function(*frames)`; in an optimized copy on a CPU, without gradients, a few frames at a time.

    The intermediate results of a few frames stay in the cache, and are small enough for the allocator to reuse: fresh
    memory for whole clips would cost as much as the arithmetic.

    Args:
        module: what `function` belongs to.
        function: of (n, C_i, H, W), giving (n, O, H', W') or several such, every frame for itself.
        frames: (N, C_i, H, W).
        width: most channels at H x W that `function` holds at once.
        out: where a single result may be written.

    Returns:
        What `function` gives, N frames of it.
    """
    x = frames[0]
    if not module.optimized or x.is_cuda or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return function(*frames)
    n = x.shape[0]
    frame = width * x.shape[2] * x.shape[3] * x.element_size()
    at_once = max(1, FRAMES_IN_CACHE // max(1, frame))
    if n <= at_once:
        return function(*frames)
    results: list[Tensor] = [] if out is None else [out]
    for i in range(0, n, at_once):
        computed = function(*(x[i : i + at_once] for x in frames))
        parts = computed if isinstance(computed, tuple) else (computed,)
        if not results:
            results = [_empty_frames_like(part, n) for part in parts]
        for result, part in zip(results, parts, strict=True):
            result[i : i + at_once] = part
    return tuple(results) if isinstance(computed, tuple) else results[0]


def _empty_frames_like(part: Tensor, n: int) -> Tensor:
    """Uninitialised (n, C, H, W) in the layout of `part`."""
    c, h, w = part.shape[1:]
    if part.stride(1) == 1:
        return part.new_empty(n, h, w, c).permute(0, 3, 1, 2)
    return part.new_empty(n, c, h, w)


def each_frame(layer: Callable[[Tensor], Tensor], clip: Tensor) -> Tensor:
    """A layer of frames on a clip: (B, T, C, H, W) -> (B, T, O, H', W')."""
    return layer(fold(clip)).unflatten(0, clip.shape[:2])


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
