"""Metrics of scores against labels.

The area under the ROC curve, average precision and the equal error rate of many groups of rows, which share reals and
are resampled a thousand times, are computed from ranks that are found once; docs/evaluation.md has the definitions, and
scikit-learn agrees wherever it has the same metric.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dfmodels.evaluation.table import Column, Scores
from dfmodels.options import is_number, refuse

THRESHOLD = 0.5
AREAS = ("auc", "ap", "eer")  # those with an interval
BINS = 15  # of the calibration error
NAMES = (
    *AREAS,
    "accuracy",
    "balanced_accuracy",
    "f1",
    "precision",
    "recall",
    "fpr_at_tpr95",
    "tpr_at_fpr01",
    "threshold",
    "ece",
    "brier",
)
BOTH_CLASSES = (*AREAS, "balanced_accuracy", "f1", "precision", "fpr_at_tpr95", "tpr_at_fpr01")
BENCH = ("acc", "auc", "eer", "ap", "video_auc")


class Curves:
    """The ROC curves of G groups of rows under weights of their videos.

    The rank of every fake among the reals of its group is found here, once; `areas` then takes time proportional to
    the number of rows, whatever the weights are.

    Args:
        scores: (N,), finite.
        fakes: rows of the fakes of each group, at least one each.
        reals: rows of the reals of each group, at least one each; or of those that all groups share.
        video: (N,), whose weight a row has; each row its own without it.
    """

    def __init__(
        self,
        scores: NDArray[np.float64],
        fakes: Sequence[NDArray[np.int64]],
        reals: Sequence[NDArray[np.int64]] | NDArray[np.int64],
        video: NDArray[np.int64] | None = None,
    ) -> None:
        shared = isinstance(reals, np.ndarray)
        pools = [_ordered(scores, rows) for rows in ([reals] if isinstance(reals, np.ndarray) else reals)]
        places = _ends(pools)
        ordered = [_ordered(scores, rows) for rows in fakes]
        self.sizes = np.array([len(rows) for rows in ordered])
        self.bounds = _ends(ordered)
        above, upto, ties = [], [], []
        for group, rows in enumerate(ordered):
            pool, begin = (pools[0], 0) if shared else (pools[group], places[group])
            falling, reals_falling = -scores[rows], -scores[pool]
            above.append(begin + np.searchsorted(reals_falling, falling, "left"))
            upto.append(begin + np.searchsorted(reals_falling, falling, "right"))
            last = np.append(falling[1:] != falling[:-1], True)  # of those that tie
            ties.append(self.bounds[group] + np.flatnonzero(last))
        self.above, self.upto = np.concatenate(above), np.concatenate(upto)
        self.corners = _ends(ties)
        ends = np.concatenate(ties)
        self.ends: slice | NDArray[np.int64] = slice(None) if len(ends) == self.bounds[-1] else ends
        self.begin = np.zeros(len(fakes), np.int64) if shared else places[:-1]
        self.end = np.full(len(fakes), places[-1]) if shared else places[1:]
        self.shared = shared
        self.untied = np.array_equal(self.above, self.upto)
        of_row = np.arange(len(scores)) if video is None else video
        self.of_real = of_row[np.concatenate(pools)].astype(np.int32)
        self.of_fake = of_row[np.concatenate(ordered)].astype(np.int32)

    def areas(self, weights: NDArray[np.int32]) -> NDArray[np.float64]:
        """AUC, AP and EER (3, G), NaN where the fakes or the reals of a group weigh nothing.

        Args:
            weights: whole numbers by video; a row counts as often.
        """
        pos, neg, tp, fp, heavy, above, upto = self._counted(weights)
        starts = self.bounds[:-1]
        found = np.full((3, len(pos)), math.nan)
        pairs = pos * neg
        with np.errstate(invalid="ignore", divide="ignore"):
            # AUC = 1 - sum_i w_i (FP_above(i) + FP_upto(i)) / (2 P N): reals that a fake does not beat, ties half
            beaten = 2 * upto if self.untied else above + upto
            beaten *= heavy
            found[0] = 1 - np.add.reduceat(beaten, starts) / (2 * pairs)
            # AP = sum over thresholds of (recall - recall before) * precision
            called = fp + tp
            np.maximum(called, 1, out=called)
            precision = tp / called
            gained = heavy if isinstance(self.ends, slice) else np.add.reduceat(heavy, _starts(self.ends))
            precision *= gained
            found[1] = np.add.reduceat(precision, self.corners[:-1]) / pos
            found[2] = self._equal_error(pos, neg, tp, fp, above)
        found[:, pairs == 0] = math.nan
        return found

    def rates(self) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """FPR and TPR of each group where a row weighs 1, at every threshold that is the score of a fake."""
        pos, neg, tp, fp, *_ = self._counted(None)
        spans = [slice(*span) for span in zip(self.corners[:-1], self.corners[1:], strict=True)]
        return [(fp[span] / neg[group], tp[span] / pos[group]) for group, span in enumerate(spans)]

    def _counted(self, weights: NDArray[np.int32] | None) -> tuple[NDArray[Any], ...]:
        """Weights of fakes and reals (G,); true and false positives (E,) at the last fake of every tie; weight of each
        fake, and false positives above it and with its own score (F,).
        """
        real = np.ones(len(self.of_real), np.int32) if weights is None else weights[self.of_real]
        heavy = np.ones(len(self.of_fake), np.int32) if weights is None else weights[self.of_fake]
        total, sums = _summed(real), _summed(heavy)
        above = total[self.above]
        upto = above if self.untied else total[self.upto]
        if not self.shared:
            before = np.repeat(total[self.begin], self.sizes)
            above = above - before
            upto = above if self.untied else upto - before
        ends = self.ends
        tp = sums[1:][ends] - np.repeat(sums[self.bounds[:-1]], np.diff(self.corners))
        pos = np.diff(sums[self.bounds])
        return pos, total[self.end] - total[self.begin], tp, upto[ends], heavy, above, upto

    def _equal_error(
        self,
        pos: NDArray[np.int64],
        neg: NDArray[np.int64],
        tp: NDArray[np.int64],
        fp: NDArray[np.int64],
        above: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Where FPR = FNR on the lines between the corners of the ROC curve, (G,)."""
        # the first corner, a fake's, with FPR >= FNR; the last one of a group always has
        low, high = self.corners[:-1].copy(), self.corners[1:] - 1
        while (low < high).any():
            middle = (low + high) // 2
            reached = fp[middle] * pos + tp[middle] * neg >= pos * neg
            high = np.where(reached, middle, high)
            low = np.where(reached, low, np.minimum(middle + 1, high))
        first = low == self.corners[:-1]
        missed = (pos - np.where(first, 0, tp[low - 1])) / pos
        at = low if isinstance(self.ends, slice) else self.ends[low]
        start, stop = above[at] / neg, fp[low] / neg
        # along the reals before it FNR does not change; then a line, slanted where fakes and reals tie
        rest, gap = missed - start, stop - (pos - tp[low]) / pos
        line = start + np.where(rest > 0, rest, 0) / np.where(rest + gap > 0, rest + gap, 1) * (stop - start)
        return np.where(rest <= 0, missed, line)


def measure(labels: ArrayLike, scores: ArrayLike, *, threshold: float = THRESHOLD) -> dict[str, Any]:
    """All metrics of one group, with the reason beside every one that these rows do not define.

    Args:
        labels: (N,), 0 real, 1 fake, N at least 1.
        scores: (N,), any finite score that is higher for what looks fake.
        threshold: scores from it on are called fake.

    Returns:
        The metrics NAMES, the counts `n_real` and `n_fake`, and `why`, the reason by the name of each that is None.

    Raises:
        ValueError: labels, scores or a threshold other than the ones above.
    """
    fake, values = _checked(labels, scores)
    check_threshold(threshold)
    found = at_threshold(fake, values, threshold)
    if 0 < found["n_fake"] < len(fake):
        curves = Curves(values, [np.flatnonzero(fake)], np.flatnonzero(~fake))
        found |= on_curve(curves.areas(np.ones(len(fake), np.int32))[:, 0], *curves.rates()[0])
    return found


def check_threshold(threshold: float) -> None:
    """ValueError unless it is a finite number."""
    if not is_number(threshold):
        refuse("threshold", "a finite number", threshold)


def on_curve(areas: NDArray[np.float64], fpr: NDArray[np.float64], tpr: NDArray[np.float64]) -> dict[str, float]:
    """Metrics that need no threshold.

    Args:
        areas: AUC, AP and EER.
        fpr, tpr: as of `Curves.rates`.
    """
    allowed = tpr[fpr <= 0.01]
    return {
        **{name: float(value) for name, value in zip(AREAS, areas, strict=True)},
        "fpr_at_tpr95": float(fpr[np.argmax(tpr >= 0.95)]),
        "tpr_at_fpr01": float(allowed[-1]) if len(allowed) else 0.0,
    }


def at_threshold(fake: NDArray[np.bool_], scores: NDArray[np.float64], threshold: float) -> dict[str, Any]:
    """The form of `measure` without the metrics of `on_curve`, which are None, with the reason where there is one.

    Args:
        fake: (N,), the labels.
        scores: (N,), finite.
        threshold: scores from it on are called fake.
    """
    count, n_fake = len(fake), int(fake.sum())
    n_real = count - n_fake
    found: dict[str, Any] = dict.fromkeys(NAMES)
    found |= {"threshold": float(threshold), "n_real": n_real, "n_fake": n_fake}
    why: dict[str, str] = {}
    found["why"] = why
    if not count:
        why |= dict.fromkeys((name for name in NAMES if name != "threshold"), "no row with a score")
        return found
    called = scores >= threshold
    tp, fp = int((called & fake).sum()), int((called & ~fake).sum())
    found["accuracy"] = (tp + n_real - fp) / count
    if not n_fake or not n_real:
        name = "fake" if n_fake else "real"
        labels = f"all {count} labels are" if count > 1 else "the only label is"
        why |= dict.fromkeys(BOTH_CLASSES, f"one class only: {labels} {int(n_fake > 0)} ({name})")
    else:
        found["balanced_accuracy"] = (tp / n_fake + (n_real - fp) / n_real) / 2
        found["f1"] = 2 * tp / (tp + fp + n_fake)
        if tp + fp:
            found["precision"] = tp / (tp + fp)
        else:
            why["precision"] = f"no score reaches the threshold {threshold:g}"
    if n_fake:
        found["recall"] = tp / n_fake
    else:
        why["recall"] = why["f1"]
    if scores.min() < 0 or scores.max() > 1:
        reason = f"scores are no probabilities: they reach from {scores.min():g} to {scores.max():g}"
        why |= {"ece": reason, "brier": reason}
    else:
        from sklearn.metrics import brier_score_loss  # a second, for which no other command should wait

        found["ece"] = calibration_error(fake, scores)
        found["brier"] = float(brier_score_loss(fake, scores, pos_label=True)) if count else None
    return found


def calibration_error(fake: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """ECE = sum over bins b of n_b / N |share of fakes in b - mean score in b|, BINS bins of equal width.

    A bin holds its lower edge, the last one 1 too. Arguments as of `at_threshold`, scores in 0..1.
    """
    place = np.searchsorted(np.arange(1, BINS) / BINS, scores, "right")
    gap = np.bincount(place, fake, BINS) - np.bincount(place, scores, BINS)
    return float(np.abs(gap).sum() / len(fake))


def as_deepfakebench(scores: Scores) -> dict[str, Any]:
    """The numbers that DeepfakeBench prints for these frames, by its own definitions.

    A frame is called fake when its score is above 0.5. EER is the FPR at the smallest |FNR - FPR| over the points of
    scikit-learn's `roc_curve`, which leaves out those on a line. A video is all frames whose files lie in folders of
    one name, so that forgeries of one pair by several methods are one video; its score is the mean of its frames, and
    it is fake if all of them are.

    Returns:
        BENCH, and `why` with the reason for each that is None.

    Source: training/metrics/utils.py of github.com/SCLBD/DeepfakeBench (get_test_metrics, get_video_metrics).
    """
    from sklearn.metrics import auc, average_precision_score, roc_auc_score, roc_curve

    if scores.level != "frame":
        return _none(BENCH, f"rows are {scores.level}s; its numbers are of frames")
    rows = np.flatnonzero(scores.scored)
    fake, values = scores.fake[rows], scores.score[rows]
    if not len(rows) or fake.all() or not fake.any():
        found = at_threshold(fake, values, THRESHOLD)
        return _none(BENCH, found["why"]["auc"])
    fpr, tpr, _ = roc_curve(fake, values)
    found = {
        "acc": float(((values > THRESHOLD) == fake).mean()),
        "auc": float(auc(fpr, tpr)),
        "eer": float(fpr[np.nanargmin(np.abs(1 - tpr - fpr))]),
        "ap": float(average_precision_score(fake, values)),
        "video_auc": None,
        "why": {},
    }
    parents = Column.of(_parent(scores.paths[row]) for row in rows.tolist())
    names, of_row = np.unique(parents.codes, return_inverse=True)
    frames = np.bincount(of_row)
    fake_videos = np.bincount(of_row, fake) == frames
    if fake_videos.all() or not fake_videos.any():
        name = "fake" if fake_videos.all() else "real"
        found["why"]["video_auc"] = f"one class only: all {len(names)} names of parent folders count as {name}"
    else:
        found["video_auc"] = float(roc_auc_score(fake_videos, np.bincount(of_row, values) / frames))
    return found


def _none(names: Sequence[str], reason: str) -> dict[str, Any]:
    return {**dict.fromkeys(names), "why": dict.fromkeys(names, reason)}


def _parent(path: str) -> str:
    parts = path.split("\\" if "\\" in path else "/")
    return parts[-2] if len(parts) > 1 else ""


def _ordered(scores: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows from the highest score to the lowest."""
    return rows[np.argsort(-scores[rows], kind="stable")]


def _ends(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Where each of `parts` begins in all of them together, and their length."""
    return np.cumsum([0, *map(len, parts)])


def _starts(ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where runs begin that end at `ends`."""
    return np.append(0, ends[:-1] + 1)


def _summed(weights: NDArray[np.int32]) -> NDArray[np.int64]:
    """0, w_0, w_0 + w_1, ..."""
    total = np.zeros(len(weights) + 1, np.int64)
    np.cumsum(weights, out=total[1:])
    return total


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Labels (N,) as whether they are 1, and scores (N,) as float64."""
    given, values = _numbers("labels", labels), _numbers("scores", scores)
    if len(given) != len(values):
        raise ValueError(f"labels and scores must be equally many, got {len(given)} labels and {len(values)} scores")
    if not len(given):
        raise ValueError("labels and scores must hold at least one value, got none")
    for name, array, wrong, what in (
        ("labels", given, (given != 0) & (given != 1), "0 (real) or 1 (fake)"),
        ("scores", values, ~np.isfinite(values), "finite numbers"),
    ):
        if wrong.any():
            at = int(wrong.argmax())
            raise ValueError(f"{name} must be {what}, got {array[at]} at position {at}, {int(wrong.sum())} such in all")
    return given == 1, values


def _numbers(name: str, values: ArrayLike) -> NDArray[np.float64]:
    try:
        if isinstance(values, Tensor):
            values = values.detach().cpu()
            values = values.float() if values.dtype == torch.bfloat16 else values  # which NumPy does not know
        array = np.asarray(values)
        if array.dtype == object:  # None among numbers
            array = array.astype(np.float64)
    except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:  # torch has some of its own
        raise ValueError(f"{name} must be numbers (N,): {error}") from error
    if array.ndim != 1:
        hint = "; of two columns the second is that of fake" if array.ndim == 2 and array.shape[1] == 2 else ""
        raise ValueError(f"{name} must be (N,), got shape {array.shape}{hint}")
    if array.size and array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be numbers (N,), got {array.dtype.name} such as {array[0]!r}")
    return array.astype(np.float64)
