"""The arithmetic of paired_cosine, CPU tiles and CUDA bodies alike, against NumPy."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

TYPES = {"float32": 1e-5, "float64": 1e-13}


def units(maps, eps):
    norms = np.sqrt((maps**2).sum(2, keepdims=True))
    return norms, maps / (norms + eps)


def expected(maps, signs, eps):
    """out (G, P), norms (G, K + 1, P) and cosines (G, K, P) of maps (G, K + 1, C, P)."""
    norms, unit = units(maps, eps)
    cosines = (unit[:, :1] * unit[:, 1:]).sum(2)
    return (signs[:, None] * (1 - cosines)).sum(1), norms[:, :, 0], cosines


def expected_gradients(grad, maps, signs, eps):
    """Of the units first, then through each norm: those of the anchor (G, C, P) and of the others (G, K, C, P).

    Beside them the size, for every vector, of the terms that they are the difference of.
    """
    norms, unit = units(maps, eps)
    weight = -(signs[:, None, None] * grad[:, None, None])
    of_units = np.concatenate([(weight * unit[:, 1:]).sum(1, keepdims=True), weight * unit[:, :1]], 1)
    inverse = np.where(norms > 0, 1 / np.where(norms > 0, norms, 1), 0)
    through = (of_units * maps).sum(2, keepdims=True) * inverse / (norms + eps) ** 2
    grads = of_units / (norms + eps) - through * maps
    size = np.abs(weight)
    terms = np.concatenate([size.sum(1, keepdims=True), size], 1) / (norms + eps)
    return (grads[:, 0], grads[:, 1:]), (terms[:, 0], terms[:, 1:])


def to_memory(maps, channels_fastest, unused):
    """Rows (G, elements): the maps of a group, and elements that are not to be read."""
    rows = (maps.swapaxes(2, 3) if channels_fastest else maps).reshape(len(maps), -1)
    return np.concatenate([rows, np.full((len(maps), unused), np.nan, maps.dtype)], 1)


def from_memory(memory, shape, channels_fastest):
    """(..., C, P) of any number of maps."""
    c, p = shape[-2:]
    if channels_fastest:
        return memory.reshape(*shape[:-2], p, c).swapaxes(-1, -2)
    return memory.reshape(shape)


calls = {
    "shape": st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(0, 40), st.integers(1, 40)),
    "channels_fastest": st.booleans(),
    "eps": st.sampled_from([1e-8, 0.25]),
    "unused": st.integers(0, 3),
    "tile": st.sampled_from([1, 3, 16, 128]),
    "zeros": st.booleans(),  # vectors of norm 0 among the others
    "seed": st.integers(0, 999),
}
# rows longer than the CPU's buffer; several tiles; more others than a block takes at once, and the most there may be
long = {"shape": (1, 3, 1100, 2), "channels_fastest": True, "seed": 1, "tile": 16}
wide = {"shape": (2, 4, 9, 600), "channels_fastest": False, "seed": 2, "tile": 600}
many = {"shape": (1, 257, 5, 3), "seed": 3, "tile": 3}
rest = {"eps": 0.25, "unused": 2, "zeros": False}


def draw(dtype, shape, zeros, seed):
    rng = np.random.default_rng(seed)
    maps, grad = (rng.standard_normal(s).astype(dtype) for s in (shape, (shape[0], shape[3])))
    if zeros:
        maps[0, rng.integers(0, shape[1]), :, rng.integers(0, shape[3])] = 0
    return maps, rng.standard_normal(shape[1] - 1), grad


@pytest.mark.parametrize("dtype", TYPES)
@given(**calls)
@example(**long, **rest)
@example(**wide, **rest)
@example(**many, **rest, channels_fastest=False)
@example(**many, **rest, channels_fastest=True)
def test_forward(kernels, dtype, shape, channels_fastest, eps, unused, tile, zeros, seed):
    maps, signs, _ = draw(dtype, shape, zeros, seed)
    want = expected(maps.astype(np.float64), signs, eps)
    call = (to_memory(maps, channels_fastest, unused), shape, channels_fastest, signs, eps)
    for results in (
        getattr(kernels, f"paired_cosine_forward_{dtype}")(*call, tile, seed / 1000),
        getattr(kernels, f"paired_cosine_block_forward_{dtype}")(*call, seed % 3 + 1, seed),
    ):
        for have, expect in zip(results, want, strict=True):
            np.testing.assert_allclose(have, expect, rtol=TYPES[dtype], atol=shape[1] * TYPES[dtype])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
@given(**calls)
@example(**long, **rest)
@example(**wide, **rest)
@example(**many, **rest, channels_fastest=False)
@example(**many, **rest, channels_fastest=True)
def test_backward(kernels, dtype, needs, shape, channels_fastest, eps, unused, tile, zeros, seed):
    maps, signs, grad = draw(dtype, shape, zeros, seed)
    exact = maps.astype(np.float64)
    want, terms = expected_gradients(grad.astype(np.float64), exact, signs, eps)
    kept = [x.astype(dtype) for x in expected(exact, signs, eps)[1:]]
    call = (grad, *kept, *needs, to_memory(maps, channels_fastest, unused), shape, channels_fastest, signs, eps)
    for grads in (
        getattr(kernels, f"paired_cosine_backward_{dtype}")(*call, tile, seed / 1000),
        getattr(kernels, f"paired_cosine_block_backward_{dtype}")(*call, seed % 2 + 1, seed % 3 + 1, seed),
    ):
        for have, expect, size, needed in zip(grads, want, terms, needs, strict=True):
            if not needed:
                assert have.size == 0
                continue
            error = np.abs(from_memory(have, expect.shape, channels_fastest) - expect)
            assert (error <= TYPES[dtype] * size).all(), (error / size).max()
