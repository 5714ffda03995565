"""dfmodels train."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from dfmodels.cli import main
from dfmodels.data.crops import FilmCrops
from dfmodels.data.index import write_index
from dfmodels.registry import load
from dfmodels.synthetic import write_benchmark
from dfmodels.training.run import BEST, FINAL
from tests.training import runs

pytestmark = pytest.mark.usefixtures("tiny", "one_thread")


@pytest.fixture
def index(tmp_path):
    rows = []
    for video in runs.videos():
        path = tmp_path / "films" / video.path.name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        rows.append(type(video)(path, video.label, video.split, "Noise", video.method, video.id))
    write_index(tmp_path / "videos.csv", rows)
    return str(tmp_path / "videos.csv")


def train(*arguments):
    return main(["train", "tiny", "--device", "cpu", "--faces", "none", *map(str, arguments)])


def test_prints_the_recipe_as_it_is_used(capsys):
    assert main(["train", "stil", "--print", "--set", "learning_rate=3e-4", "model.size=64", "--seed", "5"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["recipe"], shown["learning_rate"], shown["seed"], shown["model"]) == ("stil", 3e-4, 5, {"size": 64})


def test_trains_and_goes_on(index, tmp_path, capsys):
    out = tmp_path / "run"
    assert train("--data", index, "--out", out, "--set", "epochs=1") == 0
    assert load(out / FINAL).name == load(out / BEST).name == "tiny"
    assert capsys.readouterr().out == f"weights in {out / BEST}\n"  # no split test, so nothing judges them
    assert train("--data", index, "--out", out, "--set", "epochs=1") == 2
    assert "is not empty: go on there with --resume" in capsys.readouterr().err
    assert train("--data", index, "--out", out, "--set", "epochs=1", "--resume") == 0
    assert "finished already" in capsys.readouterr().err
    assert train("--data", index, "--out", out, "--resume") == 2
    assert "epochs was 1 and is 3" in capsys.readouterr().err
    assert train("--data", index, "--out", out, "--set", "epochs=1", "--resume", "--limit", "6") == 2
    assert "index was " in capsys.readouterr().err
    assert train("--data", index, "--out", tmp_path / "other", "--where", "method=real") == 2
    assert "holds no fake video (label 1)" in capsys.readouterr().err


def test_videos_that_cannot_be_read(index, tmp_path, capsys):
    arguments = ["--data", index, "--set", "epochs=1", 'failed=["train3"]']
    assert train(*arguments, "--out", tmp_path / "some", "--max-bad", "10%") == 1
    assert (tmp_path / "some" / FINAL).exists()
    assert "videos that could not be read: 1" in capsys.readouterr().err
    assert train(*arguments, "--out", tmp_path / "none") == 1
    assert "1 of 32 videos cannot be read, and 0.01 of them may" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "epoch=3"], "did you mean 'epochs'"),
        (["--set", "epochs"], "--set must be KEY=VALUE, got 'epochs'"),
        (["--set", "epochs=many"], "epochs must be a whole number, got 'many'"),
        (["--set", "model.sise=3"], "tiny has no option 'sise'"),
        (["--data", "nowhere.csv", "--out", "run"], "nowhere.csv is not there"),
        (["--out", "run"], "--data is missing"),
        (["--max-bad", "2", "--data", "a", "--out", "run"], "--max-bad must be a share"),
    ],
)
def test_usage(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train(*arguments) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
    assert not list(tmp_path.iterdir())


def test_crops_too_small_for_the_augmentation(index, tmp_path, capsys):
    given = ["--data", index, "--faces", "none", "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert main(["train", "frame", *given, "--set", "model.size=1", "model.encoder=resnet18"]) == 2
    assert (
        "model.size must be one that the augmentation of the recipe frame takes, got 1 x 1" in capsys.readouterr().err
    )


def test_unknown_recipe(capsys):
    assert main(["train", "stll", "--print"]) == 2
    assert "unknown recipe 'stll'; did you mean 'stil'" in capsys.readouterr().err


def test_a_published_recipe_trains_on_films(miniature, tmp_path):
    """From folders of frames to weights, through the crops that scoring would cut."""
    options = ["--set", "epochs=1", "batch_size=4", "model.size=32", "model.num_frames=2", "model.layers=[1,1,1]"]
    options += ["model.planes=[16,16,16]", "model.stem_channels=[8,8]", "model.reduction=2", "model.clamp_pool=true"]
    arguments = ["train", "stil", "--data", str(miniature), "--faces", "none", "--out", str(tmp_path / "run")]
    assert main([*arguments, "--device", "cpu", *options]) == 0
    assert load(tmp_path / "run" / FINAL).trained


def test_from_raw_films_to_a_report(tmp_path, monkeypatch, capfd):
    """Every command as it is typed, each on what the one before it left."""
    monkeypatch.chdir(tmp_path)
    write_benchmark("faces", pairs=(1, 1, 1), frames=9, size=32, workers=1)
    settings = "--set model.encoder=test_efficientnet model.size=48 clips_per_video=2 batch_size=4"

    def typed(line):
        assert main(line.split()) == 0, capfd.readouterr().err
        return capfd.readouterr()

    typed("index faces -o videos.csv")
    rows = "--where compression=c23"
    prepared = typed(f"prepare videos.csv --model frame --cache crops --faces none --workers 1 {rows} {settings}").out
    assert prepared.startswith("30 of 30 videos are prepared in crops")
    with monkeypatch.context() as patch:
        patch.setattr(FilmCrops, "__init__", lambda *arguments: pytest.fail("a film is decoded"))
        said = typed(f"train frame --data videos.csv --cache crops --out run --device cpu {rows} {settings} epochs=2")
    judge = f"dfmodels evaluate run --data videos.csv --out run-report --cache crops {rows}"
    assert said.out == f"weights in {Path('run/best.safetensors')}; {judge} judges them\n"
    with open("run/metrics.csv", newline="") as file:
        kinds = [row["kind"] for row in csv.DictReader(file)]
    assert kinds == ["step", "epoch"] * 2
    typed(f"evaluate run --data videos.csv --out report --faces none --device cpu {rows}")
    found = json.loads(Path("report/metrics.json").read_text())
    level = found["levels"]["video"]
    assert (level["all"]["n_real"], level["all"]["n_fake"], level["all"]["n_failed"]) == (2, 8, 0)
    assert len(level["method"]) == 4
    assert (level["seen"]["n_fake"], level["unseen"]) == (8, None)  # the run knows what it was trained on
    assert 0 <= level["all"]["auc"] <= 1
    assert Path("report/report.html").exists()
