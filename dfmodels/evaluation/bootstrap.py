"""Bootstrap intervals, resampled by video: the frames of one are not independent of each other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from dfmodels.evaluation.metrics import Curves
from dfmodels.progress import progress_bar

RESAMPLES = 1000
COVERED = 0.95


def intervals(
    curves: Sequence[Curves], n_real: int, n_fake: int, *, resamples: int, seed: int
) -> list[NDArray[np.float64]]:
    """Percentile intervals of AUC, AP and EER for the groups of each of `curves`.

    All groups of all curves see the same resamples. One in which a group has no real or no fake does not count for it.

    Args:
        curves: with videos numbered so that 0 to n_real - 1 are real and the `n_fake` behind them fake.
        n_real, n_fake: numbers of videos.
        resamples: how many are drawn.
        seed: the interval is a function of it, and not of the number of threads.

    Returns:
        (3, G, 2) for each of `curves`: lower and upper end; NaN where no resample counts.
    """
    found = [np.empty((resamples, 3, len(each.sizes))) for each in curves]

    def resample(number: int) -> None:
        weights = draw(seed, number, n_real, n_fake)
        for each, values in zip(curves, found, strict=True):
            values[number] = each.areas(weights)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        bar = progress_bar(pool.map(resample, range(resamples)), desc="bootstrap", total=resamples, unit="resample")
        for _ in bar:
            pass
    tail = (1 - COVERED) / 2
    return [_percentiles(values, (tail, 1 - tail)) for values in found]


def draw(seed: int, number: int, n_real: int, n_fake: int) -> NDArray[np.int32]:
    """How often each video is in the resample of this number: reals are drawn among reals, fakes among fakes."""
    generator = np.random.default_rng([seed, number])
    drawn = [np.bincount(generator.integers(0, n, n, np.uint32), minlength=n) for n in (n_real, n_fake) if n]
    return np.concatenate([np.empty(0, np.int64), *drawn]).astype(np.int32)


def _percentiles(values: NDArray[np.float64], shares: tuple[float, float]) -> NDArray[np.float64]:
    """Of values (K, 3, G) over K, NaN left out: (3, G, 2)."""
    ends = np.full((*values.shape[1:], len(shares)), np.nan)
    for place in np.ndindex(values.shape[1:]):
        counted = values[:, place[0], place[1]]
        counted = counted[~np.isnan(counted)]
        if len(counted):
            ends[place] = np.quantile(counted, shares)
    return ends
