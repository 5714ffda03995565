"""Many videos prepared: what ends a process, a video or the disk costs no more than it must."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from dfmodels.data import prepare
from dfmodels.data.cache import CropCache
from dfmodels.data.index import Video
from dfmodels.data.plan import FramePlan
from dfmodels.data.prepare import CropJob, Prepared, TooManyFailedError, prepare_crops
from dfmodels.data.samples import begin_worker
from dfmodels.detector import InputContract
from tests.data.films import video, write_folder
from tests.video.videos import cut, write_video

CONTRACT = InputContract(num_frames=4, size=16, num_clips=2)
PLAN = FramePlan("windows", 4, 12)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("films")
    for i in range(6):
        write_folder(root / f"folder{i}", 8 + i)
    return root


def jobs_of(paths: list[Path]) -> list[CropJob]:
    return [CropJob(video(path), CONTRACT, PLAN) for path in paths]


def files(cache: CropCache) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(cache.folder.glob("??/*"))}


def test_all_are_prepared_once(root: Path, tmp_path: Path) -> None:
    jobs = jobs_of(sorted(root.iterdir()))
    cache = CropCache.open(tmp_path / "cache", faces="none")
    done: list[Prepared] = []
    assert prepare_crops([*jobs, jobs[0]], cache, workers=2, progress=done.append) == {}
    assert sorted(each.job.video.key for each in done) == [job.video.key for job in jobs]
    assert all(each.bytes > 0 and each.seconds > 0 for each in done)
    assert sorted(len(data) for data in files(cache).values()) == sorted(each.bytes for each in done)
    assert all(cache.find(job.video, CONTRACT, PLAN) for job in jobs)
    done.clear()
    before = {path: path.stat().st_mtime_ns for path in cache.folder.glob("??/*")}
    assert prepare_crops(jobs, cache, workers=2, progress=done.append) == {}
    assert [each.bytes for each in done] == [0] * 6
    assert {path: path.stat().st_mtime_ns for path in cache.folder.glob("??/*")} == before
    assert not (cache.folder / "failed.csv").exists()


def test_videos_that_fail_are_named_and_tried_again(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = cut(write_video(tmp_path / "film,1.mp4", 30), 0.5)
    gone = write_folder(tmp_path / "gone", 6)
    jobs = jobs_of([*sorted(root.iterdir()), damaged, gone])
    for file in gone.iterdir():
        file.unlink()
    gone.rmdir()
    cache = CropCache.open(tmp_path / "cache", faces="none")
    failed = prepare_crops(jobs, cache, workers=2, max_bad=0.25)
    assert set(failed) == {str(damaged), str(gone)}
    assert len(files(cache)) == 6
    for path, reason in failed.items():
        assert reason.startswith(path)
        assert sum(reason in record.message for record in caplog.records) == 1
    assert CropCache.read(cache.folder).failed == failed
    write_folder(gone, 6)
    again = prepare_crops(jobs, CropCache.read(cache.folder), workers=1, max_bad=0.25)
    assert set(again) == {str(damaged)} == set(CropCache.read(cache.folder).failed)
    # a call about other videos keeps what is known of these
    prepare_crops(jobs[:1], CropCache.read(cache.folder), workers=1)
    assert set(CropCache.read(cache.folder).failed) == {str(damaged)}


def test_too_many_that_fail_end_it(root: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"gone{i}" for i in range(6)]
    cache = CropCache.open(tmp_path / "cache", faces="none")
    with pytest.raises(
        TooManyFailedError, match=r"2 of 12 videos could not be prepared, and 0.1 of them may: .*failed"
    ):
        prepare_crops(jobs_of([*paths, *sorted(root.iterdir())]), cache, workers=1, max_bad=0.1)
    assert len(cache.read(cache.folder).failed) == 2
    with pytest.raises(ValueError, match="max_bad must be a share from 0 to 1, got 2"):
        prepare_crops([], cache, max_bad=2)
    with pytest.raises(ValueError, match="workers must be a whole number of at least 1, got 0"):
        prepare_crops([], cache, workers=0)


class Deadly:
    """A face detector that ends its process at one video, as a broken decoder does."""

    name, whole_frame = "deadly", False

    def __init__(self, marks: Path, tries: int) -> None:
        self.marks, self.tries = marks, tries

    def detect(self, frame, path):
        if Path(path).name == "folder3":
            mark = self.marks / str(time.monotonic_ns())
            if len(list(self.marks.iterdir())) < self.tries:
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return np.array([[20.0, 20, 60, 60, 1]])


def changed_work(change: Callable[[], None], connection: Connection, cache: CropCache) -> None:
    """What a worker does, once `change` has changed it: a fork of the tests' process would know, and may hang."""
    change()
    prepare.work(connection, cache)


def change_workers(monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]) -> None:
    monkeypatch.setattr(prepare, "work", partial(changed_work, change))


def find_faces_with(detector: Deadly) -> None:
    prepare.face_detector = lambda faces: detector


def fail_at_folder2() -> None:
    before = prepare.prepare_video

    def failing(video: Video, *arguments: object) -> int:
        if video.path.name == "folder2":
            raise MemoryError("no\nroom")
        return before(video, *arguments)

    prepare.prepare_video = failing


def fill_the_disk() -> None:
    before = Path.write_bytes
    written: list[int] = []

    def full(self: Path, data: bytes) -> int:
        if self.name.endswith(".part") and len(written) >= 2:
            before(self, data[:100])
            raise OSError(28, "No space left on device", str(self))
        written.append(len(data))
        return before(self, data)

    Path.write_bytes = full


@pytest.mark.parametrize("tries", [1, 2])
def test_a_video_that_ends_its_process(root: Path, tmp_path: Path, tries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "marks").mkdir()
    detector = Deadly(tmp_path / "marks", tries)
    change_workers(monkeypatch, partial(find_faces_with, detector))
    cache = CropCache.open(tmp_path / "cache", faces=detector)
    failed = prepare_crops(jobs_of(sorted(root.iterdir())), cache, workers=2, max_bad=0.5)
    assert len(files(cache)) == 6 - (tries == 2)
    if tries == 1:
        assert failed == {}
    else:
        ((path, reason),) = failed.items()
        assert path.endswith("folder3")
        assert "the process that read it ended 2 times, the last time by signal SIGKILL" in reason


def test_whatever_one_video_brings_about_costs_no_other(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_workers(monkeypatch, fail_at_folder2)
    cache = CropCache.open(tmp_path / "cache", faces="none")
    failed = prepare_crops(jobs_of(sorted(root.iterdir())), cache, workers=2, max_bad=0.5)
    assert list(failed.values()) == [f"{root / 'folder2'}: MemoryError: no room"]


def test_disk_full_is_a_clear_end(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_workers(monkeypatch, fill_the_disk)
    jobs = jobs_of(sorted(root.iterdir()))
    cache = CropCache.open(tmp_path / "cache", faces="none")
    with pytest.raises(OSError, match=r"\.safetensors cannot be written: No space left on device"):
        prepare_crops(jobs, cache, workers=1)
    monkeypatch.undo()
    assert len(files(cache)) == 2
    assert prepare_crops(jobs, cache, workers=1) == {}
    assert len(files(cache)) == 6


def test_estimate(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch) -> None:
    caplog.set_level("INFO", "dfmodels")
    jobs = jobs_of(sorted(root.iterdir()))
    cache = CropCache.open(tmp_path / "cache", faces="none")
    estimate = prepare.Estimate(100, 1, cache)
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10_000_000})())
    for job in jobs[:4]:
        estimate.add(Prepared(job, 2_000_000, 90.0))
    note, warning = (record.message for record in caplog.records)
    assert note.startswith("100 videos: about 200 MB, and 2 h 30 min in 1 at a time, by 4 of them; 10 MB are free in")
    assert "will not hold them: free 182 MB" in warning


def test_half_written_files_go_but_not_those_of_a_living_process(tmp_path: Path) -> None:
    cache = CropCache.open(tmp_path / "cache", faces="none")
    (cache.folder / "ab").mkdir()
    left = cache.folder / "ab" / ".film.mp4-123.safetensors.0123.part"
    left.touch()
    with cache.written():
        assert not left.exists()
        left.touch()
        with cache.written():
            assert left.exists()


class Threads(Dataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[int, int]:
        import cv2
        import torch

        return torch.get_num_threads(), cv2.getNumThreads()


def test_loader_workers_compute_in_one_thread() -> None:
    threads, of_cv2 = next(
        iter(DataLoader(Threads(), 2, num_workers=1, worker_init_fn=begin_worker, multiprocessing_context="spawn"))
    )
    assert threads.tolist() == of_cv2.tolist() == [1, 1]
