"""Convolution and batch norm as one unit, so that inference can fold the norm away."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dfmodels.weights import NORM, Layout, renamed


class ConvNorm(nn.Module):
    """Convolution of frames (N, C, H, W) with zero padding of half the kernel, then batch norm.

    In evaluation the norm is folded into the convolution: its scale into the weight, the rest into the bias. The weight
    starts He normal over the fan out (ReLU gain), the norm as the identity.

    Args:
        in_channels, out_channels: C before and after.
        kernel: odd side, or odd (height, width).
        stride: of the convolution.
        bias: whether the convolution has one of its own.
    """

    norm: nn.BatchNorm2d | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, int] = 1,
        *,
        stride: int = 1,
        bias: bool = False,
    ):
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2)
        self.conv = nn.Conv2d(in_channels, out_channels, (height, width), stride, padding, bias=bias)
        self.norm = nn.BatchNorm2d(out_channels)
        nn.init.normal_(self.conv.weight, std=math.sqrt(2 / (out_channels * height * width)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, ceil(H / stride), ceil(W / stride))."""
        if self.norm is None:
            return self.conv(x)
        if self.norm.training:
            return self.norm(self.conv(x))
        return F.conv2d(x, *self.folded(), self.conv.stride, self.conv.padding)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the convolution that equals both in evaluation."""
        norm, conv = self.norm, self.conv
        assert norm is not None
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        mean = norm.running_mean if conv.bias is None else norm.running_mean - conv.bias
        return conv.weight * scale[:, None, None, None], norm.bias - mean * scale

    @torch.no_grad()
    def fold(self) -> None:
        """Put the norm into the convolution for good; the module then serves inference only."""
        if self.norm is None:
            return
        weight, bias = self.folded()
        self.conv.weight.copy_(weight)
        self.conv.bias = nn.Parameter(bias)
        self.norm = None


def conv_norm(conv: str, norm: str, ours: str) -> Layout:
    """Published keys of a `ConvNorm` without bias from the published names of its parts."""
    return {f"{conv}.weight": (f"{ours}.conv.weight", ()), **renamed(norm, f"{ours}.norm", NORM)}
