"""Clips as the flat memory that kernels of one axis take."""

from hypothesis import strategies as st

AXES = {"T": 1, "H": 3, "W": 4}
CHANNELS_LAST = (0, 1, 3, 4, 2)


def shapes():
    """(B, T, C, H, W), no axis empty: host functions return before a kernel sees an empty clip."""
    return st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 9), st.integers(1, 7), st.integers(1, 8))


def to_memory(clip, channels_last):
    return (clip.transpose(CHANNELS_LAST) if channels_last else clip).flatten()


def from_memory(memory, shape, channels_last):
    if not channels_last:
        return memory.reshape(shape)
    b, t, c, h, w = shape
    return memory.reshape(b, t, h, w, c).transpose(0, 1, 4, 2, 3)


def with_length(shape, axis, length):
    return (*shape[: AXES[axis]], length, *shape[AXES[axis] + 1 :])
