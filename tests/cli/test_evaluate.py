"""`dfmodels evaluate` as a person meets it: the folder that it writes, and every wrong input."""

import json

import pytest

from dfmodels.cli import main
from dfmodels.evaluation.judge import judge
from dfmodels.evaluation.table import read_scores

TABLE = """path,label,score,method,video
a/1/0.png,0,0.1,real,a/1
a/1/1.png,0,0.3,real,a/1
a/2/0.png,0,0.6,real,a/2
b/1/0.png,1,0.9,Deepfakes,b/1
b/1/1.png,1,0.7,Deepfakes,b/1
c/1/0.png,1,0.2,FaceSwap,c/1
c/2/0.png,1,0.8,FaceSwap,c/2
"""


def evaluate(capsys, folder, *arguments):
    status = main(["evaluate", "--scores", str(folder / "scores.csv"), *map(str, arguments)])
    return status, *capsys.readouterr()


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def table(tmp_path):
    (tmp_path / "scores.csv").write_text(TABLE)
    return tmp_path


def test_a_report(capsys, table):
    status, out, err = evaluate(capsys, table, "--out", table / "deep" / "report", "--seed", 1, "--resamples", 50)
    assert (status, err) == (0, "")
    report = table / "deep" / "report"
    assert {path.name for path in report.iterdir()} == {"metrics.json", "report.html", "scores.csv"}
    metrics = json.loads((report / "metrics.json").read_text())
    expected = judge(read_scores(table / "scores.csv"), resamples=50, seed=1)
    assert {key: metrics[key] for key in ("levels", "as_deepfakebench", "failed")} == {
        key: json.loads(json.dumps(expected[key])) for key in ("levels", "as_deepfakebench", "failed")
    }
    assert metrics["about"]["scores"]["file"] == str(table / "scores.csv")
    assert (metrics["about"]["seed"], metrics["about"]["weights"]) == (1, None)
    assert metrics["about"]["command"].startswith("dfmodels evaluate --scores")
    assert (report / "scores.csv").read_text().splitlines()[:2] == [
        "path,label,score,video,method",
        "a/1/0.png,0,0.1,a/1,real",
    ]
    lines = out.splitlines()
    assert lines[0].split() == ["real", "fake", "failed", "AUC", "AP", "EER", "accuracy"]
    assert any(line.startswith("videos: method Deepfakes") for line in lines)
    assert lines[-1] == f"wrote {report}"


def test_its_own_report_is_written_over(capsys, table):
    report = table / "report"
    assert evaluate(capsys, table, "--out", report, "--resamples", 5)[0] == 0
    first = files(report)
    (report / "notes.txt").write_text("mine")
    assert evaluate(capsys, table, "-o", report, "--resamples", 5, "--threshold", 0.7)[0] == 0
    assert json.loads((report / "metrics.json").read_text())["levels"]["video"]["all"]["threshold"] == 0.7
    # its own scores are a table too, and are the same behind it
    assert main(["evaluate", "--scores", str(report / "scores.csv"), "--out", str(report), "--resamples", "5"]) == 0
    again = files(report)
    assert again[report / "scores.csv"] == first[report / "scores.csv"]
    levels = [json.loads(one[report / "metrics.json"])["levels"] for one in (first, again)]
    assert levels[0] == levels[1]
    assert (report / "notes.txt").read_text() == "mine"


def test_rows_without_a_score_are_reported(capsys, table):
    with (table / "scores.csv").open("a") as file:
        file.write("d/1/0.png,1,,FaceSwap,d/1\n")
    status, _, err = evaluate(capsys, table, "--out", table / "report", "--resamples", 5)
    assert status == 1
    assert "1 of 8 rows have no score (the first is d/1/0.png: no score in its row); metrics.json" in err
    metrics = json.loads((table / "report" / "metrics.json").read_text())
    assert metrics["failed"] == [{"path": "d/1/0.png", "reason": "no score in its row"}]
    for level in ("frame", "video"):
        assert metrics["levels"][level]["all"]["n_failed"] == 1
        assert metrics["levels"][level]["method"]["FaceSwap"]["n_failed"] == 1
        assert metrics["levels"][level]["method"]["Deepfakes"]["n_failed"] == 0


def test_one_class_is_said_and_is_no_error(capsys, tmp_path):
    (tmp_path / "scores.csv").write_text("path,label,score\na,1,0.5\nb,1,0.4\n")
    status, out, _ = evaluate(capsys, tmp_path, "--out", tmp_path / "report")
    assert status == 0
    assert "no AUC of videos: all: one class only: all 2 labels are 1 (fake)" in out
    found = json.loads((tmp_path / "report" / "metrics.json").read_text())["levels"]["video"]["all"]
    assert (found["auc"], found["accuracy"], found["n_real"], found["ci"]) == (None, 0.5, 0, {})


def refused(capsys, folder, message, *arguments):
    """The command fails with `message` and leaves the folder as it was."""
    before = files(folder)
    status, out, err = evaluate(capsys, folder, *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert files(folder) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "scores.csv is empty"),
        ("path,label,prob\na,1,0.5\n", "scores.csv line 1: no column score"),
        ("path,label,score\na,1,0.5\nb,real,0.5\n", "scores.csv line 3: label 'real'; write 0 for real and 1 for fake"),
        ("path,label,score\na,1,x\n", "scores.csv line 2: score 'x' is no number"),
        ("path,label,score\na,1,nan\n", "scores.csv line 2: score 'nan' is not finite"),
        ("path,label,score\na,1,0.5\na,1,0.5\n", "scores.csv line 3: a is there already"),
        ("path,label,score,video\na,1,0.5,v\nb,0,0.5,v\n", "scores.csv line 3: video 'v' has label 0 here"),
    ],
)
def test_tables_that_are_refused(capsys, tmp_path, text, message):
    (tmp_path / "scores.csv").write_text(text)
    refused(capsys, tmp_path, message, "--out", tmp_path / "report")


def test_folders_that_are_not_written_to(capsys, table):
    refused(
        capsys, table, f"{table / 'scores.csv'} is there, but no metrics.json of a report beside it", "--out", table
    )
    refused(capsys, table, "--out must be a folder, but", "--out", table / "scores.csv")
    other = table / "other"
    other.mkdir()
    for text in ("{", "[]", '{"levels": 1}', '{"auc": 0.5}'):
        (other / "metrics.json").write_text(text)
        refused(capsys, table, f"{other / 'metrics.json'}", "--out", other)
    (other / "metrics.json").unlink()
    (other / "report.html").write_text("mine")
    refused(capsys, table, "report.html is there, but no metrics.json", "--out", other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threshold", "nan"], "threshold must be a finite number, got nan"),
        (["--resamples", "-1"], "--resamples must be a whole number of at least 0, got -1"),
        (["--seed", "-1"], "--seed must be a whole number of at least 0, got -1"),
    ],
)
def test_wrong_options(capsys, table, arguments, message):
    refused(capsys, table, message, "--out", table / "report", *arguments)


def test_a_file_that_is_not_there(capsys, tmp_path):
    refused(capsys, tmp_path, "scores.csv cannot be read: No such file", "--out", tmp_path / "report")
    refused(capsys, tmp_path, "--out must be a path, got an empty one", "--out", "")
