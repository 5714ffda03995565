"""dfops.interframe_difference, dense and sparse: value, shapes, gradients, dtypes, layouts, compile."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import dfops
from dfops import reference
from tests.ops.cases import query_and_key as arguments
from tests.strategies import DEVICES, HALVES, LAYOUTS, lay_out, layouts, seeds
from tests.tolerances import assert_matches, assert_no_worse

SHAPE = (2, 4, 5, 6, 7)
FORMS = ["le", "lt", "sparse"]


def shapes(batch=st.integers(0, 3)):
    """Empty axes and single rows and columns among them, and more positions than a tile of the kernels.

    One channel is left out: its cosines are 1 up to rounding, so that ties and with them the mask are decided by it.
    """
    return st.tuples(batch, st.integers(2, 9), st.sampled_from([0, 2, 3, 8, 13]), st.integers(0, 9), st.integers(0, 9))


def call(module, form, query, key, **options):
    """The map, or under "sparse" the values."""
    if form == "sparse":
        return module.interframe_difference_sparse(query, key, **options)[1]
    return module.interframe_difference(query, key, mask_rule=form, **options)


def gradients(module, form, args, seed=9, **options):
    out = call(module, form, *args, **options)
    generator = torch.Generator().manual_seed(seed)
    grad = torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out)
    return torch.autograd.grad(out, args, grad)


@pytest.mark.parametrize("device", DEVICES)
@given(
    shape=shapes(),
    keep=st.floats(0, 1),
    rule=st.sampled_from(["le", "lt"]),
    normalize=st.booleans(),
    seed=seeds(),
    layout=layouts(),
    key_layout=layouts(),
)
@example(shape=SHAPE, keep=0.5, rule="le", normalize=True, seed=0, layout="channels_last", key_layout="contiguous")
def test_matches_reference(device, shape, keep, rule, normalize, seed, layout, key_layout):
    query, key = arguments(shape, seed, layout, key_layout, device=device)
    options = {"num_keep": max(1, round(keep * shape[3] * shape[4])), "normalize": normalize}
    assert_matches(
        dfops.interframe_difference(query, key, mask_rule=rule, **options),
        reference.interframe_difference(query, key, mask_rule=rule, **options),
    )
    positions, values = dfops.interframe_difference_sparse(query, key, **options)
    expected_positions, expected_values = reference.interframe_difference_sparse(query, key, **options)
    assert_matches(positions, expected_positions)
    assert_matches(values, expected_values)


@pytest.mark.parametrize("device", DEVICES)
@given(
    shape=shapes(),
    keep=st.floats(0, 1),
    form=st.sampled_from(FORMS),
    normalize=st.booleans(),
    seed=seeds(),
    layout=layouts(),
    key_layout=layouts(),
)
def test_gradients_match_reference(device, shape, keep, form, normalize, seed, layout, key_layout):
    args = arguments(shape, seed, layout, key_layout, device=device, dtype=torch.float64, requires_grad=True)
    options = {"num_keep": max(1, round(keep * shape[3] * shape[4])), "normalize": normalize}
    ours = gradients(dfops, form, args, **options)
    for actual, expected in zip(ours, gradients(reference, form, args, **options), strict=True):
        assert_matches(actual, expected)


def test_threshold_and_mask_of_a_map_worked_by_hand():
    # T = 2, C = 2: q turns by 90 degrees at the first position, by 180 at the second, by none at the others
    query = torch.zeros(1, 2, 2, 1, 4)
    query[:, :, 0] = 1
    query[0, 1, :, 0, 0] = torch.tensor([0.0, 3.0])
    query[0, 1, :, 0, 1] = torch.tensor([-2.0, 0.0])
    key = torch.zeros(1, 2, 2, 1, 4)
    key[:, :, 0] = 5
    out, variance, threshold, positions = torch.ops.dfops.interframe_difference(query, key, 2, False, False, 1e-8, 0.0)
    assert variance.flatten().tolist() == [2, 8, 0, 0]  # s = (-2, 0), (-2, 2), (-2, -2), (-2, -2)
    assert threshold.tolist() == [2]
    assert positions.tolist() == [[1, -1]]
    assert out.flatten(2).tolist() == [[[-2, -2, -2, -2], [-2, 2, -2, -2]]]
    normal = dfops.interframe_difference(query, key, num_keep=2)
    torch.testing.assert_close(normal.flatten(2), torch.tensor([[[0.0, 0, 0, 0], [0, 1, 0, 0]]]))
    loose = dfops.interframe_difference(query, key, num_keep=2, mask_rule="lt", normalize=False)
    assert loose.flatten(2).tolist() == [[[-2, -2, -2, -2], [0, 2, -2, -2]]]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", [(1, 8, 8, 65, 63), (2, 3, 40, 33, 31)])
def test_many_elements(device, layout, shape):
    # float64, so that no variance near the threshold changes sides
    args = arguments(shape, layout=layout, device=device, dtype=torch.float64, requires_grad=True)
    for form in FORMS:
        assert_matches(call(dfops, form, *args), call(reference, form, *args))
        for actual, expected in zip(gradients(dfops, form, args), gradients(reference, form, args), strict=True):
            assert_matches(actual, expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(seed=seeds(), layout=layouts(), num_keep=st.integers(1, 70), rule=st.sampled_from(["le", "lt"]))
def test_equal_positions_tie(device, dtype, seed, layout, num_keep, rule):
    # seven columns of vectors, each at ten places: vector bodies, tails and both halves of a block of the kernels
    query, key = arguments((1, 4, 6, 1, 7), seed, dtype=dtype, device=device)
    place = torch.randperm(70, generator=torch.Generator().manual_seed(seed)) % 7
    query, key = (lay_out(clip[..., place].reshape(1, 4, 6, 7, 10), layout) for clip in (query, key))
    out = dfops.interframe_difference(query, key, num_keep=num_keep, mask_rule=rule, normalize=False).flatten(2)
    for kind in range(7):
        same = out[..., place == kind]
        assert torch.equal(same, same[..., :1].expand_as(same))
    kept = (out[0] != -4).any(0).sum().item()
    # whole kinds survive: those above the threshold, under "lt" with the threshold's own
    assert kept == ((num_keep - 1) // 10 + (rule == "lt")) * 10


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_static_clip(device, layout):
    query, key = (lay_out(clip.expand(2, 5, 3, 6, 7), layout) for clip in arguments((2, 1, 3, 6, 7), device=device))
    assert dfops.interframe_difference(query, key).eq(0).all()
    positions, values = dfops.interframe_difference_sparse(query, key)
    assert positions.eq(-1).all()
    assert values.eq(0).all()
    # under "lt" nothing is masked
    assert_matches(
        dfops.interframe_difference(query, key, mask_rule="lt"),
        reference.interframe_difference(query, key, mask_rule="lt"),
    )


@pytest.mark.parametrize("form", FORMS)
def test_first_of_several_maxima_takes_the_gradient(form):
    query, key = (x.detach() for x in arguments((1, 3, 4, 3, 5), dtype=torch.float64))
    for clip in (query, key):  # the two positions of the highest variance hold one pair of vectors
        clip[..., 1, 2] = clip[..., 2, 4]
    order = torch.ops.dfops.interframe_difference(query, key, 1, True, False, 1e-8, 0.0)[1].flatten().argsort()
    top = order[-1].item()
    for clip in (query, key):
        flat = clip.view(1, 3, 4, 15)
        flat[..., 14] = flat[..., top]
    args = (query.requires_grad_(), key.requires_grad_())
    ours = gradients(dfops, form, args, num_keep=6)
    for actual, expected in zip(ours, gradients(reference, form, args, num_keep=6), strict=True):
        assert actual.abs().sum() > 0
        assert_matches(actual, expected)


@pytest.mark.parametrize("form", FORMS)
def test_clamped_norms(form):
    query, key = (x.detach() for x in arguments((1, 4, 4, 3, 5), dtype=torch.float64))
    query[0, 1] *= 0
    query[0, 2] *= 1e-13
    key[0, 0] *= 1e-14
    args = (query.requires_grad_(), key.requires_grad_())
    assert_matches(call(dfops, form, *args), call(reference, form, *args))
    for actual, expected in zip(gradients(dfops, form, args), gradients(reference, form, args), strict=True):
        assert expected.abs().max() > 1e9
        assert_matches(actual, expected)


def test_small_variances_count_as_none():
    query, key = arguments()
    variance = torch.ops.dfops.interframe_difference(query, key, 1, True, False, 1e-8, 0.0)[1]
    limit = variance.flatten(1).topk(4).values.max(0).values[3].item() * (1 - 1e-6)
    for form in FORMS:
        options = {"num_keep": 9, "min_variance": limit}
        assert_matches(call(dfops, form, query, key, **options), call(reference, form, query, key, **options))
    positions, _ = dfops.interframe_difference_sparse(query, key, num_keep=9, min_variance=limit)
    assert positions.ge(0).sum(1).tolist() == variance.flatten(1).ge(limit).sum(1).tolist()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("layout", "normalize"), [("contiguous", True), ("channels_last", True), ("strided", True), ("contiguous", False)]
)
def test_gradcheck(form, layout, normalize):
    args = arguments((1, 3, 2, 3, 2), seed=2, layout=layout, dtype=torch.float64, requires_grad=True)
    options = {"normalize": normalize, "eps": 1e-2}
    _, variance, threshold, _ = torch.ops.dfops.interframe_difference(*args, 3, False, True, 1e-8, 0.0)
    # no step of gradcheck moves a variance across the threshold
    assert (variance - threshold).abs().flatten().topk(2, largest=False).values[1] > 1e-3
    assert torch.autograd.gradcheck(lambda q, k: call(dfops, form, q, k, **options), args)


@pytest.mark.parametrize("device", DEVICES)
def test_slot_gradients_are_those_of_the_vectors(device):
    args = arguments(device=device, dtype=torch.float64, requires_grad=True)
    positions, values = dfops.interframe_difference_sparse(*args)
    grad = torch.randn_like(values)
    index = positions.clamp(min=0)[:, None, None].expand(2, 4, 5, 6)
    slots = [
        x.detach().flatten(3).gather(3, index).masked_fill(positions[:, None, None] < 0, float("nan")) for x in args
    ]
    ours = torch.ops.dfops._interframe_difference_sparse_backward(grad, *slots, positions, True, 1e-8)
    for actual, expected in zip(ours, torch.autograd.grad(values, args, grad), strict=True):
        used = (positions >= 0)[:, None, None]
        assert actual.masked_select(~used).eq(0).all()
        assert_matches(actual, torch.where(used, expected.flatten(3).gather(3, index), 0))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("still", [0, 3, 4, 6])  # rows of a map of 6 whose vectors do not change; so slots stay unused
def test_the_map_of_the_slots_is_the_map_at_their_positions(device, still):
    args = arguments(device=device)
    for x in args:
        x[..., :still, :] = x[:, :1, :, :still]
    positions, values = dfops.interframe_difference_sparse(*args, num_keep=15)
    used = (positions >= 0)[:, None, None]
    assert used.sum((1, 2, 3)).tolist() == [min(14, 7 * (6 - still))] * 2
    index = positions.clamp(min=0)[:, None, None].expand(2, 4, 5, 15)
    slots = [torch.where(used, x.flatten(3).gather(3, index), 0)[..., None] for x in args]
    assert torch.equal(dfops.interframe_difference(*slots)[..., 0], values)


def test_only_the_survivors_are_saved_for_backward():
    saved = []
    query, key = arguments((1, 4, 8, 20, 30), requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.shape) or x, lambda x: x):
        dfops.interframe_difference(query, key)
        dfops.interframe_difference_sparse(query, key)
    assert saved
    assert max(shape.numel() for shape in saved) == 4 * 8 * 20


def test_unknown_mask_rule():
    with pytest.raises(ValueError, match='mask_rule must be "le" or "lt", got \'ge\''):
        dfops.interframe_difference(*arguments(), mask_rule="ge")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("form", FORMS)
def test_half_types(device, dtype, form):
    args = arguments(dtype=dtype, device=device, requires_grad=True)
    exact = [a.detach().double().requires_grad_() for a in args]
    out = call(dfops, form, *args)
    assert_no_worse(out, call(reference, form, *exact), call(reference, form, *args))
    for ours, want, same in zip(
        gradients(dfops, form, args),
        gradients(reference, form, exact),
        gradients(reference, form, args),
        strict=True,
    ):
        assert_no_worse(ours, want, same)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALVES)
def test_halves_are_computed_in_float32(device, dtype):
    query, key = arguments(dtype=dtype, device=device)
    for form in FORMS:
        assert_matches(call(dfops, form, query, key), call(dfops, form, query.float(), key.float()).to(dtype))


@pytest.mark.parametrize("device", DEVICES)
def test_autocast_takes_the_widest_dtype(device):
    query, key = arguments(device=device)
    with torch.autocast(device, dtype=torch.bfloat16):
        out = dfops.interframe_difference(query, key.bfloat16())
        _, values = dfops.interframe_difference_sparse(query.bfloat16(), key)
    assert_matches(out, reference.interframe_difference(query, key.bfloat16().float()))
    assert_matches(values, reference.interframe_difference_sparse(query.bfloat16().float(), key)[1])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("form", FORMS)
def test_layout_of_gradients_is_kept_and_layouts_agree(device, form):
    args = arguments(device=device, dtype=torch.float64, requires_grad=True)
    expected = gradients(dfops, form, args)
    mixed = [lay_out(args[0].detach(), "channels_last"), lay_out(args[1].detach(), "strided")]
    assert not mixed[1].is_contiguous()
    mixed = [x.requires_grad_() for x in mixed]
    ours = gradients(dfops, form, mixed)
    assert ours[0].stride() == mixed[0].stride()
    assert ours[1].is_contiguous()
    for actual, want in zip(ours, expected, strict=True):
        assert_matches(actual, want)


@pytest.mark.parametrize("device", DEVICES)
def test_unaligned_storage(device):
    flat = torch.randn(2, 1 + 2 * 3 * 5 * 8 * 9, device=device)
    query, key = (row[1:].view(2, 3, 5, 8, 9) for row in flat)
    assert_matches(dfops.interframe_difference(query, key), reference.interframe_difference(query, key))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("places", [1, 5, 42])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_reach_the_output(device, places, value):
    # with num_keep = 5 places at a NaN variance the threshold itself is NaN
    query, key = arguments((2, 3, 4, 6, 7), device=device, requires_grad=True)
    with torch.no_grad():
        query[0, 1, 2].flatten()[:places] = value
        key[1, 2, 0].flatten()[42 - places :] = value
    for normalize in (True, False):
        for rule in ("le", "lt"):
            options = {"num_keep": 5, "mask_rule": rule, "normalize": normalize}
            out = dfops.interframe_difference(query, key, **options)
            assert_matches(out, reference.interframe_difference(query, key, **options))
            assert out.isnan().any()
        ours = dfops.interframe_difference_sparse(query, key, num_keep=5, normalize=normalize)
        expected = reference.interframe_difference_sparse(query, key, num_keep=5, normalize=normalize)
        assert_matches(ours[0], expected[0])
        assert_matches(ours[1], expected[1])
    for form in FORMS:
        gradients(dfops, form, (query, key), num_keep=5)  # no crash


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("form", FORMS)
def test_compile_and_export(device, form):
    args = arguments(device=device, requires_grad=True, layout="channels_last")

    class Difference(torch.nn.Module):
        def forward(self, query, key):
            return call(dfops, form, query, key)

    compiled = torch.compile(Difference(), fullgraph=True)
    out = compiled(*args)
    assert_matches(out, call(dfops, form, *args))
    grad = torch.ones_like(out)
    for ours, expected in zip(
        torch.autograd.grad(out, args, grad), torch.autograd.grad(call(dfops, form, *args), args, grad), strict=True
    ):
        assert_matches(ours, expected)
    detached = tuple(a.detach() for a in args)
    exported = torch.export.export(Difference(), detached)
    assert_matches(exported.module()(*detached), call(dfops, form, *detached))
