"""A plain frame classifier: an encoder of images, the mean over its maps, one linear layer.

The baseline of the field, and the one for which DeepfakeBench publishes trained weights.
"""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dfmodels.backbones import efficientnet, xception
from dfmodels.backbones.efficientnet import PACKAGE_LAYOUT, EfficientNetB4, create_timm, fold_norms, import_timm
from dfmodels.backbones.xception import Xception
from dfmodels.detector import InputContract
from dfmodels.layers.frames import FrameDetector
from dfmodels.options import check_number, check_option, sides
from dfmodels.registry import hint, register
from dfmodels.weights import PARAMETERS, Layout, inside, renamed

EFFICIENTNET, XCEPTION = "bench_efficientnetb4", "bench_xception"


class Pooled(nn.Module):
    """Images (N, 3, H, W) to logits (N, 2): an encoder, the mean over its positions, one linear layer.

    Its two halves are called as those of timm's networks are.

    Args:
        encoder: (N, 3, H, W) -> (N, C, h, w).
        num_features: C.
        smallest: side of the smallest images that it takes.
    """

    def __init__(self, encoder: nn.Module, num_features: int, smallest: int):
        super().__init__()
        self.num_features = num_features
        self.smallest = smallest
        self.encoder = encoder
        self.head = nn.Linear(num_features, 2)

    def forward_features(self, images: Tensor) -> Tensor:
        return self.encoder(images)

    def forward_head(self, features: Tensor) -> Tensor:
        return self.head(features.mean((2, 3)))

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


class Frame(FrameDetector):
    """The frame classifier around a network: one of timm's, or `Pooled`."""

    def __init__(self, network: nn.Module, contract: InputContract):
        num_features: Any = network.num_features
        smallest: Any = getattr(network, "smallest", 1)
        super().__init__("frame", contract, num_features, smallest)
        self.network: Any = network

    def forward_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.network.forward_features(images)
        return features

    def forward_head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.network.forward_head(features)
        return logits

    @torch.no_grad()
    def optimize_(self) -> None:
        """Put the norms of timm's networks into the convolutions before them; ours do so themselves."""
        super().optimize_()
        if isinstance(self.network, Pooled):
            return
        # Nothing says that timm calls the children of a module in their order: try it, where rounding hides nothing.
        trial = copy.deepcopy(self.network).cpu().double()
        image = torch.randn(1, 3, *self.contract.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        expected = trial(image)
        fold_norms(trial)
        if torch.allclose(trial(image), expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max())):
            fold_norms(self.network)

    def published_layout(self) -> Layout:
        if not isinstance(self.network, Pooled):
            return {key: (f"network.{key}", ()) for key in self.network.state_dict()}
        if isinstance(self.network.encoder, EfficientNetB4):
            encoder = inside("backbone.efficientnet.", "network.encoder.model.", PACKAGE_LAYOUT)
            return encoder | renamed("backbone.last_layer", "network.head", PARAMETERS)
        return self._xception("backbone.") | renamed("backbone.last_linear", "network.head", PARAMETERS)

    def published_leaves_out(self, key: str) -> bool:
        return key.startswith("backbone.adjust_channel.") and self.config["encoder"] == XCEPTION

    def backbone_layout(self) -> Layout:
        if not isinstance(self.network, Pooled):
            published = self.published_layout()
            return {key: place for key, place in published.items() if not self.backbone_leaves_out(key)}
        if isinstance(self.network.encoder, EfficientNetB4):
            return inside("", "network.encoder.model.", PACKAGE_LAYOUT)
        return self._xception("")

    def backbone_leaves_out(self, key: str) -> bool:
        return key.startswith(tuple(f"{name}." for name in self._classifiers()))

    def _xception(self, published: str) -> Layout:
        """Published keys of the encoder, with what stands in front of them."""
        return {published + key: (f"network.encoder.{key}", ()) for key in self.network.encoder.state_dict()}

    def _classifiers(self) -> Sequence[str]:
        """What files of the backbone alone call its classifier."""
        if isinstance(self.network, Pooled):
            return ("_fc",) if isinstance(self.network.encoder, EfficientNetB4) else ("fc", "last_linear")
        names = self.network.pretrained_cfg.get("classifier") or ()
        return (names,) if isinstance(names, str) else names


def make_network(encoder: str, drop_path: float, size: Sequence[int]) -> nn.Module:
    """The network that the options of `frame` name, with random weights."""
    network: nn.Module
    if encoder == EFFICIENTNET:
        network = Pooled(EfficientNetB4(None, padding="bench", drop_path=drop_path), efficientnet.FEATURES, 29)
    elif encoder == XCEPTION:
        network = Pooled(Xception(None), xception.FEATURES, 7)
    else:
        fixed = import_timm(encoder).get_pretrained_cfg(encoder).fixed_input_size
        network = create_timm(encoder, num_classes=2, **({"img_size": tuple(size)} if fixed else {}))
    layers: Iterable[Any] = network.modules()
    for module in layers:
        if hasattr(module, "inplace"):
            module.inplace = False  # whoever hooks a layer may keep what it gave
    return network


def implied_options(keys: Iterable[str]) -> dict[str, Any]:
    """The encoder that the keys of one of the bench's files tell."""
    return {"encoder": XCEPTION} if any(key.endswith("backbone.block12.skip.weight") for key in keys) else {}


@register("frame", implied_options=implied_options)
def frame(*, encoder: str = EFFICIENTNET, drop_path: float = 0.2, size: int | Sequence[int] = 256) -> Frame:
    """The frame classifier with random weights; the defaults are DeepfakeBench's EfficientNet-B4.

    Args:
        encoder: "bench_efficientnetb4" or "bench_xception", the networks of `effnb4_best.pth` and `xception_best.pth`;
            or a network of timm by its name there, with the padding and the pooling it has there.
        drop_path: rate of stochastic depth behind the last block of "bench_efficientnetb4".
        size: height and width of the face crops it is trained on, for the input contract; also the size of the images
            that a network of timm is built for, where that is fixed.

    Raises:
        ValueError: an option other than the ones above.

    Source: DeepfakeBench (arXiv:2307.01426), whose release v1.0.1 holds the weights.
    """
    config: dict[str, Any] = dict(locals())
    config["size"] = sides("size", size)
    check_number("drop_path", drop_path, lambda rate: 0 <= rate < 1, "from 0 to below 1")
    check_encoder(encoder)
    contract = InputContract(
        num_frames=1,
        size=(config["size"][0], config["size"][1]),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        sampling="even",
        num_clips=32,
        crop="aligned" if config["size"][0] == config["size"][1] else "square",
    )
    model = Frame(make_network(encoder, drop_path, config["size"]), contract)
    model.config = config
    return model


def check_encoder(encoder: Any) -> None:
    """Raise ValueError with close names unless `encoder` is one of the bench's or of timm's."""
    what = f"{EFFICIENTNET!r}, {XCEPTION!r} or the name of a network of timm"
    check_option("encoder", encoder, isinstance(encoder, str), what)
    if encoder in (EFFICIENTNET, XCEPTION):
        return
    timm = import_timm(encoder)
    if not timm.is_model(encoder):
        close = hint(encoder, [EFFICIENTNET, XCEPTION, *timm.list_models()])
        # all of timm's are too many to list
        known = f"; {close}" if close.startswith("did") else ""
        raise ValueError(f"encoder must be {what}{known}, got {encoder!r}")
    try:
        timm.get_pretrained_cfg(encoder)
    except RuntimeError as error:
        name = encoder.partition(".")[0]
        known = hint(encoder, [name, *timm.list_pretrained(f"{name}.*")])
        raise ValueError(
            f"encoder must be {name!r} without a tag or with one of timm's; {known}, got {encoder!r}"
        ) from error
