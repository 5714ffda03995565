"""IResNet, the residual network of ArcFace, as LSDA (arXiv:2311.11278) uses it: a map instead of an embedding."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (64, 128, 256, 512)


class Block(nn.Module):
    """out = bn3(conv2(prelu(bn2(conv1(bn1(x)))))) + skip(x), both convolutions 3x3, the second with the stride.

    Args:
        in_channels, out_channels: C before and after.
        stride: 1, and skip is the identity; else it is a strided 1x1 convolution and its norm.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.prelu = nn.PReLU(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, ceil(H / stride), ceil(W / stride))."""
        inner = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(inner)) + self.downsample(x)


class IResNet(nn.Module):
    """Face recognition features of an image; names and shapes are those of insightface's `iresnet100` files.

    conv1, bn1, prelu, four layers that halve the side, bn2, average over windows of 2 x 2.

    The parameters of layer1 to layer3 are frozen. `fc` and `features`, the way from a map of 7 x 7 to an embedding, are
    there for the files alone and never run, so they want no gradients.

    Args:
        layers: blocks in each layer; (3, 13, 30, 3) is IResNet-100.
        freeze_norms: whether the norms of the frozen layers stay in inference mode in training too.
    """

    def __init__(self, layers: Sequence[int] = (3, 13, 30, 3), *, freeze_norms: bool = True):
        super().__init__()
        self.freeze_norms = freeze_norms
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.prelu = nn.PReLU(WIDTHS[0])
        inputs = (WIDTHS[0], *WIDTHS)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(*(Block(width if i else before, width, stride=1 if i else 2) for i in range(count)))
            for before, width, count in zip(inputs, WIDTHS, layers, strict=False)
        )
        self.bn2 = nn.BatchNorm2d(WIDTHS[-1])
        self.fc = nn.Linear(7 * 7 * WIDTHS[-1], 512)
        self.features = nn.BatchNorm1d(512)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.1)
        for layer in (*self.frozen, self.fc, self.features):
            layer.requires_grad_(False)

    @property
    def frozen(self) -> tuple[nn.Module, ...]:
        return self.layer1, self.layer2, self.layer3

    def train(self, mode: bool = True) -> "IResNet":
        super().train(mode)
        if self.freeze_norms:
            for layer in self.frozen:
                layer.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Aligned faces (B, 3, H, W), RGB in [-1, 1] -> (B, 512, h, w), h = ceil(H / 16) // 2, w alike."""
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return F.avg_pool2d(self.bn2(x), 2)
