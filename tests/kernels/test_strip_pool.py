"""The arithmetic of strip_pool, CPU slabs and CUDA bodies alike, against NumPy."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.kernels.clips import AXES, from_memory, shapes, to_memory, with_length

TYPES = {"float32": 2e-5, "float64": 1e-13}


def pooled(x, axis, scale):
    """Means over windows, the axis last."""
    rows = np.moveaxis(x, AXES[axis], -1)
    count = rows.shape[-1] // scale
    return rows[..., : count * scale].reshape(*rows.shape[:-1], count, scale).mean(-1)


def expected(x, weight, axis, scales):
    out = []
    for direction in [None] if weight is None else weight:
        for s, scale in enumerate(scales):
            y = mean = pooled(x, axis, scale)
            if direction is not None:
                y = np.zeros_like(mean)
                length = mean.shape[-1]
                for m in range(direction.shape[2]):
                    shift = m - direction.shape[2] // 2
                    # out[j] takes mean[j + shift]
                    w = direction[s, :, m].reshape(channel_shape(axis))
                    low, high = max(0, -shift), min(length, length - shift)
                    if low < high:
                        y[..., low:high] += w * mean[..., low + shift : high + shift]
            out.append(np.moveaxis(y, -1, AXES[axis]))
    return out


def channel_shape(axis):
    """Channels among the axes that remain when one is moved to the end."""
    return (-1, 1, 1, 1) if axis == "T" else (-1, 1, 1)


def expected_gradients(grads, x, weight, axis, scales):
    grad_x = np.zeros(np.moveaxis(x, AXES[axis], -1).shape)
    grad_weight = None if weight is None else np.zeros(weight.shape)
    for ds, grad in enumerate(grads):
        d, s = divmod(ds, len(scales))
        g, mean = np.moveaxis(grad, AXES[axis], -1), pooled(x, axis, scales[s])
        length = g.shape[-1]
        through = g
        if weight is not None:
            through = np.zeros_like(g)
            channel_axis = g.ndim - len(channel_shape(axis))
            others = tuple(a for a in range(g.ndim) if a != channel_axis)
            for m in range(weight.shape[3]):
                shift = m - weight.shape[3] // 2
                low, high = max(0, -shift), min(length, length - shift)
                if low >= high:
                    continue
                w = weight[d, s, :, m].reshape(channel_shape(axis))
                through[..., low + shift : high + shift] += w * g[..., low:high]
                grad_weight[d, s, :, m] += (g[..., low:high] * mean[..., low + shift : high + shift]).sum(others)
        spread = np.repeat(through / scales[s], scales[s], axis=-1)
        grad_x[..., : spread.shape[-1]] += spread
    return np.moveaxis(grad_x, -1, AXES[axis]), grad_weight


calls = {
    "shape": shapes(),
    "axis": st.sampled_from("THW"),
    "channels_last": st.booleans(),
    "scales": st.lists(st.integers(1, 5), min_size=1, max_size=3),
    "directions": st.integers(0, 2),  # 0: no weight
    "taps": st.sampled_from([1, 3, 5, 7]),
    "tile": st.sampled_from([1, 4, 8, 32]),
    "seed": st.integers(0, 999),
}
# more than one slab of positions, in both layouts
wide = {"shape": (1, 3, 8, 20, 20), "scales": [1, 2, 4], "directions": 2, "taps": 3, "tile": 32, "seed": 1}
vast = {"shape": (1, 3, 2, 4, 5), "scales": [2**32, 2], "directions": 2, "taps": 3, "tile": 4, "seed": 3}
long = {"shape": (1, 2, 4, 3, 300), "scales": [3, 1], "directions": 1, "taps": 5, "tile": 4, "seed": 2}


def draw(dtype, shape, axis, scales, directions, taps, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape).astype(dtype)
    weight = rng.standard_normal((directions, len(scales), shape[2], taps)).astype(dtype) if directions else None
    lengths = [shape[AXES[axis]] // s for s in scales] * max(directions, 1)
    grads = [rng.standard_normal(with_length(shape, axis, n)).astype(dtype) for n in lengths]
    return x, weight, grads


@pytest.mark.parametrize("dtype", TYPES)
@given(**calls)
@example(**wide, axis="T", channels_last=False)
@example(**wide, axis="T", channels_last=True)
@example(**wide, axis="H", channels_last=True)
@example(**long, axis="W", channels_last=False)
@example(**vast, axis="H", channels_last=False)
@example(**vast | {"directions": 0}, axis="T", channels_last=True)
def test_forward(kernels, dtype, shape, axis, channels_last, scales, directions, taps, tile, seed):
    x, weight, _ = draw(dtype, shape, axis, scales, directions, taps, seed)
    want = expected(x.astype(np.float64), weight, axis, scales)
    none = np.zeros(0, dtype)
    call = (to_memory(x, channels_last), shape, channels_last, AXES[axis], scales, none if weight is None else weight)
    for out in (
        getattr(kernels, f"strip_pool_forward_{dtype}")(*call, seed / 1000),
        getattr(kernels, f"strip_pool_block_forward_{dtype}")(*call, tile, seed % 3 + 1, seed),
        getattr(kernels, f"strip_pool_direct_forward_{dtype}")(*call, seed),
    ):
        assert len(out) == len(want)
        for have, expect in zip(out, want, strict=True):
            have = from_memory(have, expect.shape, channels_last)
            np.testing.assert_allclose(have, expect, rtol=TYPES[dtype], atol=TYPES[dtype])


@pytest.mark.parametrize("dtype", TYPES)
@given(**calls)
@example(**wide, axis="T", channels_last=False)
@example(**wide, axis="T", channels_last=True)
@example(**wide, axis="H", channels_last=True)
@example(**long, axis="W", channels_last=False)
@example(**vast, axis="H", channels_last=False)
@example(**vast | {"directions": 0}, axis="T", channels_last=True)
def test_backward(kernels, dtype, shape, axis, channels_last, scales, directions, taps, tile, seed):
    x, weight, grads = draw(dtype, shape, axis, scales, directions, taps, seed)
    double = None if weight is None else weight.astype(np.float64)
    want_x, want_weight = expected_gradients(
        [g.astype(np.float64) for g in grads], x.astype(np.float64), double, axis, scales
    )
    none = np.zeros(0, dtype)
    call = (
        [to_memory(g, channels_last) for g in grads],
        to_memory(x, channels_last), shape, channels_last, AXES[axis], scales, none if weight is None else weight,
    )  # fmt: skip
    tolerance = TYPES[dtype]
    for grad_x, grad_weight in (
        getattr(kernels, f"strip_pool_backward_{dtype}")(*call, seed / 1000),
        getattr(kernels, f"strip_pool_block_backward_{dtype}")(*call, tile, seed % 3 + 1, seed),
        getattr(kernels, f"strip_pool_direct_backward_{dtype}")(*call, seed),
    ):
        have = from_memory(grad_x, shape, channels_last)
        np.testing.assert_allclose(have, want_x, rtol=tolerance, atol=tolerance)
        if weight is not None:
            np.testing.assert_allclose(grad_weight, want_weight, rtol=tolerance, atol=x.size * tolerance / 20)
