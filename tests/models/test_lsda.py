"""LSDA beyond what holds for every detector: frames, and weights of every kind, those of its training among them."""

import inspect
import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch import nn

import dfmodels
from dfmodels import weights
from dfmodels.backbones.efficientnet import PACKAGE_LAYOUT, EfficientNetB4
from dfmodels.detectors import lsda
from dfmodels.layers.clips import mean_logits
from dfmodels.training import LSDADistillation
from dfmodels.training.objectives.lsda import DistillationOptions
from tests.models.test_detectors import SMALL, small
from tests.training.test_lsda import distillation, groups, plain

GOLDEN = Path(__file__).parents[1] / "golden"


def published(model, prefix=""):
    """State dict under published names."""
    state = model.state_dict()
    return {prefix + key: state[ours][index].clone() for key, (ours, index) in model.published_layout().items()}


# ---------------------------------------------------------------------- the detector


def test_a_clip_has_the_mean_probability_of_its_frames():
    model = small("lsda").eval()
    clip = torch.rand(2, 5, 3, 48, 48)
    frames = torch.stack([model(clip[:, t : t + 1]).softmax(1)[:, 1] for t in range(5)], 1)
    torch.testing.assert_close(model(clip).softmax(1)[:, 1], frames.mean(1))
    torch.testing.assert_close(model(clip[:, :1]), model.head(model.encoder(clip[:, 0])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mean_logits_of_frames_that_are_alike_or_very_sure(dtype):
    frame = torch.tensor([[3.0, -2.0], [1e4, -1e4], [-300.0, 500.0]], dtype=dtype)
    torch.testing.assert_close(mean_logits(frame[:, None].expand(-1, 7, -1)), frame)
    torch.testing.assert_close(mean_logits(frame[:, None]), frame)
    unlike = torch.stack([frame, -frame], 1).requires_grad_()
    out = mean_logits(unlike)
    torch.testing.assert_close(out.softmax(1), torch.full_like(frame, 0.5))
    out.square().sum().backward()
    assert unlike.grad.isfinite().all()
    small = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(mean_logits, small)


def test_clips_without_frames():
    with pytest.raises(ValueError, match="at least one frame"):
        small("lsda")(torch.rand(1, 0, 3, 48, 48))


def test_activation_map_is_the_gradient_of_the_margin():
    model = small("lsda", seed=2).eval()
    clip = torch.randn(2, 3, 3, 48, 48)
    (maps,) = model.attention_maps(clip)["CAM"]
    features = model.encoder(clip.flatten(0, 1)).detach().requires_grad_()
    logits = model.head(features)
    (grad,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), features)
    expected = (grad.sum((2, 3), keepdim=True) * features).sum(1).relu()
    torch.testing.assert_close(maps, expected.unflatten(0, (2, 3)).detach())
    assert maps.max() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "vgg"}, "encoder must be one of 'efficientnet_b4', 'xception', 'plain', got 'vgg'"),
        ({"padding": "valid"}, "padding must be one of 'fixed', 'same', got 'valid'"),
        ({"encoder": "xception", "width": 256}, "width must be 512 with the encoder 'xception', got 256"),
        ({"drop_path": 1.0}, "drop_path must be a number from 0 to below 1, got 1.0"),
        ({"width": 0}, "width must be a whole number of at least 1, got 0"),
        ({"size": (1, 2, 3)}, r"size must be a side or \(height, width\)"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        dfmodels.build("lsda", **options)


def test_names_of_the_package_are_the_recorded_ones():
    recorded = json.loads((GOLDEN / "lsda_effb4_timm_map.json").read_text())["names"]
    ours = {key: (name, ()) for key, name in recorded.items() if not key.startswith("_fc.")}
    assert ours == PACKAGE_LAYOUT


def test_padding_for_the_size_at_hand_is_another_network():
    torch.manual_seed(0)
    fixed, same = EfficientNetB4(16).eval(), EfficientNetB4(16, padding="same").eval()
    same.load_state_dict(fixed.state_dict())
    images = torch.rand(1, 3, 112, 112)
    with torch.no_grad():
        assert fixed(images).shape == (1, 16, 3, 3)
        assert same(images).shape == (1, 16, 4, 4)


def test_folded_efficientnet_is_equal():
    torch.manual_seed(0)
    model = dfmodels.build("lsda", size=64).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    fast = dfmodels.optimize(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    clip = torch.rand(2, 1, 3, 64, 64)
    with torch.no_grad():
        expected = model(clip)
        torch.testing.assert_close(fast(clip), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_what_the_page_shows_runs_and_exists():
    page = (Path(__file__).parents[2] / "docs" / "lsda.md").read_text(encoding="utf-8")
    names = {}
    exec(compile(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0], "docs/lsda.md", "exec"), names)
    assert names["logits"].shape == (1, 2)
    assert names["maps"]["CAM"][0].shape == (1, 4, 8, 8)
    tables = page.split("## Options")[1].split("## Weights")[0]
    options = {
        name for row in re.findall(r"^\| (`.*?) \|", tables, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    known = {field.name for field in fields(DistillationOptions)}
    known |= set(inspect.signature(lsda.lsda).parameters)
    assert options - {"channels"} <= known
    assert {field.name for field in fields(DistillationOptions)} - {"mixture", "pull", "push"} <= options


# ---------------------------------------------------------------------- weights


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model."])
def test_a_training_checkpoint_gives_the_student(tmp_path, prefix):
    training = distillation()
    torch.save(published(training, prefix), tmp_path / "training.pth")
    model = dfmodels.build("lsda", weights=tmp_path / "training.pth", **SMALL["lsda"]).eval()
    assert model.trained
    clip = torch.rand(1, 1, 3, 48, 48)
    torch.testing.assert_close(model(clip), training.student.eval()(clip))


def test_the_student_alone(tmp_path):
    student = small("lsda")
    torch.save(published(student), tmp_path / "student.pth")
    model = dfmodels.build("lsda", weights=tmp_path / "student.pth", **SMALL["lsda"])
    for ours, theirs in zip(model.parameters(), student.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_what_does_not_fit_is_listed(tmp_path):
    state = published(distillation())
    path = tmp_path / "file.pth"
    torch.save({**state, "extra.weight": torch.zeros(1)}, path)
    with pytest.raises(weights.WeightsError, match=r"1 unexpected: extra\.weight"):
        dfmodels.build("lsda", weights=path, **SMALL["lsda"])
    del state["binary_classifier.2.bias"]
    torch.save(state, path)
    with pytest.raises(weights.WeightsError, match=r"1 missing: binary_classifier\.2\.bias"):
        dfmodels.build("lsda", weights=path, **SMALL["lsda"])


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """A file of EfficientNet-B4 as the package `efficientnet_pytorch` writes it, without counters."""
    torch.manual_seed(1)
    state = EfficientNetB4(8).model.state_dict()
    content = {key: state[ours] for key, (ours, _) in PACKAGE_LAYOUT.items() if not key.endswith("batches_tracked")}
    path = tmp_path_factory.mktemp("weights") / "efficientnet-b4.pth"
    torch.save({**content, "_fc.weight": torch.zeros(1000, 1792), "_fc.bias": torch.zeros(1000)}, path)
    return path


def test_an_imagenet_file_gives_no_verdict(imagenet):
    with pytest.raises(weights.WeightsError, match="holds weights of the backbone alone, not of a lsda detector"):
        dfmodels.build("lsda", weights=imagenet)
    model = dfmodels.build("lsda", backbone_weights=imagenet)
    stem = torch.load(imagenet, weights_only=True)["_conv_stem.weight"]
    assert torch.equal(model.encoder.model.conv_stem.weight, stem)
    with pytest.raises(RuntimeError, match="random weights"):
        model.predict(torch.rand(1, 1, 3, 64, 64))


def test_an_imagenet_file_starts_every_encoder_of_a_training(imagenet):
    training = LSDADistillation(dfmodels.build("lsda"), num_domains=1, real_encoder=plain(512), pull=(1,), push=())
    training.load_backbones(imagenet)
    stem = torch.load(imagenet, weights_only=True)["_conv_stem.weight"]
    for encoder in (training.student.encoder, training.forgery_encoders[0]):
        assert torch.equal(encoder.model.conv_stem.weight, stem)
    assert not training.student.trained
    with pytest.raises(ValueError, match=r"encoders must be EfficientNet-B4 to load .*, got PlainEncoder"):
        distillation().load_backbones(imagenet)


def test_a_detector_of_deepfakebench_starts_every_encoder(imagenet, tmp_path):
    content = torch.load(imagenet, weights_only=True)
    bench = {f"backbone.efficientnet.{key}": value for key, value in content.items() if not key.startswith("_fc")}
    bench |= {"backbone.last_layer.weight": torch.zeros(2, 1792), "backbone.last_layer.bias": torch.zeros(2)}
    training = LSDADistillation(dfmodels.build("lsda"), num_domains=1, real_encoder=plain(512), pull=(1,), push=())
    for prefix in ("", "module."):
        path = tmp_path / "effnb4_best.pth"
        torch.save({prefix + key: value for key, value in bench.items()}, path)
        with pytest.raises(weights.WeightsError, match="holds weights of the backbone alone, not of a lsda detector"):
            dfmodels.build("lsda", weights=path)
        model = dfmodels.build("lsda", backbone_weights=path)
        training.load_backbones(path)
        for encoder in (model.encoder, training.student.encoder, training.forgery_encoders[0]):
            assert torch.equal(encoder.model.conv_stem.weight, content["_conv_stem.weight"])
            assert torch.equal(encoder.model.bn2.bias, content["_bn1.bias"])
        assert model.training
        assert not model.trained


def test_a_file_of_face_recognition_gives_the_real_encoder(tmp_path):
    training = LSDADistillation(small("lsda", width=512), [plain(512) for _ in range(4)])
    images = groups()
    with pytest.raises(RuntimeError, match="load_real_encoder"):
        training.training_forward(images)
    arcface = {f"module.{key}": x + 1 for key, x in training.real_encoder.state_dict().items() if "tracked" not in key}
    torch.save(arcface, tmp_path / "arcface.pth")
    training.load_real_encoder(tmp_path / "arcface.pth")
    assert torch.equal(training.real_encoder.conv1.weight, arcface["module.conv1.weight"])
    assert training.real_trained
    del arcface["module.bn2.bias"]
    torch.save(arcface, tmp_path / "arcface.pth")
    with pytest.raises(weights.WeightsError, match=r"does not fit the real encoder:\n  1 missing: bn2\.bias"):
        training.load_real_encoder(tmp_path / "arcface.pth")


def test_a_training_checkpoint_loads_into_a_training(tmp_path):
    one, other = distillation(seed=1), distillation(seed=2)
    torch.save(published(one, "module.model."), tmp_path / "training.pth")
    other.load_checkpoint(tmp_path / "training.pth")
    assert other.student.trained
    for key, value in one.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)
