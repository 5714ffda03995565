"""From clips to the score of a video: sampling, number of clips and averaging as the detector's contract says."""

import gc
import hashlib
import importlib
import json
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

import dfmodels
from dfmodels.detector import Detector, InputContract, Origin
from dfmodels.scoring import score_video, score_videos, video_score
from dfmodels.scoring import video as scoring
from dfmodels.video import Clip, VideoInfo, WholeFrame, clip_frames, face_detector
from tests.models.frame_level import FrameLevel
from tests.models.test_detectors import SMALL
from tests.video.videos import STEP, cartoon, noise, ramp, write_image, write_video

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
    result = score(video, contract, keep_moments=True)
    plan = clip_frames(24, 4, 3, sampling)
    logits = expected_logits(plan)
    assert result.probability == pytest.approx(video_score(logits, average), abs=0.02)
    assert [clip.probability for clip in result.clips] == pytest.approx(logits.softmax(1)[:, 1].tolist(), abs=0.02)
    times = [(clip.start, clip.end) for clip in result.clips]
    np.testing.assert_allclose(times, [(clip[0] / 25, clip[-1] / 25) for clip in plan], atol=1e-4)
    assert [clip.frames for clip in result.clips] == [tuple(clip) for clip in plan]
    # The highest clip is the last, the brightest one.
    assert [moment.clip for moment in result.most_suspicious] == list(range(len(plan)))[::-1]
    highest = result.most_suspicious[0]
    assert abs(highest.crops.mean() - np.mean(plan[-1]) * STEP) < 2
    assert highest.crops.shape == (4, 8, 8, 3)
    assert highest.picture.shape == (48, 64, 3)
    assert highest.box == (0, 0, 64, 48)
    assert abs(highest.picture.mean() - plan[-1][2] * STEP) < 2
    assert (result.least_suspicious, result.unit) == (None, "clip")


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
    result = score(write_video(tmp_path / "short.mp4", 3), replace(CONTRACT, sampling="consecutive"))
    assert [clip.frames for clip in result.clips] == [(0, 1, 2, 2)]
    assert result.error is None
    assert result.warnings == ("the video has 3 frames and a clip of brightness 4: frames were repeated",)


# --- what stands still


def grey(index):
    return np.full((48, 64, 3), 90, np.uint8)


@pytest.mark.parametrize("sampling", ["consecutive", "spread", "even"])
@pytest.mark.parametrize("frames", [1, 24])
def test_a_detector_of_motion_does_not_judge_what_stands_still(tmp_path, sampling, frames):
    video = write_video(tmp_path / "still.mp4", frames, grey)
    result = score(video, replace(CONTRACT, sampling=sampling), keep_moments=True)
    assert (result.verdict, result.probability, result.clips, result.most_suspicious) == ("failed", None, (), ())
    assert result.reasons() == {"still": len(result.left_out)}
    assert str(video) in result.error
    assert "stands still, and brightness judges motion" in result.error
    assert (result.frames_read > 0, result.frames_with_face) == (True, result.frames_read)
    judged = score_video(FrameLevel(), video, faces="none")  # one of single frames does
    assert judged.error is None


def test_a_picture_is_no_motion(tmp_path):
    write_image(tmp_path / "photo.png", noise(0))
    assert "stands still" in score(tmp_path / "photo.png").error


def test_the_moving_part_of_a_video_is_judged(tmp_path):
    video = write_video(tmp_path / "part.mp4", 24, lambda t: ramp()(max(0, t - 11)))
    contract = replace(CONTRACT, sampling="consecutive", num_clips=6, average="probabilities")
    result = score(video, contract)
    assert [clip.frames[0] for clip in result.clips] == [12, 16, 20]
    assert [(clip.reason, clip.frames[0]) for clip in result.left_out] == [("still", 0), ("still", 4), ("still", 8)]
    assert result.probability == pytest.approx(np.mean([clip.probability for clip in result.clips]))
    assert result.warnings == ()


def test_somebody_who_stands_still_in_most_clips_is_not_judged(tmp_path):
    video = write_video(tmp_path / "part.mp4", 24, lambda t: ramp()(max(0, t - 15)))
    result = score(video, replace(CONTRACT, sampling="consecutive", num_clips=6), keep_moments=True)
    assert (result.probability, result.clips, result.most_suspicious) == (None, (), ())
    assert result.reasons() == {"still": 6}
    assert [clip.frames[0] for clip in result.left_out] == [0, 4, 8, 12, 16, 20]


def test_a_box_that_moves_over_a_still_picture_is_no_motion(tmp_path):
    texture = noise(0).repeat(3, 0).repeat(3, 1)
    video = write_video(tmp_path / "still.mp4", 24, lambda t: texture)
    (tmp_path / "a.json").write_text(json.dumps({str(t): [[40 + t % 3, 40, 100 + t % 3, 100]] for t in range(24)}))
    model = Brightness(replace(CONTRACT, sampling="consecutive"))
    assert "stands still" in score_video(model, video, faces=f"boxes:{tmp_path / 'a.json'}").error


# --- people


@pytest.fixture
def two(tmp_path):
    """A film of two squares side by side, the left one darker and larger, with the boxes of both."""
    texture = np.random.default_rng(0).integers(0, 30, (12, 24, 3)).repeat(10, 0).repeat(10, 1)

    def picture(t):
        image = np.full((120, 240, 3), 10)
        image[20:100, 20:100] = 40 + t % 7
        image[30:90, 150:210] = 200 + t % 7
        return (image + texture).astype(np.uint8)

    video = write_video(tmp_path / "two.mp4", 24, picture)
    boxes = [[20, 20, 100, 100], [150, 30, 210, 90]]
    (tmp_path / "two.json").write_text(json.dumps({str(t): boxes for t in range(24)}))
    return video, f"boxes:{tmp_path / 'two.json'}"


def test_one_person_is_judged_and_the_others_are_named(two):
    video, faces = two
    result = score_video(Brightness(replace(CONTRACT, sampling="consecutive", margin=0.9)), video, faces=faces)
    assert {clip.track for clip in result.clips} == {1}
    assert result.probability < 0.5
    assert [(person.track, person.clips, person.share) for person in result.people] == [(1, 3, 1.0), (2, 0, 1.0)]
    assert [person.probability for person in result.people] == [result.probability, None]
    assert [(person.first, person.last) for person in result.people] == [(0.0, pytest.approx(23 / 25, abs=0.2))] * 2
    assert result.warnings == (
        "2 people were seen, person 1 was judged, the one with most face area; --select all judges everyone",
    )


def test_everyone_is_judged_and_the_highest_counts(two):
    video, faces = two
    model = Brightness(replace(CONTRACT, sampling="consecutive", margin=0.9))
    for batch_size in (1, 4):
        result = score_video(model, video, faces=faces, select="all", batch_size=batch_size, keep_moments=True)
        first, second = result.people
        assert (first.clips, second.clips) == (3, 3)
        assert first.probability < 0.5 < second.probability == result.probability
        assert [clip.track for clip in result.clips] == [1, 2] * 3
        assert {result.clips[moment.clip].track for moment in result.most_suspicious} == {2}
        assert result.clips[result.least_suspicious.clip].track == 1
        assert result.warnings == ()
    alone = score_video(model, video, faces=faces)
    assert alone.probability == pytest.approx(first.probability, abs=1e-6)


def boxes_of(path, frames, shown):
    path.write_text(json.dumps({str(t): [[10, 10, 40, 40]] for t in range(frames) if shown(t)}))
    return f"boxes:{path}"


def test_clips_without_a_face_are_counted_and_half_a_video_is_worth_a_warning(tmp_path):
    video = write_video(tmp_path / "ramp.mp4", 100, lambda t: noise(t))
    contract = replace(CONTRACT, sampling="consecutive", num_clips=25)
    model = Brightness(contract)
    faces = boxes_of(tmp_path / "a.json", 100, lambda t: t < 40)
    result = score_video(model, video, faces=faces)
    assert (result.frames_read, result.num_frames, result.duration) == (100, 100, pytest.approx(4.0))
    assert 40 <= result.frames_with_face <= 44  # a few behind the last one are bridged where the picture agrees
    assert len(result.clips) + len(result.left_out) == 25
    assert result.reasons()["no_face"] >= 13
    few, only = result.warnings
    assert few.startswith(f"{faces} found a face in {result.frames_with_face} of 100 frames read (")
    assert "(--faces)" in few
    assert only == f"only {len(result.clips)} of 25 clips were judged; --clips all looks at more of the video"
    everything = score_video(model, video, faces=faces, num_clips="all")
    assert everything.warnings[1] == f"only {len(result.clips)} of 25 clips were judged"
    result = score_video(model, video, faces=boxes_of(tmp_path / "b.json", 100, lambda t: t < 60))
    assert result.warnings == ()
    assert result.reasons()


def test_a_video_without_a_face_tells_how_many_frames_were_looked_at(video, tmp_path):
    result = score_video(Brightness(CONTRACT), video, faces=boxes_of(tmp_path / "a.json", 24, lambda t: False))
    assert (result.people, result.frames_with_face, result.probability) == ((), 0, None)
    assert result.reasons() == {"no_face": 3}
    assert result.frames_read > 0
    assert f"finds no face in any of the {result.frames_read} frames read" in result.error


# --- damage, origin, and pictures


def damage(monkeypatch, numbers):
    """Let these frames of every video be damaged."""
    for module in ("people", "clips"):
        plain = importlib.import_module(f"dfmodels.video.{module}").iter_frames

        def flagged(path, wanted=None, plain=plain):
            return (replace(frame, damaged=frame.index in numbers) for frame in plain(path, wanted))

        monkeypatch.setattr(f"dfmodels.video.{module}.iter_frames", flagged)


@pytest.mark.parametrize("faces", ["none", "boxes"])
def test_damaged_frames_are_left_out_and_counted(monkeypatch, tmp_path, faces):
    video = write_video(tmp_path / "ramp.mp4", 24, noise)
    if faces == "boxes":
        faces = boxes_of(tmp_path / "a.json", 24, lambda t: True)
    model = Brightness(replace(CONTRACT, sampling="consecutive", num_clips=6))
    damage(monkeypatch, {5, 6, 13})
    result = score_video(model, video, faces=faces)
    assert [clip.frames[0] for clip in result.clips] == [0, 8, 16, 20]
    assert (result.frames_damaged, result.reasons()) == (3, {"damaged": 2})
    assert result.warnings == (
        f"3 of {result.frames_read} frames read are damaged, and the clips that hold them were left out; copy or "
        "download the file again",
    )
    damage(monkeypatch, range(24))
    result = score_video(model, video, faces=faces)
    assert result.probability is None
    assert result.frames_damaged == result.frames_read > 0
    assert "damaged" in result.error
    assert "again" in result.error


def test_a_verdict_names_its_weights(video, tmp_path):
    model = dfmodels.build("ddl", **SMALL["ddl"])
    model.trained = True
    dfmodels.save(model, tmp_path / "w.safetensors", note="not for judging", data="noise")
    loaded = dfmodels.load(tmp_path / "w.safetensors")
    for judge in (model, loaded, dfmodels.optimize(loaded)):
        result = score_video(judge, video, faces="none")
        assert (result.detector, result.version, result.faces) == ("ddl", dfmodels.__version__, "none")
        assert result.weights == judge.origin
    assert model.origin == Origin()
    digest = hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
    assert result.weights == Origin(str(tmp_path / "w.safetensors"), digest, "not for judging; data: noise")
    loaded.load_state_dict(model.state_dict())
    assert loaded.origin == Origin()


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


@pytest.mark.parametrize("part", ["cautions", "moments"])
def test_a_fault_beside_the_verdict_leaves_none(video, monkeypatch, part):
    monkeypatch.setattr(scoring._Judge, part, lambda *arguments: 1 / 0)
    result = score(video)
    assert (result.verdict, result.probability) == ("failed", None)
    assert [person.probability for person in result.people] == [None]
    assert "ZeroDivisionError" in result.error


# --- detectors of single frames


def test_frames_of_a_video(video):
    model = FrameLevel(num_clips=12)
    result = score_video(model, video, faces="none", keep_moments=True)
    indices = [index for (index,) in clip_frames(24, 1, 12, "even")]
    fake = expected_logits([[index] for index in indices]).softmax(1)[:, 1]
    assert [clip.probability for clip in result.clips] == pytest.approx(fake.tolist(), abs=0.02)
    assert result.probability == pytest.approx(float(fake.mean()), abs=0.02)
    np.testing.assert_allclose([clip.start for clip in result.clips], np.array(indices) / 25, atol=1e-4)
    assert all(clip.start == clip.end for clip in result.clips)
    # Those with the highest probability are the last ones, the brightest.
    assert result.unit == "frame"
    assert [moment.clip for moment in result.most_suspicious] == list(range(4, 12))[::-1]
    assert result.least_suspicious.clip == 0
    shown = [moment.crops.mean() for moment in (*result.most_suspicious, result.least_suspicious)]
    np.testing.assert_allclose(shown, np.array([*indices[:3:-1], indices[0]]) * STEP, atol=2)


def test_the_contract_chooses_the_crop(monkeypatch, video):
    given = {}
    read = scoring.read_people
    monkeypatch.setattr(
        scoring, "read_people", lambda *where, **options: given.update(options) or read(*where, **options)
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

    monkeypatch.setattr(scoring, "read_people", read)
    monkeypatch.setattr(scoring, "video_info", lambda path: VideoInfo(len(levels), 1.0))


def test_suspects_are_the_highest_in_order_of_time(monkeypatch):
    levels = [90, 10, 95, 20, 85, 30, 80, 80, 80, 40, 92, 99, 80]
    pretend_clips(monkeypatch, levels)
    for batch_size in (1, 3, 20):
        result = score_video(FrameLevel(), "a.mp4", faces="none", batch_size=batch_size, keep_moments=True)
        numbers = [moment.clip for moment in result.most_suspicious]
        assert numbers == [11, 2, 10, 0, 4, 6, 7, 8]  # of equal ones the earlier
        assert [moment.crops[0, 0, 0, 0] for moment in result.most_suspicious] == [levels[number] for number in numbers]
        assert result.least_suspicious.clip == 1
    pretend_clips(monkeypatch, levels[:3])
    result = score_video(FrameLevel(), "a.mp4", faces="none", keep_moments=True)
    assert [moment.clip for moment in result.most_suspicious] == [2, 0, 1]
    assert result.least_suspicious is None
    result = score_video(FrameLevel(), "a.mp4", faces="none")
    assert (result.most_suspicious, result.least_suspicious, result.suspect) == ((), None, None)


@pytest.mark.parametrize(("keep", "shown"), [(True, 9), (False, 0)])
def test_no_more_crops_are_held_than_shown(monkeypatch, keep, shown):
    alive, held = [], []
    pretend_clips(monkeypatch, np.random.default_rng(0).integers(0, 256, 100), alive)
    model = FrameLevel()
    model.register_forward_hook(lambda *_: held.append(sum(ref() is not None for ref in alive)))
    gc.disable()  # references in a cycle would count as memory held
    try:
        result = score_video(model, "a.mp4", faces="none", batch_size=4, keep_moments=keep)
    finally:
        gc.enable()
    assert len(held) == 25
    assert len(result.most_suspicious) == 8 * keep
    assert max(held) == shown + 4  # and the batch at hand


@pytest.mark.parametrize("plot", [False, True])
def test_no_crops_are_held_of_videos_that_are_scored(video, tmp_path, monkeypatch, plot):
    plotted = []
    monkeypatch.setattr("dfmodels.scoring.plots.plot_video", lambda score, path: plotted.append(score.suspect.shape))
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
    damaged = score_video(FrameLevel(scale=float("nan")), "a.mp4", faces="none")
    for result in (missing, damaged):
        assert (result.verdict, result.unit) == ("failed", "frame")
