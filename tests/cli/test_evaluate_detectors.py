"""`dfmodels evaluate` as a person meets it: a detector, a file of Python or a table, good and bad."""

import csv
import json
import os
import shutil

import pytest

import dfmodels
from dfmodels.cli import main
from dfmodels.registry import load
from tests.models.test_detectors import small
from tests.video.videos import noise, write_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run folder with small weights, and an index of films in the splits val and test; one of them is broken."""
    folder = tmp_path_factory.mktemp("evaluate")
    model = small("ddl")
    model.trained = True
    (folder / "run").mkdir()
    dfmodels.save(model, folder / "run" / "final.safetensors")
    (folder / "run" / "environment.json").write_text('{"methods": ["Deepfakes"]}')
    rows = ["path,label,split,dataset,method,compression"]
    for split in ("val", "test"):
        for i, method in enumerate(["real", "real", "Deepfakes", "FaceSwap"]):
            name = f"{split}{i}.mp4"
            write_video(folder / name, 9 + i, lambda t, i=i: noise(t + 50 * i))
            rows.append(f"{name},{int(method != 'real')},{split},Set,{method},c23")
    (folder / "index.csv").write_text("\n".join(rows) + "\n")
    (folder / "broken.mp4").write_text("no film")
    (folder / "with_broken.csv").write_text("\n".join([*rows, "broken.mp4,1,test,Set,FaceSwap,c23"]) + "\n")
    return folder


@pytest.fixture
def evaluate(folder, tmp_path, capsys):
    def run(*arguments, out=tmp_path / "report"):
        status = main(["evaluate", *map(str, arguments), "--out", str(out), "--resamples", "20"])
        output, error = capsys.readouterr()
        assert "Traceback" not in output + error
        metrics = json.loads((out / "metrics.json").read_text()) if (out / "metrics.json").exists() else None
        return status, metrics, output + error

    return run


def test_a_run_is_judged_on_the_test_split(folder, tmp_path, evaluate):
    status, metrics, _ = evaluate(folder / "run", "--data", folder / "index.csv", "--faces", "none")
    assert status == 0
    assert sorted(os.listdir(tmp_path / "report")) == [
        "metrics.json",
        "report.html",
        "scores.csv",
        "videos.jsonl",
        "videos.jsonl.run.json",
    ]
    levels = metrics["levels"]
    assert list(levels) == ["clip", "video"]
    assert (levels["video"]["all"]["n_real"], levels["video"]["all"]["n_fake"]) == (2, 2)
    assert (levels["video"]["seen"]["n_fake"], levels["video"]["unseen"]["n_fake"]) == (1, 1)
    assert set(levels["video"]["method"]) == {"Deepfakes", "FaceSwap"}
    assert metrics["about"]["detector"] == "ddl"
    assert metrics["about"]["weights"]["sha256"] == load(folder / "run" / "final.safetensors").origin.sha256
    assert len(metrics["about"]["index_hash"]) == 64
    with (tmp_path / "report" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["video"] for row in rows} == {str(folder / f"test{i}.mp4") for i in range(4)}
    assert "Evaluation of ddl" in (tmp_path / "report" / "report.html").read_text()
    # the table that was written says the same of any detector
    _, again, _ = evaluate("--scores", tmp_path / "report" / "scores.csv", out=tmp_path / "again")
    assert list(again["levels"]) == list(levels)
    assert again["levels"]["video"]["all"]["auc"] == levels["video"]["all"]["auc"]


def test_a_saved_detector_is_judged_by_its_folder(folder, tmp_path, evaluate):
    pytest.importorskip("huggingface_hub")
    load(folder / "run" / "final.safetensors").save_pretrained(tmp_path / "saved")
    status, metrics, _ = evaluate(tmp_path / "saved", "--data", folder / "index.csv", "--faces", "none")
    assert status == 0
    assert metrics["about"]["weights"]["file"] == str(tmp_path / "saved" / "model.safetensors")
    (tmp_path / "saved" / "model.safetensors").unlink()
    status, _, output = evaluate(tmp_path / "saved", "--data", folder / "index.csv", "--faces", "none")
    assert status == 2
    assert "none of best.safetensors, final.safetensors, model.safetensors is in it" in output


@pytest.mark.parametrize("what", ["run", "run/final.safetensors"])
def test_score_takes_the_folder_too(folder, what, capsys):
    arguments = ["--weights", str(folder / what), "--faces", "none", "--format", "json"]
    assert main(["score", str(folder / "test0.mp4"), *arguments]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["weights"]["file"] == str(folder / "run" / "final.safetensors")


def test_faces_other_than_those_of_the_training(folder, tmp_path, evaluate):
    run = tmp_path / "run"
    shutil.copytree(folder / "run", run)
    (run / "environment.json").write_text('{"methods": ["Deepfakes"], "faces": "none"}')
    _, _, output = evaluate(run, "--data", folder / "index.csv", "--faces", "haar")
    assert f"{run} was trained with faces 'none' and judges those of 'haar'" in output
    _, _, output = evaluate(run, "--data", folder / "index.csv", "--faces", "none")
    assert "was trained with" not in output


def test_rows_that_are_taken(folder, evaluate):
    command = [folder / "run", "--data", folder / "index.csv", "--faces", "none"]
    _, metrics, _ = evaluate(*command, "--where", "method=real,FaceSwap")
    assert set(metrics["levels"]["video"]["method"]) == {"FaceSwap"}
    _, metrics, _ = evaluate(*command, "--split", "val", "--limit", "1")
    assert metrics["levels"]["video"]["all"]["n_real"] == metrics["levels"]["video"]["all"]["n_fake"] == 1
    assert metrics["about"]["data"]["split"] == "val"


def test_a_video_that_fails_is_counted_and_named(folder, evaluate):
    status, metrics, output = evaluate(folder / "run", "--data", folder / "with_broken.csv", "--faces", "none")
    assert status == 1
    assert metrics["levels"]["video"]["all"]["n_failed"] == 1
    (failed,) = metrics["failed"]
    assert failed["path"].endswith("broken.mp4")
    assert "no score" in output


def test_a_calibration_is_fitted_kept_and_used(folder, tmp_path, evaluate, capsys):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes((folder / "run" / "final.safetensors").read_bytes())
    command = [weights, "--data", folder / "index.csv", "--faces", "none"]
    _, plain, _ = evaluate(*command)
    assert "calibration" not in plain
    status, metrics, _ = evaluate(*command, "--calibrate")
    assert status == 0
    how = load(weights).origin.calibration
    assert how.fitted_on == "2 real and 2 fake videos of Set, split val"
    part = metrics["calibration"]
    assert (part["temperature"], part["bias"]) == (how.temperature, how.bias)
    for level in ("clip", "video"):
        for name in ("ece", "brier"):
            assert part["levels"][level]["before"][name] == plain["levels"][level]["all"][name]
            assert part["levels"][level]["after"][name] == metrics["levels"][level]["all"][name]
    assert metrics["levels"]["clip"]["all"]["auc"] == plain["levels"]["clip"]["all"]["auc"]
    video = folder / "test0.mp4"
    assert main(["score", str(video), "--weights", str(weights), "--faces", "none", "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    with (tmp_path / "report" / "scores.csv").open(newline="") as file:
        own = [float(r["score"]) for r in csv.DictReader(file) if r["video"] == str(video)]
    assert [clip["probability"] for clip in row["clips"]] == pytest.approx(own, rel=1e-6)
    # one that lies there is gone by, and shown
    _, again, _ = evaluate(*command, out=tmp_path / "again")
    assert again["calibration"] == part


def test_a_file_of_python(folder, tmp_path, evaluate):
    model = tmp_path / "mine.py"
    model.write_text("def predict(path):\n    if '1.mp4' in path: raise RuntimeError('no')\n    return 7.0\n")
    status, metrics, _ = evaluate("--model", model, "--data", folder / "index.csv")
    assert status == 1
    assert list(metrics["levels"]) == ["video"]
    assert metrics["about"]["detector"] == "mine.py"
    assert "RuntimeError: no" in metrics["failed"][0]["reason"]


ODD = "class Odd(BaseException): pass\n"


def test_what_a_file_of_python_raises(folder, tmp_path, evaluate):
    """Whatever it is it costs one row, or is an error of usage where it comes with the import; but for an interrupt."""
    model, data = tmp_path / "mine.py", ["--data", folder / "index.csv"]
    model.write_text(f"{ODD}def predict(path):\n    if '1.mp4' in path: raise Odd('no')\n    return 7.0\n")
    status, metrics, _ = evaluate("--model", model, *data)
    assert status == 1
    (failed,) = metrics["failed"]
    assert "Odd: no" in failed["reason"]
    model.write_text(f"{ODD}raise Odd('at once')\n")
    status, _, output = evaluate("--model", model, *data)
    assert status == 2
    assert "mine.py cannot be used: Odd: at once" in output
    for text in ("def predict(path): raise KeyboardInterrupt", "raise KeyboardInterrupt"):
        model.write_text(text)
        assert evaluate("--model", model, *data)[0] == 130


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{f}/run", "--data", "{f}/index.csv", "--cache", "{f}/run"], "holds no prepared crops"),
        (["--model", "a.py", "--data", "{f}/index.csv", "--cache", "{f}"], "leave them out with --model FILE.py"),
        ([], "nothing to evaluate: give a run folder"),
        (["{f}/run"], "give a run folder or a weights file with --data"),
        (["{f}/run", "--data", "{f}/none.csv"], "none.csv"),
        (["{f}/nowhere", "--data", "{f}/index.csv"], "nowhere does not exist"),
        (["{f}", "--data", "{f}/index.csv"], "is no folder with weights"),
        (["{f}/run", "--data", "{f}/index.csv", "--split", "train"], "holds no video of the split train"),
        (["{f}/run", "--data", "{f}/index.csv", "--threshold", "nan"], "threshold"),
        (["{f}/run", "--data", "{f}/index.csv", "--where", "metod=x"], "metod"),
        (["{f}/run", "--data", "{f}/index.csv", "--where", "method=real", "--calibrate"], "0 fake"),
        (["--scores", "{f}/index.csv", "--data", "{f}/index.csv"], "--scores stands alone"),
        (["--scores", "{f}/index.csv", "--where", "method=real"], "leave out --where"),
        (["--scores", "{f}/index.csv", "--limit", "1"], "leave out --limit"),
        (["--scores", "{f}/index.csv", "--split", "val"], "leave out --split"),
        (["--scores", "{f}/index.csv"], "leave out --faces"),
        (["--model", "{f}/none.py", "--data", "{f}/index.csv"], "no such file"),
        (["--model", "{f}/none.py", "--data", "{f}/index.csv", "--calibrate"], "--calibrate"),
    ],
)
def test_usage_errors_name_what_is_wrong(folder, evaluate, arguments, says):
    status, metrics, output = evaluate(*(argument.format(f=folder) for argument in arguments), "--faces", "none")
    assert (status, metrics) == (2, None)
    assert says in output


def test_somebody_elses_folder_is_left_alone(folder, tmp_path, evaluate):
    out = tmp_path / "report"
    out.mkdir()
    (out / "report.html").write_text("mine")
    status, _, output = evaluate(folder / "run", "--data", folder / "index.csv", "--faces", "none")
    assert status == 2
    assert "report.html" in output
    assert [file.name for file in out.iterdir()] == ["report.html"]
    assert (out / "report.html").read_text() == "mine"
