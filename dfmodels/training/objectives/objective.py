"""What is trained around a detector: a module from a batch of samples to losses."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dfmodels.detector import Detector


class Objective(nn.Module):
    """Losses of a batch. Called as a module, so that wrappers (DistributedDataParallel) see the call.

    Attributes:
        student: the detector that is saved when the training ends.
    """

    student: Detector

    @abstractmethod
    def losses(self, batch: Mapping[str, Any], generator: torch.Generator | None) -> dict[str, Tensor]:
        """Losses by name, scalars; `overall` is the one to differentiate.

        Args:
            batch: samples, collated: `images` (B, T, 3, H, W) and `label` (B,), or groups (G, D + 1, 3, H, W).
            generator: source of the draws, on the device of the images; None is torch's own.
        """

    def forward(self, batch: Mapping[str, Any], generator: torch.Generator | None = None) -> dict[str, Tensor]:
        return self.losses(batch, generator)


class CrossEntropy(Objective):
    """overall = mean over clips of -log softmax(logits)[label]."""

    def __init__(self, student: Detector) -> None:
        super().__init__()
        self.student = student

    def losses(self, batch: Mapping[str, Any], generator: torch.Generator | None) -> dict[str, Tensor]:
        return {"overall": F.cross_entropy(self.student(batch["images"]), batch["label"])}
