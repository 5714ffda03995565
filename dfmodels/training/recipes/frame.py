"""The training of the plain frame classifier, as DeepfakeBench publishes its configuration."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dfmodels.detectors.frame import XCEPTION
from dfmodels.training.recipe import Recipe, register


@register("frame")
@dataclass(frozen=True)
class Frame(Recipe):
    """Cross-entropy on single frames, Adam at a constant rate; Xception sees no turned faces."""

    detector: ClassVar[str] = "frame"
    draw: ClassVar[str] = "frame"

    batch_size: int = 32
    learning_rate: float = 2e-4
    weight_decay: float = 5e-4
    clips_per_video: int = 32
    frames_per_video: int = 32

    def augmentation(self) -> Callable[[Tensor], Tensor]:
        from dfmodels.data.augmentation import frame_augmentation  # which takes a second to import torchvision

        return frame_augmentation(0.0 if self.model.get("encoder") == XCEPTION else 10.0)
