"""Pictures of a scored video: when it looks fake, and where."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dfmodels.detector import Detector
from dfmodels.files import atomic_write
from dfmodels.optional import require
from dfmodels.scoring.formats import printable
from dfmodels.scoring.video import SUSPECT_FRAMES, ClipScore, VideoScore

REAL, FAKE, INK = "#2a7f9e", "#c8442f", "#333333"


# what the maps of `Detector.attention_maps` mean, by name
CAPTIONS = {
    "CAM": "class activation: bright where the evidence for fake lies",
    "DFDC": "inconsistency between frames: bright where they differ most unsteadily",
    "SIM": "inconsistency inside a frame: bright where its features count most",
    "TIM": "inconsistency between frames: bright where the step to the next one acts most; the last one has no next",
}


def heat_maps(model: Detector, frames: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """One map (T, H, W) in [0, 1] for each kind of attention maps that the detector has.

    Every block's map is brought to the crop's size and smoothed over its own cell, since single positions may be all
    that is bright in it; the mean over the blocks is scaled from the smallest to the largest value of the clip.
    """
    clip = model.contract.normalize(torch.from_numpy(frames[None]).to(model.device))
    return {name: _joined(maps, frames.shape[1:3]) for name, maps in model.attention_maps(clip).items()}


def _joined(maps: list[Tensor], size: tuple[int, int]) -> NDArray[np.float32]:
    total = torch.zeros(())
    for values in maps:
        smooth = F.avg_pool2d(values[0, :, None].float().cpu(), 3, 1, 1, count_include_pad=False)
        total = total + F.interpolate(smooth, size, mode="bilinear", align_corners=False)[:, 0]
    # a frame with one value everywhere, but for rounding, shows nothing
    varied = total[total.amax((1, 2)) - total.amin((1, 2)) > 1e-5]
    if not len(varied):
        return torch.zeros_like(total).numpy()
    low, high = varied.aminmax()
    return ((total - low) / (high - low)).clamp(0, 1).numpy()


def plot_video(model: Detector, score: VideoScore, path: str | Path) -> None:
    """Write a PNG: the timeline of probabilities, and what is most suspicious, plain and under each heat map.

    That is a clip, or of a video scored frame by frame several frames, one scale of brightness for all of them.

    Raises:
        ValueError: a score without probability or without crops.
    """
    figures = require("matplotlib.figure", "plotting")
    if score.probability is None or score.suspect is None:
        reason = score.error or "it holds no crops; score the video with keep_suspect=True"
        raise ValueError(f"score of {score.path} cannot be plotted: {reason}")
    frames = score.suspect
    heat = heat_maps(model, frames)
    shown = np.linspace(0, len(frames) - 1, min(len(frames), 8)).round().astype(int)
    if score.unit == "frame":
        caption, scope, columns = "most suspicious frames, the larger dots above", "these frames", SUSPECT_FRAMES
        captioned = score.suspects
    else:
        caption = f"most suspicious clip, frames {', '.join(str(t + 1) for t in shown)}"
        scope, columns, captioned = "this clip", len(shown), ()
    if heat:
        caption += f"; in the rows below, bright is the most and dark the least in {scope}"
    heights = [3.0, 1.95 if captioned else 1.75] + [1.75] * len(heat)
    figure = figures.Figure(figsize=(12, sum(heights)), dpi=110, layout="constrained")
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    timeline, *strips = (figure.add_subfigure(grid[row]) for row in range(len(heights)))
    _draw_timeline(timeline.add_subplot(), score)
    plain = _row(strips[0], caption, columns)
    for axes, t in zip(plain, shown, strict=False):
        axes.imshow(frames[t])
    for axes, number in zip(plain, captioned, strict=False):
        clip = score.clips[number]
        axes.set_title(f"{clip.start:.2f} s: {clip.probability:.3f}", fontsize=8, color=_color(clip))
    for strip, (name, values) in zip(strips[1:], heat.items(), strict=True):
        caption = f"{name}, {CAPTIONS[name]}" if name in CAPTIONS else name
        for axes, t in zip(_row(strip, caption, columns), shown, strict=False):
            axes.imshow(frames[t].mean(-1), cmap="gray", vmin=0, vmax=255)
            axes.imshow(values[t], cmap="inferno", vmin=0, vmax=1, alpha=0.25 + 0.6 * values[t])
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png")


def _row(strip: Any, caption: str, columns: int) -> list[Any]:
    """Axes for the frames of one row from the left, under its caption."""
    strip.suptitle(caption, x=0.005, ha="left", fontsize=9, color=INK)
    row = list(strip.subplots(1, columns, squeeze=False)[0])
    for axes in row:
        axes.axis("off")
    return row


def _draw_timeline(timeline: Any, score: VideoScore) -> None:
    worst = max(range(len(score.clips)), key=lambda i: score.clips[i].probability)
    times = [(clip.start + clip.end) / 2 for clip in score.clips]
    probabilities = [clip.probability for clip in score.clips]
    colors = [_color(clip) for clip in score.clips]
    if score.unit == "frame":
        timeline.vlines(times, 0, probabilities, colors=colors, alpha=0.35)
        timeline.margins(x=0.08)  # room for the words over the first or the last
    else:
        for clip, color in zip(score.clips, colors, strict=True):
            timeline.fill_between(
                [clip.start, max(clip.end, clip.start + 0.02)], 0, clip.probability, color=color, alpha=0.35
            )
    large = {worst, *score.suspects}
    sizes = [(9 if i in large else 5) ** 2 for i in range(len(times))]
    timeline.scatter(times, probabilities, sizes, colors, linewidths=1, zorder=2)
    suspect = score.clips[worst]
    headroom = score.unit == "frame"  # other frames stand too near to write below one
    timeline.annotate(
        f"most suspicious {score.unit}",
        ((suspect.start + suspect.end) / 2, suspect.probability),
        xytext=(0, 10 if headroom or suspect.probability <= 0.85 else -16),
        textcoords="offset points",
        ha="center",
        fontsize=9,
        color=INK,
    )
    timeline.axhline(0.5, color=INK, lw=0.8, ls=":")
    timeline.set(ylim=(0, 1.2 if headroom else 1.06), yticks=np.linspace(0, 1, 6))
    timeline.set(xlabel="time (s)", ylabel="fake probability")
    timeline.spines[["top", "right"]].set_visible(False)
    timeline.set_title(
        f"{_shown_name(score.path)}: {score.verdict}, fake probability {score.probability:.3f}",
        loc="left",
        fontsize=13,
        color=FAKE if score.verdict == "fake" else REAL,
    )


def _color(clip: ClipScore) -> str:
    return FAKE if clip.probability >= 0.5 else REAL


def _shown_name(path: Path) -> str:
    name = printable(path.name)
    name = name if len(name) <= 70 else f"{name[:45]} ... {name[-20:]}"
    return name.replace("$", r"\$")  # a dollar sign would begin a formula
