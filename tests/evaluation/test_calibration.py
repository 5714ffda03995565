"""A calibration is found, kept beside its weights and nobody else's, and said wherever a probability is."""

import csv
import io
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit

import dfmodels
from dfmodels.cli import main
from dfmodels.detector import Calibration
from dfmodels.evaluation.calibration import calibrate, fit_calibration, video_probabilities
from dfmodels.registry import load
from dfmodels.scoring import score_video
from dfmodels.weights import WeightsError, calibration_file, save_calibration
from tests.models.frame_level import FrameLevel
from tests.models.test_detectors import small
from tests.video.videos import noise, write_video

TRUE = Calibration(2.5, -0.75)


def overconfident(videos, average, seed=0):
    """Clips of videos whose labels are drawn from what TRUE makes of them."""
    draws = np.random.default_rng(seed)
    clips = [expit(draws.normal(draws.normal(0, 5), 1.5, draws.integers(1, 6))) for _ in range(videos)]
    p = video_probabilities([calibrate(own, TRUE) for own in clips], average)
    return clips, (draws.random(videos) < p).astype(int)


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_it_finds_what_made_the_labels(average):
    clips, labels = overconfident(20_000, average)
    found = fit_calibration(clips, labels, average=average)
    assert found.temperature == pytest.approx(TRUE.temperature, rel=0.08)
    assert found.bias == pytest.approx(TRUE.bias, abs=0.08)


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_it_equals_logistic_regression_of_one_clip_a_video(average):
    from sklearn.linear_model import LogisticRegression

    draws = np.random.default_rng(3)
    logits = draws.normal(0, 3, 4000)
    labels = (draws.random(4000) < expit(0.5 * logits + 0.4)).astype(int)
    found = fit_calibration([[p] for p in expit(logits)], labels, average=average)
    other = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, None], labels)
    assert 1 / found.temperature == pytest.approx(other.coef_[0, 0], rel=2e-3)  # Platt's targets are not 0 and 1
    assert found.bias == pytest.approx(other.intercept_[0], abs=2e-3)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
def test_a_split_without_a_mistake_gives_finite_numbers(scale):
    clips = [[float(expit(scale * x))] for x in (-2, -1.5, -1, 1, 1.5, 2)]
    found = fit_calibration(clips, [0, 0, 0, 1, 1, 1])
    after = video_probabilities([calibrate(own, found) for own in clips])
    assert np.isfinite([found.temperature, found.bias]).all()
    assert (after[:3] < 0.5).all()
    assert (after[3:] > 0.5).all()
    assert after.max() < 0.999


def test_a_detector_that_knows_nothing_is_calibrated_to_the_share_of_fakes():
    draws = np.random.default_rng(0)
    labels = (np.arange(4000) % 5 > 0).astype(int)
    found = fit_calibration([[p] for p in draws.random(4000)], labels)
    after = calibrate(draws.random(1000), found)
    assert np.abs(after - 0.8).max() < 0.1


@pytest.mark.parametrize(
    ("clips", "labels", "says"),
    [
        ([[0.2], [0.3]], [1, 1], "got 0 real and 2 fake"),
        ([[0.2], [0.3]], [0, 2], "labels must be 0 or 1"),
        ([[0.2], [0.3]], [0], "labels must be 0 or 1"),
        ([[0.2], []], [0, 1], "at least one probability a video"),
    ],
)
def test_what_cannot_be_calibrated(clips, labels, says):
    with pytest.raises(ValueError, match=says):
        fit_calibration(clips, labels)


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"temperature": -1.0}, {"temperature": float("nan")}])
def test_wrong_values_are_refused(wrong):
    with pytest.raises(ValueError, match="temperature must be a number above 0"):
        Calibration(**wrong)
    with pytest.raises(ValueError, match="bias must be a number"):
        Calibration(1.0, float("inf"))


def test_probabilities_and_logits_are_calibrated_alike():
    logits = torch.randn(50, 2, dtype=torch.float64) * 4
    p = logits.softmax(1)[:, 1]
    np.testing.assert_allclose(calibrate(p, TRUE), TRUE(logits).softmax(1)[:, 1], rtol=1e-10)
    assert np.isfinite(calibrate([0.0, 1.0], TRUE)).all()


@pytest.fixture
def weights(tmp_path):
    model = small("ddl")
    model.trained = True
    path = tmp_path / "small.safetensors"
    dfmodels.save(model, path)
    return path


def test_it_lies_beside_its_weights_alone(weights):
    assert load(weights).origin.calibration is None
    path = save_calibration(TRUE, weights)
    assert path == calibration_file(weights)
    assert sorted(os.listdir(weights.parent)) == [weights.name, path.name]
    assert load(weights).origin.calibration == TRUE
    other = small("ddl")
    other.trained = True
    with torch.no_grad():
        next(other.parameters()).add_(1)
    dfmodels.save(other, weights.with_name("other.safetensors"))
    weights.write_bytes(weights.with_name("other.safetensors").read_bytes())
    with pytest.raises(WeightsError, match="was fitted to other weights"):
        load(weights)
    save_calibration(TRUE, weights)
    assert load(weights).origin.calibration == TRUE


def test_it_goes_with_the_weights_that_it_was_fitted_to(weights):
    save_calibration(TRUE, weights)
    dfmodels.save(load(weights), weights)
    assert os.listdir(weights.parent) == [weights.name]
    assert load(weights).origin.calibration is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"weights_sha256": "00", "temperature": 0}', '{"weights_sha256": "00", "mine": 3}']
)
def test_a_foreign_file_is_refused_and_left(weights, text):
    path = calibration_file(weights)
    path.write_text(text)
    with pytest.raises(WeightsError, match="is not a calibration"):
        load(weights)
    with pytest.raises(WeightsError, match="is not a calibration"):
        save_calibration(TRUE, weights)
    other = small("ddl")
    other.trained = True
    before = weights.read_bytes()
    with pytest.raises(WeightsError, match="is not a calibration"):
        dfmodels.save(other, weights)
    assert (path.read_text(), weights.read_bytes()) == (text, before)


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_a_score_is_calibrated_clip_by_clip(tmp_path, average):
    video = write_video(tmp_path / "a.mp4", 12, noise)
    model = FrameLevel(scale=6.0)
    before = score_video(model, video, faces="none", average=average)
    model.origin = replace(model.origin, calibration=TRUE)
    after = score_video(model, video, faces="none", average=average)
    clips = [clip.probability for clip in before.clips]
    np.testing.assert_allclose([clip.probability for clip in after.clips], calibrate(clips, TRUE), rtol=1e-9)
    assert after.probability == pytest.approx(video_probabilities([calibrate(clips, TRUE)], average)[0], rel=1e-9)
    assert before.probability == pytest.approx(video_probabilities([clips], average)[0], rel=1e-9)
    assert after.probability != pytest.approx(before.probability)


def test_every_output_of_score_says_so(weights, tmp_path, capsys):
    video = write_video(tmp_path / "a.mp4", 9, noise)
    command = ["score", str(video), "--weights", str(weights), "--faces", "none"]
    said = "calibrated (temperature 2.5, bias -0.75, fitted on 30 real and 40 fake videos of <Set>)"

    def outputs():
        found = {}
        for form in ("table", "json", "csv"):
            assert main([*command, "--format", form]) == 0
            found[form] = capsys.readouterr().out
        page = tmp_path / "r.html"
        assert main([*command, "--report", str(page)]) == 0
        capsys.readouterr()
        return found, page.read_text()

    found, page = outputs()
    assert "calibrated" not in "".join([*found.values(), page]).replace('"calibration"', "")
    assert json.loads(found["json"])[0]["weights"]["calibration"] is None
    save_calibration(replace(TRUE, fitted_on="30 real and 40 fake videos of <Set>"), weights)
    after, page = outputs()
    assert said in after["table"]
    (row,) = csv.DictReader(io.StringIO(after["csv"]))
    assert row["weights_calibration"] == said
    (entry,) = json.loads(after["json"])
    assert entry["weights"]["calibration"]["temperature"] == 2.5
    assert entry["probability"] != json.loads(found["json"])[0]["probability"]
    assert said.replace("<Set>", "&lt;Set&gt;") in page
    assert "<Set>" not in page


def test_rows_before_and_after_a_calibration_do_not_mix(weights, tmp_path, capsys):
    video = write_video(tmp_path / "a.mp4", 9, noise)
    command = ["score", str(video), "--weights", str(weights), "--faces", "none", "--out", str(tmp_path / "o.csv")]
    assert main(command) == 0
    save_calibration(TRUE, weights)
    assert main([*command, "--resume"]) == 2
    assert "calibration" in capsys.readouterr().err
