"""What a table of scores says of a detector: the content of metrics.json."""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfmodels.evaluation.bootstrap import RESAMPLES, intervals
from dfmodels.evaluation.metrics import (
    AREAS,
    THRESHOLD,
    Curves,
    as_deepfakebench,
    at_threshold,
    check_threshold,
    on_curve,
)
from dfmodels.evaluation.table import METHOD, NONE, Column, Scores
from dfmodels.options import check_count
from dfops import __version__

IDENTITIES = ("id", "target", "source")  # columns of an index that name people, and group nothing
MOST_GROUPS = 1000  # of one column
UNKNOWN_TRAINING = "the methods of the training index are not known"


@dataclass(frozen=True)
class Group:
    """Rows that are judged together.

    Attributes:
        key: where its metrics stand in the report of a level.
        fakes: its rows of fakes with a score.
        reals: the same of its reals; None where it has none and is judged against all of them.
        n_failed: how many of its rows have no score.
    """

    key: tuple[str, ...]
    fakes: NDArray[np.int64]
    reals: NDArray[np.int64] | None
    n_failed: int


def judge(
    scores: Scores,
    *,
    threshold: float = THRESHOLD,
    seen_methods: Collection[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    average: str = "probabilities",
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All metrics of a table of scores on all its levels, for all rows and for every group.

    Args:
        scores: the table.
        threshold: rows with a score from it on are called fake.
        seen_methods: methods that the detector was trained on; None where nobody knows.
        resamples: of the bootstrap; with 0 there are no intervals.
        seed: of the bootstrap.
        average: what makes the score of a video of those of its frames or clips, as for `Scores.by_video`.
        about: further facts, by name.

    Returns:
        `levels`, `as_deepfakebench`, `failed` and `about`, as docs/evaluation.md describes metrics.json.

    Raises:
        ValueError: another threshold, number of resamples or average; frames of one video with different labels.
    """
    check_threshold(threshold)
    check_count("resamples", resamples, 0)
    check_count("seed", seed, 0)
    videos = scores.by_video(average)
    tables = [(scores, scores.video_rows())] if scores.level != "video" else []
    tables.append((videos, np.arange(len(videos))))
    levels = {
        table.level: _level(
            table, of_row, videos, threshold=threshold, seen_methods=seen_methods, resamples=resamples, seed=seed
        )
        for table, of_row in tables
    }
    return {
        "levels": levels,
        "as_deepfakebench": as_deepfakebench(scores),
        "failed": scores.failed(),
        "about": {
            "weights": None,
            "detector": None,
            "index_hash": None,
            "versions": {
                "dfmodels": __version__,
                "numpy": np.__version__,
                "scikit-learn": version("scikit-learn"),
                "python": platform.python_version(),
            },
            "threshold": float(threshold),
            "resamples": resamples,
            "seed": seed,
            "average": average,
            **(about or {}),
        },
    }


def _level(
    table: Scores,
    of_row: NDArray[np.int64],
    videos: Scores,
    *,
    threshold: float,
    seen_methods: Collection[str] | None,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    groups, why = _groups(table, seen_methods)
    all_reals = np.flatnonzero(table.scored & ~table.fake)
    found = []
    for group in groups:
        rows = np.concatenate([all_reals if group.reals is None else group.reals, group.fakes])
        found.append(at_threshold(table.fake[rows], table.score[rows], threshold))
        found[-1] |= {"n_failed": group.n_failed, "ci": {}}
    curved = [i for i in range(len(groups)) if found[i]["n_real"] and found[i]["n_fake"]]
    against_all = [i for i in curved if groups[i].reals is None]
    against_own = [(i, reals) for i in curved if (reals := groups[i].reals) is not None]
    # real videos first, as the bootstrap draws them; a video without a score is not drawn
    real, fake = videos.scored & ~videos.fake, videos.scored & videos.fake
    number = np.where(real, np.cumsum(real), real.sum() + np.cumsum(fake)) - 1
    parts: list[tuple[list[int], Curves]] = []
    if against_all:
        fakes = [groups[i].fakes for i in against_all]
        parts.append((against_all, Curves(table.score, fakes, all_reals, number[of_row])))
    if against_own:
        fakes = [groups[i].fakes for i, _ in against_own]
        members = [i for i, _ in against_own]
        parts.append((members, Curves(table.score, fakes, [rows for _, rows in against_own], number[of_row])))
    ones = np.ones(int(real.sum() + fake.sum()), np.int32)
    for members, curves in parts:
        for i, areas, rates in zip(members, curves.areas(ones).T, curves.rates(), strict=True):
            found[i] |= on_curve(areas, *rates)
    if resamples and parts:
        ends = intervals(
            [curves for _, curves in parts], int(real.sum()), int(fake.sum()), resamples=resamples, seed=seed
        )
        videos_of_reals = len(np.unique(of_row[all_reals]))
        for (members, _), each in zip(parts, ends, strict=True):
            for i, pairs in zip(members, np.moveaxis(each, 1, 0), strict=True):
                reals = groups[i].reals
                counts = (
                    videos_of_reals if reals is None else len(np.unique(of_row[reals])),
                    len(np.unique(of_row[groups[i].fakes])),
                )
                if min(counts) < 2:
                    found[i]["why"]["ci"] = f"{counts[0]} real and {counts[1]} fake videos: one cannot be resampled"
                elif np.isnan(pairs).any():
                    found[i]["why"]["ci"] = f"none of {resamples} resamples holds both classes"
                else:
                    found[i]["ci"] = {name: pair.tolist() for name, pair in zip(AREAS, pairs, strict=True)}
    report: dict[str, Any] = {}
    for group, metrics in zip(groups, found, strict=True):
        inside = report
        for key in group.key[:-1]:
            inside = inside.setdefault(key, {})
        inside[group.key[-1]] = metrics
    for name in ("seen", "unseen"):
        report.setdefault(name, None)
    return report | {"why": why}


def _groups(table: Scores, seen_methods: Collection[str] | None) -> tuple[list[Group], dict[str, str]]:
    """All groups of a level, and why some that one might look for are none."""
    why = dict(table.left_out)
    groups = [_group(table, ("all",), np.arange(len(table)))]
    for name, column in table.columns.items():
        if name in IDENTITIES:
            why[name] = "names people"
        elif len(column.names) > MOST_GROUPS:
            why[name] = f"{len(column.names)} values, more than {MOST_GROUPS}"
        else:
            groups += [
                _group(table, (name, value), rows)
                for value, rows in sorted(_rows_by_value(column).items())
                if len(rows) and (name != METHOD or table.fake[rows].any())
            ]
    method = table.columns.get(METHOD)
    if seen_methods is None or method is None:
        reason = UNKNOWN_TRAINING if seen_methods is None else f"no column {METHOD!r}"
        return groups, why | {"seen": reason, "unseen": reason}
    known = np.array([*(name in seen_methods for name in method.names), False])
    for key, wanted in (("seen", known), ("unseen", ~known)):
        rows = np.flatnonzero(table.fake & wanted[method.codes] & (method.codes != NONE))
        if len(rows):
            groups.append(_group(table, (key,), rows))
        else:
            held = "held" if key == "seen" else "did not hold"
            why[key] = f"no row of a method that the training index {held}"
    return groups, why


def _group(table: Scores, key: tuple[str, ...], rows: NDArray[np.int64]) -> Group:
    fake, scored = table.fake[rows], table.scored[rows]
    own = (~fake).any()
    failed = (~scored).sum() + (0 if own else (~table.fake & ~table.scored).sum())
    return Group(key, rows[fake & scored], rows[~fake & scored] if own else None, int(failed))


def _rows_by_value(column: Column) -> dict[str, NDArray[np.int64]]:
    """The rows in which each of the names of a column stands."""
    order = np.argsort(column.codes, kind="stable")
    bounds = np.searchsorted(column.codes[order], np.arange(len(column.names) + 1))
    return dict(zip(column.names, np.split(order, bounds)[1:-1], strict=True))
