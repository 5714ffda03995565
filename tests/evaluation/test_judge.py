"""The content of metrics.json: levels, groups, intervals, and the reason for everything that is missing."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from dfmodels.evaluation.bootstrap import draw
from dfmodels.evaluation.judge import judge
from dfmodels.evaluation.metrics import measure
from dfmodels.evaluation.table import Scores


def videos(**columns):
    return Scores.of(
        [f"{i}.mp4" for i in range(8)],
        [0, 0, 0, 1, 1, 1, 1, 1],
        [0.1, 0.4, 0.6, 0.3, 0.5, 0.7, 0.9, None],
        columns=columns,
    )


def plain(metrics):
    return {name: value for name, value in metrics.items() if name not in ("ci", "n_failed")}


def test_groups_of_forgeries_are_judged_against_all_reals():
    scores = videos(method=["real", "real", "", "A", "A", "B", "B", "B"])
    level = judge(scores, resamples=0)["levels"]["video"]
    assert set(level) == {"all", "method", "seen", "unseen", "why"}
    assert set(level["method"]) == {"A", "B"}
    reals = [0.1, 0.4, 0.6]
    assert plain(level["method"]["A"]) == measure([0, 0, 0, 1, 1], [*reals, 0.3, 0.5])
    assert plain(level["method"]["B"]) == measure([0, 0, 0, 1, 1], [*reals, 0.7, 0.9])
    assert plain(level["all"]) == measure(scores.fake[:7], scores.score[:7])
    assert [level["method"][name]["n_failed"] for name in "AB"] == [0, 1]
    assert level["all"]["n_failed"] == 1
    assert level["all"]["ci"] == {}


def test_groups_with_reals_are_judged_against_their_own():
    level = judge(videos(dataset=["X", "X", "Y", "X", "Y", "Y", "Z", ""]), resamples=0)["levels"]["video"]
    assert plain(level["dataset"]["X"]) == measure([0, 0, 1], [0.1, 0.4, 0.3])
    assert plain(level["dataset"]["Y"]) == measure([0, 1, 1], [0.6, 0.5, 0.7])
    assert plain(level["dataset"]["Z"]) == measure([0, 0, 0, 1], [0.1, 0.4, 0.6, 0.9])


def test_a_group_of_one_class_says_so():
    level = judge(videos(dataset=["X", "X", "X", "Y", "Y", "Y", "Y", "W"]), resamples=0)["levels"]["video"]
    only_real = level["dataset"]["X"]
    assert (only_real["auc"], only_real["accuracy"]) == (None, pytest.approx(2 / 3))
    assert only_real["why"]["auc"] == "one class only: all 3 labels are 0 (real)"
    assert level["dataset"]["W"]["n_failed"] == 1
    reals = Scores.of(["a", "b"], [0, 0], [0.1, None])
    assert judge(reals)["levels"]["video"]["all"]["auc"] is None
    nobody = judge(Scores.of(["a", "b"], [0, 1], [None, None]))["levels"]["video"]["all"]
    assert (nobody["accuracy"], nobody["n_failed"]) == (None, 2)
    assert nobody["why"]["ece"] == "no row with a score"


def test_seen_and_unseen():
    scores = videos(method=["real"] * 3 + ["A", "A", "B", "C", ""])
    unknown = judge(scores, resamples=0)["levels"]["video"]
    assert (unknown["seen"], unknown["unseen"]) == (None, None)
    assert unknown["why"]["seen"] == unknown["why"]["unseen"] == "the methods of the training index are not known"
    level = judge(scores, seen_methods=["A", "D", "real"], resamples=0)["levels"]["video"]
    reals = [0.1, 0.4, 0.6]
    assert plain(level["seen"]) == measure([0, 0, 0, 1, 1], [*reals, 0.3, 0.5])
    assert plain(level["unseen"]) == measure([0, 0, 0, 1, 1], [*reals, 0.7, 0.9])
    all_seen = judge(scores, seen_methods="ABC", resamples=0)["levels"]["video"]
    assert all_seen["unseen"] is None
    assert all_seen["why"]["unseen"] == "no row of a method that the training index did not hold"
    assert judge(videos(), seen_methods=["A"], resamples=0)["levels"]["video"]["why"]["seen"] == "no column 'method'"


def test_columns_that_group_nothing(monkeypatch):
    monkeypatch.setattr("dfmodels.evaluation.judge.MOST_GROUPS", 3)
    names = [str(i) for i in range(8)]
    level = judge(videos(target=names, comment=names, split=["test"] * 8), resamples=0)["levels"]["video"]
    assert set(level) == {"all", "split", "seen", "unseen", "why"}
    assert level["why"]["comment"] == "8 values, more than 3"
    assert level["why"]["target"] == "names people"


def frames(seed=0):
    """Frames of 30 videos in four groups; a fifth of them without a score, and scores that tie."""
    generator = np.random.default_rng(seed)
    of_video = np.sort(generator.integers(0, 30, 200))
    group = of_video % 4
    fake = group > 0
    score = np.round(np.clip(generator.normal(0.4 + 0.1 * group, 0.2), 0, 1), 2)
    score[generator.random(200) < 0.2] = np.nan
    score[of_video == 7] = np.nan
    return Scores.of(
        [f"v{v}/{i}.png" for i, v in enumerate(of_video)],
        fake,
        score,
        columns={
            "method": [f"m{g}" if g else "real" for g in group],
            "dataset": ["XXYYY"[v % 5] for v in of_video],
        },
        video=[f"v{v}" for v in of_video],
    )


@pytest.mark.parametrize("level", ["frame", "video"])
def test_intervals_are_those_of_rows_drawn_by_video(level):
    """Every resample written out, and judged by scikit-learn."""
    scores = frames()
    found = judge(scores, resamples=60, seed=3)["levels"][level]
    rows = scores if level == "frame" else scores.by_video()
    of_row = scores.video_rows() if level == "frame" else np.arange(len(rows))
    judged = scores.by_video()
    order = [*np.flatnonzero(judged.scored & ~judged.fake), *np.flatnonzero(judged.scored & judged.fake)]
    n_real = int((judged.scored & ~judged.fake).sum())
    for keys, member in {
        ("all",): np.ones(len(rows), bool),
        ("method", "m2"): ~rows.fake | np.array([rows.columns["method"].value(i) == "m2" for i in range(len(rows))]),
        ("dataset", "Y"): np.array([rows.columns["dataset"].value(i) == "Y" for i in range(len(rows))]),
    }.items():
        values = []
        for number in range(60):
            weights = draw(3, number, n_real, len(order) - n_real)
            assert weights[:n_real].sum() == n_real
            assert weights.sum() == len(order)
            times = np.zeros(len(judged), int)
            times[order] = weights
            drawn = np.repeat(np.arange(len(rows)), np.where(member & rows.scored, times[of_row], 0))
            fake, score = rows.fake[drawn], rows.score[drawn]
            if fake.any() and not fake.all():
                ap = average_precision_score(fake, score)
                values.append([roc_auc_score(fake, score), ap, measure(fake, score)["eer"]])
        expected = np.quantile(values, [0.025, 0.975], axis=0).T
        metrics = found
        for key in keys:
            metrics = metrics[key]
        assert np.array(list(metrics["ci"].values())) == pytest.approx(expected, abs=1e-9)
        assert list(metrics["ci"]) == ["auc", "ap", "eer"]


def test_the_same_seed_gives_the_same_report_on_any_number_of_threads(monkeypatch):
    several = judge(frames(), resamples=20, seed=1)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0})
    assert judge(frames(), resamples=20, seed=1) == several
    assert judge(frames(), resamples=20, seed=2) != several


def test_an_interval_of_frames_is_that_of_their_videos():
    """A hundred copies of every frame tell nothing new."""
    generator = np.random.default_rng(0)
    fake = np.arange(40) % 2
    score = generator.normal(0.4 + 0.2 * fake, 0.2)
    once = judge(Scores.of([f"{i}" for i in range(40)], fake, score))["levels"]["video"]["all"]
    often = Scores.of(
        [f"{i}/{k}" for i in range(40) for k in range(10)],
        np.repeat(fake, 10),
        np.repeat(score, 10),
        video=[str(i) for i in range(40) for _ in range(10)],
    )
    found = judge(often)["levels"]
    assert np.array(list(found["frame"]["all"]["ci"].values())) == pytest.approx(
        np.array(list(once["ci"].values())), abs=1e-12
    )


def test_too_few_videos_for_an_interval():
    found = judge(Scores.of(["a", "b", "c"], [0, 1, 1], [0.1, 0.2, 0.3]), resamples=10)["levels"]["video"]["all"]
    assert (found["auc"], found["ci"]) == (1, {})
    assert found["why"] == {
        "precision": "no score reaches the threshold 0.5",
        "ci": "1 real and 2 fake videos: one cannot be resampled",
    }


def test_no_resample_with_both_classes():
    """Two reals of a group among many others are seldom drawn."""
    names = [f"{i}" for i in range(400)]
    group = ["X" if i < 4 else "" for i in range(400)]
    scores = Scores.of(names, [0, 0, 1, 1] + [0, 1] * 198, np.arange(400) / 400, columns={"dataset": group})
    drawn = [draw(seed, 0, 200, 200) for seed in range(20)]
    lacking = next(seed for seed, weights in enumerate(drawn) if not weights[:2].any() or not weights[200:202].any())
    found = judge(scores, resamples=1, seed=lacking)["levels"]["video"]["dataset"]["X"]
    assert (found["auc"], found["ci"]) == (1, {})
    assert found["why"]["ci"] == "none of 1 resamples holds both classes"


def test_clips():
    scores = Scores.of(["a#0", "a#1", "b#0"], [0, 0, 1], [0.9, 0.1, 0.8], video=["a", "a", "b"], unit="clip")
    report = judge(scores, resamples=0, about={"detector": "stil"})
    assert list(report["levels"]) == ["clip", "video"]
    assert (report["levels"]["clip"]["all"]["auc"], report["levels"]["video"]["all"]["auc"]) == (0.5, 1)
    assert report["as_deepfakebench"]["why"]["auc"] == "rows are clips; its numbers are of frames"
    assert report["about"]["detector"] == "stil"


@pytest.mark.parametrize("option", [{"resamples": -1}, {"seed": -1}, {"threshold": "0.5"}, {"average": "median"}])
def test_wrong_options(option):
    (name,) = option
    with pytest.raises(ValueError, match=f"{name} must be"):
        judge(videos(), **option)
