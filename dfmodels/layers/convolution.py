"""Convolution and batch norm as one unit, so that optimized copies can fold the norm away."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from dfmodels.detector import Optimizable
from dfmodels.weights import NORM, Layout, renamed


class ConvNorm(Optimizable):
    """Convolution of frames (N, C, H, W) with zero padding of half the kernel, then batch norm.

    The weight starts He normal over the fan out (ReLU gain), the norm as the identity.

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

    def forward(
        self, x: Tensor, *, residual: Tensor | None = None, relu: bool = False, overwrite: bool = False
    ) -> Tensor:
        """relu(norm(conv(x)) + residual), each of the two where asked for.

        Args:
            x: (N, C, H, W).
            residual: (N, O, ceil(H / stride), ceil(W / stride)), as the result.
            relu: whether to rectify.
            overwrite: whether the result may take the memory of `residual` in an optimized copy.
        """
        if self.norm is None:
            return self.conv(x, residual=residual, relu=relu, overwrite=overwrite)
        y = self.norm(self.conv(x))
        # the norm's result is its own: whoever hooked it may keep it
        if residual is not None:
            y = y + residual.to(y.dtype)
            return F.relu(y, inplace=True) if relu else y
        return F.relu(y) if relu else y

    @torch.no_grad()
    def optimize_(self) -> None:
        """Put the norm into the convolution."""
        super().optimize_()
        conv, norm = self.conv, self.norm
        if type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d and foldable(conv, norm):
            names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
            fused = FusedConv2d(**{name: getattr(conv, name) for name in names}, device="meta")
            fused.weight, fused.bias = folded(conv, norm)
            self.conv, self.norm = fused, None


def foldable(conv: nn.Module, norm: nn.BatchNorm2d) -> bool:
    """Whether nothing but the two layers themselves sees what passes between them."""
    hooks = (conv._forward_hooks, conv._forward_pre_hooks, norm._forward_hooks, norm._forward_pre_hooks)
    return norm.running_mean is not None and not any(hooks)


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[nn.Parameter, nn.Parameter]:
    """Weight and bias of the convolution that equals both in evaluation."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )


# oneDNN's convolution with what follows it in the same pass; internal to torch, so it is used only where it is found
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise_")


class FusedConv2d(nn.Conv2d):
    """A convolution of an optimized copy, with what follows it in the same pass where torch can do that."""

    packed: tuple[torch.Size, Tensor] | None = None

    def forward(
        self, x: Tensor, *, residual: Tensor | None = None, relu: bool = False, overwrite: bool = False
    ) -> Tensor:
        """As `ConvNorm.forward`."""
        if not _fuses(x, self.weight):
            y = super().forward(x)
            if residual is not None:
                y += residual
            return F.relu(y, inplace=True) if relu else y
        mkldnn, weight, bias = torch.ops.mkldnn, self.pack(x.shape), self.bias
        place = (self.padding, self.stride, self.dilation, self.groups)
        if residual is None:
            return mkldnn._convolution_pointwise(x, weight, bias, *place, "relu" if relu else "none", [], "")
        after: tuple[Any, ...] = ("add", 1.0, "relu" if relu else None, [], "")
        if overwrite:
            return mkldnn._convolution_pointwise_(residual, x, weight, bias, *place, *after)
        return mkldnn._convolution_pointwise(x, residual, weight, bias, *place, *after)

    def pack(self, shape: torch.Size) -> Tensor:
        """The weight in the order that oneDNN wants for inputs of this shape; it would else make it at every call."""
        packed = self.packed
        if packed is None or packed[0] != shape:
            place = (self.padding, self.stride, self.dilation, self.groups)
            packed = (shape, torch.ops.mkldnn._reorder_convolution_weight(self.weight, *place, shape))
            self.packed = packed
        return packed[1]

    def _apply(self, *args: Any, **options: Any) -> "FusedConv2d":
        self.packed = None
        return super()._apply(*args, **options)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "packed": None}  # has no storage that could be copied or written


def _fuses(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN can be called: the compiler fuses for itself, and oneDNN records no gradients."""
    return (
        not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and _ONEDNN
        and torch._C._get_mkldnn_enabled()
        and type(x) is Tensor  # others, as fake ones, stand for torch's own operators only
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
    )


def conv_norm(conv: str, norm: str, ours: str) -> Layout:
    """Published keys of a `ConvNorm` without bias from the published names of its parts."""
    return {f"{conv}.weight": (f"{ours}.conv.weight", ()), **renamed(norm, f"{ours}.norm", NORM)}
