"""Detectors over an index: every video one row, once, whatever becomes of the process or of a video."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from dfmodels.data.cache import CropCache, prepare_video
from dfmodels.data.crops import CropSource
from dfmodels.data.index import Video
from dfmodels.data.plan import FramePlan
from dfmodels.detector import Calibration
from dfmodels.evaluation.calibration import calibrate, video_probabilities
from dfmodels.evaluation.detectors import (
    as_scores,
    calibration_of,
    of_detector,
    of_file,
    of_prepared,
    score_index,
    seen_methods,
)
from dfmodels.scoring import score_video
from dfmodels.video import face_detector
from dfmodels.weights import IN_FOLDERS, find
from tests.data import films as drawn
from tests.models.frame_level import FrameLevel
from tests.models.test_detectors import small
from tests.video.videos import noise, ramp, write_video


@pytest.fixture
def videos(tmp_path):
    """Three films, the last of which is none."""
    films = [write_video(tmp_path / f"{i}.mp4", 9, ramp((48, 64)) if i else noise) for i in range(2)]
    broken = tmp_path / "broken.mp4"
    broken.write_text("no film")
    return [
        Video(films[0], 0, "test", "Set", "real", extra={"light": "dim"}),
        Video(films[1], 1, "test", "Set", "Deepfakes", compression="c23"),
        Video(broken, 1, "test", "Set", "FaceSwap", compression="c23"),
    ]


def written(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_rows_are_those_of_score_video(videos, tmp_path, average):
    model = FrameLevel(num_clips=4, scale=6.0)
    model.contract = replace(model.contract, average=average)
    judged = of_detector(model, face_detector("none"))
    rows = score_index(judged, videos, tmp_path / "rows.jsonl", resume=False)
    table = as_scores(videos, rows, judged)
    assert (table.level, len(table)) == ("frame", 9)
    assert [row["path"] for row in table.failed()] == [videos[2].key]
    assert "broken.mp4" in table.failed()[0]["reason"]
    by_video = table.by_video(judged.average)
    for video, score in zip(videos[:2], by_video.score, strict=False):
        expected = score_video(model, video.path, faces="none")
        own = [i for i in range(len(table)) if table.video.value(i) == video.key]
        np.testing.assert_allclose(table.score[own], [clip.probability for clip in expected.clips], rtol=1e-12)
        assert score == pytest.approx(expected.probability, rel=1e-9)
    assert [by_video.columns["method"].value(i) for i in range(3)] == ["real", "Deepfakes", "FaceSwap"]
    assert [by_video.columns["light"].value(i) for i in range(3)] == ["dim", "", ""]


@pytest.mark.parametrize("model", [FrameLevel(num_clips=4, scale=6.0), small("ddl")], ids=["frames", "clips"])
@pytest.mark.parametrize("found", [True, False], ids=["boxes", "none"])
def test_prepared_crops_give_the_rows_of_the_film(tmp_path, caplog, model, found):
    """Of films in which nothing stands still; the last one is not prepared, another one is none."""
    model.trained = True
    films = [drawn.video(drawn.write_film(tmp_path / f"{i}.mp4", 30 + i), i % 2) for i in range(3)]
    films.append(drawn.video(written(tmp_path / "broken.mp4", "no film"), 1))
    faces = drawn.write_boxes(tmp_path / "boxes.json", 40, hidden=(3, 17)) if found else "none"
    cache = CropCache.open(tmp_path / "cache", faces=faces)
    for film in films[:2]:
        prepare_video(film, cache, model.contract, FramePlan.of(model.contract))
    judged = {
        "film": of_detector(model, face_detector(faces)),
        "cache": of_prepared(model, CropSource(cache=tmp_path / "cache")),
    }
    rows = {name: score_index(each, films, tmp_path / f"{name}.jsonl", resume=False) for name, each in judged.items()}
    assert "2.mp4 is not prepared" in caplog.text
    for film in films:
        one, two = rows["film"][film.key], rows["cache"][film.key]
        for name in ("probability", "clips", "error", "faces"):
            assert one[name] == two[name], name
    assert all(rows["cache"][film.key]["clips"] for film in films[:3])
    assert rows["cache"][films[3].key]["error"]
    with pytest.raises(ValueError, match=r"was made with --cache where it holds a video, .* this run has --cache none"):
        score_index(judged["film"], films, tmp_path / "cache.jsonl", resume=True)


def test_calibration_is_fitted_to_videos_and_put_on_later(videos, tmp_path):
    judged = of_detector(FrameLevel(num_clips=4, scale=6.0), face_detector("none"))
    rows = score_index(judged, videos, tmp_path / "rows.jsonl", resume=False)
    how = calibration_of(judged, videos, rows)
    assert how.fitted_on == "1 real and 1 fake videos of Set, split val"
    plain, after = as_scores(videos, rows, judged), as_scores(videos, rows, judged, how)
    np.testing.assert_allclose(after.score[:8], calibrate(plain.score[:8], how), rtol=1e-12)
    assert np.isnan(after.score[8])
    with pytest.raises(ValueError, match="got 0 real and 1 fake"):
        calibration_of(judged, videos[1:], rows)


def test_rows_do_not_depend_on_a_calibration_beside_the_weights(videos, tmp_path):
    model = FrameLevel(num_clips=4, scale=6.0)
    model.origin = replace(model.origin, calibration=Calibration(3.0, 1.0))
    judged = of_detector(model, face_detector("none"))
    rows = score_index(judged, videos[:1], tmp_path / "rows.jsonl", resume=False)
    plain = score_video(FrameLevel(num_clips=4, scale=6.0), videos[0].path, faces="none")
    assert rows[videos[0].key]["probability"] == pytest.approx(plain.probability)


PREDICTS = {
    "function": "def predict(path):\n    return float(len(open(path, 'rb').read()) > 100)",
    "class": "class Mine:\n    def predict(self, path):\n        return float(len(open(path, 'rb').read()) > 100)",
    "instance": "class Mine:\n    def __init__(self, n): self.n = n\n"
    "    def predict(self, path):\n        return float(len(open(path, 'rb').read()) > self.n)\nmodel = Mine(100)",
    "numpy": "import numpy as np\ndef predict(path):\n    print('talk')\n    return np.float32(path.endswith('0.mp4'))",
    "beside": "from helper import value\ndef predict(path):\n    return value",
}


@pytest.mark.parametrize("kind", PREDICTS)
def test_a_file_that_predicts(videos, tmp_path, capsys, kind):
    written(tmp_path / "helper.py", "value = 3.5")
    judged = of_file(written(tmp_path / f"{kind}.py", PREDICTS[kind]))
    rows = score_index(judged, videos, tmp_path / "rows.jsonl", resume=False)
    table = as_scores(videos, rows, judged)
    assert (table.level, len(table)) == ("video", 3)
    expected = {"numpy": [1, 0, 0], "beside": [3.5] * 3}.get(kind, [1, 1, 0])
    assert table.score.tolist() == expected
    assert capsys.readouterr().out == ""
    assert table.paths == [video.key for video in videos]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise KeyError('x')", "KeyError: 'x'"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("return float('nan')", "predict gave nan, not a finite number"),
        ("return None", "TypeError: "),
        ("return 'much'", "ValueError: could not convert string to float"),
    ],
)
def test_an_error_costs_the_row_of_its_video(videos, tmp_path, body, says):
    text = f"def predict(path):\n    if path.endswith('1.mp4'):\n        {body}\n    return 0.25\n"
    judged = of_file(written(tmp_path / "mine.py", text))
    table = as_scores(videos, score_index(judged, videos, tmp_path / "rows.jsonl", resume=False), judged)
    assert table.score.tolist() == [0.25, pytest.approx(np.nan, nan_ok=True), 0.25]
    (failed,) = table.failed()
    assert failed["path"] == videos[1].key
    assert says in failed["reason"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def predict(path:\n", "SyntaxError"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("x = 1", "offers no predict"),
        ("predict = 3", "offers no predict"),
        ("class A:\n  def predict(s, p): return 1\nclass B(A): pass", "several offer predict"),
        ("class A:\n  def __init__(s, n): pass\n  def predict(s, p): return 1", "TypeError"),
        ("raise SystemExit(1)", "SystemExit"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path, text, says):
    path = list(sys.path)
    with pytest.raises(ValueError, match=says):
        of_file(written(tmp_path / "mine.py", text))
    assert sys.path == path
    with pytest.raises(ValueError, match="no such file"):
        of_file(tmp_path / "nowhere.py")


KILLED = """
import os, signal, sys
from pathlib import Path
log = Path(__file__).with_name("log")
def predict(path):
    done = log.read_text().split() if log.exists() else []
    if len(done) == 2 and "--resume" not in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
    with log.open("a") as file:
        print(Path(path).stem, file=file)
    return len(done) / 10
"""


def test_nothing_is_done_twice_after_a_kill(tmp_path):
    films = [written(tmp_path / f"{i}.mp4", str(i)) for i in range(5)]
    model = written(tmp_path / "mine.py", KILLED)
    lines = [f"{film.name},{i % 2},test\n" for i, film in enumerate(films)]
    index = written(tmp_path / "index.csv", "path,label,split\n" + "".join(lines))
    command = [sys.executable, "-m", "dfmodels", "evaluate", "--model", model, "--data", index, "--resamples", "0"]
    command += ["--out", tmp_path / "report"]
    run = {"capture_output": True, "text": True, "env": {**os.environ, "PYTHONPATH": os.getcwd()}}
    assert subprocess.run(command, **run).returncode == -signal.SIGKILL
    assert not (tmp_path / "report" / "metrics.json").exists()
    ended = subprocess.run([*command, "--resume"], **run)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "log").read_text().split() == ["0", "1", "2", "3", "4"]
    rows = (tmp_path / "report" / "videos.jsonl").read_text().splitlines()
    assert [json.loads(row)["probability"] for row in rows] == [0.0, 0.1, 0.2, 0.3, 0.4]


def test_rows_of_another_detector_are_not_mixed_in(videos, tmp_path):
    rows = tmp_path / "rows.jsonl"
    one = of_file(written(tmp_path / "one.py", "def predict(path): return 0.1"))
    other = of_file(written(tmp_path / "other.py", "def predict(path): return 0.9"))
    score_index(one, videos, rows, resume=False)
    before = rows.read_bytes()
    with pytest.raises(ValueError, match="resume it with the same"):
        score_index(other, videos, rows, resume=True)
    assert rows.read_bytes() == before
    found = score_index(other, videos, rows, resume=False)  # anew, over rows of its own kind
    assert {row["probability"] for row in found.values()} == {0.9}
    foreign = written(tmp_path / "foreign.jsonl", "mine\n")
    with pytest.raises(ValueError, match="holds rows already"):
        score_index(one, videos, foreign, resume=False)
    assert foreign.read_text() == "mine\n"


def test_what_a_run_folder_says(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none of best\.safetensors, final\.safetensors, model\.safetensors"):
        find(tmp_path)
    for name in reversed(IN_FOLDERS):
        best = written(tmp_path / name, "")
        assert find(tmp_path) == find(best) == best
    assert seen_methods(tmp_path) is None
    written(tmp_path / "environment.json", '{"methods": ["Deepfakes"]}')
    assert seen_methods(tmp_path) == seen_methods(best) == {"Deepfakes"}
    written(tmp_path / "environment.json", "[]")
    assert seen_methods(tmp_path) is None


def test_clips_of_a_calibrated_video_agree_with_score(videos, tmp_path):
    how = Calibration(2.0, -0.5)
    model = FrameLevel(num_clips=4, scale=6.0)
    judged = of_detector(model, face_detector("none"))
    rows = score_index(judged, videos[:1], tmp_path / "rows.jsonl", resume=False)
    table = as_scores(videos[:1], rows, judged, how)
    model.origin = replace(model.origin, calibration=how)
    printed = score_video(model, videos[0].path, faces="none")
    assert printed.probability == pytest.approx(video_probabilities([table.score])[0], rel=1e-9)
