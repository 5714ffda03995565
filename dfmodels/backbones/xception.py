"""timm's Xception as DeepfakeBench ends it: 2048 channels, or the 512 of LSDA's encoder (arXiv:2311.11278)."""

from torch import Tensor, nn

from dfmodels.backbones.efficientnet import create_timm, fold_norms
from dfmodels.detector import Optimizable

FEATURES = 2048


class Xception(Optimizable):
    """Features of an image.

    Two unpadded convolutions, twelve blocks, two separable convolutions, and `adjust_channel` to C channels.
    `last_linear`, the classifier of the published files, is there for them alone: it never runs and wants no gradients.

    Args:
        width: channels C; None leaves `adjust_channel` and `last_linear` out and gives the 2048 channels before them,
            rectified.

    Source: arXiv:1610.02357; the layers are those of timm's `legacy_xception`, under the same names.
    """

    def __init__(self, width: int | None = 512) -> None:
        super().__init__()
        layers = dict(create_timm("legacy_xception", num_classes=0).named_children())
        for name in ("global_pool", "fc"):
            del layers[name]
        if width is not None:
            del layers["act4"]  # the release has no ReLU before `adjust_channel`
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.in_order = tuple(layers)
        if width is not None:
            self.last_linear = nn.Linear(FEATURES, 5).requires_grad_(False)
            self.adjust_channel = nn.Sequential(nn.Conv2d(FEATURES, width, 1), nn.BatchNorm2d(width), nn.ReLU())
            self.in_order += ("adjust_channel",)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> (B, C, h, w); 256 -> 8, 224 -> 7."""
        for name in self.in_order:
            x = self.get_submodule(name)(x)
        return x

    def optimize_(self) -> None:
        """Put every norm into the convolution before it."""
        super().optimize_()
        fold_norms(self)
