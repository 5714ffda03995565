"""The batches of a training: which samples, in what order, and what loads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from dfmodels.data.index import Video
from dfmodels.data.samples import Samples, begin_worker, starting_workers
from dfmodels.training.recipe import Recipe


def balanced(videos: Sequence[Video], recipe: Recipe) -> list[Video]:
    """The videos, those of the rarer class again and again where the recipe says so."""
    chosen = list(videos)
    if recipe.balance == "oversample":
        classes = [[video for video in videos if video.label == label] for label in (0, 1)]
        rare, common = sorted(classes, key=len)
        chosen += [rare[i % len(rare)] for i in range(len(common) - len(rare))]
    return chosen


class Batches(Sampler[list[int]]):
    """The batches of one process in one epoch: a permutation by seed and epoch, without those that were done."""

    def __init__(self, count: int, recipe: Recipe, processes: int, process: int) -> None:
        self.count, self.recipe, self.processes, self.process = count, recipe, processes, process
        self.steps = count // (recipe.batch_size * recipe.accumulate * processes)
        self.epoch, self.done = 0, 0

    def __len__(self) -> int:
        return (self.steps - self.done) * self.recipe.accumulate

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(
            self.count, generator=torch.Generator().manual_seed(seed_of(self.recipe.seed, self.epoch))
        )
        size = self.recipe.batch_size
        for batch in range(self.done * self.recipe.accumulate, self.steps * self.recipe.accumulate):
            begin = (batch * self.processes + self.process) * size
            yield order[begin : begin + size].tolist()


def make_loader(samples: Samples, batches: Any, num_workers: int) -> DataLoader[Any]:
    # workers that begin as new programs inherit nothing of this one, neither locks nor threads; those of a fork server
    # would not see it die, as that is their parent
    return DataLoader(
        samples,
        batch_sampler=batches,
        num_workers=num_workers,
        multiprocessing_context="spawn" if num_workers else None,
        persistent_workers=num_workers > 0,  # what they know of films that are decoded on the fly is kept too
        worker_init_fn=begin_worker if num_workers else None,
        pin_memory=torch.cuda.is_available(),
    )


def started(loader: DataLoader[Any]) -> Iterator[Any]:
    """The batches of a loader, whose workers it starts where they do not run yet."""
    with starting_workers():
        return iter(loader)


def next_batch(batches: Iterator[Any]) -> Any:
    """The next batch; an error of a worker as that worker raised it, without the lines of its program."""
    try:
        return next(batches)
    except (ValueError, OSError, RuntimeError) as error:
        first, _, rest = str(error).partition("\n")
        if first.startswith("Caught ") and rest:
            raise type(error)(rest.rstrip().rsplit("\n", 1)[-1].partition(": ")[2]) from error
        raise


def seed_of(*numbers: int) -> int:
    """One seed out of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
