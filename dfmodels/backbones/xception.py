"""Xception as LSDA (arXiv:2311.11278) lays it out: one of its encoders, 512 channels wide at the end."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F


class SeparableConv(nn.Module):
    """A 3x3 convolution of every channel on its own, then a 1x1 convolution.

    Args:
        in_channels, out_channels: C before and after.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, H, W)."""
        return self.pointwise(self.conv1(x))


class Block(nn.Module):
    """Units of ReLU, separable convolution and norm, beside the input or its strided projection.

    Args:
        widths: channels before the first unit and after each.
        stride: 1, or 2: a max pool behind the units, and a 1x1 convolution and norm beside them.
        leading_relu: whether the first unit begins with its ReLU.
    """

    def __init__(self, *widths: int, stride: int = 1, leading_relu: bool = True):
        super().__init__()
        self.skip: nn.Module = nn.Identity()
        self.skipbn: nn.Module = nn.Identity()
        if stride > 1:
            self.skip = nn.Conv2d(widths[0], widths[-1], 1, stride, bias=False)
            self.skipbn = nn.BatchNorm2d(widths[-1])
        units: list[nn.Module] = []
        for before, after in pairwise(widths):
            # the input itself is still needed beside the units
            units += [nn.ReLU(inplace=bool(units)), SeparableConv(before, after), nn.BatchNorm2d(after)]
        if stride > 1:
            units.append(nn.MaxPool2d(3, stride, padding=1))
        self.rep = nn.Sequential(*units[0 if leading_relu else 1 :])

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, ceil(H / stride), ceil(W / stride))."""
        return self.rep(x) + self.skipbn(self.skip(x))


class Xception(nn.Module):
    """Features of an image.

    Two unpadded convolutions, twelve blocks, two separable convolutions, and `adjust_channel` to 512 channels.
    `last_linear`, the classifier of the published files, is there for them alone and never runs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.block1 = Block(64, 128, 128, stride=2, leading_relu=False)
        self.block2 = Block(128, 256, 256, stride=2)
        self.block3 = Block(256, 728, 728, stride=2)
        for i in range(4, 12):
            self.add_module(f"block{i}", Block(728, 728, 728, 728))
        self.block12 = Block(728, 728, 1024, stride=2)
        self.conv3 = SeparableConv(1024, 1536)
        self.bn3 = nn.BatchNorm2d(1536)
        self.conv4 = SeparableConv(1536, 2048)
        self.bn4 = nn.BatchNorm2d(2048)
        self.last_linear = nn.Linear(2048, 5).requires_grad_(False)
        self.adjust_channel = nn.Sequential(nn.Conv2d(2048, 512, 1), nn.BatchNorm2d(512), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> (B, 512, h, w); 256 -> 8, 224 -> 7."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        for i in range(1, 13):
            x = self.get_submodule(f"block{i}")(x)
        x = F.relu(self.bn3(self.conv3(x)))
        return self.adjust_channel(self.bn4(self.conv4(x)))  # no ReLU between: the release has none
