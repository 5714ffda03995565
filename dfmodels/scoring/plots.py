"""The picture of a scored video: when it looks fake, when nothing was judged, and the moments to look at."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dfmodels.files import atomic_write, printable
from dfmodels.optional import require
from dfmodels.scoring import timeline, words
from dfmodels.scoring.formats import about, about_weights
from dfmodels.scoring.pictures import boxed, overlay
from dfmodels.scoring.result import REASONS, VideoScore
from dfmodels.scoring.timeline import Mark

INK, SOFT, FAKE, REAL, NOTE = "#1d2430", "#556070", "#a3300f", "#0a5a82", "#6b4a00"
# people differ by colour and by mark; colours of Okabe and Ito, darkened for thin lines on white
COLORS = ("#0064a8", "#c24a00", "#00795a", "#9c3f7c", "#7a5c00", "#3c4350")
MARKERS, LINES = ("o", "s", "^", "D", "v"), ("-", "--", "-.", ":")
HATCHES = {"no_face": "////", "gap": "\\\\\\\\", "short": "....", "still": "----", "damaged": "xxxx"}
NAMED = 8  # people in the legend
FRAMES = 9  # side by side
DPI, WIDTH, MARGIN = 110, 12.0, 0.35  # inches
LEGEND, LEFT = 2.7, 0.95  # inches beside the timeline
PICTURE, CROP, SPACE = 2.55, 1.0, 0.05


def plot_video(score: VideoScore, path: str | Path) -> None:
    """Write a PNG: the verdict and what it rests on, the timeline of the whole video, and the moments that are shown.

    Raises:
        ValueError: a score without probability or without moments.
    """
    if score.probability is None or not score.most_suspicious:
        reason = score.error or "it holds no moments to look at"
        raise ValueError(f"score of {score.path} cannot be plotted: {reason}")
    paper = Paper()
    _write_head(paper, score)
    _draw_timeline(paper, score)
    _draw_moments(paper, score)
    with atomic_write(path) as partial:
        paper.save(partial)


class Paper:
    """A figure that grows downwards; places are in inches from its top left corner."""

    def __init__(self) -> None:
        self.figure = require("matplotlib.figure", "plotting").Figure(figsize=(WIDTH, 10), dpi=DPI)
        self.renderer = (
            require("matplotlib.backends.backend_agg", "plotting").FigureCanvasAgg(self.figure).get_renderer()
        )
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.axis("off")
        self.further: list[tuple[Any, tuple[float, float, float, float]]] = []
        self.y = MARGIN

    def lines(
        self, text: str, size: float, width: float, most: int, weight: str = "normal"
    ) -> tuple[list[str], list[str]]:
        """`text` in at most so many lines of a width, the last ending in "..." where more follows; and the fonts."""
        text, family = fonts_for(text)
        properties = require("matplotlib.font_manager", "plotting").FontProperties(
            family=family, size=size, weight=weight
        )

        def fits(part: str) -> bool:
            return self.renderer.get_text_width_height_descent(part, properties, False)[0] / DPI <= width

        found: list[str] = []
        rest = text.strip()
        while rest:
            if fits(rest):
                return [*found, rest], family
            low, high = 1, len(rest) - 1
            while low < high:
                middle = (low + high + 1) // 2
                low, high = (middle, high) if fits(rest[:middle]) else (low, middle - 1)
            if len(found) == most - 1:
                while low > 1 and not fits(rest[:low].rstrip() + " ..."):
                    low -= 1
                return [*found, rest[:low].rstrip() + " ..."], family
            space = rest.rfind(" ", 1, low + 1)
            cut = space if space > 0 else low
            found.append(rest[:cut].rstrip())
            rest = rest[cut:].lstrip()
        return found, family

    def write(self, text: str, size: float = 9.5, most: int = 3, color: str = INK, weight: str = "normal") -> None:
        """Text over the whole width at the place reached, which moves below it."""
        lines, family = self.lines(text, size, WIDTH - 2 * MARGIN, most, weight)
        for line in lines:
            self.text(MARGIN, self.y, line, size, color=color, weight=weight, family=family)
            self.y += size * 1.38 / 72

    def text(self, x: float, y: float, text: str, size: float, **style: Any) -> None:
        style = {"color": INK, "va": "top", "ha": "left", **style}
        self.axes.text(x, y, text, fontsize=size, parse_math=False, **style)

    def image(self, image: Any, x: float, y: float, width: float, height: float) -> tuple[float, float]:
        """An image in a box, as large as it fits and at its top left; its width and height."""
        scale = min(width / image.shape[1], height / image.shape[0])
        wide, high = image.shape[1] * scale, image.shape[0] * scale
        self.axes.imshow(image, extent=(x, x + wide, y + high, y), aspect="auto", interpolation="antialiased")
        return wide, high

    def plot(self, x: float, y: float, width: float, height: float) -> Any:
        """Axes for data."""
        axes = self.figure.add_axes((0, 0, 1, 1))
        self.further.append((axes, (x, y, width, height)))
        return axes

    def save(self, path: Path) -> None:
        height = self.y + MARGIN
        self.figure.set_size_inches(WIDTH, height)
        self.axes.set(xlim=(0, WIDTH), ylim=(height, 0))
        for axes, (x, y, wide, high) in self.further:
            axes.set_position((x / WIDTH, 1 - (y + high) / height, wide / WIDTH, high / height))
        self.figure.savefig(path, format="png")


def _write_head(paper: Paper, score: VideoScore) -> None:
    color = FAKE if score.verdict == "fake" else REAL
    paper.write(printable(score.path.name or str(score.path)), 14, 4, weight="bold")
    paper.write(
        f"{score.verdict}: {words.probability_text(score.probability)} on a scale from 0 (real) to 1 (fake), "
        f"{words.basis(score)}",
        11,
        2,
        color,
        "bold",
    )
    paper.y += 0.04
    left_out = ", ".join(words.left_out(score)) or "nothing"
    paper.write(
        f"{words.seen(score)}; {words.coverage(score)}; {words.amount(score)}; left out: {left_out}",
        most=3,
    )
    paper.write(about(score), most=3, color=SOFT)
    paper.write(words.LIMITS, 8.5, 4, SOFT)
    paper.write(about_weights(score), most=3, color=NOTE)
    for warning in score.warnings:
        paper.write(f"Warning: {printable(warning)}", most=3, color=NOTE)


def _draw_timeline(paper: Paper, score: VideoScore) -> None:
    seconds = timeline.length(score)
    tracks = timeline.judged(score)
    legend = _legend(paper, score, tracks)
    lanes = len(tracks) if len(tracks) > 1 else 0
    width, lane = WIDTH - LEFT - LEGEND - MARGIN, 0.17
    height = max(2.3, 0.185 * sum(label.count("\n") + 1 for _, label in legend) - 0.1)
    paper.y += 0.75  # frame numbers and letters
    axes = paper.plot(LEFT, paper.y, width, height)
    pad = 0.008 * seconds
    limits = (-pad, seconds + pad)
    inch = (seconds + 2 * pad) / width
    axes.axhspan(0.5, 1, color="#fdece5", lw=0, zorder=0)
    axes.axhline(0.5, color=INK, lw=1, ls=(0, (1, 3)), zorder=1)
    for gap in timeline.gaps(score):
        _hatch(axes, gap, 0, 1, 0.04 * inch, seconds)
    size = 6.0 if len(score.clips) <= 60 else 4.0 if len(score.clips) <= 400 else 2.5
    for order, track in enumerate(tracks):
        color = COLORS[order % len(COLORS)]
        clips = [clip for clip in score.clips if clip.track == track]
        middles = np.array([(clip.start + clip.end) / 2 for clip in clips])
        values = np.array([clip.probability for clip in clips])
        for piece in timeline.runs([clip.start for clip in clips], [gap.start for gap in timeline.gaps(score, track)]):
            axes.plot(middles[piece], values[piece], LINES[order % len(LINES)], color=color, lw=1.1, alpha=0.6)
        wide = [clip for clip in clips if (clip.end - clip.start) / inch > 0.12]
        ends = [clip.start for clip in wide], [clip.end for clip in wide]
        axes.hlines([clip.probability for clip in wide], *ends, colors=color, lw=5, alpha=0.3)
        for fake in (True, False):
            chosen = (values >= 0.5) == fake
            axes.plot(
                middles[chosen],
                values[chosen],
                MARKERS[order % len(MARKERS)],
                ms=size,
                mec=color,
                mfc=color if fake else "white",
                clip_on=False,
                zorder=4,
            )
    _letter(axes, timeline.marks(score), inch, height, seconds)
    axes.set(xlim=limits, ylim=(0, 1), yticks=[0, 0.25, 0.5, 0.75, 1], ylabel="fake probability")
    axes.tick_params(labelsize=8.5)
    axes.spines[["top", "right"]].set_visible(False)
    bottom = axes
    paper.y += height
    if lanes:
        paper.y += 0.06
        axes.tick_params(bottom=False, labelbottom=False)
        bottom = paper.plot(LEFT, paper.y, width, lane * lanes)
        for row, track in enumerate(tracks):
            spans = [(c.start, max(c.end - c.start, 0.03 * inch)) for c in score.clips if c.track == track]
            bottom.broken_barh(spans, (row - 0.3, 0.6), color=COLORS[row % len(COLORS)], lw=0)
            for gap in timeline.gaps(score, track):
                _hatch(bottom, gap, row - 0.4, row + 0.4, 0.04 * inch, seconds)
        bottom.set(xlim=limits, ylim=(lanes - 0.4, -0.6), yticks=range(lanes), yticklabels=tracks)
        bottom.tick_params(axis="y", labelsize=7.5, length=0)
        bottom.set_ylabel("judged", fontsize=8, rotation=0, ha="right", va="center", labelpad=12)
        bottom.spines[["top", "right"]].set_visible(False)
        paper.y += lane * lanes
    ticks = timeline.time_ticks(seconds)
    step = ticks[1] if len(ticks) > 1 else seconds
    label = "{}\n{}" if seconds >= 60 else "{}"
    bottom.set_xticks(ticks, [label.format(timeline.time_label(t, step), timeline.clock(t)) for t in ticks])
    bottom.tick_params(axis="x", labelsize=8.5)
    bottom.set_xlabel("time in seconds", fontsize=9)
    frames = timeline.frame_ticks(score)
    if frames:
        above = axes.secondary_xaxis(1 + 0.33 / height)
        above.set_xticks([time for time, _ in frames], [str(number) for _, number in frames])
        above.tick_params(labelsize=8.5, colors=SOFT)
        above.set_xlabel("number of the frame", fontsize=9, color=SOFT)
    axes.legend(
        [handle for handle, _ in legend],
        [text for _, text in legend],
        loc="upper left",
        bbox_to_anchor=(1.0 + 0.12 / width, 1.03),
        frameon=False,
        fontsize=8.5,
        handlelength=2.2,
        borderaxespad=0,
        labelspacing=0.45,
    )
    paper.y += 0.62 if seconds >= 60 else 0.5


def _hatch(axes: Any, gap: timeline.Gap, low: float, high: float, least: float, seconds: float) -> None:
    width = max(gap.end - gap.start, least)
    start = max(0.0, min(gap.start, seconds - width))
    patches = require("matplotlib.patches", "plotting")
    axes.add_patch(
        patches.Rectangle(
            (start, low), width, high - low, hatch=HATCHES[gap.reason], fc="#eceff3", ec=SOFT, lw=0, zorder=2
        )
    )


def _letter(axes: Any, marks: Sequence[Mark], inch: float, height: float, seconds: float) -> None:
    """The letters of the moments above the data, each with a line to its clip."""
    places = timeline.apart([mark.middle for mark in marks], 0.22 * inch, 0.0, seconds)
    top = 1 + 0.17 / height
    for mark, place in zip(marks, places, strict=True):
        axes.plot(
            [place, mark.middle, mark.middle],
            [top - 0.07 / height, 1 + 0.01 / height, mark.clip.probability],
            color=INK,
            lw=0.6,
            alpha=0.6,
            clip_on=False,
            zorder=1,
        )
        axes.text(
            place,
            top,
            mark.letter,
            ha="center",
            va="center",
            fontsize=8.5,
            weight="bold",
            color=INK,
            bbox={"boxstyle": "circle,pad=0.2", "fc": "white", "ec": INK, "lw": 0.9},
        )


def _legend(paper: Paper, score: VideoScore, tracks: Sequence[int]) -> list[tuple[Any, str]]:
    lines = require("matplotlib.lines", "plotting")
    patches = require("matplotlib.patches", "plotting")
    entries: list[tuple[Any, str]] = []
    if len(score.people) > 1:
        values = {person.track: person.probability for person in score.people}
        for order, track in enumerate(tracks[:NAMED]):
            color, marker = COLORS[order % len(COLORS)], MARKERS[order % len(MARKERS)]
            handle = lines.Line2D([], [], color=color, ls=LINES[order % len(LINES)], lw=1.1, marker=marker, ms=6)
            entries.append((handle, f"person {track}: {words.probability_text(values.get(track))}"))
        if len(tracks) > NAMED:
            entries.append((lines.Line2D([], [], ls="none"), f"and {len(tracks) - NAMED} more"))
    for filled, text in ((INK, "0.5 and above: called fake"), ("white", "below 0.5: called real")):
        entries.append((lines.Line2D([], [], ls="none", marker="o", ms=6, mec=INK, mfc=filled), text))
    for reason in score.reasons():
        patch = patches.Patch(hatch=HATCHES[reason], fc="#eceff3", ec=SOFT, lw=0)
        entries.append((patch, f"not judged: {REASONS[reason]}"))
    return [(handle, "\n".join(paper.lines(text, 8.5, LEGEND - 0.65, 4)[0])) for handle, text in entries]


def _draw_moments(paper: Paper, score: VideoScore) -> None:
    marks = timeline.marks(score)
    kinds = list(marks[0].moment.maps)
    paper.y += 0.1
    paper.write(words.moments_text(score), 8.5, 4, SOFT)
    paper.y += 0.08
    if score.unit == "frame":
        for begin in range(0, len(marks), FRAMES):
            _draw_frames(paper, score, marks[begin : begin + FRAMES], kinds)
    else:
        for mark in marks:
            _draw_clip(paper, score, mark, kinds)


def _draw_clip(paper: Paper, score: VideoScore, mark: Mark, kinds: Sequence[str]) -> None:
    moment, clip = mark.moment, mark.clip
    paper.write(f"{mark.letter}  {words.rank(mark)}: {words.clip_text(clip, score)}", 10, 2, weight="bold")
    paper.y += 0.04
    rows = 1 + len(kinds)
    step = CROP + SPACE
    below = paper.image(boxed(moment.picture, moment.box), MARGIN, paper.y, PICTURE, max(rows * step, 1.7))[1]
    left = MARGIN + PICTURE + 0.32
    for row, name in enumerate(("seen", *kinds)):
        (label, *_), family = paper.lines(name, 8, CROP, 1)
        middle = paper.y + row * step + CROP / 2
        paper.text(left - 0.1, middle, label, 8, color=SOFT, rotation=90, va="center", ha="center", family=family)
    for column, number in enumerate(timeline.shown_crops(moment)):
        x = left + column * step
        crop = moment.crops[number]
        for row, image in enumerate([crop, *(overlay(crop, moment.maps[kind][number]) for kind in kinds)]):
            paper.image(image, x, paper.y + row * step, CROP, CROP)
        frame, time = timeline.crop_label(clip, number, len(moment.crops))
        paper.text(x, paper.y + rows * step, f"{frame}\n{time:.2f} s".strip(), 8, color=SOFT)
    paper.y += max(rows * step + 0.36, below) + 0.14


def _draw_frames(paper: Paper, score: VideoScore, marks: Sequence[Mark], kinds: Sequence[str]) -> None:
    step = (WIDTH - 2 * MARGIN) / min(max(len(timeline.marks(score)), 5), FRAMES)
    side = step - SPACE
    wholes = [boxed(mark.moment.picture, mark.moment.box) for mark in marks]
    high = min(max(side * image.shape[0] / image.shape[1] for image in wholes), 1.4 * side)
    for column, (mark, whole) in enumerate(zip(marks, wholes, strict=True)):
        x, y = MARGIN + column * step, paper.y
        frame, time = timeline.crop_label(mark.clip, 0, 1)
        title = f"{mark.letter}{'  least suspicious' if mark.least else ''}"
        paper.text(x, y, title, 8.5, weight="bold")
        value = words.probability_text(mark.clip.probability)
        whom = f", person {mark.clip.track}" if len(score.people) > 1 else ""
        paper.text(
            x, y + 0.17, f"{value}{whom}\nframe {frame}\n{time:.2f} s" if frame else f"{value}{whom}\n{time:.2f} s", 8
        )
        y += 0.62
        paper.image(whole, x, y, side, high)
        y += high + SPACE
        crop = mark.moment.crops[0]
        for image in [crop, *(overlay(crop, mark.moment.maps[kind][0]) for kind in kinds)]:
            paper.image(image, x, y, side, side)
            y += side + SPACE
    paper.y += 0.62 + high + SPACE + (1 + len(kinds)) * (side + SPACE) + 0.1


# ---------------------------------------------------------------------- characters


def fonts_for(text: str) -> tuple[str, list[str]]:
    """`text` with escapes in the place of characters that no font here has, and the families that have the others."""
    families = ["DejaVu Sans"]
    found = ""
    for character in text:
        family = _family(character)
        if family is not None and family not in families:
            families.append(family)
        found += character if family is not None else character.encode("unicode_escape").decode()
    return found, families


@cache
def _family(character: str) -> str | None:
    """A font family that has a character."""
    return next((name for name, characters in _fonts() if ord(character) in characters()), None)


@cache
def _fonts() -> list[tuple[str, Any]]:
    manager = require("matplotlib.font_manager", "plotting")
    upright = [font for font in manager.fontManager.ttflist if font.style == "normal"]
    fonts = {font.name: font.fname for font in sorted(upright, key=lambda font: font.weight != 400, reverse=True)}
    # a font of last resort has a box for everything
    names = sorted(
        (name for name in fonts if "Last Resort" not in name), key=lambda name: (name != "DejaVu Sans", name)
    )
    return [(name, cache(lambda path=fonts[name]: frozenset(manager.get_font(path).get_charmap()))) for name in names]
