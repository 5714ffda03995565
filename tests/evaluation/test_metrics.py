"""Metrics by their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmodels.evaluation.metrics import accuracy, roc_auc


def test_known_values():
    assert roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75
    assert roc_auc([0, 1], [0.5, 0.5]) == 0.5
    assert accuracy([0, 0, 1, 1], [0.1, 0.6, 0.5, 0.9]) == 0.75


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=2, max_size=30))
def test_auc_equals_the_area_under_the_curve(pairs):
    labels, scores = np.array(pairs).T
    if labels.min() == labels.max():
        with pytest.raises(ValueError, match="both classes"):
            roc_auc(labels, scores)
        return
    thresholds = [6, *range(5, -1, -1)]
    true_positive = [(scores[labels == 1] >= t).mean() for t in thresholds]
    false_positive = [(scores[labels == 0] >= t).mean() for t in thresholds]
    assert roc_auc(labels, scores) == pytest.approx(np.trapezoid(true_positive, false_positive))
