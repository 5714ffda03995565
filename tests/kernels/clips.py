"""Clips as the flat memory that kernels of one axis take."""

import numpy as np
from hypothesis import strategies as st

AXES = {"T": 1, "H": 3, "W": 4}


def shapes():
    """(B, T, C, H, W), no axis empty: host functions return before a kernel sees an empty clip."""
    return st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 9), st.integers(1, 7), st.integers(1, 8))


def to_memory(maps, channels_last):
    """Of clips, and of maps (N, C, H, W)."""
    return (np.moveaxis(maps, -3, -1) if channels_last else maps).flatten()


def from_memory(memory, shape, channels_last):
    if not channels_last:
        return memory.reshape(shape)
    *outer, c, h, w = shape
    return np.moveaxis(memory.reshape(*outer, h, w, c), -1, -3)


def with_length(shape, axis, length):
    return (*shape[: AXES[axis]], length, *shape[AXES[axis] + 1 :])
