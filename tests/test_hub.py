"""Detectors in folders and, without the network, on the Hugging Face Hub."""

import csv
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import dfmodels
from dfmodels.detectors.stil import STIL
from dfmodels.training.engine import train
from tests.models.test_detectors import clips, small
from tests.training import runs

hub = pytest.importorskip("huggingface_hub")

NOTES = {
    "recipe": {"name": "frame", "learning_rate": 2e-4},
    "metrics": {"auc": 0.91},
    "data": "FaceForensics++ c23",
    "licence": "CC BY-NC 4.0",
    "note": "for trying",
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def detector():
    model = small("frame").eval()
    model.trained = True
    return model


def test_a_folder_and_back(detector, tmp_path):
    detector.save_pretrained(tmp_path / "a" / "model", **NOTES)
    assert sorted(file.name for file in (tmp_path / "a" / "model").iterdir()) == [
        "README.md", "config.json", "model.safetensors",
    ]  # fmt: skip
    again = dfmodels.Detector.from_pretrained(tmp_path / "a" / "model")
    assert torch.equal(again.predict(clips(detector)), detector.predict(clips(detector)))
    assert again.config == detector.config
    assert again.trained
    assert not again.training
    config = json.loads((tmp_path / "a" / "model" / "config.json").read_text())
    assert config["detector"] == "frame"
    assert config["options"] == detector.config


def test_the_card_says_recipe_metrics_data_and_licence(detector, tmp_path):
    detector.save_pretrained(tmp_path, **NOTES)
    card = hub.ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "dfmodels"
    assert card.data.to_dict()["license_name"] == "CC BY-NC 4.0"
    for text in (
        "## Recipe\n\n- name: frame\n- learning_rate: 0.0002",
        "## Metrics\n\n- auc: 0.91",
        "## Training data\n\nFaceForensics++ c23",
        "## Licence\n\nCC BY-NC 4.0",
        "- note: for trying",
        '"encoder": "test_efficientnet"',
    ):
        assert text in card.text, text


def test_notes_stay_with_weights_that_are_written_again(detector, tmp_path):
    dfmodels.save(detector, tmp_path / "run.safetensors", **NOTES)
    loaded = dfmodels.load(tmp_path / "run.safetensors")
    loaded.save_pretrained(tmp_path / "one")
    assert "## Metrics\n\n- auc: 0.91" in (tmp_path / "one" / "README.md").read_text()
    (tmp_path / "run.safetensors").unlink()
    loaded.save_pretrained(tmp_path / "two")  # the file is gone, its note is known
    assert "for trying; " in (tmp_path / "two" / "README.md").read_text()
    assert dfmodels.Detector.from_pretrained(tmp_path / "one").origin.note == loaded.origin.note


def test_notes_that_are_given_go_over_those_of_the_file(detector, tmp_path):
    dfmodels.save(detector, tmp_path / "run.safetensors", **NOTES)
    dfmodels.load(tmp_path / "run.safetensors").save_pretrained(tmp_path / "new", licence="MIT")
    text = (tmp_path / "new" / "README.md").read_text()
    assert "## Licence\n\nMIT" in text
    assert "- auc: 0.91" in text


@pytest.mark.usefixtures("tiny", "one_thread")
@pytest.mark.parametrize("val", [8, 0])
def test_the_card_of_a_run_knows_recipe_metrics_and_data(tmp_path, val):
    recipe = runs.TinyRecipe().with_settings({"epochs": 2, "learning_rate": 0.05})
    train(recipe, runs.videos(val=val), tmp_path / "run", crops=None, device="cpu")
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        epochs = [row for row in csv.DictReader(file) if row["kind"] == "epoch"]
    for name in ["best.safetensors", "final.safetensors"] if val else ["final.safetensors"]:
        detector = dfmodels.load(tmp_path / "run" / name)
        assert "learning_rate" not in detector.origin.note  # what every verdict shows stays a sentence
        detector.save_pretrained(tmp_path / name)
        text = (tmp_path / name / "README.md").read_text()
        assert "- recipe: tiny\n" in text
        assert "- learning_rate: 0.05\n" in text
        assert '- datasets: ["Noise"]' in text
        assert '"train real": 12' in text
        assert "single frames" in text
        if val:
            (judged,) = (row for row in epochs if f"validation split after epoch {row['epoch']}\n" in text)
            assert f"- auc: {float(judged['val_auc'])}\n" in text
            assert name.startswith("best") or judged is epochs[-1]
        else:
            assert "## Metrics\n\n- of: no validation split" in text


def test_a_card_of_other_weights_is_replaced(detector, tmp_path):
    detector.save_pretrained(tmp_path, data="first")
    detector.save_pretrained(tmp_path, data="second")
    assert "first" not in (tmp_path / "README.md").read_text()
    assert "Not recorded." in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("make", [lambda m: small("frame"), dfmodels.optimize], ids=["untrained", "optimized"])
def test_what_is_not_saved(detector, make, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", None)
    for write in (lambda m: m.save_pretrained(tmp_path / "new"), lambda m: m.push_to_hub("me/mine")):
        with pytest.raises(ValueError, match=r"random weights|cannot be saved"):
            write(make(detector))
    assert not list(tmp_path.iterdir())


def test_what_is_no_folder(detector, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(NotADirectoryError, match=r"but .*file is a file"):
        detector.save_pretrained(file)
    with pytest.raises(NotADirectoryError, match=r"load it with dfmodels\.load"):
        dfmodels.Detector.from_pretrained(file)
    with pytest.raises(ValueError, match=r"folder must be .*, got an empty name"):
        detector.save_pretrained("")
    with pytest.raises(ValueError, match=r"source must be .*, got an empty one"):
        dfmodels.Detector.from_pretrained("")
    with pytest.raises(FileNotFoundError, match=r"holds no model\.safetensors"):
        dfmodels.Detector.from_pretrained(tmp_path)
    for missing in (tmp_path / "missing", str(tmp_path / "missing"), "missing", "a/b/c", "./a/b", Path("owner/name")):
        with pytest.raises(FileNotFoundError, match="is no folder here, and no name of a repository"):
            dfmodels.Detector.from_pretrained(missing)


def test_another_class(detector, tmp_path):
    detector.save_pretrained(tmp_path)
    with pytest.raises(TypeError, match="holds a detector 'frame', which is no STIL"):
        STIL.from_pretrained(tmp_path)


def test_a_repository_is_written_and_read_by_its_name_alone(detector, tmp_path, monkeypatch):
    shelf = tmp_path / "shelf"
    asked = []

    class Api:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, **options):
            asked.append((repo_id, options["private"]))
            return type("Url", (), {"repo_id": repo_id})()

        def upload_folder(self, *, folder_path, **options):
            shutil.copytree(folder_path, shelf)
            return "https://hub/commit"

    def download(repo_id, filename, **options):
        asked.append((repo_id, filename, options.get("revision")))
        return str(shelf / filename)

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.chdir(tmp_path)
    assert detector.push_to_hub("me/mine", notes=NOTES, private=True) == "https://hub/commit"
    assert "CC BY-NC 4.0" in (shelf / "README.md").read_text()
    again = dfmodels.Detector.from_pretrained("me/mine", revision="v1")
    assert torch.equal(again.predict(clips(detector)), detector.predict(clips(detector)))
    assert ("me/mine", True) in asked
    assert ("me/mine", "model.safetensors", "v1") in asked


def test_without_the_package(detector, tmp_path):
    detector.save_pretrained(tmp_path)
    program = f"""
import sys
sys.modules["huggingface_hub"] = None
import dfmodels
detector = dfmodels.Detector.from_pretrained({str(tmp_path)!r})
for call in (lambda: detector.save_pretrained("new"), lambda: dfmodels.Detector.from_pretrained("me/mine")):
    try:
        call()
    except ImportError as error:
        assert "the Hugging Face Hub needs huggingface_hub" in str(error), error
        assert "[hub]" in str(error), error
    else:
        raise SystemExit("no ImportError")
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
