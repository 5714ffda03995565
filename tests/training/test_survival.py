"""Trainings in processes of their own: killed ones that go on, and two that train as one."""

import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dfmodels.training.run import FINAL, METRICS, RunFolder
from tests.video.videos import write_image

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def command(out, **options):
    return [sys.executable, "-m", "tests.training.trainer", str(out), json.dumps(options)]


def run(out, **options):
    return subprocess.run(command(out, **options), capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT)


def rows(out, kind):
    """Of metrics.csv, without the columns that are times."""
    with (out / METRICS).open(newline="") as file:
        return [
            {name: value for name, value in row.items() if name not in ("seconds", "waiting")}
            for row in csv.DictReader(file)
            if row["kind"] == kind
        ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    done = run(out, settings={"average": 0.9})
    assert done.returncode == 0, done.stderr
    return out


# --multi_gpu is what starts several processes; without a GPU they talk over gloo. The last option takes a free port
LAUNCH = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu", "--num_processes", "2"]
LAUNCH += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m"]

MOMENTS = ["step", "begin", "finish", "swap", "row", "step", "begin", "swap", "finish", "swap"]


@pytest.mark.parametrize(
    "moments", [["step", "swap", "finish"], pytest.param(MOMENTS, marks=pytest.mark.slow)], ids=["three", "ten"]
)
def test_kills_leave_no_trace(undisturbed, tmp_path, moments):
    """SIGKILL inside steps, in all parts of the writing of a state, and in that of a row."""
    out, draws = tmp_path / "run", random.Random(0)
    for killed, inside in enumerate(moments):
        # the first `os.replace`s of a process write metrics.csv, those of a state follow
        kill_at = draws.randint(1, 4) if inside == "step" else draws.randint(2, 4) if inside == "swap" else 1
        done = run(out, settings={"average": 0.9}, resume=killed > 0, kill_at=kill_at, inside=inside)
        assert done.returncode == -signal.SIGKILL, (inside, kill_at, done.stderr)
    done = run(out, settings={"average": 0.9}, resume=True)
    assert done.returncode == 0, done.stderr
    assert (out / FINAL).read_bytes() == (undisturbed / FINAL).read_bytes()
    assert rows(out, "epoch") == rows(undisturbed, "epoch")
    assert not list(out.glob(".last*"))


def test_a_kill_from_outside_with_workers_leaves_the_folder_free(tmp_path):
    out = tmp_path / "run"
    training = subprocess.Popen(
        command(out, settings={"num_workers": 1, "epochs": 500}),
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not (out / "last").is_dir():
            assert time.monotonic() < deadline
            assert training.poll() is None
            time.sleep(0.05)
        refused = run(out, resume=True, settings={"num_workers": 1, "epochs": 500})
        assert refused.returncode == 1
        assert f"is in use: process {training.pid} trains there" in refused.stderr
        children = [
            int(task.name)
            for task in Path("/proc").iterdir()
            if task.name.isdigit() and _session(task) == training.pid and int(task.name) != training.pid
        ]
        assert children
        opened = {os.readlink(link) for child in children for link in Path(f"/proc/{child}/fd").iterdir()}
        assert not [file for file in opened if file.startswith(str(out))]
        training.send_signal(signal.SIGKILL)
        training.wait()
        again = run(out, resume=True, settings={"num_workers": 0, "epochs": 501})
        assert "epochs was 500 and is 501" in again.stderr  # and not that it is in use
    finally:
        with contextlib.suppress(ProcessLookupError):  # workers that saw it die have ended
            os.killpg(training.pid, signal.SIGKILL)


def _session(task):
    try:
        return int(task.joinpath("stat").read_text().rpartition(")")[2].split()[3])
    except (OSError, ValueError):
        return None


def _await_worker(training):
    """Return as soon as a training has started a process that is to load samples."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and training.poll() is None:
        for task in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if _session(task) == training.pid and b"spawn_main" in task.joinpath("cmdline").read_bytes():
                    return
        time.sleep(0.01)
    raise AssertionError("no worker was started")


@pytest.mark.parametrize("whom", ["all", "the training"])
def test_workers_that_only_just_begin_end_with_the_training(tmp_path, whom):
    """Ctrl-C, which reaches all processes of a terminal, and `kill -9`, of which nobody is told."""
    training = subprocess.Popen(
        command(tmp_path / "run", settings={"num_workers": 1, "epochs": 500}),
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _await_worker(training)
        if whom == "all":
            os.killpg(training.pid, signal.SIGINT)
        else:
            training.kill()
        _, said = training.communicate(timeout=60)  # until the last that may write there has ended
        assert said.count("Traceback") == (whom == "all"), said  # that of the training itself, which is no command
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(training.pid, signal.SIGKILL)


def test_two_processes_train_as_one_with_twice_the_batch(tmp_path):
    settings = {"freeze_norms": True, "model.drop": 0.0, "epochs": 2}
    one, two = tmp_path / "one", tmp_path / "two"
    options = {"videos": (26, 8)}  # the last two samples of an epoch make no batch
    done = run(one, settings={**settings, "batch_size": 8}, trace=str(tmp_path / "one.trace"), **options)
    assert done.returncode == 0, done.stderr
    trainer = command(two, settings={**settings, "batch_size": 4}, trace=str(tmp_path / "two.trace"), **options)[2:]
    launch = [*LAUNCH, *trainer]
    done = subprocess.run(launch, capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert json.loads((two / "environment.json").read_text())["processes"] == 2
    for kind, name in (("step", "loss"), ("epoch", "val_loss")):
        expected = [float(row[name]) for row in rows(one, kind)]
        assert [float(row[name]) for row in rows(two, kind)] == pytest.approx(expected, rel=1e-5)
        assert len(expected) == 2
    seen = {}
    for file in tmp_path.glob("*.trace.*"):
        for line in file.read_text().splitlines():
            epoch, step, keys = json.loads(line)
            if any("train" in key for key in keys):
                seen.setdefault(file.name.split(".")[0], {}).setdefault((epoch, step), []).extend(keys)
    assert {k: sorted(v) for k, v in seen["one"].items()} == {k: sorted(v) for k, v in seen["two"].items()}
    for epoch in range(2):
        keys = [key for (e, _), found in seen["two"].items() if e == epoch for key in found]
        assert len(keys) == len(set(keys)) == 24


def typed_training(tmp_path):
    """The command line, but for --out, of a training on images that are written."""
    draws = np.random.default_rng(0)
    for video in (
        f"{split}/{kind}/{split}{i}" for split in ("train", "val") for kind in ("real", "fake") for i in "12"
    ):
        folder = tmp_path / "data" / video
        folder.mkdir(parents=True)
        for t in range(3):
            write_image(folder / f"{t}.png", draws.integers(0, 256, (32, 32, 3), np.uint8))
    typed = ["dfmodels", "train", "frame", "--data", str(tmp_path / "data"), "--faces", "none", "--device", "cpu"]
    return [*typed, "--set", "model.encoder=resnet18", "model.size=32", "clips_per_video=3", "frames_per_video=3"]


@pytest.mark.parametrize("whom", ["all", "the training"])
def test_sigterm_ends_a_training_tidily(tmp_path, whom):
    out = tmp_path / "run"
    typed = [*typed_training(tmp_path), "batch_size=4", "epochs=500", "num_workers=1", "save_every=1"]
    training = subprocess.Popen(
        [sys.executable, "-m", *typed, "--out", str(out)],
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not (out / "last").is_dir():
            assert time.monotonic() < deadline
            assert training.poll() is None, training.stderr.read()
            time.sleep(0.05)
        os.killpg(training.pid, signal.SIGTERM) if whom == "all" else training.terminate()
        _, said = training.communicate(timeout=60)  # until the last that may write there has ended
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(training.pid, signal.SIGKILL)
    assert training.returncode == 128 + signal.SIGTERM, said
    assert said.endswith("dfmodels: ended by SIGTERM\n")
    assert "Traceback" not in said
    assert "leaked" not in said
    folder = RunFolder(out, resume=True)  # free, with a whole state
    assert folder.progress()["step"] >= 1
    folder.close()


def test_the_command_line_in_two_processes_trains_as_one_with_twice_the_batch(tmp_path):
    typed = [*typed_training(tmp_path), "epochs=1", "freeze_norms=true"]
    for launch, size in (([sys.executable, "-m"], 4), (LAUNCH, 2)):
        out = tmp_path / str(size)
        done = subprocess.run(
            [*launch, *typed, f"batch_size={size}", "--out", str(out)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=ENVIRONMENT,
        )
        assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "2" / "environment.json").read_text())["processes"] == 2
    for kind, name in (("step", "loss"), ("epoch", "val_loss")):
        (expected,), (got,) = ([float(row[name]) for row in rows(tmp_path / size, kind)] for size in ("4", "2"))
        assert got == pytest.approx(expected, rel=1e-5)
