"""dfops.latent_rotate: value, gradients, dtypes, layouts, compile."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import dfops
from dfops import reference
from dfops.ops.latent_rotate import MODES, PADDINGS
from tests.ops.cases import turned_maps as arguments
from tests.strategies import DEVICES, HALVES, LAYOUTS, layouts, random_maps, seeds
from tests.tolerances import assert_matches, assert_no_worse

SHAPE = (2, 5, 6, 7)
KINDS = list(itertools.product(MODES, PADDINGS))
ROTATIONS = pytest.mark.parametrize(("mode", "padding"), KINDS)


def gradients(function, args, grad, **options):
    return torch.autograd.grad(function(*args, **options), args, grad)


calls = {
    "shape": st.tuples(st.integers(0, 3), st.integers(0, 20), st.integers(0, 9), st.integers(0, 9)),
    "seed": seeds(),
    "layout": layouts(),
    "kind": st.sampled_from(KINDS),
}


@pytest.mark.parametrize("device", DEVICES)
@given(**calls)
def test_matches_reference(device, shape, seed, layout, kind):
    # float64: where a coordinate is rounded to a pixel or folded, float32 decides ties by its own rounding
    args = arguments(shape, seed, layout, torch.float64, device)
    options = {"mode": kind[0], "padding_mode": kind[1]}
    assert_matches(dfops.latent_rotate(*args, **options), reference.latent_rotate(*args, **options))


@pytest.mark.parametrize("device", DEVICES)
@given(shape=calls["shape"], seed=seeds(), layout=layouts(), padding=st.sampled_from(PADDINGS))
def test_matches_reference_in_float32(device, shape, seed, layout, padding):
    args = arguments(shape, seed, layout, device=device)
    out, want = (f(*args, padding_mode=padding) for f in (dfops.latent_rotate, reference.latent_rotate))
    # the coordinates of grid_sample are rounded too, and one ulp of a coordinate is 1e-6 of a difference of pixels
    torch.testing.assert_close(out, want, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("device", DEVICES)
@given(**calls)
def test_gradients_match_reference(device, shape, seed, layout, kind):
    args = arguments(shape, seed, layout, torch.float64, device, True)
    grad = random_maps(shape, seed=seed + 2, layout=layout, dtype=torch.float64, device=device)
    options = {"mode": kind[0], "padding_mode": kind[1]}
    ours = gradients(dfops.latent_rotate, args, grad, **options)
    for actual, want in zip(ours, gradients(reference.latent_rotate, args, grad, **options), strict=True):
        assert_matches(actual, want)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("turns", "same"), [(1, 1), (2, 2), (-1, 3)])
def test_quarter_turns_are_exact_permutations(layout, turns, same):
    """A positive angle turns the picture counter-clockwise, as torch.rot90 does."""
    x = random_maps((3, 5, 8, 8), layout=layout, dtype=torch.float64)
    out = dfops.latent_rotate(x, turns * torch.pi / 2)
    torch.testing.assert_close(out, torch.rot90(x, same, (2, 3)), rtol=0, atol=1e-13)


def test_agrees_with_affine_grid():
    """The reference is our own text; this is torch's grid of the released matrix."""
    x, angle = arguments((4, 3, 5, 9), dtype=torch.float64)
    zero = torch.zeros_like(angle)
    matrix = torch.stack([angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero], 1).unflatten(1, (2, 3))
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    assert_matches(dfops.latent_rotate(x, angle), F.grid_sample(x, grid, align_corners=False))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize(
    "shape",
    [
        (2, 300, 4, 5),  # more channels than a block has packs
        (1, 3, 33, 47),  # more positions than a tile, and not a multiple of one
        (2, 5, 2, 70),  # many positions read one pixel
        (1, 1, 1, 1),
    ],
)
def test_sizes_beyond_one_block(device, layout, shape):
    args = arguments(shape, layout=layout, dtype=torch.float64, device=device, requires_grad=True)
    assert_matches(dfops.latent_rotate(*args), reference.latent_rotate(*args))
    grad = random_maps(shape, seed=5, layout=layout, dtype=torch.float64, device=device)
    ours = gradients(dfops.latent_rotate, args, grad)
    for actual, want in zip(ours, gradients(reference.latent_rotate, args, grad), strict=True):
        assert_matches(actual, want)


@pytest.mark.parametrize("device", DEVICES)
def test_a_number_is_one_angle_for_all(device):
    x, _ = arguments(dtype=torch.float64, device=device, requires_grad=True)
    out = dfops.latent_rotate(x, 0.4)
    assert_matches(out, reference.latent_rotate(x, 0.4))
    assert_matches(out, dfops.latent_rotate(x, torch.full((2,), 0.4, dtype=torch.float64, device=device)))
    assert_matches(dfops.latent_rotate(x, 0), x)
    out.sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@ROTATIONS
def test_gradcheck(device, layout, mode, padding):
    # by construction of the seed, no source coordinate is near a kink
    x = random_maps((2, 2, 4, 3), layout=layout, dtype=torch.float64, device=device, requires_grad=True)
    angle = torch.tensor([0.37, -2.1], dtype=torch.float64, device=device, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *a: dfops.latent_rotate(*a, mode=mode, padding_mode=padding), (x, angle))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("padding", PADDINGS)
def test_half_types(device, dtype, layout, padding):
    x, angle = arguments((2, 18, 6, 7), layout=layout, dtype=dtype, device=device, requires_grad=True)
    exact = [a.detach().double().requires_grad_() for a in (x, angle)]
    ours, want = dfops.latent_rotate, reference.latent_rotate
    options = {"padding_mode": padding}
    assert_no_worse(ours(x, angle, **options), want(*exact, **options), want(x, angle, **options))
    grad = random_maps((2, 18, 6, 7), seed=8, dtype=dtype, device=device)
    for actual, expect, same in zip(
        gradients(ours, (x, angle), grad, **options),
        gradients(want, exact, grad.double(), **options),
        gradients(want, (x, angle), grad, **options),
        strict=True,
    ):
        assert_no_worse(actual, expect, same)


@pytest.mark.parametrize("device", DEVICES)
def test_float32_angles_beside_halves_are_used_unrounded(device):
    x, _ = arguments((1, 3, 64, 64), dtype=torch.bfloat16, device=device)
    angle = torch.tensor([0.5 + 2**-9 + 2**-16], device=device)  # bfloat16 has 8 bits
    exact = reference.latent_rotate(x.double(), angle.double())
    assert_matches(dfops.latent_rotate(x, angle), exact.bfloat16())
    out = dfops.latent_rotate(x.float(), angle.double())  # a wider angle is rounded to what the kernels compute in
    assert_matches(out, dfops.latent_rotate(x.float(), angle))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [SHAPE, (1, 4, 6, 7)])
def test_layout_is_kept_for_result_and_gradient(device, shape):
    x, angle = arguments(shape, dtype=torch.float64, device=device, requires_grad=True)
    grad = random_maps(shape, seed=4, dtype=torch.float64, device=device)
    expected = (dfops.latent_rotate(x, angle), *gradients(dfops.latent_rotate, (x, angle), grad))
    for layout in LAYOUTS:
        same, _ = arguments(shape, layout=layout, dtype=torch.float64, device=device)
        same.requires_grad_()
        out = dfops.latent_rotate(same, angle)
        memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        assert out.is_contiguous(memory_format=memory)
        # output gradients of another layout than the output, too
        for kind in LAYOUTS:
            upstream = random_maps(shape, seed=4, layout=kind, dtype=torch.float64, device=device)
            grads = torch.autograd.grad(out, (same, angle), upstream, retain_graph=True)
            for actual, want in zip((out, *grads), expected, strict=True):
                assert_matches(actual, want)
        direct, _ = torch.ops.dfops._latent_rotate_backward(out.detach()[:, None], None, angle.detach(), 0, 0, True)
        assert direct[:, 0].is_contiguous(memory_format=memory)


@pytest.mark.parametrize("device", DEVICES)
def test_unaligned_storage(device):
    x = torch.randn(1 + 2 * 6 * 7 * 8, device=device, dtype=torch.float64)[1:].reshape(2, 6, 7, 8).permute(0, 3, 1, 2)
    assert_matches(dfops.latent_rotate(x, 0.3), reference.latent_rotate(x, 0.3))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("padding", PADDINGS)
def test_nan_and_infinity_reach_only_what_reads_them(device, layout, padding):
    x, angle = arguments((2, 18, 6, 7), layout=layout, dtype=torch.float64, device=device)
    # the first pixel is where tables of fixed size would point for what lies outside
    x[0, 0, 0, 0], x[0, 17, 5, 6], x[1, 3, 2, 3] = float("nan"), float("inf"), float("-inf")
    x.requires_grad_()
    out, want = (f(x, angle, padding_mode=padding) for f in (dfops.latent_rotate, reference.latent_rotate))
    assert out.isnan().any()
    assert_matches(out, want)
    grad = random_maps((2, 18, 6, 7), seed=1, layout=layout, dtype=torch.float64, device=device)
    grad[0, 2, 0, 0], grad[1, 17, 3, 3] = float("nan"), float("inf")
    assert_matches(*(torch.autograd.grad(y, x, grad)[0] for y in (out, want)))


@pytest.mark.parametrize("device", DEVICES)
@ROTATIONS
def test_angles_that_are_no_numbers_read_what_grid_sample_reads(device, mode, padding):
    x, _ = arguments((2, 3, 8, 8), device=device)
    angle = torch.tensor([float("nan"), float("inf")], device=device)
    options = {"mode": mode, "padding_mode": padding}
    # of torch's two grid_sample the CPU's: the one for CUDA puts what is not finite outside of the map, which gives 0
    expected = reference.latent_rotate(x.cpu(), angle.cpu(), **options).to(device)
    assert_matches(dfops.latent_rotate(x, angle, **options), expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_compiled_and_eager_agree(device, layout):
    args = arguments(layout=layout, device=device, requires_grad=True)
    compiled = torch.compile(dfops.latent_rotate, fullgraph=True)
    out, want = compiled(*args), dfops.latent_rotate(*args)
    assert out.stride() == want.stride()
    assert_matches(out, want)
    assert_matches(compiled(args[0], 0.3), dfops.latent_rotate(args[0], 0.3))
    grad = random_maps(SHAPE, seed=6, device=device)
    for ours, expect in zip(gradients(compiled, args, grad), gradients(dfops.latent_rotate, args, grad), strict=True):
        assert_matches(ours, expect)


def test_export():
    class Rotate(torch.nn.Module):
        def forward(self, x, angle):
            return dfops.latent_rotate(x, angle, padding_mode="border")

    args = arguments()
    exported = torch.export.export(Rotate(), args)
    assert_matches(exported.module()(*args), dfops.latent_rotate(*args, padding_mode="border"))
