"""Scores as text: what every form says, for people and for programs."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from dfmodels.detector import Origin
from dfmodels.scoring.formats import COLUMNS, Csv, Json, JsonLines, Table, as_dict, written
from dfmodels.scoring.result import ClipScore, PersonScore, VideoScore
from dfmodels.video import LeftOut

SCORE = VideoScore(
    Path("films/a.mp4"),
    0.75,
    (ClipScore(0.0, 0.28, 0.7, 1), ClipScore(1.0, 1.28, 0.8, 1)),
    2.5,
    detector="ddl",
    weights=Origin("runs/ddl.safetensors", "0123456789abcdef" * 4, "for trying the tool"),
    version="1.2.3",
    faces="centerface",
    people=(PersonScore(1, 0.75, 0.9, 0.0, 1.28, 2), PersonScore(2, None, 0.5, 0.04, 0.6, 0)),
    frames_read=20,
    frames_with_face=18,
    frames_damaged=1,
    left_out=(LeftOut(2.0, 2.28, "gap", 1, ()), LeftOut(3.0, 3.28, "gap", 1, ()), LeftOut(4.0, 4.28, "damaged", 1, ())),
    warnings=("2 people were seen, person 1 was judged",),
)
FAILED = replace(
    SCORE, path=Path("b.mp4"), probability=None, clips=(), people=(), frames_read=0, warnings=(), error="b.mp4: empty"
)


def test_json_has_these_keys_and_no_others():
    row = as_dict(SCORE)
    keys = (
        "path probability verdict detector weights version faces people frames_read frames_with_face frames_damaged "
        "clips left_out warnings error seconds"
    )
    assert " ".join(row) == keys
    assert row["weights"] == {
        "file": "runs/ddl.safetensors",
        "sha256": "0123456789abcdef" * 4,
        "note": "for trying the tool",
        "calibration": None,
    }
    assert row["people"][1] == {"track": 2, "probability": None, "share": 0.5, "first": 0.04, "last": 0.6, "clips": 0}
    assert row["clips"][1] == {"start": 1.0, "end": 1.28, "probability": 0.8, "track": 1}
    assert row["left_out"] == {"no_face": 0, "still": 0, "damaged": 1, "short": 0, "gap": 2}
    failed = as_dict(FAILED)
    assert (failed["probability"], failed["verdict"], failed["error"]) == (None, "failed", "b.mp4: empty")


def test_json_is_a_list_and_lines_are_objects():
    for scores in ([], [SCORE], [SCORE, FAILED]):
        assert json.loads(written(Json(), scores)) == [as_dict(score) for score in scores]
        assert [json.loads(line) for line in written(JsonLines(), scores).splitlines()] == list(map(as_dict, scores))


def test_csv_has_the_scalars():
    good, failed = csv.DictReader(io.StringIO(written(Csv(), [SCORE, FAILED]), newline=""))
    assert tuple(good) == COLUMNS
    expected = {
        "path": "films/a.mp4",
        "probability": "0.75",
        "verdict": "fake",
        "weights_sha256": "0123456789abcdef" * 4,
        "weights_note": "for trying the tool",
        "faces": "centerface",
        "people": "2",
        "clips": "2",
        "left_out_gap": "2",
        "left_out_no_face": "0",
        "warnings": "2 people were seen, person 1 was judged",
        "error": "",
    }
    assert {column: good[column] for column in expected} == expected
    assert (failed["probability"], failed["error"]) == ("", "b.mp4: empty")


@pytest.mark.parametrize(
    "name", ['=cmd|"/c calc"!A0.mp4', "a\nb.mp4", "a\rb.mp4", "a,b.mp4", " a .mp4", "'.mp4", "é\u2028.mp4"]
)
def test_names_are_data(name):
    score = replace(SCORE, path=Path(name))
    (row,) = csv.DictReader(io.StringIO(written(Csv(), [score]), newline=""))
    assert row["path"] == name
    assert json.loads(written(JsonLines(), [score]))["path"] == json.loads(written(Json(), [score]))[0]["path"] == name
    lines = written(Table([score.path]), [score]).splitlines()
    assert len(lines) == 6  # header, video, what was not judged, warning, by what, about the weights


def test_json_is_ascii():
    """A terminal of another encoding would put escapes into it that JSON does not know."""
    score = replace(SCORE, path=Path("ü\udcff\U0001f600.mp4"))
    for form in (Json(), JsonLines()):
        assert written(form, [score]).isascii()
    assert json.loads(written(JsonLines(), [score]))["path"] == "ü\udcff\U0001f600.mp4"


def test_a_table_says_what_was_judged_and_by_what():
    header, good, failed, *remarks = written(Table([SCORE.path, FAILED.path]), [SCORE, FAILED]).splitlines()
    assert " ".join(header.split()) == "video verdict fake probability people with face clips highest clip took"
    assert " ".join(good.split()) == "films/a.mp4 fake 0.750 2 90 % 2 of 5 0.800 at 1.00 s 2.5 s"
    assert " ".join(failed.split()) == "b.mp4 failed - - - 0 of 3 - 2.5 s"
    assert max(map(len, (header, good, failed))) <= 100
    assert remarks == [
        "warning: films/a.mp4: 2 people were seen, person 1 was judged",
        "not judged: films/a.mp4: 1 clip (frames are damaged), 2 clips (the person was not seen, or lost for too long)",
        "failed: b.mp4: empty",
        "2 videos: 1 fake, 0 real, 1 failed",
        "by ddl, weights runs/ddl.safetensors (SHA-256 0123456789ab); dfmodels 1.2.3, faces: centerface",
        "about the weights: for trying the tool",
    ]


def test_a_table_counts_no_faces_where_none_were_looked_for():
    crops = replace(SCORE, faces="none", people=SCORE.people[:1], warnings=(), left_out=())
    row = written(Table([crops.path]), [crops]).splitlines()[1]
    assert " ".join(row.split()) == "films/a.mp4 fake 0.750 - - 2 of 2 0.800 at 1.00 s 2.5 s"


def test_remarks_of_one_kind_are_said_once():
    scores = [
        replace(SCORE, path=Path(f"{i}.mp4"), warnings=(f"{i} people were seen", "the same"), people=(), left_out=())
        for i in range(2, 40)
    ]
    scores += [replace(FAILED, path=Path(f"x{i}.mp4"), error=f"x{i}.mp4: empty") for i in range(3)]
    remarks = written(Table([score.path for score in scores]), scores).splitlines()[len(scores) + 1 :]
    assert remarks[:2] == [
        "warning: 2.mp4: 2 people were seen (and 37 more videos)",
        "warning: 2.mp4: the same (and 37 more videos)",
    ]
    assert remarks[2:5] == [f"failed: x{i}.mp4: empty" for i in range(3)]


def test_a_long_name_moves_its_own_row_alone():
    names = ["a.mp4", "b" * 200 + ".mp4"]
    header, short, long, *_ = written(Table(names), [replace(SCORE, path=Path(name)) for name in names]).splitlines()
    assert len(header) == len(short) < 160
    assert long.startswith(names[1] + "  fake ")
