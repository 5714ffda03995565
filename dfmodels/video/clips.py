"""Clips of the faces of a video."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dfmodels.detector import CROPS, SAMPLINGS
from dfmodels.options import check_choice
from dfmodels.video.alignment import align_face, can_align
from dfmodels.video.decode import count_frames, iter_frames
from dfmodels.video.faces import FaceDetector, check_margin, crop_square, face_detector, opencv, reduced
from dfmodels.video.frame import Frame, VideoError
from dfmodels.video.people import SELECT, Person, Survey, choose, survey_people
from dfmodels.video.sampling import SPAN, check_count, eval_frames, even_frames
from dfmodels.video.stillness import is_still
from dfmodels.video.tracking import Boxes, follow, square_of

__all__ = ["Clip", "LeftOut", "NoFaceError", "clip_frames", "folder_clip_frames", "read_clips", "read_people"]

PICTURE_SIDE = 640  # pixels of the longer side of the picture of a clip
WHOLE_FRAME = 1  # track of frames that are crops already

T = TypeVar("T")
Place = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels, end exclusive


class NoFaceError(VideoError):
    """A video in which no clip shows a face."""


@dataclass(frozen=True, eq=False)
class Clip:
    """Face crops of one person in the frames of one clip.

    Attributes:
        frames: crops resized to one size (T, H, W, 3), uint8 RGB, 0 to 255.
        indices: frame numbers in the video (T).
        times: presentation times in seconds (T).
        boxes: the crops in pixels of the video (T, 4) int64: x0, y0, x1, y1, end exclusive; for an aligned one the
            square crop of the same face.
        track: number of the person; 1 where the frames are crops already.
        picture: the whole middle frame, T // 2, its longer side reduced to 640 pixels at most, (h, w, 3) uint8 RGB.
        picture_box: the crop of that frame in pixels of the picture: x0, y0, x1, y1.
        still: whether nothing moves where the face is (`is_still` of one place in all its frames); never of a single
            frame.
    """

    frames: NDArray[np.uint8]
    indices: tuple[int, ...]
    times: tuple[float, ...]
    boxes: NDArray[np.int64]
    track: int
    picture: NDArray[np.uint8]
    picture_box: tuple[float, float, float, float]
    still: bool = False

    @property
    def start(self) -> float:
        """Time of the first frame in seconds."""
        return self.times[0]

    @property
    def end(self) -> float:
        """Time of the last frame in seconds."""
        return self.times[-1]


@dataclass(frozen=True)
class LeftOut:
    """A clip that is not given, and why.

    Attributes:
        start, end: times of its first and last frame in seconds.
        reason: "damaged", a frame of it is damaged; "no_face", none of its frames shows a face; "gap", others are seen
            and the person is not, or is lost in between; "short", the person comes or goes within it.
        track: number of the person; None where the reason is that of everybody, "damaged" or "no_face".
        frames: numbers of its frames in the video.
        damaged: those of them that are damaged.
    """

    start: float
    end: float
    reason: str
    track: int | None
    frames: tuple[int, ...] = ()
    damaged: tuple[int, ...] = ()


def clip_frames(
    num_frames_in_video: int, clip_length: int, num_clips: int | None = None, sampling: str = "consecutive"
) -> list[list[int]]:
    """Frame numbers of the clips of a video.

    "consecutive": segments from frame 0 on. An incomplete last segment is dropped unless it is the only one, which
    repeats its last frame. Of S segments, `num_clips` N < S takes those at the centres of N equal parts: segment
    floor((i + 1/2) S / N) for i = 0..N-1.

    "spread": the T * N frames of `eval_frames`, T at a time, N at most its SPAN candidates. A video of fewer frames
    repeats some, within a clip and from one clip to the next.

    "even": T * N frames of `even_frames`, T at a time. N is at most the number of clips that different frames fill, so
    only a video of fewer than T frames repeats some; with T = 1 a video of no more than N frames gives each of them
    once.

    Args:
        num_frames_in_video: at least 1.
        clip_length: frames of a clip T, at least 1.
        num_clips: number of clips N, with "consecutive" and "even" at most; None for all, with "spread" and "even" as
            many as different candidates or frames fill, at least one.
        sampling: "consecutive", "spread" or "even".

    Returns:
        One list of T ascending frame numbers per clip, in order of time.

    Raises:
        ValueError: a number below 1, or another sampling.
    """
    check_count("num_frames_in_video", num_frames_in_video)
    check_count("clip_length", clip_length)
    if num_clips is not None:
        check_count("num_clips", num_clips)
    check_choice("sampling", sampling, SAMPLINGS)
    if sampling == "spread":
        if num_clips is None:
            num_clips = max(1, min(num_frames_in_video, SPAN) // clip_length)
        elif num_clips > SPAN:
            raise ValueError(
                f"num_clips must be at most {SPAN} where frames are spread over the video, got {num_clips}"
            )
        return cut(eval_frames(num_frames_in_video, clip_length * num_clips), clip_length)
    segments = max(1, num_frames_in_video // clip_length)
    if sampling == "even":
        clips = segments if num_clips is None else min(num_clips, segments)
        return cut(even_frames(num_frames_in_video, clip_length * clips), clip_length)
    taken = range(segments)
    if num_clips is not None and num_clips < segments:
        picked = [(2 * i + 1) * segments // (2 * num_clips) for i in range(num_clips)]
    else:
        picked = list(taken)
    last = num_frames_in_video - 1
    return [[min(s * clip_length + t, last) for t in range(clip_length)] for s in picked]


def cut(frames: list[int], clip_length: int) -> list[list[int]]:
    return [frames[i : i + clip_length] for i in range(0, len(frames), clip_length)]


def folder_clip_frames(first: int, last: int, clip_length: int) -> list[int]:
    """Frame numbers of the clip that begins at a listed frame of a folder; behind the last frame it is repeated.

    Args:
        first: number of the listed frame.
        last: number of the last frame of the folder, at least `first`.
        clip_length: frames of a clip T, at least 1.

    Returns:
        T ascending frame numbers.

    Raises:
        ValueError: `last` below `first`, or a clip length below 1.
    """
    check_count("clip_length", clip_length)
    if last < first:
        raise ValueError(f"last must be at least first = {first}, got {last}")
    return [min(first + t, last) for t in range(clip_length)]


def read_clips(
    path: str | os.PathLike[str],
    *,
    num_frames: int,
    size: int | tuple[int, int],
    faces: FaceDetector | str | None = None,
    num_clips: int | None = None,
    margin: float = 1.3,
    select: str = "largest",
    sampling: str = "consecutive",
    crop: str = "square",
    progress: Callable[[int], object] | None = None,
) -> Iterator[Clip]:
    """Read the clips of `clip_frames` out of a video, cropped to the face of one person.

    Where faces are searched for, the video is read twice: once to tell the people in it apart (`survey_people`) and
    once for the clips of the person chosen (`read_people`), with one clip of frames in memory. A clip that does not
    show the person in all its frames is left out; of frames that are spread over the video the nearest ones with the
    person stand in for those without, where half of a clip shows the person.

    Args:
        path: a video or a folder of images, as for `read_frames`.
        num_frames: frames of a clip T.
        size: height and width of the crops in pixels, or one number for both; plain bilinear resize.
        faces: a detector or its specification for `face_detector`; None is "none", the frames are crops already and
            taken whole.
        num_clips, sampling: as for `clip_frames`.
        margin, crop: as for `read_people`.
        select: whose clips, as for `choose`.
        progress: called after each frame read with their number so far.

    Yields:
        Clips in order of time.

    Raises:
        ValueError: an argument other than the ones above; raised by the call, the errors below by the first clips.
        VideoError: nothing to read at `path`, or a video that is damaged or cut off.
        NoFaceError: no clip of the video shows a face.
        ImportError: PyAV or OpenCV is not installed.
    """
    check_count("num_frames", num_frames)
    if num_clips is not None:
        check_count("num_clips", num_clips)
    height_and_width(size, crop)
    check_margin(margin)
    check_choice("select", select, SELECT)
    check_choice("sampling", sampling, SAMPLINGS)
    detector = face_detector("none" if faces is None else faces)
    return clips_of_one(
        Path(path), detector, num_frames, num_clips, select, progress, size, margin=margin, sampling=sampling, crop=crop
    )


def clips_of_one(
    path: Path,
    detector: FaceDetector,
    num_frames: int,
    num_clips: int | None,
    select: str,
    progress: Callable[[int], object] | None,
    size: int | tuple[int, int],
    *,
    margin: float,
    sampling: str,
    crop: str,
) -> Iterator[Clip]:
    plan = clip_frames(count_frames(path), num_frames, num_clips, sampling)
    survey, tracks, searched = None, (WHOLE_FRAME,), 0
    if not getattr(detector, "whole_frame", False):
        survey = survey_people(path, detector, plan, landmarks=crop == "aligned", progress=progress)
        if not survey.people:
            raise no_face(path, detector)
        tracks, searched = (choose(survey, select).track,), len(survey.frames)
    left_out: list[LeftOut] = []
    given = False
    for clip in read_people(
        path,
        plan,
        survey,
        tracks,
        size=size,
        margin=margin,
        sampling=sampling,
        crop=crop,
        progress=None if progress is None else lambda handled: progress(searched + handled),
    ):
        if isinstance(clip, LeftOut):
            left_out.append(clip)
        else:
            given = True
            yield clip
        del clip
    if not given:
        if all(clip.reason == "damaged" for clip in left_out):
            raise VideoError(f"{path}: every clip of the video has damaged frames; copy or download the file again")
        raise no_face(path, detector)


def no_face(path: Path, detector: FaceDetector) -> NoFaceError:
    return NoFaceError(
        f"{path}: {detector.name} finds no face that stays in view through a clip; try another face detector, or "
        "`none` if the frames are face crops already"
    )


def read_people(
    path: str | os.PathLike[str],
    plan: Sequence[Sequence[int]],
    survey: Survey | None,
    tracks: Sequence[int] = (1,),
    *,
    size: int | tuple[int, int],
    margin: float = 1.3,
    sampling: str = "consecutive",
    crop: str = "square",
    progress: Callable[[int], object] | None = None,
) -> Iterator[Clip | LeftOut]:
    """Read the clips of some people of a video, cropped to their faces.

    Each frame is decoded once and one clip of frames is in memory. In clips of consecutive frames the box is smoothed
    over time (`tracking.follow`), in others, whose frames lie too far apart, it is taken as it is.

    Args:
        path: a video or a folder of images, as for `read_frames`.
        plan: numbers of the frames of every clip, as of `clip_frames`, for which `survey` was made.
        survey: who is seen where, of `survey_people`; None where the frames are crops already and taken whole.
        tracks: numbers of the people asked for.
        size: height and width of the crops in pixels, or one number for both; plain bilinear resize.
        margin: side of the crop in sides of the face, see `crop_box`; not used where frames are taken whole.
        sampling: how `plan` was made.
        crop: "square", the crop of `crop_box`, or "aligned", that of `align_face` with the margin as its scale; frames
            without landmarks get the square one, and frames taken whole stay as they are.
        progress: called after each frame read with their number so far.

    Yields:
        In order of time, for every clip and of that for every person, in the order of `tracks`, a `Clip`, or why it is
        left out.

    Raises:
        ValueError: an argument other than the ones above; raised by the call.
        VideoError: nothing to read at `path`, or a video that is cut off.
        ImportError: PyAV or OpenCV is not installed.
    """
    known = (WHOLE_FRAME,) if survey is None else tuple(person.track for person in survey.people)
    if not set(tracks) <= set(known):
        raise ValueError(f"tracks must be among {', '.join(map(str, known)) or 'none'}, got {list(tracks)}")
    check_margin(margin)
    check_choice("sampling", sampling, SAMPLINGS)
    size = height_and_width(size, crop)
    cutter = Cutter(size, margin, sampling == "consecutive", crop == "aligned")
    if survey is None:
        return whole_clips(Path(path), plan, cutter, progress)
    people = [person for track in tracks for person in survey.people if person.track == track]
    return clips_of_people(Path(path), plan, survey, people, cutter, progress)


def height_and_width(size: int | tuple[int, int], crop: str) -> tuple[int, int]:
    check_choice("crop", crop, CROPS)
    if not isinstance(size, int) and len(size) != 2:
        raise ValueError(f"size must be one number or (height, width), got {size}")
    height, width = (size, size) if isinstance(size, int) else size
    check_count("size", height)
    check_count("size", width)
    if crop == "aligned" and height != width:
        raise ValueError(f"size must be square for an aligned crop, got {size}")
    return height, width


def whole_clips(
    path: Path, plan: Sequence[Sequence[int]], cutter: Cutter, progress: Callable[[int], object] | None
) -> Iterator[Clip | LeftOut]:
    def cut(i: int, numbers: Sequence[int], frames: dict[int, Frame]) -> Clip | LeftOut:
        damaged = tuple(number for number in numbers if frames[number].damaged)
        if damaged:
            return LeftOut(frames[numbers[0]].time, frames[numbers[-1]].time, "damaged", None, tuple(numbers), damaged)
        return cutter.clip(numbers, frames, None)

    return read_plan(path, plan, cut, progress)


def clips_of_people(
    path: Path,
    plan: Sequence[Sequence[int]],
    survey: Survey,
    people: Sequence[Person],
    cutter: Cutter,
    progress: Callable[[int], object] | None,
) -> Iterator[Clip | LeftOut]:
    outcomes = outcomes_of(fitting(plan, survey.frames[-1]), survey, people, nearest=not cutter.smooth)
    shown = [[outcome for outcome in each if isinstance(outcome, Shown)] for each in outcomes]
    read = [each for each in shown if each]

    def cut(i: int, numbers: Sequence[int], frames: dict[int, Frame]) -> list[Clip]:
        last = numbers[-1]
        return [cutter.clip([min(n, last) for n in each.numbers], frames, each.person) for each in read[i]]

    # Which clips are left out is known: their frames are not read again.
    wanted = [sorted({number for each in clip for number in each.numbers}) for clip in read]
    with closing(read_plan(path, wanted, cut, progress)) as reader:
        for each in outcomes:
            clips = iter(next(reader)) if any(isinstance(outcome, Shown) for outcome in each) else iter(())
            for outcome in each:
                yield outcome if isinstance(outcome, LeftOut) else next(clips)


@dataclass(frozen=True, eq=False)
class Shown:
    """A clip that shows a person, and the frames that do so."""

    person: Person
    numbers: list[int]


def outcomes_of(
    plan: Sequence[Sequence[int]], survey: Survey, people: Sequence[Person], nearest: bool
) -> list[list[Shown | LeftOut]]:
    """What becomes of every clip: the people that it shows, and why it is left out for the others.

    With `nearest`, of clips whose frames are spread over the video, a frame without the person is replaced by the
    nearest one with it inside the clip, if half of the frames or more show the person.
    """
    times = dict(zip(survey.frames, survey.times, strict=True))
    broken = set(survey.damaged)
    seen = {number for person in survey.people for number in person.frames.tolist()}
    outcomes: list[list[Shown | LeftOut]] = []
    for numbers in plan:
        start, end, frames = times[numbers[0]], times[numbers[-1]], tuple(numbers)
        damaged = tuple(sorted(broken.intersection(numbers)))
        if damaged:
            outcomes.append([LeftOut(start, end, "damaged", None, frames, damaged)])
            continue
        if seen.isdisjoint(numbers):
            outcomes.append([LeftOut(start, end, "no_face", None, frames)])
            continue
        each: list[Shown | LeftOut] = []
        for person in people:
            there = np.isin(numbers, person.frames).tolist()
            if all(there):
                each.append(Shown(person, list(numbers)))
            elif nearest and 2 * sum(there) >= len(numbers):
                inside = person.frames[(person.frames >= numbers[0]) & (person.frames <= numbers[-1])]
                each.append(Shown(person, [int(inside[np.abs(inside - number).argmin()]) for number in numbers]))
            else:
                each.append(LeftOut(start, end, missing(there), person.track, frames))
        outcomes.append(each)
    return outcomes


def missing(there: Sequence[bool]) -> str:
    """Why a clip is left out that does not show the person in all of its frames."""
    inside = there[there.index(True) : len(there) - there[::-1].index(True)] if any(there) else [False]
    return "short" if all(inside) else "gap"


def fitting(plan: Sequence[Sequence[int]], last: int) -> list[list[int]]:
    """The clips up to the last frame there is, which the first one repeats."""
    return [
        [min(number, last) for number in numbers] for i, numbers in enumerate(plan) if i == 0 or numbers[-1] <= last
    ]


def read_plan(
    path: Path,
    plan: Sequence[Sequence[int]],
    cut: Callable[[int, Sequence[int], dict[int, Frame]], T],
    progress: Callable[[int], object] | None,
) -> Generator[T, None, None]:
    """What `cut` makes of every clip: of its number in `plan`, its frame numbers, and the frames by number."""
    if not plan:
        return
    next_starts = [*(clip[0] for clip in plan[1:]), plan[-1][-1] + 1]
    with closing(iter_frames(path, {index for clip in plan for index in clip})) as reader:
        held: dict[int, Frame] = {}
        handled, last = 0, -1
        for i, (numbers, next_start) in enumerate(zip(plan, next_starts, strict=True)):
            while last < numbers[-1]:
                frame = next(reader, None)
                if frame is None:
                    break
                held[frame.index] = frame
                last = frame.index
                del frame  # the name would keep a frame alive while the next clip is read
                handled += 1
                if progress is not None:
                    progress(handled)
            # A decoder may give fewer frames than the file has packets: what is there counts as the whole video.
            ended = last < numbers[-1]
            if ended and (i or not held):
                return
            made = cut(i, [min(number, last) for number in numbers], held)
            held = {number: frame for number, frame in held.items() if number >= next_start}
            yield made
            if ended:
                return
            del made


@dataclass(frozen=True)
class Cutter:
    """Cuts faces out of frames."""

    size: tuple[int, int]
    margin: float
    smooth: bool
    align: bool

    def clip(self, numbers: Sequence[int], frames: dict[int, Frame], person: Person | None) -> Clip:
        """The clip of the frame numbers given, of the whole frames without a person."""
        crops, places = self.crops(numbers, frames, person)
        middle = len(numbers) // 2
        image = frames[numbers[middle]].image
        picture, scale_x, scale_y = reduced(image, PICTURE_SIDE)
        x0, y0, x1, y1 = places[middle]
        taken = sorted(set(numbers))
        return Clip(
            crops,
            tuple(numbers),
            tuple(frames[number].time for number in numbers),
            np.array(places, np.int64),
            WHOLE_FRAME if person is None else person.track,
            picture,
            (x0 / scale_x, y0 / scale_y, x1 / scale_x, y1 / scale_y),
            len(numbers) > 1 and self.stands_still([frames[number].image for number in taken], places[middle]),
        )

    def crops(
        self, numbers: Sequence[int], frames: Mapping[int, Frame], person: Person | None
    ) -> tuple[NDArray[np.uint8], list[Place]]:
        """The crops (T, H, W, 3) of the frame numbers given, and the square ones' places in the video."""
        cv2 = opencv()
        taken = sorted(set(numbers))
        sizes = [(frames[number].image.shape[0], frames[number].image.shape[1]) for number in taken]
        if person is None:
            places = [(0, 0, width, height) for height, width in sizes]
            landmarks: list[Boxes | None] = [None] * len(taken)
        else:
            faces = person.faces[np.searchsorted(person.frames, taken)]
            squares = follow(faces) if self.smooth else [square_of(face) for face in faces]
            places = [crop_square(square, size, self.margin) for square, size in zip(squares, sizes, strict=True)]
            landmarks = [landmarks_of(face) if self.align else None for face in faces]
        height, width = self.size
        images = {
            number: cv2.resize(frames[number].image[y0:y1, x0:x1], (width, height), interpolation=cv2.INTER_LINEAR)
            if points is None
            else align_face(frames[number].image, points, width, self.margin)
            for number, (x0, y0, x1, y1), points in zip(taken, places, landmarks, strict=True)
        }
        place_of = dict(zip(taken, places, strict=True))
        return np.stack([images[number] for number in numbers]), [place_of[number] for number in numbers]

    def stands_still(self, images: Sequence[NDArray[np.uint8]], box: Place) -> bool:
        """Whether nothing moves inside one box; crops that follow a face move over a picture that stands still."""
        if len({image.shape for image in images}) > 1:
            return False
        (x0, y0, x1, y1), (height, width) = box, self.size
        places = [
            opencv().resize(image[y0:y1, x0:x1], (width, height), interpolation=opencv().INTER_AREA) for image in images
        ]
        return is_still(np.stack(places))


def landmarks_of(face: Boxes) -> Boxes | None:
    """Landmarks (5, 2) of a face (15), None where it has none to align by."""
    points = face[5:].reshape(-1, 2)
    return points if can_align(points) else None
