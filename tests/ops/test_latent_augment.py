"""dfops.latent_augment and latent_augment_mix: value, gradients, dtypes, layouts, compile."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dfops
from dfops import reference
from tests.ops.cases import latents_and_draws
from tests.strategies import DEVICES, HALVES, LAYOUTS, lay_out, layouts, random_clip, seeds
from tests.tolerances import assert_matches, assert_no_worse

SHAPE = (3, 4, 5, 4, 6)
GRANULARITIES = ["sample", "channel"]
FUNCTIONS = ["latent_augment", "latent_augment_mix"]
COPIED = -1


class Call:
    """A function, its arguments, and its options: the same for ours and the reference."""

    def __init__(self, function, shape=SHAPE, seed=0, layout="contiguous", dtype=torch.float32, device="cpu",
                 requires_grad=False, granularity="sample", ids=range(5), scalars=None, centroid=False,
                 detach=False):  # fmt: skip
        self.function = function
        self.z, *draws, given = latents_and_draws(shape, seed, layout, dtype, device, requires_grad, granularity, ids,
                                                  scalars, function == "latent_augment_mix", centroid)  # fmt: skip
        self.draws = tuple(draws)
        self.options = {"granularity": granularity, "detach_statistics": detach}
        if given is not None:
            self.options["centroid"] = given

    def __call__(self, module, z=None):
        return getattr(module, self.function)(self.z if z is None else z, *self.draws, **self.options)

    def gradient(self, module, grad, z=None):
        z = self.z if z is None else z
        return torch.autograd.grad(self(module, z)[0], z, grad)[0]

    def double(self):
        """The same values in float64."""
        exact = Call.__new__(Call)
        exact.function = self.function
        exact.z = self.z.detach().double().requires_grad_(self.z.requires_grad)

        def wide(x):
            return x.double() if x.is_floating_point() else x

        exact.draws = tuple(wide(x) for x in self.draws)
        exact.options = {key: wide(x) if isinstance(x, torch.Tensor) else x for key, x in self.options.items()}
        return exact

    def random_gradient(self, seed=7, layout="contiguous"):
        out = self(dfops)[0].detach()
        grad = random_clip(tuple(out.shape) if out.dim() == 5 else (1, *out.shape), seed=seed, layout=layout,
                           dtype=out.dtype, device=out.device)  # fmt: skip
        return grad if out.dim() == 5 else grad[0]


calls = {
    "function": st.sampled_from(FUNCTIONS),
    "shape": st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 9), st.integers(0, 5), st.integers(0, 6)),
    "seed": seeds(),
    "layout": layouts(),
    "granularity": st.sampled_from(GRANULARITIES),
    "centroid": st.booleans(),
    "detach": st.booleans(),
    "ids": st.sampled_from([(0,), (1,), (2,), (3,), (4,), (0, 1, 2, 3, 4, COPIED, 5)]),
}


def clear(call):
    """Whether no other row is as far as the farthest but for rounding, which may decide differently elsewhere."""
    options = {key: value for key, value in call.options.items() if key != "detach_statistics"}
    _, distance, _ = reference.hard_examples(call.z.detach(), **options)
    if distance.shape[1] < 2 or call.z.numel() == 0:
        return True
    first, second = distance.topk(2, dim=1).values.unbind(1)
    return bool((second < first * (1 - 1e-5)).all())


@pytest.mark.parametrize("device", DEVICES)
@given(**calls)
def test_matches_reference(device, **drawn):
    call = Call(**drawn, device=device)
    if clear(call):
        for ours, expected in zip(call(dfops), call(reference), strict=True):
            assert_matches(ours, expected)


@pytest.mark.parametrize("device", DEVICES)
@given(**calls)
def test_gradients_match_reference(device, **drawn):
    call = Call(**drawn, device=device, dtype=torch.float64, requires_grad=True)
    if clear(call):
        grad = call.random_gradient(layout=drawn["layout"])
        assert_matches(call.gradient(dfops, grad), call.gradient(reference, grad))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("shape", [(4, 4, 512, 8, 8), (33, 2, 70, 9, 7), (3, 1, 5, 40, 41)])
def test_sizes_beyond_one_task(device, function, granularity, layout, shape):
    call = Call(function, shape, 3, layout, device=device, requires_grad=True, granularity=granularity)
    exact = call.double()
    # a rotation reads between pixels at a float32 coordinate, off by eps times the side, in two directions, times the
    # difference of neighbours, some 2
    atol = max(1e-5, 4 * torch.finfo(torch.float32).eps * max(shape[-2:]))
    for ours, expected in zip(call(dfops), exact(reference), strict=True):
        torch.testing.assert_close(ours.to(expected.dtype), expected, rtol=1e-5, atol=atol)
    grad = call.random_gradient(layout=layout)
    expected = exact.gradient(reference, grad.double())
    torch.testing.assert_close(call.gradient(dfops, grad).double(), expected, rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_maps_without_their_argument_and_unknown_ids_are_copied(function, granularity):
    call = Call(function, granularity=granularity, ids=(2, 4, COPIED, 5), requires_grad=True)
    choice, lam, sigma, noise, angle = call.draws[-5:]
    for missing in (
        {"sigma": None, "noise": None},
        {"sigma": sigma, "noise": None, "angle": angle},
        {"sigma": None, "noise": noise, "angle": angle},
        {"sigma": sigma, "noise": noise, "angle": None},
    ):
        out = getattr(dfops, function)(call.z, *call.draws[:-5], choice, lam, **missing, granularity=granularity)[0]
        halves = out[:, : SHAPE[2]] if function == "latent_augment_mix" else out
        left_out = (choice < 0) | (choice > 4)
        left_out |= (choice == 2) & (missing["sigma"] is None or missing["noise"] is None)
        left_out |= (choice == 4) & (missing.get("angle") is None)
        copied = (halves.reshape(SHAPE) == call.z).flatten(2).all(2)
        assert torch.equal(copied, left_out)
        grad = torch.autograd.grad(halves.reshape(SHAPE)[left_out].sum(), call.z)[0]
        assert torch.equal(grad, left_out[..., None, None, None].expand(SHAPE).to(grad.dtype))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize(
    ("granularity", "shape", "ids"),
    [
        ("sample", (1, 3, 4, 3, 5), (0, 1, 3)),
        ("channel", (1, 3, 1, 3, 5), (0, 1, 3)),
        ("channel", (4, 3, 1, 3, 5), (3,)),
    ],
)
def test_single_rows_are_their_own_statistics(layout, detach, granularity, shape, ids):
    call = Call("latent_augment", shape, 0, layout, requires_grad=True, granularity=granularity, ids=ids, detach=detach)
    with torch.no_grad():
        call.z[0, 0, 0, 0, 0] = float("inf")
    out, _, hard_index = call(dfops)
    assert torch.equal(out, call.z)
    assert hard_index.dtype == torch.int64
    grad = call.random_gradient()
    assert torch.equal(call.gradient(dfops, grad), grad)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_given_centroid_serves_a_single_group(granularity):
    call = Call("latent_augment", (1, 3, 4, 3, 5), granularity=granularity, ids=(1,), centroid=True)
    out = call(dfops)[0]
    assert not torch.equal(out, call.z)
    assert_matches(out, call(reference)[0])


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("axis", range(5))
def test_empty_axes(function, granularity, axis):
    shape = tuple(0 if i == axis else n for i, n in enumerate((3, 2, 4, 3, 5)))
    call = Call(function, shape, requires_grad=True, granularity=granularity)
    out, centroid, hard_index = call(dfops)
    g, d, c, h, w = shape
    assert out.shape == (shape if function == "latent_augment" else (g * d, 2 * c, h, w))
    row = (d, c, h, w) if granularity == "sample" else (d, h, w)
    assert torch.equal(centroid, torch.zeros(row))
    assert torch.equal(hard_index, torch.zeros(d, dtype=torch.int64))
    assert torch.equal(torch.autograd.grad(out, call.z, torch.ones_like(out))[0], torch.zeros(shape))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_first_of_equal_distances_and_nan_above_all(device, granularity, layout):
    shape = (6, 3, 4, 2, 3)
    z = torch.zeros(shape)
    z[2:4, 0, 1] = 1
    z[1, 1, 2], z[4, 1, 3], z[5, 1, 3] = float("inf"), float("nan"), float("nan")
    z[3, 2, 1, 0, 0], z[4, 2, 1] = -2, 2
    z = lay_out(z, layout).to(device)
    choice = torch.zeros(shape[:2], dtype=torch.int64, device=device)
    lam = torch.ones(shape[:2] if granularity == "sample" else shape[:3], device=device)
    results = [module.latent_augment(z, choice, lam, granularity=granularity) for module in (dfops, reference)]
    for ours, expected in zip(*results, strict=True):
        assert_matches(ours, expected)
    assert results[0][2].tolist() == ([2, 0, 4] if granularity == "sample" else [9, 0, 17])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("id_", range(5))
def test_nan_and_infinity_reach_only_what_reads_them(device, layout, id_):
    call = Call("latent_augment_mix", SHAPE, 0, layout, device=device, requires_grad=True, ids=(id_,))
    with torch.no_grad():
        call.z[0, 1, 2, 0, 5], call.z[1, 0, 4, 3, 0], call.z[2, 3, 0, 0, 0] = float("nan"), float("inf"), float("-inf")
    for ours, expected in zip(call(dfops), call(reference), strict=True):
        assert_matches(ours, expected)
    grad = random_clip((1, 12, 10, 4, 6), layout=layout, device=device)[0]
    # infinite in the mixed half only: on its way to the farthest row the reference subtracts it from itself
    grad[0, 0, 0, 0], grad[5, 7, 3, 5], grad[11, 8, 2, 2] = float("nan"), float("inf"), float("-inf")
    assert_matches(call.gradient(dfops, grad), call.gradient(reference, grad))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("detach", [False, True])
def test_gradcheck(device, function, granularity, layout, detach):
    call = Call(function, (3, 2, 2, 2, 3), 5, layout, torch.float64, device, True, granularity)
    if not detach:
        assert torch.autograd.gradcheck(lambda z: call(dfops, z)[0], (call.z,))
        return
    # numerically the statistics move along: hold them
    call.options["detach_statistics"] = True
    call.options["centroid"] = call(dfops)[1]
    call.draws = tuple(x.clamp(min=1) if x is call.draws[-5] else x for x in call.draws)  # no hard example
    assert torch.autograd.gradcheck(lambda z: call(dfops, z)[0], (call.z,))


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_detached_statistics_leave_the_rest(granularity):
    """Ids 0 and 1 differentiate the map itself only; id 3 keeps the gradients of its two rows."""
    call = Call("latent_augment", granularity=granularity, requires_grad=True, detach=True, dtype=torch.float64)
    grad = call.random_gradient()
    choice, lam = call.draws[:2]
    lam = lam.reshape(*SHAPE[:2], -1, 1, 1)
    for id_, factor in ((0, 1 - lam), (1, 1 + lam)):
        call.draws = (torch.full_like(choice, id_), *call.draws[1:])
        assert_matches(call.gradient(dfops, grad), factor * grad)
    call.draws = (torch.full_like(choice, 3), *call.draws[1:])
    detached = call.gradient(dfops, grad)
    call.options["detach_statistics"] = False
    assert torch.equal(detached, call.gradient(dfops, grad))
    assert not torch.equal(detached, grad)


def test_only_the_maps_are_differentiated():
    call = Call("latent_augment", requires_grad=True, ids=(1,))
    out, centroid, hard_index = call(dfops)
    assert out.requires_grad
    assert not centroid.requires_grad
    assert not hard_index.requires_grad


@pytest.mark.cpu_kernels
@pytest.mark.parametrize("value", [-1, 4])
def test_a_domain_out_of_range_is_an_error(value):
    call = Call("latent_augment_mix", ids=(2, 4))
    perm, *others = call.draws
    with pytest.raises(RuntimeError, match=f"perm must hold domains from 0 to 3, got {value}"):
        dfops.latent_augment_mix(call.z, torch.full_like(perm, value), *others)


def test_debug_mode_looks_at_values(monkeypatch):
    call = Call("latent_augment_mix", ids=(2, 4))
    perm, mix_lam, choice, lam, sigma, noise, angle = call.draws
    monkeypatch.setenv("DFOPS_DEBUG", "1")
    call(dfops)
    with pytest.raises(ValueError, match="choice must hold ids from 0 to 4"):
        dfops.latent_augment(call.z, choice + 1, lam, sigma, noise, angle)
    with pytest.raises(ValueError, match="choice holds id 2, which needs sigma and noise"):
        dfops.latent_augment(call.z, choice, lam, sigma, None, angle)
    with pytest.raises(ValueError, match="choice holds id 4, which needs angle"):
        dfops.latent_augment(call.z, choice, lam, sigma, noise)
    with pytest.raises(ValueError, match="perm must hold domains from 0 to 3"):
        dfops.latent_augment_mix(call.z, perm - 4, mix_lam, choice, lam, sigma, noise, angle)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("scalars", [None, torch.float32])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_half_types(device, dtype, scalars, layout, granularity, function):
    call = Call(function, (5, 3, 24, 5, 7), 1, layout, dtype, device, True, granularity, scalars=scalars)
    exact = call.double()
    results = [call(dfops), exact(reference), call(reference)]
    assert_no_worse(*(out[0] for out in results))
    assert results[0][1].dtype == torch.float32
    torch.testing.assert_close(results[0][1].double(), results[1][1], rtol=1e-5, atol=1e-5)
    assert torch.equal(results[0][2], results[1][2])
    grad = call.random_gradient()
    assert_no_worse(
        call.gradient(dfops, grad), exact.gradient(reference, grad.double()), call.gradient(reference, grad)
    )


@pytest.mark.parametrize("device", DEVICES)
def test_autocast_takes_the_wider_of_maps_and_noise(device):
    call = Call("latent_augment", device=device, ids=(2,))
    choice, lam, sigma, noise, _ = call.draws
    with torch.autocast(device, dtype=torch.bfloat16):
        out = dfops.latent_augment(call.z.bfloat16(), choice, lam, sigma, noise)[0]
    assert_matches(out, reference.latent_augment(call.z.bfloat16().float(), choice, lam, sigma, noise)[0])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_layout_is_kept_for_result_and_gradient(device, granularity, function):
    expected = Call(function, device=device, requires_grad=True, granularity=granularity, centroid=True)
    want, grad = expected(dfops), expected.random_gradient()
    want_grad = expected.gradient(dfops, grad)
    frames = grad if grad.dim() == 5 else grad[None]
    for layout in LAYOUTS:
        call = Call(function, layout=layout, device=device, requires_grad=True, granularity=granularity, centroid=True)
        results = call(dfops)
        like = "channels_last" if layout == "channels_last" else "contiguous"
        out = results[0] if function == "latent_augment" else results[0][None]
        assert out.stride()[1:] == lay_out(out.detach(), like).stride()[1:]
        if granularity == "sample":
            assert results[1].stride() == lay_out(results[1][None], like).stride()[1:]
        for actual, same in zip(results, want, strict=True):
            assert_matches(actual, same)
        for kind in LAYOUTS:  # output gradients of another layout than the output, too
            arriving = lay_out(frames, kind) if grad.dim() == 5 else lay_out(frames, kind)[0]
            actual = torch.autograd.grad(results[0], call.z, arriving, retain_graph=True)[0]
            if layout != "strided":  # autograd gives a leaf a gradient of the leaf's own strides
                assert actual.stride() == lay_out(expected.z.detach(), like).stride()
            assert_matches(actual, want_grad)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_unaligned_storage(device, layout):
    call = Call("latent_augment_mix", (3, 2, 8, 4, 4), 0, layout, device=device)

    def moved(x):
        return torch.as_strided(x.new_empty(x.numel() + 1), x.shape, x.stride(), 1).copy_(x)

    expected = call(reference)
    call.z, call.draws = moved(call.z), tuple(moved(x) if x.is_floating_point() else x for x in call.draws)
    for ours, want in zip(call(dfops), expected, strict=True):
        assert_matches(ours, want)


@pytest.mark.cuda
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_cuda_graph(granularity):
    call = Call("latent_augment_mix", device="cuda", granularity=granularity)
    expected = call(dfops)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call(dfops)
    graph.replay()
    for ours, want in zip(results, expected, strict=True):
        assert torch.equal(ours, want)


@pytest.mark.cuda
@pytest.mark.parametrize(("granularity", "forward", "backward"), [("sample", 2, 1), ("channel", 3, 2)])
def test_launches_and_no_synchronisation(granularity, forward, backward):
    call = Call("latent_augment_mix", device="cuda", requires_grad=True, granularity=granularity)
    grad = call.random_gradient()
    call.gradient(dfops, grad)  # whatever is set up at first is not counted

    def launches(function):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
            torch.cuda.set_sync_debug_mode("error")
            try:
                result = function()
            finally:
                torch.cuda.set_sync_debug_mode("default")
            torch.cuda.synchronize()
        return result, sum("block_kernel" in event.name for event in profiler.events())

    (out, *_), count = launches(lambda: call(dfops))
    assert count == forward
    _, count = launches(lambda: torch.autograd.grad(out, call.z, grad))
    assert count == backward


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_compiled_and_eager_agree(device, function, granularity, layout):
    call = Call(function, layout=layout, device=device, requires_grad=True, granularity=granularity)
    compiled = torch.compile(getattr(dfops, function), fullgraph=True)
    results = compiled(call.z, *call.draws, **call.options)
    for ours, expected in zip(results, call(dfops), strict=True):
        assert ours.stride() == expected.stride()
        assert_matches(ours, expected)
    grad = call.random_gradient()
    assert_matches(torch.autograd.grad(results[0], call.z, grad)[0], call.gradient(dfops, grad))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_export(function):
    class Augment(torch.nn.Module):
        def forward(self, z, *draws):
            return getattr(dfops, function)(z, *draws)

    call = Call(function)
    exported = torch.export.export(Augment(), (call.z, *call.draws))
    for ours, expected in zip(exported.module()(call.z, *call.draws), call(dfops), strict=True):
        assert_matches(ours, expected)
