"""Metrics over fake probabilities."""

import numpy as np
from numpy.typing import ArrayLike


def roc_auc(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a fake scores above a real one, ties counting one half.

    Args:
        labels: (N,), 0 real, 1 fake, both present.
        probabilities: (N,), any monotone score of being fake.
    """
    fake = np.asarray(labels) == 1
    scores = np.asarray(probabilities, np.float64)
    if not fake.any() or fake.all():
        raise ValueError("labels must hold both classes, 0 real and 1 fake")
    difference = scores[fake][:, None] - scores[~fake][None, :]
    return float((difference > 0).mean() + (difference == 0).mean() / 2)


def accuracy(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Share of videos on the right side of 1/2."""
    return float(((np.asarray(probabilities) >= 0.5) == (np.asarray(labels) == 1)).mean())
