"""`dfmodels prepare` from the command line, killed and begun again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import dfmodels
from dfmodels.cli import main
from dfmodels.data.clips import ClipSamples
from dfmodels.data.crops import CropSource
from dfmodels.data.index import Video, read_index, write_index
from dfmodels.training.recipe import find_recipe, list_recipes
from tests.data.films import write_boxes, write_film, write_folder
from tests.video.videos import cut

SETTINGS = ["model.num_frames=4", "model.size=32"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films and folders with an index, two in a split."""
    root = tmp_path_factory.mktemp("films")
    write_boxes(root / "boxes.json", 40)
    rows = []
    for i in range(6):
        path = write_film(root / f"film{i}.mp4", 24 + i) if i % 2 else write_folder(root / f"folder{i}", 24 + i)
        rows.append(Video(path, i % 2, ("train", "val", "test")[i // 2], "films", ("real", "swap")[i % 2], path.stem))
    write_index(root / "videos.csv", rows)
    return root


def prepare(root: Path, cache: Path, *more: str, index: str = "videos.csv") -> int:
    arguments = ["--model", "ddl", "--cache", str(cache), "--faces", f"boxes:{root / 'boxes.json'}", "--workers", "2"]
    return main(["prepare", str(root / index), *arguments, "--set", *SETTINGS, *more])


def contents(cache: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in sorted(cache.rglob("*")) if path.is_file() and path.name != ".lock"
    }


def test_what_training_and_judging_want_is_prepared(root: Path, tmp_path: Path, capsys, caplog) -> None:
    assert prepare(root, tmp_path / "crops") == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"6 of 6 videos are prepared in {tmp_path / 'crops'}, ")
    assert "6 videos: about " in caplog.text
    contract = dfmodels.build("ddl", num_frames=4, size=32).contract
    videos = read_index(root / "videos.csv")
    caplog.clear()
    for split, draw in (("train", "consecutive"), ("val", None), ("test", None)):
        rows = [video for video in videos if video.split == split]
        prepared, direct = (
            ClipSamples(rows, contract, source, draw=draw)
            for source in (CropSource(cache=tmp_path / "crops"), CropSource(f"boxes:{root / 'boxes.json'}"))
        )
        for i in range(len(direct)):
            assert torch.equal(prepared[i]["images"], direct[i]["images"])
    assert caplog.text == ""  # none was decoded for want of crops
    before = contents(tmp_path / "crops")
    assert prepare(root, tmp_path / "crops") == 0
    assert "6 of 6 videos are prepared already" in caplog.text
    assert contents(tmp_path / "crops") == before


def test_rows_and_limit(root: Path, tmp_path: Path, capsys) -> None:
    assert prepare(root, tmp_path / "crops", "--where", "split=train,method=swap", "--limit", "1") == 0
    assert capsys.readouterr().out.startswith("1 of 1 videos are prepared")
    assert len(list((tmp_path / "crops").glob("??/*"))) == 1


def test_some_fail(root: Path, tmp_path: Path, capsys, caplog) -> None:
    rows = [row for row in read_index(root / "videos.csv") if row.path.suffix == ".mp4"]
    broken = cut(root / "film1.mp4", 0.6)
    write_index(root / "some.csv", [*rows, Video(broken, 1, "train", "films", "swap", "broken")])
    assert prepare(root, tmp_path / "crops", "--max-bad", "25%", index="some.csv") == 1
    assert "3 of 4 videos are prepared" in (shown := capsys.readouterr().out)
    assert f"1 failed: {tmp_path / 'crops' / 'failed.csv'} says why" in shown
    assert str(broken) in (tmp_path / "crops" / "failed.csv").read_text()
    assert str(broken) in caplog.text
    assert prepare(root, tmp_path / "other", "--max-bad", "0.2", index="some.csv") == 1
    assert "1 of 4 videos could not be prepared, and 0.2 of them may" in caplog.text
    assert "--max-bad lets more of them fail" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-bad", "2"], "--max-bad must be a share such as 0.05 or 5%, got '2'"),
        (["--workers", "0"], "--workers must be at least 1, got 0"),
        (["--set", "frames_per_video=-1"], "frames_per_video must be a whole number of at least 0, got -1"),
        (["--set", "num_frames=4"], "recipe ddl has no setting 'num_frames'; .*options of the detector are model.KEY"),
        (["--set", "margins=[1, 1.7]", "--margin", "1.6"], "was prepared for margins up to 1.6, this run has 1.7"),
        (["--faces", "harr"], "faces must be one of .* did you mean haar"),
        (["--margin", "1.1"], "was prepared for margins up to 1.1, this run has 1.3"),
        (["--model", "dll"], "unknown recipe 'dll'; did you mean 'ddl'"),
        (["--where", "split=trian"], "no video has split 'trian'"),
    ],
)
def test_wrong_arguments(root: Path, tmp_path: Path, caplog, arguments: list[str], message: str) -> None:
    assert prepare(root, tmp_path / "crops", *arguments) == 2
    import re

    assert re.search(message, caplog.text)
    assert not list((tmp_path / "crops").glob("??"))


def test_another_setting_than_the_cache_has(root: Path, tmp_path: Path, caplog) -> None:
    assert prepare(root, tmp_path / "crops", "--limit", "1", "--where", "split=val") == 0
    assert prepare(root, tmp_path / "crops", "--faces", "none") == 2
    assert "was prepared with faces 'boxes:" in caplog.text
    assert prepare(root, tmp_path / "crops", "--select", "central") == 2
    assert "was prepared with select 'largest', this run has 'central'" in caplog.text


def started(root: Path, cache: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "dfmodels", "-q", "prepare", str(root / "videos.csv"), "--model", "ddl"]
    faces = ["--faces", f"boxes:{root / 'boxes.json'}", "--workers", "2"]
    return subprocess.Popen(
        [*command, "--cache", str(cache), *faces, "--set", *SETTINGS, *more], stderr=subprocess.PIPE
    )


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def children(pid: int) -> list[int]:
    """All processes below one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            if parent == pid:
                found += [int(entry.name), *children(int(entry.name))]
    return found


def alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_killed_and_begun_again(root: Path, tmp_path: Path) -> None:
    """At random moments; what was made meanwhile is complete, and the end is that of an undisturbed run."""
    assert prepare(root, tmp_path / "whole") == 0
    whole = contents(tmp_path / "whole")
    moments = random.Random(5)
    cache = tmp_path / "crops"
    for kill in range(10):
        process = started(root, cache)
        wait_for(lambda: (cache / "cache.json").exists() or process.poll() is not None)
        time.sleep(moments.uniform(0, 3 if kill % 2 else 6))
        below = children(process.pid)
        process.kill()
        process.communicate()
        wait_for(lambda: not any(map(alive, below)), 10)  # nobody goes on writing behind its back
        made = contents(cache)
        assert all(made[name] == whole[name] for name in made if not name.endswith(".part"))
    assert started(root, cache).wait() == 0
    assert contents(cache) == whole


def test_killed_once(root: Path, tmp_path: Path) -> None:
    assert prepare(root, tmp_path / "whole") == 0
    whole, cache = contents(tmp_path / "whole"), tmp_path / "crops"
    process = started(root, cache)
    wait_for(lambda: any(cache.glob("??/*.safetensors")) or process.poll() is not None)
    below = children(process.pid)
    assert len(below) >= 2
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_for(lambda: not any(map(alive, below)), 10)
    made = contents(cache)
    assert all(made[name] == whole[name] for name in made if not name.endswith(".part"))
    assert prepare(root, cache) == 0
    assert contents(cache) == whole


def test_two_at_once(root: Path, tmp_path: Path) -> None:
    assert prepare(root, tmp_path / "whole") == 0
    both = [started(root, tmp_path / "crops") for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert contents(tmp_path / "crops") == contents(tmp_path / "whole")


def test_full_disk(root: Path, tmp_path: Path) -> None:
    """A file may grow to 20 kB only, as where a quota or the disk ends: the real call fails."""
    import resource

    def small() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    command = [sys.executable, "-m", "dfmodels", "prepare", str(root / "videos.csv"), "--model", "ddl", "--cache"]
    result = subprocess.run(
        [*command, str(tmp_path / "crops"), "--faces", "none", "--workers", "1", "--set", *SETTINGS],
        preexec_fn=small,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert ".safetensors cannot be written: File too large" in result.stderr.splitlines()[-1]
    assert not list((tmp_path / "crops").glob("??/*"))


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_trains_from_what_was_prepared_for_it(root: Path, tmp_path: Path, name: str, caplog) -> None:
    films = [row for row in read_index(root / "videos.csv") if row.path.suffix == ".mp4"]
    target = Video(films[0].path.with_name("target.mp4"), 0, "train", "films", "real", "target")
    shutil.copy(films[0].path, target.path)
    rows = [replace(films[0], split="train", label=1, method="swap", target="target"), target]
    write_index(root / "two.csv", rows)
    command = ["prepare", str(root / "two.csv"), "--model", name, "--cache", str(tmp_path / "crops"), "--workers", "1"]
    assert main([*command, "--faces", f"boxes:{root / 'boxes.json'}", "--set", "model.size=128"]) == 0
    recipe = find_recipe(name).with_settings({"model.size": 128})
    contract = dfmodels.build(recipe.detector, **recipe.model).contract
    caplog.clear()
    samples = recipe.samples(rows, CropSource(cache=tmp_path / "crops"), contract)
    assert all(samples[i]["failed"] == "" for i in range(len(samples)))
    assert caplog.text == ""  # none was decoded for want of crops
