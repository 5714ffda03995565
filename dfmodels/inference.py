"""Copies of detectors that only infer, as fast as the hardware allows."""

import copy
from typing import Any

import torch

from dfmodels.detector import AnyDetector, Detector, Optimizable


def optimize(model: AnyDetector) -> AnyDetector:
    """A copy of `model` for inference, on the same device, equal to it within rounding (1e-5 of the largest logit).

    Batch norms are folded into the convolutions before them and weights laid out channels-last. A layer that is hooked,
    parametrized or wrapped is left as it is, and so is the norm behind it; hooks elsewhere may see a few frames of a
    clip at a time, and inputs that are written over later. The copy computes no gradients of its weights; it cannot be
    trained or saved. `model` stays as it is.

    Raises:
        TypeError: no detector.
    """
    if not isinstance(model, Detector):
        raise TypeError(f"model must be a dfmodels detector, got {type(model).__name__}")
    fast = copy.deepcopy(model).eval()
    for module in list(fast.modules()):
        if isinstance(module, Optimizable):
            module.optimize_()
    layout: dict[str, Any] = {"memory_format": torch.channels_last}  # newer torch alone declares this argument of `to`
    return fast.requires_grad_(False).to(**layout)
