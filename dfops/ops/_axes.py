"""The axes along which strip operators act."""

from torch import Tensor

DIMENSIONS = {"T": 1, "H": 3, "W": 4}


def dimension_of(axis: str) -> int:
    """The dimension of (B, T, C, H, W) that an axis name stands for."""
    if axis not in DIMENSIONS:
        raise ValueError(f'axis must be "T", "H" or "W", got {axis!r}')
    return DIMENSIONS[axis]


def with_length(clip: Tensor, dim: int, length: int) -> tuple[int, ...]:
    """Shape of `clip` with another length along one dimension."""
    return (*clip.shape[:dim], length, *clip.shape[dim + 1 :])
