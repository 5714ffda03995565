"""timm's Xception as LSDA (arXiv:2311.11278) ends it: one of its encoders, 512 channels wide at the end."""

from torch import Tensor, nn

from dfmodels.backbones.efficientnet import create_timm


class Xception(nn.Module):
    """Features of an image.

    Two unpadded convolutions, twelve blocks, two separable convolutions, and `adjust_channel` to 512 channels.
    `last_linear`, the classifier of the published files, is there for them alone: it never runs and wants no gradients.

    Source: arXiv:1610.02357; the layers are those of timm's `legacy_xception`, under the same names.
    """

    def __init__(self) -> None:
        super().__init__()
        layers = dict(create_timm("legacy_xception", num_classes=0).named_children())
        for name in ("act4", "global_pool", "fc"):  # the release has no ReLU before `adjust_channel`
            del layers[name]
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.in_order = tuple(layers)
        self.last_linear = nn.Linear(2048, 5).requires_grad_(False)
        self.adjust_channel = nn.Sequential(nn.Conv2d(2048, 512, 1), nn.BatchNorm2d(512), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> (B, 512, h, w); 256 -> 8, 224 -> 7."""
        for name in self.in_order:
            x = self.get_submodule(name)(x)
        return self.adjust_channel(x)
