"""Face crops of a video by frame number: one path from a film to pixels, for training as for scoring."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from dfmodels.data.cache import CropCache
from dfmodels.data.index import Video
from dfmodels.data.plan import FramePlan, Sighting, check_numbers, cutter_of, sight, with_margin
from dfmodels.detector import InputContract
from dfmodels.options import check_choice
from dfmodels.video.clips import NoFaceError
from dfmodels.video.decode import iter_frames
from dfmodels.video.faces import FaceDetector, face_detector
from dfmodels.video.frame import Frame, VideoError
from dfmodels.video.people import SELECT

LOG = logging.getLogger(__name__)
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
        check_numbers(numbers, self.numbers, self.clips)
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


class CropSource:
    """Where crops of videos come from: whose faces, found how, prepared or not.

    What is found out about a video is kept, as its film would be decoded and searched again for every clip; each
    process that gets a copy keeps its own. Of a cache it is read again for every clip only what the clip shows. A video
    that the cache lacks, or whose source was changed since, is decoded and searched, with one warning.

    Args:
        faces: a face detector or its specification for `face_detector`; "none" where frames are crops already. None is
            that of the cache, without one "auto".
        select: whose crops, as for `dfmodels.video.choose`; None is that of the cache, without one "largest".
        cache: folder of `dfmodels prepare`.

    Raises:
        ValueError: another rule to select by, a folder that is no cache, or one made with other faces or another rule.
        ValueError, ImportError: as `face_detector`.
    """

    def __init__(
        self,
        faces: FaceDetector | str | None = None,
        *,
        select: str | None = None,
        cache: str | Path | None = None,
    ) -> None:
        if select is not None:
            check_choice("select", select, SELECT)
        self.cache = None if cache is None else CropCache.read(cache)
        if self.cache is None:
            self._detector: FaceDetector | str = face_detector("auto" if faces is None else faces)
            self.select = "largest" if select is None else select
        else:
            self.cache.check(faces, select)
            # made where a video is not prepared: the model's file need not be on every machine that trains
            self._detector, self.select = self.cache.faces if faces is None else face_detector(faces), self.cache.select
        self._known: dict[tuple[str, FramePlan, InputContract], Crops | tuple[type[VideoError], str]] = {}
        # shared memory, so that of the workers of a loader one speaks for all
        self._said = {what: torch.zeros((), dtype=torch.bool).share_memory_() for what in ("unprepared", "square")}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_known": {}}

    @property
    def detector(self) -> FaceDetector:
        """What finds the faces of videos that are not prepared."""
        self._detector = face_detector(self._detector)
        return self._detector

    @property
    def faces(self) -> str:
        """How faces are found, as a specification."""
        return self._detector if isinstance(self._detector, str) else self._detector.name

    def open(self, video: Video, contract: InputContract, plan: FramePlan | None = None) -> Crops:
        """The crops of a video; arguments and errors as for `open_crops`."""
        plan = FramePlan.of(contract) if plan is None else plan
        key = (video.key, plan, contract)
        if key not in self._known:
            try:
                self._known[key] = self._look(video, contract, plan)
            except VideoError as error:  # its traceback would keep frames alive
                self._known[key] = (NoFaceError if isinstance(error, NoFaceError) else VideoError, str(error))
        known = self._known[key]
        if isinstance(known, tuple):
            failure, reason = known
            raise failure(reason)
        return known

    def _look(self, video: Video, contract: InputContract, plan: FramePlan) -> Crops:
        prepared = None if self.cache is None else self.cache.find(video, contract, plan)
        if self.cache is not None and prepared is None:
            if video.key in self.cache.failed:
                raise VideoError(self.cache.failed[video.key])
            self._say(
                "unprepared",
                f"{video.path} is not prepared in {self.cache.folder} as this run wants it, or was changed since: it "
                "is decoded for every clip, as are others like it; `dfmodels prepare` saves that",
            )
        crops = prepared or FilmCrops(
            video.path, sight(video.path, plan, contract, self.detector, self.select), contract
        )
        if contract.crop == "aligned" and crops.person and not np.isfinite(crops.person.faces[:, 5:]).any():
            self._say(
                "square",
                f"the detector wants aligned crops and {self.faces} gives no landmarks of {video.path}: its crops are "
                "square, as are others like it; centerface and yunet give landmarks (--faces)",
            )
        return crops

    def _say(self, what: str, message: str) -> None:
        """Warn of one kind of thing once."""
        if not self._said[what]:
            self._said[what].fill_(True)
            LOG.warning("%s", message)


def open_crops(
    video: Video,
    contract: InputContract,
    *,
    plan: FramePlan | None = None,
    faces: FaceDetector | str | None = None,
    select: str | None = None,
    cache: str | Path | None = None,
) -> Crops:
    """The face crops of a video, out of a cache where it is prepared there, else out of its film.

    >>> crops = open_crops(video, model.contract, faces="none")  # doctest: +SKIP
    >>> crops.read(crops.clips[0])  # doctest: +SKIP

    Args:
        video: of a film, or of a folder of frames or crops.
        contract: how crops look, and which clips a detector judges.
        plan: the frames to look at; None is those of the contract's clips.
        faces, select, cache: as for `CropSource`.

    Raises:
        VideoError: nothing to read, or a film that is damaged or cut off.
        NoFaceError: no clip of the plan shows the person.
        ValueError, ImportError: as `CropSource`.
    """
    return CropSource(faces, select=select, cache=cache).open(video, contract, plan)
