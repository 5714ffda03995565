"""Clips of face crops out of a video."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfmodels.detector import CROPS, SAMPLINGS
from dfmodels.options import check_choice
from dfmodels.video.alignment import align_face, can_align
from dfmodels.video.decode import count_frames, iter_frames
from dfmodels.video.faces import FaceDetector, check_margin, crop_square, face_detector, opencv
from dfmodels.video.frame import Frame, VideoError
from dfmodels.video.sampling import SPAN, check_count, eval_frames, even_frames
from dfmodels.video.tracking import SELECT, Boxes, choose_apart, choose_faces, follow

__all__ = ["Clip", "NoFaceError", "clip_frames", "folder_clip_frames", "read_clips"]


class NoFaceError(VideoError):
    """A video in which the detector finds no face in any clip."""


@dataclass(frozen=True, eq=False)
class Clip:
    """Face crops of the frames of one clip.

    Attributes:
        frames: crops resized to one size (T, H, W, 3), uint8 RGB, 0 to 255.
        indices: frame numbers in the video (T).
        times: presentation times in seconds (T).
        boxes: the crops in pixels of the video (T, 4) int64: x0, y0, x1, y1, end exclusive; for an aligned one the
            square crop of the same face.
    """

    frames: NDArray[np.uint8]
    indices: tuple[int, ...]
    times: tuple[float, ...]
    boxes: NDArray[np.int64]

    @property
    def start(self) -> float:
        """Time of the first frame in seconds."""
        return self.times[0]

    @property
    def end(self) -> float:
        """Time of the last frame in seconds."""
        return self.times[-1]


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
    """Read the clips of `clip_frames` out of a video, cropped to one face each.

    The video is streamed once, up to the last frame needed; one clip of frames is in memory. The face of a clip of
    consecutive frames is chosen by `select`, followed by overlap, and its box smoothed over time (`tracking.follow`);
    frames without a detection take the interpolated or nearest box of their clip. Spread and even frames are too far
    apart to follow a face: `select` chooses in each, and frames without a detection take the nearest box of their clip.
    A clip without any detection is left out, so of single frames every one without a face.

    Args:
        path: a video or a folder of images, as for `read_frames`.
        num_frames: frames of a clip T.
        size: height and width of the crops in pixels, or one number for both; plain bilinear resize.
        faces: a detector or its specification for `face_detector`; None is "none", the frames are crops already and
            taken whole.
        num_clips, sampling: as for `clip_frames`.
        margin: side of the crop in sides of the face, see `crop_box`; not used where frames are taken whole.
        crop: "square", the crop of `crop_box`, or "aligned", that of `align_face` with the margin as its scale; frames
            without landmarks get the square one, and frames taken whole stay as they are.
        select: "largest", "central" (nearest to the centre of the frame) or "confident" (highest score).
        progress: called after each frame read with the number of frames up to it, the ones passed over included.

    Yields:
        Clips in order of time.

    Raises:
        ValueError: an argument other than the ones above; raised by the call, the errors below by the first clips.
        VideoError: nothing to read at `path`, or a video that is damaged or cut off.
        NoFaceError: no clip of the video shows a face.
        ImportError: PyAV or OpenCV is not installed.
    """
    check_count("num_frames", num_frames)
    if not isinstance(size, int) and len(size) != 2:
        raise ValueError(f"size must be one number or (height, width), got {size}")
    height, width = (size, size) if isinstance(size, int) else size
    check_count("size", height)
    check_count("size", width)
    if num_clips is not None:
        check_count("num_clips", num_clips)
    check_margin(margin)
    check_choice("select", select, SELECT)
    check_choice("sampling", sampling, SAMPLINGS)
    check_choice("crop", crop, CROPS)
    if crop == "aligned" and height != width:
        raise ValueError(f"size must be square for an aligned crop, got {size}")
    if not isinstance(faces, str | None) and not callable(getattr(faces, "detect", None)):
        raise TypeError(f"faces must be a string such as 'auto', or a face detector, got {type(faces).__name__}")
    detector = face_detector("none" if faces is None else faces) if isinstance(faces, str | None) else faces
    assembler = Assembler(Path(path), detector, (height, width), margin, select, sampling, crop)
    return assembler.clips(num_frames, num_clips, progress)


@dataclass
class Assembler:
    """Turns the frames of a video into clips."""

    path: Path
    detector: FaceDetector
    size: tuple[int, int]
    margin: float
    select: str
    sampling: str
    crop: str

    def clips(self, num_frames: int, num_clips: int | None, progress: Callable[[int], object] | None) -> Iterator[Clip]:
        plan = clip_frames(count_frames(self.path), num_frames, num_clips, self.sampling)
        wanted = {index for clip in plan for index in clip}
        next_starts = [*(clip[0] for clip in plan[1:]), plan[-1][-1] + 1]
        found = False
        with closing(iter_frames(self.path, wanted)) as frames:
            held: list[Frame] = []
            for numbers, next_start in zip(plan, next_starts, strict=True):
                while not held or held[-1].index < numbers[-1]:
                    try:
                        frame = next(frames)
                    except StopIteration:
                        break
                    if progress is not None:
                        progress(frame.index + 1)
                    held.append(frame)
                    del frame  # the name would keep a frame alive while the next clip is read
                ended = not held or held[-1].index < numbers[-1]
                # A decoder may give fewer frames than the file has packets: what is there counts as the whole video.
                if not held or (ended and numbers is not plan[0]):
                    break
                clip = self.assemble(held, [min(number, held[-1].index) for number in numbers])
                held = [frame for frame in held if frame.index >= next_start]  # a short video shares it with the next
                if clip is not None:
                    found = True
                    yield clip
                del clip
                if ended:
                    break
        if not found:
            where = "clip" if num_frames > 1 else "frame read"
            raise NoFaceError(
                f"{self.path}: {self.detector.name} finds no face in any {where}; try another face detector, or `none` "
                "if the frames are face crops already"
            )

    def assemble(self, held: list[Frame], numbers: list[int]) -> Clip | None:
        """The clip of the frame numbers given, None where no frame has a face."""
        cv2 = opencv()
        detections = [self.detect(frame) for frame in held]
        if not any(len(boxes) for boxes in detections):
            return None
        landmarks: list[Boxes | None] = [None] * len(held)
        sizes = [(frame.image.shape[0], frame.image.shape[1]) for frame in held]
        if getattr(self.detector, "whole_frame", False):
            boxes = [(0, 0, width, height) for height, width in sizes]
        else:
            choose = choose_faces if self.sampling == "consecutive" else choose_apart
            chosen = choose(detections, sizes, self.select)
            landmarks = [None if choice is None else landmarks_of(choice[1]) for choice in chosen]
            squares = follow(chosen)
            boxes = [crop_square(square, size, self.margin) for square, size in zip(squares, sizes, strict=True)]
        height, width = self.size
        crops = {
            frame.index: cv2.resize(frame.image[y0:y1, x0:x1], (width, height), interpolation=cv2.INTER_LINEAR)
            if points is None
            else align_face(frame.image, points, width, self.margin)
            for frame, (x0, y0, x1, y1), points in zip(held, boxes, landmarks, strict=True)
        }
        at = {frame.index: i for i, frame in enumerate(held)}
        return Clip(
            np.stack([crops[number] for number in numbers]),
            tuple(numbers),
            tuple(held[at[number]].time for number in numbers),
            np.array([boxes[at[number]] for number in numbers], np.int64),
        )

    def detect(self, frame: Frame) -> Boxes:
        """Faces of a frame (N, 5), with landmarks (N, 15) where they are wanted and the detector has them."""
        if self.crop == "aligned" and hasattr(self.detector, "detect_landmarks"):
            return np.asarray(self.detector.detect_landmarks(frame, self.path), np.float64).reshape(-1, 15)
        return np.asarray(self.detector.detect(frame, self.path), np.float64).reshape(-1, 5)


def landmarks_of(face: Boxes) -> Boxes | None:
    """Landmarks (5, 2) of a face (5 or 15), None where it has none to align by."""
    points = face[5:].reshape(-1, 2)
    return points if len(points) and can_align(points) else None
