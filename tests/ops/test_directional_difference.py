"""dfops.directional_difference: value, gradients, dtypes, layouts, compile."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import dfops
from dfops import reference
from tests.ops.cases import differenced_clip as arguments
from tests.strategies import DEVICES, HALVES, LAYOUTS, clip_shapes, lay_out, layouts, random_clip, seeds
from tests.tolerances import assert_matches, assert_no_worse

SHAPE = (2, 5, 4, 6, 7)
AXES = {"H": 3, "W": 4}

calls = {
    "shape": clip_shapes(),
    "seed": seeds(),
    "layout": layouts(),
    "axis": st.sampled_from("HW"),
    "taps": st.sampled_from([1, 3, 5, 9]),
}


def gradients(function, args, axis, grad):
    return torch.autograd.grad(function(*args, axis=axis), args, grad)


@pytest.mark.parametrize("device", DEVICES)
@given(**calls)
def test_matches_reference(device, shape, seed, layout, axis, taps):
    args = arguments(shape, seed, layout, device=device, taps=taps)
    assert_matches(dfops.directional_difference(*args, axis=axis), reference.directional_difference(*args, axis=axis))


@pytest.mark.parametrize("device", DEVICES)
@given(**calls)
def test_gradients_match_reference(device, shape, seed, layout, axis, taps):
    args = arguments(shape, seed, layout, torch.float64, device, True, taps)
    grad = random_clip(shape, seed=seed + 2, layout=layout, dtype=torch.float64, device=device)
    ours = gradients(dfops.directional_difference, args, axis, grad)
    for actual, want in zip(ours, gradients(reference.directional_difference, args, axis, grad), strict=True):
        assert_matches(actual, want)


@pytest.mark.parametrize(("axis", "kernel"), [("H", (3, 1)), ("W", (1, 3))])
def test_agrees_with_torch_convolution(axis, kernel):
    """The reference is our own text; this is torch's convolution, of the later frame only."""
    x, weight = arguments()
    later = x[:, 1:].flatten(0, 1)
    padding = (kernel[0] // 2, kernel[1] // 2)
    filtered = F.conv2d(later, weight.reshape(4, 1, *kernel), padding=padding, groups=4).unflatten(0, (2, 4))
    out = dfops.directional_difference(x, weight, axis=axis)
    assert_matches(out[:, :-1], filtered - x[:, :-1])
    assert torch.equal(out[:, -1], torch.zeros_like(x[:, -1]))


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("frames", [0, 1])
def test_clips_without_a_difference(axis, frames):
    x, weight = arguments((2, frames, 4, 6, 7), requires_grad=True)
    out = dfops.directional_difference(x, weight, axis=axis)
    assert torch.equal(out, torch.zeros_like(x))
    for grad, leaf in zip(torch.autograd.grad(out, (x, weight), torch.ones_like(x)), (x, weight), strict=True):
        assert torch.equal(grad, torch.zeros_like(leaf))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize(
    ("axis", "shape", "taps"),
    [
        ("H", (2, 3, 2, 190, 200), 3),  # part of a plane, several pieces of it
        ("H", (1, 2, 24, 5, 701), 5),  # the same with long rows
        ("W", (2, 3, 2, 190, 200), 3),  # whole lines, several pieces of them
        ("W", (1, 2, 3, 2, 9000), 7),  # a line longer than a piece
        ("W", (1, 3, 300, 9, 7), 3),  # more channels than a block has threads
    ],
)
def test_sizes_beyond_one_block(device, layout, axis, shape, taps):
    args = arguments(shape, layout=layout, device=device, taps=taps, requires_grad=True)
    exact = [a.detach().double().requires_grad_() for a in args]
    out = dfops.directional_difference(*args, axis=axis)
    want = reference.directional_difference(*exact, axis=axis)
    torch.testing.assert_close(out.double(), want, rtol=1e-5, atol=1e-5)
    grad = random_clip(shape, seed=5, layout=layout, device=device)
    ours = gradients(dfops.directional_difference, args, axis, grad)
    expected = gradients(reference.directional_difference, exact, axis, grad.double())
    for actual, want in zip(ours, expected, strict=True):
        torch.testing.assert_close(actual.double(), want, rtol=1e-5, atol=5e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", AXES)
def test_gradcheck(device, layout, axis):
    args = arguments((1, 3, 2, 4, 3), 0, layout, torch.float64, device, True)
    assert torch.autograd.gradcheck(lambda *args: dfops.directional_difference(*args, axis=axis), args)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("shape", [SHAPE, (1, 2, 2, 190, 200)])  # one piece of a plane, and several
def test_half_types(device, dtype, layout, axis, shape):
    args = arguments(shape, layout=layout, dtype=dtype, device=device, requires_grad=True)
    exact = [a.detach().double().requires_grad_() for a in args]
    ours, expected = dfops.directional_difference, reference.directional_difference
    assert_no_worse(ours(*args, axis=axis), expected(*exact, axis=axis), expected(*args, axis=axis))
    grad = random_clip(shape, seed=8, dtype=dtype, device=device)
    for actual, want, same in zip(
        gradients(ours, args, axis, grad),
        gradients(expected, exact, axis, grad.double()),
        gradients(expected, args, axis, grad),
        strict=True,
    ):
        assert_no_worse(actual, want, same)


@pytest.mark.parametrize("device", DEVICES)
def test_autocast_takes_the_widest_dtype(device):
    x, weight = arguments(device=device)
    with torch.autocast(device, dtype=torch.bfloat16):
        out = dfops.directional_difference(x.bfloat16(), weight, axis="H")
    assert_matches(out, reference.directional_difference(x.bfloat16().float(), weight, axis="H"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("shape", [SHAPE, (1, 1, 4, 6, 7)])
def test_layout_is_kept_for_result_and_gradient(device, axis, shape):
    x, weight = arguments(shape, device=device, requires_grad=True)
    grad = random_clip(shape, seed=4, device=device)
    expected = (
        dfops.directional_difference(x, weight, axis=axis),
        *gradients(dfops.directional_difference, (x, weight), axis, grad),
    )
    for layout in LAYOUTS:
        same = lay_out(x.detach(), layout).requires_grad_()
        out = dfops.directional_difference(same, weight, axis=axis)
        strides = lay_out(x.detach(), "channels_last" if layout == "channels_last" else "contiguous").stride()
        assert out.stride() == strides
        # output gradients of another layout than the output, too
        for kind in LAYOUTS:
            grads = torch.autograd.grad(out, (same, weight), lay_out(grad, kind), retain_graph=True)
            if layout != "strided":  # autograd gives a leaf a gradient of the leaf's own strides
                assert grads[0].stride() == strides
            for actual, want in zip((out, *grads), expected, strict=True):
                assert_matches(actual, want)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_gradient_of_a_single_frame_survives_batch_norm(device, layout):
    """Torch's batch norm misreads a channels-last gradient of one frame beside a contiguous input."""
    frame = random_clip((1, 1, 3, 5, 4), layout=layout, dtype=torch.float64, device=device, requires_grad=True)
    grad = random_clip((1, 2, 3, 5, 4), seed=2, layout="channels_last", dtype=torch.float64, device=device)
    weight = torch.randn(3, 3, dtype=torch.float64, device=device)
    results = []
    for function in (dfops.directional_difference, reference.directional_difference):
        mean, variance = (f(3, dtype=torch.float64, device=device) for f in (torch.zeros, torch.ones))
        normalized = F.batch_norm(frame[:, 0], mean, variance)[:, None]
        out = function(torch.cat([normalized, 2 * normalized], 1), weight, axis="H") + function(
            normalized, weight, axis="W"
        )
        results += torch.autograd.grad(out, frame, grad)
    assert_matches(*results)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("axis", AXES)
def test_unaligned_storage_and_transposed_weight(device, axis):
    shape = (1, 3, 4, 4, 8)
    x = torch.randn(1 + 3 * 4 * 4 * 8, device=device)[1:].reshape(shape)
    weight = torch.randn(3, 4, device=device).t()
    ours, expected = (f(x, weight, axis=axis) for f in (dfops.directional_difference, reference.directional_difference))
    assert_matches(ours, expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("axis", AXES)
def test_nan_and_infinity_reach_only_what_reads_them(device, layout, axis):
    x, weight = arguments((1, 4, 3, 5, 6), layout=layout, device=device, requires_grad=True)
    with torch.no_grad():
        # the ends of lines, beside which the next line lies in memory, and the first frame, which is not filtered
        x[0, 2, 1, 0, 5], x[0, 0, 2, 4, 0], x[0, 3, 0, 4, 5] = float("nan"), float("inf"), float("-inf")
    out = dfops.directional_difference(x, weight, axis=axis)
    assert_matches(out, reference.directional_difference(x, weight, axis=axis))
    assert torch.equal(out[:, -1], torch.zeros_like(out[:, -1]))
    grad = random_clip((1, 4, 3, 5, 6), seed=1, layout=layout, device=device)
    grad[0, 1, 2, 2, 1], grad[0, 2, 0, 3, 4] = float("nan"), float("inf")  # the reference multiplies the zeros outside
    grad[0, 3] = float("nan")  # the last frame is a constant
    ours = gradients(dfops.directional_difference, (x, weight), axis, grad)
    expected = gradients(reference.directional_difference, (x, weight), axis, grad)
    for actual, want in zip(ours, expected, strict=True):
        assert_matches(actual, want)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", AXES)
def test_compiled_and_eager_agree(device, layout, axis):
    args = arguments(layout=layout, device=device, requires_grad=True)
    compiled = torch.compile(dfops.directional_difference, fullgraph=True)
    out, expected = compiled(*args, axis=axis), dfops.directional_difference(*args, axis=axis)
    assert out.stride() == expected.stride()
    assert_matches(out, expected)
    grad = random_clip(SHAPE, seed=6, device=device)
    for ours, want in zip(
        gradients(compiled, args, axis, grad), gradients(dfops.directional_difference, args, axis, grad), strict=True
    ):
        assert_matches(ours, want)


def test_export():
    class Difference(torch.nn.Module):
        def forward(self, x, weight):
            return dfops.directional_difference(x, weight, axis="H")

    args = arguments()
    exported = torch.export.export(Difference(), args)
    assert_matches(exported.module()(*args), dfops.directional_difference(*args, axis="H"))
