"""`dfmodels compare`: one table, one picture, and what does not compare."""

import csv

import pytest

from dfmodels.cli import main
from tests.cli.test_evaluate import TABLE, files


def evaluated(folder, name, text=TABLE, *arguments):
    (folder / f"{name}.csv").write_text(text)
    status = main(["evaluate", "--scores", f"{name}.csv", "--out", name, "--resamples", "20", *arguments])
    assert status in (0, 1)


@pytest.fixture
def reports(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    evaluated(tmp_path, "a")
    evaluated(tmp_path, "b", TABLE.replace("0.2,FaceSwap", "0.7,FaceSwap"))
    capsys.readouterr()
    return tmp_path


def compare(capsys, *arguments):
    status = main(["compare", *map(str, arguments)])
    return status, *capsys.readouterr()


def test_a_comparison(capsys, reports):
    status, out, err = compare(capsys, "a", "b", "--out", "both")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["report", "real", "fake", "failed", "AUC", "AP", "EER", "accuracy"]
    assert lines[1].startswith("videos: all")
    assert lines[1].split()[2:6] == ["a", "2", "3", "0"]
    assert lines[2].split()[:4] == ["b", "2", "3", "0"]
    assert lines[-1] == "wrote both"
    with (reports / "both" / "comparison.csv").open() as file:
        rows = {(row["report"], row["level"], row["group"]): row for row in csv.DictReader(file)}
    assert len(rows) == 2 * 2 * 3
    assert float(rows["a", "video", "all"]["auc"]) == pytest.approx(4.5 / 6)
    assert float(rows["b", "video", "method FaceSwap"]["auc"]) == 1
    assert float(rows["a", "frame", "all"]["auc_low"]) <= float(rows["a", "frame", "all"]["auc_high"])
    assert (reports / "both" / "roc.png").read_bytes().startswith(b"\x89PNG")
    before = files(reports / "both")
    assert compare(capsys, "b", "a", "-o", "both")[0] == 0
    assert files(reports / "both") != before


def test_without_a_folder_it_takes_one(capsys, reports):
    assert compare(capsys, "a", "b")[1].endswith("wrote comparison\n")
    assert {path.name for path in (reports / "comparison").iterdir()} == {"comparison.csv", "roc.png"}


def test_reports_of_different_videos(capsys, reports):
    evaluated(reports, "c", TABLE.replace("c/2", "d/2"), "--threshold", "0.7")
    evaluated(reports, "d", TABLE.replace("c/1/0.png,1,0.2", "c/1/0.png,1,"))
    capsys.readouterr()
    status, _, err = compare(capsys, "a", "b", "c", "d")
    assert status == 0
    assert err.splitlines() == [
        "warning: a and c have scores of different videos, 1 video in a alone (c/2) and 1 video in c alone (d/2), "
        "4 in both: their numbers do not compare",
        "warning: a and c were judged at the thresholds 0.5 and 0.7: evaluate with the same --threshold to compare "
        "accuracies",
        "warning: a and d have scores of different videos, 1 video in a alone (c/1), 4 in both: their numbers do not "
        "compare",
    ]


def test_other_labels_are_said(capsys, reports):
    evaluated(reports, "c", TABLE.replace("c/1/0.png,1,0.2,FaceSwap", "c/1/0.png,0,0.2,real"))
    capsys.readouterr()
    assert "a and c give different labels to 1 video (c/1)" in compare(capsys, "a", "c")[2]


def test_one_class_has_no_curve(capsys, reports):
    evaluated(reports, "c", "path,label,score\na,1,0.5\nb,1,0.5\n")
    capsys.readouterr()
    assert compare(capsys, "a", "c")[0] == 0


def refused(capsys, folder, message, *arguments):
    before = files(folder)
    status, out, err = compare(capsys, *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert files(folder) == before


def test_what_is_refused(capsys, reports):
    (reports / "empty").mkdir()
    (reports / "half").mkdir()
    (reports / "half" / "metrics.json").write_bytes((reports / "a" / "metrics.json").read_bytes())
    (reports / "odd").mkdir()
    (reports / "odd" / "metrics.json").write_text('{"levels": {"video": {"all": {"n_real": 1}}}, "about": {}}')
    (reports / "mine").mkdir()
    (reports / "mine" / "comparison.csv").write_text("mine")
    (reports / "picture").mkdir()
    (reports / "picture" / "roc.png").write_text("mine")
    for message, *arguments in (
        ("compare needs two reports or more, got a alone", "a"),
        ("nowhere is no report: there is no metrics.json in it; `dfmodels evaluate --out nowhere`", "a", "nowhere"),
        ("empty is no report", "a", "empty"),
        ("half holds metrics.json but no scores.csv: evaluate again into it", "a", "half"),
        ("metrics.json is not as this version writes it: evaluate odd/scores.csv again", "a", "odd"),
        ("is given twice; name every report once", "a", "b", "./a/"),
        ("REPORT must be a path, got an empty one", "a", ""),
        ("comparison.csv is there and is no comparison of reports: give another --out", "a", "b", "--out", "mine"),
        ("roc.png is there, but no comparison.csv beside it", "a", "b", "--out", "picture"),
        ("--out must be a folder, but a.csv is a file", "a", "b", "--out", "a.csv"),
    ):
        refused(capsys, reports, message, *arguments)
