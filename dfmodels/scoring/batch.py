"""Many videos one after the other, each score as soon as it is ready."""

import logging
import os
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from dfmodels.files import printable, writable_folder
from dfmodels.progress import progress_bar
from dfmodels.scoring.result import VideoScore
from dfmodels.scoring.video import score_video
from dfmodels.video import FaceDetector, face_detector
from dfmodels.weights import unwrap

LOG = logging.getLogger(__name__)
LONGEST_NAME = 240  # bytes; a suffix and a number have to fit behind it


def score_videos(
    model: nn.Module,
    paths: Sequence[str | Path],
    *,
    faces: FaceDetector | str = "auto",
    num_clips: int | Literal["all"] | None = None,
    average: str | None = None,
    batch_size: int | None = None,
    select: str = "largest",
    plot: str | Path | None = None,
) -> list[VideoScore]:
    """The scores of `iter_scores` without their pictures: memory does not grow by the crops of the videos scored."""
    scores = iter_scores(
        model,
        paths,
        faces=faces,
        num_clips=num_clips,
        average=average,
        batch_size=batch_size,
        select=select,
        plot=plot,
    )
    return [replace(score, most_suspicious=(), least_suspicious=None) for score in scores]


def iter_scores(
    model: nn.Module,
    paths: Sequence[str | Path],
    *,
    faces: FaceDetector | str = "auto",
    num_clips: int | Literal["all"] | None = None,
    average: str | None = None,
    batch_size: int | None = None,
    select: str = "largest",
    plot: str | Path | None = None,
    keep_moments: bool = False,
    done: Container[Path] = (),
) -> Iterator[VideoScore]:
    """Score videos one by one with a progress bar, and plot them.

    Args:
        model, faces, num_clips, average, batch_size, select: as for `score_video`.
        paths: videos and folders of images.
        plot: folder for a PNG a video, None for none.
        keep_moments: whether the scores hold pictures, as they do where they are plotted.
        done: those of `paths` that are passed over; they count in the progress and in the names of pictures.

    Yields:
        The score of each video when it is ready, in the order of `paths`. Whoever keeps none of them has the pictures
        of one video in memory.

    Raises:
        ValueError: an argument out of range, or a folder for plots that cannot be made or written to.
        OSError: a picture cannot be written.
    """
    model = unwrap(model)
    options = {
        "faces": face_detector(faces),
        "num_clips": num_clips,
        "average": average,
        "batch_size": batch_size,
        "select": select,
        "keep_moments": keep_moments or plot is not None,
    }
    folder = None if plot is None else writable_folder("plot", Path(plot))
    return _scores(model, [Path(path) for path in paths], folder, done, options)


def _scores(
    model: nn.Module,
    paths: Sequence[Path],
    folder: Path | None,
    done: Container[Path],
    options: dict[str, Any],
) -> Iterator[VideoScore]:
    names = _Names()
    for number, path in enumerate(paths, 1):
        picture = folder and folder / names.free(path)
        if path in done:
            continue
        with progress_bar(desc=f"[{number}/{len(paths)}] {printable(path.name)}", unit="frame", leave=False) as bar:
            score = score_video(model, path, progress=_shown_on(bar), **options)
        if picture is not None and score.error is None:
            from dfmodels.scoring.plots import plot_video

            spared("no picture could be drawn", plot_video, score, picture)
        LOG.debug(
            "%s: %s, %d %ss, %.1f s", path, score.verdict or "failed", len(score.clips), score.unit, score.seconds
        )
        yield score
        del score  # or its pictures would stay while the next video is read


def spared(what: str, show: Callable[..., object], score: VideoScore, *arguments: object) -> None:
    """Show a score; where that fails for this one alone, warn with `what` instead of ending the run."""
    try:
        show(score, *arguments)
    except (OSError, ImportError):  # no other score could be shown either
        raise
    except Exception as error:
        LOG.warning("%s: %s: %s: %s", score.path, what, type(error).__name__, error)
        LOG.debug("%s", score.path, exc_info=True)


def _shown_on(bar: Any) -> Callable[[int, int], object]:
    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return show


class _Names:
    """Names of pictures after those of the videos; a number is added where several share one."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.last: dict[str, int] = {}  # number given last, by name

    def free(self, video: Path) -> str:
        # a path like `.` or `clips/..` has no name of its own, and a name holds 255 bytes at most
        stem = os.fsdecode(os.fsencode(video.name or video.resolve().name)[:LONGEST_NAME])
        name = f"{stem}.png"
        while name in self.taken:
            self.last[stem] = self.last.get(stem, 1) + 1
            name = f"{stem}-{self.last[stem]}.png"
        self.taken.add(name)
        return name
