"""The training of DDL."""

from dataclasses import dataclass
from typing import ClassVar

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, StepLR

from dfmodels.training.recipe import Recipe, register

HALVED_EVERY = 8  # epochs


@register("ddl")
@dataclass(frozen=True)
class DDL(Recipe):
    """DDL as released: clips of consecutive frames, Adam, its rate halved every 8 of 20 epochs, no augmentation."""

    detector: ClassVar[str] = "ddl"
    draw: ClassVar[str] = "consecutive"

    epochs: int = 20
    batch_size: int = 12
    clips_per_video: int = 8

    def schedule(self, optimizer: Optimizer, steps_per_epoch: int) -> LRScheduler:
        """The rate of `learning_rate`, halved every 8 epochs."""
        return StepLR(optimizer, step_size=HALVED_EVERY * steps_per_epoch, gamma=0.5)
