"""EfficientNet-B4 of timm as the PyPI package `efficientnet_pytorch` runs it."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dfmodels.detector import Optimizable
from dfmodels.layers.convolution import foldable, folded
from dfmodels.weights import NORM, PARAMETERS, Layout, inside, renamed

# Zero padding (left and top, right and bottom) of the strided convolutions. The package computes TensorFlow's "SAME"
# for 380 x 380 images and keeps it for every other size; the one strided convolution not listed is symmetric.
FIXED_PADDING = {
    "conv_stem": (0, 1),
    "blocks.1.0.conv_dw": (0, 1),
    "blocks.3.0.conv_dw": (0, 1),
    "blocks.5.0.conv_dw": (1, 2),
}
DEPTHS = (2, 4, 4, 6, 6, 8, 2)
FEATURES = 1792
PADDINGS = ("fixed", "same")


def import_timm(name: str) -> Any:
    """timm, for its network `name`; ImportError that says what to do without it."""
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # a torchvision for another torch raises the latter
        raise ImportError(
            f"{name} comes from timm, which cannot be imported: {error}; it needs a torchvision that was built for "
            f"torch {torch.__version__}: pip install --upgrade torch torchvision timm"
        ) from error
    return timm


def create_timm(name: str, **options: Any) -> nn.Module:
    """A network of timm with random weights; nothing is fetched."""
    network: nn.Module = import_timm(name).create_model(name, **options)
    return network


@torch.no_grad()
def fold_norms(network: nn.Module) -> None:
    """Put every batch norm into the convolution that stands before it among the children of a module."""
    from timm.layers import BatchNormAct2d, Conv2dSame
    from timm.models.xception import SeparableConv2d

    for parent in list(network.modules()):
        for (_, before), (name, norm) in pairwise(list(parent.named_children())):
            conv: Any = before.pointwise if type(before) is SeparableConv2d else before
            if type(conv) not in (nn.Conv2d, Conv2dSame, PaddedConv2d):
                continue
            if not isinstance(norm, nn.BatchNorm2d) or type(norm) not in (nn.BatchNorm2d, BatchNormAct2d):
                continue
            if conv.out_channels != norm.num_features:
                continue
            if foldable(before, norm) and foldable(conv, norm):
                conv.weight, conv.bias = folded(conv, norm)
                setattr(parent, name, norm.act if type(norm) is BatchNormAct2d else nn.Identity())


class EfficientNetB4(Optimizable):
    """Images to feature maps: EfficientNet-B4 without its pool and classifier, then a 1x1 convolution.

    Args:
        width: channels C of the maps; None leaves the 1x1 convolution out and gives the 1792 channels before it.
        padding: "fixed", zero padding frozen for 380 x 380 as `efficientnet_pytorch` has it; "bench", the same but for
            the stem, which has none (DeepfakeBench's frame classifier); or "same", TensorFlow's padding for the size at
            hand (timm's `tf_efficientnet_b4`).
        drop_path: rate of stochastic depth behind the last block; that of block i of 32 is `drop_path` * i / 32.

    Source: arXiv:1905.11946; agrees with `efficientnet_pytorch` 0.7.1.
    """

    def __init__(self, width: int | None = 512, *, padding: str = "fixed", drop_path: float = 0.2):
        super().__init__()
        # one builds plain convolutions, the other such as pad for the size at hand; otherwise they are the same
        name = "tf_efficientnet_b4" if padding == "same" else "efficientnet_b4"
        self.model: Any = create_timm(name, num_classes=0, drop_path_rate=drop_path, bn_eps=1e-3, bn_momentum=0.01)
        if padding != "same":
            paddings = FIXED_PADDING | ({"conv_stem": (0, 0)} if padding == "bench" else {})
            for path, sides in paddings.items():
                self.model.set_submodule(path, PaddedConv2d.like(self.model.get_submodule(path), sides))
        self.conv = nn.Identity() if width is None else nn.Conv2d(FEATURES, width, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, h, w), channels-last; h = H / 32 for multiples of 32."""
        return self.conv(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 1792, h, w), what the 1x1 convolution sees."""
        return self.model.forward_features(images.contiguous(memory_format=torch.channels_last))

    def optimize_(self) -> None:
        """Put every norm into the convolution before it."""
        super().optimize_()
        fold_norms(self.model)

    def published_layout(self) -> Layout:
        """Keys of the released encoder -> ours; its classifier `model._fc` never runs and has no counterpart."""
        return inside("model.", "model.", PACKAGE_LAYOUT) | renamed(
            "conv", "conv", {"weight": "weight", "bias": "bias"}
        )


class PaddedConv2d(nn.Conv2d):
    """A convolution with zero padding of its own before and behind its input, alike in both directions."""

    def __init__(self, *args: Any, sides: tuple[int, int], **options: Any):
        super().__init__(*args, **options)
        self.sides = sides

    @classmethod
    def like(cls, conv: nn.Module, sides: tuple[int, int]) -> "PaddedConv2d":
        """One with the options and the weight of `conv`, which has no bias."""
        assert isinstance(conv, nn.Conv2d)
        padded = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            groups=conv.groups,
            bias=False,
            sides=sides,
        )
        padded.weight = conv.weight
        return padded

    def forward(self, x: Tensor) -> Tensor:
        before, behind = self.sides
        if before == behind == 0:
            return super().forward(x)
        return super().forward(F.pad(x, (before, behind, before, behind)))


def _package_layout() -> Layout:
    """Keys of `efficientnet_pytorch` -> those of timm."""

    def unit(published: str, ours: str, conv: str, norm: str, our_conv: str, our_norm: str) -> Layout:
        weight: Layout = {f"{published}{conv}.weight": (f"{ours}{our_conv}.weight", ())}
        return weight | renamed(f"{published}{norm}", f"{ours}{our_norm}", NORM)

    layout = unit("", "", "_conv_stem", "_bn0", "conv_stem", "bn1")
    layout |= unit("", "", "_conv_head", "_bn1", "conv_head", "bn2")
    blocks = [f"blocks.{stage}.{i}." for stage, depth in enumerate(DEPTHS) for i in range(depth)]
    for i, ours in enumerate(blocks):
        published = f"_blocks.{i}."
        first = i < DEPTHS[0]  # that stage does not expand, and timm counts what there is
        if not first:
            layout |= unit(published, ours, "_expand_conv", "_bn0", "conv_pw", "bn1")
        layout |= unit(published, ours, "_depthwise_conv", "_bn1", "conv_dw", "bn1" if first else "bn2")
        project = ("conv_pw", "bn2") if first else ("conv_pwl", "bn3")
        layout |= unit(published, ours, "_project_conv", "_bn2", *project)
        for squeeze in ("reduce", "expand"):
            layout |= renamed(f"{published}_se_{squeeze}", f"{ours}se.conv_{squeeze}", PARAMETERS)
    return layout


PACKAGE_LAYOUT = _package_layout()
