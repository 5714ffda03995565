"""LSDA, Transcending Forgery Specificity with Latent Space Augmentation (CVPR 2024, arXiv:2311.11278).

Judges single frames: an encoder and a head of two classes. `dfmodels.training.objectives.lsda` holds what trains it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from dfmodels._moved import moved
from dfmodels.backbones.efficientnet import PACKAGE_LAYOUT, PADDINGS, EfficientNetB4
from dfmodels.backbones.xception import Xception
from dfmodels.detector import InputContract
from dfmodels.layers.convolution import ConvNorm
from dfmodels.layers.frames import FrameDetector
from dfmodels.options import check_choice, check_count, check_number, check_option, listed, sides
from dfmodels.registry import register
from dfmodels.weights import PARAMETERS, Layout, inside, renamed

SLOPE = 0.01  # of every LeakyReLU


class PlainEncoder(nn.Sequential):
    """3x3 convolutions of stride 2 with norm and ReLU, then a 1x1 convolution: an encoder for small images.

    Args:
        channels: of the convolutions.
        width: channels C of the maps.
    """

    def __init__(self, channels: Sequence[int], width: int):
        units: list[nn.Module] = []
        for before, after in zip((3, *channels), channels, strict=False):
            units += [ConvNorm(before, after, 3, stride=2), nn.ReLU()]
        super().__init__(*units, nn.Conv2d(channels[-1], width, 1))


def head(width: int, hidden: int, num_classes: int) -> nn.Sequential:
    """Mean over the positions and two linear layers: (N, width, h, w) -> logits (N, num_classes)."""
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*pool, nn.Linear(width, hidden), nn.LeakyReLU(SLOPE), nn.Linear(hidden, num_classes))


def layers_layout(published: str, ours: str, indices: Sequence[int]) -> Layout:
    """Weights and biases of the layers of a published sequence."""
    layout: Layout = {}
    for i in indices:
        layout |= renamed(f"{published}.{i}", f"{ours}.{i}", PARAMETERS)
    return layout


def encoder_layout(encoder: nn.Module) -> Layout:
    """Published keys of an encoder; those of its own where it has no others."""
    if isinstance(encoder, EfficientNetB4):
        return encoder.published_layout()
    return {key: (key, ()) for key in encoder.state_dict()}


class LSDA(FrameDetector):
    """The detector that a training of LSDA gives: an encoder, the mean over its positions, two linear layers."""

    def __init__(self, encoder: nn.Module, width: int, contract: InputContract):
        super().__init__("lsda", contract, width)
        self.encoder = encoder
        self.head = head(width, width, 2)

    def forward_features(self, images: Tensor) -> Tensor:
        maps: Tensor = self.encoder(images)
        return maps

    def forward_head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(features)
        return logits

    def published_layout(self) -> Layout:
        student = inside("student_encoder.", "encoder.", encoder_layout(self.encoder))
        return student | layers_layout("binary_classifier", "head", (2, 4))

    def published_leaves_out(self, key: str) -> bool:
        return TRAINING_ONLY.match(key) is not None or UNUSED.search(key) is not None

    def backbone_layout(self) -> Layout:
        return inside("", "encoder.model.", PACKAGE_LAYOUT) if isinstance(self.encoder, EfficientNetB4) else {}

    def backbone_leaves_out(self, key: str) -> bool:
        return CLASSIFIERS.search(key) is not None


# parts of a training, as released and as `LSDADistillation` names them
TRAINING_ONLY = re.compile(
    r"(encoder_c|encoders_f\.\d+|fc_weights|mlp|real_encoder|forgery_encoders\.\d+|fusion|domain_head)\.|centroid$"
)
# of the files of a backbone: of the package, and of DeepfakeBench's detector, whose stem pads less than this encoder's
CLASSIFIERS = re.compile(r"(^|\.)(_fc|last_layer)\.")
UNUSED = re.compile(r"^(student_encoder|encoder_c|encoders_f\.\d+)\.model\._fc\.")


def make_encoder(config: Mapping[str, Any]) -> nn.Module:
    """The encoder that the options of `lsda` name, with random weights."""
    if config["encoder"] == "efficientnet_b4":
        return EfficientNetB4(config["width"], padding=config["padding"], drop_path=config["drop_path"])
    return Xception() if config["encoder"] == "xception" else PlainEncoder(config["channels"], config["width"])


@register("lsda")
def lsda(
    *,
    encoder: str = "efficientnet_b4",
    width: int = 512,
    padding: str = "fixed",
    drop_path: float = 0.2,
    channels: Sequence[int] = (16, 32, 64),
    size: int | Sequence[int] = 256,
) -> LSDA:
    """LSDA with random weights: the student and its head, all that judges; the defaults are the released network.

    Args:
        encoder: "efficientnet_b4", or "xception" as the release names another; or "plain", a few strided convolutions
            for small images.
        width: channels C of its maps; 512 with "xception".
        padding: of "efficientnet_b4": "fixed", zero padding frozen for 380 x 380 as released; "same", TensorFlow's for
            the size at hand.
        drop_path: rate of stochastic depth behind the last block of "efficientnet_b4".
        channels: of the convolutions of "plain".
        size: height and width of the face crops it is trained on, for the input contract.

    Raises:
        ValueError: an option other than the ones above.

    Source: arXiv:2311.11278 and DeepfakeBench.
    """
    config: dict[str, Any] = dict(locals())
    config["channels"] = listed("channels", channels)
    config["size"] = sides("size", size)
    check_choice("encoder", encoder, ("efficientnet_b4", "xception", "plain"))
    check_choice("padding", padding, PADDINGS)
    check_count("width", width)
    check_option("width", width, encoder != "xception" or width == 512, "512 with the encoder 'xception'")
    check_number("drop_path", drop_path, lambda rate: 0 <= rate < 1, "from 0 to below 1")
    contract = InputContract(
        num_frames=1,
        size=(config["size"][0], config["size"][1]),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        sampling="even",
        num_clips=32,
        crop="aligned" if config["size"][0] == config["size"][1] else "square",
    )
    model = LSDA(make_encoder(config), width, contract)
    model.config = config
    return model


__getattr__ = moved(__name__, "dfmodels.training.objectives.lsda", "DistillationOptions", "LSDADistillation")
