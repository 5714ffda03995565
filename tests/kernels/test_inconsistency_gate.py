"""The arithmetic of the gate, CPU loops and CUDA bodies alike, against NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

TYPES = {"float32": 2e-6, "float64": 1e-14}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def expected(x, v, h, gamma):
    return x + gamma * x * ((sigmoid(v) - 0.5) / 2 + (sigmoid(h) - 0.5) / 2)


def expected_gradients(g, x, v, h, gamma):
    attention = (sigmoid(v) - 0.5) / 2 + (sigmoid(h) - 0.5) / 2
    slope_v, slope_h = sigmoid(v) * (1 - sigmoid(v)), sigmoid(h) * (1 - sigmoid(h))
    return (
        g * (1 + gamma * attention),
        g * gamma * x * slope_v / 2,
        g * gamma * x * slope_h / 2,
        (g * x * attention).sum(),
    )


def draw(seed, n, dtype, count):
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal(n) * 3).astype(dtype) for _ in range(count)]


@pytest.mark.parametrize("dtype", TYPES)
@given(n=st.integers(0, 300), seed=st.integers(0, 999))
def test_forward(kernels, dtype, n, seed):
    x, v, h = draw(seed, n, dtype, 3)
    want = expected(*(a.astype(np.float64) for a in (x, v, h)), 0.7)
    for out in (
        getattr(kernels, f"gate_forward_{dtype}")(x, v, h, 0.7),
        getattr(kernels, f"gate_block_forward_{dtype}")(x, v, h, 1.4, 0.5, seed % 3 + 1, seed),
        getattr(kernels, f"gate_block_forward_unaligned_{dtype}")(x, v, h, 1.4, 0.5, seed % 3 + 1, seed),
    ):
        np.testing.assert_allclose(out, want, rtol=TYPES[dtype], atol=TYPES[dtype])


@pytest.mark.parametrize("dtype", TYPES)
@given(n=st.integers(0, 300), seed=st.integers(0, 999))
def test_backward(kernels, dtype, n, seed):
    g, x, v, h = draw(seed, n, dtype, 4)
    want = expected_gradients(*(a.astype(np.float64) for a in (g, x, v, h)), 0.7)
    cpu = getattr(kernels, f"gate_backward_{dtype}")(g, x, v, h, 0.7)
    cuda = getattr(kernels, f"gate_block_backward_{dtype}")(g, x, v, h, 1.4, 0.5, seed % 3 + 1, seed)
    tolerance = 20 * TYPES[dtype]
    for out, scale in ((cpu, 1), (cuda, 0.5)):
        for have, expect in zip(out[:3], want[:3], strict=True):
            np.testing.assert_allclose(have, expect, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(out[3], scale * want[3], rtol=1e-4, atol=n * tolerance)


@pytest.mark.parametrize("dtype", TYPES)
def test_extreme_arguments_of_the_sigmoid(kernels, dtype):
    v = np.array([-np.inf, -1e4, -100, -88, 0, 88, 100, 1e4, np.inf, np.nan], dtype)
    one = np.ones_like(v)
    out = getattr(kernels, f"gate_forward_{dtype}")(one, v, v, 1.0)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(out, expected(one, v, v, 1.0), rtol=1e-6)
