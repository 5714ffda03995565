"""What is said of one video: the verdict, and everything it rests on."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfmodels.detector import Origin
from dfmodels.video import LeftOut

# why a clip was not judged: the keys of `left_out`, and what they mean
REASONS = {
    "no_face": "no face was found",
    "still": "the picture stands still, and the detector judges motion",
    "damaged": "frames are damaged",
    "short": "the person came or went within the clip",
    "gap": "the person was not seen, or lost for too long",
}


@dataclass(frozen=True, slots=True)
class ClipScore:
    """Fake probability of one clip of one person, and where it lies in the video.

    Attributes:
        start, end: times of its first and last frame in seconds.
        probability: fake probability in [0, 1].
        track: number of the person.
        frames, times: numbers of its frames in the video, the first is 0, and their seconds.
    """

    start: float
    end: float
    probability: float
    track: int = 1
    frames: tuple[int, ...] = ()
    times: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class PersonScore:
    """One person of a video.

    Attributes:
        track: number, from 1 on in order of face area over the video.
        probability: fake probability of the person's clips, None where none was judged.
        share: of the frames read, those that show the person's face.
        first, last: seconds from the start of the video at which the face is seen first and last.
        clips: how many were judged.
    """

    track: int
    probability: float | None
    share: float
    first: float
    last: float
    clips: int


@dataclass(frozen=True, eq=False)
class Moment:
    """A judged clip to look at; of a detector of single frames, a frame.

    Attributes:
        clip: its number in `VideoScore.clips`.
        picture: the whole frame in its middle, (h, w, 3), uint8 RGB, at most 640 pixels wide and high.
        box: the face crop in that picture: x0, y0, x1, y1 in its pixels.
        crops: what the detector saw, (T, H, W, 3), uint8 RGB.
        maps: where it looked, by kind: (T, H, W) from 0 to 1 (`heat_maps`).
    """

    clip: int
    picture: NDArray[np.uint8]
    box: tuple[float, float, float, float]
    crops: NDArray[np.uint8]
    maps: dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class VideoScore:
    """What became of one video.

    A detector of single frames gives clips of one frame each.

    Attributes:
        path: the file or folder.
        probability: fake probability of the video in [0, 1], the highest of the people judged; None where nothing was.
        clips: the clips judged, in order of time, of one time in order of people.
        seconds: wall time of the computation.
        error: why there is no probability, one sentence; None where there is one.
        unit: what a clip is, "clip" or "frame".
        detector: registered name of the detector.
        weights: where its weights come from.
        version: of this library.
        faces: what looked for faces ("none": the frames were taken for crops).
        people: everyone who was seen, judged or not.
        frames_read, frames_with_face, frames_damaged: counts of frames that were looked at, that show a face, that are
            damaged.
        left_out: the clips that were not judged, with the reason, a key of REASONS.
        warnings: what whoever reads the verdict must know, one sentence each.
        num_frames, duration: length of the video in frames and seconds; None where it could not be read.
        most_suspicious: the clips with the highest probabilities, highest first; empty unless they were asked for.
        least_suspicious: the clip with the lowest, where there are others.
    """

    path: Path
    probability: float | None
    clips: tuple[ClipScore, ...]
    seconds: float
    error: str | None = None
    unit: str = "clip"
    detector: str = ""
    weights: Origin = field(default_factory=Origin)
    version: str = ""
    faces: str = "none"
    people: tuple[PersonScore, ...] = ()
    frames_read: int = 0
    frames_with_face: int = 0
    frames_damaged: int = 0
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[str, ...] = ()
    num_frames: int | None = None
    duration: float | None = None
    most_suspicious: tuple[Moment, ...] = field(default=(), repr=False, compare=False)
    least_suspicious: Moment | None = field(default=None, repr=False, compare=False)

    @property
    def verdict(self) -> str:
        """Either "fake" (from a probability of 1/2 on), "real" or "failed"."""
        if self.probability is None:
            return "failed"
        return "fake" if self.probability >= 0.5 else "real"

    @property
    def highest(self) -> ClipScore | None:
        """The clip with the highest probability, the first of equal ones."""
        return max(self.clips, key=lambda clip: clip.probability, default=None)

    @property
    def coverage(self) -> float:
        """Frames with a face in frames read, 0 where none was read."""
        return self.frames_with_face / self.frames_read if self.frames_read else 0.0

    @property
    def suspect(self) -> NDArray[np.uint8] | None:
        """The crops of the most suspicious clip, None unless moments were asked for."""
        return self.most_suspicious[0].crops if self.most_suspicious else None

    def reasons(self) -> dict[str, int]:
        """How many clips were left out for each reason that occurred."""
        counts = Counter(clip.reason for clip in self.left_out)
        return {reason: counts[reason] for reason in REASONS if counts[reason]}
