"""Optimisers and schedules of the published training scripts."""

from torch import nn
from torch.optim import Adam
from torch.optim.lr_scheduler import StepLR

DDL_EPOCHS = 20


def ddl(model: nn.Module) -> tuple[Adam, StepLR]:
    """Adam at 1e-3, halved every 8 of 20 epochs, as released; the loss is cross-entropy of the logits."""
    optimizer = Adam(model.parameters(), lr=1e-3)
    return optimizer, StepLR(optimizer, step_size=8, gamma=0.5)
