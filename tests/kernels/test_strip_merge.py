"""The arithmetic of strip_merge, CPU slabs and CUDA bodies alike, against NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kernels.clips import AXES, from_memory, shapes, to_memory, with_length

TYPES = {"float32": 2e-6, "float64": 1e-14}

calls = {
    "shape": shapes(),
    "axis": st.sampled_from("THW"),
    "channels_last": st.booleans(),
    "lengths": st.lists(st.integers(1, 11), min_size=1, max_size=8),
    "slab": st.sampled_from([1, 5, 64]),
    "elements": st.sampled_from([1, 100, 2000]),
    "seed": st.integers(0, 999),
}


def sources(length, size):
    return [i * length // size for i in range(size)]


@pytest.mark.parametrize("dtype", TYPES)
@given(**calls)
def test_forward(kernels, dtype, shape, axis, channels_last, lengths, slab, elements, seed):
    rng = np.random.default_rng(seed)
    size = shape[AXES[axis]]
    parts = [rng.standard_normal(with_length(shape, axis, n)).astype(dtype) for n in lengths]
    want = np.mean([p.astype(np.float64).take(sources(p.shape[AXES[axis]], size), AXES[axis]) for p in parts], axis=0)
    call = ([to_memory(p, channels_last) for p in parts], lengths, shape, channels_last, AXES[axis])
    for out in (
        getattr(kernels, f"strip_merge_forward_{dtype}")(*call, slab),
        getattr(kernels, f"strip_merge_block_forward_{dtype}")(*call, elements, seed % 3 + 1, seed),
    ):
        have = from_memory(out, shape, channels_last)
        np.testing.assert_allclose(have, want, rtol=TYPES[dtype], atol=TYPES[dtype])


@pytest.mark.parametrize("dtype", TYPES)
@given(**calls)
def test_backward(kernels, dtype, shape, axis, channels_last, lengths, slab, elements, seed):
    grad = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    rows = np.moveaxis(grad.astype(np.float64), AXES[axis], -1)
    call = (to_memory(grad, channels_last), lengths, shape, channels_last, AXES[axis])
    for out in (
        getattr(kernels, f"strip_merge_backward_{dtype}")(*call, slab),
        getattr(kernels, f"strip_merge_block_backward_{dtype}")(*call, elements, seed % 3 + 1, seed),
    ):
        for length, have in zip(lengths, out, strict=True):
            want = np.zeros((*rows.shape[:-1], length))
            for i, source in enumerate(sources(length, rows.shape[-1])):
                want[..., source] += rows[..., i] / len(lengths)
            want = np.moveaxis(want, -1, AXES[axis])
            have = from_memory(have, want.shape, channels_last)
            np.testing.assert_allclose(have, want, rtol=10 * TYPES[dtype], atol=10 * TYPES[dtype])
