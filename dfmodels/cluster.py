"""The same work for many items by the processes of a Ray cluster, which may end at any moment."""

from __future__ import annotations

import logging
import os
import pickle
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from dfmodels.optional import require
from dfmodels.options import check_choice, check_count

__all__ = ["TRIES", "RayPool", "portable", "ray_pool"]

PART = 20_000  # items that Ray Data has at a time: each costs it memory, and a millisecond before the first is answered
TRIES = 2  # of an item at which the process ends that works on it
DEVICES = "auto", "cpu", "cuda"  # which of several GPUs a worker has is the cluster's affair
CONNECT = 10  # seconds in which a cluster must answer, once Ray is imported
CONNECTING = 'import sys, ray; print(flush=True); ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")'
Item = TypeVar("Item")
Answer = TypeVar("Answer")


@contextmanager
def ray_pool(workers: int | None = None, device: str = "cpu") -> Iterator[RayPool]:
    """Workers on the Ray cluster that this process is connected to, else on that of the variable RAY_ADDRESS.

    Without either, a cluster of this machine's cores alone begins and ends with the block. It sends no usage statistics
    unless the variable RAY_USAGE_STATS_ENABLED asks for them.

    Args:
        workers: how many; None is one a core of the cluster.
        device: "cpu", "cuda", or "auto": GPUs where the cluster has any. Workers share them evenly.

    Raises:
        ImportError: Ray is not installed.
        ValueError: an argument out of range, or a cluster without the device or without cores.
        OSError: there is no cluster at the address.
    """
    if workers is not None:
        check_count("workers", workers)
    check_choice("device", device, DEVICES)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = require("ray", "work on a cluster")
    require("ray.data", "work on a cluster")
    begun = not ray.is_initialized()
    if begun:
        address = os.environ.get("RAY_ADDRESS") or "local"
        own = {"num_cpus": workers, "include_dashboard": False} if address == "local" else {}
        if not own:
            check_cluster(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise no_cluster(address, str(error)) from error
    try:
        resources = ray.cluster_resources()
        gpus = resources.get("GPU", 0.0) if device != "cpu" else 0.0
        if device == "cuda" and not gpus:
            raise ValueError("device must be auto or cpu on a Ray cluster without a GPU, got 'cuda'")
        cores = int(resources.get("CPU", 0))
        if not cores:  # workers would wait for one without end
            raise ValueError(
                "a Ray cluster must have cores for its workers (`ray start --num-cpus`), this one has none"
            )
        yield RayPool(workers or cores, gpus)
    finally:
        if begun:
            ray.shutdown()


def check_cluster(address: str) -> None:
    """Raise OSError unless there is a cluster: Ray itself looks for one for minutes, and lets no signal end that."""
    command = [sys.executable, "-c", CONNECTING, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has imported Ray, or failed
        try:
            _, errors = process.communicate(timeout=CONNECT)
        except subprocess.TimeoutExpired:
            process.kill()
            _, errors = process.communicate()
    if process.returncode:
        said = errors.strip().splitlines() or [f"nothing answers within {CONNECT} s"]
        raise no_cluster(address, re.sub(r"^\[.*?\] ", "", said[-1]))  # without the time


def no_cluster(address: str, reason: str) -> OSError:
    return OSError(
        f"no Ray cluster can be joined at {address!r}, which the variable RAY_ADDRESS names ({reason}): give the "
        "HOST:PORT of one (`ray start --head` begins one and tells it), or unset it, and this machine alone works"
    )


@dataclass(frozen=True)
class RayPool:
    """Workers of a Ray cluster; see `ray_pool`.

    Attributes:
        workers: how many.
        gpus: which they share.
    """

    workers: int
    gpus: float

    def answers(
        self, make: Callable[[str], Callable[[Item], Answer]], items: Sequence[Item]
    ) -> Generator[tuple[int, Answer | None], None, None]:
        """Answers of the workers to items, each exactly once and as soon as it is there.

        Args:
            make: gives what a worker answers with, once a worker, by the device that it has, "cpu" or "cuda". It is
                pickled, as items and answers are; relative paths lead from the folder at hand, which must be there
                on every machine.
            items: each goes to one worker, and again to one if that worker's process ends.

        Yields:
            The number of an item with its answer, None where the process ended TRIES times.

        Raises:
            Exception: what `make` or an answer raised; see `portable`.
        """
        if not items:
            return
        ray = require("ray", "work on a cluster")
        attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote()
        for begin in range(0, len(items), PART):
            yield from self._part(make, range(begin, min(begin + PART, len(items))), items, attempts)

    def _part(
        self, make: Callable[[str], Callable[[Item], Answer]], numbers: range, items: Sequence[Item], attempts: Any
    ) -> Generator[tuple[int, Answer | None], None, None]:
        ray, data = require("ray", "work on a cluster"), require("ray.data", "work on a cluster")
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        data.DataContext.get_current().enable_progress_bars = False
        workers = min(self.workers, len(numbers))
        rows = [{"number": number, "item": pickle.dumps(items[number])} for number in numbers]
        # a row a block and a block a task, so that what ends a process costs one item
        answers = data.from_items(rows, override_num_blocks=len(rows)).map(
            Worker,
            fn_constructor_args=(make, self.gpus > 0, os.getcwd(), attempts, TRIES * workers),
            compute=data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
            num_cpus=1,
            num_gpus=min(1.0, self.gpus / workers) or None,
        )
        left = set(numbers)
        try:
            for row in answers.iter_rows():
                answer = pickle.loads(row["answer"])
                if isinstance(answer, Exception):
                    raise answer
                if row["number"] in left:
                    left.remove(row["number"])
                    yield row["number"], answer
                del row, answer
        except ray.exceptions.RayError as error:
            raise RuntimeError(f"the Ray cluster fails: {' '.join(str(error).split())}") from error
        for number in sorted(left):
            yield number, None


class Attempts:
    """An actor that counts what was begun: Ray Data itself tries again without end."""

    def __init__(self) -> None:
        self.items: Counter[int] = Counter()
        self.workers = 0  # since an item was begun

    def begin_worker(self) -> int:
        self.workers += 1
        return self.workers

    def begin(self, number: int) -> int:
        self.workers = 0
        self.items[number] += 1
        return self.items[number]


class Worker:
    """An actor that answers to one item after the other."""

    def __init__(
        self, make: Callable[[str], Callable[[Any], Any]], gpu: bool, folder: str, attempts: Any, most: int
    ) -> None:
        self.ray = require("ray", "work on a cluster")
        self.attempts = attempts
        self.failure: Exception | None = None
        try:
            if self.ray.get(attempts.begin_worker.remote()) > most:
                raise OSError(f"{most} processes ended before they could begin; is there memory for so many workers?")
            os.chdir(folder)
            self.answer = make("cuda" if gpu and torch.cuda.is_available() else "cpu")
        except Exception as error:  # raised here, it would be tried again
            self.failure = portable(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        answer: Any = None
        number = int(row["number"])
        try:
            if self.failure is not None:
                answer = self.failure
            elif self.ray.get(self.attempts.begin.remote(number)) <= TRIES:
                answer = self.answer(pickle.loads(row["item"]))
        except Exception as error:
            answer = portable(error)
        return {"number": number, "answer": pickle.dumps(answer)}


def portable(error: Exception) -> Exception:
    """An error that another process can be told: not every one survives being sent."""
    for kind in (OSError, ImportError, ValueError):
        if isinstance(error, kind):
            return kind(str(error))
    return RuntimeError(f"{type(error).__name__}: {error}")
