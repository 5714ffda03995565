"""dfops.strip_pool: value, shapes, gradients, dtypes, layouts, compile."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import dfops
from dfops import reference
from tests.ops.cases import AXES
from tests.ops.cases import pooled_clip as arguments
from tests.strategies import DEVICES, HALVES, LAYOUTS, clip_shapes, lay_out, layouts, random_clip, seeds
from tests.tolerances import assert_matches, assert_no_worse

SHAPE = (2, 9, 4, 6, 5)

calls = {
    "shape": clip_shapes(),
    "seed": seeds(),
    "layout": layouts(),
    "axis": st.sampled_from("THW"),
    "scales": st.lists(st.integers(1, 5), min_size=1, max_size=4),
    "directions": st.sampled_from([None, 1, 2, 3]),
    "taps": st.sampled_from([None, 1, 3, 5, 9]),
}


def flat(function, **kind):
    """The operator with all outputs in one tuple, directions first."""

    def call(*args):
        out = function(*args, **kind)
        return tuple(out) if isinstance(out[0], torch.Tensor) else tuple(y for direction in out for y in direction)

    return call


def output_gradients(outputs, seed, layout="contiguous"):
    return [random_clip(y.shape, seed=seed + i, layout=layout, dtype=y.dtype, device=y.device)
            for i, y in enumerate(outputs)]  # fmt: skip


def gradients(function, args, grads):
    return torch.autograd.grad(function(*args), args, grads)


@pytest.mark.parametrize("device", DEVICES)
@given(**calls)
def test_matches_reference(device, shape, seed, layout, axis, scales, directions, taps):
    args = arguments(shape, seed, layout, device=device, scales=scales, directions=directions, taps=taps)
    ours = flat(dfops.strip_pool, axis=axis, scales=scales)(*args)
    for actual, expected in zip(ours, flat(reference.strip_pool, axis=axis, scales=scales)(*args), strict=True):
        assert_matches(actual, expected)


@pytest.mark.parametrize("device", DEVICES)
@given(**calls)
def test_gradients_match_reference(device, shape, seed, layout, axis, scales, directions, taps):
    args = arguments(shape, seed, layout, torch.float64, device, True, scales, directions, taps)
    ours, expected = (flat(f, axis=axis, scales=scales) for f in (dfops.strip_pool, reference.strip_pool))
    grads = output_gradients(ours(*args), seed, layout)
    for actual, want in zip(gradients(ours, args, grads), gradients(expected, args, grads), strict=True):
        assert_matches(actual, want)


@pytest.mark.parametrize("axis", AXES)
def test_results_are_lists_of_scales_within_directions(axis):
    x, weight = arguments()
    length = SHAPE[AXES[axis]]
    plain = dfops.strip_pool(x, axis=axis)
    assert [y.shape[AXES[axis]] for y in plain] == [length, length // 2, length // 4]
    nested = dfops.strip_pool(x, weight, axis=axis)
    assert [len(direction) for direction in nested] == [3, 3]
    for d in range(2):
        for actual, expected in zip(nested[d], dfops.strip_pool(x, weight[d], axis=axis), strict=True):
            assert torch.equal(actual, expected)


def test_agrees_with_torch_pooling_and_convolution():
    """The reference is our own text; this is torch's: avg_pool drops the incomplete window, conv pads with zeros."""
    x, weight = arguments((1, 11, 4, 3, 2), directions=None)
    rows = x.permute(0, 3, 4, 2, 1).reshape(-1, 4, 11)
    for s, (scale, actual) in enumerate(zip((1, 2, 4), dfops.strip_pool(x, weight, axis="T"), strict=True)):
        expected = F.conv1d(F.avg_pool1d(rows, scale), weight[s].unsqueeze(1), padding=1, groups=4)
        assert_matches(actual, expected.reshape(1, 3, 2, 4, -1).permute(0, 4, 3, 1, 2))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize(
    ("axis", "shape", "scales"),
    [
        ("T", (2, 8, 6, 33, 35), (1, 2, 4)),  # many slabs of a channel
        ("T", (1, 300, 3, 4, 4), (1, 7)),  # a long clip
        ("H", (1, 2, 24, 31, 70), (1, 2, 4)),
        ("W", (1, 2, 5, 9, 700), (4, 700)),
    ],
)
def test_sizes_beyond_one_block(device, layout, axis, shape, scales):
    args = arguments(shape, layout=layout, device=device, scales=scales, requires_grad=True)
    exact = [a.detach().double().requires_grad_() for a in args]
    ours, expected = (flat(f, axis=axis, scales=scales) for f in (dfops.strip_pool, reference.strip_pool))
    outputs = ours(*args)
    for actual, want in zip(outputs, expected(*exact), strict=True):
        torch.testing.assert_close(actual.double(), want, rtol=1e-5, atol=1e-5)
    grads = output_gradients(outputs, 5, layout)
    results = zip(gradients(ours, args, grads), gradients(expected, exact, [g.double() for g in grads]), strict=True)
    for actual, want in results:
        torch.testing.assert_close(actual.double(), want, rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", AXES)
def test_gradcheck(device, layout, axis):
    args = arguments((1, 5, 2, 4, 3), 0, layout, torch.float64, device, True)
    assert torch.autograd.gradcheck(flat(dfops.strip_pool, axis=axis), args)


@pytest.mark.parametrize("device", DEVICES)
def test_one_output_of_many_is_differentiated(device):
    args = arguments(device=device, dtype=torch.float64, requires_grad=True)
    grad = random_clip((2, 4, 4, 6, 5), dtype=torch.float64, device=device)
    ours, expected = (
        torch.autograd.grad(f(*args, axis="T")[1][1], args, grad) for f in (dfops.strip_pool, reference.strip_pool)
    )
    for actual, want in zip(ours, expected, strict=True):
        assert_matches(actual, want)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("axis", AXES)
def test_half_types(device, dtype, axis):
    args = arguments(dtype=dtype, device=device, requires_grad=True)
    exact = [a.detach().double().requires_grad_() for a in args]
    ours, expected = (flat(f, axis=axis) for f in (dfops.strip_pool, reference.strip_pool))
    outputs = ours(*args)
    for actual, want, same in zip(outputs, expected(*exact), expected(*args), strict=True):
        assert_no_worse(actual, want, same)
    grads = output_gradients(outputs, 8)
    for actual, want, same in zip(
        gradients(ours, args, grads),
        gradients(expected, exact, [g.double() for g in grads]),
        gradients(expected, args, grads),
        strict=True,
    ):
        assert_no_worse(actual, want, same)


@pytest.mark.parametrize("device", DEVICES)
def test_autocast_takes_the_widest_dtype(device):
    x, weight = arguments(device=device)
    with torch.autocast(device, dtype=torch.bfloat16):
        out = flat(dfops.strip_pool, axis="T")(x.bfloat16(), weight)
    for actual, expected in zip(out, flat(reference.strip_pool, axis="T")(x.bfloat16().float(), weight), strict=True):
        assert_matches(actual, expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("axis", AXES)
def test_layout_is_kept_for_results_and_gradients(device, axis):
    x, weight = arguments(device=device, requires_grad=True)
    call = flat(dfops.strip_pool, axis=axis)
    grads = output_gradients(call(x, weight), 4)
    expected = (*call(x, weight), *gradients(call, (x, weight), grads))
    for layout in ("channels_last", "strided"):
        same = lay_out(x.detach(), layout).requires_grad_()
        outputs = call(same, weight)
        model = "channels_last" if layout == "channels_last" else "contiguous"
        for y in outputs:
            assert y.stride() == lay_out(y.detach(), model).stride()
        # output gradients of another layout than the outputs
        *results, grad_weight = (*outputs, *torch.autograd.grad(outputs, (same, weight), grads))
        for actual, want in zip(results, expected[:-1], strict=True):
            assert_matches(actual, want)
        # layouts add the products up in orders of their own: sums of n terms differ by n eps sum |term| at most
        terms = x.numel() // x.shape[2]
        (sizes,) = torch.autograd.grad(call(x.detach().abs(), weight), weight, [g.abs() for g in grads])
        assert ((grad_weight - expected[-1]).abs() <= terms * torch.finfo(x.dtype).eps * sizes).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("axis", AXES)
def test_unaligned_storage_and_transposed_weight(device, axis):
    shape = (1, 8, 4, 4, 8)
    x = torch.randn(1 + 8 * 4 * 4 * 8, device=device)[1:].reshape(shape)
    weight = torch.randn(3, 4, 3, 2, device=device).permute(3, 2, 1, 0)
    ours, expected = (flat(f, axis=axis)(x, weight) for f in (dfops.strip_pool, reference.strip_pool))
    for actual, want in zip(ours, expected, strict=True):
        assert_matches(actual, want)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_nan_and_infinity_reach_only_what_reads_them(device, layout):
    x, weight = arguments((1, 8, 3, 2, 2), layout=layout, device=device)
    x[0, 0, 1, 0, 1], x[0, 7, 2, 1, 1] = float("nan"), float("inf")
    for actual, want in zip(
        flat(dfops.strip_pool, axis="T")(x, weight), flat(reference.strip_pool, axis="T")(x, weight), strict=True
    ):
        assert_matches(actual, want)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_compile_and_export(device, layout):
    args = arguments(layout=layout, device=device, requires_grad=True)
    call = flat(dfops.strip_pool, axis="T")
    compiled = torch.compile(call, fullgraph=True)
    outputs = compiled(*args)
    for actual, expected in zip(outputs, call(*args), strict=True):
        assert actual.stride() == expected.stride()
        assert_matches(actual, expected)
    grads = output_gradients(outputs, 6)
    for ours, expected in zip(gradients(compiled, args, grads), gradients(call, args, grads), strict=True):
        assert_matches(ours, expected)

    class Pool(torch.nn.Module):
        def forward(self, *args):
            return call(*args)

    detached = tuple(a.detach() for a in args)
    exported = torch.export.export(Pool(), detached).module()(*detached)
    for ours, expected in zip(exported, call(*detached), strict=True):
        assert_matches(ours, expected)
