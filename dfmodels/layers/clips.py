"""Clips in 2-D layers: folding, and 1x1 convolutions as one product over positions with the norm folded in."""

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
