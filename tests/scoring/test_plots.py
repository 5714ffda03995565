"""The picture of a scored video."""

import itertools
import warnings
from dataclasses import replace

import matplotlib.figure
import numpy as np
import pytest
from matplotlib.legend import Legend
from matplotlib.text import Text

from dfmodels.scoring import plots
from tests.scoring.scores import failed_score, make_score


def drawn(monkeypatch, score, path):
    """The figure that `plot_video` saved; no warning came while it was drawn."""
    figures = []
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure,
        "savefig",
        lambda figure, *args, **kw: figures.append(figure) or save(figure, *args, **kw),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.plot_video(score, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    return figures[0]


def texts(figure):
    return [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]


def said(figure):
    return "\n".join(text.get_text() for text in texts(figure))


KINDS = {
    "one clip": {"clips": 1, "people": 1, "left_out": (), "moments": 1, "kinds": ()},
    "eight clips": {},
    "frames": {
        "unit": "frame",
        "clips": 300,
        "length": 1,
        "people": 1,
        "moments": 8,
        "kinds": ("CAM",),
        "seconds": 300,
    },
    "one frame": {"unit": "frame", "clips": 1, "people": 1, "left_out": (), "moments": 1, "seconds": 0.04},
    "five people": {"people": 5, "judge": (1, 2, 3, 4, 5), "seconds": 5 * 3600, "kinds": ("CAM",)},
    "a crowd": {"people": 12, "judge": tuple(range(1, 13)), "moments": 1, "kinds": (), "clips": 4},
    "portrait": {"shape": (640, 360), "seconds": 61, "left_out": (("short", 1), ("still", 1), ("damaged", 2))},
    "all reasons": {"left_out": tuple((reason, 1) for reason in plots.HATCHES), "warnings": ("word " * 300, "again")},
    "long clips": {"seconds": 3, "length": 9, "clips": 5},
    "long name": {"path": "w" * 251 + ".mp4", "clips": 1, "moments": 1, "left_out": ()},
    "odd name": {
        "path": "$_^ \\alpha {x}$ \udcff\n\u202e שלום ثلاثة 漢字 🎬.mp4",
        "clips": 1,
        "moments": 1,
        "left_out": (),
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_cut_and_no_label_covers_another_or_the_data(monkeypatch, tmp_path, kind):
    if kind == "a crowd":
        monkeypatch.setattr("tests.scoring.scores.FACES", tuple(range(12)))
    figure = drawn(monkeypatch, make_score(**KINDS[kind]), tmp_path / "a.png")
    renderer = figure.canvas.get_renderer()
    paper, data, *_ = figure.axes
    page = figure.bbox
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts(figure)]
    for text, box in boxes:
        assert page.x0 <= box.x0, text
        assert box.x1 <= page.x1, text
        assert page.y0 <= box.y0, text
        assert box.y1 <= page.y1, text
        assert not overlap(box, data.get_window_extent(renderer)), text
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        assert not overlap(a, b), (one, other)
    (legend,) = data.findobj(Legend)
    assert not overlap(legend.get_window_extent(renderer), data.get_window_extent(renderer))
    for image in paper.images:
        assert not any(overlap(image.get_window_extent(renderer), box) for _, box in boxes)
        assert not overlap(image.get_window_extent(renderer), data.get_window_extent(renderer))


def overlap(a, b):
    """By more than the pixel that rounding may take."""
    return min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1


def test_it_says_what_the_verdict_rests_on(monkeypatch, tmp_path):
    score = make_score("interview.mp4", people=2)
    shown = said(drawn(monkeypatch, score, tmp_path / "a.png")).replace("\n", " ")
    for fact in (
        "interview.mp4",
        f"fake: {score.probability:.3f} on a scale from 0 (real) to 1 (fake), on average over 8 clips of person 1",
        "2 people seen, 1 judged; 88 of 600 frames read, 55 (62 %) with a face; 8 clips judged "
        "(64 of the video's 600 frames); left out: 2 clips",
        "This is not the probability that the video is forged.",
        "about the weights: rendered talking heads",
        "runs/stil/best.safetensors (SHA-256 9f2c41d7a6b0)",
        "not for judging videos",
        "dfmodels 0.1.0, faces: centerface",
        "Warning: Only 62 % of the frames",
        "not judged: no face was found",
        "SIM, inconsistency inside a frame",
    ):
        assert fact in shown


def test_frames_and_times_are_those_of_the_video(monkeypatch, tmp_path):
    score = make_score(moments=1)
    figure = drawn(monkeypatch, score, tmp_path / "a.png")
    clip = score.clips[score.most_suspicious[0].clip]
    captions = [f"{number}\n{number / 25:.2f} s" for number in clip.frames]
    assert set(captions) <= {text.get_text() for text in texts(figure)}
    data = figure.axes[1]
    assert data.get_xlim()[0] <= 0 < score.duration <= data.get_xlim()[1]
    (frames,) = (axes for axes in data.child_axes)
    numbers = [int(text.get_text()) for text in frames.get_xticklabels()]
    np.testing.assert_allclose(frames.get_xticks(), np.array(numbers) / 25, atol=0.05)


def test_of_a_long_clip_eight_frames_are_shown(monkeypatch, tmp_path):
    score = make_score(length=16, clips=1, moments=1, left_out=(), people=1, kinds=("CAM",))
    figure = drawn(monkeypatch, score, tmp_path / "a.png")
    assert len(figure.axes[0].images) == 1 + 8 * 2  # the whole frame, crops and maps
    captions = [text.get_text().split("\n")[0] for text in figure.axes[0].texts if text.get_text().endswith(" s")]
    assert captions == [str(score.clips[0].frames[i]) for i in (0, 2, 4, 6, 9, 11, 13, 15)]


def test_every_person_has_a_line_of_its_own(monkeypatch, tmp_path):
    score = make_score(people=4, judge=(1, 2, 4))
    data = drawn(monkeypatch, score, tmp_path / "a.png").axes[1]
    marks = {(line.get_marker(), line.get_markeredgecolor()) for line in data.lines if line.get_marker() != "None"}
    assert len(marks) == 3
    points = sum(len(line.get_xdata()) for line in data.lines if line.get_marker() != "None")
    assert points == len(score.clips)
    (legend,) = data.findobj(Legend)
    people = [text.get_text() for text in legend.get_texts() if text.get_text().startswith("person")]
    assert people == [f"person {p.track}: {p.probability:.3f}" for p in score.people if p.probability is not None]


def test_lines_are_broken_where_nothing_was_judged(monkeypatch, tmp_path):
    score = make_score(clips=8, left_out=(("no_face", 2),), people=1)
    data = drawn(monkeypatch, score, tmp_path / "a.png").axes[1]
    runs = [line.get_xdata() for line in data.lines if line.get_linewidth() == 1.1]
    assert [len(run) for run in runs] == [3, 5]
    assert runs[0][-1] < score.left_out[0].start < score.left_out[-1].end < runs[1][0]
    (band,) = (patch for patch in data.patches if patch.get_hatch())
    assert band.get_hatch() == plots.HATCHES["no_face"]
    assert (band.get_x(), band.get_x() + band.get_width()) == (score.left_out[0].start, score.left_out[-1].end)


def test_long_words_are_wrapped_and_cut_with_dots():
    paper = plots.Paper()
    lines, _ = paper.lines("w" * 500, 10, 3.0, 3)
    assert len(lines) == 3
    assert lines[-1].endswith(" ...")
    assert "".join(paper.lines("one two three " * 20, 10, 3.0, 99)[0]).replace(" ", "") == "onetwothree" * 20
    assert paper.lines("", 10, 3.0, 3)[0] == []


def test_characters_without_a_font_are_escaped():
    text, families = plots.fonts_for("a\U0010fffd$")
    assert (text, families) == ("a\\U0010fffd$", ["DejaVu Sans"])


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        (replace(make_score(), most_suspicious=()), "it holds no moments to look at"),
        (failed_score("a.mp4", "a.mp4: the file is empty"), "a.mp4: the file is empty"),
    ],
)
def test_scores_without_a_picture(tmp_path, score, reason):
    with pytest.raises(ValueError, match=f"score of .* cannot be plotted: {reason}"):
        plots.plot_video(score, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
