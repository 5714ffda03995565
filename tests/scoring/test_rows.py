"""A file of scores that grows row by row: what it holds at every moment, and who may go on with it."""

import csv
import json
import logging
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dfmodels.scoring.formats import Csv, as_dict, written
from dfmodels.scoring.rows import Results
from tests.scoring.test_formats import FAILED, SCORE

RUN = {
    "detector": "ddl",
    "options": {"size": (64, 64), "mask_rule": "le"},
    "weights": {"file": "a.safetensors", "sha256": "a" * 64, "note": ""},
    "faces": "haar",
    "settings": {"clips": 8, "average": "probabilities", "select": "largest"},
    "version": "1",
}
SUFFIXES = pytest.mark.parametrize("suffix", [".csv", ".jsonl"])


def rows(path):
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in path.read_text().splitlines()]


def scores(*names):
    return [replace(SCORE, path=Path(name)) for name in names]


def write(path, *names, resume=False, run=RUN):
    with Results(path, run, resume=resume) as results:
        for score in scores(*names):
            results.add(score)
    return results


@SUFFIXES
def test_each_row_is_there_once_it_is_added(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    with Results(path, RUN) as results:
        for count, score in enumerate([SCORE, FAILED], 1):
            results.add(score)
            assert [row["path"] for row in rows(path)] == ["films/a.mp4", "b.mp4"][:count]
    if suffix == ".csv":
        assert path.read_text() == written(Csv(), [SCORE, FAILED])
    else:
        assert rows(path) == [as_dict(SCORE), as_dict(FAILED)]


@SUFFIXES
def test_resuming_knows_what_is_there(tmp_path, suffix, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"out{suffix}"
    names = ["a\nb.mp4", '"q",.mp4', "ü\udcff.mp4", "x" * 255, "./c/../d.mp4", "=1+1.mp4"]
    write(path, *names)
    path.read_text(encoding="utf-8")
    with Results(path, RUN, resume=True) as results:
        assert [results.verdict(Path(name)) for name in names] == ["fake"] * len(names)
        assert results.verdict(tmp_path / "d.mp4") == "fake"
        assert results.verdict(Path("other.mp4")) is None
        results.add(FAILED)
    assert len(rows(path)) == len(names) + 1
    with Results(path, RUN, resume=True) as results:
        assert results.verdict(FAILED.path) == "failed"


@SUFFIXES
def test_paths_lead_from_the_folder_of_the_first_run(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"out{suffix}"
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        with Results(path, RUN, resume=True) as results:
            assert results.verdict(Path("a.mp4")) is None
            results.add(*scores("a.mp4"))
    assert [row["path"] for row in rows(path)] == ["a.mp4", str(tmp_path / "two/a.mp4")]
    with Results(path, RUN, resume=True) as results:
        assert results.verdict(Path("../one/a.mp4")) == results.verdict(Path("a.mp4")) == "fake"


@SUFFIXES
def test_a_row_that_is_not_whole_is_removed(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    write(path, "1.mp4", "2\n.mp4")
    whole = path.read_bytes()
    first = whole.index(b"1.mp4")
    line, record = whole.index(b"\n"), whole.index(b"\n", first)
    for end in {*range(0, len(whole), 301), line, line + 1, record, record + 1, record + 4, len(whole) - 1}:
        path.write_bytes(whole[:end])
        with Results(path, RUN, resume=True) as results:
            kept = [name for name in ("1.mp4", "2\n.mp4") if results.verdict(Path(name))]
        assert kept == (["1.mp4"] if end > record else [])
        with Results(path, RUN, resume=True) as results:
            for score in scores("1.mp4", "2\n.mp4"):
                if results.verdict(score.path) is None:
                    results.add(score)
        assert path.read_bytes() == whole


@SUFFIXES
def test_nothing_is_overwritten(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    write(path, "a.mp4")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="holds rows already: --resume goes on with them, or give another file"):
        write(path, "b.mp4")
    assert path.read_bytes() == before


def test_an_empty_file_is_begun(tmp_path, caplog):
    caplog.set_level(logging.INFO, "dfmodels")
    path = tmp_path / "out.csv"
    path.touch()
    write(path, "a.mp4")
    write(tmp_path / "new.csv", "a.mp4", resume=True)
    assert f"{tmp_path / 'new.csv'} holds no rows yet: begun anew" in caplog.text
    assert len(rows(path)) == len(rows(tmp_path / "new.csv")) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"detector": "stil"}, "was made with detector ddl, this run has detector stil"),
        (
            {"weights": {"file": "b.safetensors", "sha256": "b" * 64, "note": ""}},
            r"with weights a.safetensors \(SHA-256 a{12}\), this run has weights b.safetensors \(SHA-256 b{12}\)",
        ),
        (
            {"options": {"size": [32, 32], "mask_rule": "le"}},
            r"option size = \[64, 64\], this run has option size = \[32",
        ),
        ({"options": {"size": [64, 64]}}, "with option mask_rule = le, this run has no option mask_rule"),
        ({"faces": "none"}, "was made with --faces haar, this run has --faces none"),
        ({"settings": {**RUN["settings"], "clips": "all"}}, "--clips 8, this run has --clips all"),
        ({"settings": {**RUN["settings"], "average": "logits"}}, "--average probabilities, .* --average logits"),
        ({"settings": {**RUN["settings"], "select": "all"}}, "--select largest, .* --select all"),
    ],
)
def test_another_run_is_refused(tmp_path, change, message):
    path = tmp_path / "out.csv"
    write(path, "a.mp4")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        write(path, "b.mp4", resume=True, run={**RUN, **change})
    assert path.read_bytes() == before
    # where the same weights lie does not matter
    write(path, "b.mp4", resume=True, run={**RUN, "weights": {**RUN["weights"], "file": "moved.safetensors"}})
    assert len(rows(path)) == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("out.csv", "path,label\na.mp4,1", "does not hold rows as this version writes them"),
        ("out.csv", written(Csv(), scores("a.mp4")) + "one,two\n", "does not hold rows .*from byte [1-9]"),
        ("out.csv", written(Csv(), scores("a.mp4")) + '"' + "x\n" * 200_000, "does not hold rows"),
        ("out.jsonl", '{"path": "a.mp4"}\n', "does not hold rows"),
        ("out.jsonl", "path,label\n", "does not hold rows"),
        ("out.jsonl", "[]\n{", "does not hold rows"),
    ],
)
def test_a_file_of_something_else_is_left_alone(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"{name}.run.json is not there, .* cannot be resumed; give another file"):
        write(path, "b.mp4", resume=True)
    beside = Path(f"{path}.run.json")
    for wrong in ("", "[]", "{}", '{"detector": 3}'):
        beside.write_text(wrong)
        with pytest.raises(ValueError, match="does not say what made the rows"):
            write(path, "b.mp4", resume=True)
    write(tmp_path / f"other{path.suffix}", "c.mp4")
    os.replace(tmp_path / f"other{path.suffix}.run.json", beside)
    with pytest.raises(ValueError, match=message):
        write(path, "b.mp4", resume=True)
    assert path.read_text() == text


def test_the_file_beside_says_what_made_the_rows(tmp_path):
    with Results(tmp_path / "out.csv", {**RUN, "command": "dfmodels score \udcff"}):
        pass
    beside = json.loads((tmp_path / "out.csv.run.json").read_text())
    expected = json.loads(json.dumps(RUN))
    assert beside == {**expected, "command": "dfmodels score \udcff", "folder": os.getcwd()}


@pytest.mark.parametrize("name", ["out.txt", "out", "out.json", ".csv"])
def test_wrong_suffix(tmp_path, name):
    with pytest.raises(ValueError, match=r"must end in \.csv or \.jsonl, got '.*"):
        Results(tmp_path / name, RUN)


def test_one_process_writes(tmp_path):
    path = tmp_path / "out.csv"
    other = (
        "import sys; from dfmodels.scoring.rows import Results; from tests.scoring.test_rows import RUN\n"
        "with Results(sys.argv[1], RUN, resume=True): print('in')"
    )
    command = [sys.executable, "-c", other, str(path)]
    with Results(path, RUN) as results:
        child = os.fork()
        if not child:  # a worker that outlives a killed run does not keep the file locked
            os.execvp("sleep", ["sleep", "60"])
        refused = subprocess.run(command, capture_output=True, text=True)
        assert f"{path} is being written by another process" in refused.stderr
        results.add(SCORE)
    write(path, "b.mp4", resume=True)
    os.kill(child, 9)
    os.waitpid(child, 0)


@contextmanager
def disk(size):
    """No file grows beyond so many bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@SUFFIXES
def test_a_full_disk_leaves_whole_rows(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    names = [f"{i}.mp4" for i in range(10)]
    with disk(1500), pytest.raises(OSError, match=r"out\..* cannot be written: .*; its rows are whole, --resume goes"):
        write(path, *names)
    held = rows(path)
    assert 1 <= len(held) < 10
    assert path.read_bytes().endswith(b"\n")
    write(path, *names[len(held) :], resume=True)
    assert [row["path"] for row in rows(path)] == names


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(OSError, match=r"nowhere/out.csv cannot be written: No such file or directory"):
        write(tmp_path / "nowhere/out.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OSError, match=r"folder.csv cannot be written: Is a directory"):
        write(tmp_path / "folder.csv")
    (tmp_path / "full.csv").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"full.csv cannot be written: No space left on device"):
        write(tmp_path / "full.csv", "a.mp4")
