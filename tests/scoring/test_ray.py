"""Ray on this machine, with two workers: every video once, whatever becomes of the processes."""

from __future__ import annotations

import csv
import logging
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dfmodels
from dfmodels import cluster as cluster_module
from dfmodels.cli import main
from dfmodels.cluster import TRIES, ray_pool
from dfmodels.data.cache import CropCache
from dfmodels.data.index import write_index
from tests.data.films import video, write_folder
from tests.video.videos import write_image

pytest.importorskip("ray")

FRAME = ["--model", "frame", "--set", "model.size=32", "--faces", "none"]  # a recipe whose crops are small


@pytest.fixture(scope="module")
def cluster() -> Iterator[Callable[..., Any]]:
    """Runs functions in a process with a cluster: threads that Ray leaves behind are none of the other tests'."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), connect) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


def connect() -> None:
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)


# ---------------------------------------------------------------------- functions run in that process


def address() -> tuple[str, int]:
    """Of the cluster, and the process that began it."""
    import ray

    return ray.get_runtime_context().gcs_address, os.getpid()


def squares(device: str) -> Callable[[int], int]:
    return square


def square(number: int) -> int:
    if number == 100:
        raise OSError("the disk is full")
    return number**2


def no_model(device: str) -> Callable[[int], int]:
    raise OSError("no model here")


def no_room(device: str) -> Callable[[int], int]:
    os.kill(os.getpid(), signal.SIGKILL)
    return square


def pooled(
    items: list[int], part: int, make: Callable[[str], Callable[[int], int]] = squares
) -> tuple[list[tuple[int, Any]], str]:
    """Answers that arrive, and the error that ends them."""
    cluster_module.PART = part
    answers = []
    try:
        with ray_pool(1) as pool:
            for answer in pool.answers(make, items):
                answers.append(answer)
    except OSError as error:
        return answers, str(error)
    return answers, ""


class Deadly:
    """A face detector that ends the process at one video."""

    name, whole_frame = "haar", False

    def __init__(self, path: Path) -> None:
        self.path = path

    def detect(self, frame: Any, path: Any) -> Any:
        if Path(path) == self.path:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.array([[10, 10, 50, 50, 1.0]])


def score_beside(deadly: Path, arguments: list[str]) -> int:
    from dfmodels.cli import score

    score.face_detector = lambda faces: Deadly(deadly)  # type: ignore[assignment]
    return main(["score", *arguments])


# ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = dfmodels.build("lsda", encoder="plain", channels=(4, 8), width=8, size=16).eval()
    model.trained = True
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    dfmodels.save(model, path)
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders of one picture that takes some tenths of a second to read."""
    root = tmp_path_factory.mktemp("films")
    write_image(root / "0.png", np.random.default_rng(0).integers(0, 255, (1200, 1200, 3), np.uint8))
    folders = [root / f"film{i:02}" for i in range(24)]
    for folder in folders:
        folder.mkdir()
        os.link(root / "0.png", folder / "0.png")
    (root / "0.png").unlink()
    return folders


def test_answers_and_errors_of_workers_arrive(cluster):
    assert cluster(pooled, [], 2) == ([], "")
    answers, error = cluster(pooled, [1, 2, 100], 2)
    assert sorted(answers) == [(0, 1), (1, 4)]
    assert error == "the disk is full"


@pytest.mark.parametrize("options", [{"workers": 0}, {"device": "cuda:1"}, {"device": "banana"}])
def test_wrong_options(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} must be"), ray_pool(**options):
        pass


@pytest.mark.slow
def test_workers_that_cannot_begin_end_it(cluster):
    assert cluster(pooled, [1], 2, no_model) == ([], "no model here")
    message = f"{TRIES} processes ended before they could begin; is there memory for so many workers?"
    assert cluster(pooled, [1, 2, 3], 9, no_room) == ([], message)


def test_a_video_that_ends_its_worker_has_its_row_and_the_others_theirs(tmp_path, cluster, weights):
    paths = [write_folder(tmp_path / f"folder{i}", 2 + i) for i in range(4)]
    common = [*map(str, paths), "--weights", str(weights), "--device", "cpu"]
    pictures = ["--plot", str(tmp_path / "pictures"), "--report", str(tmp_path / "report.html")]
    ray = ["--ray", "--workers", "2", "--out", str(tmp_path / "ray.csv")]
    assert cluster(score_beside, paths[1], [*common, *ray, *pictures]) == 1
    assert cluster(score_beside, Path(), [*common, "--out", str(tmp_path / "here.csv")]) == 0
    ours, theirs = (
        {row["path"]: row for row in read_rows(tmp_path / name, len(paths))} for name in ("here.csv", "ray.csv")
    )
    lost = theirs.pop(str(paths[1]))
    del ours[str(paths[1])]
    assert (lost["verdict"], lost["detector"], lost["faces"]) == ("failed", "lsda", "haar")
    assert lost["error"] == f"{paths[1]}: the process that read it ended {TRIES} times"
    for row in [*ours.values(), *theirs.values()]:
        del row["seconds"]
    assert ours == theirs
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"folder0.png", "folder2.png", "folder3.png"}
    page = (tmp_path / "report.html").read_text()
    assert all(str(path) in page for path in paths)


def test_a_worker_is_killed_in_the_middle_of_score(tmp_path, weights, films):
    out = tmp_path / "scores.csv"
    command = ["score", *map(str, films), "--weights", str(weights), "--faces", "none", "--out", str(out)]
    with started([*command, "--ray", "--workers", "2"]) as run:
        wait_for(run, lambda: len(rows(out)) >= 3)
        assert usage_statistics(run.pid) == {("gcs_server", b"0"), ("raylet", b"0")}
        os.kill(workers(run.pid)[0], signal.SIGKILL)
        before = len(rows(out))
        shown, errors = run.communicate(timeout=300)
    assert before < len(films), "the worker was killed too late to prove anything"
    assert run.returncode == 0, errors
    assert shown.endswith(f"rows in {out}\n")
    assert shown.count("\n") == 1
    assert "Traceback" not in errors
    verdicts = read_rows(out, len(films))
    assert sorted(row["path"] for row in verdicts) == sorted(map(str, films))
    assert len({row["probability"] for row in verdicts}) == 1
    assert main([*command, "--resume", "--ray"]) == 0  # nothing is left, so nothing is started
    assert read_rows(out, len(films)) == verdicts


def test_a_worker_is_killed_in_the_middle_of_prepare(tmp_path, cluster, films):
    write_index(tmp_path / "videos.csv", [video(path, i % 2) for i, path in enumerate(films)])
    command = ["prepare", str(tmp_path / "videos.csv"), *FRAME, "--workers", "2"]
    where, root = cluster(address)
    with started([*command, "--ray", "--cache", str(tmp_path / "ray")], where) as run:
        wait_for(run, lambda: len(crops(tmp_path / "ray")) >= 3)
        os.kill(workers(root)[0], signal.SIGKILL)
        before = len(crops(tmp_path / "ray"))
        shown, errors = run.communicate(timeout=300)
    assert before < len(films), "the worker was killed too late to prove anything"
    assert run.returncode == 0, errors
    assert re.fullmatch(r"24 of 24 videos are prepared in .*/ray, .* written\n", shown)
    assert "Traceback" not in errors
    assert main([*command, "--cache", str(tmp_path / "here")]) == 0
    assert crops(tmp_path / "ray") == crops(tmp_path / "here")
    assert len(crops(tmp_path / "ray")) == len(films)
    assert CropCache.read(tmp_path / "ray").failed == {}


@pytest.mark.parametrize("command", ["score", "prepare"])
def test_an_address_without_a_cluster(tmp_path, weights, films, command, monkeypatch, caplog):
    write_index(tmp_path / "videos.csv", [video(films[0])])
    arguments = {
        "score": [str(films[0]), "--weights", str(weights), "--faces", "none"],
        "prepare": [str(tmp_path / "videos.csv"), *FRAME, "--cache", str(tmp_path / "crops")],
    }
    monkeypatch.setattr(cluster_module, "CONNECT", 3)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the call, and says nothing
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", where)
        assert main([command, *arguments[command], "--ray"]) == 2
    (line,) = caplog.messages
    assert line.startswith(
        f"dfmodels {command}: no Ray cluster can be joined at '{where}', which the variable RAY_ADDRE"
    )
    assert "`ray start --head` begins one" in line


@pytest.mark.parametrize(
    ("workers", "gpus", "rate", "bottleneck"),
    [
        (1, 0, 1 / (0.1 + 0.2 + 1 + 2 + 3), "cores"),  # which alone does not write
        (4, 0, 4 / (0.1 + 0.2 + 1 + 2 + 3), "cores"),
        (100, 1, 1 / 3, "GPUs"),
        (100, 0, 1 / (0.1 + 0.05), "driver"),
    ],
)
def test_simulation_of_many_films(workers, gpus, rate, bottleneck):
    from benchmarks.ray_queue import Stages, simulate

    outcome = simulate(Stages(0.1, 0.2, 1, 2, 3, 0.05), workers, workers, gpus, films=4000, variation=0.1)
    assert outcome.rate == pytest.approx(rate, rel=0.03)
    assert outcome.bottleneck == bottleneck
    assert outcome.busy[bottleneck] <= 1


def started(arguments: list[str], address: str = "") -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.Popen(
        [sys.executable, "-m", "dfmodels", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # current versions of Ray give clusters that `ray.init` begins a token, and ask those who join for it
        env={**environment, "RAY_ADDRESS": address, "RAY_AUTH_MODE": "token"} if address else environment,
    )


def wait_for(run: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def rows(path: Path) -> list[dict[str, str]]:
    """The whole rows of a file that is being written."""
    text = path.read_text() if path.exists() else ""
    return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))


def read_rows(path: Path, count: int) -> list[dict[str, str]]:
    found = rows(path)
    assert len(found) == count
    return found


def crops(cache: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in cache.glob("??/*.safetensors") if not file.name.startswith(".")}


def workers(root: int) -> list[int]:
    """Processes below another one that answer to items."""
    return [process for process, name in below(root) if b"ray::" in name and b"Worker" in name]


def usage_statistics(root: int) -> set[tuple[str, bytes | None]]:
    """Names of Ray's own processes below another one, with what they are told of sending usage statistics."""
    found = set()
    for process, name in below(root):
        program = os.path.basename(name.partition(b"\0")[0]).decode()
        if program in ("gcs_server", "raylet"):
            variables = dict(each.partition(b"=")[::2] for each in environment_of(process).split(b"\0"))
            found.add((program, variables.get(b"RAY_USAGE_STATS_ENABLED")))
    return found


def environment_of(process: int) -> bytes:
    return Path(f"/proc/{process}/environ").read_bytes()


def below(root: int) -> list[tuple[int, bytes]]:
    """Processes below another one with their command lines."""
    parents, names = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            names[int(stat.parent.name)] = (stat.parent / "cmdline").read_bytes()
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return [(process, name) for process, name in names.items() if root in ancestors(process, parents)]


def ancestors(process: int, parents: dict[int, int]) -> Iterator[int]:
    while process in parents:
        process = parents[process]
        yield process
