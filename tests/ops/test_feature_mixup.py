"""dfops.feature_mixup: value, gradients, dtypes, layouts, compile."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dfops
from dfops import reference
from tests.ops.cases import mixed_rows as arguments
from tests.strategies import DEVICES, HALVES, LAYOUTS, layouts, random_clip, seeds
from tests.tolerances import assert_matches, assert_no_worse

SHAPE = (5, 3, 4, 2, 3)


def gradients(function, args, grad):
    return torch.autograd.grad(function(*args), (args[0], args[2]), grad)


def like(x, seed):
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(x)


calls = {
    "shape": st.lists(st.integers(0, 6), min_size=1, max_size=5).map(tuple),
    "seed": seeds(),
    "layout": layouts(),
}


@pytest.mark.parametrize("device", DEVICES)
@given(**calls)
def test_matches_reference(device, shape, seed, layout):
    args = arguments(shape, seed, layout, device=device)
    assert_matches(dfops.feature_mixup(*args), reference.feature_mixup(*args))


@pytest.mark.parametrize("device", DEVICES)
@given(**calls)
def test_gradients_match_reference(device, shape, seed, layout):
    args = arguments(shape, seed, layout, torch.float64, device, True)
    grad = like(args[0], seed + 2)
    ours = gradients(dfops.feature_mixup, args, grad)
    for actual, want in zip(ours, gradients(reference.feature_mixup, args, grad), strict=True):
        assert_matches(actual, want)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(3, 50000), (300, 7), (7, 16384)])  # rows of several pieces; many rows
def test_sizes_beyond_one_block(device, shape):
    args = arguments(shape, device=device, requires_grad=True)
    exact = [a.detach().double().requires_grad_() if a.is_floating_point() else a for a in args]
    assert_matches(dfops.feature_mixup(*args), reference.feature_mixup(*args))
    grad = like(args[0], 2)
    ours = gradients(dfops.feature_mixup, args, grad)
    for actual, want in zip(ours, gradients(reference.feature_mixup, exact, grad.double()), strict=True):
        torch.testing.assert_close(actual.double(), want, rtol=1e-5, atol=5e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_all_rows_from_one(device):
    x, _, lam = arguments((300, 9), dtype=torch.float64, device=device, requires_grad=True)
    args = (x, torch.full((300,), 7, device=device), lam)
    grad = like(x, 2)
    for actual, want in zip(
        (dfops.feature_mixup(*args), *gradients(dfops.feature_mixup, args, grad)),
        (reference.feature_mixup(*args), *gradients(reference.feature_mixup, args, grad)),
        strict=True,
    ):
        assert_matches(actual, want)


@pytest.mark.parametrize("device", DEVICES)
def test_a_number_is_one_weight_for_all(device):
    x, index, _ = arguments(dtype=torch.float64, device=device, requires_grad=True)
    out = dfops.feature_mixup(x, index, 0.3)
    assert_matches(out, reference.feature_mixup(x, index, 0.3))
    assert_matches(dfops.feature_mixup(x, index, 1), x)
    assert_matches(dfops.feature_mixup(x, index, 0), x[index])
    out.sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradcheck(device, layout):
    x, _, lam = arguments((3, 2, 1, 2, 2), layout=layout, dtype=torch.float64, device=device, requires_grad=True)
    index = torch.tensor([1, 1, 2], device=device)
    assert torch.autograd.gradcheck(lambda x, lam: dfops.feature_mixup(x, index, lam), (x, lam))


@pytest.mark.cpu_kernels
@pytest.mark.parametrize("value", [-1, 5, 2**62])
def test_an_index_out_of_range_is_an_error(value):
    x, index, lam = arguments()
    index[3] = value
    with pytest.raises(RuntimeError, match=rf"index must lie in 0 \.\. 4, got {value} at position 3"):
        dfops.feature_mixup(x, index, lam)
    with pytest.raises(RuntimeError, match="index must lie in"):
        torch.ops.dfops._feature_mixup_backward(x, x, index, lam, True)
    with pytest.raises(RuntimeError, match="index must lie in"):
        torch.compile(dfops.feature_mixup, fullgraph=True)(x, index, lam)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_half_types(device, dtype, layout):
    args = arguments(layout=layout, dtype=dtype, device=device, requires_grad=True)
    exact = [a.detach().double().requires_grad_() if a.is_floating_point() else a for a in args]
    ours, want = dfops.feature_mixup, reference.feature_mixup
    assert_no_worse(ours(*args), want(*exact), want(*args))
    grad = like(args[0], 8)
    for actual, expect, same in zip(
        gradients(ours, args, grad), gradients(want, exact, grad.double()), gradients(want, args, grad), strict=True
    ):
        assert_no_worse(actual, expect, same)


@pytest.mark.parametrize("device", DEVICES)
def test_float32_weights_beside_halves_are_used_unrounded(device):
    x, index, _ = arguments(dtype=torch.bfloat16, device=device)
    lam = torch.full((5,), 0.5 + 2**-9 + 2**-16, device=device)  # bfloat16 has 8 bits
    exact = reference.feature_mixup(x.double(), index, lam.double())
    assert_matches(dfops.feature_mixup(x, index, lam), exact.bfloat16())


@pytest.mark.parametrize("device", DEVICES)
def test_layout_is_kept_for_result_and_gradient(device):
    x, index, lam = arguments(dtype=torch.float64, device=device)
    grad = random_clip(SHAPE, seed=4, dtype=torch.float64, device=device)
    expected = reference.feature_mixup(x, index, lam)
    for layout in LAYOUTS:
        same, _, _ = arguments(layout=layout, dtype=torch.float64, device=device, requires_grad=True)
        out = dfops.feature_mixup(same, index, lam)
        assert_matches(out, expected)
        if layout != "strided":
            assert out.stride() == same.stride()
        for kind in LAYOUTS:
            upstream = random_clip(SHAPE, seed=4, layout=kind, dtype=torch.float64, device=device)
            (actual,) = torch.autograd.grad(out, same, upstream, retain_graph=True)
            again = x.clone().requires_grad_()
            (want,) = torch.autograd.grad(reference.feature_mixup(again, index, lam), again, grad)
            assert_matches(actual, want)


@pytest.mark.parametrize("device", DEVICES)
def test_rows_that_lie_across_memory_and_unaligned_storage(device):
    index, lam = torch.tensor([2, 0, 0], device=device), torch.tensor([0.1, 0.6, 0.3], device=device)
    for x in (torch.randn(8, 3, device=device).t(), torch.randn(25, device=device)[1:].reshape(3, 8)):
        assert_matches(dfops.feature_mixup(x, index, lam), reference.feature_mixup(x, index, lam))
        leaf = x.detach().requires_grad_()
        ours, want = (
            torch.autograd.grad(f(leaf, index, lam), leaf, x)[0] for f in (dfops.feature_mixup, reference.feature_mixup)
        )
        assert_matches(ours, want)
    opcheck_on = torch.randn(8, 3, device=device).t()
    torch.library.opcheck(torch.ops.dfops.feature_mixup, (opcheck_on, index, lam))


@pytest.mark.parametrize("device", DEVICES)
def test_nan_and_infinity_reach_only_what_reads_them(device):
    x, _, lam = arguments((4, 6), device=device)
    x[0, 1], x[1, 2], x[3, 3] = float("nan"), float("inf"), float("-inf")
    lam[2] = 0.0  # still multiplied
    index = torch.tensor([1, 0, 3, 3], device=device)
    assert_matches(dfops.feature_mixup(x, index, lam), reference.feature_mixup(x, index, lam))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_compiled_and_eager_agree(device, layout):
    args = arguments(layout=layout, device=device, requires_grad=True)
    compiled = torch.compile(dfops.feature_mixup, fullgraph=True)
    out, want = compiled(*args), dfops.feature_mixup(*args)
    assert out.stride() == want.stride()
    assert_matches(out, want)
    assert_matches(compiled(*args[:2], 0.3), dfops.feature_mixup(*args[:2], 0.3))
    grad = like(args[0], 6)
    for ours, expect in zip(gradients(compiled, args, grad), gradients(dfops.feature_mixup, args, grad), strict=True):
        assert_matches(ours, expect)


def test_export():
    class Mixup(torch.nn.Module):
        def forward(self, *args):
            return dfops.feature_mixup(*args)

    args = arguments()
    exported = torch.export.export(Mixup(), args)
    assert_matches(exported.module()(*args), dfops.feature_mixup(*args))
