"""From clips to the score of a video: sampling, number of clips and averaging as the detector's contract says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dfmodels.detector import Detector, InputContract
from dfmodels.evaluation.scoring import score_video, video_score
from dfmodels.video import clip_frames
from tests.video.films import STEP, write_film

CONTRACT = InputContract(num_frames=4, size=(8, 8), sampling="spread", num_clips=3, average="logits")


class Brightness(Detector):
    """The logit of fake grows with the brightness of a clip, so a film of rising grey tells which frames it saw."""

    def __init__(self, contract, scale=20.0):
        super().__init__()
        self.name, self.contract, self.trained = "brightness", contract, True
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def forward(self, clip):
        fake = self.scale * (clip.mean((1, 2, 3, 4)) - 0.3)
        return torch.stack([torch.zeros_like(fake), fake], dim=1)


def expected_logits(plan):
    return torch.tensor([[0.0, 20 * (np.mean(clip) * STEP / 255 - 0.3)] for clip in plan])


@pytest.fixture
def film(tmp_path):
    return write_film(tmp_path / "ramp.mp4", 24)


def score(film, contract=CONTRACT, **options):
    return score_video(Brightness(contract), film, faces="none", **options)


def test_averages():
    logits = torch.tensor([[0.0, 2.0], [1.0, -3.0], [0.5, 0.5]])
    fake = logits.double().softmax(1)[:, 1]
    assert video_score(logits) == video_score(logits, "probabilities") == pytest.approx(float(fake.mean()))
    assert video_score(logits, "logits") == pytest.approx(1 / (1 + np.exp(2 / 3)))
    for average in ("probabilities", "logits"):
        assert video_score(logits[:1], average) == pytest.approx(float(fake[0]))


def test_unknown_average(film):
    message = "average must be one of probabilities, logits, got 'votes'"
    with pytest.raises(ValueError, match=message):
        video_score(torch.zeros(1, 2), "votes")
    with pytest.raises(ValueError, match=message):
        score(film, average="votes")
    with pytest.raises(ValueError, match=message):
        score(film, replace(CONTRACT, average="votes"))


@pytest.mark.parametrize("sampling", ["consecutive", "spread"])
@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_the_contract_decides(film, sampling, average):
    contract = replace(CONTRACT, sampling=sampling, average=average)
    result = score(film, contract)
    plan = clip_frames(24, 4, 3, sampling)
    logits = expected_logits(plan)
    assert result.probability == pytest.approx(video_score(logits, average), abs=0.02)
    assert [clip.probability for clip in result.clips] == pytest.approx(logits.softmax(1)[:, 1].tolist(), abs=0.02)
    times = [(clip.start, clip.end) for clip in result.clips]
    np.testing.assert_allclose(times, [(clip[0] / 25, clip[-1] / 25) for clip in plan], atol=1e-4)
    # The highest clip is the last, the brightest one.
    assert abs(result.suspect.mean() - np.mean(plan[-1]) * STEP) < 2


def test_arguments_override_the_contract(film):
    result = score(film)
    other = score(film, num_clips=2, average="probabilities")
    assert len(result.clips) == 3
    assert len(other.clips) == 2
    assert other.probability == pytest.approx(np.mean([clip.probability for clip in other.clips]))
    assert result.probability != pytest.approx(np.mean([clip.probability for clip in result.clips]), abs=1e-3)
    assert len(score(film, num_clips="all").clips) == 6
    with pytest.raises(ValueError, match="num_clips must be a whole number of at least 1, got 'many'"):
        score(film, num_clips="many")


def test_batches_do_not_change_the_score(film):
    results = [score(film, batch_size=size) for size in (1, 2, 3)]
    for result in results[1:]:
        assert result.probability == pytest.approx(results[0].probability, abs=1e-6)
        assert result.clips == pytest.approx(results[0].clips)


def test_frames_of_equal_clips_average_to_one(film):
    one = score(film, replace(CONTRACT, num_frames=12, num_clips=1))
    assert score(film).probability == pytest.approx(one.probability, abs=1e-6)


def test_a_short_film_is_scored(tmp_path):
    result = score(write_film(tmp_path / "one.mp4", 1))
    assert len(result.clips) == 3
    assert len(set(result.clips)) == 1
    assert result.error is None


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_output_that_is_no_number(film, average):
    result = score_video(Brightness(CONTRACT, float("nan")), film, faces="none", average=average)
    assert result.verdict == "failed"
    assert "not a number" in result.error
