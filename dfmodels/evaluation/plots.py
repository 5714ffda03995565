"""Pictures of a scored video: when it looks fake, and where."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dfmodels.detector import Detector
from dfmodels.evaluation.scoring import VideoScore

REAL, FAKE, INK = "#2a7f9e", "#c8442f", "#333333"


# what the maps of `Detector.attention_maps` mean, by name
CAPTIONS = {
    "DFDC": "inconsistency between frames: bright where they differ most unsteadily",
    "SIM": "inconsistency inside a frame: bright where its features count most",
    "TIM": "inconsistency between frames: bright where the step to the next one acts most; the last one has no next",
}


def heat_maps(model: Detector, frames: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """One map (T, H, W) in [0, 1] for each kind of attention maps that the detector has.

    Every block's map is brought to the crop's size and smoothed over its own cell, since single positions may be all
    that is bright in it; the mean over the blocks is scaled from the smallest to the largest value of the clip.
    """
    device = next(model.parameters()).device
    clip = model.contract.normalize(torch.from_numpy(frames[None]).to(device))
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
    """Write a PNG: the timeline of clip probabilities, and the most suspicious clip, plain and under each heat map."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "dfops[video]"') from error
    assert score.probability is not None
    assert score.suspect is not None
    frames = score.suspect
    heat = heat_maps(model, frames)
    shown = np.linspace(0, len(frames) - 1, min(len(frames), 8)).round().astype(int)
    rows = 1 + len(heat)
    figure = Figure(figsize=(12, 3.0 + 1.75 * rows), dpi=110, layout="constrained")
    grid = figure.add_gridspec(rows + 1, 1, height_ratios=[3.0] + [1.75] * rows)
    timeline, *strips = (figure.add_subfigure(grid[row]) for row in range(rows + 1))
    _draw_timeline(timeline.add_subplot(), score)
    caption = f"most suspicious clip, frames {', '.join(str(t + 1) for t in shown)}"
    if heat:
        caption += "; in the rows below, bright is the most and dark the least in this clip"
    for axes, t in zip(_row(strips[0], caption, len(shown)), shown, strict=True):
        axes.imshow(frames[t])
    for strip, (name, values) in zip(strips[1:], heat.items(), strict=True):
        caption = f"{name}, {CAPTIONS[name]}" if name in CAPTIONS else name
        for axes, t in zip(_row(strip, caption, len(shown)), shown, strict=True):
            axes.imshow(frames[t].mean(-1), cmap="gray", vmin=0, vmax=255)
            axes.imshow(values[t], cmap="inferno", vmin=0, vmax=1, alpha=0.25 + 0.6 * values[t])
    figure.savefig(path, format="png")


def _row(strip: Any, caption: str, columns: int) -> list[Any]:
    """Axes for the frames of one row, under its caption."""
    strip.suptitle(caption, x=0.005, ha="left", fontsize=9, color=INK)
    row = list(strip.subplots(1, columns, squeeze=False)[0])
    for axes in row:
        axes.axis("off")
    return row


def _draw_timeline(timeline: Any, score: VideoScore) -> None:
    worst = max(range(len(score.clips)), key=lambda i: score.clips[i].probability)
    for i, clip in enumerate(score.clips):
        color = FAKE if clip.probability >= 0.5 else REAL
        timeline.fill_between(
            [clip.start, max(clip.end, clip.start + 0.02)], 0, clip.probability, color=color, alpha=0.35
        )
        timeline.plot([(clip.start + clip.end) / 2], [clip.probability], "o", color=color, ms=9 if i == worst else 5)
    suspect = score.clips[worst]
    timeline.annotate(
        "most suspicious clip",
        ((suspect.start + suspect.end) / 2, suspect.probability),
        xytext=(0, -16 if suspect.probability > 0.85 else 10),
        textcoords="offset points",
        ha="center",
        fontsize=9,
        color=INK,
    )
    timeline.axhline(0.5, color=INK, lw=0.8, ls=":")
    timeline.set(ylim=(0, 1.06), xlabel="time (s)", ylabel="fake probability")
    timeline.spines[["top", "right"]].set_visible(False)
    timeline.set_title(
        f"{_shown_name(score.path)}: {score.verdict}, fake probability {score.probability:.3f}",
        loc="left",
        fontsize=13,
        color=FAKE if score.verdict == "fake" else REAL,
    )


def _shown_name(path: Path) -> str:
    name = path.name if len(path.name) <= 70 else f"{path.name[:45]} ... {path.name[-20:]}"
    return name.replace("$", r"\$")  # a dollar sign would begin a formula
