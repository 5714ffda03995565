"""Heat maps of the detectors, and the pictures they go into."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from dfmodels.detector import Detector
from dfmodels.scoring import ClipScore, VideoScore, plots
from tests.models.frame_level import FrameLevel
from tests.models.test_detectors import SMALL, small

NAMES = {"ddl": ["DFDC"], "lsda": ["CAM"], "stil": ["SIM", "TIM"]}


def frames(model, seed=0):
    shape = (model.contract.num_frames, *model.contract.size, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_maps_span_the_clip(name):
    model = small(name)
    shown = frames(model)
    maps = plots.heat_maps(model, shown)
    assert list(maps) == NAMES[name]
    for kind, values in maps.items():
        assert kind in plots.CAPTIONS
        assert values.shape == shown.shape[:3]
        assert (values.min(), values.max()) == (0, 1)


def test_a_frame_without_a_next_one_does_not_set_the_scale():
    maps = plots.heat_maps(model := small("stil"), frames(model))
    assert (maps["TIM"][-1] == 0).all()
    assert maps["TIM"][:-1].min() == 0


def test_maps_of_several_sizes_are_averaged_and_borders_kept():
    flat = [torch.full((1, 2, 6, 6), 0.7), torch.full((1, 2, 3, 3), 0.2)]
    assert (plots._joined(flat, (12, 12)) == 0).all()
    ramp = torch.linspace(0, 1, 6).expand(1, 2, 6, 6)
    joined = plots._joined([*flat, ramp], (12, 12))
    assert (joined[..., -1] == 1).all()  # zero padding would darken the border
    assert (np.diff(joined, axis=-1) >= 0).all()


def video(shown, name="video.mp4"):
    return VideoScore(Path(name), 0.7, (ClipScore(0.0, 0.3, 0.6), ClipScore(0.4, 0.7, 0.8)), 1.0, suspect=shown)


def drawn(monkeypatch, model, score, path):
    """The figure that `plot_video` saved."""
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *args, **kw: figures.append(figure) or save(figure, *args, **kw)
    )
    plots.plot_video(model, score, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    return figures[0]


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_row_and_a_caption_for_each_kind(monkeypatch, tmp_path, name):
    model = small(name)
    figure = drawn(monkeypatch, model, video(frames(model)), tmp_path / "a.png")
    captions = [strip.get_suptitle() for strip in figure.subfigs[1:]]
    numbers = ", ".join(str(t + 1) for t in range(model.contract.num_frames))
    assert captions[0].startswith(f"most suspicious clip, frames {numbers}")
    assert captions[1:] == [f"{kind}, {plots.CAPTIONS[kind]}" for kind in NAMES[name]]


def test_a_detector_without_maps_gets_frames_alone(monkeypatch, tmp_path):
    class Plain(Detector):
        contract = small("stil").contract

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

    shown = frames(Plain())
    assert plots.heat_maps(Plain(), shown) == {}
    figure = drawn(monkeypatch, Plain(), video(shown, "long " * 30 + "$.mp4"), tmp_path / "a.png")
    assert len(figure.subfigs) == 2
    title = figure.subfigs[0].axes[0].get_title("left")
    assert title.endswith(r"\$.mp4: fake, fake probability 0.700")
    assert len(title) < 120


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        (VideoScore(Path("a.mp4"), 0.7, (ClipScore(0.0, 0.3, 0.7),), 1.0), "it holds no crops; .* keep_suspect=True"),
        (VideoScore(Path("a.mp4"), None, (), 1.0, "a.mp4: the file is empty"), "a.mp4: the file is empty"),
    ],
)
def test_scores_without_a_picture(tmp_path, score, reason):
    with pytest.raises(ValueError, match=f"score of a.mp4 cannot be plotted: {reason}"):
        plots.plot_video(small("stil"), score, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


# --- detectors of single frames


@pytest.mark.parametrize("count", [1, 5, 8])
def test_suspicious_frames_have_their_time_and_probability(monkeypatch, tmp_path, count):
    model = FrameLevel()
    generator = np.random.default_rng(count)
    shown = generator.integers(0, 256, (count, *model.contract.size, 3), dtype=np.uint8)
    clips = tuple(ClipScore(0.4 * i, 0.4 * i, float(p)) for i, p in enumerate(generator.random(32)))
    suspects = tuple(range(2, 2 + count))
    score = VideoScore(Path("video.mp4"), 0.7, clips, 1.0, suspect=shown, suspects=suspects, unit="frame")
    figure = drawn(monkeypatch, model, score, tmp_path / "a.png")
    timeline, plain, cam = figure.subfigs
    assert plain.get_suptitle().startswith("most suspicious frames, the larger dots above; in the rows below, bright")
    assert cam.get_suptitle() == f"CAM, {plots.CAPTIONS['CAM']}"
    assert [axes.get_title() for axes in plain.axes if axes.get_title()] == [
        f"{0.4 * i:.2f} s: {clips[i].probability:.3f}" for i in suspects
    ]
    for strip, layers in ((plain, 1), (cam, 2)):
        assert [len(axes.images) for axes in strip.axes] == [layers] * count + [0] * (8 - count)
    for axes, image in zip(plain.axes, shown, strict=False):
        assert (axes.images[0].get_array() == image).all()
    (axes,) = timeline.axes
    (points,) = (drawing for drawing in axes.collections if len(drawing.get_offsets()) == 32)
    np.testing.assert_allclose(points.get_offsets(), [(clip.start, clip.probability) for clip in clips])
    highest = max(range(32), key=lambda i: clips[i].probability)
    assert set(np.flatnonzero(points.get_sizes() == 81)) == {*suspects, highest}
    assert [text.get_text() for text in axes.texts] == ["most suspicious frame"]


def test_one_scale_for_the_maps_of_all_frames():
    shown = np.zeros((3, 32, 32, 3), np.uint8)
    shown[1, :16, :16] = 100
    shown[2, :16, :16] = 200
    maps = plots.heat_maps(FrameLevel(), shown)["CAM"]
    assert maps.shape == (3, 32, 32)
    assert maps[0].max() == 0
    assert (maps[2, 0, 0], maps[2].min()) == (1, 0)
    assert maps[1, 0, 0] == pytest.approx(0.5, abs=0.01)
