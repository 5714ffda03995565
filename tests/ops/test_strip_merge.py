"""dfops.strip_merge: value, shapes, gradients, dtypes, layouts, compile."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import dfops
from dfops import reference
from tests.ops.cases import AXES
from tests.ops.cases import pyramid as arguments
from tests.strategies import DEVICES, HALVES, LAYOUTS, clip_shapes, lay_out, layouts, random_clip, seeds
from tests.tolerances import assert_matches, assert_no_worse

SHAPE = (2, 8, 4, 6, 5)

calls = {
    "shape": clip_shapes(),
    "seed": seeds(),
    "layout": layouts(),
    "axis": st.sampled_from("THW"),
    "lengths": st.lists(st.integers(1, 11), min_size=1, max_size=8),
}


def with_length(shape, axis, length):
    return (*shape[: AXES[axis]], length, *shape[AXES[axis] + 1 :])


def gradients(function, parts, size, axis, grad):
    return torch.autograd.grad(function(parts, size, axis=axis), parts, grad)


@pytest.mark.parametrize("device", DEVICES)
@given(**calls)
def test_matches_reference(device, shape, seed, layout, axis, lengths):
    parts = arguments(axis, lengths, shape, seed, layout=layout, device=device)
    size = shape[AXES[axis]]
    assert_matches(dfops.strip_merge(parts, size, axis=axis), reference.strip_merge(parts, size, axis=axis))


@pytest.mark.parametrize("device", DEVICES)
@given(**calls)
def test_gradients_match_reference(device, shape, seed, layout, axis, lengths):
    kind = {"layout": layout, "device": device, "dtype": torch.float64}
    parts = arguments(axis, lengths, shape, seed, requires_grad=True, **kind)
    size = shape[AXES[axis]]
    grad = random_clip(shape, seed=seed + 9, **kind)
    ours = gradients(dfops.strip_merge, parts, size, axis, grad)
    for actual, expected in zip(ours, gradients(reference.strip_merge, parts, size, axis, grad), strict=True):
        assert_matches(actual, expected)


def test_source_position_is_computed_in_integers():
    positions = {length: torch.arange(length).double().reshape(1, -1, 1, 1, 1) for length in (1, 2, 3, 26)}
    assert dfops.strip_merge([positions[3]], 7, axis="T").flatten().tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert dfops.strip_merge([positions[2]], 5, axis="T").flatten().tolist() == [0, 0, 0, 1, 1]
    assert dfops.strip_merge([positions[3], positions[1]], 6, axis="T").flatten().tolist() == [0, 0, 0.5, 0.5, 1, 1]
    # F.interpolate rounds here
    merged = dfops.strip_merge([positions[26]], 44, axis="T").flatten()
    assert merged.tolist() == [i * 26 // 44 for i in range(44)]


@pytest.mark.parametrize("length", [2, 4])
def test_agrees_with_interpolate_for_powers_of_two(length):
    (part,) = arguments(lengths=(length,))
    rows = part.permute(0, 3, 4, 2, 1).flatten(0, 2)
    expected = F.interpolate(rows, size=8, mode="nearest").reshape(2, 6, 5, 4, 8).permute(0, 4, 3, 1, 2)
    assert torch.equal(dfops.strip_merge([part], 8, axis="T"), expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize(
    ("axis", "shape"),
    [("T", (2, 8, 6, 33, 35)), ("T", (1, 300, 3, 4, 4)), ("H", (1, 2, 24, 31, 70)), ("W", (1, 2, 5, 9, 700))],
)
def test_sizes_beyond_one_block(device, layout, axis, shape):
    size = shape[AXES[axis]]
    parts = arguments(axis, (size, size // 2, 3), shape, layout=layout, device=device, requires_grad=True)
    assert_matches(dfops.strip_merge(parts, size, axis=axis), reference.strip_merge(parts, size, axis=axis))
    grad = random_clip(shape, seed=5, layout=layout, device=device)
    exact = [p.detach().double().requires_grad_() for p in parts]
    ours = gradients(dfops.strip_merge, parts, size, axis, grad)
    for actual, expected in zip(ours, gradients(reference.strip_merge, exact, size, axis, grad.double()), strict=True):
        torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", AXES)
def test_gradcheck(device, layout, axis):
    kind = {"layout": layout, "dtype": torch.float64, "device": device, "requires_grad": True}
    parts = arguments(axis, (4, 3), (1, 2, 3, 2, 2), **kind)
    assert torch.autograd.gradcheck(lambda *parts: dfops.strip_merge(parts, 5, axis=axis), parts)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("axis", AXES)
def test_half_types(device, dtype, axis):
    parts = arguments(axis, dtype=dtype, device=device, requires_grad=True)
    exact = [p.detach().double().requires_grad_() for p in parts]
    out = dfops.strip_merge(parts, 8, axis=axis)
    assert_no_worse(out, reference.strip_merge(exact, 8, axis=axis), reference.strip_merge(parts, 8, axis=axis))
    grad = random_clip(with_length(SHAPE, axis, 8), seed=8, dtype=dtype, device=device)
    for ours, want, same in zip(
        gradients(dfops.strip_merge, parts, 8, axis, grad),
        gradients(reference.strip_merge, exact, 8, axis, grad.double()),
        gradients(reference.strip_merge, parts, 8, axis, grad),
        strict=True,
    ):
        assert_no_worse(ours, want, same)


@pytest.mark.parametrize("device", DEVICES)
def test_autocast_takes_the_widest_dtype(device):
    a, b, c = arguments(device=device)
    with torch.autocast(device, dtype=torch.bfloat16):
        out = dfops.strip_merge([a.bfloat16(), b, c.bfloat16()], 8, axis="T")
    assert_matches(out, reference.strip_merge([a.bfloat16().float(), b, c.bfloat16().float()], 8, axis="T"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("axis", AXES)
def test_the_first_part_decides_the_layout(device, axis):
    a, b, c = arguments(axis, device=device)
    expected = dfops.strip_merge([a, b, c], 8, axis=axis)
    out = dfops.strip_merge([lay_out(a, "channels_last"), b, lay_out(c, "strided")], 8, axis=axis)
    assert out.stride() == lay_out(expected, "channels_last").stride()
    assert_matches(out, expected)
    out = dfops.strip_merge([lay_out(a, "strided"), lay_out(b, "channels_last"), c], 8, axis=axis)
    assert out.stride() == expected.stride()
    assert_matches(out, expected)


@pytest.mark.parametrize("device", DEVICES)
def test_gradient_of_a_contiguous_single_frame_survives_batch_norm(device):
    """As in DDL with one clip of 4 to 7 frames, channels-last but for the last scale."""
    full = random_clip((1, 6, 3, 5, 4), layout="channels_last", dtype=torch.float64, device=device)
    frame = random_clip((1, 1, 3, 5, 4), seed=1, dtype=torch.float64, device=device, requires_grad=True)
    grad = random_clip((1, 6, 3, 5, 4), seed=2, layout="channels_last", dtype=torch.float64, device=device)
    results = []
    for merge in (dfops.strip_merge, reference.strip_merge):
        mean, variance = (
            torch.zeros(3, dtype=torch.float64, device=device),
            torch.ones(3, dtype=torch.float64, device=device),
        )
        normalized = F.batch_norm(frame.flatten(0, 1), mean, variance).unflatten(0, (1, 1))
        results += torch.autograd.grad(merge([full, normalized], 6, axis="T"), frame, grad)
    assert_matches(*results)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("axis", AXES)
def test_unaligned_storage(device, axis):
    shape = (1, 4, 4, 4, 8)
    parts = [torch.randn(1 + 512, device=device)[1:].reshape(shape) for _ in range(2)]
    assert_matches(dfops.strip_merge(parts, 8, axis=axis), reference.strip_merge(parts, 8, axis=axis))


def test_nan_and_infinity_pass_through():
    parts = arguments()
    parts[0][0, 1, 2, 3, 4], parts[1][1, 3, 0, 0, 0] = float("nan"), float("inf")
    assert_matches(dfops.strip_merge(parts, 8, axis="T"), reference.strip_merge(parts, 8, axis="T"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize(
    ("axis", "size"),
    [("T", 8), ("H", 8), ("T", 7)],  # the compiler's own formula; a size that does not divide: the operator
)
def test_compiled_and_eager_agree(device, layout, axis, size):
    parts = arguments(axis, layout=layout, device=device, requires_grad=True)
    # a channels-last first part among others: layouts must not follow the compiler's choice
    parts[2] = lay_out(parts[2].detach(), "strided").requires_grad_()
    compiled = torch.compile(dfops.strip_merge, fullgraph=True)
    out, expected = compiled(parts, size, axis=axis), dfops.strip_merge(parts, size, axis=axis)
    assert out.stride() == expected.stride()
    assert_matches(out, expected)
    grad = random_clip(out.shape, seed=6, device=device)
    for ours, want in zip(
        gradients(compiled, parts, size, axis, grad), gradients(dfops.strip_merge, parts, size, axis, grad), strict=True
    ):
        assert_matches(ours, want)


@pytest.mark.parametrize("dtype", HALVES)
def test_compiled_halves_accumulate_in_float(dtype):
    parts = arguments(dtype=dtype)
    out = torch.compile(dfops.strip_merge, fullgraph=True)(parts, 8, axis="T")
    assert_matches(out, dfops.strip_merge(parts, 8, axis="T"))


@pytest.mark.parametrize("size", [8, 7])
def test_export(size):
    class Merge(torch.nn.Module):
        def forward(self, *parts):
            return dfops.strip_merge(parts, size, axis="T")

    parts = tuple(arguments())
    exported = torch.export.export(Merge(), parts)
    assert_matches(exported.module()(*parts), dfops.strip_merge(parts, size, axis="T"))
