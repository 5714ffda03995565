"""Metrics by their definitions, and what they say of labels and scores that define none."""

import re
import tracemalloc

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st

from dfmodels.evaluation.metrics import NAMES, Curves, as_deepfakebench, measure
from dfmodels.evaluation.table import Scores


def roc_auc(labels, scores):
    return measure(labels, scores)["auc"]


def test_known_values():
    assert roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75
    assert roc_auc([0, 1], [0.5, 0.5]) == 0.5
    assert measure([0, 0, 1, 1], [0.1, 0.6, 0.5, 0.9])["accuracy"] == 0.75
    assert measure([0, 0, 1, 1], [-3, 2, 1.5, 4], threshold=1.5)["accuracy"] == 0.75
    found = measure([0, 0, 0, 1, 1], [0.1, 0.2, 0.7, 0.7, 0.9])
    assert found.keys() == {*NAMES, "n_real", "n_fake", "why"}
    assert {name: value for name, value in found.items() if name != "why"} == pytest.approx(
        {
            "auc": 1 - 0.5 / 6,
            "ap": 1 / 2 + 1 / 2 * 2 / 3,
            "eer": 0.2,  # on the line from (0, 1/2) to (1/3, 1): 1/2 - 3/2 x = x
            "accuracy": 4 / 5,
            "balanced_accuracy": (2 / 3 + 1) / 2,
            "f1": 0.8,
            "precision": 2 / 3,
            "recall": 1,
            "fpr_at_tpr95": 1 / 3,
            "tpr_at_fpr01": 1 / 2,
            "threshold": 0.5,
            "ece": (0.1 + 0.2 + abs(1.4 - 1) + 0.1) / 5,
            "brier": (0.01 + 0.04 + 0.49 + 0.09 + 0.01) / 5,
            "n_real": 3,
            "n_fake": 2,
        }
    )
    assert found["why"] == {}


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
    reason = f"one class only: all 3 labels are {label} ({name})"
    missing = {metric for metric in NAMES if found[metric] is None}
    assert missing == set(found["why"]) >= {"auc", "ap", "eer", "f1", "precision", "balanced_accuracy"}
    assert ("recall" in missing) == (label == 0)
    assert set(found["why"].values()) == {reason}
    assert measure([label], [0.1])["why"]["auc"] == f"one class only: the only label is {label} ({name})"
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
def test_errors(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        measure(labels, scores)


@pytest.mark.parametrize("threshold", [float("nan"), "0.5", None, [0.5]])
def test_a_threshold_that_is_no_number(threshold):
    with pytest.raises(ValueError, match=f"threshold must be a finite number, got {re.escape(repr(threshold))}"):
        measure([0, 1], [0.1, 0.9], threshold=threshold)


def test_tensors_as_a_model_gives_them():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        scores = torch.tensor([0.25, 0.5, 0.75], dtype=dtype, requires_grad=True)
        assert roc_auc(torch.tensor([0, 1, 1]), scores) == 1
    for scores in ([torch.ones((), requires_grad=True)] * 2, torch.ones(2, device="meta")):
        with pytest.raises(ValueError, match=r"scores must be numbers \(N,\)"):
            roc_auc([0, 1], scores)


def by_scikit_learn(fake, scores, threshold=0.5):
    """The same metrics, one call each; EER where the lines of the whole ROC curve meet FPR = FNR."""
    fpr, tpr, _ = sklearn.metrics.roc_curve(fake, scores, drop_intermediate=False)
    called = scores >= threshold
    at = int(np.argmax(fpr >= 1 - tpr))
    before, behind = 1 - tpr[at - 1] - fpr[at - 1], fpr[at] - (1 - tpr[at])
    return {
        "auc": sklearn.metrics.roc_auc_score(fake, scores),
        "ap": sklearn.metrics.average_precision_score(fake, scores),
        "eer": fpr[at - 1] + before / (before + behind) * (fpr[at] - fpr[at - 1]),
        "accuracy": sklearn.metrics.accuracy_score(fake, called),
        "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(fake, called),
        "f1": sklearn.metrics.f1_score(fake, called),
        "precision": sklearn.metrics.precision_score(fake, called) if called.any() else None,
        "recall": sklearn.metrics.recall_score(fake, called),
        "fpr_at_tpr95": fpr[tpr >= 0.95].min(),
        "tpr_at_fpr01": tpr[fpr <= 0.01].max(),
    }


@pytest.mark.parametrize("levels", [1, 2, 3, 10, 100, None], ids=lambda levels: f"{levels}-values")
@pytest.mark.parametrize("seed", range(6))
def test_equal_to_scikit_learn(levels, seed):
    generator = np.random.default_rng(seed)
    count = int(generator.integers(2, 2000))
    fake = np.append([True, False], generator.random(count) < generator.random())
    scores = np.clip(generator.normal(0.4, 0.2, len(fake)) + 0.2 * fake, 0, 1)
    if levels:
        scores = np.round(scores * levels) / levels
    found = measure(fake, scores)
    for name, value in by_scikit_learn(fake, scores).items():
        assert found[name] == (None if value is None else pytest.approx(value, abs=1e-9)), name
    assert found["brier"] == pytest.approx(sklearn.metrics.brier_score_loss(fake, scores), abs=1e-9)


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 4), st.integers(0, 2), st.integers(0, 3)), min_size=1),
    st.booleans(),
)
def test_groups_under_weights_are_rows_as_often(rows, shared):
    """What scikit-learn gives for the rows of a group, each as often as its video weighs."""
    fake, score, group, weight = np.array([(0, 2, g, 1) for g in range(3)] + [(1, 2, g, 1) for g in range(3)] + rows).T
    fake, score, video = fake == 1, score / 4, np.arange(len(fake))
    fakes = [np.flatnonzero(fake & (group == g)) for g in range(3)]
    own = [np.flatnonzero(~fake & (group == g)) for g in range(3)]
    reals = [np.flatnonzero(~fake)] * 3 if shared else own
    found = Curves(score, fakes, reals[0] if shared else own, video).areas(weight.astype(np.int32))
    for place in range(3):
        rows = np.concatenate([fakes[place], reals[place]])
        rows = np.repeat(rows, weight[rows])
        if len(np.unique(fake[rows])) < 2:
            assert np.isnan(found[:, place]).all()
        else:
            expected = by_scikit_learn(fake[rows], score[rows])
            assert found[:, place] == pytest.approx([expected[name] for name in ("auc", "ap", "eer")], abs=1e-9)


def test_scores_that_are_no_probabilities():
    found = measure([0, 1], [-2.0, 3.0])
    assert (found["auc"], found["ece"], found["brier"]) == (1, None, None)
    assert found["why"]["ece"] == "scores are no probabilities: they reach from -2 to 3" == found["why"]["brier"]


def test_nothing_reaches_the_threshold():
    found = measure([0, 1], [0.1, 0.2])
    assert (found["precision"], found["recall"], found["f1"]) == (None, 0, 0)
    assert found["why"] == {"precision": "no score reaches the threshold 0.5"}


def test_bins_of_the_calibration_error():
    """One holds its lower edge; the last one 1 too."""
    for edge in np.arange(1, 15) / 15:  # beside a score in the same bin, and one in the bin before
        assert measure([1, 0], [edge, edge + 0.01])["ece"] == pytest.approx(abs(2 * edge + 0.01 - 1) / 2)
        assert measure([1, 0], [edge, edge - 0.01])["ece"] == pytest.approx((1 - edge + edge - 0.01) / 2)
    assert measure([1, 0], [0.95, 1.0])["ece"] == pytest.approx(abs(0.95 + 1 - 1) / 2)


def test_as_deepfakebench():
    """A worked example in which every quirk shows.

    Scores from the highest: fake .9, fake .8, real .7, fake .6, real .5, real .2. All points of the ROC curve, as
    (FPR, TPR): (0, 0), (0, 1/3), (0, 2/3), (1/3, 2/3), (1/3, 1), (2/3, 1), (1, 1). |FNR - FPR| is 0 at (1/3, 2/3).
    scikit-learn leaves out (0, 1/3) and (2/3, 1) only. The real at .5 is not above 0.5: one wrong frame of six.
    """
    paths = ["a/m1/1_2/0.png", "a/m2/1_2/1.png", "a/real/1/2.png", "b\\m1\\3_4\\3.png", "a/real/3_4/4.png", "5.png"]
    found = as_deepfakebench(Scores.of(paths, [1, 1, 0, 1, 0, 0], [0.9, 0.8, 0.7, 0.6, 0.5, 0.2], video=list("abcdef")))
    assert found["why"] == {}
    assert found["acc"] == pytest.approx(5 / 6)
    assert found["auc"] == pytest.approx(8 / 9)
    assert found["ap"] == pytest.approx((1 + 1 + 3 / 4) / 3)
    assert found["eer"] == pytest.approx(1 / 3)
    # videos: 1_2 of both methods (fake, .85), 1 (real, .7), 3_4 with one real frame of two (real, .55), none (real, .2)
    assert found["video_auc"] == 1
    # where it is not the EER: the points are (0, 0), (0, 1/2), (1, 1), for the fake and the reals of .5 tie
    tied = Scores.of(["a/0", "b/1", "c/2", "d/3"], [1, 1, 0, 0], [0.9, 0.5, 0.5, 0.5], video=list("abcd"))
    assert as_deepfakebench(tied)["eer"] == 0
    assert measure(tied.fake, tied.score)["eer"] == pytest.approx(1 / 3)


def test_as_deepfakebench_without_what_it_needs():
    videos = as_deepfakebench(Scores.of(["a", "b"], [0, 1], [0.1, 0.9]))
    assert videos["auc"] is None
    assert videos["why"]["video_auc"] == "rows are videos; its numbers are of frames"
    one = as_deepfakebench(Scores.of(["a/0", "b/0"], [1, 1], [0.1, 0.9], video=["a", "b"]))
    assert (one["acc"], one["why"]["acc"]) == (None, "one class only: all 2 labels are 1 (fake)")
    merged = as_deepfakebench(Scores.of(["a/0", "a/1"], [0, 1], [0.1, 0.9], video=["a", "b"]))
    assert (merged["auc"], merged["video_auc"]) == (1, None)
    assert merged["why"] == {"video_auc": "one class only: all 1 names of parent folders count as real"}


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
