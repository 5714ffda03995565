"""dfops.paired_cosine: value, gradients, dtypes, layouts, compile."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given

import dfops
from dfops import reference
from tests.ops.cases import compared_maps as arguments
from tests.strategies import DEVICES, HALVES, LAYOUTS, clip_shapes, lay_out, layouts, random_clip, seeds
from tests.tolerances import assert_matches, assert_no_worse

SHAPE = (2, 4, 6, 5, 3)  # of the others (G, K, C, H, W)

calls = {"shape": clip_shapes(), "seed": seeds(), "layout": layouts()}


def gradients(function, anchor, others, signs, grad, **options):
    return torch.autograd.grad(function(anchor, others, signs, **options), (anchor, others), grad)


def random_grad(shape, seed, device="cpu", dtype=torch.float32):
    return random_clip((shape[0], 1, 1, *shape[3:]), seed=seed, device=device, dtype=dtype)[:, 0, 0]


@pytest.mark.parametrize("device", DEVICES)
@given(**calls)
def test_matches_reference(device, shape, seed, layout):
    args = arguments(shape, seed, layout, device=device)
    assert_matches(dfops.paired_cosine(*args), reference.paired_cosine(*args))


@pytest.mark.parametrize("device", DEVICES)
@given(**calls)
def test_gradients_match_reference(device, shape, seed, layout):
    args = arguments(shape, seed, layout, torch.float64, device, True)
    grad = random_grad(shape, seed + 2, device, torch.float64)
    ours, expected = (gradients(f, *args, grad) for f in (dfops.paired_cosine, reference.paired_cosine))
    for actual, want in zip(ours, expected, strict=True):
        assert_matches(actual, want)


def test_agrees_with_torch_cosine_similarity():
    """The reference is our own text; this is torch's, which clamps the product of the norms and adds nothing."""
    anchor, others, signs = arguments(dtype=torch.float64)
    distances = 1 - F.cosine_similarity(anchor[:, None], others, dim=2)
    expected = torch.einsum("k,gkhw->ghw", torch.tensor(signs, dtype=torch.float64), distances)
    torch.testing.assert_close(dfops.paired_cosine(anchor, others, signs), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", [(4, 4, 512, 8, 8), (1, 3, 5, 37, 29), (3, 9, 700, 1, 1), (1, 256, 3, 2, 2)])
def test_sizes_beyond_one_block(device, layout, shape):
    anchor, others, signs = arguments(shape, layout=layout, device=device, requires_grad=True)
    exact = [x.detach().double().requires_grad_() for x in (anchor, others)]
    out = dfops.paired_cosine(anchor, others, signs)
    torch.testing.assert_close(out.double(), reference.paired_cosine(*exact, signs), rtol=1e-5, atol=1e-5 * shape[1])
    grad = random_grad(shape, 5, device)
    ours = gradients(dfops.paired_cosine, anchor, others, signs, grad)
    for actual, want in zip(ours, gradients(reference.paired_cosine, *exact, signs, grad.double()), strict=True):
        torch.testing.assert_close(actual.double(), want, rtol=1e-5, atol=1e-5 * shape[1])


@pytest.mark.parametrize("device", DEVICES)
def test_without_channels_or_others(device):
    anchor, others, signs = arguments((2, 3, 0, 4, 5), device=device, requires_grad=True)
    out = dfops.paired_cosine(anchor, others, signs)
    assert_matches(out, torch.full((2, 4, 5), sum(signs), device=device))
    anchor, others, signs = arguments((2, 0, 3, 4, 5), device=device, requires_grad=True)
    out = dfops.paired_cosine(anchor, others, signs)
    assert torch.equal(out, torch.zeros(2, 4, 5, device=device))
    grads = torch.autograd.grad(out, (anchor, others), torch.ones_like(out))
    assert torch.equal(grads[0], torch.zeros_like(anchor))
    assert grads[1].shape == others.shape


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_vectors_shorter_than_eps(device, layout):
    """eps is added to a norm: a clamp would leave short vectors longer. A norm of 0 has the gradient of a / eps."""
    anchor, others, signs = arguments(layout=layout, dtype=torch.float64, device=device)
    anchor *= 1e-8
    anchor[0, :, 2, 1] = 0
    others[1, 2, :, 0, 0] = 0
    anchor, others = anchor.requires_grad_(), others.requires_grad_()
    assert_matches(dfops.paired_cosine(anchor, others, signs), reference.paired_cosine(anchor, others, signs))
    grad = random_grad(SHAPE, 3, device, torch.float64)
    ours = gradients(dfops.paired_cosine, anchor, others, signs, grad)
    for actual, want in zip(ours, gradients(reference.paired_cosine, anchor, others, signs, grad), strict=True):
        assert_matches(actual, want)
    assert ours[0][0, :, 2, 1].abs().max() > 0


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("eps", [1e-8, 0.25])
def test_gradcheck(device, layout, eps):
    *maps, signs = arguments((2, 2, 3, 2, 1), 0, layout, torch.float64, device, True)
    assert torch.autograd.gradcheck(lambda *maps: dfops.paired_cosine(*maps, signs, eps=eps), maps)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_half_types(device, dtype, layout):
    *maps, signs = arguments((2, 4, 40, 5, 7), layout=layout, dtype=dtype, device=device, requires_grad=True)
    exact = [x.detach().double().requires_grad_() for x in maps]
    ours, expected = dfops.paired_cosine, reference.paired_cosine
    out = ours(*maps, signs)
    assert out.dtype == torch.float32
    assert_no_worse(out, expected(*exact, signs), expected(*maps, signs))
    grad = random_grad((2, 4, 40, 5, 7), 8, device)
    for actual, want, same in zip(
        gradients(ours, *maps, signs, grad),
        gradients(expected, *exact, signs, grad.double()),
        gradients(expected, *maps, signs, grad),
        strict=True,
    ):
        assert_no_worse(actual, want, same)


@pytest.mark.parametrize("device", DEVICES)
def test_autocast_takes_the_widest_dtype(device):
    anchor, others, signs = arguments(device=device)
    with torch.autocast(device, dtype=torch.bfloat16):
        out = dfops.paired_cosine(anchor.bfloat16(), others, signs)
    assert_matches(out, reference.paired_cosine(anchor.bfloat16().float(), others, signs))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_slices_of_one_tensor(device, layout):
    """Strides of the leading axes are read in place: anchor and others from one tensor, in any order, repeated, too."""
    maps = random_clip((3, 5, 6, 4, 3), layout=layout, dtype=torch.float64, device=device, requires_grad=True)
    cuts = [
        lambda x: (x[:, 0], x[:, 1:]),
        lambda x: (x[:, 4], x[:, 0:4:2]),
        lambda x: (x[2:3, 1].expand(3, 6, 4, 3), x[0:1, :2].expand(3, 2, 6, 4, 3)),
        lambda x: (x.transpose(0, 1)[1:, 0], x.transpose(0, 1)[1:, 1:3]),
    ]
    for cut in cuts:
        signs = [1.0, -2.0, 0.5, 0.25][: cut(maps)[1].shape[1]]
        ours, expected = (f(*cut(maps), signs) for f in (dfops.paired_cosine, reference.paired_cosine))
        assert_matches(ours, expected)
        grad = random_grad((*ours.shape[:1], 1, 1, *ours.shape[1:]), 4, device, torch.float64)
        assert_matches(*(torch.autograd.grad(out, maps, grad)[0] for out in (ours, expected)))


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_have_the_layouts_of_their_inputs(device):
    anchor, others, signs = arguments(device=device)
    grad = random_grad(SHAPE, 4, device).transpose(1, 2).contiguous().transpose(1, 2)
    expected = None
    for of_anchor in LAYOUTS:
        for of_others in LAYOUTS:
            a = lay_out(anchor[:, None], of_anchor)[:, 0]
            b = lay_out(others, of_others)
            out, norms, cosines = torch.ops.dfops.paired_cosine(a, b, signs, 1e-8)
            assert out.is_contiguous()
            grads = torch.ops.dfops._paired_cosine_backward(grad, a, b, norms, cosines, signs, 1e-8, True, True)
            for have, like, layout in ((grads[0], anchor[:, None], of_anchor), (grads[1], others, of_others)):
                strides = lay_out(like, "channels_last" if layout == "channels_last" else "contiguous").stride()
                assert have.stride() == (strides if have.dim() == 5 else (strides[0], *strides[2:]))
            expected = expected or (out, *grads)
            for actual, want in zip((out, *grads), expected, strict=True):
                assert_matches(actual, want)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_nan_and_infinity_reach_only_their_positions(device, layout):
    anchor, others, signs = arguments(layout=layout, device=device, requires_grad=True)
    with torch.no_grad():
        anchor[0, 1, 2, 1], others[1, 2, 0, 0, 0], others[0, 3, 5, 4, 2] = float("nan"), float("inf"), float("-inf")
    assert_matches(dfops.paired_cosine(anchor, others, signs), reference.paired_cosine(anchor, others, signs))
    grad = random_grad(SHAPE, 1, device)
    grad[1, 3, 1] = float("nan")
    ours = gradients(dfops.paired_cosine, anchor, others, signs, grad)
    expected = gradients(reference.paired_cosine, anchor, others, signs, grad)
    for actual, want in zip(ours, expected, strict=True):
        finite = want.isfinite()
        assert torch.equal(actual.isfinite(), finite)
        assert_matches(actual[finite], want[finite])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_compiled_and_eager_agree(device, layout):
    args = arguments(layout=layout, device=device, requires_grad=True)
    compiled = torch.compile(dfops.paired_cosine, fullgraph=True)
    assert_matches(compiled(*args), dfops.paired_cosine(*args))
    grad = random_grad(SHAPE, 6, device)
    ours, expected = (gradients(f, *args, grad) for f in (compiled, dfops.paired_cosine))
    for actual, want in zip(ours, expected, strict=True):
        assert_matches(actual, want)


def test_export():
    class Cosine(torch.nn.Module):
        def forward(self, anchor, others):
            return dfops.paired_cosine(anchor, others, (1.0, -1.0, 1.0, 0.5))

    args = arguments()[:2]
    exported = torch.export.export(Cosine(), args)
    assert_matches(exported.module()(*args), Cosine()(*args))
