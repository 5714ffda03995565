"""The arithmetic of latent_rotate, CPU loops and CUDA bodies alike, against NumPy in float64."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.kernels.clips import from_memory, to_memory

TYPES = {"float32": 3e-5, "float64": 1e-12}
MODES, PADDINGS = ("bilinear", "nearest"), ("zeros", "border", "reflection")
WEIGHTS, READERS = 0, 2


def folded(at, size, padding):
    """A coordinate brought into the map, and its derivative."""
    slope = np.ones_like(at)
    if padding == "zeros":
        return at, slope
    if padding == "reflection":
        period = np.mod(at + 0.5, 2 * size)
        at = np.where(period < size, period, 2 * size - period) - 0.5
        slope = np.where(period < size, 1.0, -1.0)
    return np.clip(at, 0, size - 1), np.where((at > 0) & (at < size - 1), slope, 0)


def matrices(angle, h, w, mode, padding):
    """Weights and their derivatives in the angle as dense matrices (output positions, pixels)."""
    y, x = np.meshgrid((2 * np.arange(h) + 1) / h - 1, (2 * np.arange(w) + 1) / w - 1, indexing="ij")
    c, s = np.cos(angle), np.sin(angle)
    row, row_slope = folded((((x * s + y * c) + 1) * h - 1) / 2, h, padding)
    col, col_slope = folded((((x * c - y * s) + 1) * w - 1) / 2, w, padding)
    row_slope, col_slope = row_slope * h / 2 * (x * c - y * s), -col_slope * w / 2 * (x * s + y * c)
    if mode == "nearest":
        row, col = np.rint(row), np.rint(col)
    weight, slope = np.zeros((h * w, h, w)), np.zeros((h * w, h, w))
    for p, (r, q, dr, dq) in enumerate(zip(*(a.ravel() for a in (row, col, row_slope, col_slope)), strict=True)):
        by_row, by_col = np.maximum(1 - abs(np.arange(h) - r), 0), np.maximum(1 - abs(np.arange(w) - q), 0)
        weight[p] = np.outer(by_row, by_col)
        if mode == "bilinear":
            near_row, near_col = (by_row > 0) * np.sign(np.arange(h) - r), (by_col > 0) * np.sign(np.arange(w) - q)
            slope[p] = np.outer(near_row * dr, by_col) + np.outer(by_row, near_col * dq)
    return weight.reshape(h * w, h * w), slope.reshape(h * w, h * w)


def away_from_kinks(angle, h, w, dtype):
    """An angle whose source coordinates all keep a distance from whole and half numbers."""
    rng = np.random.default_rng(int(abs(angle) * 1e6))
    while True:
        angle = np.asarray(angle, dtype).item()
        y, x = np.meshgrid((2 * np.arange(h) + 1) / h - 1, (2 * np.arange(w) + 1) / w - 1, indexing="ij")
        row = ((x * np.sin(angle) + y * np.cos(angle) + 1) * h - 1) / 2
        col = ((x * np.cos(angle) - y * np.sin(angle) + 1) * w - 1) / 2
        # a centre stays where it is
        moved = np.concatenate([row[(x != 0) | (y != 0)], col[(x != 0) | (y != 0)]])
        if (abs(2 * moved - np.rint(2 * moved)) > 2e-5).all():
            return angle
        angle += rng.uniform(-0.02, 0.02)


calls = {
    "shape": st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    "channels_last": st.booleans(),
    "mode": st.sampled_from(MODES),
    "padding": st.sampled_from(PADDINGS),
    "angle": st.floats(-4, 4),
    "tile": st.sampled_from([1, 5, 64]),
    "seed": st.integers(0, 999),
}
lsda = {"mode": "bilinear", "padding": "zeros", "angle": 0.5, "tile": 64, "seed": 1}
# more channels than a group of lanes, and than a block's; more positions than a transposed run
deep = {"shape": (2, 150, 3, 2), **lsda}
wide = {"shape": (1, 3, 9, 20), **lsda}
# a quarter turn of a long map: up to 31 positions read one pixel, more than a block keeps
long = {"shape": (2, 5, 2, 33), **lsda, "angle": 1.5}


def prepare(dtype, shape, mode, padding, angle, seed):
    n, _, h, w = shape
    rng = np.random.default_rng(seed)
    x, grad = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    angles = np.array([away_from_kinks(angle + i, h, w, dtype) for i in range(n)], dtype)
    tables = [matrices(float(a), h, w, mode, padding) for a in angles]
    weight, slope = (np.stack(kind) for kind in zip(*tables, strict=True))
    return x, grad, angles, weight, slope


def examples(test):
    for case in (deep, wide, long):
        for channels_last in (False, True):
            test = example(**case, channels_last=channels_last)(test)
    return test


@pytest.mark.parametrize("dtype", TYPES)
@given(**calls)
@examples
def test_maps_and_their_gradients(kernels, dtype, shape, channels_last, mode, padding, angle, tile, seed):
    x, grad, angles, weight, _ = prepare(dtype, shape, mode, padding, angle, seed)
    names = (MODES.index(mode), PADDINGS.index(padding))
    for what, values, pattern in ((WEIGHTS, x, "npq,ncq->ncp"), (READERS, grad, "npq,ncp->ncq")):
        want = np.einsum(pattern, weight, values.astype(np.float64).reshape(*shape[:2], -1)).reshape(shape)
        call = (to_memory(values, channels_last), angles, shape, channels_last, *names, what)
        for out in (
            getattr(kernels, f"latent_rotate_apply_{dtype}")(*call, seed / 1000),
            getattr(kernels, f"latent_rotate_block_apply_{dtype}")(*call, tile, seed),
        ):
            have = from_memory(out, shape, channels_last)
            # a pixel of a border may be read by many positions
            tolerance = TYPES[dtype] * np.maximum(1, weight.sum(1).max())
            np.testing.assert_allclose(have, want, rtol=TYPES[dtype], atol=tolerance)


@pytest.mark.parametrize("dtype", TYPES)
@given(**calls)
@examples
def test_gradient_of_the_angle(kernels, dtype, shape, channels_last, mode, padding, angle, tile, seed):
    x, grad, angles, _, slope = prepare(dtype, shape, mode, padding, angle, seed)
    flat = (a.astype(np.float64).reshape(*shape[:2], -1) for a in (grad, x))
    want = np.einsum("ncp,npq,ncq->n", next(flat), slope, next(flat))
    call = (to_memory(grad, channels_last), to_memory(x, channels_last), angles, shape, channels_last)
    call = (*call, MODES.index(mode), PADDINGS.index(padding))
    tolerance = TYPES[dtype] * max(shape[2:]) * np.sqrt(x.size) * 3
    for out in (
        getattr(kernels, f"latent_rotate_slopes_{dtype}")(*call, seed / 1000).sum(1),
        getattr(kernels, f"latent_rotate_block_slopes_{dtype}")(*call, tile, seed),
    ):
        np.testing.assert_allclose(out, want, rtol=TYPES[dtype], atol=tolerance)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("mode", MODES)
def test_angles_that_are_no_numbers(kernels, mode, padding, channels_last):
    """Nothing is read outside the map; what grid_sample makes of them: NaN, zeros, or the first pixel."""
    shape = (2, 5, 4, 3)
    x = np.random.default_rng(0).standard_normal(shape)
    angles = np.array([np.nan, np.inf])
    call = (angles, shape, channels_last, MODES.index(mode), PADDINGS.index(padding))
    share = {"bilinear": np.nan, "nearest": 0.0}[mode] if padding == "zeros" else 1.0
    want = np.broadcast_to(share * x[:, :, :1, :1], shape)
    total = np.zeros(shape)
    total[:, :, 0, 0] = share * x.sum((2, 3))
    for what, expect in ((WEIGHTS, want), (READERS, total)):
        for out in (
            kernels.latent_rotate_apply_float64(to_memory(x, channels_last), *call, what, 0.5),
            kernels.latent_rotate_block_apply_float64(to_memory(x, channels_last), *call, what, 5, 0),
        ):
            np.testing.assert_allclose(from_memory(out, shape, channels_last), expect, atol=1e-12)
