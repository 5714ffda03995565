"""From a video to a fake probability."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import nlargest
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dfmodels.detector import AVERAGES, Detector, InputContract, fake_probability
from dfmodels.options import check_choice, check_count
from dfmodels.video import Clip, FaceDetector, VideoError, read_clips
from dfmodels.weights import unwrap

SUSPECT_FRAMES = 8  # crops kept of a video that is scored frame by frame
BATCH_FRAMES = 8  # frames scored together unless the caller says otherwise


@dataclass(frozen=True, slots=True)
class ClipScore:
    """Fake probability of one clip, and where it lies in the video (seconds)."""

    start: float
    end: float
    probability: float


@dataclass(frozen=True)
class VideoScore:
    """What became of one video.

    A detector of single frames gives clips of one frame each.

    Attributes:
        path: the file.
        probability: fake probability of the video, None where it could not be scored.
        clips: its clips in order of time.
        seconds: wall time spent.
        error: why it could not be scored.
        suspect: crops (T, H, W, 3), uint8 RGB, of the clip with the highest probability; of single frames those of the
            SUSPECT_FRAMES with the highest, in order of time. None unless they were asked for.
        suspects: numbers in `clips` of what is most suspicious, whether its crops are kept or not.
        unit: what a clip is, "clip" or "frame".
    """

    path: Path
    probability: float | None
    clips: tuple[ClipScore, ...]
    seconds: float
    error: str | None = None
    suspect: NDArray[np.uint8] | None = None
    suspects: tuple[int, ...] = ()
    unit: str = "clip"

    @property
    def verdict(self) -> str:
        """Either "fake" (from a probability of 1/2 on), "real" or "failed"."""
        if self.probability is None:
            return "failed"
        return "fake" if self.probability >= 0.5 else "real"


def video_score(clip_logits: Tensor, average: str = "probabilities") -> float:
    """Fake probability of a video.

    Args:
        clip_logits: logits (N, num_classes) of its clips, N at least 1.
        average: "probabilities", the mean of the clips' fake probabilities, or "logits", the fake probability of the
            mean of their logits.

    Raises:
        ValueError: another `average`.
    """
    check_choice("average", average, AVERAGES)
    logits = clip_logits.double()
    if average == "logits":
        logits = logits.mean(0, keepdim=True)
    return float(fake_probability(logits).mean())


def clips_wanted(contract: InputContract, num_clips: int | Literal["all"] | None) -> int | None:
    """`num_clips` of `score_video` as `read_clips` takes it: a number, or None for all."""
    if num_clips is None:
        return contract.num_clips
    return None if num_clips == "all" else num_clips


def score_video(
    model: nn.Module,
    path: str | Path,
    *,
    faces: FaceDetector | str = "auto",
    num_clips: int | Literal["all"] | None = None,
    average: str | None = None,
    batch_size: int | None = None,
    select: str = "largest",
    progress: Callable[[int], object] | None = None,
    keep_suspect: bool = False,
) -> VideoScore:
    """Score one video; a file that cannot be scored gives a score without probability and with the reason.

    Which frames make its clips is what the detector's contract says. Threads may share a detector and a face detector.

    Args:
        model: a trained detector, on the device that shall compute; also one inside the wrappers that `dfmodels.save`
            takes, which then computes without them.
        path: a video or a folder of images.
        faces, select, progress: as for `dfmodels.video.read_clips`.
        num_clips: number of clips as for `dfmodels.video.clip_frames`, or "all"; None takes the contract's.
        average: how clips become a video, as for `video_score`; None takes the contract's rule.
        batch_size: clips computed together; None takes one, of single frames BATCH_FRAMES.
        keep_suspect: whether the score holds crops to plot, megabytes a video.

    Raises:
        ValueError: an argument out of range.
        TypeError: no detector.
        RuntimeError: the detector is not trained.
    """
    model = unwrap(model)
    model.check_trained()
    contract = model.contract
    unit = contract.unit
    if batch_size is None:
        batch_size = BATCH_FRAMES if unit == "frame" else 1
    check_count("batch_size", batch_size)
    average = contract.average if average is None else average
    check_choice("average", average, AVERAGES)
    begun = time.perf_counter()
    clips = read_clips(
        path,
        num_frames=contract.num_frames,
        size=contract.size,
        faces=faces,
        num_clips=clips_wanted(contract, num_clips),
        margin=contract.margin,
        select=select,
        sampling=contract.sampling,
        crop=contract.crop,
        progress=progress,
    )
    scores: list[ClipScore] = []
    logits: list[Tensor] = []
    suspects: list[tuple[float, int, NDArray[np.uint8] | None]] = []
    kept = SUSPECT_FRAMES if unit == "frame" else 1
    try:
        for batch in _batches(clips, batch_size):
            logits.append(_logits(model, batch))
            for clip, probability in zip(batch, fake_probability(logits[-1]).tolist(), strict=True):
                suspects.append((probability, len(scores), clip.frames if keep_suspect else None))
                suspects = nlargest(kept, suspects, key=lambda suspect: suspect[0])  # the earlier of equal ones
                scores.append(ClipScore(clip.start, clip.end, probability))
    except VideoError as error:
        return VideoScore(Path(path), None, (), time.perf_counter() - begun, str(error), unit=unit)
    mean = video_score(torch.cat(logits), average)
    if not np.isfinite(mean):
        reason = f"{path}: the detector's output is not a number; are the weights damaged?"
        return VideoScore(Path(path), None, (), time.perf_counter() - begun, reason, unit=unit)
    suspects.sort(key=lambda suspect: suspect[1])
    return VideoScore(
        Path(path),
        mean,
        tuple(scores),
        time.perf_counter() - begun,
        suspect=np.concatenate([frames for _, _, frames in suspects if frames is not None]) if keep_suspect else None,
        suspects=tuple(number for _, number, _ in suspects),
        unit=unit,
    )


def _batches(clips: Iterator[Clip], size: int) -> Iterator[list[Clip]]:
    while batch := list(islice(clips, size)):
        yield batch


def _logits(model: Detector, clips: list[Clip]) -> Tensor:
    """Logits (N, num_classes) of clips, float64 on the CPU."""
    frames = torch.from_numpy(np.stack([clip.frames for clip in clips])).to(model.device)
    return model.predict_logits(model.contract.normalize(frames)).cpu().double()
