"""Metrics by their definitions, and what they say of labels and scores that define none."""

import re
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dfmodels.evaluation.metrics import accuracy, measure, roc_auc


def test_known_values():
    assert roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75
    assert roc_auc([0, 1], [0.5, 0.5]) == 0.5
    assert accuracy([0, 0, 1, 1], [0.1, 0.6, 0.5, 0.9]) == 0.75
    assert accuracy([0, 0, 1, 1], [-3, 2, 1.5, 4], threshold=1.5) == 0.75
    assert measure([0, 0, 1], [0.1, 0.7, 0.7]) == {
        "auc": 0.75,
        "accuracy": pytest.approx(2 / 3),
        "n_real": 2,
        "n_fake": 1,
        "why": {},
    }


@pytest.mark.parametrize("make", [list, tuple, np.array, torch.tensor])
@pytest.mark.parametrize("labels", [[0, 1, 1, 0], [False, True, True, False], [0.0, 1.0, 1.0, 0.0]])
def test_every_kind_of_numbers(make, labels):
    assert roc_auc(make(labels), make([0.2, 0.1, 0.9, 0.2])) == 0.5


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=1, max_size=30))
def test_auc_is_the_chance_that_a_fake_scores_higher(pairs):
    labels, scores = np.array(pairs).T
    real, fake = scores[labels == 0], scores[labels == 1]
    if not len(real) or not len(fake):
        assert roc_auc(labels, scores) is None
        return
    wins = [(f > r) + (f == r) / 2 for f in fake for r in real]
    assert roc_auc(labels, scores) == pytest.approx(np.mean(wins))


@pytest.mark.parametrize(("label", "name"), [(0, "real"), (1, "fake")])
def test_one_class_has_no_auc_and_says_why(label, name):
    found = measure([label] * 3, [0.1, 0.9, 0.6])
    assert found["auc"] is None
    assert found["why"] == {"auc": f"one class only: all 3 labels are {label} ({name})"}
    assert found["accuracy"] == pytest.approx((1 + label) / 3)
    assert (found["n_real"], found["n_fake"]) == ((3, 0), (0, 3))[label]


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 2, 1], [0.1, 0.2, 0.3], r"labels must be 0 \(real\) or 1 \(fake\), got 2.0 at position 1, 1 such in all"),
        ([0, -1], [0.1, 0.2], "labels must be 0 .* got -1.0 at position 1"),
        ([0, 0.5], [0.1, 0.2], "labels must be 0 .* got 0.5"),
        ([0, float("nan")], [0.1, 0.2], "labels must be 0 .* got nan"),
        (["real", "fake"], [0.1, 0.2], "labels must be numbers .* got str.* such as .*real"),
        ([[0], [1]], [0.1, 0.2], r"labels must be \(N,\), got shape \(2, 1\)$"),
        ([0, 1], [0.1, float("nan")], "scores must be finite numbers, got nan at position 1"),
        ([0, 1], [float("-inf"), 0.2], "scores must be finite numbers, got -inf at position 0"),
        ([0, 1], [0.1, None], "scores must be finite numbers, got nan"),
        ([0, 1], ["0.1", "0.2"], "scores must be numbers"),
        ([0, 1], [0.1, 0.2j], "scores must be numbers"),
        ([0, 1], [0.1, [0.2]], "scores must be numbers"),
        ([0, 1], [[0.9, 0.1], [0.2, 0.8]], r"scores must be \(N,\), got shape \(2, 2\); of two columns the second is"),
        ([0, 1, 1], [0.1, 0.2], "labels and scores must be equally many, got 3 labels and 2 scores"),
        ([], [], "at least one value, got none"),
        (1, 0.5, r"labels must be \(N,\), got shape \(\)"),
    ],
)
@pytest.mark.parametrize("metric", [accuracy, measure, roc_auc])
def test_errors(metric, labels, scores, message):
    with pytest.raises(ValueError, match=message):
        metric(labels, scores)


@pytest.mark.parametrize("threshold", [float("nan"), "0.5", None, [0.5]])
def test_a_threshold_that_is_no_number(threshold):
    with pytest.raises(ValueError, match=f"threshold must be a finite number, got {re.escape(repr(threshold))}"):
        accuracy([0, 1], [0.1, 0.9], threshold=threshold)


def test_tensors_as_a_model_gives_them():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        scores = torch.tensor([0.25, 0.5, 0.75], dtype=dtype, requires_grad=True)
        assert roc_auc(torch.tensor([0, 1, 1]), scores) == 1
    for scores in ([torch.ones((), requires_grad=True)] * 2, torch.ones(2, device="meta")):
        with pytest.raises(ValueError, match=r"scores must be numbers \(N,\)"):
            roc_auc([0, 1], scores)


def test_memory_grows_with_the_frames_and_not_their_square():
    generator = np.random.default_rng(0)
    labels, scores = generator.integers(0, 2, 70_000), generator.random(70_000)
    measure(labels[:100], scores[:100])  # what is imported on the way
    tracemalloc.start()
    try:
        measure(labels, scores)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * 2**20
