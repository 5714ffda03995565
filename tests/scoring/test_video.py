"""From clips to the score of a video: sampling, number of clips and averaging as the detector's contract says."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from dfmodels.detector import Detector, InputContract
from dfmodels.scoring import score_video, score_videos, video_score
from dfmodels.scoring import video as scoring
from dfmodels.video import Clip, WholeFrame, clip_frames, face_detector
from tests.models.frame_level import FrameLevel
from tests.video.videos import STEP, cartoon, write_video

CONTRACT = InputContract(num_frames=4, size=(8, 8), sampling="spread", num_clips=3, average="logits")


class Brightness(Detector):
    """The logit of fake grows with the brightness of a clip, so a video of rising grey tells which frames it saw."""

    def __init__(self, contract, scale=20.0):
        super().__init__()
        self.name, self.config, self.contract, self.trained = "brightness", {}, contract, True
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def forward(self, clip):
        fake = self.scale * (clip.mean((1, 2, 3, 4)) - 0.3)
        return torch.stack([torch.zeros_like(fake), fake], dim=1)


def expected_logits(plan):
    return torch.tensor([[0.0, 20 * (np.mean(clip) * STEP / 255 - 0.3)] for clip in plan])


@pytest.fixture
def video(tmp_path):
    return write_video(tmp_path / "ramp.mp4", 24)


def score(video, contract=CONTRACT, **options):
    return score_video(Brightness(contract), video, faces="none", **options)


def test_of_a_wrapped_model_the_detector_scores(video):
    model = Brightness(CONTRACT)
    expected = score_video(model, video, faces="none").probability
    for wrapped in (torch.compile(model, backend="eager"), torch.nn.DataParallel(model)):
        assert score_video(wrapped, video, faces="none").probability == expected
    with pytest.raises(TypeError, match="model must be a Detector or a wrapper of one, got Linear"):
        score_video(torch.nn.Linear(1, 1), video, faces="none")


def test_averages():
    logits = torch.tensor([[0.0, 2.0], [1.0, -3.0], [0.5, 0.5]])
    fake = logits.double().softmax(1)[:, 1]
    assert video_score(logits) == video_score(logits, "probabilities") == pytest.approx(float(fake.mean()))
    assert video_score(logits, "logits") == pytest.approx(1 / (1 + np.exp(2 / 3)))
    for average in ("probabilities", "logits"):
        assert video_score(logits[:1], average) == pytest.approx(float(fake[0]))


def test_unknown_average(video):
    message = "average must be one of 'probabilities', 'logits', got 'votes'"
    with pytest.raises(ValueError, match=message):
        video_score(torch.zeros(1, 2), "votes")
    with pytest.raises(ValueError, match=message):
        score(video, average="votes")
    with pytest.raises(ValueError, match=message):
        score(video, replace(CONTRACT, average="votes"))


@pytest.mark.parametrize("sampling", ["consecutive", "spread"])
@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_the_contract_decides(video, sampling, average):
    contract = replace(CONTRACT, sampling=sampling, average=average)
    result = score(video, contract, keep_suspect=True)
    plan = clip_frames(24, 4, 3, sampling)
    logits = expected_logits(plan)
    assert result.probability == pytest.approx(video_score(logits, average), abs=0.02)
    assert [clip.probability for clip in result.clips] == pytest.approx(logits.softmax(1)[:, 1].tolist(), abs=0.02)
    times = [(clip.start, clip.end) for clip in result.clips]
    np.testing.assert_allclose(times, [(clip[0] / 25, clip[-1] / 25) for clip in plan], atol=1e-4)
    # The highest clip is the last, the brightest one.
    assert abs(result.suspect.mean() - np.mean(plan[-1]) * STEP) < 2
    assert result.suspect.shape == (4, 8, 8, 3)
    assert (result.suspects, result.unit) == ((2,), "clip")


def test_arguments_override_the_contract(video):
    result = score(video)
    other = score(video, num_clips=2, average="probabilities")
    assert len(result.clips) == 3
    assert len(other.clips) == 2
    assert other.probability == pytest.approx(np.mean([clip.probability for clip in other.clips]))
    assert result.probability != pytest.approx(np.mean([clip.probability for clip in result.clips]), abs=1e-3)
    assert len(score(video, num_clips="all").clips) == 6
    with pytest.raises(ValueError, match="num_clips must be a whole number of at least 1, got 'many'"):
        score(video, num_clips="many")


def test_batches_do_not_change_the_score(video):
    results = [score(video, batch_size=size) for size in (1, 2, 3)]
    for result in results[1:]:
        assert result.probability == pytest.approx(results[0].probability, abs=1e-6)
        assert result.clips == pytest.approx(results[0].clips)


def test_frames_of_equal_clips_average_to_one(video):
    one = score(video, replace(CONTRACT, num_frames=12, num_clips=1))
    assert score(video).probability == pytest.approx(one.probability, abs=1e-6)


def test_a_short_video_is_scored(tmp_path):
    result = score(write_video(tmp_path / "one.mp4", 1))
    assert len(result.clips) == 3
    assert len(set(result.clips)) == 1
    assert result.error is None


def test_an_untrained_detector_gives_no_verdict_on_anything(video, tmp_path):
    model = Brightness(CONTRACT)
    model.trained = False
    for path in (video, tmp_path / "missing.mp4"):
        with pytest.raises(RuntimeError, match="random weights"):
            score_video(model, path, faces="none")


def test_a_detector_without_weights(video):
    model = Brightness(CONTRACT)
    del model.scale
    model.scale = 20.0
    assert score_video(model, video, faces="none").probability == score(video).probability


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_output_that_is_no_number(video, average):
    result = score_video(Brightness(CONTRACT, float("nan")), video, faces="none", average=average)
    assert result.verdict == "failed"
    assert "not a number" in result.error


# --- detectors of single frames


def test_frames_of_a_video(video):
    model = FrameLevel(num_clips=12)
    result = score_video(model, video, faces="none", keep_suspect=True)
    indices = [index for (index,) in clip_frames(24, 1, 12, "even")]
    fake = expected_logits([[index] for index in indices]).softmax(1)[:, 1]
    assert [clip.probability for clip in result.clips] == pytest.approx(fake.tolist(), abs=0.02)
    assert result.probability == pytest.approx(float(fake.mean()), abs=0.02)
    np.testing.assert_allclose([clip.start for clip in result.clips], np.array(indices) / 25, atol=1e-4)
    assert all(clip.start == clip.end for clip in result.clips)
    # Those with the highest probability are the last ones, the brightest.
    assert (result.unit, result.suspects) == ("frame", tuple(range(4, 12)))
    np.testing.assert_allclose(result.suspect.mean((1, 2, 3)), np.array(indices[4:]) * STEP, atol=2)


def test_the_contract_chooses_the_crop(monkeypatch, video):
    given = {}
    read_clips = scoring.read_clips
    monkeypatch.setattr(
        scoring, "read_clips", lambda path, **options: given.update(options) or read_clips(path, **options)
    )
    for crop in ("square", "aligned"):
        model = FrameLevel()
        model.contract = replace(model.contract, crop=crop)
        score_video(model, video, faces="none")
        assert given["crop"] == crop


def test_frames_are_computed_eight_at_a_time(video):
    for options, batches in (({}, [8, 8, 8]), ({"batch_size": 5}, [5, 5, 5, 5, 4]), ({"num_clips": 3}, [3])):
        model = FrameLevel()
        result = score_video(model, video, faces="none", **options)
        assert model.batches == batches
        assert len(result.clips) == sum(batches)
    clips = Brightness(CONTRACT)
    calls = []
    clips.register_forward_hook(lambda module, given, output: calls.append(len(output)))
    assert len(score_video(clips, video, faces="none").clips) == len(calls) == 3
    for wrong in (0, "2", 1.5):
        with pytest.raises(ValueError, match=f"batch_size must be a whole number of at least 1, got {wrong!r}"):
            score_video(FrameLevel(), video, faces="none", batch_size=wrong)
    with pytest.raises(TypeError, match="faces must be a string such as 'auto', or a face detector, got int"):
        score_video(FrameLevel(), video, faces=3)


def pretend_clips(monkeypatch, levels, alive=None):
    """Let the scorer read frames of these grey levels, the first at second 0, the next at 1 and so on."""

    def read(*arguments, **options):
        for second, level in enumerate(levels):
            frames = np.full((1, 8, 8, 3), level, np.uint8)
            if alive is not None:
                alive.append(weakref.ref(frames))
            yield Clip(
                frames, (second,), (float(second),), np.zeros((1, 4), np.int64), 1, frames[0].copy(), (0, 0, 8, 8)
            )
            del frames

    monkeypatch.setattr(scoring, "read_clips", read)


def test_suspects_are_the_highest_in_order_of_time(monkeypatch):
    levels = [90, 10, 95, 20, 85, 30, 80, 80, 80, 40, 92, 99, 80]
    pretend_clips(monkeypatch, levels)
    for batch_size in (1, 3, 20):
        result = score_video(FrameLevel(), "a.mp4", batch_size=batch_size, keep_suspect=True)
        assert result.suspects == (0, 2, 4, 6, 7, 8, 10, 11)  # of equal ones the earlier
        assert result.suspect[:, 0, 0, 0].tolist() == [levels[number] for number in result.suspects]
    pretend_clips(monkeypatch, levels[:3])
    assert score_video(FrameLevel(), "a.mp4").suspects == (0, 1, 2)


@pytest.mark.parametrize(("keep", "shown"), [(True, 8), (False, 0)])
def test_no_more_crops_are_held_than_shown(monkeypatch, keep, shown):
    alive, held = [], []
    pretend_clips(monkeypatch, np.random.default_rng(0).integers(0, 256, 100), alive)
    model = FrameLevel()
    model.register_forward_hook(lambda *_: held.append(sum(ref() is not None for ref in alive)))
    gc.disable()  # references in a cycle would count as memory held
    try:
        result = score_video(model, "a.mp4", batch_size=4, keep_suspect=keep)
    finally:
        gc.enable()
    assert len(held) == 25
    assert len(result.suspects) == 8
    assert (result.suspect is not None) == keep
    assert max(held) == shown + 4 + 1  # and the batch at hand, and the last of the one before


@pytest.mark.parametrize("plot", [False, True])
def test_no_crops_are_held_of_videos_that_are_scored(video, tmp_path, monkeypatch, plot):
    plotted = []
    monkeypatch.setattr(
        "dfmodels.scoring.plots.plot_video", lambda model, score, path: plotted.append(score.suspect.shape)
    )
    scores = score_videos(
        Brightness(CONTRACT),
        [video] * 3,
        faces=WholeFrame(),
        num_clips=None,
        average=None,
        batch_size=None,
        select="largest",
        plot=tmp_path / "plots" if plot else None,
    )
    assert [score.suspect for score in scores] == [None] * 3
    assert [score.suspects for score in scores] == [(2,)] * 3
    assert plotted == [(4, 8, 8, 3)] * (3 * plot)


def test_threads_share_a_detector_and_a_face_detector(tmp_path):
    """Scores of videos with faces at different places, as a serial run gives them."""
    contract = replace(CONTRACT, sampling="even", num_frames=1, num_clips=4)
    videos = [
        write_video(tmp_path / f"{i}.mp4", 4, lambda t, i=i: cartoon(240, 320, 120 + 8 * i + t, 120, 70 + 5 * i))
        for i in range(8)
    ]
    model, faces = Brightness(contract, 4.0), face_detector("haar")
    serial = [score_video(model, path, faces=faces).clips for path in videos]
    assert len(set(serial)) == len(videos)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            together = list(pool.map(lambda path: score_video(model, path, faces=faces), videos))
            assert [score.error for score in together] == [None] * len(videos)
            assert [score.clips for score in together] == serial


def test_failures_keep_the_unit(monkeypatch, tmp_path):
    missing = score_video(FrameLevel(), tmp_path / "none.mp4")
    pretend_clips(monkeypatch, [3])
    damaged = score_video(FrameLevel(scale=float("nan")), "a.mp4")
    for result in (missing, damaged):
        assert (result.verdict, result.unit) == ("failed", "frame")
