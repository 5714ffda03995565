"""What a training takes: samples, mappings of tensors, and data sets of them whose draws follow from the epoch."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from dfmodels.optional import require

# `images` (T, 3, H, W), or a group (D + 1, 3, H, W), as the detector's contract says; `label` 0 real, 1 fake, of a
# group (D + 1,); `video` the key of the video; further tensors by name
Sample = dict[str, Any]


class Samples(Dataset[Sample]):
    """Samples whose random draws follow from the seed, the epoch and the number of the sample alone.

    The number of workers, the order of the items and a restart do not change them.

    Attributes:
        seed: of all draws.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        # shared memory, so that workers that outlive an epoch see the next one
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Choose the draws of an epoch."""
        self._epoch.fill_(epoch)

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def sample(self, index: int, draws: np.random.Generator) -> Sample:
        """Sample number `index`; torch's own generator is seeded for it too."""

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"index must lie in [0, {len(self)}), got {index}")
        draws = np.random.default_rng([self.seed, int(self._epoch), index])
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(draws.integers(2**63)))  # torch.manual_seed would seed the GPUs too
            return self.sample(index, draws)


def one_thread(worker: int = 0) -> None:
    """Let this process compute in one thread: `worker_init_fn` of loaders, whose workers are the parallel part."""
    torch.set_num_threads(1)
    if find_spec("cv2") is not None:
        require("cv2", "reading images").setNumThreads(1)


def begin_worker(worker: int = 0) -> None:
    """First steps of a process that reads for the one that started it: `worker_init_fn` of loaders.

    It computes in one thread, leaves Ctrl-C to who started it, and ends with that one, `kill -9` included.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    one_thread()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextmanager
def starting_workers() -> Iterator[None]:
    """Processes that the block starts do not hear Ctrl-C, also before their first steps; this one hears it behind."""
    resource_tracker.ensure_running()  # its start would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
