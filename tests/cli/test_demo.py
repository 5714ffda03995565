"""`dfmodels demo` from end to end, on far fewer films than the real one."""

import json
import re
import shlex
from pathlib import Path

import pytest

import dfmodels
from dfmodels.cli import demo, main
from dfmodels.data import load_videos
from dfmodels.synthetic.benchmark import FORGERIES
from dfmodels.training import proving_ground
from dfmodels.training.proving_ground import REDUCED, reduced

NAMES = sorted(REDUCED)


@pytest.fixture
def tiny(monkeypatch):
    for name, value in {"PAIRS": (2, 1, 2), "ALL_PAIRS": (2, 1, 2), "FRAMES": 16}.items():
        monkeypatch.setattr(demo, name, value)
    small = {"epochs": 1, "clips_per_video": 1, "batch_size": 2}
    monkeypatch.setattr(demo, "SETTINGS", dict.fromkeys(NAMES, small))
    monkeypatch.setattr(
        proving_ground, "REDUCED", {name: recipe.with_settings(small) for name, recipe in REDUCED.items()}
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder in which all demos find their films."""
    return tmp_path_factory.mktemp("out folder")


@pytest.mark.parametrize("name", NAMES)
def test_demo(capsys, shared, tiny, name):
    assert main(["demo", "--out", str(shared), "--model", name]) == 0
    text = capsys.readouterr().out
    auc = re.search(r"held-out videos: AUC (\d\.\d{3}) \[(\d\.\d{3}), (\d\.\d{3})\] \(4 unseen people", text)
    assert float(auc[2]) <= float(auc[1]) <= float(auc[3])
    metrics = json.loads((shared / name / "report-c23" / "metrics.json").read_text())
    assert f"{metrics['levels']['video']['all']['auc']:.3f}" == auc[1]
    assert {row: found["n_fake"] for row, found in metrics["levels"]["video"]["method"].items()} == dict.fromkeys(
        FORGERIES, 4
    )
    for line in re.findall(r"^(?:weights|report|plot) +(.*)$", text, re.MULTILINE):
        assert Path(line).stat().st_size, line
    assert "trained on rendered proving ground by the recipe" in text
    # the printed command gives the same again
    line = next(line for line in text.splitlines() if line.startswith("again"))
    assert main([*shlex.split(line)[2:], "--format", "json"]) == 0
    for row in json.loads(capsys.readouterr().out):
        line = next(line for line in text.splitlines() if f"{Path(row['path']).name} " in line)
        assert f"{row['probability']:.3f}" in line


def test_films_and_weights_are_not_made_twice(capsys, shared, tiny):
    arguments = ["demo", "--out", str(shared), "--model", "frame"]
    assert main(arguments) == 0
    (first,) = re.findall("held-out .*", capsys.readouterr().out)
    made = {path: path.stat().st_mtime_ns for path in shared.rglob("*.mp4")}
    weights = shared / "frame" / "run" / "final.safetensors"
    made[weights] = weights.stat().st_mtime_ns
    assert main(arguments) == 0
    assert re.findall("held-out .*", capsys.readouterr().out) == [first]
    assert {path: path.stat().st_mtime_ns for path in made} == made


@pytest.mark.parametrize(
    ("arguments", "folds", "names"),
    [([], ("FramewiseSynthesis",), tuple(REDUCED)), (["--folds", "all"], FORGERIES, ("frame",))],
)
def test_all(capsys, monkeypatch, shared, tiny, arguments, folds, names):
    """Every detector without one method, and the table says what its reports say."""
    monkeypatch.setattr(proving_ground, "REDUCED", {name: proving_ground.REDUCED[name] for name in names})
    assert main(["demo", "--all", *arguments, "--out", str(shared), "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    text = (shared / "table.md").read_text()
    assert text.strip() in printed
    for left_out, part in zip(folds, text.split("\n\n"), strict=True):
        seen = [method for method in FORGERIES if method != left_out]
        head, _, *lines = [line.strip("| ").split(" | ") for line in part.strip().splitlines()]
        assert head == ["detector", *seen, "all three, c23", "all three, c40", f"left out: {left_out}"]
        assert [line[0] for line in lines] == list(names)
        for name, *cells in lines:
            folder = shared / f"without-{left_out}" / name
            levels = [
                json.loads((folder / f"report-{compression}" / "metrics.json").read_text())["levels"]["video"]
                for compression in ("c23", "c40")
            ]
            assert levels[0]["unseen"]["n_fake"] == levels[0]["method"][left_out]["n_fake"] == 4
            assert levels[0]["seen"]["n_fake"] == 12
            wanted = [
                *(levels[0]["method"][method] for method in seen),
                *(level["seen"] for level in levels),
                levels[0]["unseen"],
            ]
            assert cells == [
                "{:.2f} [{:.2f}, {:.2f}]".format(metrics["auc"], *metrics["ci"]["auc"]) for metrics in wanted
            ]
            environment = json.loads((folder / "run" / "environment.json").read_text())
            assert environment["methods"] == sorted(seen)
            assert environment["videos"] == {"train real": 4, "train fake": 12}


def test_trained_and_tested_people_differ(shared, tiny):
    videos = load_videos(next(shared.glob("ground-*")))
    people = {split: {name for v in videos if v.split == split for name in v.identities} for split in ("train", "test")}
    assert len(people["train"]) == len(people["test"]) == 4
    assert not people["train"] & people["test"]


@pytest.mark.parametrize("name", NAMES)
def test_reduced_recipes_build(name):
    recipe = reduced(name, 3)
    assert recipe.seed == 3
    model = dfmodels.build(recipe.detector, **recipe.model)
    assert sum(parameter.numel() for parameter in model.parameters()) < 1e6
    assert model.contract.size == (64, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "-1"], "--seed must be a number at least 0 and below 2^63, got -1"),
        (["--seed", str(2**63)], "--seed must be a number at least 0 and below 2^63"),
        (["--folds", "all"], "--folds belongs to --all"),
        (["--out", ""], "--out must be a path, got an empty one"),
        (["--device", "gpu"], "--device must be auto, cpu, cuda or cuda:N, got 'gpu'"),
    ],
)
def test_wrong_arguments(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.mp4"))


def test_an_output_folder_that_is_a_file(capsys, tmp_path):
    (tmp_path / "taken").write_text("")
    assert main(["demo", "--out", str(tmp_path / "taken")]) == 2
    assert "--out must be a folder to write to" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["score"], ["demo", "--all", "--model", "ddl"]])
def test_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: dfmodels" in capsys.readouterr().err
