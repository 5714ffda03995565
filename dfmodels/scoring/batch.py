"""Many videos one after the other, with a progress bar."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from dfmodels.detector import Detector
from dfmodels.files import writable_folder
from dfmodels.progress import progress_bar
from dfmodels.scoring.formats import printable
from dfmodels.scoring.video import VideoScore, clips_wanted, score_video
from dfmodels.video import FaceDetector, VideoError, clip_frames, count_frames
from dfmodels.weights import unwrap

LOG = logging.getLogger(__name__)
LONGEST_NAME = 240  # bytes; a suffix and a number have to fit behind it


def score_videos(
    model: nn.Module,
    paths: Sequence[str | Path],
    *,
    faces: FaceDetector,
    num_clips: int | Literal["all"] | None,
    average: str | None,
    batch_size: int | None,
    select: str,
    plot: str | Path | None,
) -> list[VideoScore]:
    """Score videos one by one with a progress bar, and plot them; options as for `score_video`.

    No pictures are kept: memory does not grow by the crops of the videos scored.

    Raises:
        ValueError: an argument out of range, or a folder for plots that cannot be made or written to.
    """
    model = unwrap(model)
    folder = None
    if plot is not None:
        from dfmodels.scoring.plots import plot_video

        folder = writable_folder("plot", Path(plot))
    scores = []
    taken: set[str] = set()
    for number, path in enumerate(paths, 1):
        label = f"[{number}/{len(paths)}] {printable(Path(path).name)}"
        with progress_bar(total=_frames_to_read(path, model, num_clips), desc=label, unit="frame", leave=False) as bar:
            score = score_video(
                model,
                path,
                faces=faces,
                num_clips=num_clips,
                average=average,
                batch_size=batch_size,
                select=select,
                progress=_shown_on(bar),
                keep_suspect=folder is not None,
            )
        if folder is not None and score.error is None:
            plot_video(model, score, folder / _free_name(Path(path), taken))
        LOG.debug(
            "%s: %s, %d %ss, %.1f s", path, score.verdict or "failed", len(score.clips), score.unit, score.seconds
        )
        scores.append(replace(score, suspect=None))
    return scores


def _shown_on(bar: Any) -> Callable[[int], object]:
    return lambda handled: bar.update(handled - bar.n)


def _frames_to_read(path: str | Path, model: Detector, num_clips: int | Literal["all"] | None) -> int | None:
    contract = model.contract
    wanted = clips_wanted(contract, num_clips)
    try:
        return clip_frames(count_frames(path), contract.num_frames, wanted, contract.sampling)[-1][-1] + 1
    except VideoError:  # reading it will give the reason
        return None


def _free_name(video: Path, taken: set[str]) -> str:
    """Picture name after the video's; a number is added where two videos share a name."""
    # a path like `.` or `clips/..` has no name of its own, and a name holds 255 bytes at most
    stem = os.fsdecode(os.fsencode(video.name or video.resolve().name)[:LONGEST_NAME])
    name, number = f"{stem}.png", 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}.png"
    taken.add(name)
    return name
