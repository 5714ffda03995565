"""Tables of scores: what is read, what is refused and how that is said, and how frames become videos."""

import math

import numpy as np
import pytest

from dfmodels.evaluation.table import Scores, read_scores, write_scores


def write(folder, text, name="scores.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def values(column):
    return [column.value(row) for row in range(len(column.codes))]


def test_a_table_of_videos(tmp_path):
    path = write(
        tmp_path,
        "\ufeffscore,method,path,label,reason\n0.25,real,a.mp4,0,\n\n,DF,b.mp4,1,no face\n"
        '1e-3,,"c, d.mp4",1,\n,DF,e.mp4,1,\n',
    )
    scores = read_scores(path)
    assert scores.level == "video"
    assert scores.paths == ["a.mp4", "b.mp4", "c, d.mp4", "e.mp4"]
    assert scores.fake.tolist() == [False, True, True, True]
    assert scores.score.tolist() == pytest.approx([0.25, math.nan, 1e-3, math.nan], nan_ok=True)
    assert values(scores.columns["method"]) == ["real", "DF", "", "DF"]
    assert scores.failed() == [
        {"path": "b.mp4", "reason": "no face"},
        {"path": "e.mp4", "reason": "no score in its row"},
    ]
    assert scores.by_video() is scores
    write_scores(tmp_path / "again.csv", scores)
    again = read_scores(tmp_path / "again.csv")
    assert again.score.tolist() == pytest.approx(scores.score.tolist(), nan_ok=True, abs=0)
    assert (again.paths, again.failed(), again.fake.tolist()) == (scores.paths, scores.failed(), scores.fake.tolist())
    assert values(again.columns["method"]) == values(scores.columns["method"])
    write_scores(tmp_path / "thrice.csv", again)
    assert (tmp_path / "thrice.csv").read_bytes() == (tmp_path / "again.csv").read_bytes()


def test_frames_become_videos(tmp_path):
    path = write(
        tmp_path,
        "path,label,score,video,method,pose\n"
        "a/0,0,0.2,a,real,up\na/1,0,0.4,a,real,down\nb/0,1,,b,DF,up\nb/1,1,0.9,b,DF,up\n"
        "c/0,1,,c,F2F,up\nb/2,1,0.6,b,F2F,up\n",
    )
    frames = read_scores(path)
    assert frames.level == "frame"
    videos = frames.by_video()
    assert videos.level == "video"
    assert videos.paths == ["a", "b", "c", "b"]  # two forgeries of one name are two videos
    assert frames.video_rows().tolist() == [0, 0, 1, 1, 2, 3]
    assert videos.score.tolist() == pytest.approx([0.3, 0.9, math.nan, 0.6], nan_ok=True)
    assert videos.fake.tolist() == [False, True, True, True]
    assert values(videos.columns["method"]) == ["real", "DF", "F2F", "F2F"]
    assert "pose" not in videos.columns
    assert videos.left_out == {"pose": "differs within videos: it groups single rows only"}
    assert videos.failed() == [{"path": "c", "reason": "no score in its row"}]


@pytest.mark.parametrize("unit", ["frame", "clip"])
def test_the_level_of_rows_outlives_the_file(tmp_path, unit):
    columns = {"method": ["a", "a", "real"]}
    scores = Scores.of(["0", "1", "2"], [1, 1, 0], [0.9, 0.5, 0.1], video=list("xxy"), unit=unit, columns=columns)
    write_scores(tmp_path / "scores.csv", scores)
    again = read_scores(tmp_path / "scores.csv")
    assert (again.level, list(again.columns)) == (unit, ["method"])
    write_scores(tmp_path / "again.csv", again.by_video())
    assert read_scores(tmp_path / "again.csv").level == "video"


def test_a_column_unit_of_other_values_groups_rows(tmp_path):
    (tmp_path / "scores.csv").write_text("path,label,score,video,unit\n0,1,1,x,clip\n1,0,0,y,lab\n")
    table = read_scores(tmp_path / "scores.csv")
    assert (table.level, list(table.columns)) == ("frame", ["unit"])


def test_the_mean_of_logits():
    clips = Scores.of(["0", "1", "2"], [1, 1, 0], [0.9, 0.5, 0.1], video=["a", "a", "b"], unit="clip")
    assert clips.level == "clip"
    assert clips.by_video("logits").score.tolist() == pytest.approx([0.75, 0.1])  # odds sqrt(9 * 1)
    assert clips.by_video().score.tolist() == pytest.approx([0.7, 0.1])


HEAD = "path,label,score\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: a table of scores begins with the line path,label,score"),
        (HEAD, "holds no rows below its header"),
        ("path,label,prob\na,1,0.5\n", "line 1: no column score, got 'path', 'label', 'prob'; .* rename them"),
        ("path;label;score\na;1;0.5\n", "line 1: no column path and no column label .*separate columns by commas"),
        ("path,label,score,score\n", "line 1: column 'score' is there twice"),
        ("path,label,score,\n", "line 1: a column without a name"),
        ("path,label,score,why\n", "line 1: no further column can be called 'why'; rename it"),
        (HEAD + "a,0,0.5\nb,2,0.5\n", "line 3: label '2'; write 0 for real and 1 for fake"),
        (HEAD + "a,fake,0.5\n", "line 2: label 'fake'; write 0 for real"),
        (HEAD + "a,,0.5\n", "line 2: label ''; write 0"),
        (HEAD + ",1,0.5\n", "line 2: the path is empty; name what was scored"),
        (HEAD + "a,1,high\n", "line 2: score 'high' is no number; write a number, or nothing"),
        (HEAD + "a,1,1_0\n", "line 2: score '1_0' is no number"),
        (HEAD + "a,1,nan\n", "line 2: score 'nan' is not finite; write a number, or nothing where there is no score"),
        (HEAD + "a,1,-inf\n", "line 2: score '-inf' is not finite"),
        (HEAD + "a,1,1e999\n", "line 2: score '1e999' is not finite"),
        (HEAD + "a,1,0,5\n", "line 2: 4 fields where the header has 3; .* decimals with a point"),
        (HEAD + "a,1\n", "line 2: 2 fields where the header has 3"),
        (HEAD + '"a\nb",1,0.5\nc,1,x\n', "line 4: score 'x'"),
        (HEAD + 'a,1,"0.5\n', "line 2: unexpected end of data; look for a quotation mark"),
        (HEAD + "a,1,0.5\nb,0,0.5\n./a,1,0.6\n", "line 4: ./a is there already, in .*line 2; remove one of the rows"),
        (HEAD.encode() + b"a,1,0.5\n\xff,1,0.5\n", "line 3 is no UTF-8 text: save the table as UTF-8"),
        ("path,label,score,video\na,1,0.5,\n", "line 2: no video; name the video"),
        ("path,label,score,method\na,1,0.5,real\n", "line 2: label 1 .fake. with method 'real'; correct the label"),
    ],
)
def test_tables_that_are_refused(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=message) as caught:
        read_scores(path)
    assert str(caught.value).startswith(str(path))


def test_a_video_with_two_labels(tmp_path):
    path = write(tmp_path, "path,label,score,video\na,1,0.5,v\nb,0,0.5,v\n")
    with pytest.raises(ValueError, match=r"line 3: video 'v' has label 0 here and 1 in .*line 2; .* correct it"):
        read_scores(path).by_video()


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(OSError, match=r"nowhere.csv cannot be read: No such file"):
        read_scores(tmp_path / "nowhere.csv")
    with pytest.raises(OSError, match="cannot be read: Is a directory"):
        read_scores(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0, 2]}, r"labels must be 0 \(real\) or 1 \(fake\), got 2 in row 2"),
        ({"scores": [0.1, math.inf]}, "scores must be finite numbers, or None, got inf in row 2"),
        ({"scores": [0.1]}, "scores must be as many as paths, 2, got 1"),
        ({"columns": {"method": ["a"]}}, "method must be as many as paths, 2, got 1"),
        ({"columns": {"seen": ["a", "b"]}}, "no further column can be called 'seen'"),
        ({"paths": ["a", "a"]}, "row 2: a is there already, in row 1"),
        ({"unit": "clip", "columns": {"unit": ["a", "b"]}}, "no further column can be called 'unit'"),
        ({"unit": "pixel"}, "unit must be one of 'frame', 'clip', got 'pixel'"),
    ],
)
def test_scores_made_here(change, message):
    given = {"paths": ["a", "b"], "labels": [0, 1], "scores": [0.1, None]}
    assert np.isnan(Scores.of(**given).score[1])
    with pytest.raises(ValueError, match=message):
        Scores.of(**(given | change))
