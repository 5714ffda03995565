"""The page of an evaluation: it stands alone, shows any name and runs none, and says what the numbers say."""

import os
import re
import time
from itertools import pairwise

import cv2
import numpy as np
import pytest
from scipy.special import expit

from dfmodels.detector import Calibration
from dfmodels.evaluation.calibration import calibrate
from dfmodels.evaluation.judge import judge
from dfmodels.evaluation.report import histogram, middle_frame, most_wrong, reliability, render, thinned, write_report
from dfmodels.evaluation.table import Scores
from tests.scoring.test_report import Page
from tests.video.videos import ramp, write_video

HOSTILE = '<script>alert("1")</script>\u202e&\x1b[31m'
METHODS = ("Deepfakes", "Face2Face", "NeuralTextures")


def table(videos=60, frames=5, seed=0, name="films/{}.mp4", method=METHODS, map_score=lambda s: s, failed=True):
    """Scores of frames; a few rows without one."""
    draws = np.random.default_rng(seed)
    labels = (np.arange(videos) % 3 > 0).astype(int)
    methods = np.where(labels, np.array(method)[np.arange(videos) // 3 % len(method)], "real")
    of = np.repeat(np.arange(videos), frames)
    values = map_score(expit(draws.normal(2 * labels - 1, 1.0)[of] + draws.normal(0, 0.5, len(of))))
    scores = [None if failed and i == 7 else float(value) for i, value in enumerate(values)]
    return Scores.of(
        [f"{name.format(v)}#{i}" for i, v in enumerate(of)],
        labels[of],
        scores,
        columns={"method": list(methods[of]), "compression": [("c23", "c40")[v % 2] for v in of]},
        video=[name.format(v) for v in of],
        reasons={7: "haar finds no face"},
    )


def page_of(scores, picture=lambda path: None, before=None, **options):
    metrics = judge(scores, resamples=20, **options)
    return Page(render(metrics, scores, picture=picture, before=before)), metrics


@pytest.fixture(scope="module")
def whole():
    return page_of(table(), seen_methods={"Deepfakes"}, about={"detector": "stil"})


def test_it_stands_alone_and_can_be_read_without_seeing_it(whole):
    page, _ = whole
    assert not [a for a in [*page.values("src"), *page.values("href")] if not a.startswith(("data:image/webp", "#"))]
    assert not {"link", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in page.elements}
    assert all(image["alt"] for image in page.all("img"))
    assert all(head["scope"] in ("col", "row") for head in page.all("th"))
    names = page.values("id")
    assert len(set(names)) == len(names)
    assert set(page.values("aria-labelledby")) <= set(names)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    style = re.search(r"<style>(.*?)</style>", render(judge(table(), resamples=0), table()), re.DOTALL)[1]
    assert "&" not in style
    assert not re.findall(r"@import|url\(|http", style)


def test_it_says_what_the_metrics_say(whole):
    page, metrics = whole
    for level in ("video", "frame"):
        found = metrics["levels"][level]
        everyone = found["all"]
        groups = [everyone, found["seen"], found["unseen"], *found["method"].values(), *found["compression"].values()]
        for group in groups:
            assert f"{group['auc']:.3f}" in page.text
            low, high = group["ci"]["eer"]
            assert f"{low:.3f}-{high:.3f}" in page.text
    for word in ("haar finds no face", "seen methods", "unseen methods", "NeuralTextures", "c40", "Evaluation of stil"):
        assert word in page.text
    assert f"{metrics['as_deepfakebench']['auc']:.3f}" in page.text


def test_a_grouping_that_only_repeats_all_is_no_table():
    columns = {"split": ["test"] * 4, "dataset": ["Set"] * 4, "compression": ["c23", "c23", "c40", "c40"]}
    scores = Scores.of(list("abcd"), [0, 1, 0, 1], [0.1, 0.9, 0.2, 0.8], columns=columns)
    metrics = judge(scores, resamples=0)
    assert set(metrics["levels"]["video"]) >= {"split", "dataset", "compression"}
    text = Page(render(metrics, scores)).text
    assert "Compressions" in text
    assert "Data sets" not in text
    assert "Splits" not in text


def test_hostile_names_are_shown_and_never_run():
    scores = table(name=HOSTILE + "{}.mp4", method=(HOSTILE, "b"))
    metrics = judge(scores, resamples=0, about={"detector": HOSTILE, "note": [HOSTILE]})
    metrics["failed"] = [{"path": HOSTILE, "reason": HOSTILE}]
    metrics["levels"]["video"][HOSTILE] = {HOSTILE: metrics["levels"]["video"]["all"]}
    text = render(metrics, scores, picture=lambda path: None)
    page = Page(text)
    assert len(page.all("script")) == 1
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert '<script>alert("1")</script>' in page.text


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_is_said_and_breaks_nothing(label):
    scores = Scores.of(["a", "b", "c"], [label] * 3, [0.1, 0.8, None])
    page, _ = page_of(scores)
    assert "No curve" in page.text
    assert "nan" not in page.text.lower().split()


def test_nothing_scored_and_scores_that_are_no_probabilities():
    page, _ = page_of(Scores.of(["a", "b"], [0, 1], [None, None]))
    assert "No row has a score" in page.text
    page, _ = page_of(table(map_score=lambda s: 30 * s - 10))
    assert "Calibration" not in page.text
    assert "AUC" in page.text


def test_the_most_wrong_come_first():
    scores = Scores.of(list("abcdef"), [0, 0, 1, 1, 1, 0], [0.9, 0.6, 0.3, 0.05, 0.5, None])
    assert [scores.paths[i] for i in most_wrong(scores, 0.5)] == ["d", "a", "c", "b"]
    page, _ = page_of(scores)
    assert page.text.index("All 4 on the wrong side") < page.text.index("called real: 0.050")
    assert page.text.index("called real: 0.050") < page.text.index("called fake: 0.900")


def test_pictures_are_those_of_the_films(tmp_path):
    film = write_video(tmp_path / "film.mp4", 9, ramp((48, 64)))
    (tmp_path / "broken.mp4").write_text("no film")
    image = middle_frame(film)
    assert image.shape == (48, 64, 3)
    assert middle_frame(tmp_path / "broken.mp4") is None
    assert middle_frame(tmp_path / "nowhere.mp4") is None
    assert middle_frame(tmp_path) is None
    os.mkfifo(tmp_path / "pipe.mp4")
    assert middle_frame(tmp_path / "pipe.mp4") is None
    scores = Scores.of([str(film), str(tmp_path / "broken.mp4"), "elsewhere.mp4"], [0, 0, 1], [0.9, 0.8, 0.2])
    metrics = judge(scores, resamples=0)
    page = Page(render(metrics, scores))
    assert len(page.all("img")) == 1
    assert page.text.count("no picture: the film is not here") == 2


def test_calibration_is_shown_before_and_after():
    how = Calibration(3.0, 0.5, "40 videos")
    before = table(failed=False)
    after = table(failed=False, map_score=lambda s: calibrate(s, how))
    metrics = judge(after, resamples=0)
    part = {"ece": 0.1234, "brier": 0.2}
    metrics["calibration"] = {**how.as_dict(), "levels": {"video": {"before": part, "after": {**part, "ece": 0.0321}}}}
    page = Page(render(metrics, after, before=before, picture=lambda path: None))
    assert "0.123 0.032" in page.text
    assert "40 videos" in page.text
    titles = [word for word in page.words if word.startswith(("before: of", "after: of"))]
    assert {title.split(":")[0] for title in titles} == {"before", "after"}


def test_bins_of_reliability():
    fake = np.array([True, False, True, True])
    points = reliability(fake, np.array([0.0, 0.01, 1.0, 0.99]))
    assert [(round(p["mean"], 3), p["share"], p["count"]) for p in points] == [(0.005, 0.5, 2), (0.995, 1.0, 2)]


def test_a_histogram_holds_every_row():
    draws = np.random.default_rng(0)
    values = np.r_[draws.random(50), -2.0, 3.0]
    plot = histogram(Scores.of([str(i) for i in range(52)], np.arange(52) % 2, values), 0.5)
    assert [float(label) for _, label in plot["ticks"]] == [-2, -0.75, 0.5, 1.75, 3]
    assert plot["threshold"] == 160.0
    assert [each["name"] for each in plot["lines"]] == ["real", "fake"]
    plot = histogram(Scores.of(["a", "b"], [0, 1], [-1e308, 1.5e308]), 1e308)
    assert [float(label) for _, label in plot["ticks"]] == [-1e308, -3.75e307, 2.5e307, 8.75e307, 1.5e308]
    assert plot["threshold"] == 256.0


@pytest.mark.parametrize("count", [3, 1000, 300_000])
def test_thinned_curves_look_the_same(count):
    draws = np.random.default_rng(1)
    x = np.r_[0, np.sort(draws.random(count)), 1]
    y = np.clip(x + 0.2 * np.sin(9 * x) + 0.02 * draws.normal(size=len(x)), 0, 1)
    points = np.array(thinned(x, y))
    assert len(points) <= max(len(x), 4 * 321)
    drawn = [np.zeros((321, 321), np.uint8) for _ in range(2)]
    whole = np.c_[320 * x, 320 * (1 - y)]
    for image, line in zip(drawn, (points, whole), strict=True):
        cv2.polylines(image, [line.round().astype(np.int32)], False, 255)
    for one, other in (drawn, drawn[::-1]):
        assert cv2.dilate(other, np.ones((3, 3)))[one > 0].all()  # no further off than a pixel


def test_a_million_rows_make_a_small_page_in_seconds(tmp_path):
    draws = np.random.default_rng(0)
    labels = draws.integers(0, 2, 1_000_000)
    scores = Scores.of([str(i) for i in range(len(labels))], labels, expit(draws.normal(labels)))
    metrics = judge(scores, resamples=0)
    begun = time.perf_counter()
    write_report(tmp_path / "report.html", metrics, scores, picture=lambda path: None)
    assert time.perf_counter() - begun < 30
    assert (tmp_path / "report.html").stat().st_size < 300_000
