"""dfops.strip_merge: value, shapes, gradients, registration, errors, dtypes, layouts, determinism, compile."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import dfops
from dfops import reference
from tests.strategies import DEVICES, HALVES, LAYOUTS, clip_shapes, lay_out, layouts, random_clip, seeds
from tests.tolerances import assert_matches, assert_no_worse, assert_repeats, assert_threads_agree

SHAPE = (2, 8, 4, 6, 5)
AXES = {"T": 1, "H": 3, "W": 4}

calls = {
    "shape": clip_shapes(),
    "seed": seeds(),
    "layout": layouts(),
    "axis": st.sampled_from("THW"),
    "lengths": st.lists(st.integers(1, 11), min_size=1, max_size=8),
}


def with_length(shape, axis, length):
    return (*shape[: AXES[axis]], length, *shape[AXES[axis] + 1 :])


def arguments(axis="T", lengths=(8, 4, 2), shape=SHAPE, seed=0, **kind):
    return [random_clip(with_length(shape, axis, n), seed=seed + i, **kind) for i, n in enumerate(lengths)]


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
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck(device, requires_grad, layout):
    for axis, dim in AXES.items():
        parts = arguments(axis, (8, 3), layout=layout, device=device, requires_grad=requires_grad)
        torch.library.opcheck(torch.ops.dfops.strip_merge, (parts, 7, dim))
        grad = random_clip(SHAPE, seed=7, layout=layout, device=device)
        torch.library.opcheck(torch.ops.dfops._strip_merge_backward, (grad, [8, 3], dim))


def test_second_derivative_is_refused():
    parts = arguments(dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(dfops.strip_merge(parts, 8, axis="T").square().sum(), parts[0], create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivative"):
        grad.sum().backward()


def test_forward_mode_is_refused():
    parts = arguments()
    with torch.autograd.forward_ad.dual_level():
        parts[1] = torch.autograd.forward_ad.make_dual(parts[1], torch.ones_like(parts[1]))
        with pytest.raises(NotImplementedError, match=r"parts\[1\] carries a forward-mode tangent"):
            dfops.strip_merge(parts, 8, axis="T")


def test_errors():
    a, b, c = arguments()
    with pytest.raises(ValueError, match="parts must hold 1 to 8 tensors, got 0"):
        dfops.strip_merge([], 8, axis="T")
    with pytest.raises(ValueError, match="parts must hold 1 to 8 tensors, got 9"):
        dfops.strip_merge([a] * 9, 8, axis="T")
    with pytest.raises(ValueError, match=r"parts\[1\] is empty along T, so it cannot be repeated to size 8"):
        dfops.strip_merge([a, b[:, :0]], 8, axis="T")
    with pytest.raises(
        ValueError, match=r"parts\[2\] must agree with parts\[0\] in all axes but H, \(2, 8, 4, 6, 5\), got"
    ):
        dfops.strip_merge([a, a, c], 8, axis="H")
    with pytest.raises(ValueError, match=r"parts\[0\] must be \(B, T, C, H, W\), got shape \(2, 3\)"):
        dfops.strip_merge([torch.zeros(2, 3)], 8, axis="T")
    with pytest.raises(ValueError, match="size must be an integer and not negative, got -1"):
        dfops.strip_merge([a], -1, axis="T")
    with pytest.raises(ValueError, match='axis must be "T", "H" or "W", got 1'):
        dfops.strip_merge([a], 8, axis=1)
    with pytest.raises(
        TypeError, match=r"parts\[1\] must have the dtype of parts\[0\], torch.float32, got torch.float64"
    ):
        dfops.strip_merge([a, b.double()], 8, axis="T")
    with pytest.raises(TypeError, match=r"parts\[1\] must be a tensor, got float"):
        dfops.strip_merge([a, 1.0], 8, axis="T")
    with pytest.raises(ValueError, match=r"parts\[1\] must be on the device of parts\[0\], cpu, got meta"):
        dfops.strip_merge([a, b.to("meta")], 8, axis="T")


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


def everything(layout, axis, device="cpu"):
    shape = (2, 8, 16, 33, 31)
    size = shape[AXES[axis]]
    parts = arguments(axis, (size, size // 2, 3), shape, layout=layout, device=device, requires_grad=True)
    grad = random_clip(shape, seed=6, layout=layout, device=device)
    return dfops.strip_merge(parts, size, axis=axis), *gradients(dfops.strip_merge, parts, size, axis, grad)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("axis", AXES)
def test_repeats_bit_for_bit(device, layout, axis):
    assert_repeats(lambda: everything(layout, axis, device))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("axis", AXES)
def test_one_and_two_threads_agree(layout, axis):
    assert_threads_agree(lambda: everything(layout, axis))


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
