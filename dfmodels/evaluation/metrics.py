"""Metrics of scores against labels; scikit-learn computes them."""

import math
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import accuracy_score, roc_auc_score
from torch import Tensor

THRESHOLD = 0.5
ONE_CLASS = "one class only: all {count} labels are {label} ({name})"


def measure(labels: ArrayLike, scores: ArrayLike, *, threshold: float = THRESHOLD) -> dict[str, Any]:
    """All metrics, with the reason beside every one that these labels do not define.

    Args:
        labels: (N,), 0 real, 1 fake, N at least 1.
        scores: (N,), any finite score that is higher for what looks fake.
        threshold: scores from it on are called fake.

    Returns:
        `auc` of `roc_auc`, `accuracy`, the counts `n_real` and `n_fake`, and `why`, the reason by the name of the
        metric for each that is None.

    Raises:
        ValueError: labels, scores or a threshold other than the ones above.
    """
    fake, values = _checked(labels, scores)
    count = int(fake.sum())
    only = (
        None
        if 0 < count < len(fake)
        else ONE_CLASS.format(count=len(fake), label=int(fake[0]), name="fake" if fake[0] else "real")
    )
    return {
        "auc": None if only else float(roc_auc_score(fake, values)),
        "accuracy": _accuracy(fake, values, threshold),
        "n_real": len(fake) - count,
        "n_fake": count,
        "why": {"auc": only} if only else {},
    }


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under the ROC curve: the chance that a fake scores above a real one, ties counting one half.

    None where all labels are of one class; `measure` says so in words. Arguments and errors as for `measure`.
    """
    auc: float | None = measure(labels, scores)["auc"]
    return auc


def accuracy(labels: ArrayLike, scores: ArrayLike, *, threshold: float = THRESHOLD) -> float:
    """Share of scores on the right side of the threshold; arguments and errors as for `measure`."""
    return _accuracy(*_checked(labels, scores), threshold)


def _accuracy(fake: NDArray[np.bool_], scores: NDArray[np.float64], threshold: float) -> float:
    if not isinstance(threshold, Real) or not math.isfinite(threshold):
        raise ValueError(f"threshold must be a finite number, got {threshold!r}")
    return float(accuracy_score(fake, scores >= threshold))


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
