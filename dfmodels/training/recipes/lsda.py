"""The training of LSDA."""

from torch import nn
from torch.optim import Adam
from torch.optim.lr_scheduler import ConstantLR

EPOCHS = 51  # "50", and the released loop runs one more


def lsda(training: nn.Module) -> tuple[Adam, ConstantLR]:
    """LSDA as DeepfakeBench trains it: Adam at a constant 2e-4 with weight decay 5e-4, in batches of 4 groups."""
    optimizer = Adam((p for p in training.parameters() if p.requires_grad), lr=2e-4, weight_decay=5e-4)
    return optimizer, ConstantLR(optimizer, factor=1.0)
