"""Talking heads: what decides a clip, what the label changes, and what it leaves alone."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

cv2 = pytest.importorskip("cv2")

from dfmodels.synthetic import DEFAULT_CONFIG, TalkingHeadConfig, TalkingHeads, render_clip  # noqa: E402
from dfmodels.synthetic._identity import Identity  # noqa: E402

FACE = (slice(14, 54), slice(18, 46))  # lies on the face in a frame of 64 pixels
CLEAN = replace(DEFAULT_CONFIG, noise=(0.0, 0.0), quality=None)


def grey(frames):
    return frames[..., FACE[0], FACE[1], :].astype(np.float64).mean(-1)


def flicker(clip):
    """Mean absolute second difference along time: smooth motion leaves little of it."""
    frames = grey(clip)
    return np.abs(frames[2:] - 2 * frames[1:-1] + frames[:-2]).mean()


def single_frame_statistics(frame):
    """Logarithms of sharpness, contrast, brightness, colour, and size as a PNG."""
    face = grey(frame)
    colour = frame[FACE].astype(np.float64).mean((0, 1))
    sharpness = cv2.Laplacian(face, cv2.CV_64F).var()
    size = len(cv2.imencode(".png", frame)[1])
    return np.log([sharpness, face.std(), face.mean(), colour[0] / colour[1], colour[2] / colour[1], size])


def scores(real_config, fake_config, pairs):
    """Student's t of the difference between fake and real frames of the same seed, one per statistic."""
    rows = []
    for n in range(pairs):
        frames = [
            render_clip(n, 1000 + n, fake, num_frames=2, config=config)[1]
            for fake, config in ((True, fake_config), (False, real_config))
        ]
        rows.append(single_frame_statistics(frames[0]) - single_frame_statistics(frames[1]))
    difference = np.asarray(rows)
    return difference.mean(0) / (difference.std(0, ddof=1) / np.sqrt(pairs))


@settings(max_examples=12)
@given(
    identity=st.integers(0, 2**40),
    seed=st.integers(0, 2**63),
    fake=st.booleans(),
    num_frames=st.integers(1, 3),
    size=st.integers(16, 81),
    supersample=st.integers(1, 3),
)
def test_any_arguments_give_frames(identity, seed, fake, num_frames, size, supersample):
    config = TalkingHeadConfig(supersample=supersample)
    clip = render_clip(identity, seed, fake, num_frames=num_frames, size=size, config=config)
    assert clip.shape == (num_frames, size, size, 3)
    assert clip.dtype == np.uint8
    assert clip.std() > 8


@pytest.mark.parametrize("fake", [False, True])
def test_arguments_decide_every_pixel(fake):
    threads = cv2.getNumThreads()
    clip = render_clip(3, 4, fake, num_frames=2, size=200)
    render_clip(8, 9, not fake, num_frames=1)
    np.random.seed(1)
    torch.manual_seed(1)
    try:
        cv2.setNumThreads(1 if threads > 1 else 4)
        np.testing.assert_array_equal(render_clip(3, 4, fake, num_frames=2, size=200), clip)
    finally:
        cv2.setNumThreads(threads)


@pytest.mark.parametrize("fake", [False, True])
def test_a_short_clip_begins_a_long_one(fake):
    np.testing.assert_array_equal(render_clip(5, 6, fake, num_frames=3), render_clip(5, 6, fake, num_frames=7)[:3])


def test_seed_and_identity_change_the_clip():
    clip = render_clip(0, 0, False, num_frames=1).astype(float)
    for identity, seed in ((0, 1), (1, 0)):
        assert np.abs(render_clip(identity, seed, False, num_frames=1) - clip).mean() > 4


def test_sizes_show_the_same_scene():
    small = render_clip(2, 7, True, num_frames=3, size=64, config=CLEAN)
    large = render_clip(2, 7, True, num_frames=3, size=192, config=CLEAN)
    for a, b in zip(small, large, strict=True):
        assert np.abs(cv2.resize(b, (64, 64), interpolation=cv2.INTER_AREA).astype(float) - a).mean() < 4


def test_identity_fixes_the_texture():
    first, again, other = (Identity.draw(np.random.default_rng(n)) for n in (1, 1, 2))
    np.testing.assert_array_equal(first.pores, again.pores)
    assert first.contour().tolist() == again.contour().tolist()
    assert np.abs(first.pores - other.pores).mean() > 0.5


def test_identity_is_recognisable():
    """The nearest clip in colour and shape mostly shows the same person, whatever the light and the background."""
    people, scenes = 8, 4
    features = []
    for who in range(people):
        for scene in range(scenes):
            clip = render_clip(who, 50 * who + scene, False, num_frames=1, config=CLEAN)[0].astype(np.float32) / 255
            chroma = (clip / (clip.sum(-1, keepdims=True) + 0.1))[4:58, 14:50]
            features.append(cv2.resize(chroma, (9, 12), interpolation=cv2.INTER_AREA).ravel())
    x = np.stack(features)
    distance = ((x[:, None] - x[None]) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    who = np.arange(people * scenes) // scenes
    assert (who[distance.argmin(1)] == who).mean() > 0.6  # chance: 3 of 31


def test_first_frames_do_not_depend_on_the_label():
    for n in range(4):
        np.testing.assert_array_equal(render_clip(n, n, True, num_frames=1), render_clip(n, n, False, num_frames=1))


def test_without_flicker_a_fake_is_real():
    config = TalkingHeadConfig(flicker=0.0)
    np.testing.assert_array_equal(render_clip(1, 2, True, config=config), render_clip(1, 2, False, config=config))


def test_fakes_flicker():
    pairs = [[flicker(render_clip(n, 300 + n, fake)) for fake in (False, True)] for n in range(20)]
    real, fake = np.asarray(pairs).T
    assert fake.mean() > 1.8 * real.mean()
    assert (fake > 1.15 * real).all()


def test_only_the_face_flickers():
    real, fake = (render_clip(4, 11, fake, config=CLEAN).astype(int) for fake in (False, True))
    difference = np.abs(real - fake).max(-1)[1:]
    assert (difference[:, 30:44, 26:38].mean((1, 2)) > 1).all()
    border = np.ones((64, 64), dtype=bool)
    border[6:, 8:56] = False
    assert difference[:, border].max() == 0


def test_flicker_grows_with_its_strength():
    def mean(strength):
        config = TalkingHeadConfig(flicker=strength)
        return np.mean([flicker(render_clip(n, n, True, config=config)) for n in range(6)])

    assert mean(0.0) < mean(0.4) < mean(1.0)


def test_single_frames_do_not_tell_the_label():
    """No statistic of the second frame differs between the classes by more than chance explains."""
    assert np.abs(scores(DEFAULT_CONFIG, DEFAULT_CONFIG, 80)).max() < 3.2


def test_a_single_frame_shortcut_would_show():
    """The measure above is fine enough to see reals that skip the softening, or fakes with a colour cast."""
    assert np.abs(scores(replace(DEFAULT_CONFIG, softness=0.0), DEFAULT_CONFIG, 80)).max() > 5


def test_labels_are_balanced_and_shared_by_identities():
    data = TalkingHeads(10, num_identities=3, first_identity=7)
    assert len(data) == 10
    assert data.labels.tolist() == [data.label(n) for n in range(10)] == [0, 1] * 5
    assert {data.identity(n) for n in range(10)} == {7, 8, 9}
    for who in (7, 8, 9):
        shown = [data.label(n) for n in range(10) if data.identity(n) == who]
        assert shown.count(0) == shown.count(1)


def test_ranges_of_identities_are_disjoint():
    train, test = TalkingHeads(20), TalkingHeads(20, first_identity=10)
    assert not {train.identity(n) for n in range(20)} & {test.identity(n) for n in range(20)}


def test_items():
    data = TalkingHeads(5, num_frames=2, size=32, seed=3)
    clip, label = data[3]
    assert clip.shape == (2, 3, 32, 32)
    assert clip.dtype == torch.float32
    assert 0 <= clip.min() < clip.max() <= 1
    assert label == 1
    torch.testing.assert_close(clip, data[-2][0], rtol=0, atol=0)
    assert not torch.equal(clip, TalkingHeads(5, num_frames=2, size=32, seed=4)[3][0])
    assert sum(1 for _ in data) == 5
    clips, labels = next(iter(torch.utils.data.DataLoader(data, batch_size=4)))
    assert clips.shape == (4, 2, 3, 32, 32)
    assert labels.tolist() == [0, 1, 0, 1]


def test_neighbours_show_different_scenes():
    data = TalkingHeads(2, num_frames=1, size=32)
    assert data.identity(0) == data.identity(1)
    assert (data[0][0] - data[1][0]).abs().mean() > 0.02


def test_render_all_keeps_the_same_clips():
    data, calls = TalkingHeads(3, num_frames=1, size=32), []
    lazy = [data.frames(n) for n in range(3)]
    assert data.render_all(lambda done, total: calls.append((done, total))) is data
    assert calls == [(1, 3), (2, 3), (3, 3)]
    for n in range(3):
        assert torch.equal(data.frames(n), lazy[n])
        assert data.frames(n) is data.frames(n)


def test_frame_steps_skip_frames_of_the_same_motion():
    config = replace(CLEAN, fps=24.0)
    dense = render_clip(1, 1, False, num_frames=5, config=config)
    sparse = render_clip(1, 1, False, num_frames=3, config=replace(config, fps=12.0))
    np.testing.assert_array_equal(sparse, dense[::2])
    steps = TalkingHeads(4, num_frames=3, size=32, frame_steps=(2,))
    assert not torch.equal(steps.frames(0), TalkingHeads(4, num_frames=3, size=32).frames(0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"identity": -1}, "identity must be at least 0, got -1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"num_frames": 0}, "num_frames must be at least 1"),
        ({"size": 8}, "size must be at least 16, got 8"),
    ],
)
def test_render_clip_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        render_clip(**({"identity": 0, "seed": 0, "fake": False} | arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fps": 0.0}, "fps must be positive"),
        ({"flicker": 1.5}, r"flicker must lie in \[0, 1\], got 1.5"),
        ({"softness": -0.1}, "softness must lie"),
        ({"shift": -0.1}, "shift must be finite"),
        ({"stretch": 0.5}, r"stretch must lie in \[0, 0.25\]"),
        ({"texture": float("nan")}, "texture must be finite"),
        ({"motion": (2.0, 1.0)}, "motion must be"),
        ({"noise": (-1.0, 1.0)}, "noise must be"),
        ({"quality": (0, 101)}, "quality must be"),
        ({"supersample": 0}, "supersample must be at least 1"),
    ],
)
def test_config_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        TalkingHeadConfig(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_clips": 0}, "num_clips must be at least 1"),
        ({"first_identity": -1}, "first_identity must be at least 0"),
        ({"num_identities": 0}, "num_identities must be at least 1"),
        ({"frame_steps": ()}, "frame_steps must be"),
        ({"frame_steps": (0,)}, "frame_steps must be"),
    ],
)
def test_data_set_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        TalkingHeads(**({"num_clips": 4} | arguments))


@pytest.mark.parametrize("index", [4, -5])
def test_index_errors(index):
    with pytest.raises(IndexError, match="index must lie in"):
        TalkingHeads(4)[index]


def test_missing_opencv_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match=r"needs OpenCV.*pip install .*\[video\]"):
        render_clip(0, 0, False)
