"""Convolution and batch norm as one unit, so that inference can fold the norm away."""

import math
from typing import Any

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
        self.packed: tuple[torch.Size, Tensor] | None = None
        nn.init.normal_(self.conv.weight, std=math.sqrt(2 / (out_channels * height * width)))

    def forward(
        self, x: Tensor, *, residual: Tensor | None = None, relu: bool = False, overwrite: bool = False
    ) -> Tensor:
        """relu(norm(conv(x)) + residual), each of the two where asked for.

        Args:
            x: (N, C, H, W).
            residual: (N, O, ceil(H / stride), ceil(W / stride)), as the result.
            relu: whether to rectify.
            overwrite: whether the result may take the memory of `residual` where no gradient is recorded.
        """
        if self.norm is not None and self.norm.training:
            return _finish(self.norm(self.conv(x)), residual, relu)
        weight, bias = self.folded()
        if _fuses(x, weight):
            weight = weight if self.norm is not None else self.pack(x.shape)
            return _fused(x, weight, bias, self.conv, residual, relu, overwrite)
        return _finish(F.conv2d(x, weight, bias, self.conv.stride, self.conv.padding), residual, relu)

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the convolution that equals both in evaluation."""
        norm, conv = self.norm, self.conv
        if norm is None:
            return conv.weight, conv.bias
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        mean = norm.running_mean if conv.bias is None else norm.running_mean - conv.bias
        return conv.weight * scale[:, None, None, None], norm.bias - mean * scale

    @torch.no_grad()
    def fold(self) -> None:
        """Put the norm into the convolution for good; the module then serves inference only."""
        if self.norm is not None:
            weight, bias = self.folded()
            assert bias is not None
            self.conv.weight.copy_(weight)
            self.conv.bias = nn.Parameter(bias)
            self.norm = None

    def pack(self, shape: torch.Size) -> Tensor:
        """The weight in the order that oneDNN wants for inputs of this shape; it would else make it at every call."""
        packed = self.packed
        if packed is None or packed[0] != shape:
            conv = self.conv
            place = (conv.padding, conv.stride, conv.dilation, conv.groups)
            packed = self.packed = (shape, torch.ops.mkldnn._reorder_convolution_weight(conv.weight, *place, shape))
        return packed[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "packed": None}  # has no storage that could be copied or written


def _finish(y: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    # norms and convolutions do not need their results for the backward pass, so both steps take place in them
    if residual is not None:
        y += residual
    return F.relu(y, inplace=True) if relu else y


# oneDNN's convolution with what follows it in the same pass; internal to torch, so it is used only where it is found
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise_")


def _fuses(x: Tensor, weight: Tensor) -> bool:
    """Whether `_fused` can be called: the compiler fuses for itself, and oneDNN records no gradients."""
    return (
        not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and _ONEDNN
        and torch._C._get_mkldnn_enabled()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
    )


def _fused(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    conv: nn.Conv2d,
    residual: Tensor | None,
    relu: bool,
    overwrite: bool,
) -> Tensor:
    mkldnn, place = torch.ops.mkldnn, (conv.padding, conv.stride, conv.dilation, conv.groups)
    if residual is None:
        return mkldnn._convolution_pointwise(x, weight, bias, *place, "relu" if relu else "none", [], "")
    after: tuple[Any, ...] = ("add", 1.0, "relu" if relu else None, [], "")
    if overwrite:
        return mkldnn._convolution_pointwise_(residual, x, weight, bias, *place, *after)
    return mkldnn._convolution_pointwise(x, residual, weight, bias, *place, *after)


def conv_norm(conv: str, norm: str, ours: str) -> Layout:
    """Published keys of a `ConvNorm` without bias from the published names of its parts."""
    return {f"{conv}.weight": (f"{ours}.conv.weight", ()), **renamed(norm, f"{ours}.norm", NORM)}
