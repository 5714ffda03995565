"""DDL beyond what every detector does; its numbers are the golden cases'."""

import pytest
import torch

import dfmodels
import dfops
from dfmodels.detectors import ddl
from tests.models.test_detectors import clips, small


def test_published_size():
    model = dfmodels.build("ddl")
    assert sum(p.numel() for p in model.parameters()) == 10_592_688
    assert len(model.published_layout()) == 613


def test_initialisation_as_released():
    torch.manual_seed(0)
    model = dfmodels.build("ddl")
    block = model.blocks[3]
    for tensor, fan in (
        (block.capture.value, 512),
        (block.aggregation.taps, 3 * 512),
        (block.convs[0].depthwise.weight, 9 * 512),
        (model.fusion.merge.conv.weight, 1024),
    ):
        assert tensor.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.1)
    assert all(b.capture.gamma == 0 and b.aggregation.gamma == 0 for b in model.blocks)


def test_modules_are_the_identity_at_first():
    x = torch.randn(1, 8, 16, 6, 5)
    assert torch.equal(ddl.DifferenceCapture(16)(x), x)
    assert torch.equal(ddl.TemporalAggregation(16)(x), x)


@pytest.mark.parametrize("num_frames", [4, 6, 7, 11])
def test_any_number_of_frames(num_frames):
    model = small("ddl", num_frames=num_frames).eval()
    assert model(clips(model)).shape == (2, 2)


def test_inconsistency_maps():
    model = small("ddl").train()
    maps = model.inconsistency_maps(clips(model))
    assert [tuple(m.shape) for m in maps] == [(2, 8, 24, 24), (2, 8, 12, 12), (2, 8, 6, 6)]
    for difference in maps:
        assert not difference.requires_grad
        torch.testing.assert_close(difference.amax((2, 3)), torch.ones(2, 8))
        assert difference.min() == 0
        assert ((difference > 0).any(1).sum((1, 2)) < difference.shape[2]).all()  # fewer than H survive
    assert model.training
    (named,) = model.attention_maps(clips(model)).values()
    assert all(map(torch.equal, named, maps))


@pytest.mark.parametrize("optimized", [True, False])
def test_an_optimized_copy_takes_a_few_frames_at_a_time(monkeypatch, optimized):
    model = small("ddl").eval()
    again = dfmodels.optimize(model) if optimized else model
    clip = clips(model)
    with torch.no_grad():
        whole = model(clip)
        monkeypatch.setattr("dfmodels.layers.clips.FRAMES_IN_CACHE", 1)
        calls = []
        again.blocks[0].convs[0].register_forward_hook(lambda module, args, out: calls.append(len(out)))
        torch.testing.assert_close(again(clip), whole, rtol=1e-4, atol=1e-5)
    assert calls == ([1] * 16 if optimized else [16])


def test_switched_off_modules_keep_their_parameters():
    on, off = small("ddl"), small("ddl", capture_blocks=False, aggregation_blocks=[True, False, True])
    assert on.state_dict().keys() == off.state_dict().keys()
    off.load_state_dict(on.state_dict())
    assert len(off.inconsistency_maps(clips(off))) == 0
    assert off.attention_maps(clips(off)) == {}
    with torch.no_grad():
        assert not torch.allclose(on.eval()(clips(on)), off.eval()(clips(off)))


def test_mask_rules_differ_and_sparse_equals_dense_when_nothing_ties():
    x = torch.randn(2, 8, 16, 6, 5)
    le, lt = ddl.DifferenceCapture(16), ddl.DifferenceCapture(16, mask_rule="lt", num_keep=5)
    lt.load_state_dict(le.state_dict())
    with torch.no_grad():
        le.gamma.fill_(1.0)
        lt.gamma.fill_(1.0)
        # without ties "le" keeps num_keep - 1 positions, "lt" num_keep
        torch.testing.assert_close(le(x), lt(x))
        lt.num_keep = 6
        assert not torch.allclose(le(x), lt(x))


def test_gradients_of_the_sparse_layer_equal_those_of_the_dense_one():
    x = torch.randn(2, 8, 16, 6, 5, dtype=torch.float64, requires_grad=True)
    le, lt = ddl.DifferenceCapture(16).double(), ddl.DifferenceCapture(16, mask_rule="lt", num_keep=5).double()
    lt.load_state_dict(le.state_dict())
    grads = []
    for layer in (le, lt):
        with torch.no_grad():
            layer.gamma.fill_(0.7)
        out = layer(x)
        grads.append(
            torch.autograd.grad((out * torch.linspace(0, 1, out.numel()).view_as(out)).sum(), [x, *layer.parameters()])
        )
    for sparse, dense in zip(*grads, strict=True):
        torch.testing.assert_close(sparse, dense)


@pytest.mark.parametrize("still", [0, 3, 6])  # rows of a map of 6 that do not change
@pytest.mark.parametrize("options", [{}, {"num_keep": 20}, {"min_variance": 0.5}], ids=str)
def test_gradients_at_the_slots_equal_those_of_the_whole_map(options, still):
    x = torch.randn(2, 8, 16, 6, 5, dtype=torch.float64)
    x[..., :still, :] = x[:, :1, :, :still]
    x.requires_grad_()
    layer = ddl.DifferenceCapture(16, **options).double()
    with torch.no_grad():
        layer.gamma.fill_(0.7)
    query, key, value = (torch.einsum("oc,btchw->btohw", w, x) for w in (layer.query, layer.key, layer.value))
    out = x + layer.gamma * value * dfops.interframe_difference(query, key, **options)[:, :, None]
    weight = torch.linspace(0, 1, out.numel(), dtype=torch.float64).view_as(out)
    ours, whole = (torch.autograd.grad((y * weight).sum(), [x, *layer.parameters()]) for y in (layer(x), out))
    assert still == 6 or all(grad.any() for grad in whole)
    torch.testing.assert_close(ours, whole)


def test_a_nan_reaches_the_same_positions_whether_gradients_are_recorded_or_not():
    x = torch.randn(1, 8, 16, 6, 5)
    x[0, 2, 3, 4, 4] = torch.nan
    layer = ddl.DifferenceCapture(16)
    out = layer(x)
    assert out.isnan().any()
    assert not out.isnan().all()
    with torch.no_grad():
        torch.testing.assert_close(layer(x), out, rtol=0, atol=0, equal_nan=True)


def test_half_precision_keeps_the_mask():
    x = torch.randn(1, 8, 16, 12, 12)
    layer = ddl.DifferenceCapture(16)
    maps = []
    with torch.no_grad():
        layer(x, maps=maps)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            layer(x, maps=maps)
    assert torch.equal(maps[0] > 0, maps[1] > 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": 3}, "num_frames must be a whole number of at least 4, got 3"),
        ({"widths": (12, 16)}, "widths must be positive multiples of 8"),
        ({"mask_rule": "ge"}, "mask_rule must be one of 'le', 'lt', got 'ge'"),
        ({"strides": (2, 2)}, "strides must be one for each of the 7 blocks"),
        ({"strides": (3, 2, 2, 1, 1, 1, 2)}, "strides must be 1 or 2 each"),
        ({"num_keep": 0}, "num_keep must be None or a whole number of at least 1"),
        ({"capture_blocks": [True]}, "capture_blocks must be one for each"),
        ({"stem_channels": (32,)}, "stem_channels must be two"),
        ({"size": (0, 3)}, "size must be"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        dfmodels.build("ddl", **options)


def test_wrong_number_of_frames():
    with pytest.raises(ValueError, match=r"clip must have the 8 frames .* got 9"):
        small("ddl")(torch.rand(1, 9, 3, 32, 32))
    with pytest.raises(ValueError, match="at least 4 frames for MSA, got 3"):
        ddl.TemporalAggregation(8)(torch.rand(1, 3, 8, 4, 4))
