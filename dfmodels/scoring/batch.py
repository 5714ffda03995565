"""Many videos one after the other, each score as soon as it is ready."""

import logging
import os
from collections.abc import Callable, Container, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import nn

from dfmodels.cluster import TRIES, ray_pool
from dfmodels.detector import Detector
from dfmodels.files import printable, writable_folder
from dfmodels.progress import progress_bar
from dfmodels.scoring.result import VideoScore
from dfmodels.scoring.video import score_video, unjudged
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
    ray: str | None = None,
    workers: int | None = None,
) -> Iterator[VideoScore]:
    """Score videos one by one with a progress bar, and plot them.

    Args:
        model, faces, num_clips, average, batch_size, select: as for `score_video`.
        paths: videos and folders of images.
        plot: folder for a PNG a video, None for none.
        keep_moments: whether the scores hold pictures, as they do where they are plotted.
        done: those of `paths` that are passed over; they count in the progress and in the names of pictures.
        ray: device of the workers of a Ray cluster that score the videos, as for `dfmodels.cluster.ray_pool`; None
            scores them in this process.
        workers: of the cluster; None is one a core.

    Yields:
        The score of each video when it is ready, in the order of `paths`, by Ray in none. Whoever keeps none of them
        has the pictures of one video in memory.

    Raises:
        ValueError: an argument out of range, or a folder for plots that cannot be made or written to.
        OSError: a picture cannot be written.
        ImportError: Ray is needed and not installed.
        RuntimeError: Ray cannot start workers.
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
    names = _Names()
    videos = [_Video(n, path, folder and folder / names.free(path)) for n, path in enumerate(map(Path, paths), 1)]
    left = [video for video in videos if video.path not in done]
    if ray is None:
        return _drawn(left, _one_by_one(model, left, len(videos), options))
    return _drawn(left, _by_workers(model, left, len(videos), options, ray, workers))


class _Video(NamedTuple):
    number: int
    path: Path
    picture: Path | None


def _drawn(videos: Sequence[_Video], scores: Generator[tuple[int, VideoScore], None, None]) -> Iterator[VideoScore]:
    """The scores of videos, each with its place among `videos`, after their pictures are drawn."""
    with closing(scores):
        for place, score in scores:
            picture = videos[place].picture
            if picture is not None and score.error is None:
                from dfmodels.scoring.plots import plot_video

                spared("no picture could be drawn", plot_video, score, picture)
            LOG.debug(
                "%s: %s, %d %ss, %.1f s",
                score.path,
                score.verdict or "failed",
                len(score.clips),
                score.unit,
                score.seconds,
            )
            yield score
            del score  # or its pictures would stay while the next video is read


def _one_by_one(
    model: nn.Module, videos: Sequence[_Video], total: int, options: dict[str, Any]
) -> Generator[tuple[int, VideoScore], None, None]:
    with _bar_of_all(videos, total, shown=total > 1) as whole:  # the bar of one alone says all
        for place, video in enumerate(videos):
            what = f"[{video.number}/{total}] {printable(video.path.name)}"
            with progress_bar(desc=what, unit="frame", leave=False) as bar:
                score = score_video(model, video.path, progress=_shown_on(bar), **options)
            with _stepped(whole):
                yield place, score
            del score


def _by_workers(
    model: Detector,
    videos: Sequence[_Video],
    total: int,
    options: dict[str, Any],
    device: str,
    workers: int | None,
) -> Generator[tuple[int, VideoScore], None, None]:
    scorer = partial(_scorer, deepcopy(model).cpu(), options)
    with (
        ray_pool(workers, device) as pool,
        closing(pool.answers(scorer, [video.path for video in videos])) as answers,
        _bar_of_all(videos, total) as whole,
    ):
        for place, score in answers:
            if score is None:
                path = videos[place].path
                reason = f"{path}: the process that read it ended {TRIES} times"
                score = replace(unjudged(model, path, options["faces"].name), error=reason)
            with _stepped(whole):
                yield place, score
            del score


def _bar_of_all(videos: Sequence[_Video], total: int, shown: bool = True) -> Any:
    return progress_bar(total=total, initial=total - len(videos), desc="videos", unit="video", shown=shown)


@contextmanager
def _stepped(bar: Any) -> Iterator[None]:
    """A step of a bar that is off the terminal in the block, which may print there."""
    bar.update()
    bar.clear()
    yield
    bar.refresh()


def _scorer(model: Detector, options: dict[str, Any], device: str) -> Callable[[Path], VideoScore]:
    return partial(score_video, model.to(device), **options)


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
