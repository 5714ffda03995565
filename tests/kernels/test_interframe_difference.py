"""Map, selection, output and gradient of the inter-frame difference, CPU loops and CUDA bodies alike, against NumPy."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

TYPES = {"float32": 1e-5, "float64": 1e-13}
ROWS = st.sampled_from([1, 2, 3, 8])  # frames a block takes at once
LAST = st.booleans()  # channels last


def clips(frames=st.integers(2, 11), channels=st.integers(0, 19), positions=st.integers(0, 75)):
    return st.tuples(st.integers(0, 2), frames, channels, positions)


def draw(seed, *shapes, dtype="float64"):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def laid_out(clip, channels_last):
    return np.ascontiguousarray(clip.transpose(0, 1, 3, 2) if channels_last else clip)


def unit(x, axis=2):
    norm = np.sqrt((x * x).sum(axis, keepdims=True))
    return x / np.maximum(norm, 1e-12)


def expected_map(query, key, min_variance=0.0):
    frames = query.shape[1]
    s = np.maximum(-(unit(query) * unit(key).sum(1, keepdims=True)).sum(2), -frames)
    variance = (s - s[:, :1]).var(1, ddof=1)
    return s, np.where(variance < min_variance, 0, variance)


def maps(kernels, query, key, last=(False, False), min_variance=0.0, fill=0.5, rows=8, seed=0):
    """S and variance by the CPU loops, by the block body, and by the block body with its scratch in a workspace."""
    dtype = query.dtype.name
    query, key = (laid_out(clip, is_last) for clip, is_last in zip((query, key), last, strict=True))
    yield getattr(kernels, f"difference_map_{dtype}")(query, key, *last, min_variance, seed % 3 + 1)
    for in_workspace in (False, True):
        s, variance, out = getattr(kernels, f"difference_block_map_{dtype}")(
            query, key, *last, min_variance, fill, rows, seed % 4 + 1, in_workspace, seed
        )
        assert (out == fill).all()
        yield s, variance


@pytest.mark.parametrize("dtype", TYPES)
@given(shape=clips(), query_last=LAST, key_last=LAST, rows=ROWS, seed=st.integers(0, 999))
@example(shape=(2, 2, 8, 64), query_last=True, key_last=True, rows=8, seed=0)
@example(shape=(1, 11, 17, 1), query_last=True, key_last=False, rows=3, seed=1)
def test_map(kernels, dtype, shape, query_last, key_last, rows, seed):
    query, key = draw(seed, shape, shape, dtype=dtype)
    want = expected_map(query.astype(np.float64), key.astype(np.float64))
    for have in maps(kernels, query, key, (query_last, key_last), rows=rows, seed=seed):
        np.testing.assert_allclose(have[0], want[0], rtol=0, atol=shape[1] * TYPES[dtype])
        np.testing.assert_allclose(have[1], want[1], rtol=0, atol=shape[1] ** 2 * TYPES[dtype])


@pytest.mark.parametrize("dtype", TYPES)
@given(
    shape=clips(positions=st.integers(1, 150)), kinds=st.integers(1, 4), last=LAST, rows=ROWS, seed=st.integers(0, 999)
)
def test_equal_vectors_give_equal_bits_at_every_position(kernels, dtype, shape, kinds, last, rows, seed):
    b, t, c, p = shape
    query, key = draw(seed, (1, t, c, kinds), (1, t, c, kinds), dtype=dtype)
    kind = np.random.default_rng(seed).integers(0, kinds, (b, p))
    query, key = (np.stack([clip[0][..., kind[i]] for i in range(b)]) if b else clip[:0] for clip in (query, key))
    for s, variance in maps(kernels, query, key, (last, last), rows=rows, seed=seed):
        for i in range(kinds if b else 0):
            same = np.argwhere(kind == i)
            for j, k in same[1:]:
                assert np.array_equal(s[j, :, k], s[same[0, 0], :, same[0, 1]])
                assert variance[j, k] == variance[same[0, 0], same[0, 1]]


@pytest.mark.parametrize("dtype", TYPES)
@given(shape=clips(), last=LAST, seed=st.integers(0, 999))
def test_a_static_clip_has_no_variance(kernels, dtype, shape, last, seed):
    b, t, c, p = shape
    query, key = (np.repeat(clip, t, axis=1) for clip in draw(seed, (b, 1, c, p), (b, 1, c, p), dtype=dtype))
    for _, variance in maps(kernels, query, key, (last, last), seed=seed):
        assert (variance == 0).all()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("last", [False, True])
def test_map_of_extreme_vectors(kernels, dtype, last):
    query, key = draw(3, (1, 3, 5, 70), (1, 3, 5, 70), dtype=dtype)
    query[0, 1, :, 0] = 0
    key[0, 2, :, 1] *= 1e-14
    query[0, 0, :, 33] *= 1e-13
    query[0, :, :, 64] = key[0, :, :, 64] = key[0, :1, :, 64]  # cosines of one: rounding may pass -T
    query[0, 1, 2, 40] = np.nan
    key[0, 1, 2, 69] = np.inf
    with np.errstate(invalid="ignore"):
        want = expected_map(query.astype(np.float64), key.astype(np.float64), 1e-3)
    assert np.isnan(want[0][0, 1, 40])
    assert np.isnan(want[0][0, :, 69]).all()
    for s, variance in maps(kernels, query, key, (last, last), min_variance=1e-3):
        np.testing.assert_allclose(s, want[0], rtol=0, atol=10 * TYPES[dtype])
        np.testing.assert_allclose(variance, want[1], rtol=0, atol=10 * TYPES[dtype])
        assert np.nanmin(s) >= -3


def test_small_variances_count_as_none(kernels):
    query, key = draw(4, (1, 4, 3, 50), (1, 4, 3, 50))
    limit = float(np.median(expected_map(query, key)[1]))
    for _, variance in maps(kernels, query, key, min_variance=limit):
        assert ((variance == 0) | (variance >= limit)).all()
        assert (variance == 0).sum() in (24, 25, 26)


def ranked(variance, num_keep):
    """The num_keep-th largest, NaN above all, and the positions with a slot."""
    order = np.sort(np.where(np.isnan(variance), np.inf, variance))[::-1]
    nans = np.isnan(variance).sum()
    # an infinite variance ranks below NaN
    threshold = np.nan if num_keep <= nans else order[num_keep - 1]
    with np.errstate(invalid="ignore"):
        survives = np.isnan(variance) | (variance > threshold)
    slots = np.flatnonzero(survives)[:num_keep]
    return threshold, np.pad(slots, (0, num_keep - len(slots)), constant_values=-1)


@st.composite
def variances(draw):
    count = draw(st.integers(1, 300))
    kind = draw(st.sampled_from(["distinct", "ties", "zeros", "special"]))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    values = rng.gamma(1.0, 10.0 ** rng.integers(-6, 6), (2, count))
    if kind == "ties":
        values = np.round(values / values.mean() * 3)
    elif kind == "zeros":
        values *= rng.random((2, count)) < 0.2
    elif kind == "special":
        values = np.where(rng.random((2, count)) < 0.3, rng.choice([np.nan, np.inf, 0, 1e-40], (2, count)), values)
    return values, draw(st.one_of(st.just(1), st.just(count), st.integers(1, count)))


@pytest.mark.parametrize("dtype", TYPES)
@given(
    drawn=variances(),
    frames=st.integers(2, 4),
    flags=st.tuples(LAST, LAST),
    spoil=LAST,
    threads=st.sampled_from([32, 128]),
)
def test_selection_and_output(kernels, dtype, drawn, frames, flags, spoil, threads):
    variance, num_keep = drawn[0].astype(dtype), drawn[1]
    strict, normalize = flags
    count, eps = variance.shape[1], 1e-3
    rng = np.random.default_rng(count)
    s = np.maximum(rng.standard_normal((2, frames, count)) * 2, -frames).astype(dtype)
    if spoil:  # a NaN in one frame of one position, which therefore has a NaN variance
        s[0, 1, count // 2] = variance[0, count // 2] = np.nan
    fill = np.full_like(s, 0 if normalize else -frames)
    block = getattr(kernels, f"difference_block_select_{dtype}")(
        s, variance, fill, num_keep, strict, normalize, eps, threads, num_keep
    )
    for b in range(2):
        threshold, slots = ranked(variance[b], num_keep)
        with np.errstate(invalid="ignore"):
            masked = variance[b] < threshold if strict else variance[b] <= threshold
            m = np.where(masked, -frames, s[b]).astype(np.float64)
            low, high = m.min(1, keepdims=True), m.max(1, keepdims=True)
            out = (m - low) / (high - low + eps) if normalize else m
            values = np.where(slots < 0, 0, out[:, slots] + (np.nan if np.isnan(threshold) else 0))
        own_threshold, own_slots = getattr(kernels, f"difference_select_{dtype}")(variance[b], num_keep)
        own_out, own_values = getattr(kernels, f"difference_finish_{dtype}")(
            s[b], variance[b], own_threshold, own_slots, strict, normalize, eps
        )
        np.testing.assert_array_equal(own_threshold, np.dtype(dtype).type(threshold))
        np.testing.assert_array_equal(own_slots, slots)
        np.testing.assert_array_equal(block[0][b], own_threshold)
        for have in (own_out, block[3][b]):
            np.testing.assert_allclose(have, out, rtol=1e-5, atol=1e-5)
        if not strict:
            np.testing.assert_array_equal(block[1][b], slots)
            for have in (own_values, block[2][b]):
                np.testing.assert_allclose(have, values, rtol=1e-5, atol=1e-5)


def expected_gradients(grad, query, key, kept, all_kept, normalize, eps):
    """Gradients of one clip (T, C, N) from grad (T, N); the formulas of the specification, frame by frame."""
    frames = query.shape[0]
    query_norm, key_norm = (np.maximum(np.sqrt((x * x).sum(1, keepdims=True)), 1e-12) for x in (query, key))
    query_unit, key_unit = query / query_norm, key / key_norm
    total = key_unit.sum(0)
    s = np.maximum(-(query_unit * total).sum(1), -frames)
    g = np.where(kept, grad, 0)
    if normalize and kept.any():
        for t in range(frames):
            inside = np.flatnonzero(kept)
            high, low = inside[s[t, inside].argmax()], inside[s[t, inside].argmin()]
            least = s[t, low] if all_kept else -frames
            span = s[t, high] - least + eps
            norm = (s[t] - least) / span
            to_high, to_low = (g[t] * norm).sum() / span, (g[t] * (norm - 1)).sum() / span
            g[t] /= span
            g[t, high] -= to_high
            if all_kept:
                g[t, low] += to_low
    back = (g[:, None] * query_unit).sum(0)

    def through_norm(upstream, unit, norm):
        return (upstream - np.where(norm > 1e-12, unit * (unit * upstream).sum(1, keepdims=True), 0)) / norm

    return (
        through_norm(-g[:, None] * total, query_unit, query_norm) * kept,
        through_norm(np.broadcast_to(-back, key.shape), key_unit, key_norm) * kept,
    )


def gradient_case(seed, shape):
    b, t, _, p = shape
    query, key = draw(seed, shape, shape)
    if p > 3:  # two positions at the maximum and the minimum, and vectors below the clamp
        query[..., 1], key[..., 1] = query[..., 0], key[..., 0]
        query[:, 0, :, 2] = 0
        key[:, 1, :, 3] *= 1e-14
    return query, key, *draw(seed + 1, (b, t, p))


def assert_gradients(have, want, vectors):
    """Times the norm of their vectors: below the clamp rounding errors of a sum near zero are divided by 1e-12."""
    for actual, expected, x in zip(have, want, vectors, strict=True):
        norm = np.maximum(np.sqrt((x * x).sum(1, keepdims=True)), 1e-12)
        np.testing.assert_allclose(actual * norm, expected * norm, rtol=0, atol=1e-11)


@given(
    shape=clips(frames=st.integers(2, 6)),
    unused=st.integers(0, 9),
    flags=st.tuples(LAST, LAST),
    seed=st.integers(0, 999),
)
def test_backward_of_slots(kernels, shape, unused, flags, seed):
    b, _, _, p = shape
    all_kept, normalize = flags
    query, key, grad = gradient_case(seed, shape)
    used = p if all_kept else max(0, p - unused)
    for i in range(b):
        want = expected_gradients(grad[i], query[i], key[i], np.arange(p) < used, all_kept, normalize, 1e-3)
        spoilt = query[i].copy()
        spoilt[..., used:] = np.nan
        have = kernels.difference_slots_backward_float64(grad[i], spoilt, key[i], used, all_kept, normalize, 1e-3)
        assert_gradients(have, want, (query[i], key[i]))


@given(
    shape=clips(frames=st.integers(2, 6)),
    last=st.tuples(LAST, LAST),
    rule=st.sampled_from(["slots", "some", "all"]),
    normalize=LAST,
    rows=ROWS,
    seed=st.integers(0, 999),
)
def test_block_backward(kernels, shape, last, rule, normalize, rows, seed):
    b, _, _, p = shape
    query, key, grad = gradient_case(seed, shape)
    s, _ = expected_map(query, key)
    rng = np.random.default_rng(seed)
    variance = rng.integers(0, 3, (b, p)).astype(np.float64) * (rng.random((b, p)) < (p and 9 / p))
    kept = np.ones((b, p), bool) if rule == "all" else variance > 0
    threshold = np.full(b, 0.0 if rule == "all" else 1.0)
    positions = np.where(kept, np.arange(p), -1)
    want = [
        expected_gradients(grad[i], query[i], key[i], kept[i], rule != "slots" and kept[i].all(), normalize, 1e-3)
        for i in range(b)
    ]
    for in_workspace in (False, True):
        have = kernels.difference_block_backward_float64(
            grad, s, laid_out(query, last[0]), laid_out(key, last[1]), *last, positions, variance, threshold,
            rule != "slots", normalize, 1e-3, rows, seed % 3 + 1, in_workspace, seed,
        )  # fmt: skip
        have = [g.transpose(0, 1, 3, 2) if is_last else g for g, is_last in zip(have, last, strict=True)]
        for i in range(b):
            assert_gradients((have[0][i], have[1][i]), want[i], (query[i], key[i]))
