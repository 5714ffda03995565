"""`dfmodels convert` as a person meets it: every layout a checkpoint may come in, and every wrong input."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import dfmodels
from dfmodels.cli import main
from dfmodels.cli.loading import parse_value
from dfmodels.detector import Origin
from tests.models.test_detectors import SMALL, clips, small

SET = [word for name, value in SMALL["stil"].items() for word in ("--set", f"{name}={json.dumps(value)}")]
STIL = ["--model", "stil", *SET]


@pytest.fixture(scope="module")
def model():
    return small("stil").eval()


def published(model, prefix=""):
    """State dict of a detector in the layout of its release."""
    ours = model.state_dict()
    return {prefix + key: ours[name][index].clone() for key, (name, index) in model.published_layout().items()}


def write_bench(model, path):
    """A checkpoint as DeepfakeBench leaves it."""
    torch.save(published(model, "module.model.base_model."), path)
    return path


def write_backbone(model, path):
    """The backbone alone, with its classifier of ImageNet."""
    state = published(model)
    backbone = {key: state[key] for key in model.backbone_layout()}
    torch.save(backbone | {"fc.weight": torch.zeros(1000, 4), "fc.bias": torch.zeros(1000)}, path)
    return path


def convert(capsys, *arguments):
    status = main(["convert", *map(str, arguments)])
    return status, *capsys.readouterr()


def same(path, model, preset):
    again = dfmodels.load(path)
    assert again.config["preset"] == preset
    return torch.equal(again.predict(clips(model)), model(clips(model)).softmax(1)[:, 1].detach())


def test_checkpoint_of_the_authors(capsys, model, tmp_path):
    source, target = tmp_path / "epoch.tar", tmp_path / "out.safetensors"
    torch.save({"state_dict": published(model, "module.base_model."), "epoch": 3, "optimizer": {}}, source)
    status, out, err = convert(capsys, source, target, *STIL)
    parameters = sum(p.numel() for p in model.parameters())
    assert (status, err) == (0, "")
    assert out.startswith(f"wrote {target}: stil, {parameters:,} parameters, layers=[1, 1], planes=[32, 32]")
    assert "preset" not in out
    assert same(target, model, "released")
    assert not list(tmp_path.glob("*.part"))


def test_checkpoint_of_deepfakebench_implies_its_preset(capsys, model, tmp_path):
    source, target = write_bench(model, tmp_path / "bench.pth"), tmp_path / "out.safetensors"
    status, out, _ = convert(capsys, source, target, *STIL)
    assert status == 0
    assert out.rstrip().endswith("preset=deepfakebench")
    assert same(target, model, "deepfakebench")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert dfmodels.build("stil", weights=source, **SMALL["stil"]).origin == Origin(str(source), digest, "")
    origin = dfmodels.load(target).origin
    assert (origin.file, origin.note) == (str(target), f"converted_from: bench.pth, SHA-256 {digest}")
    status, out, _ = convert(capsys, source, target, *STIL, "--set", "preset=released", "--force")
    assert status == 0
    assert same(target, model, "released")


def test_our_own_file_keeps_its_notes(capsys, tmp_path):
    model = small("stil", preset="deepfakebench")
    model.trained = True
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    dfmodels.save(model, source, data="noise")
    assert convert(capsys, source, target)[0] == 0
    assert same(target, model.eval(), "deepfakebench")
    with safe_open(target, "pt") as file:
        assert json.loads(file.metadata()["dfmodels"])["notes"] == {"data": "noise"}


def test_default_options_are_called_so(capsys, tmp_path):
    source = tmp_path / "ddl.pth"
    torch.save(published(dfmodels.build("ddl"), "module."), source)
    status, out, _ = convert(capsys, source, tmp_path / "out.safetensors", "--model", "ddl")
    assert status == 0
    assert out.rstrip().endswith("ddl, 10,592,688 parameters, default options")


def refused(capsys, tmp_path, message, *arguments):
    """The command fails with `message` and leaves the folder as it was."""
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    status, out, err = convert(capsys, *arguments)
    assert status == 2
    assert out == ""
    assert message in err
    assert "Traceback" not in err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_files_that_cannot_be_converted(capsys, model, tmp_path):
    target = tmp_path / "out.safetensors"
    text, short, other = tmp_path / "text.pth", tmp_path / "short.safetensors", tmp_path / "ddl.safetensors"
    text.write_text("no checkpoint")
    code = tmp_path / "code.pth"
    torch.save({"folder": Path("data")}, code)
    short.write_bytes(b"\x10")
    ddl = small("ddl")
    ddl.trained = True
    dfmodels.save(ddl, other)
    for source, message in {
        tmp_path / "nowhere.pth": "does not exist",
        tmp_path: "is no folder with weights",
        text: "is no weights file: it is text that begins with 'no checkpoint'",
        code: "must hold a state dict (key -> tensor), got dict of folder",
        short: "neither safetensors nor what torch.save writes",
        other: "holds weights of 'ddl', not of 'stil'; the file says so itself",
        write_backbone(model, tmp_path / "imagenet.pth"): "holds weights of the backbone alone",
    }.items():
        refused(capsys, tmp_path, message, source, target, *STIL)
    bench = write_bench(model, tmp_path / "bench.pth")
    refused(capsys, tmp_path, "--model NAME", bench, target)
    refused(capsys, tmp_path, "wrongly shaped", bench, target, "--model", "stil")
    refused(capsys, tmp_path, "does not fit ddl", bench, target, "--model", "ddl")


def test_targets_that_may_not_be_written(capsys, model, tmp_path):
    source, target = write_bench(model, tmp_path / "bench.pth"), tmp_path / "out.safetensors"
    target.write_bytes(b"precious")
    (tmp_path / "folder.safetensors").mkdir()
    linked = tmp_path / "linked.safetensors"
    linked.symlink_to(source)
    for to, message in {
        target: "--force replaces it",
        tmp_path / "out.pth": "OUT must end in .safetensors",
        tmp_path / "no" / "out.safetensors": "OUT must lie in a folder that exists",
        tmp_path / "folder.safetensors": "is a folder",
    }.items():
        refused(capsys, tmp_path, message, source, to, *STIL)
    refused(capsys, tmp_path, "IN must be a path, got an empty one", "", target, *STIL)
    refused(capsys, tmp_path, "OUT must be a path, got an empty one", source, "", *STIL)
    refused(capsys, tmp_path, "OUT must not be IN", source, linked, *STIL, "--force")
    refused(capsys, tmp_path, "OUT must not be IN", target, target, "--force")
    assert convert(capsys, source, tmp_path / "out.SAFETENSORS", *STIL)[0] == 0  # as dfmodels.save takes it


def test_a_failed_write_keeps_the_old_file(capsys, model, tmp_path, monkeypatch):
    source, target = write_bench(model, tmp_path / "bench.pth"), tmp_path / "out.safetensors"
    target.write_bytes(b"precious")

    def fail(tensors, path, metadata):
        path.write_bytes(b"half")
        raise dfmodels.weights.SafetensorError("disk full")

    monkeypatch.setattr("dfmodels.weights.save_file", fail)
    refused(capsys, tmp_path, "out.safetensors cannot be written: disk full", source, target, *STIL, "--force")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "stll"], "did you mean 'stil'?"),
        (["--model", "stil", "--set", "plane=[64]"], "stil has no option 'plane'; did you mean 'planes'"),
        (["--model", "stil", "--set", "weights=a.pth"], "stil has no option 'weights'"),
        (["--model", "stil", "--set", "planes"], "--set must be NAME=VALUE, got 'planes'"),
        (["--model", "stil", "--set", "=3"], "--set must be NAME=VALUE, got '=3'"),
        (["--model", "stil", "--set", "sim=maybe"], "sim must be True or False, got 'maybe'"),
        (["--model", "stil", "--set", "layers=3"], "layers must be several values, as in (1, 2), got 3"),
        (
            ["--model", "ddl", "--set", "num_keep=few"],
            "num_keep must be None or a whole number of at least 1, got 'few'",
        ),
        (["--set", "layers=[3]"], "--set layers=[3] is an option of a detector; name it with --model"),
    ],
)
def test_wrong_options(capsys, model, tmp_path, arguments, message):
    refused(capsys, tmp_path, message, write_bench(model, tmp_path / "b.pth"), tmp_path / "o.safetensors", *arguments)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[64, 128]", [64, 128]),
        ("(64, 128)", (64, 128)),
        ("0.5", 0.5),
        ("true", True),
        ("False", False),
        ("null", None),
        ("None", None),
        ("deepfakebench", "deepfakebench"),
        ("s->t", "s->t"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_values(text, value):
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)
