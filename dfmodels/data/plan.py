"""Which frames of a video are looked at, and which of them show the person whose crops are taken."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from dfmodels.detector import SAMPLINGS, InputContract
from dfmodels.options import check_choice, check_count
from dfmodels.video.clips import Cutter, LeftOut, clip_frames, fitting, no_face, outcomes_of
from dfmodels.video.decode import count_frames, is_images, iter_frames
from dfmodels.video.faces import FaceDetector, check_margin
from dfmodels.video.frame import VideoError
from dfmodels.video.people import Person, choose, survey_people
from dfmodels.video.sampling import candidate_frames

PLANS = (*SAMPLINGS, "candidates", "windows", "every")


@dataclass(frozen=True)
class FramePlan:
    """A rule for the frames of a video that are looked at, as clips.

    "consecutive", "spread", "even": `count` clips of `num_frames` as of `clip_frames`, as a detector's contract asks
    for them; None for all. "candidates": the frames of `candidate_frames` with `count` for its span, one by one.
    "windows": of the first `count` frames every run of `num_frames`, or one that repeats the last frame. "every":
    frames 0, `count`, 2 `count`, ... one by one, which are the same in videos of any length.

    Attributes:
        sampling: one of PLANS.
        num_frames: frames of a clip; 1 with "candidates" and "every".
        count: as said above; only the first three may have None.
    """

    sampling: str
    num_frames: int = 1
    count: int | None = None

    def __post_init__(self) -> None:
        check_choice("sampling", self.sampling, PLANS)
        check_count("num_frames", self.num_frames)
        if self.count is not None or self.sampling not in SAMPLINGS:
            check_count("count", self.count)

    @classmethod
    def of(cls, contract: InputContract) -> FramePlan:
        """The frames by which a detector judges a video."""
        return cls(contract.sampling, contract.num_frames, contract.num_clips)

    def clips(self, num_frames_in_video: int) -> list[list[int]]:
        """Ascending frame numbers of every clip of a video, clips in order of their first frames."""
        if self.sampling in SAMPLINGS or self.count is None:
            return clip_frames(num_frames_in_video, self.num_frames, self.count, self.sampling)
        if self.sampling == "candidates":
            return [[number] for number in sorted(set(candidate_frames(num_frames_in_video, self.count)))]
        if self.sampling == "every":
            return [[number] for number in range(0, num_frames_in_video, self.count)]
        frames = min(self.count, num_frames_in_video)
        starts = range(max(1, frames - self.num_frames + 1))
        return [[min(start + t, frames - 1) for t in range(self.num_frames)] for start in starts]


@dataclass(frozen=True, eq=False)
class Sighting:
    """What of a plan can be had of a video.

    Attributes:
        numbers: frames of the plan that are whole and show the person, ascending.
        clips: frame numbers of the clips of the plan that can be judged, as scoring takes them, at least one: one whose
            frames are spread over the video may have others in place of those that do not show the person.
        person: whose face is cropped; None where the frames are crops already and taken whole.
    """

    numbers: tuple[int, ...]
    clips: tuple[tuple[int, ...], ...]
    person: Person | None


def sight(path: Path, plan: FramePlan, contract: InputContract, detector: FaceDetector, select: str) -> Sighting:
    """Look at a video as scoring does, and choose the person.

    Args:
        path: a film or a folder of images.
        plan: the frames to look at.
        contract: says whether landmarks are asked for, and whether clips are of neighbouring frames.
        detector: finds the faces; one of whole frames where they are crops already.
        select: whose crops, as for `choose`.

    Raises:
        VideoError: nothing to read at `path`, a film that is cut off, or one whose clips all have damaged frames.
        NoFaceError: no clip of the plan shows the person.
        ImportError: PyAV or OpenCV is not installed.
    """
    clips = plan.clips(count_frames(path))
    if getattr(detector, "whole_frame", False):
        return whole_frames(path, clips)
    survey = survey_people(path, detector, clips, landmarks=contract.crop == "aligned")
    planned = {number for clip in clips for number in clip}
    clips = fitting(clips, survey.frames[-1])
    if all(not set(survey.damaged).isdisjoint(clip) for clip in clips):
        raise damaged(path)
    if not survey.people:
        raise no_face(path, detector)
    person = choose(survey, select)
    outcomes = outcomes_of(clips, survey, [person], nearest=not smooths(contract))
    shown = [outcome.numbers for (outcome,) in outcomes if not isinstance(outcome, LeftOut)]
    if not shown:
        raise no_face(path, detector)
    numbers = planned.intersection(person.frames.tolist())
    return Sighting(tuple(sorted(numbers)), tuple(map(tuple, shown)), person)


def whole_frames(path: Path, clips: list[list[int]]) -> Sighting:
    """What can be had of a video whose frames are crops: those that are whole."""
    planned = {number for clip in clips for number in clip}
    if not is_images(path):  # images have no damage that would be known before they are read
        sound, last = set(), -1
        with closing(iter_frames(path, planned)) as reader:
            for frame in reader:
                last = frame.index
                if not frame.damaged:
                    sound.add(last)
        if last < 0:
            raise VideoError(f"{path}: no frame of the video could be decoded")
        clips = [clip for clip in fitting(clips, last) if sound.issuperset(clip)]
        planned = sound
        if not clips:
            raise damaged(path)
    return Sighting(tuple(sorted(planned)), tuple(map(tuple, clips)), None)


def damaged(path: Path) -> VideoError:
    return VideoError(f"{path}: every clip of the video has damaged frames; copy or download the file again")


def smooths(contract: InputContract) -> bool:
    """Whether boxes are smoothed over a clip: they are where its frames are neighbours."""
    return contract.sampling == "consecutive"


def cutter_of(contract: InputContract) -> Cutter:
    """What cuts crops as `read_clips` does for a detector."""
    return Cutter(contract.size, contract.margin, smooths(contract), contract.crop == "aligned")


def with_margin(cutter: Cutter, margin: float | None) -> Cutter:
    if margin is None:
        return cutter
    check_margin(margin)
    return replace(cutter, margin=margin)


def check_numbers(numbers: Sequence[int], known: Sequence[int], clips: Sequence[Sequence[int]]) -> None:
    """Raise ValueError unless all numbers are ascending ones of `known` or of `clips`."""
    if not numbers or not set(known).union(*clips).issuperset(numbers) or list(numbers) != sorted(numbers):
        raise ValueError(
            f"numbers must be ascending frames that show the person, at least one, got {list(numbers)}; they are in "
            "`numbers` and `clips`"
        )
