"""Pictures of a scored video: when it looks fake, and where."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dfmodels.detector import Detector
from dfmodels.evaluation.scoring import VideoScore

REAL, FAKE, INK = "#2a7f9e", "#c8442f", "#333333"


def heat_maps(model: Detector, frames: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """One map (T, H, W) in [0, 1] out of the inconsistency maps of all blocks, None for a detector without them.

    Every block's map is brought to the crop's size and smoothed over its own cell, since its few survivors are single
    positions; the mean over the blocks is scaled by the clip's largest value.
    """
    find_maps: Callable[[Tensor], list[Tensor]] | None = getattr(model, "inconsistency_maps", None)
    if find_maps is None:
        return None
    device = next(model.parameters()).device
    clip = model.contract.normalize(torch.from_numpy(frames[None]).to(device))
    size = frames.shape[1:3]
    total = torch.zeros(frames.shape[0], *size)
    for difference in find_maps(clip):
        smooth = F.avg_pool2d(difference[0, :, None].float().cpu(), 3, 1, 1)
        total += F.interpolate(smooth, size, mode="bilinear", align_corners=False)[:, 0]
    return (total / total.max().clamp(min=1e-12)).numpy()


def plot_video(model: Detector, score: VideoScore, path: str | Path) -> None:
    """Write a PNG: the timeline of clip probabilities, and the most suspicious clip without and with its heat map."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "dfops[video]"') from error
    assert score.probability is not None
    assert score.suspect is not None
    frames = score.suspect
    heat = heat_maps(model, frames)
    columns = min(len(frames), 8)
    shown = np.linspace(0, len(frames) - 1, columns).round().astype(int)
    rows = 2 if heat is not None else 1
    figure = Figure(figsize=(12, 3.1 + 1.6 * rows), dpi=110, layout="constrained")
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[1.7] + [1.0] * rows)

    timeline = figure.add_subplot(grid[0, :])
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

    for column, t in enumerate(shown):
        plain = figure.add_subplot(grid[1, column])
        plain.imshow(frames[t])
        plain.set_title(f"frame {t + 1}", fontsize=8, color=INK)
        plain.axis("off")
        if heat is not None:
            overlay = figure.add_subplot(grid[2, column])
            overlay.imshow(frames[t].mean(-1), cmap="gray", vmin=0, vmax=255)
            overlay.imshow(heat[t], cmap="inferno", vmin=0, vmax=1, alpha=0.25 + 0.6 * heat[t])
            overlay.axis("off")
    if heat is not None:
        figure.supxlabel(
            "below: inter-frame inconsistency of all blocks, bright where frames differ most unsteadily",
            fontsize=9,
            color=INK,
        )
    figure.savefig(path, format="png")


def _shown_name(path: Path) -> str:
    # a dollar sign would begin a formula
    return path.name.replace("$", r"\$")
