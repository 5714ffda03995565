"""The frame classifier beyond what holds for every detector: the bench's files, backbones, timm's networks, frames."""

import pytest
import torch
from torch import nn

import dfmodels
from dfmodels import weights
from dfmodels.cli import main
from tests.models.test_detectors import clips, small

BENCH = ("bench_efficientnetb4", "bench_xception")
FILES = dict(zip(BENCH, ("effnb4_best.pth", "xception_best.pth"), strict=True))


@pytest.fixture(scope="module", params=BENCH)
def model(request):
    torch.manual_seed(0)
    return dfmodels.build("frame", encoder=request.param, size=64).eval()


def published(model, prefix=""):
    """Content of the bench's file, with the part of it that is left out."""
    ours = model.state_dict()
    state = {prefix + key: ours[name][index].clone() for key, (name, index) in model.published_layout().items()}
    if model.config["encoder"] == "bench_xception":
        for key, shape in {"0.weight": (512, 2048, 1, 1), "0.bias": (512,), "1.weight": (512,)}.items():
            state[f"{prefix}backbone.adjust_channel.{key}"] = torch.zeros(shape)
    return state


def backbone(model, classifier):
    ours = model.state_dict()
    state = {key: ours[name][index].clone() for key, (name, index) in model.backbone_layout().items()}
    features = ours["network.head.weight"].shape[1]
    return state | {f"{classifier}.weight": torch.zeros(1000, features), f"{classifier}.bias": torch.zeros(1000)}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_files_of_the_bench_convert_and_tell_their_encoder(model, prefix, tmp_path, capsys):
    source, target = tmp_path / FILES[model.config["encoder"]], tmp_path / "frame.safetensors"
    torch.save(published(model, prefix), source)
    assert main(["convert", str(source), str(target), "--model", "frame"]) == 0
    assert "frame, " in capsys.readouterr().out
    loaded = dfmodels.load(target)
    assert loaded.config["encoder"] == model.config["encoder"]
    assert loaded.config["size"] == [256, 256]
    image = clips(model)
    with torch.no_grad():
        assert torch.equal(loaded(image), model(image))
    again = dfmodels.build("frame", weights=target)
    assert again.config == loaded.config


@pytest.mark.parametrize("damage", ["backbone.extra.weight", None])
def test_a_file_of_the_bench_that_lacks_or_has_something(model, damage, tmp_path):
    state = published(model)
    if damage is None:
        state.popitem() if model.config["encoder"] == BENCH[0] else state.pop("backbone.last_linear.bias")
    else:
        state[damage] = torch.zeros(1)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(weights.WeightsError, match=f"1 (missing|unexpected): {damage or 'backbone.last_'}"):
        dfmodels.build("frame", weights=tmp_path / "x.pth")


def test_the_wrong_encoder_is_refused(model, tmp_path):
    torch.save(published(model), tmp_path / "x.pth")
    other = next(name for name in BENCH if name != model.config["encoder"])
    with pytest.raises(weights.WeightsError, match=f"does not fit frame with options .*{other}"):
        dfmodels.build("frame", weights=tmp_path / "x.pth", encoder=other)


@pytest.mark.parametrize(
    ("model", "classifier"), [(BENCH[0], "_fc"), (BENCH[1], "fc"), (BENCH[1], "last_linear")], indirect=["model"]
)
def test_a_backbone_gives_no_verdict_but_starts_a_training(model, classifier, tmp_path):
    torch.save(backbone(model, classifier), tmp_path / "imagenet.pth")
    encoder = model.config["encoder"]
    with pytest.raises(weights.WeightsError, match="weights of the backbone alone, not of a frame detector"):
        dfmodels.build("frame", weights=tmp_path / "imagenet.pth", encoder=encoder)
    started = dfmodels.build("frame", backbone_weights=tmp_path / "imagenet.pth", encoder=encoder)
    assert not started.trained
    for key, value in model.state_dict().items():
        assert torch.equal(started.state_dict()[key], value) == ("head" not in key.split(".")), key


@pytest.mark.parametrize("classes", [1000, 2])
def test_files_of_timm(classes, tmp_path):
    model = small("frame")
    state = {key.removeprefix("network."): value.clone() for key, value in model.state_dict().items()}
    state |= {"classifier.weight": torch.zeros(classes, 256), "classifier.bias": torch.zeros(classes)}
    torch.save(state, tmp_path / "x.pth")
    options = {"encoder": "test_efficientnet", "size": 48}
    started = dfmodels.build("frame", backbone_weights=tmp_path / "x.pth", **options)
    assert torch.equal(started.state_dict()["network.conv_stem.weight"], model.state_dict()["network.conv_stem.weight"])
    if classes == 2:
        assert dfmodels.build("frame", weights=tmp_path / "x.pth", **options).trained
    else:
        with pytest.raises(weights.WeightsError, match="weights of the backbone alone"):
            dfmodels.build("frame", weights=tmp_path / "x.pth", **options)


def test_the_probability_of_a_clip_is_the_mean_of_its_frames():
    model = small("frame").eval()
    frames = clips(model, 5)
    model.trained = True
    clip = frames.transpose(0, 1)
    torch.testing.assert_close(model.predict(clip), model.predict(frames).mean(0, keepdim=True))


def test_optimized_copies_have_no_norms_left(model):
    fast = dfmodels.optimize(model)
    assert not [module for module in fast.modules() if isinstance(module, nn.BatchNorm2d)]
    clip = clips(model)
    with torch.no_grad():
        expected = model(clip)
        assert (fast(clip) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("encoder", ["test_resnet", "test_vit", "test_convnext", "densenet121", "test_nfnet"])
def test_any_network_of_timm(encoder):
    torch.manual_seed(0)
    model = dfmodels.build("frame", encoder=encoder, size=64).eval()
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    clip = clips(model)
    fast = dfmodels.optimize(model)
    with torch.no_grad():
        expected = model(clip)
        assert expected.shape == (2, 2)
        assert (fast(clip) - expected).abs().max() <= 1e-5 * expected.abs().max()
    maps = model.attention_maps(clip)
    assert set(maps) == (set() if encoder == "test_vit" else {"CAM"})
    assert all(x.shape[:2] == (2, 1) and (x >= 0).all() for xs in maps.values() for x in xs)


class Apart(nn.Module):
    """A norm that stands behind a convolution and is called before it."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward_features(self, x):
        return self.conv(self.norm(x).square())

    def forward_head(self, x):
        return x.mean((2, 3))[:, :2]

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


def test_a_norm_that_does_not_follow_its_neighbour_is_left():
    model = small("frame").eval()
    model.network = Apart().eval()
    model.network.norm.running_mean.fill_(0.3)
    clip = clips(model)
    with torch.no_grad():
        torch.testing.assert_close(dfmodels.optimize(model)(clip), model(clip))


def test_the_map_of_the_bench_is_the_weighted_sum_of_its_features(model):
    clip = clips(model)
    (found,) = model.attention_maps(clip)["CAM"]
    with torch.no_grad():
        features = model.network.encoder(clip[:, 0])
        real, fake = model.network.head.weight
    expected = torch.einsum("bchw,c->bhw", features, fake - real).relu()
    torch.testing.assert_close(found[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_images_that_are_too_small(model):
    smallest = model.network.smallest
    with torch.no_grad():
        assert model(torch.rand(1, 1, 3, smallest, smallest)).shape == (1, 2)
    with pytest.raises(ValueError, match=f"clip must have at least {smallest} rows and columns with the encoder"):
        model(torch.rand(1, 1, 3, smallest - 1, 64))


def test_no_frames():
    with pytest.raises(ValueError, match="clip must have at least one frame"):
        small("frame")(torch.rand(1, 0, 3, 48, 48))


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("bench_xcpetion", r"did you mean 'bench_xception'"),
        ("resnet18.notag", r"encoder must be 'resnet18' without a tag or with one of timm's; did you mean '?resnet18"),
        ("resnet_18", r"name of a network of timm; did you mean"),
        ("hf-hub:timm/resnet18.a1_in1k", r"encoder must be .* got 'hf-hub:timm/resnet18\.a1_in1k'"),
    ],
)
def test_encoders_that_are_none(encoder, message):
    with pytest.raises(ValueError, match=message):
        dfmodels.build("frame", encoder=encoder)
