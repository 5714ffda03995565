"""dfops.inconsistency_gate: value, shapes, gradients, dtypes, layouts, compile."""

import pytest
import torch
from hypothesis import given

import dfops
from dfops import reference
from tests.ops.cases import gated_clip as arguments
from tests.strategies import DEVICES, HALVES, LAYOUTS, clip_shapes, lay_out, layouts, random_clip, seeds
from tests.tolerances import assert_matches, assert_no_worse

SHAPE = (2, 3, 4, 5, 6)


def gradients(function, args, grad):
    return torch.autograd.grad(function(*args), args, grad)


@pytest.mark.parametrize("device", DEVICES)
@given(shape=clip_shapes(), seed=seeds(), layout=layouts())
def test_matches_reference(device, shape, seed, layout):
    args = arguments(shape, seed, layout, device=device)
    out = dfops.inconsistency_gate(*args)
    assert_matches(out, reference.inconsistency_gate(*args))


@pytest.mark.parametrize("device", DEVICES)
@given(shape=clip_shapes(), seed=seeds(), layout=layouts())
def test_gradients_match_reference(device, shape, seed, layout):
    args = arguments(shape, seed, layout, device=device, dtype=torch.float64, requires_grad=True)
    grad = random_clip(shape, seed=seed + 9, layout=layout, dtype=torch.float64, device=device)
    ours = gradients(dfops.inconsistency_gate, args, grad)
    for actual, expected in zip(ours, gradients(reference.inconsistency_gate, args, grad), strict=True):
        assert_matches(actual, expected)


@pytest.mark.parametrize("device", DEVICES)
def test_many_elements(device):
    args = arguments((1, 8, 16, 65, 63), device=device, requires_grad=True)
    grad = random_clip((1, 8, 16, 65, 63), seed=5, device=device)
    assert_matches(dfops.inconsistency_gate(*args), reference.inconsistency_gate(*args))
    ours = gradients(dfops.inconsistency_gate, args, grad)
    exact = gradients(reference.inconsistency_gate, [a.detach().double().requires_grad_() for a in args], grad.double())
    for actual, expected in zip(ours, exact, strict=True):
        torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_a_number_as_gamma(device):
    x, vertical, horizontal, _ = arguments(device=device, dtype=torch.float64, requires_grad=True)
    out = dfops.inconsistency_gate(x, vertical, horizontal, 0.5)
    assert_matches(out, reference.inconsistency_gate(x, vertical, horizontal, 0.5))
    out.sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradcheck(device, layout):
    args = arguments((2, 2, 3, 2, 1), layout=layout, dtype=torch.float64, device=device, requires_grad=True)
    assert torch.autograd.gradcheck(dfops.inconsistency_gate, args)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALVES)
def test_half_types(device, dtype):
    args = arguments(dtype=dtype, device=device, requires_grad=True)
    exact = [a.detach().double().requires_grad_() for a in args]
    out = dfops.inconsistency_gate(*args)
    assert_no_worse(out, reference.inconsistency_gate(*exact), reference.inconsistency_gate(*args))
    grad = random_clip(SHAPE, seed=8, dtype=dtype, device=device)
    for ours, want, same in zip(
        gradients(dfops.inconsistency_gate, args, grad),
        gradients(reference.inconsistency_gate, exact, grad.double()),
        gradients(reference.inconsistency_gate, args, grad),
        strict=True,
    ):
        assert_no_worse(ours, want, same)


@pytest.mark.parametrize("device", DEVICES)
def test_float32_gamma_beside_halves_is_used_unrounded(device):
    x, vertical, horizontal, _ = arguments(dtype=torch.float64, device=device)
    gamma = torch.tensor([1.0009765625 + 2**-14], device=device)
    halves = [t.bfloat16() for t in (x, vertical, horizontal)]
    out = dfops.inconsistency_gate(*halves, gamma)
    exact = reference.inconsistency_gate(*(t.double() for t in halves), gamma.double())
    assert_matches(out, exact.bfloat16())


@pytest.mark.parametrize("device", DEVICES)
def test_autocast_takes_the_widest_dtype(device):
    x, vertical, horizontal, gamma = arguments(device=device)
    with torch.autocast(device, dtype=torch.bfloat16):
        out = dfops.inconsistency_gate(x, vertical.bfloat16(), horizontal.bfloat16(), gamma)
    assert out.dtype == torch.float32
    assert_matches(
        out, reference.inconsistency_gate(x, vertical.bfloat16().float(), horizontal.bfloat16().float(), gamma)
    )


@pytest.mark.parametrize("device", DEVICES)
def test_layout_is_kept_and_mixed_layouts_agree(device):
    x, vertical, horizontal, gamma = arguments(device=device)
    expected = dfops.inconsistency_gate(x, vertical, horizontal, gamma)
    out = dfops.inconsistency_gate(lay_out(x, "channels_last"), vertical, lay_out(horizontal, "strided"), gamma)
    assert out.stride() == lay_out(x, "channels_last").stride()
    assert_matches(out, expected)


@pytest.mark.parametrize("device", DEVICES)
def test_unaligned_storage(device):
    flat = torch.randn(4, 1001, device=device)
    views = [row[1:] for row in flat[:3]]
    gamma = torch.tensor([0.7], device=device)
    assert_matches(dfops.inconsistency_gate(*views, gamma), reference.inconsistency_gate(*views, gamma))


def test_nan_and_infinity_pass_through():
    x = torch.tensor([1.0, float("nan"), float("inf"), 1.0, 1.0])
    vertical = torch.tensor([float("nan"), 0.0, 0.0, float("inf"), float("-inf")])
    horizontal = torch.zeros(5)
    assert_matches(
        dfops.inconsistency_gate(x, vertical, horizontal, 1.0),
        reference.inconsistency_gate(x, vertical, horizontal, 1.0),
    )


@pytest.mark.parametrize("device", DEVICES)
def test_compile_and_export(device):
    args = arguments(device=device, requires_grad=True)
    grad = random_clip(SHAPE, seed=6, device=device)
    compiled = torch.compile(dfops.inconsistency_gate, fullgraph=True)
    assert_matches(compiled(*args), dfops.inconsistency_gate(*args))
    for ours, expected in zip(
        gradients(compiled, args, grad), gradients(dfops.inconsistency_gate, args, grad), strict=True
    ):
        assert_matches(ours, expected)

    class Gate(torch.nn.Module):
        def forward(self, *args):
            return dfops.inconsistency_gate(*args)

    detached = tuple(a.detach() for a in args)
    exported = torch.export.export(Gate(), detached)
    assert_matches(exported.module()(*detached), dfops.inconsistency_gate(*detached))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "layout"), [(torch.float32, "channels_last"), (torch.bfloat16, "contiguous")])
def test_compiled_without_gradients_agrees(device, dtype, layout):
    """The compiler's own formula; with gradients the operator is compiled, as above."""
    x, vertical, horizontal, _ = arguments(layout=layout, dtype=dtype, device=device)
    for gamma in (torch.tensor([[0.7]], device=device), 0.7):
        expected = dfops.inconsistency_gate(x, vertical, horizontal, gamma)
        out = torch.compile(dfops.inconsistency_gate, fullgraph=True)(x, vertical, horizontal, gamma)
        assert out.stride() == expected.stride()
        assert_matches(out, expected)
