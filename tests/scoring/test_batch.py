"""Many videos: each score when it is ready, whatever becomes of the others, and no more memory with every one."""

import csv
import gc
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import dfmodels
from dfmodels.cli import main
from dfmodels.scoring import score_videos
from dfmodels.scoring.batch import iter_scores
from dfmodels.scoring.formats import Table
from dfmodels.scoring.rows import Results
from dfmodels.scoring.video import LOG, score_video
from tests.models.frame_level import FrameLevel
from tests.scoring.test_rows import RUN
from tests.video.videos import write_image


def folders(parent, count, size=16):
    """Videos of two frames each."""
    (parent / "films").mkdir(parents=True)
    images = [parent / f"{i}.png" for i in range(2)]
    for i, image in enumerate(images):
        write_image(image, np.random.default_rng(i).integers(0, 255, (size, size, 3), np.uint8))
    for i in range(count):
        (parent / "films" / str(i)).mkdir()
        for image in images:
            os.link(image, parent / "films" / str(i) / image.name)
    return [parent / "films" / str(i) for i in range(count)]


def test_each_score_is_there_when_it_is_ready(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(
        "dfmodels.scoring.batch.score_video",
        lambda model, path, **options: begun.append(path) or score_video(model, path, **options),
    )
    paths = folders(tmp_path, 4)
    for number, score in enumerate(iter_scores(FrameLevel(), paths, faces="none", done={paths[1]}), 1):
        assert len(begun) == number
        assert score.path == begun[-1]
        assert not score.most_suspicious
    assert begun == [paths[0], *paths[2:]]
    kept = next(iter_scores(FrameLevel(), paths, faces="none", keep_moments=True))
    assert kept.most_suspicious


def test_wrong_arguments_are_said_before_the_first_video(tmp_path):
    with pytest.raises(ValueError, match="faces must be one of"):
        iter_scores(FrameLevel(), [], faces="harr")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="plot must be a folder to write to"):
        iter_scores(FrameLevel(), [], faces="none", plot=tmp_path / "file")
    with pytest.raises(TypeError, match="model must be a Detector"):
        iter_scores(object(), [])


class Odd:
    """A face detector with faults of its own."""

    name = "odd"

    def __init__(self, errors):
        self.errors = errors

    def detect(self, frame, video):
        if error := self.errors.get(Path(video).name):
            raise error
        return np.array([[2.0, 2, 12, 12, 1]])


def test_what_goes_wrong_with_one_video_costs_its_row(tmp_path, caplog):
    import cv2

    paths = folders(tmp_path, 5)
    errors = {"0": TypeError("no shape"), "1": MemoryError(), "2": cv2.error("odd"), "3": RuntimeError("CUDA\nerror")}
    caplog.set_level("DEBUG", LOG.name)
    scores = score_videos(FrameLevel(), paths, faces=Odd(errors))
    assert [score.verdict for score in scores[:4]] == ["failed"] * 4
    assert [score.error for score in scores[:4]] == [
        f"{paths[0]}: TypeError: no shape",
        f"{paths[1]}: MemoryError: ",
        f"{paths[2]}: error: odd",
        f"{paths[3]}: RuntimeError: CUDA\nerror",
    ]
    assert (scores[0].detector, scores[0].faces, scores[0].unit) == ("frame_level", "odd", "frame")
    assert scores[4].error is None
    assert "Traceback" in caplog.text
    assert "TypeError: no shape" in caplog.text
    with pytest.raises(KeyboardInterrupt):
        score_videos(FrameLevel(), paths, faces=Odd({"1": KeyboardInterrupt()}))
    with pytest.raises(ImportError, match="av"):  # no video could be read
        score_videos(FrameLevel(), paths, faces=Odd({"1": ImportError("av")}))


def test_pictures(tmp_path, monkeypatch, caplog):
    """One a video, under names of their own, also where some videos are passed over; a bad one costs itself."""
    drawn = []

    def plot_video(score, path):
        if score.path == paths[2]:
            raise ValueError("a bad picture")
        drawn.append(path.name)

    monkeypatch.setattr("dfmodels.scoring.plots.plot_video", plot_video)
    paths = [video for i in range(4) for video in folders(tmp_path / str(i), 1)]
    scores = score_videos(FrameLevel(), paths, faces="none", plot=tmp_path / "plots")
    assert drawn == ["0.png", "0-2.png", "0-4.png"]
    assert [score.verdict for score in scores].count("failed") == 0
    assert f"{paths[2]}: no picture could be drawn: ValueError: a bad picture" in caplog.text
    assert [score.suspect for score in scores] == [None] * 4
    drawn.clear()
    list(iter_scores(FrameLevel(), paths, faces="none", plot=tmp_path / "plots", done=set(paths[:3])))
    assert drawn == ["0-4.png"]


def test_memory_does_not_grow_with_the_videos(tmp_path):
    paths = folders(tmp_path, 1, size=64) * 200
    table, held = Table(paths, "frame"), []
    tracemalloc.start()
    try:
        with Results(tmp_path / "out.jsonl", RUN) as results:
            for number, score in enumerate(iter_scores(FrameLevel(), paths, faces="none", keep_moments=True), 1):
                assert score.most_suspicious[0].picture.nbytes == 64 * 64 * 3
                results.add(score)
                table.row(score)
                del score
                if number in (50, 200):  # what is kept for reuse, as the small blocks of the allocator, fills at first
                    gc.collect()
                    held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert held[1] - held[0] < 50_000  # the pictures of every one take as much


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    model = dfmodels.build("lsda", encoder="plain", channels=(4, 8), width=8, size=16).eval()
    model.trained = True
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    dfmodels.save(model, path)
    return str(path)


def test_a_killed_run_is_resumed(tmp_path, weights, monkeypatch):
    """500 videos; kill -9 comes while the 201st row is written, and between two."""
    monkeypatch.chdir(tmp_path)
    folders(tmp_path, 500)
    given = ["score", "films", "--weights", weights, "--faces", "none", "--out", "out.csv", "--resume", "-q"]
    killed = (
        "import os, sys\n"
        "from dfmodels.cli import main\n"
        "from dfmodels.scoring.rows import Results\n"
        "rows, write = int(sys.argv[1]), Results._write\n"
        "def dying(self, text):\n"
        "    global rows\n"
        "    rows -= 1\n"
        "    if rows < 0:\n"
        "        os.write(self.file.fileno(), text.encode()[:int(sys.argv[2])])\n"
        "        os.kill(os.getpid(), 9)\n"
        "    write(self, text)\n"
        "Results._write = dying\n"
        "main(sys.argv[3:])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(dfmodels.__file__).parents[1])}
    for rows, half in (200, 50), (100, 0):
        died = subprocess.run([sys.executable, "-c", killed, str(rows), str(half), *given], env=environment)
        assert died.returncode == -9
    assert main(given) == 0
    with open("out.csv", newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == [f"films/{i}" for i in range(500)]
