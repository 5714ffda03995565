"""Face crops of a video by frame number: one path from a film to pixels, for training as for scoring."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dfmodels.data.index import Video
from dfmodels.data.plan import FramePlan, Sighting, sight, smooths
from dfmodels.detector import InputContract
from dfmodels.options import check_choice
from dfmodels.video.clips import Cutter, NoFaceError
from dfmodels.video.decode import iter_frames
from dfmodels.video.faces import FaceDetector, check_margin, face_detector
from dfmodels.video.frame import Frame, VideoError
from dfmodels.video.people import SELECT

__all__ = ["CropSource", "Crops", "open_crops"]


class Crops(Protocol):
    """Face crops of one person of a video, by frame number.

    Attributes:
        numbers: frames of the plan that can be had, ascending.
        clips: frame numbers (T) of the clips of the plan that scoring would judge; may be empty.
    """

    numbers: tuple[int, ...]
    clips: tuple[tuple[int, ...], ...]

    def read(self, numbers: Sequence[int], margin: float | None = None) -> NDArray[np.uint8]:
        """The crops (T, H, W, 3), uint8 RGB, of frames of `numbers` or of one of `clips`, T at least 1.

        They are those of `read_people` for a clip of these frames: in a contract of neighbouring frames boxes are
        smoothed over the frames asked for together.

        Args:
            numbers: frame numbers, ascending; repeated ones give repeated crops.
            margin: side of the crop in sides of the face; None is the contract's.

        Raises:
            VideoError: frames that can no longer be read.
            ValueError: other frames, or a margin that cannot be.
        """
        ...


class FilmCrops:
    """Crops of a film or of a folder of frames that is read each time."""

    def __init__(self, path: Path, sighting: Sighting, contract: InputContract) -> None:
        self.path, self.person = path, sighting.person
        self.numbers, self.clips = sighting.numbers, sighting.clips
        self._cutter = cutter_of(contract)

    def read(self, numbers: Sequence[int], margin: float | None = None) -> NDArray[np.uint8]:
        check_numbers(numbers, self)
        frames: dict[int, Frame] = {}
        with closing(iter_frames(self.path, set(numbers))) as reader:
            for frame in reader:
                if frame.damaged:
                    raise VideoError(f"{self.path}: frame {frame.index} is damaged; copy or download the file again")
                frames[frame.index] = frame
        missing = [number for number in numbers if number not in frames]
        if missing:
            raise VideoError(f"{self.path}: frame {missing[0]} can no longer be read; was the file changed?")
        return with_margin(self._cutter, margin).crops(numbers, frames, self.person)[0]


def cutter_of(contract: InputContract) -> Cutter:
    """What cuts crops as `read_clips` does for a detector."""
    return Cutter(contract.size, contract.margin, smooths(contract), contract.crop == "aligned")


def with_margin(cutter: Cutter, margin: float | None) -> Cutter:
    if margin is None:
        return cutter
    check_margin(margin)
    return replace(cutter, margin=margin)


def check_numbers(numbers: Sequence[int], crops: Crops) -> None:
    """Raise ValueError unless frames can be had."""
    known = set(crops.numbers).union(*crops.clips)
    if not numbers or not known.issuperset(numbers) or list(numbers) != sorted(numbers):
        raise ValueError(
            f"numbers must be ascending frames that show the person, at least one, got {list(numbers)}; they are in "
            "`numbers` and `clips`"
        )


class CropSource:
    """Where crops of videos come from: whose faces, found how.

    What is found out about a video is kept, as its film would be decoded and searched again for every clip; each
    process that gets a copy keeps its own.

    Args:
        faces: a face detector or its specification for `face_detector`; "none" where frames are crops already.
        select: whose crops, as for `dfmodels.video.choose`.

    Raises:
        ValueError, ImportError: as `face_detector`; or another rule to select by.
    """

    def __init__(self, faces: FaceDetector | str = "auto", *, select: str = "largest") -> None:
        check_choice("select", select, SELECT)
        self.detector, self.select = face_detector(faces), select
        self._known: dict[tuple[str, FramePlan, str, bool], Sighting | tuple[type[VideoError], str]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_known": {}}

    @property
    def faces(self) -> str:
        """How faces are found, as a specification."""
        return self.detector.name

    def open(self, video: Video, contract: InputContract, plan: FramePlan | None = None) -> Crops:
        """The crops of a video; arguments and errors as for `open_crops`."""
        plan = FramePlan.of(contract) if plan is None else plan
        key = (video.key, plan, contract.crop, smooths(contract))
        if key not in self._known:
            try:
                self._known[key] = sight(video.path, plan, contract, self.detector, self.select)
            except VideoError as error:  # its traceback would keep frames alive
                self._known[key] = (NoFaceError if isinstance(error, NoFaceError) else VideoError, str(error))
        known = self._known[key]
        if isinstance(known, tuple):
            kind, reason = known
            raise kind(reason)
        return FilmCrops(video.path, known, contract)


def open_crops(
    video: Video,
    contract: InputContract,
    *,
    plan: FramePlan | None = None,
    faces: FaceDetector | str = "auto",
    select: str = "largest",
) -> Crops:
    """The face crops of a video.

    >>> crops = open_crops(video, model.contract, faces="none")  # doctest: +SKIP
    >>> crops.read(crops.clips[0])  # doctest: +SKIP

    Args:
        video: of a film, or of a folder of frames or crops.
        contract: how crops look, and which clips a detector judges.
        plan: the frames to look at; None is those of the contract's clips.
        faces, select: as for `CropSource`.

    Raises:
        VideoError: nothing to read, or a film that is damaged or cut off.
        NoFaceError: no frame of the plan shows a face.
        ValueError, ImportError: as `CropSource`.
    """
    return CropSource(faces, select=select).open(video, contract, plan)
