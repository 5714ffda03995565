"""Every operator again in plain torch, in the order of its equation; shares nothing with the kernels.

Same names and arguments as the operators of `dfops`. Slow and clear: the truth of the tests and the eager side of the
benchmarks. No argument checks.
"""

import torch
from torch import Tensor


def inconsistency_gate(x: Tensor, vertical: Tensor, horizontal: Tensor, gamma: Tensor | float) -> Tensor:
    attention = (torch.sigmoid(vertical) - 0.5) / 2 + (torch.sigmoid(horizontal) - 0.5) / 2
    return x + gamma * attention * x
