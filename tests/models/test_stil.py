"""STIL beyond what every detector does; its numbers are the golden cases'."""

import argparse
import inspect
from dataclasses import fields

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dfmodels
from dfmodels import weights
from dfmodels.detectors import stil
from tests.models.test_detectors import SMALL, clips, small


def published(model, prefix=""):
    """The state dict of a model in the published layout."""
    ours = model.state_dict()
    return {prefix + key: ours[name][index].clone() for key, (name, index) in model.published_layout().items()}


def test_published_size():
    model = dfmodels.build("stil")
    assert sum(p.numel() for p in model.parameters()) == 22_688_418
    assert len(model.published_layout()) == 1548
    assert model.smallest_side == 97


def test_initialisation_as_released():
    torch.manual_seed(0)
    bottleneck = dfmodels.build("stil").stages[3][1]
    temporal = bottleneck.block.temporal
    for tensor, fan_out in (
        (bottleneck.expand.conv.weight, 2048),
        (bottleneck.block.mix.conv.weight, 9 * 256),
        (temporal.branches["H"].taps, 3 * 16),
        (temporal.branches["W"].full.unit.conv.weight, 3 * 16),
    ):
        assert tensor.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.2)
    assert bottleneck.block.to_temporal.taps.abs().max() <= 3**-0.5
    assert bottleneck.expand.norm.weight.eq(1).all()


@pytest.mark.parametrize("num_frames", [1, 2, 3, 8])
def test_any_number_of_frames(num_frames):
    model = small("stil").eval()
    clip = torch.rand(2, num_frames, 3, 40, 48)
    assert model(clip).shape == (2, 2)
    assert model.frame_logits(clip).shape == (2, num_frames, 2)
    model.train()
    F.cross_entropy(model(clip), torch.tensor([0, 1])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_clip_length_cuts_a_longer_input():
    model = small("stil").eval()
    clip = torch.rand(2, 12, 3, 40, 40)
    parts = [model.frame_logits(clip[:, i : i + 4]) for i in (0, 4, 8)]
    torch.testing.assert_close(model.frame_logits(clip, clip_length=4), torch.cat(parts, 1))
    torch.testing.assert_close(model(clip, clip_length=4), torch.cat(parts, 1).mean(1))
    assert not torch.allclose(model(clip, clip_length=4), model(clip))
    model.trained = True
    torch.testing.assert_close(model.predict(clip, clip_length=4), model(clip, clip_length=4).softmax(1)[:, 1])
    for wrong in (5, 0, -4):
        with pytest.raises(ValueError, match=f"clip_length must divide the 12 frames of the clip, got {wrong}"):
            model(clip, clip_length=wrong)


def test_too_small_or_empty_clips():
    model = small("stil", layers=(1, 2), planes=(32, 32)).eval()
    assert model.smallest_side == 25  # three eighths of a pooling window of 4, and one pixel more
    assert model(torch.rand(1, 2, 3, 25, 25)).shape == (1, 2)
    with pytest.raises(
        ValueError, match=r"clip must be at least 25 pixels high and wide.* got 40 x 24.*clamp_pool=True"
    ):
        model(torch.rand(1, 2, 3, 40, 24))
    with pytest.raises(ValueError, match="at least one frame"):
        model(torch.rand(1, 0, 3, 40, 40))
    clamped = small("stil", layers=(1, 2), planes=(32, 32), clamp_pool=True).eval()
    assert clamped(torch.rand(1, 2, 3, 5, 9)).isfinite().all()
    big = torch.rand(1, 2, 3, 40, 40)
    assert torch.equal(clamped(big), model(big))  # where the windows fit, the option changes nothing


def test_modules_name_the_window_that_does_not_fit():
    with pytest.raises(ValueError, match=r"SIM averages windows of 4 positions.* got 3"):
        stil.SpatialInconsistency(8)(torch.rand(1, 8, 3, 8))
    with pytest.raises(ValueError, match=r"TIM averages windows of 2 positions.* got 1"):
        stil.TemporalInconsistency(16)(torch.rand(2, 16, 4, 1), 2)
    with pytest.raises(ValueError, match="channels of TIM must be at least reduction = 16, got 8"):
        stil.TemporalInconsistency(8)
    with pytest.raises(ValueError, match="channels of the temporal shift must be a multiple of 8, got 12"):
        stil.TemporalShift(12)


def test_the_gate_of_the_last_frame_is_constant():
    module = stil.TemporalInconsistency(32).eval()
    for logits in module.logits(torch.randn(8, 32, 6, 5), 4):
        last = logits.unflatten(0, (2, 4))[:, -1]
        assert torch.equal(last, last[..., :1, :1].expand_as(last))
        assert not torch.equal(logits, logits[..., :1, :1].expand_as(logits))


# every row of the table of differences between paper and release: what the option changes, against plain torch


def test_halves():
    projected, split = (small("stil", halves=halves) for halves in ("project", "split"))
    assert projected.stages[0][0].reduce is None
    bottleneck = split.stages[0][0].eval()
    seen = []
    bottleneck.block.temporal.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
    bottleneck.block.spatial.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
    x = torch.rand(2, 16, 8, 8)
    bottleneck(x, 2)
    reduced = F.relu(bottleneck.reduce(x))
    assert torch.equal(seen[1], reduced[:, :16])
    assert torch.equal(seen[0], reduced[:, 16:])


@pytest.mark.parametrize("pool", [2, 4])
def test_sim_pool(pool):
    module = small("stil", sim_pool=pool).stages[0][0].block.spatial.eval()
    x = torch.rand(2, 16, 9, 10)
    coarse = module.column(F.relu(module.row(F.avg_pool2d(x, pool))))
    rows, columns = (torch.arange(n) * (n // pool) // n for n in (9, 10))
    torch.testing.assert_close(module.confidence(x), torch.sigmoid(x + coarse[:, :, rows][..., columns]))


def test_sim_exit():
    x = torch.rand(2, 16, 8, 8)
    out, evidence = small("stil", sim_exit=False).stages[0][0].block.spatial.eval()(x)
    assert out is evidence
    module = small("stil").stages[0][0].block.spatial.eval()
    out, evidence = module(x)
    torch.testing.assert_close(out, module.exit.norm(module.exit.conv(evidence)))


@pytest.mark.parametrize("axis", stil.AXES)
@pytest.mark.parametrize("difference", ["later", "both"])
def test_tim_difference(difference, axis):
    branch = small("stil", tim_difference=difference).stages[0][0].block.temporal.branches[axis]
    z = torch.rand(2, 3, 4, 6, 5)
    taps = branch.taps[:, None, :, None] if axis == "H" else branch.taps[:, None, None]
    filtered = F.conv2d(z.flatten(0, 1), taps, padding="same", groups=4).unflatten(0, (2, 3))
    earlier = z if difference == "later" else filtered
    expected = torch.cat([filtered[:, 1:] - earlier[:, :-1], torch.zeros(2, 1, 4, 6, 5)], 1)
    torch.testing.assert_close(branch.difference(z), expected)


@pytest.mark.parametrize("axis", stil.AXES)
@pytest.mark.parametrize("kernel", [(3, 1), (1, 3), (5, 3)])
def test_tim_kernel_in_the_plane_of_an_axis_and_time(kernel, axis):
    plane = small("stil", tim_kernel=kernel).stages[0][0].block.temporal.branches[axis].full.eval()
    space, time = kernel
    d = torch.rand(2, 4, 4, 6, 5)
    # (O, time * C, kh, kw) -> (O, C, time, kh, kw)
    weight = plane.unit.conv.weight.unflatten(1, (time, 4)).transpose(1, 2)
    padding = (time // 2, space // 2, 0) if axis == "H" else (time // 2, 0, space // 2)
    convolved = F.conv3d(d.transpose(1, 2), weight, padding=padding).transpose(1, 2)
    torch.testing.assert_close(plane(d), plane.unit.norm(convolved.flatten(0, 1)).unflatten(0, (2, 4)))


def test_tim_gate():
    x = torch.rand(4, 16, 6, 6)
    for gate in ("residual", "confidence"):
        module = small("stil", tim_gate=gate).stages[0][0].block.temporal.eval()
        height, width = (torch.sigmoid(logits) for logits in module.logits(x, 4))
        factor = height + width if gate == "confidence" else 1 + (height - 0.5 + width - 0.5) / 2
        torch.testing.assert_close(module(x, 4), x * factor)


@pytest.mark.parametrize("supplement", ["add", "multiply"])
@pytest.mark.parametrize("fusion", ["s->t", "t->s", "s+t", "none"])
def test_fusion_and_supplement(fusion, supplement):
    block = small("stil", fusion=fusion, supplement=supplement).stages[0][0].block.eval()
    x = torch.rand(4, 16, 8, 8)
    a, b = block.split(x)
    out, evidence = block.spatial(b)
    b, a = F.relu(out), block.temporal(a, 4)
    combine = torch.add if supplement == "add" else torch.mul
    with_a = combine(a, block.to_temporal(evidence)) if fusion in ("s->t", "s+t") else a
    with_b = combine(b, block.to_spatial(a)) if fusion in ("t->s", "s+t") else b
    expected = torch.cat([F.relu(block.mix(block.shift(with_a, 4))), with_b], 1)
    torch.testing.assert_close(block(x, 4), expected)


def test_information_supplement_slides_over_channels():
    module = stil.InformationSupplement()
    s = torch.rand(2, 5, 3, 4)
    mean = F.pad(s.mean((2, 3)), (1, 1))
    gate = torch.sigmoid(sum(tap * mean[:, i : i + 5] for i, tap in enumerate(module.taps.flatten())))
    torch.testing.assert_close(module(s), s * gate[:, :, None, None])


@pytest.mark.parametrize(("init", "divisor"), [("shift", 8), ("shift", 4), ("identity", 8), ("random", 8)])
def test_shift_starts(init, divisor):
    shift = stil.TemporalShift(16, divisor=divisor, init=init)
    x = torch.rand(6, 16, 2, 3)
    out = shift(x, 3).unflatten(0, (2, 3))
    clip = x.unflatten(0, (2, 3))
    fold = 16 // divisor if init == "shift" else 0
    if init == "random":
        assert shift.taps.std() > 0.2
        return
    nothing = torch.zeros(2, 1, 16, 2, 3)
    later, earlier = torch.cat([clip[:, 1:], nothing], 1), torch.cat([nothing, clip[:, :-1]], 1)
    assert torch.equal(out[:, :, :fold], later[:, :, :fold])
    assert torch.equal(out[:, :, fold : 2 * fold], earlier[:, :, fold : 2 * fold])
    assert torch.equal(out[:, :, 2 * fold :], clip[:, :, 2 * fold :])


@pytest.mark.parametrize("off", ["sim", "tim", "shift"])
def test_modules_switched_off_have_no_weights(off):
    model = small("stil", **{off: False}).train()
    F.cross_entropy(model(clips(model)), torch.tensor([0, 1])).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert len(model.state_dict()) < len(small("stil").state_dict())
    part = {"sim": ".scconv.", "tim": ".tim.", "shift": ".shift."}[off]
    assert not any(part in key for key in model.published_layout())
    assert any(part in key for key in small("stil").published_layout())


def test_resnet50_backbone_has_the_keys_of_torchvision():
    model = dfmodels.build("stil", backbone="resnet50")
    keys = model.backbone_layout().keys()
    stage = ["conv1", "bn1", "conv3", "bn3", "downsample.0", "downsample.1"]
    assert {key.split(".", 2)[2].rsplit(".", 1)[0] for key in keys if key.startswith("layer1.0.")} == set(stage)
    assert {"conv1.weight", "bn1.running_var"} <= keys
    # 53 convolutions and norms, less the 16 that the block takes the place of
    assert len([key for key in keys if key.endswith("running_mean")]) == 53 - 16
    assert model.eval()(torch.rand(1, 2, 3, 97, 97)).shape == (1, 2)


CONTAINERS = {
    "authors": "module.base_model.",
    "authors, not distributed": "base_model.",
    "deepfakebench": "model.base_model.",
    "deepfakebench, distributed": "module.model.base_model.",
    "plain": "",
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers_of_a_checkpoint(container, tmp_path):
    model = small("stil")
    state = published(model, CONTAINERS[container])
    path = tmp_path / "checkpoint.tar"
    if container.startswith("authors"):  # as the authors' trainer saves it
        state = {"state_dict": state, "optimizer": {"lr": 1e-3}, "epoch": 3, "args": argparse.Namespace(lr=1e-3)}
    torch.save(state, path)
    loaded = dfmodels.build("stil", weights=path, **SMALL["stil"])
    assert loaded.trained
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True)
    )
    bench = container.startswith("deepfakebench")
    assert loaded.config["preset"] == ("deepfakebench" if bench else "released")
    assert loaded.contract.std == ((0.5,) * 3 if bench else (0.229, 0.224, 0.225))
    assert loaded.contract.sampling == ("consecutive" if bench else "spread")
    explicit = dfmodels.build("stil", weights=path, preset="released", **SMALL["stil"])
    assert explicit.contract.sampling == "spread"


def backbone_file(model, path):
    """A file as ImageNet training leaves it: other parts than the detector's, another classifier."""
    state = {key: value for key, value in published(model).items() if key in model.backbone_layout()}
    if model.backbone == "scnet50_v1d":
        state["layer1.0.scconv.k2.1.weight"] = torch.rand(16, 16, 3, 3)
    else:
        state = {key: value for key, value in state.items() if "num_batches" not in key}  # as old files
        state["layer1.0.conv2.weight"] = torch.rand(32, 32, 3, 3)
    state["fc.weight"], state["fc.bias"] = torch.rand(1000, 128), torch.rand(1000)
    torch.save(state, path)
    return state


@pytest.mark.parametrize("backbone", ["scnet50_v1d", "resnet50"])
def test_backbone_weights_are_no_detector_weights(backbone, tmp_path):
    options = {**SMALL["stil"], "backbone": backbone}
    path = tmp_path / "imagenet.pth"
    state = backbone_file(small("stil", seed=1, backbone=backbone), path)
    with pytest.raises(weights.WeightsError, match=r"imagenet\.pth holds weights of the backbone alone.*no verdict"):
        dfmodels.build("stil", weights=path, **options)
    model = dfmodels.build("stil", backbone_weights=path, **options)
    assert not model.trained
    ours = model.state_dict()
    for key, (name, _) in model.backbone_layout().items():
        if key in state:
            assert torch.equal(ours[name], state[key]), key
    assert not torch.equal(ours["head.bias"], state["fc.bias"][:2])


def test_wrong_backbone_files(tmp_path):
    path = tmp_path / "imagenet.pth"
    state = backbone_file(small("stil"), path)
    torch.save({**state, "layer9.0.conv3.weight": torch.zeros(1)}, path)
    with pytest.raises(weights.WeightsError, match=r"does not fit the backbone of stil:\s+1 unexpected: layer9"):
        dfmodels.build("stil", backbone_weights=path, **SMALL["stil"])
    del state["layer1.0.conv3.weight"]
    torch.save(state, path)
    with pytest.raises(weights.WeightsError, match=r"1 missing: layer1\.0\.conv3\.weight"):
        dfmodels.build("stil", backbone_weights=path, **SMALL["stil"])
    with pytest.raises(weights.WeightsError, match="ddl knows no backbone weights"):
        dfmodels.build("ddl", backbone_weights=path, **SMALL["ddl"])
    with pytest.raises(ValueError, match="weights or backbone_weights, not both"):
        dfmodels.build("stil", weights=path, backbone_weights=path)


def test_attention_maps():
    model = small("stil").train()
    maps = model.attention_maps(clips(model))
    assert model.training
    assert list(maps) == ["SIM", "TIM"]
    for name, values in maps.items():
        assert [tuple(m.shape) for m in values] == [(2, 8, 12, 12), (2, 8, 12, 12)], name
        assert all(0 <= m.min() < m.max() <= 1 for m in values)
    assert all(m[:, -1].max() < 1e-6 for m in maps["TIM"])  # the last frame has none to differ from
    still = clips(model)[:, :1].expand(-1, 8, -1, -1, -1)
    first = model.attention_maps(still)["SIM"][0]
    torch.testing.assert_close(first[:, 0], first[:, 1])
    hooks = [module for module in model.modules() if module._forward_hooks]
    assert not hooks


def test_bfloat16_autocast_stays_near_float32():
    model = small("stil").eval()
    clip = clips(model)
    with torch.no_grad():
        exact = model(clip)
        for fast in (model, dfmodels.optimize(model)):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                rounded = fast(clip).float()
            assert (rounded - exact).abs().max() < 0.02 * exact.abs().max()  # eight bits of mantissa, a few layers


def test_the_block_fits_a_network_of_its_own():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = stil.STILBlock(32, 32, reduction=4)
            self.conv = nn.Conv2d(32, 32, 3, padding=1)

        def forward(self, x, num_frames):
            return F.relu(x + self.conv(self.block(x, num_frames)))

    network = Residual()
    network(torch.rand(6, 32, 8, 8), 3).sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    with pytest.raises(TypeError, match="reductions"):
        stil.STILBlock(32, 32, reductions=4)
    with pytest.raises(ValueError, match="fusion must be one of 's->t'"):
        stil.STILBlock(32, 32, fusion="both")
    halved = stil.STILBlock(16, 32, stride=2, reduction=4)
    assert halved(torch.rand(6, 16, 9, 8), 3).shape == (6, 32, 5, 4)


def test_the_builder_starts_from_the_options_of_the_block():
    options = inspect.signature(stil.stil).parameters
    for field in fields(stil.BlockOptions):
        assert options[field.name].default == (None if field.name == "halves" else field.default)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet18"}, "backbone must be one of 'scnet50_v1d', 'resnet50', got 'resnet18'"),
        ({"fusion": "t"}, "fusion must be one of"),
        ({"planes": (64, 128)}, "planes must be one width for each of 4 stages"),
        ({"planes": (64, 128, 256, 500)}, "planes must be multiples of 16"),
        ({"planes": (16, 32, 64, 128)}, "planes must be at least 32, twice the reduction"),
        ({"tim_kernel": (2, 1)}, "tim_kernel must be two odd numbers"),
        ({"tim_kernel": (3, 3, 3)}, "tim_kernel must be two odd numbers"),
        ({"halves": "both"}, "halves must be one of None, 'project', 'split', got 'both'"),
        ({"sim_pool": 0}, "sim_pool must be a whole number of at least 1, got 0"),
        ({"layers": (3, 4, 6, 0)}, "layers must be whole numbers of at least 1"),
        ({"sim": 1}, "sim must be True or False, got 1"),
        ({"stem_channels": (32,)}, "stem_channels must be two widths"),
        ({"size": (97, 97, 3)}, "size must be a side or"),
        ({"size": 64}, "size must be at least 97"),
        ({"preset": "paper"}, "preset must be one of 'released', 'deepfakebench'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        dfmodels.build("stil", **options)
