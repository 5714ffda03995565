"""The face of a clip: chosen once, tracked through the frames, its box smoothed over time; or chosen in each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TRACK_IOU = 0.3  # a box that overlaps the previous one less than this is somebody else
PATIENCE = 1  # frames in a row that may show only other faces before one of them is followed
REACH = 1.0  # sides of its box that a face moves from one frame to the next at most
SMOOTHING_RADIUS = 2  # frames on either side in the mean of a box

Boxes = NDArray[np.float64]


@dataclass(frozen=True)
class Square:
    """Centre and side of a square around a face, in pixels of the video."""

    x: float
    y: float
    side: float


def square_of(box: Sequence[float] | Boxes) -> Square:
    """The square of side max(width, height) around the centre of a box (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = (float(value) for value in box[:4])
    return Square((x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0, 0.0))


def area(boxes: Boxes, frame_size: tuple[int, int]) -> Boxes:
    sides: Boxes = np.clip(boxes[:, 2:4] - boxes[:, :2], 0, None)
    return sides[:, 0] * sides[:, 1]


def nearness_to_centre(boxes: Boxes, frame_size: tuple[int, int]) -> Boxes:
    height, width = frame_size
    offset = (boxes[:, :2] + boxes[:, 2:4] - (width, height)) / 2
    return -np.hypot(offset[:, 0], offset[:, 1])


def confidence(boxes: Boxes, frame_size: tuple[int, int]) -> Boxes:
    return boxes[:, 4]


SELECT: dict[str, Callable[[Boxes, tuple[int, int]], Boxes]] = {
    "largest": area,
    "central": nearness_to_centre,
    "confident": confidence,
}


def overlap(boxes: Boxes, box: Boxes) -> Boxes:
    """Intersection over union of boxes (N, 4 or more) with one box: (N,)."""
    corner = np.minimum(boxes[:, 2:4], box[2:4]) - np.maximum(boxes[:, :2], box[:2])
    shared = np.clip(corner, 0, None).prod(axis=1)
    union = np.clip(boxes[:, 2:4] - boxes[:, :2], 0, None).prod(axis=1) + (box[2:4] - box[:2]).prod() - shared
    result: Boxes = np.where(union > 0, shared / np.where(union > 0, union, 1), 0.0)
    return result


def choose_faces(
    detections: Sequence[Boxes], frame_sizes: Sequence[tuple[int, int]], select: str
) -> list[tuple[int, Boxes] | None]:
    """One box per frame with the number of its track, or None where the followed face was not found.

    The first choice follows the rule `select`, later frames the box that overlaps the last one most, if by more than
    TRACK_IOU. A frame that shows only other faces counts as one without detection; after PATIENCE of them in a row the
    rule chooses again and a new track begins, as behind a cut. Behind frames without any box the choice of the
    rule continues the track if the face can have moved that far, REACH sides a frame.
    """
    chosen: list[tuple[int, Boxes] | None] = []
    track, missed, empty = -1, 0, 0
    last: Boxes | None = None
    for boxes, frame_size in zip(detections, frame_sizes, strict=True):
        if len(boxes) == 0:
            empty += 1
            chosen.append(None)
            continue
        choice = pick(boxes, frame_size, select)
        if last is None:
            track += 1
        else:
            overlaps = overlap(boxes, last)
            if overlaps.max() > TRACK_IOU:
                choice = boxes[int(overlaps.argmax())]
            elif not empty or distance(last, choice) > REACH * (empty + missed + 1):
                if missed < PATIENCE:
                    missed += 1
                    chosen.append(None)
                    continue
                track += 1
        last = choice
        missed = empty = 0
        chosen.append((track, last))
    return chosen


def choose_apart(
    detections: Sequence[Boxes], frame_sizes: Sequence[tuple[int, int]], select: str
) -> list[tuple[int, Boxes] | None]:
    """Like `choose_faces`, of frames too far apart to follow a face: the rule chooses in each, every one a track."""
    return [
        (i, pick(boxes, frame_size, select)) if len(boxes) else None
        for i, (boxes, frame_size) in enumerate(zip(detections, frame_sizes, strict=True))
    ]


def pick(boxes: Boxes, frame_size: tuple[int, int], select: str) -> Boxes:
    """The box (5) that the rule `select` prefers among those of a frame (N, 5)."""
    choice: Boxes = boxes[int(SELECT[select](boxes, frame_size).argmax())]
    return choice


def distance(first: Boxes, second: Boxes) -> float:
    """Distance of the centres of two boxes in sides of the first."""
    a, b = square_of(first), square_of(second)
    return math.hypot(a.x - b.x, a.y - b.y) / max(a.side, 1.0)


def follow(chosen: Sequence[tuple[int, Boxes] | None]) -> list[Square]:
    """A square for every frame: interpolated inside a track, the nearest one outside, then smoothed.

    Smoothing is the mean of centre and side over SMOOTHING_RADIUS frames on both sides. The window is symmetric, so
    steady motion is left as it is, shrinks at the ends of a track, and never spans two tracks.

    Args:
        chosen: result of `choose_faces` or `choose_apart` with at least one box.
    """
    at = np.array([i for i, choice in enumerate(chosen) if choice is not None])
    tracks = np.array([choice[0] for choice in chosen if choice is not None])
    squares = [square_of(choice[1]) for choice in chosen if choice is not None]
    values = np.array([(s.x, s.y, s.side) for s in squares])
    frames = np.arange(len(chosen))
    nearest = tracks[np.abs(frames[:, None] - at).argmin(axis=1)]
    result = np.empty((len(chosen), 3))
    for track in np.unique(nearest):
        inside, known = nearest == track, tracks == track
        for axis in range(3):
            line = np.interp(frames[inside], at[known], values[known, axis])
            result[inside, axis] = smooth(line)
    return [Square(*(float(value) for value in row)) for row in result]


def smooth(line: Boxes) -> Boxes:
    """Mean over a symmetric window of values (T,); constant values stay exactly the same."""
    result = line.copy()
    for i in range(len(line)):
        radius = min(SMOOTHING_RADIUS, i, len(line) - 1 - i)
        # The mean of differences is exactly 0 for equal values, so rounding cannot move a box that stands still.
        result[i] += (line[i - radius : i + radius + 1] - line[i]).mean()
    return result
