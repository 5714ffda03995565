"""Copies of detectors that only infer, as fast as the hardware allows."""

import copy
from typing import Any

import torch

from dfmodels.backbones.efficientnet import EfficientNetB4
from dfmodels.detector import AnyDetector
from dfmodels.layers.convolution import ConvNorm


def optimize(model: AnyDetector) -> AnyDetector:
    """A copy of `model` for inference, on the same device, equal to it within rounding (1e-5 of the largest logit).

    Batch norms are folded into the convolutions before them and weights laid out channels-last, so that neither has to
    be done again for every clip. The copy computes no gradients; it cannot be trained or saved. `model` stays as it is.
    """
    fast = copy.deepcopy(model).eval()
    for module in list(fast.modules()):
        if isinstance(module, ConvNorm | EfficientNetB4):
            module.fold()
    fast.optimized = True
    layout: dict[str, Any] = {"memory_format": torch.channels_last}  # newer torch alone declares this argument of `to`
    return fast.requires_grad_(False).to(**layout)
