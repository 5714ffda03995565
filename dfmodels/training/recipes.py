"""Optimisers, schedules and augmentations of the published training scripts."""

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import ConstantLR, LambdaLR, StepLR

DDL_EPOCHS = 20
STIL_EPOCHS = 99
STIL_DEEPFAKEBENCH_EPOCHS = 10
STIL_LOWEST_RATE = 1e-6
LSDA_EPOCHS = 51  # "50", and the released loop runs one more


def ddl(model: nn.Module) -> tuple[Adam, StepLR]:
    """Adam at 1e-3, halved every 8 of 20 epochs, as released; the loss is cross-entropy of the logits."""
    optimizer = Adam(model.parameters(), lr=1e-3)
    return optimizer, StepLR(optimizer, step_size=8, gamma=0.5)


def stil(model: nn.Module, *, steps_per_epoch: int, learning_rate: float = 1e-3) -> tuple[Adam, LambdaLR]:
    """Adam with weight decay 1e-5 and the schedule of the release; the loss is cross-entropy of the logits.

    The schedule is stepped after every step of the optimiser. With E steps an epoch the rate rises linearly to
    `learning_rate` during the first E steps, stays there for 5 E, is a tenth of it up to 20 E behind the rise, then a
    twentieth; behind the rise it never falls below STIL_LOWEST_RATE.

    Args:
        model: the detector.
        steps_per_epoch: E, at least 1.
        learning_rate: highest rate.

    Raises:
        ValueError: `steps_per_epoch` below 1.
    """
    if steps_per_epoch < 1:
        raise ValueError(f"steps_per_epoch must be at least 1, got {steps_per_epoch}")
    optimizer = Adam(model.parameters(), lr=learning_rate, weight_decay=1e-5)

    def factor(steps_done: int) -> float:
        step = steps_done + 1
        if step <= steps_per_epoch:
            return step / steps_per_epoch
        behind = step - steps_per_epoch
        decay = 1.0 if behind <= 5 * steps_per_epoch else 0.1 if behind <= 20 * steps_per_epoch else 0.05
        return max(decay, STIL_LOWEST_RATE / learning_rate)

    return optimizer, LambdaLR(optimizer, factor)


def stil_deepfakebench(model: nn.Module) -> tuple[Adam, ConstantLR]:
    """STIL as DeepfakeBench trains it: Adam at a constant 2e-4 with weight decay 5e-4, 10 epochs."""
    optimizer = Adam(model.parameters(), lr=2e-4, weight_decay=5e-4)
    return optimizer, ConstantLR(optimizer, factor=1.0)


def lsda(training: nn.Module) -> tuple[Adam, ConstantLR]:
    """LSDA as DeepfakeBench trains it: Adam at a constant 2e-4 with weight decay 5e-4, in batches of 4 groups."""
    optimizer = Adam((p for p in training.parameters() if p.requires_grad), lr=2e-4, weight_decay=5e-4)
    return optimizer, ConstantLR(optimizer, factor=1.0)


def stil_augment(clip: Tensor, generator: torch.Generator | None = None) -> Tensor:
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
