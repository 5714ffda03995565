"""The trainings of STIL: the authors', and DeepfakeBench's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from dfmodels.training.recipe import Recipe, register
from dfmodels.video.sampling import SPAN

LOWEST_RATE = 1e-6


@register("stil")
@dataclass(frozen=True)
class STIL(Recipe):
    """STIL as released: frames spread over the video, clips reversed and mirrored, Adam with a warm-up.

    The release trains on 8 devices with 10 clips each, on one manipulation at a time, so that as many videos are real
    as fake.
    """

    detector: ClassVar[str] = "stil"
    draw: ClassVar[str] = "segments"

    epochs: int = 99
    batch_size: int = 10
    weight_decay: float = 1e-5
    frames_per_video: int = SPAN
    margins: tuple[float, float] | None = (1.0, 1.5)
    balance: str = "oversample"

    def augmentation(self) -> Callable[[Tensor], Tensor]:
        return reverse_and_mirror

    def schedule(self, optimizer: Optimizer, steps_per_epoch: int) -> LRScheduler:
        """The schedule of the release.

        With E steps an epoch the rate rises linearly to `learning_rate` during the first E steps, stays there for 5 E,
        is a tenth of it up to 20 E behind the rise, then a twentieth; behind the rise it never falls below LOWEST_RATE.
        """

        def factor(steps_done: int) -> float:
            step = steps_done + 1
            if step <= steps_per_epoch:
                return step / steps_per_epoch
            behind = step - steps_per_epoch
            decay = 1.0 if behind <= 5 * steps_per_epoch else 0.1 if behind <= 20 * steps_per_epoch else 0.05
            return max(decay, LOWEST_RATE / self.learning_rate)

        return LambdaLR(optimizer, factor)


@register("stil-deepfakebench")
@dataclass(frozen=True)
class STILDeepfakeBench(Recipe):
    """STIL as DeepfakeBench trains it: consecutive frames, the bench's augmentation, Adam at a constant rate."""

    detector: ClassVar[str] = "stil"
    draw: ClassVar[str] = "bench"

    learning_rate: float = 2e-4
    weight_decay: float = 5e-4
    clips_per_video: int = 4
    frames_per_video: int = 32
    model: Mapping[str, Any] = field(default_factory=lambda: {"preset": "deepfakebench"})

    def augmentation(self) -> Callable[[Tensor], Tensor]:
        from dfmodels.data.augmentation import stil_bench_augmentation  # which takes a second to import torchvision

        return stil_bench_augmentation()


def reverse_and_mirror(clip: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """STIL's augmentation of a training clip: reversed in time, and mirrored, each with probability 1/2.

    Args:
        clip: (T, ..., H, W), any type; all frames are mirrored alike.
        generator: source of the draws, on the CPU; None is torch's own.

    Returns:
        The same shape and type; the input is left unchanged.

    Raises:
        ValueError: a clip of fewer than three axes.
    """
    if clip.dim() < 3:
        raise ValueError(f"clip must be (T, ..., H, W), got shape {tuple(clip.shape)}")
    reverse, mirror = (torch.rand(2, generator=generator) < 0.5).tolist()
    return clip.flip([0] * reverse + [-1] * mirror)
