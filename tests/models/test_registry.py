"""Names to builders, and files that cannot be weights."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import dfmodels
import dfops
from dfmodels import Detector, InputContract, registry, weights
from tests.models.test_detectors import SMALL, small


def test_unknown_name_suggests_close_ones():
    with pytest.raises(ValueError, match=r"no detector is named 'dll'; did you mean 'ddl'\?"):
        dfmodels.build("dll")
    with pytest.raises(ValueError, match="known: ddl"):
        dfmodels.build("zzzzzz")


def test_taken_name_is_refused():
    with pytest.raises(ValueError, match="'ddl' is registered already"):
        registry.register("ddl")(lambda: None)


def test_misspelt_option():
    with pytest.raises(TypeError, match="ddl has no option 'num_frame'; did you mean 'num_frames'"):
        dfmodels.build("ddl", num_frame=8)


def saved(tmp_path, **options):
    model = small("ddl", **options)
    model.trained = True
    path = tmp_path / "small.safetensors"
    dfmodels.save(model, path)
    return path


def test_build_takes_the_options_of_a_saved_file(tmp_path):
    path = saved(tmp_path, num_frames=6)
    assert dfmodels.build("ddl", weights=path).contract.num_frames == 6
    with pytest.raises(weights.WeightsError, match=r"wrongly shaped: fusion\.merge\.conv\.weight"):
        dfmodels.build("ddl", weights=path, num_frames=8)


def test_files_that_are_no_weights(tmp_path):
    for name, content in {
        "empty.pth": b"",
        "text.pth": b"hello there",
        "text.safetensors": b"hello there",
        "short.safetensors": saved(tmp_path).read_bytes()[:2000],
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(weights.WeightsError, match=name):
            dfmodels.build("ddl", weights=path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        dfmodels.load(tmp_path / "nowhere.safetensors")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        dfmodels.load(tmp_path)


def test_pickles_never_run_code(tmp_path):
    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "attacked"), "w"))

    path = tmp_path / "attack.pth"
    torch.save({"state_dict": Attack()}, path)
    with pytest.raises(weights.WeightsError, match="must hold a state dict"):
        dfmodels.build("ddl", weights=path)
    assert not (tmp_path / "attacked").exists()


def test_a_file_without_a_name_must_be_named(tmp_path):
    path = tmp_path / "plain.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(weights.WeightsError, match="does not say which detector"):
        dfmodels.load(path)


def test_values_that_are_no_tensors(tmp_path):
    path = tmp_path / "numbers.pth"
    torch.save({"a": 1}, path)
    with pytest.raises(weights.WeightsError, match="must hold a state dict"):
        dfmodels.build("ddl", weights=path)


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = saved(tmp_path)
    before = path.read_bytes()

    def fail(tensors, target, metadata):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(weights, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        saved(tmp_path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["small.safetensors"]


def test_with_weights_a_detector_is_in_evaluation_mode(tmp_path):
    path = saved(tmp_path)
    clip = torch.rand(1, 8, 3, 48, 48)
    built, loaded = dfmodels.build("ddl", weights=path), dfmodels.load(path)
    assert not any(module.training for model in (built, loaded) for module in model.modules())
    with torch.no_grad():
        assert torch.equal(built(clip), loaded(clip))
    assert dfmodels.build("ddl", **SMALL["ddl"]).training


class Incomplete(Detector):
    def __init__(self, **attributes):
        super().__init__()
        for name, value in attributes.items():
            setattr(self, name, value)


class Plain(Incomplete):
    def forward(self, clip):
        return clip.mean((1, 3, 4))[:, :2]


CONTRACT = InputContract(num_frames=2, size=(16, 16))
COMPLETE = {"name": "plain", "config": {}, "contract": CONTRACT}


@pytest.fixture
def registered(own_registry):
    """Registers under a name for one test."""

    def register(name, builder, **options):
        return dfmodels.register(name, **options)(builder)

    return register


def test_all_that_a_detector_lacks_is_listed_at_once(registered, tmp_path):
    registered("incomplete", lambda: Incomplete(contract=(8, 16), trained=1))
    model = Incomplete(contract=(8, 16), trained=1)
    for use in (
        lambda: dfmodels.build("incomplete"),
        lambda: dfmodels.save(model, tmp_path / "a.safetensors"),
        lambda: dfmodels.score_video(model, tmp_path / "a.mp4"),
    ):
        with pytest.raises(TypeError, match="Incomplete is no complete detector") as caught:
            use()
        assert str(caught.value).splitlines()[1:] == [
            "  name must be the registered name, is missing",
            "  config must be the options it was built with, names to JSON values, is missing",
            "  contract must be a dfmodels.InputContract, got (8, 16)",
            "  trained must be True or False, got 1",
            "  forward must be a method from clips (B, T, 3, H, W) to logits (B, 2), is missing",
        ]


def test_a_detector_that_could_not_be_built_again(registered):
    given = dict(COMPLETE)
    registered("plain", lambda: Plain(**given))
    assert dfmodels.build("plain").contract == CONTRACT
    given["name"] = "other"
    with pytest.raises(TypeError, match=r"Plain\.name must be 'plain', as it is registered, got 'other'"):
        dfmodels.build("plain")
    given.update(COMPLETE, config={"dtype": torch.float32})
    with pytest.raises(TypeError, match=r"config must hold JSON values, got {'dtype': torch\.float32}"):
        dfmodels.build("plain")
    registered("plain2", lambda *, size=16: Plain(**{**COMPLETE, "name": "plain2", "config": {"width": 3}}))
    with pytest.raises(TypeError, match="config of Plain could not build it again: plain2 has no option 'width'"):
        dfmodels.build("plain2")
    registered("none", lambda: None)
    with pytest.raises(TypeError, match=r"a detector must be a dfmodels\.Detector, got NoneType"):
        dfmodels.build("none")


@pytest.mark.parametrize("wrong", [(1,), (3, 2), (2, 1), (2, 4, 2)])
def test_logits_of_another_shape_are_refused(wrong):
    model = Plain(**COMPLETE, trained=True)
    model.forward = lambda clip: torch.zeros(wrong)
    with pytest.raises(ValueError, match=r"plain must give logits \(B, num_classes\), .*, got \(.*\) of 2 clips"):
        model.predict(torch.rand(2, 2, 3, 16, 16))


def test_a_contract_takes_one_side_or_both():
    assert InputContract(num_frames=2, size=16).size == InputContract(num_frames=2, size=[16, 16]).size == (16, 16)


def test_what_cannot_be_registered():
    for wrong in (3, torch.nn.Linear, "ddl"):
        with pytest.raises(
            TypeError, match="a builder must be a function that returns a Detector, or such a class, got"
        ):
            dfmodels.register("mine")(wrong)
    with pytest.raises(TypeError, match=r"name must be the name to register, as in @register\('mine'\), got <class"):
        dfmodels.register(Plain)


# ---------------------------------------------------------------------- detectors of other packages

PLUGIN = """
import torch
from dfmodels import Detector, InputContract, register

@register("elsewhere")
class Elsewhere(Detector):
    \"\"\"A detector of another package.\"\"\"
    def __init__(self, *, width: int = 4):
        super().__init__()
        self.name, self.config = "elsewhere", {"width": width}
        self.contract = InputContract(num_frames=1, size=(32, 32))
        self.head = torch.nn.Linear(3, 2)

    def forward(self, clip):
        return self.head(clip.mean((1, 3, 4)))
"""


def package(folder, name, code, value):
    """A package as pip installs it, whose entry point is `value`."""
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[dfmodels.detectors]\n{name} = {value}\n")


def run(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=folder)


def test_detectors_of_other_packages(tmp_path):
    package(tmp_path, "elsewhere_detectors", PLUGIN, "elsewhere_detectors")
    package(tmp_path, "broken_detectors", "import nowhere_to_be_found", "broken_detectors:Klass")
    package(tmp_path, "taken_detectors", PLUGIN.replace('"elsewhere"', '"ddl"'), "taken_detectors")
    package(tmp_path, "leaving_detectors", "raise SystemExit(3)", "leaving_detectors")
    code = (
        "import dfmodels; model = dfmodels.build('elsewhere', width=5); model.trained = True\n"
        "dfmodels.save(model, 'a.safetensors'); again = dfmodels.load('a.safetensors'); print(again.config)\n"
        "print(dfmodels.list_models(), dfmodels.list_models() == dfmodels.list_models())"
    )
    done = run(tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "{'width': 5}\n['ddl', 'elsewhere', 'frame', 'lsda', 'stil'] True\n"
    for name, reason in (
        ("broken", "broken_detectors:Klass cannot be loaded, ModuleNotFoundError: No module named 'nowhere"),
        ("taken", "taken_detectors cannot be loaded, ValueError: a detector named 'ddl' is registered already"),
        ("leaving", "leaving_detectors cannot be loaded, SystemExit: 3"),
    ):
        said = f"the detectors '{name}_detectors' of {name}_detectors 1.0 are left out: {reason}"
        assert done.stderr.count(said) == 1, done.stderr
    listed = run(tmp_path, "-W", "ignore", "-m", "dfmodels", "list")
    assert "elsewhere: A detector of another package.\n    width=4\n" in listed.stdout, listed.stderr
    target = tmp_path / "b.safetensors"
    converted = run(
        tmp_path, "-W", "ignore", "-m", "dfmodels", "convert", "a.safetensors", str(target), "--model", "elsewhere"
    )
    assert converted.stdout.rstrip().endswith("elsewhere, 8 parameters, width=5"), converted.stderr
    with pytest.raises(
        weights.WeightsError, match="holds a detector 'elsewhere', which is not registered here; import"
    ):
        dfmodels.load(target)


def test_the_detector_of_the_contributing_guide(own_registry, tmp_path, monkeypatch):
    pytest.importorskip("av")
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 40
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code, names)
    trained = names["again"]
    clips = torch.rand(2, 4, 3, 32, 32)
    assert not torch.equal(trained.head.weight, dfmodels.build("motion", width=8).head.weight)
    torch.save({"state_dict": nn.DataParallel(trained).state_dict()}, "checkpoint.pth")
    loaded = dfmodels.build("motion", weights="checkpoint.pth", width=8)
    assert torch.equal(loaded.predict(clips), trained.predict(clips))
    from tests.video.videos import noise, write_video

    score = dfmodels.score_video(trained, write_video(tmp_path / "a.mp4", frames=8, picture=noise), faces="none")
    assert score.error is None
    assert 0 < score.probability < 1


def test_nothing_optional_is_imported_with_the_package():
    code = (
        "import sys, dfmodels\n"
        "print(sorted(sys.modules.keys() & {'av', 'cv2', 'matplotlib', 'sklearn', 'onnx', 'timm'}))\n"
        "print(sorted(set(dfmodels.__all__) - set(dir(dfmodels))), dfmodels.score_video.__name__)"
    )
    done = run(Path(__file__).parents[2], "-c", code)
    assert done.stdout == "[]\n[] score_video\n", done.stderr


def test_public_names():
    names = {"build", "load", "save", "score_video", "Detector", "InputContract", "register", "list_models", "optimize"}
    assert {*names, "__version__"} <= {*dfmodels.__all__} <= {*dir(dfmodels)}
    assert dfmodels.__version__ == dfops.__version__
    with pytest.raises(AttributeError, match="module 'dfmodels' has no attribute 'scores'"):
        dfmodels.scores


def test_building_needs_no_weights_and_touches_no_random_state():
    torch.manual_seed(3)
    one = dfmodels.build("ddl", **SMALL["ddl"])
    torch.manual_seed(3)
    two = dfmodels.build("ddl", **SMALL["ddl"])
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert not one.trained
