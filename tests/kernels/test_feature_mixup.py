"""The arithmetic of feature_mixup, CPU loops and CUDA bodies alike, against NumPy."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

TYPES = {"float32": 2e-6, "float64": 1e-14}
calls = {"rows": st.integers(1, 9), "row": st.integers(1, 40), "seed": st.integers(0, 999)}


def draw(dtype, rows, row, seed):
    rng = np.random.default_rng(seed)
    x, grad = (rng.standard_normal((rows, row)).astype(dtype) for _ in range(2))
    return x, grad, rng.integers(0, rows, rows), rng.random(rows).astype(dtype)


def expected(x, index, lam):
    return lam[:, None] * x + (1 - lam[:, None]) * x[index]


def expected_gradients(grad, x, index, lam):
    grad_x = lam[:, None] * grad
    np.add.at(grad_x, index, (1 - lam[:, None]) * grad)
    return grad_x, (grad * (x - x[index])).sum(1)


def bodies(kernels, name, dtype, row):
    yield getattr(kernels, f"feature_mixup_block_{name}_{dtype}")
    if row % (16 // np.dtype(dtype).itemsize) == 0:
        yield getattr(kernels, f"feature_mixup_block_{name}_packed_{dtype}")


@pytest.mark.parametrize("dtype", TYPES)
@given(**calls)
@example(rows=3, row=400, seed=1)  # several blocks a row
def test_forward(kernels, dtype, rows, row, seed):
    x, _, index, lam = draw(dtype, rows, row, seed)
    want = expected(*(a.astype(np.float64) for a in (x,)), index, lam.astype(np.float64))
    blend = getattr(kernels, f"feature_mixup_blend_{dtype}")
    results = [np.stack([blend(x[i], x[index[i]], lam[i]) for i in range(rows)])]
    results += [body(x, index, lam, seed) for body in bodies(kernels, "forward", dtype, row)]
    for out in results:
        np.testing.assert_allclose(out, want, rtol=TYPES[dtype], atol=TYPES[dtype])


@pytest.mark.parametrize("dtype", TYPES)
@given(**calls)
@example(rows=3, row=400, seed=1)
@example(rows=75, row=4, seed=2)  # more rows than a block has threads
@example(rows=2, row=2500, seed=3)  # more elements than a CPU buffer holds
def test_backward(kernels, dtype, rows, row, seed):
    x, grad, index, lam = draw(dtype, rows, row, seed)
    want_x, want_lam = expected_gradients(*(a.astype(np.float64) for a in (grad, x)), index, lam.astype(np.float64))
    gather, share = (getattr(kernels, f"feature_mixup_{name}_{dtype}") for name in ("gather", "lam"))
    cpu_x = [gather(grad, j, np.flatnonzero(index == j), lam) for j in range(rows)]
    cpu_lam = [share(grad[i], x[i], x[index[i]]) for i in range(rows)]
    results = [(np.stack(cpu_x), np.array(cpu_lam))]
    results += [body(grad, x, index, lam, True, True, seed) for body in bodies(kernels, "backward", dtype, row)]
    for grad_x, grad_lam in results:
        np.testing.assert_allclose(grad_x, want_x, rtol=TYPES[dtype], atol=rows * TYPES[dtype])
        np.testing.assert_allclose(grad_lam, want_lam, rtol=TYPES[dtype], atol=row * TYPES[dtype])


@pytest.mark.parametrize("dtype", TYPES)
def test_one_gradient_alone(kernels, dtype):
    x, grad, index, lam = draw(dtype, 5, 8, 0)
    for body in bodies(kernels, "backward", dtype, 8):
        both = body(grad, x, index, lam, True, True, 0)
        np.testing.assert_array_equal(body(grad, x, index, lam, True, False, 1)[0], both[0])
        np.testing.assert_array_equal(body(grad, x, index, lam, False, True, 2)[1], both[1])


def test_index_out_of_range_is_clamped(kernels):
    x, grad, _, lam = draw("float64", 4, 6, 0)
    wild, clamped = np.array([-1, 4, 2**62, -(2**62)]), np.array([0, 3, 3, 0])
    np.testing.assert_array_equal(
        kernels.feature_mixup_block_forward_float64(x, wild, lam, 0),
        kernels.feature_mixup_block_forward_float64(x, clamped, lam, 0),
    )
    for one, other in zip(
        kernels.feature_mixup_block_backward_float64(grad, x, wild, lam, True, True, 0),
        kernels.feature_mixup_block_backward_float64(grad, x, clamped, lam, True, True, 0),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
