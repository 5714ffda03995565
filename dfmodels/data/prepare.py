"""A cache of crops filled for many videos, by several processes that may end at any moment."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from dfmodels.cluster import TRIES, RayPool, portable, ray_pool
from dfmodels.data.cache import FAILED, CropCache, prepare_video
from dfmodels.data.index import Video
from dfmodels.data.plan import FramePlan
from dfmodels.data.samples import begin_worker, one_thread, starting_workers
from dfmodels.detector import InputContract
from dfmodels.options import check_count
from dfmodels.video.faces import FaceDetector, face_detector
from dfmodels.video.frame import VideoError

LOG = logging.getLogger(__name__)
MEASURED = 4  # videos a process at least that an estimate rests on


@dataclass(frozen=True)
class CropJob:
    """One video to prepare: which frames of it, to be cut how."""

    video: Video
    contract: InputContract
    plan: FramePlan


@dataclass(frozen=True)
class Prepared:
    """What became of a video: bytes written and seconds taken, or why it failed."""

    job: CropJob
    bytes: int = 0
    seconds: float = 0.0
    failed: str = ""


class TooManyFailedError(RuntimeError):
    """More videos failed than may."""


def prepare_crops(
    jobs: Sequence[CropJob],
    cache: CropCache,
    *,
    workers: int | None = None,
    ray: bool = False,
    max_bad: float = 0.01,
    progress: Callable[[Prepared], object] | None = None,
) -> dict[str, str]:
    """Prepare the crops of videos that are not prepared yet; what failed before is tried again.

    Files come into being whole, one a video: a call that was ended anyhow, `kill -9` included, leaves a cache with
    which the next one goes on, and several calls at once do no harm. An estimate of size and time goes to the log once
    a few videos are done, and each video that fails, which `failed.csv` names too.

    Args:
        jobs: the videos; each is done once.
        cache: where to.
        workers: processes; None is one a core.
        ray: whether they are those of a Ray cluster, as of `dfmodels.cluster.ray_pool`.
        max_bad: share of `jobs` that may fail.
        progress: called for every video done, after one call with each that was there already.

    Returns:
        Reason of every video that failed, by its key.

    Raises:
        ValueError: an argument out of range.
        ImportError: Ray is needed and not installed.
        TooManyFailedError: more failed than may.
        OSError: the cache cannot be written, as where the disk is full.
    """
    if workers is not None:
        check_count("workers", workers)
    if not 0 <= max_bad <= 1:
        raise ValueError(f"max_bad must be a share from 0 to 1, got {max_bad}")
    jobs = list({cache.file(job.video, job.contract, job.plan): job for job in jobs}.values())
    progress = progress or (lambda prepared: None)
    reasons: dict[str, str] = {}
    with cache.written(), ExitStack() as stack:
        asked = {job.video.key for job in jobs}
        others = {key: reason for key, reason in cache.failed.items() if key not in asked}
        if len(others) < len(cache.failed):
            cache.note_failed(others)
        left = []
        for job in jobs:
            if cache.find(job.video, job.contract, job.plan) is None:
                left.append(job)
            else:
                progress(Prepared(job))
        if len(left) < len(jobs):
            LOG.info("%d of %d videos are prepared already", len(jobs) - len(left), len(jobs))
        # two calls at once meet few videos that the other is at, and an estimate rests on any of them
        random.Random(os.getpid()).shuffle(left)
        if ray and left:
            pool = stack.enter_context(ray_pool(workers))
            results, workers = prepared_on_ray(left, cache, pool), pool.workers
        else:
            workers = workers or usable_cores()
            results = prepared_by(left, cache, workers)
        estimate = Estimate(len(left), workers, cache)
        for prepared in stack.enter_context(closing(results)):
            estimate.add(prepared)
            if prepared.failed:
                reasons[prepared.job.video.key] = prepared.failed
                LOG.warning("%s", prepared.failed)
                cache.note_failed({**others, **reasons})
            progress(prepared)
            if len(reasons) > max_bad * len(jobs):
                raise TooManyFailedError(
                    f"{len(reasons)} of {len(jobs)} videos could not be prepared, and {max_bad:.3g} of them may: "
                    f"{cache.folder / FAILED} says why; what is prepared is kept"
                )
    return reasons


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Estimate:
    """Says what all videos will take once a few of them are done."""

    def __init__(self, total: int, workers: int, cache: CropCache) -> None:
        self.total, self.workers, self.cache = total, workers, cache
        self.done: list[Prepared] = []

    def add(self, prepared: Prepared) -> None:
        self.done.append(prepared)
        if len(self.done) == min(self.total, MEASURED * self.workers):
            size = self.total * sum(each.bytes for each in self.done) / len(self.done)
            seconds = self.total * sum(each.seconds for each in self.done) / len(self.done)
            free = shutil.disk_usage(self.cache.folder).free
            LOG.info(
                "%d videos: about %s, and %s in %d at a time, by %d of them; %s are free in %s",
                self.total,
                in_bytes(size),
                in_time(seconds / min(self.workers, self.total)),
                self.workers,
                len(self.done),
                in_bytes(free),
                self.cache.folder,
            )
            rest = size * (self.total - len(self.done)) / self.total
            if rest > free:
                LOG.warning(
                    "the disk of %s will not hold them: free %s, or use a disk that does",
                    self.cache.folder,
                    in_bytes(rest - free),
                )


def in_bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def in_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


# ---------------------------------------------------------------------- processes


def prepared_by(jobs: Sequence[CropJob], cache: CropCache, workers: int) -> Generator[Prepared, None, None]:
    """Prepare videos in processes of their own, in no order; one that ends costs its video at most."""
    # a fork would inherit locks that threads of this process hold
    context = multiprocessing.get_context(
        "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    )
    if hasattr(context, "set_forkserver_preload"):
        context.set_forkserver_preload([__name__])
    left = deque((job, 1) for job in jobs)
    busy: dict[Connection, tuple[BaseProcess, CropJob, int]] = {}
    idle: list[tuple[Connection, BaseProcess]] = []
    try:
        while left or busy:
            while left and len(busy) < workers:
                if not idle:
                    idle.append(started(context, cache))
                connection, process = idle.pop()
                job, tries = left.popleft()
                busy[connection] = process, job, tries
                with suppress(OSError):  # it has ended, which shows below
                    connection.send(job)
            for connection in [each for each in wait(list(busy)) if isinstance(each, Connection)]:
                process, job, tries = busy.pop(connection)
                try:
                    answer = connection.recv()
                except (EOFError, OSError):
                    process.join()
                    connection.close()
                    if tries < TRIES:
                        left.append((job, tries + 1))
                    else:
                        yield ended(job, f", the last time {how(process.exitcode)}")
                    continue
                idle.append((connection, process))
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
    finally:
        for connection, process in [*idle, *((connection, process) for connection, (process, *_) in busy.items())]:
            connection.close()
            process.terminate()
        for process in [*(process for _, process in idle), *(process for process, *_ in busy.values())]:
            process.join()


def prepared_on_ray(jobs: Sequence[CropJob], cache: CropCache, pool: RayPool) -> Generator[Prepared, None, None]:
    """Prepare videos by the workers of a Ray cluster, in no order."""
    with closing(pool.answers(partial(preparing, cache), jobs)) as answers:
        for number, prepared in answers:
            yield ended(jobs[number]) if prepared is None else prepared


def preparing(cache: CropCache, device: str) -> Callable[[CropJob], Prepared]:
    """What a worker prepares videos with."""
    one_thread()
    return partial(prepared_one, cache=cache, detector=face_detector(cache.faces))


def ended(job: CropJob, more: str = "") -> Prepared:
    return Prepared(job, failed=f"{job.video.path}: the process that read it ended {TRIES} times{more}")


def how(code: int | None) -> str:
    return f"by signal {signal.Signals(-code).name}" if code and code < 0 else f"with exit code {code}"


def started(context: Any, cache: CropCache) -> tuple[Connection, BaseProcess]:
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, cache), daemon=True)
    with starting_workers():
        process.start()
    theirs.close()
    try:
        ours.recv()  # it is ready
    except EOFError as error:
        process.join()
        raise RuntimeError(
            f"a process to prepare videos could not be started, it ended {how(process.exitcode)}; what it wrote above "
            'says why (a script that prepares videos does so below `if __name__ == "__main__":`)'
        ) from error
    return ours, process


def work(connection: Connection, cache: CropCache) -> None:
    """Prepare the videos that arrive, until nobody sends any."""
    begin_worker()
    connection.send(None)
    detector: FaceDetector | None = None
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return
        answer: Prepared | BaseException
        try:
            if detector is None:
                detector = face_detector(cache.faces)
            answer = prepared_one(job, cache, detector)
        except Exception as error:
            answer = portable(error)
        connection.send(answer)


def prepared_one(job: CropJob, cache: CropCache, detector: FaceDetector) -> Prepared:
    """Prepare one video; what is wrong with it alone is what became of it.

    Raises:
        OSError, ImportError: nothing could be prepared.
    """
    begun = time.perf_counter()
    try:
        written = prepare_video(job.video, cache, job.contract, job.plan, detector)
    except VideoError as error:
        return Prepared(job, seconds=time.perf_counter() - begun, failed=" ".join(str(error).split()))
    except (OSError, ImportError):
        raise
    except Exception as error:  # whatever one video brings about costs no other
        LOG.debug("%s", job.video.path, exc_info=True)
        return Prepared(job, failed=f"{job.video.path}: {type(error).__name__}: {' '.join(str(error).split())}")
    return Prepared(job, written, time.perf_counter() - begun)
