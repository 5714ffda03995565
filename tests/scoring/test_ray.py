"""Ray on this machine, with two workers: every video one row, whatever becomes of the processes."""

from __future__ import annotations

import csv
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dfmodels
from dfmodels.cli import main
from dfmodels.cluster import TRIES, Worker, ray_pool
from dfmodels.data.cache import CropCache
from dfmodels.data.prepare import prepare_crops
from dfmodels.scoring.batch import iter_scores
from tests.data.films import write_folder
from tests.data.test_prepare import jobs_of
from tests.models.frame_level import FrameLevel
from tests.video.videos import write_image

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def child() -> Iterator[Callable[..., Any]]:
    """Runs functions in a process with a cluster: threads that Ray leaves behind are none of the other tests'."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), connect) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


def connect() -> None:
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)


# ---------------------------------------------------------------------- functions run in that process


def pooled(make: Callable[[str], Callable[[Any], Any]], items: list[Any]) -> list[tuple[int, Any]]:
    with ray_pool(2) as pool:
        return list(pool.answers(make, items))


def squares(log: Path, device: str) -> Callable[[int], int]:
    return partial(square, log)


def square(log: Path, number: int) -> int:
    """-2 ends the process the first time."""
    with log.open("a") as file:
        file.write(f"{number}\n")
    if number == -2 and log.read_text().split().count("-2") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 100:
        raise OSError("the disk is full")
    return number**2


def no_model(device: str) -> Callable[[int], int]:
    raise ValueError("no model here")


class Deadly:
    """A face detector that ends the process at one video."""

    name, whole_frame = "haar", False

    def __init__(self, path: Path) -> None:
        self.path = path

    def detect(self, frame: Any, path: Any) -> Any:
        if Path(path) == self.path:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.array([[10, 10, 50, 50, 1.0]])


def scored(paths: list[Path], deadly: Path) -> list[Any]:
    return list(iter_scores(FrameLevel(), paths, faces=Deadly(deadly), ray="auto", workers=2))


def prepared(paths: list[Path], folder: Path) -> dict[str, str]:
    return prepare_crops(jobs_of(paths), CropCache.open(folder, faces="none"), ray=True, workers=2)


# ----------------------------------------------------------------------


def test_what_ends_a_worker_once_is_tried_again_and_answered_once(tmp_path, child):
    log = tmp_path / "begun"
    items = [1, 2, -2, 3, 4, 5]
    assert sorted(child(pooled, partial(squares, log), items)) == [(i, item**2) for i, item in enumerate(items)]
    assert Counter(log.read_text().split()) == {**dict.fromkeys(map(str, items), 1), "-2": TRIES}
    assert child(pooled, partial(squares, log), []) == []


def test_errors_of_workers_arrive(tmp_path, child):
    with pytest.raises(OSError, match="the disk is full"):
        child(pooled, partial(squares, tmp_path / "log"), [1, 100, 2])
    answer = Worker(no_model, os.getcwd(), None)({"number": 3, "item": pickle.dumps(1)})
    assert answer["number"] == 3
    error = pickle.loads(answer["answer"])
    assert isinstance(error, ValueError)
    assert str(error) == "no model here"


def test_scores_and_the_video_that_ends_its_worker(tmp_path, child):
    paths = [write_folder(tmp_path / f"folder{i}", 2 + i) for i in range(4)]
    scores = {score.path: score for score in child(scored, paths, paths[1])}
    assert sorted(scores) == paths
    lost = scores.pop(paths[1])
    assert lost.verdict == "failed"
    assert lost.error == f"{paths[1]}: the process that read it ended {TRIES} times"
    assert (lost.detector, lost.unit, lost.faces) == (FrameLevel().name, "frame", "haar")
    for alone in iter_scores(FrameLevel(), [*paths[:1], *paths[2:]], faces=Deadly(Path())):
        assert scores[alone.path].probability == alone.probability
        assert scores[alone.path].clips == alone.clips


def test_prepared_crops_are_those_of_this_machine(tmp_path, child):
    paths = [write_folder(tmp_path / f"folder{i}", 8 + i) for i in range(3)]
    assert child(prepared, paths, tmp_path / "ray") == {}
    assert prepare_crops(jobs_of(paths), CropCache.open(tmp_path / "here", faces="none"), workers=1) == {}
    ours, theirs = (
        {file.name: file.read_bytes() for file in (tmp_path / name).glob("??/*")} for name in ("here", "ray")
    )
    assert ours == theirs
    assert len(ours) == 3


def test_a_worker_is_killed_in_the_middle_of_score(tmp_path):
    model = dfmodels.build("lsda", encoder="plain", channels=(4, 8), width=8, size=16).eval()
    model.trained = True
    dfmodels.save(model, tmp_path / "weights.safetensors")
    write_image(tmp_path / "0.png", np.random.default_rng(0).integers(0, 255, (1200, 1200, 3), np.uint8))
    films = tmp_path / "films"
    for i in range(60):
        (films / f"{i:02}").mkdir(parents=True)
        os.link(tmp_path / "0.png", films / f"{i:02}" / "0.png")
    out = tmp_path / "scores.csv"
    command = ["score", str(films), "--weights", str(tmp_path / "weights.safetensors"), "--faces", "none"]
    with subprocess.Popen(
        [sys.executable, "-m", "dfmodels", *command, "--ray", "--workers", "2", "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        deadline = time.monotonic() + 60
        while len(rows(out)) < 5:
            assert run.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(next(worker for worker in actors(run.pid)), signal.SIGKILL)
        before = len(rows(out))
        _, errors = run.communicate(timeout=60)
    assert before < 60, "the worker was killed too late to prove anything"
    assert run.returncode == 0, errors
    assert "Traceback" not in errors
    verdicts = rows(out)
    assert sorted(row["path"] for row in verdicts) == sorted(map(str, films.iterdir()))
    assert len({row["probability"] for row in verdicts}) == 1
    assert main([*command, "--out", str(out), "--resume", "--ray"]) == 0  # nothing is left, so nothing is started
    assert rows(out) == verdicts


def rows(path: Path) -> list[dict[str, str]]:
    """The whole rows of a file that is being written."""
    text = path.read_text() if path.exists() else ""
    return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))


def actors(parent: int) -> list[int]:
    """Processes of actors that answer, below another process."""
    parents, names = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            names[int(stat.parent.name)] = (stat.parent / "cmdline").read_bytes()
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [process for process, name in names.items() if b"ray::" in name and b"Worker" in name]
    return [process for process in found if parent in ancestors(process, parents)]


def ancestors(process: int, parents: dict[int, int]) -> Iterator[int]:
    while process in parents:
        process = parents[process]
        yield process
