"""The arithmetic of directional_difference, CPU pieces and CUDA bodies alike, against NumPy."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.kernels.clips import AXES, from_memory, shapes, to_memory

TYPES = {"float32": 2e-5, "float64": 1e-13}


def taps_of(weight, length):
    """Every tap as (m, a filter (C, 1, 1), the positions it is multiplied at, the positions it reads)."""
    for m in range(weight.shape[1]):
        shift = m - weight.shape[1] // 2
        low, high = max(0, -shift), min(length, length - shift)
        if low < high:
            yield m, weight[:, m].reshape(-1, 1, 1), slice(low, high), slice(low + shift, high + shift)


def expected(x, weight, axis):
    rows = np.moveaxis(x, AXES[axis], -1)  # (B, T, C, the other side, length)
    out = np.zeros_like(rows)
    out[:, :-1] = -rows[:, :-1]
    for _, w, at, read in taps_of(weight, rows.shape[-1]):
        out[:, :-1, ..., at] += w * rows[:, 1:, ..., read]
    return np.moveaxis(out, -1, AXES[axis])


def expected_gradients(grad, x, weight, axis):
    rows, g = np.moveaxis(x, AXES[axis], -1), np.moveaxis(grad, AXES[axis], -1)
    grad_x, grad_weight = np.zeros_like(rows), np.zeros_like(weight)
    grad_x[:, :-1] = -g[:, :-1]
    for m, w, at, read in taps_of(weight, rows.shape[-1]):
        grad_x[:, 1:, ..., read] += w * g[:, :-1, ..., at]
        grad_weight[:, m] = (g[:, :-1, ..., at] * rows[:, 1:, ..., read]).sum((0, 1, 3, 4))
    return np.moveaxis(grad_x, -1, AXES[axis]), grad_weight


calls = {
    "shape": shapes(),
    "axis": st.sampled_from("HW"),
    "channels_last": st.booleans(),
    "taps": st.sampled_from([1, 3, 5, 7]),
    "elements": st.sampled_from([1, 10, 40, 200]),
    "seed": st.integers(0, 999),
}
# more packs than threads, in both layouts; more packs of channels than threads; lines too long to share a piece; lines
# that lack a tap in every row
wide = {"shape": (1, 3, 8, 20, 24), "taps": 3, "elements": 300, "seed": 1}
deep = {"shape": (2, 2, 140, 3, 2), "channels_last": True, "taps": 3, "elements": 1000, "seed": 2}
long = {"shape": (1, 2, 2, 2, 1100), "channels_last": False, "taps": 5, "elements": 3000, "seed": 3}
short = {"shape": (1, 2, 2, 3, 2), "taps": 7, "elements": 40, "seed": 4}


def draw(dtype, shape, taps, seed):
    rng = np.random.default_rng(seed)
    x, grad = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    return x, rng.standard_normal((shape[2], taps)).astype(dtype), grad


def double(*arrays):
    return [a.astype(np.float64) for a in arrays]


@pytest.mark.parametrize("dtype", TYPES)
@given(**calls)
@example(**wide, axis="H", channels_last=False)
@example(**wide, axis="W", channels_last=False)
@example(**wide, axis="H", channels_last=True)
@example(**wide, axis="W", channels_last=True)
@example(**deep, axis="H")
@example(**long, axis="W")
@example(**short, axis="W", channels_last=False)
def test_forward(kernels, dtype, shape, axis, channels_last, taps, elements, seed):
    x, weight, _ = draw(dtype, shape, taps, seed)
    want = expected(*double(x, weight), axis)
    call = (to_memory(x, channels_last), weight, shape, channels_last, AXES[axis])
    for out in (
        getattr(kernels, f"directional_difference_forward_{dtype}")(*call, elements, seed / 1000),
        getattr(kernels, f"directional_difference_block_forward_{dtype}")(*call, seed % 3 + 1, seed),
    ):
        have = from_memory(out, shape, channels_last)
        np.testing.assert_allclose(have, want, rtol=TYPES[dtype], atol=TYPES[dtype])


@pytest.mark.parametrize("dtype", TYPES)
@given(**calls)
@example(**wide, axis="H", channels_last=False)
@example(**wide, axis="W", channels_last=False)
@example(**wide, axis="H", channels_last=True)
@example(**wide, axis="W", channels_last=True)
@example(**deep, axis="H")
@example(**long, axis="W")
@example(**short, axis="W", channels_last=False)
def test_backward(kernels, dtype, shape, axis, channels_last, taps, elements, seed):
    x, weight, grad = draw(dtype, shape, taps, seed)
    want_x, want_weight = expected_gradients(*double(grad, x, weight), axis)
    grad[:, -1] = np.nan  # is never read
    memory = (to_memory(grad, channels_last), to_memory(x, channels_last))
    call = (*memory, weight, shape, channels_last, AXES[axis])
    tolerance = TYPES[dtype]
    for grad_x, grad_weight in (
        getattr(kernels, f"directional_difference_backward_{dtype}")(*call, elements, seed / 1000),
        getattr(kernels, f"directional_difference_block_backward_{dtype}")(*call, seed % 3 + 1, seed),
    ):
        np.testing.assert_allclose(from_memory(grad_x, shape, channels_last), want_x, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(grad_weight, want_weight, rtol=tolerance, atol=x.size * tolerance / 20)
