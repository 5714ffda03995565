"""Crops prepared once: a file a video with the pixels around the face, from which scoring's own code cuts.

A cache is a folder with `cache.json`, which says how it was made, `failed.csv` with the videos that could not be
prepared, and in folders below it the files `NAME-HASH.safetensors`, one a video and plan. Each holds, for every frame
that can be asked for, a window of the source around the widest crop, lossless, with its place and the face. Files come
into being whole, so whoever reads meets complete ones whatever ends the process that writes.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dfmodels.data.index import Video
from dfmodels.data.plan import FramePlan, Sighting, check_numbers, cutter_of, sight, smooths, with_margin
from dfmodels.detector import InputContract
from dfmodels.files import atomic_write, sha256, writable_folder
from dfmodels.video.alignment import crop_corners
from dfmodels.video.clips import WHOLE_FRAME, Clip, Place, landmarks_of
from dfmodels.video.decode import is_images, iter_frames
from dfmodels.video.faces import FaceDetector, check_margin, crop_square, face_detector, opencv
from dfmodels.video.frame import Frame, VideoError
from dfmodels.video.images import image_files
from dfmodels.video.people import Person
from dfmodels.video.tracking import SMOOTHING_RADIUS, square_of

__all__ = ["CachedCrops", "CropCache", "prepare_video"]

VERSION = 1
SETTINGS, FAILED, LOCK = "cache.json", "failed.csv", ".lock"
PNG_LEVEL = 1  # of 9; higher ones take several times as long for a few per cent
LONGEST_NAME = 100  # characters of the video's name in that of its file


@dataclass(frozen=True)
class CropCache:
    """A folder of prepared crops, and how they were made.

    Attributes:
        folder: where it lies.
        faces: specification of the face detector.
        faces_sha256: of the file of boxes or of the model that the specification names; empty where it names none.
        select: whose crops, as for `dfmodels.video.choose`.
        margin: widest margin that crops can be cut with.
    """

    folder: Path
    faces: str
    faces_sha256: str
    select: str
    margin: float

    @classmethod
    def read(cls, folder: str | Path) -> CropCache:
        """The cache in a folder.

        Raises:
            ValueError: the folder holds none, or one of another version.
        """
        folder = Path(folder)
        try:
            content = json.loads((folder / SETTINGS).read_text("utf-8"))
        except FileNotFoundError as error:
            raise ValueError(
                f"{folder} holds no prepared crops (there is no {SETTINGS}); `dfmodels prepare --cache {folder}` makes "
                "them"
            ) from error
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder / SETTINGS} cannot be read: {error}") from error
        version = content.get("version") if isinstance(content, dict) else None
        if version != VERSION:
            raise ValueError(
                f"{folder / SETTINGS} is of version {version}, this library reads {VERSION}; prepare the crops anew in "
                "another folder"
            )
        try:
            faces, faces_sha256, select = (str(content[name]) for name in ("faces", "faces_sha256", "select"))
            return cls(folder, faces, faces_sha256, select, float(content["margin"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{folder / SETTINGS} does not say how the crops were made: {error!r}") from error

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        faces: FaceDetector | str | None = None,
        select: str | None = None,
        margin: float | None = None,
    ) -> CropCache:
        """The cache in a folder, begun where it holds none.

        Args:
            folder: made where it is not there.
            faces, select, margin: as the attributes; None is what the cache has, of a new one "auto", "largest", 1.5.

        Raises:
            ValueError: a cache that was made otherwise, crops of which nothing says how they were made, a margin that
                is none, or a folder that cannot be written.
            OSError: the disk is full.
        """
        if margin is not None:
            check_margin(margin)
        folder = writable_folder("cache", Path(folder))
        if (folder / SETTINGS).exists():
            cache = cls.read(folder)
            cache.check(faces, select, margin)
            return cache
        if next(folder.glob("??/*.safetensors"), None) is not None:
            raise ValueError(
                f"{folder} holds crops, but no {SETTINGS} that says how they were made: put it back, or use another "
                "folder"
            )
        detector = face_detector("auto" if faces is None else faces)
        margin = 1.5 if margin is None else float(margin)
        cache = cls(folder, detector.name, file_hash(detector.name), select or "largest", margin)
        values = {name: value for name, value in vars(cache).items() if name != "folder"}
        with atomic_write(folder / SETTINGS) as partial:
            partial.write_text(json.dumps({"version": VERSION, **values}, indent=2) + "\n", "utf-8")
        return cache

    def check(self, faces: FaceDetector | str | None, select: str | None = None, margin: float | None = None) -> None:
        """Raise ValueError unless the crops are those of a detector, of a rule, and as wide as a margin asks."""
        remedy = "use another folder, or the setting of the cache"
        if faces is not None:
            name = face_detector(faces).name
            if (kind(name), file_hash(name)) != (kind(self.faces), self.faces_sha256):
                raise ValueError(
                    f"{self.folder} was prepared with faces {self.faces!r}, this run has {name!r}: {remedy}"
                )
        if select is not None and select != self.select:
            raise ValueError(
                f"{self.folder} was prepared with select {self.select!r}, this run has {select!r}: {remedy}"
            )
        if margin is not None and margin > self.margin:
            raise ValueError(
                f"{self.folder} was prepared for margins up to {self.margin}, this run has {margin}: {remedy}"
            )

    def file(self, video: Video, contract: InputContract, plan: FramePlan) -> Path:
        """Where the crops of a video lie, for the frames of a plan."""
        decisive = [video.key, plan.sampling, plan.num_frames, plan.count, contract.crop, smooths(contract)]
        name = hashlib.sha256(json.dumps(decisive).encode("utf-8", "surrogatepass")).hexdigest()
        return self.folder / name[:2] / f"{video.path.name[:LONGEST_NAME]}-{name[:24]}.safetensors"

    def find(self, video: Video, contract: InputContract, plan: FramePlan) -> CachedCrops | None:
        """The crops of a video; None where they are not prepared, or the source was changed since.

        A source that is gone is not missed.
        """
        try:
            crops = CachedCrops(self.file(video, contract, plan), contract, self.margin)
        except (OSError, SafetensorError, KeyError, ValueError):
            return None
        now = fingerprint(video.path)
        return crops if now is None or now == crops.source else None

    @cached_property
    def failed(self) -> dict[str, str]:
        """Reason why a video could not be prepared, by its key."""
        try:
            with open(self.folder / FAILED, newline="", encoding="utf-8", errors="surrogateescape") as file:
                return {row["path"]: row["reason"] for row in csv.DictReader(file) if row.get("reason")}
        except FileNotFoundError:
            return {}

    def note_failed(self, reasons: Mapping[str, str]) -> None:
        """Put what failed, by key, in the place of what the file said."""
        with (
            atomic_write(self.folder / FAILED) as partial,
            open(partial, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["path", "reason"])
            writer.writerows(sorted(reasons.items()))

    @contextmanager
    def written(self) -> Iterator[None]:
        """While the block runs files are written; what killed processes left half-written is removed around it."""
        descriptor = os.open(self.folder / LOCK, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            self._tidy(descriptor)
            yield
        finally:
            self._tidy(descriptor)
            os.close(descriptor)

    def _tidy(self, descriptor: int) -> None:
        """Remove half-written files unless another process writes some."""
        with suppress(OSError):  # another one does, or the file system has no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in (*self.folder.glob(".*.part"), *self.folder.glob("??/.*.part")):
                left.unlink(missing_ok=True)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)


def kind(faces: str) -> str:
    return faces.partition(":")[0]


def file_hash(faces: str) -> str:
    """SHA-256 of the file that a specification names, empty where it names none that is there."""
    file = faces.partition(":")[2]
    return sha256(file) if file and os.path.isfile(file) else ""


def fingerprint(path: Path) -> list[int] | None:
    """What tells that a film or the images of a folder were changed; None where they are gone."""
    try:
        stats = [os.stat(file) for file in (image_files(path) if is_images(path) else [path])]
    except (OSError, VideoError):
        return None
    return [len(stats), sum(stat.st_size for stat in stats), max(stat.st_mtime_ns for stat in stats)]


class CachedCrops:
    """Crops out of a file of a cache; see `Crops`.

    Raises:
        OSError, SafetensorError, KeyError, ValueError: no such file, or another one.
    """

    def __init__(self, file: Path, contract: InputContract, margin: float) -> None:
        self.file, self.margin = file, margin
        with safe_open(file, "numpy") as stored:
            about = json.loads((stored.metadata() or {})["crops"])
            self.frames: NDArray[np.int64] = stored.get_tensor("frames")
            self.ends: NDArray[np.int64] = stored.get_tensor("ends")
            self.windows: NDArray[np.int64] = stored.get_tensor("windows")
            self.sizes: NDArray[np.int64] = stored.get_tensor("sizes")
            self.times: NDArray[np.float64] = stored.get_tensor("times")
            self.person = None
            if about["track"] is not None:
                faces, found = (stored.get_tensor(name) for name in ("faces", "found"))
                self.person = Person(about["track"], self.frames, self.times, faces, found)
        self.path = Path(about["path"])
        self.source: list[int] = about["source"]
        self.numbers = tuple(about["numbers"])
        self.clips = tuple(map(tuple, about["clips"]))
        self._cutter = cutter_of(contract)

    def read(self, numbers: Sequence[int], margin: float | None = None) -> NDArray[np.uint8]:
        check_numbers(numbers, self.numbers, self.clips)
        cutter = with_margin(self._cutter, margin)
        if self.person is not None and cutter.margin > self.margin:
            raise ValueError(
                f"margin must be at most {self.margin}, for which {self.file} was prepared, got {cutter.margin}"
            )
        rows = dict(zip(numbers, np.searchsorted(self.frames, numbers).tolist(), strict=True))
        try:
            with safe_open(self.file, "numpy") as stored:
                pixels = stored.get_slice("pixels")
                frames = {number: self._frame(number, row, pixels) for number, row in rows.items()}
        except (OSError, SafetensorError) as error:
            raise VideoError(f"{self.path}: its prepared crops {self.file} can no longer be read: {error}") from error
        crops, places = cutter.crops(numbers, frames, self.person)
        for number, place in zip(numbers, places, strict=True):
            self._check(number, rows[number], place)
        return crops

    def clip(self, numbers: Sequence[int]) -> Clip:
        """One of `clips` as `read_clips` gives it, but that the crop stands for the picture, and nothing is still."""
        crops, height, width = self.read(numbers), *self._cutter.size
        return Clip(
            crops,
            tuple(numbers),
            tuple(self.times[np.searchsorted(self.frames, numbers)].tolist()),
            np.array([(0, 0, width, height)] * len(numbers), np.int64),
            WHOLE_FRAME if self.person is None else self.person.track,
            crops[len(crops) // 2],
            (0.0, 0.0, float(width), float(height)),
        )

    def _frame(self, number: int, row: int, pixels: Any) -> Frame:
        """A frame in which only the window is known."""
        begin = int(self.ends[row - 1]) if row else 0
        window = opencv().imdecode(pixels[begin : int(self.ends[row])], opencv().IMREAD_COLOR)
        if window is None:
            raise VideoError(
                f"{self.path}: its prepared crops {self.file} are damaged; remove the file and prepare again"
            )
        height, width = self.sizes[row].tolist()
        if window.shape[:2] == (height, width):
            return Frame(number, 0.0, window)
        # Cutting from a picture of the source's size takes the same steps in the same numbers as from the source
        # itself, and pages of it that are never touched cost nothing.
        image = np.zeros((height, width, 3), np.uint8)
        x0, y0, x1, y1 = self.windows[row].tolist()
        image[y0:y1, x0:x1] = window
        return Frame(number, 0.0, image)

    def _check(self, number: int, row: int, place: Place) -> None:
        if self.person is None or (self._cutter.align and landmarks_of(self.person.faces[row]) is not None):
            return
        x0, y0, x1, y1 = self.windows[row].tolist()
        if place[0] < x0 or place[1] < y0 or place[2] > x1 or place[3] > y1:
            raise ValueError(
                f"numbers must be neighbouring frames, over which boxes are smoothed, got frame {number} of "
                f"{self.path} with others that are not"
            )


def prepare_video(
    video: Video, cache: CropCache, contract: InputContract, plan: FramePlan, detector: FaceDetector | None = None
) -> int:
    """Write the crops of one video into a cache, unless they are there already.

    Args:
        video: a row of an index.
        cache: says whose faces, found how, and how wide.
        contract: says how crops are cut.
        plan: frames that can be asked for.
        detector: the one that `cache.faces` specifies, for callers that have it at hand.

    Returns:
        Bytes written, 0 where nothing was to do.

    Raises:
        VideoError: the video cannot be read, or shows no face throughout a clip.
        OSError: the file cannot be written.
    """
    if cache.find(video, contract, plan) is not None:
        return 0
    source = fingerprint(video.path)
    detector = face_detector(cache.faces) if detector is None else detector
    sighting = sight(video.path, plan, contract, detector, cache.select)
    tensors = stored_frames(video.path, sighting, contract, cache.margin)
    person = sighting.person
    about = {
        "path": os.fsencode(video.path).decode("utf-8", "replace"),
        "source": source,
        "numbers": sighting.numbers,
        "clips": sighting.clips,
        "track": None if person is None else person.track,
    }
    data = save(tensors, {"crops": json.dumps(about)})
    file = cache.file(video, contract, plan)
    file.parent.mkdir(exist_ok=True)
    with atomic_write(file) as partial:
        partial.write_bytes(data)
    return len(data)


def stored_frames(path: Path, sighting: Sighting, contract: InputContract, margin: float) -> dict[str, NDArray[Any]]:
    """Windows around the face in every frame that can be asked for, PNG after PNG, with their places and faces."""
    wanted = sorted(set(sighting.numbers).union(*sighting.clips))
    person = sighting.person
    rows = None if person is None else np.searchsorted(person.frames, wanted)
    sizes: list[tuple[int, int]] = []
    windows: list[Place] = []
    times: list[float] = []
    pictures: list[NDArray[np.uint8]] = []
    for place, frame in enumerate(iter_frames(path, set(wanted))):
        if frame.index != wanted[place]:
            raise VideoError(f"{path}: frame {wanted[place]} can no longer be read; was the file changed?")
        height, width = frame.image.shape[:2]
        window = (0, 0, width, height)
        if person is not None and rows is not None:
            window = window_of(person, int(rows[place]), (height, width), contract, margin)
        x0, y0, x1, y1 = window
        # stored as they are: a reader of PNG would take red for blue, and ours gives them back in this order
        pixels = np.ascontiguousarray(frame.image[y0:y1, x0:x1])
        _, picture = opencv().imencode(".png", pixels, png_options())
        sizes.append((height, width))
        windows.append(window)
        times.append(frame.time)
        pictures.append(picture.ravel())
    if len(pictures) < len(wanted):
        raise VideoError(f"{path}: frame {wanted[len(pictures)]} can no longer be read; was the file changed?")
    tensors: dict[str, NDArray[Any]] = {
        "pixels": np.concatenate(pictures),
        "ends": np.cumsum([len(picture) for picture in pictures], dtype=np.int64),
        "frames": np.array(wanted, np.int64),
        "sizes": np.array(sizes, np.int64),
        "windows": np.array(windows, np.int64),
        "times": np.array(times, np.float64),
    }
    if person is not None:
        tensors.update(faces=person.faces[rows], found=person.found[rows])
    return tensors


def png_options() -> list[int]:
    """Of OpenCV's writer: differences to the row above take 0.6 times as long to read as what it chooses by itself."""
    cv2 = opencv()
    options = [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL]
    if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # OpenCV before 4.11 has no choice
        options += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
    return options


def window_of(person: Person, row: int, size: tuple[int, int], contract: InputContract, margin: float) -> Place:
    """The part of a frame that crops of any margin up to `margin` can show, whichever clip the frame is in."""
    height, width = size
    points = landmarks_of(person.faces[row]) if contract.crop == "aligned" else None
    if points is not None:
        corners = crop_corners(points, margin)
        if not np.isfinite(corners).all():
            return 0, 0, width, height
        corners = corners.clip(-1, [width, height])
        low, high = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
        places = [(int(low[0]) - 1, int(low[1]) - 1, int(high[0]) + 1, int(high[1]) + 1)]  # bilinear
    else:
        near = [row]
        if smooths(contract):  # a mean of squares lies within their hull
            near = np.flatnonzero(np.abs(person.frames - person.frames[row]) <= SMOOTHING_RADIUS).tolist()
        places = [crop_square(square_of(person.faces[i]), size, margin) for i in near]
    x0, y0, x1, y1 = (
        edges(values) for edges, values in zip((min, min, max, max), zip(*places, strict=True), strict=True)
    )
    # a pixel more, as numbers are rounded; and one at least where the face is beside the picture
    x0, y0 = min(max(x0 - 1, 0), width - 1), min(max(y0 - 1, 0), height - 1)
    return x0, y0, max(min(x1 + 1, width), x0 + 1), max(min(y1 + 1, height), y0 + 1)
