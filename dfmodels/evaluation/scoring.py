"""From a film to a fake probability."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dfmodels.detector import Detector
from dfmodels.video import Clip, FaceDetector, VideoError, read_clips


@dataclass(frozen=True)
class ClipScore:
    """Fake probability of one clip, and where it lies in the film (seconds)."""

    start: float
    end: float
    probability: float


@dataclass(frozen=True)
class VideoScore:
    """What became of one video.

    Attributes:
        path: the file.
        probability: fake probability of the video, None where it could not be scored.
        clips: its clips in order of time.
        seconds: wall time spent.
        error: why it could not be scored.
        suspect: crops of the clip with the highest probability (T, H, W, 3), uint8 RGB.
    """

    path: Path
    probability: float | None
    clips: tuple[ClipScore, ...]
    seconds: float
    error: str | None = None
    suspect: NDArray[np.uint8] | None = None

    @property
    def verdict(self) -> str:
        """Either "fake" (from a probability of 1/2 on), "real" or "failed"."""
        if self.probability is None:
            return "failed"
        return "fake" if self.probability >= 0.5 else "real"


def video_score(clip_probabilities: Iterable[float]) -> float:
    """Mean fake probability of the clips of a video."""
    return float(np.mean(list(clip_probabilities)))


def score_video(
    model: Detector,
    path: str | Path,
    *,
    faces: FaceDetector | str = "haar",
    num_clips: int | None = None,
    batch_size: int = 1,
    select: str = "largest",
    progress: Callable[[int], object] | None = None,
) -> VideoScore:
    """Score one video; a file that cannot be scored gives a score without probability and with the reason.

    Args:
        model: a trained detector, on the device that shall compute.
        path: a film or a folder of images.
        faces, num_clips, select, progress: as for `dfmodels.video.read_clips`.
        batch_size: clips computed together.

    Raises:
        ValueError: an argument out of range.
        RuntimeError: the detector is not trained.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    begun = time.perf_counter()
    contract = model.contract
    clips = read_clips(
        path,
        num_frames=contract.num_frames,
        size=contract.size,
        faces=faces,
        num_clips=num_clips,
        margin=contract.margin,
        select=select,
        progress=progress,
    )
    scores: list[ClipScore] = []
    suspect = None
    try:
        for batch in _batches(clips, batch_size):
            for clip, probability in zip(batch, _probabilities(model, batch), strict=True):
                if not scores or probability > max(score.probability for score in scores):
                    suspect = clip.frames
                scores.append(ClipScore(clip.start, clip.end, probability))
    except VideoError as error:
        return VideoScore(Path(path), None, (), time.perf_counter() - begun, str(error))
    mean = video_score(score.probability for score in scores)
    if not np.isfinite(mean):
        reason = f"{path}: the detector's output is not a number; are the weights damaged?"
        return VideoScore(Path(path), None, (), time.perf_counter() - begun, reason)
    return VideoScore(Path(path), mean, tuple(scores), time.perf_counter() - begun, None, suspect)


def _batches(clips: Iterator[Clip], size: int) -> Iterator[list[Clip]]:
    while batch := list(islice(clips, size)):
        yield batch


def _probabilities(model: Detector, clips: list[Clip]) -> list[float]:
    device = next(model.parameters()).device
    frames = torch.from_numpy(np.stack([clip.frames for clip in clips])).to(device)
    return [float(p) for p in model.predict(model.contract.normalize(frames))]
