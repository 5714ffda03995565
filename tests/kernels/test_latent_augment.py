"""The arithmetic of latent_augment and latent_augment_mix, CPU loops and CUDA bodies alike, against NumPy."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.kernels.clips import from_memory, to_memory

TYPES = {"float32": 3e-5, "float64": 1e-12}
NO_INDEX = np.zeros(0, dtype=np.int64)


def rotation_matrix(angle, height, width):
    """(P, P): what every position reads of every other."""
    row, col = np.divmod(np.arange(height * width), width)
    x, y = (2 * col + 1) / width - 1, (2 * row + 1) / height - 1
    source_col = ((x * np.cos(angle) - y * np.sin(angle) + 1) * width - 1) / 2
    source_row = ((x * np.sin(angle) + y * np.cos(angle) + 1) * height - 1) / 2
    down, right = (
        np.maximum(0, 1 - np.abs(source[:, None] - n)) for source, n in ((source_row, row), (source_col, col))
    )
    return down * right


class Draws:
    """Everything but z, in float64, and what depends on it."""

    def __init__(self, shape, per_channel, mixed, leave_out, centroid, seed, dtype):
        rng = np.random.default_rng(seed)
        g, d, c, h, w = shape
        scalars = (g, d, c) if per_channel else (g, d)
        self.shape, self.per_channel, self.mixed = shape, per_channel, mixed
        self.choice = rng.integers(-1, 6, (g, d))
        self.lam, self.sigma = rng.random(scalars), rng.random(scalars)
        self.noise, self.angle = rng.standard_normal(shape), rng.uniform(-2, 2, (g, d))
        self.has_noise, self.has_angle = leave_out != "noise", leave_out != "angle"
        row = (d, h, w) if per_channel else (d, c, h, w)
        self.centroid = rng.standard_normal(row) if centroid else None
        self.perm = rng.integers(0, d, (g, d))
        self.mix_lam = rng.random((g, d) if seed % 2 else (g,))
        for name in ("lam", "sigma", "noise", "angle", "mix_lam"):  # the values the kernel sees
            setattr(self, name, getattr(self, name).astype(dtype).astype(np.float64))
        if centroid:
            self.centroid = self.centroid.astype(dtype).astype(np.float64)

    def lam_of(self, g, d):
        return np.broadcast_to(self.lam[g, d].reshape(-1, 1, 1), self.shape[2:])

    def applied(self, g, d):
        """The id of a map, None where it is copied."""
        groups, _, channels = self.shape[:3]
        rows = groups * channels if self.per_channel else groups
        usable = {
            0: rows > 1,
            1: rows > 1 or self.centroid is not None,
            2: self.has_noise,
            3: (channels if self.per_channel else groups) > 1,
            4: self.has_angle,
        }
        return int(self.choice[g, d]) if usable.get(int(self.choice[g, d]), False) else None

    def weight(self, g, d):
        return self.mix_lam[g, d] if self.mix_lam.ndim == 2 else self.mix_lam[g]


def statistics(z, draws):
    rows = np.moveaxis(z, 1, 0)
    if draws.per_channel:
        rows = rows.reshape(rows.shape[0], -1, *rows.shape[3:])
    mean = rows.mean(1)
    origin = mean if draws.centroid is None else draws.centroid
    distance = ((rows - origin[:, None]) ** 2).reshape(*rows.shape[:2], -1).sum(2)
    return rows, mean, origin, distance


def expected(z, draws, hard):
    g_, d_, _, h, w = z.shape
    rows, _, origin, _ = statistics(z, draws)
    out = z.copy()
    for g in range(g_):
        for d in range(d_):
            lam, own, id_ = draws.lam_of(g, d), z[g, d], draws.applied(g, d)
            if id_ == 0:
                out[g, d] = own + lam * (rows[d, hard[d]] - own)
            elif id_ == 1:
                out[g, d] = own + lam * (own - origin[d])
            elif id_ == 2:
                out[g, d] = own + lam * draws.sigma[g, d].reshape(-1, 1, 1) * draws.noise[g, d]
            elif id_ == 3:
                out[g, d] = own + lam * (own[0] - own[1] if draws.per_channel else z[0, d] - z[1, d])
            elif id_ == 4:
                matrix = rotation_matrix(draws.angle[g, d], h, w)
                out[g, d] = (own.reshape(-1, h * w) @ matrix.T).reshape(own.shape)
    if draws.mixed:
        mixed = np.stack([[draws.weight(g, d) * z[g, d] + (1 - draws.weight(g, d)) * z[g, draws.perm[g, d]]
                           for d in range(d_)] for g in range(g_)])  # fmt: skip
        out = np.concatenate([out, mixed], 2)
    return out


def expected_gradient(grad, hard, draws, detach):
    g_, d_, c_, h, w = draws.shape
    own = grad[:, :, :c_]
    out = own.copy()
    rows = g_ * c_ if draws.per_channel else g_
    for g in range(g_):
        for d in range(d_):
            id_ = draws.applied(g, d)
            share = draws.lam_of(g, d) * own[g, d]
            if id_ == 0:
                out[g, d] -= share
                if not detach and draws.per_channel:
                    out[hard[d] // c_, d, hard[d] % c_] += share.sum(0)
                elif not detach:
                    out[hard[d], d] += share
            elif id_ == 1:
                out[g, d] += share
                if not detach and draws.centroid is None:
                    out[:, d] -= (share.sum(0) if draws.per_channel else share) / rows
            elif id_ == 3:
                for row, sign in ((0, 1), (1, -1)):
                    if draws.per_channel:
                        out[g, d, row] += sign * share.sum(0)
                    else:
                        out[row, d] += sign * share
            elif id_ == 4:
                matrix = rotation_matrix(draws.angle[g, d], h, w)
                out[g, d] += (own[g, d].reshape(-1, h * w) @ matrix).reshape(own[g, d].shape) - own[g, d]
            if draws.mixed:
                out[g, d] += draws.weight(g, d) * grad[g, d, c_:]
                out[g, draws.perm[g, d]] += (1 - draws.weight(g, d)) * grad[g, d, c_:]
    return out


calls = {
    "shape": st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 9), st.integers(1, 5), st.integers(1, 6)),
    "channels_last": st.booleans(),
    "per_channel": st.booleans(),
    "mixed": st.booleans(),
    "leave_out": st.sampled_from(["nothing", "noise", "angle"]),
    "centroid": st.booleans(),
    "piece": st.integers(1, 4),
    "seed": st.integers(0, 999),
}
# more groups than lanes and items, more channels than a tile of the CPU or a block has, planes larger than a block
plain = {"leave_out": "nothing", "centroid": False, "mixed": True, "piece": 3}
many = {"shape": (40, 2, 8, 3, 4), "seed": 1, **plain}
deep = {"shape": (3, 2, 72, 4, 5), "seed": 2, **plain, "piece": 40}
wide = {"shape": (2, 2, 4, 18, 17), "seed": 3, **plain}
more = {"shape": (300, 1, 4, 1, 2), "seed": 4, **plain}


def with_examples(**options):
    def decorate(test):
        for shape in (many, deep, wide, more):
            for channels_last in (False, True):
                for per_channel in (False, True):
                    test = example(**shape, channels_last=channels_last, per_channel=per_channel, **options)(test)
        return test

    return decorate


def prepare(dtype, shape, channels_last, per_channel, mixed, leave_out, centroid, seed):
    """z in float64, its draws, and the arguments that both directions share, as the kernels take them."""
    draws = Draws(shape, per_channel, mixed, leave_out, centroid, seed, dtype)
    z = np.random.default_rng(seed + 1).standard_normal(shape).astype(dtype)
    nothing = np.zeros(0, dtype=dtype)
    angle = draws.angle.astype(dtype) if draws.has_angle else nothing
    mix = (draws.perm, draws.mix_lam.astype(dtype)) if mixed else (NO_INDEX, nothing)
    return z, draws, angle, mix, nothing


@pytest.mark.parametrize("dtype", TYPES)
@given(**calls)
@with_examples()
def test_forward(kernels, dtype, shape, channels_last, per_channel, mixed, leave_out, centroid, piece, seed):
    z, draws, angle, mix, nothing = prepare(dtype, shape, channels_last, per_channel, mixed, leave_out, centroid, seed)
    exact = z.astype(np.float64)
    _, want_mean, _, distance = statistics(exact, draws)
    noise = to_memory(draws.noise.astype(dtype), channels_last) if draws.has_noise else nothing
    given_centroid = nothing
    if centroid:
        given_centroid = draws.centroid.astype(dtype)
        if not per_channel:
            given_centroid = to_memory(given_centroid[None], channels_last)
    call = (list(shape), channels_last, per_channel, to_memory(z, channels_last), draws.choice,
            draws.lam.astype(dtype), draws.sigma.astype(dtype), noise, angle, given_centroid.ravel(), *mix)  # fmt: skip
    tolerance = {"rtol": TYPES[dtype], "atol": TYPES[dtype]}
    for out, mean, hard in (
        getattr(kernels, f"latent_augment_forward_{dtype}")(*call, piece),
        getattr(kernels, f"latent_augment_block_forward_{dtype}")(*call, seed % 3 + 1, seed),
    ):
        # where distances are equal but for rounding, as those of two rows are, any of them may be the largest
        assert (distance[np.arange(len(hard)), hard] >= distance.max(1) * (1 - TYPES[dtype])).all()
        want_out = expected(exact, draws, hard)
        np.testing.assert_allclose(from_memory(out, want_out.shape, channels_last), want_out, **tolerance)
        order = mean if per_channel or not channels_last else from_memory(mean, (1, *want_mean.shape), True)
        np.testing.assert_allclose(order.reshape(want_mean.shape), want_mean, **tolerance)


@pytest.mark.parametrize("dtype", TYPES)
@given(**calls, detach=st.booleans())
@with_examples(detach=False)
def test_backward(kernels, dtype, shape, channels_last, per_channel, mixed, leave_out, centroid, piece, seed, detach):
    _, draws, angle, mix, _ = prepare(dtype, shape, channels_last, per_channel, mixed, leave_out, centroid, seed)
    rng = np.random.default_rng(seed + 2)
    hard = rng.integers(0, shape[0] * (shape[2] if per_channel else 1), shape[1])
    maps = (*shape[:2], shape[2] * (2 if mixed else 1), *shape[3:])
    grad = rng.standard_normal(maps).astype(dtype)
    want = expected_gradient(grad.astype(np.float64), hard, draws, detach)
    call = (list(shape), channels_last, per_channel, to_memory(grad, channels_last), draws.choice,
            draws.lam.astype(dtype), angle, hard, *mix, centroid, detach)  # fmt: skip
    # sums over many rows, of both signs
    tolerance = {"rtol": TYPES[dtype], "atol": TYPES[dtype] * max(1, np.abs(want).max())}
    for grad_z in (
        getattr(kernels, f"latent_augment_backward_{dtype}")(*call, piece),
        getattr(kernels, f"latent_augment_block_backward_{dtype}")(*call, seed),
    ):
        np.testing.assert_allclose(from_memory(grad_z, shape, channels_last), want, **tolerance)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_first_of_equal_rows_and_nan_above_all(kernels, dtype, channels_last, per_channel):
    shape = (6, 3, 4, 2, 3)
    z = np.zeros(shape, dtype=dtype)
    z[2:4, 0, 1] = 1  # two rows of domain 0 are equally far, in both senses of a row
    z[1, 1, 2], z[4, 1, 3], z[5, 1, 3] = np.inf, np.nan, np.nan  # their mean is NaN: every row is, the first wins
    z[3, 2, 1, 0, 0], z[4, 2, 1] = -2, 2
    choice = np.full(shape[:2], -1)
    lam = np.zeros(shape[:3] if per_channel else shape[:2], dtype=dtype)
    nothing = np.zeros(0, dtype=dtype)
    given_centroid = np.zeros((3, 2, 3) if per_channel else (3, 4, 2, 3), dtype=dtype).ravel()
    call = (
        list(shape),
        channels_last,
        per_channel,
        to_memory(z, channels_last),
        choice,
        lam,
        nothing,
        nothing,
        nothing,
    )
    for origin, want in (
        (nothing, [9, 0, 17] if per_channel else [2, 0, 4]),
        (given_centroid, [9, 19, 17] if per_channel else [2, 4, 4]),
    ):
        for _, _, hard in (
            getattr(kernels, f"latent_augment_forward_{dtype}")(*call, origin, NO_INDEX, nothing, 2),
            getattr(kernels, f"latent_augment_block_forward_{dtype}")(*call, origin, NO_INDEX, nothing, 2, 0),
        ):
            assert hard.tolist() == want
