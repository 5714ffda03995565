"""Every operator again in plain torch, in the order of its equation; shares nothing with the kernels.

Same names and arguments as the operators of `dfops`. Slow and clear: the truth of the tests and the eager side of the
benchmarks. No argument checks.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_DIMENSIONS = {"T": 1, "H": 3, "W": 4}


def inconsistency_gate(x: Tensor, vertical: Tensor, horizontal: Tensor, gamma: Tensor | float) -> Tensor:
    attention = (torch.sigmoid(vertical) - 0.5) / 2 + (torch.sigmoid(horizontal) - 0.5) / 2
    return x + gamma * attention * x


def strip_pool(x: Tensor, weight: Tensor | None = None, *, axis: str, scales: Sequence[int] = (1, 2, 4)) -> list[Any]:
    if weight is not None and weight.dim() == 4:
        return [strip_pool(x, direction, axis=axis, scales=scales) for direction in weight]
    dim = _DIMENSIONS[axis]
    out = []
    for s, scale in enumerate(scales):
        windows = x.narrow(dim, 0, x.shape[dim] // scale * scale).unflatten(dim, (x.shape[dim] // scale, scale))
        mean = windows.mean(dim + 1)
        if weight is not None:
            half, length = weight.shape[-1] // 2, mean.shape[dim]
            padding = [0, 0] * (4 - dim) + [half, half]
            padded = F.pad(mean, padding)
            taps = [weight[s, :, m].reshape(-1, 1, 1) * padded.narrow(dim, m, length) for m in range(weight.shape[-1])]
            mean = torch.stack(taps).sum(0)
        out.append(mean)
    return out


def strip_merge(parts: Sequence[Tensor], size: int, *, axis: str) -> Tensor:
    dim = _DIMENSIONS[axis]
    position = torch.arange(size, device=parts[0].device)
    # a size of 0 has no positions to divide
    repeated = [part.index_select(dim, position * part.shape[dim] // max(size, 1)) for part in parts]
    return torch.stack(repeated).mean(0)
