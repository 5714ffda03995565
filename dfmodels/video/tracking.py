"""Faces followed from one frame to the next, and squares around them smoothed over time."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfmodels.optional import require

SMOOTHING_RADIUS = 2  # frames on either side in the mean of a box
STEADY_IOU = 0.3  # boxes of one face in two frames in a row that overlap less lie on both sides of a cut

LINK_SECONDS = 1.0  # a face that was out of sight for longer is linked by its looks alone
BRIDGE_SECONDS = 0.5  # between the sightings on both sides of a gap at most
END_SECONDS = 0.2  # behind the last sighting or before the first one at most
NEAR = 0.5  # sides of the face between where it is and where it was to be expected
SPEED = 3.0  # sides a second that a face gets away from there
GROWTH = 1.6  # of the side of a face from one frame read to the next
ALIKE = 0.9  # likeness of the colours of one person
ALIKE_GREY = 0.94  # the same in a video without colours
GREY = 0.05  # difference of red, green and blue in the heads of such a video at most, in parts of the brightest
CONFIRMED = 0.75  # correlation of a bridged face with the sightings beside it

PATCH = 24  # pixels of the side of a face that is compared
SEARCH = 6  # such pixels by which a bridged face may be off its place
REGION = 16  # pixels of the side of a region whose colours are counted
LEVELS = 12  # of each of red, green and blue
# Levels are steps of a logarithm, so that a dark picture has as many of them.
LOGARITHM = (LEVELS - 1) * np.log1p(np.arange(256, dtype=np.float32) / 16) / np.float32(np.log1p(255 / 16))
# A colour between two levels counts for both in parts, so that a small change is one: pixels are moved by up to half a
# level, each by an own part of it.
DITHER = np.random.default_rng(0).uniform(-0.5, 0.5, (REGION, REGION, 3)).astype(np.float32)
FEATURES = LEVELS**3
HEAD, SHOULDERS = (-0.4, -0.65, 0.4, 0.5), (-0.5, 0.75, 0.5, 1.5)  # left, top, right, bottom from the centre, in sides

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


def squares_of(boxes: Boxes) -> Boxes:
    """Rows of `square_of` (N, 3) x, y, side of boxes (N, 4 or more)."""
    sides = boxes[:, 2:4] - boxes[:, :2]
    return np.concatenate(
        [(boxes[:, :2] + boxes[:, 2:4]) / 2, np.clip(sides.max(axis=1, keepdims=True), 0, None)], axis=1
    )


def overlaps(first: Boxes, second: Boxes) -> Boxes:
    """Intersection over union (N, M) of boxes (N, 4 or more) and (M, 4 or more)."""
    corner = np.minimum(first[:, None, 2:4], second[None, :, 2:4]) - np.maximum(first[:, None, :2], second[None, :, :2])
    shared = np.clip(corner, 0, None).prod(axis=2)
    areas = [np.clip(boxes[:, 2:4] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - shared
    result: Boxes = np.where(union > 0, shared / np.where(union > 0, union, 1), 0.0)
    return result


def follow(boxes: Boxes) -> list[Square]:
    """Squares around the boxes (T, 4 or more) of one face in consecutive frames, smoothed.

    Smoothing is the mean of centre and side over SMOOTHING_RADIUS frames on both sides. The window is symmetric, so
    steady motion is left as it is, shrinks at the ends, and never spans a cut, where the boxes overlap by less than
    STEADY_IOU.
    """
    squares = squares_of(boxes)
    steady = [overlaps(boxes[i : i + 1], boxes[i + 1 : i + 2])[0, 0] >= STEADY_IOU for i in range(len(boxes) - 1)]
    starts = [0, *(i + 1 for i, same in enumerate(steady) if not same), len(boxes)]
    for start, end in pairwise(starts):
        for axis in range(3):
            squares[start:end, axis] = smooth(squares[start:end, axis])
    return [Square(*(float(value) for value in row)) for row in squares]


def smooth(line: Boxes) -> Boxes:
    """Mean over a symmetric window of values (T,); constant values stay exactly the same."""
    result = line.copy()
    for i in range(len(line)):
        radius = min(SMOOTHING_RADIUS, i, len(line) - 1 - i)
        # The mean of differences is exactly 0 for equal values, so rounding cannot move a box that stands still.
        result[i] += (line[i - radius : i + radius + 1] - line[i]).mean()
    return result


@dataclass(frozen=True, eq=False)
class Looks:
    """What faces look like.

    Attributes:
        colours: square roots of the shares of colours (N, 2, FEATURES) of the head and of what is below it, where the
            shoulders are; zero where that is outside the frame.
        halves: likeness (N, 2) of the colours in every other column of these regions and of the rest, 0 to 1: how much
            pixels that differ at random leave of it.
        patches: the faces (N, PATCH * PATCH), grey, of mean 0 and norm 1; zero where a face is one grey.
        chroma: mean difference (N) of red, green and blue in the heads, in parts of the brightest, 0 to 1.
    """

    colours: NDArray[np.float32]
    halves: NDArray[np.float32]
    patches: NDArray[np.float32]
    chroma: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.colours)

    def __getitem__(self, rows: Any) -> Looks:
        return Looks(self.colours[rows], self.halves[rows], self.patches[rows], self.chroma[rows])

    @staticmethod
    def join(looks: Sequence[Looks]) -> Looks:
        """One after the other, at least one."""
        return Looks(
            *(np.concatenate([getattr(look, part.name) for look in looks]) for part in fields(Looks)),
        )


def looks_of(image: NDArray[np.uint8], grey: NDArray[np.uint8], boxes: Boxes) -> Looks:
    """Looks of the faces (N, 4 or more) of a frame, of which `grey` is a reduced copy."""
    cv2 = require("cv2", "following faces")
    height, width = image.shape[:2]
    scale = grey.shape[1] / width
    counts = np.zeros((len(boxes), 2, 2, FEATURES), np.float32)
    patches = np.zeros((len(boxes), PATCH * PATCH), np.float32)
    chroma = np.zeros(len(boxes), np.float32)
    for i, (x, y, side) in enumerate(squares_of(boxes)):
        for part, (left, top, right, bottom) in enumerate((HEAD, SHOULDERS)):
            x0, x1 = (min(max(round(x + side * edge), 0), width) for edge in (left, right))
            y0, y1 = (min(max(round(y + side * edge), 0), height) for edge in (top, bottom))
            if x1 - x0 < 2 or y1 - y0 < max(1, side * (bottom - top) / 4):
                break
            size = (min(REGION, x1 - x0), min(REGION, y1 - y0))
            region = cv2.resize(image[y0:y1, x0:x1], size, interpolation=cv2.INTER_AREA)
            if part == 0:
                brightest = region.max(axis=2)
                chroma[i] = (brightest - region.min(axis=2)).mean() / max(brightest.mean(), 1)
            levels = LOGARITHM[region] + DITHER[: size[1], : size[0]]
            for half in range(2):
                columns = np.ascontiguousarray(levels[:, half::2])
                histogram = cv2.calcHist([columns], [0, 1, 2], None, [LEVELS] * 3, [-0.5, LEVELS - 0.5] * 3)
                counts[i, part, half] = histogram.ravel() / (columns.size // 3)
            if part == 0:
                patches[i] = normalised(window(grey, (x * scale, y * scale, side * scale), 0)).ravel()
    shares = blur(counts)
    halves = np.sqrt(shares[:, :, 0] * shares[:, :, 1]).sum(axis=2)
    return Looks(np.sqrt(shares.mean(axis=2)), halves, patches, chroma)


def blur(counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shares of colours (..., FEATURES) with a part of each moved to the levels beside: light changes a little."""
    kernel = np.eye(LEVELS, dtype=np.float32) / 2
    for i, j in ((0, 1), (1, 0)):
        kernel[range(i, LEVELS - j), range(j, LEVELS - i)] = 0.25
    kernel[0, 0] = kernel[-1, -1] = 0.75
    grid: NDArray[np.float32] = counts.reshape(-1, LEVELS, LEVELS, LEVELS)
    for _ in range(3):
        grid = (grid @ kernel).transpose(0, 3, 1, 2)  # one axis after the other comes last
    return np.ascontiguousarray(grid).reshape(counts.shape)


def window(grey: NDArray[np.uint8], square: Sequence[float], rim: int) -> NDArray[np.uint8]:
    """The square x, y, side of a picture as PATCH pixels with `rim` such pixels around it."""
    cv2 = require("cv2", "following faces")
    x, y, side = square
    pixels = max(1, round(side * (1 + 2 * rim / PATCH)))
    cut = cv2.getRectSubPix(grey, (pixels, pixels), (x - 0.5, y - 0.5))
    size = PATCH + 2 * rim
    return np.asarray(cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def normalised(patch: NDArray[np.uint8]) -> NDArray[np.float32]:
    values = patch.astype(np.float32)
    values -= values.mean()
    norm = float(np.linalg.norm(values))
    return values / norm if norm > PATCH else np.zeros_like(values)  # less than one grey level is no picture


def colour_likeness(
    first: NDArray[np.float32], second: NDArray[np.float32], most: NDArray[np.float32] | float = 1.0
) -> NDArray[np.float32]:
    """Likeness (N, M) of colours (N, 2, FEATURES) and (M, 2, FEATURES), 0 to 1.

    The lower one of Bhattacharyya's coefficients of the heads and of the shoulders, in parts of `most` (N, M, 2) that
    can be reached. Where one of the two does not show shoulders what the heads lack counts twice.
    """
    parts = np.stack([first[:, part] @ second[:, part].T for part in range(2)], axis=2)
    head, below = np.moveaxis(np.minimum(parts / most, 1), 2, 0)
    shown = [np.asarray(colours[:, 1].any(axis=1)) for colours in (first, second)]
    return np.where(shown[0][:, None] & shown[1], np.minimum(head, below), 2 * head - 1)


def face_likeness(first: Looks, second: Looks) -> NDArray[np.float32]:
    """Correlation (N, M) of the faces, -1 to 1."""
    return first.patches @ second.patches.T


@dataclass(eq=False)
class Tracklet:
    """One face followed through frames.

    Attributes:
        frames, times: numbers and seconds of the frames that show it, ascending.
        faces: one (15) for each of them.
        found: False for the bridged ones.
        last: the look of its last sighting.
        colours: sum of the colours (2, FEATURES) of its sightings.
        velocity: pixels a second, of x and y.
        tail: bridged faces behind the last sighting, until there is another.
    """

    frames: list[int]
    times: list[float]
    faces: list[Boxes]
    found: list[bool]
    last: Looks
    colours: NDArray[np.float32]
    velocity: Boxes = field(default_factory=lambda: np.zeros(2))
    tail: list[tuple[int, float, Boxes]] = field(default_factory=list)

    def expected(self, time: float) -> Boxes:
        """The box (4) at a later time: steady motion from the last sighting."""
        box: Boxes = self.faces[-1][:4] + np.tile(self.velocity * (time - self.times[-1]), 2)
        return box

    def add(self, number: int, time: float, face: Boxes, look: Looks) -> None:
        moved = squares_of(face[None])[0, :2] - squares_of(self.faces[-1][None])[0, :2]
        newest = moved / max(time - self.times[-1], 1e-3)
        self.velocity = (self.velocity + newest) / 2 if sum(self.found) > 1 else newest
        self.put(number, time, face, True)
        self.last = look
        self.colours = self.colours + look.colours[0]
        self.tail.clear()

    def put(self, number: int, time: float, face: Boxes, found: bool) -> None:
        self.frames.append(number)
        self.times.append(time)
        self.faces.append(face)
        self.found.append(found)


@dataclass(frozen=True, eq=False)
class Seen:
    """What is kept of a frame while a gap around it may be bridged."""

    number: int
    time: float
    grey: NDArray[np.uint8]
    scale: float
    faces: Boxes


class Follower:
    """Follows the faces of the frames of a video, read in order, into tracklets.

    Of the pairs of a tracklet and a face that may be one person those of the least cost in sum are linked. A pair may
    be one where the face lies within NEAR + SPEED * seconds sides of where steady motion leads to, its size has
    changed by no more than GROWTH, and its colours are `alike` or both are blank: those say nothing.
    """

    def __init__(self) -> None:
        self.chroma, self.sightings = 0.0, 0
        self.done: list[Tracklet] = []
        self.active: list[Tracklet] = []
        self.seen: deque[Seen] = deque()

    def add(self, number: int, time: float, image: NDArray[np.uint8], grey: NDArray[np.uint8], faces: Boxes) -> None:
        """The next frame (H, W, 3) with its faces (N, 15), and a grey, reduced copy (h, w) of it, which is kept."""
        frame = Seen(number, time, grey, grey.shape[1] / image.shape[1], faces)
        looks = looks_of(image, grey, faces)
        self.chroma, self.sightings = self.chroma + float(looks.chroma.sum()), self.sightings + len(faces)
        while self.seen and time - self.seen[0].time > BRIDGE_SECONDS:
            self.seen.popleft()
        self._close(time - LINK_SECONDS)
        pairs = self._pairs(time, faces, looks)
        taken = {face for _, face in pairs}
        linked = {tracklet for tracklet, _ in pairs}
        for i, j in pairs:
            self._bridge(self.active[i], number, time, faces[j], looks[j : j + 1])
            self.active[i].add(number, time, faces[j], looks[j : j + 1])
        for i, tracklet in enumerate(self.active):
            if i not in linked:
                self._hold(tracklet, frame)
        for j, face in enumerate(faces):
            if j not in taken:
                self.active.append(self._begun(number, time, face, looks[j : j + 1]))
        self.seen.append(frame)

    @property
    def alike(self) -> float:
        """Least likeness of the colours of one person: ALIKE, or ALIKE_GREY if the video so far has no colours."""
        return ALIKE if self.chroma > GREY * self.sightings else ALIKE_GREY

    def finish(self) -> list[Tracklet]:
        """All tracklets, in no order."""
        self._close(float("inf"))
        return self.done

    def _close(self, before: float) -> None:
        """End the tracklets last sighted before a time."""
        ended = [tracklet for tracklet in self.active if tracklet.times[-1] < before]
        self.active = [tracklet for tracklet in self.active if tracklet.times[-1] >= before]
        for tracklet in ended:
            for row in tracklet.tail:
                tracklet.put(*row, False)
        self.done += ended

    def _pairs(self, time: float, faces: Boxes, looks: Looks) -> list[tuple[int, int]]:
        if not self.active or not len(faces):
            return []
        from scipy.optimize import linear_sum_assignment  # half a second, for which no other command should wait

        expected = np.array([tracklet.expected(time) for tracklet in self.active])
        waited = np.array([time - tracklet.times[-1] for tracklet in self.active])[:, None]
        here, there = squares_of(faces), squares_of(expected)
        side = np.maximum(np.sqrt(here[None, :, 2] * there[:, None, 2]), 1.0)
        away = np.hypot(*(here[None, :, axis] - there[:, None, axis] for axis in range(2))) / side
        growth = np.abs(np.log(np.maximum(here[None, :, 2], 1) / np.maximum(there[:, None, 2], 1)))
        last = Looks.join([tracklet.last for tracklet in self.active])
        most = np.minimum(last.halves[:, None], looks.halves)
        colours = colour_likeness(last.colours, looks.colours, np.where(most > 0, most, 1))
        blank = [np.asarray(~look.patches.any(axis=1)) for look in (last, looks)]
        reach = NEAR + SPEED * waited
        possible = (
            (away <= reach) & (growth <= np.log(GROWTH)) & ((colours >= self.alike) | blank[0][:, None] & blank[1])
        )
        unlike = 2 * (1 - colours) + (1 - face_likeness(last, looks))
        cost = away / reach + growth + (1 - overlaps(expected, faces)) + unlike
        rows, columns = linear_sum_assignment(np.where(possible, cost, 1e6))
        return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if possible[i, j]]

    def _bridge(self, tracklet: Tracklet, number: int, time: float, face: Boxes, look: Looks) -> None:
        """Put the face into the frames between its last sighting and this one, where they show it."""
        begin, end, first = tracklet.times[-1], time, tracklet.faces[-1]
        if end - begin > BRIDGE_SECONDS:
            for row in (*tracklet.tail, *self._before(time, face, look, tracklet.frames[-1])):
                tracklet.put(*row, False)
            return
        gap = [seen for seen in self.seen if tracklet.frames[-1] < seen.number < number]
        least = CONFIRMED
        # A frame between two others cannot be asked for more than they have in common.
        if len(gap) == 1 and end - begin <= END_SECONDS:
            least = min(least, float(face_likeness(tracklet.last, look)[0, 0]))
        for seen in gap:
            share = (seen.time - begin) / (end - begin) if end > begin else 0.5
            between = first + (face - first) * share
            likeness = max(confirm(seen, between, sighting)[0] for sighting in (tracklet.last, look))
            if likeness >= least:
                tracklet.put(seen.number, seen.time, between, False)

    def _begun(self, number: int, time: float, face: Boxes, look: Looks) -> Tracklet:
        tracklet = Tracklet([], [], [], [], look, look.colours[0])
        for row in self._before(time, face, look):
            tracklet.put(*row, False)
        tracklet.put(number, time, face, True)
        return tracklet

    def _hold(self, tracklet: Tracklet, frame: Seen) -> None:
        """Keep the face in a frame behind its last sighting, if that shows it."""
        known = (tracklet.frames[-1], tracklet.times[-1], tracklet.faces[-1])
        if frame.time - known[1] > END_SECONDS:
            return
        if tracklet.tail:
            known = tracklet.tail[-1]
        if self.seen and self.seen[-1].number != known[0]:
            return  # it was lost in a frame before
        likeness, face = confirm(frame, known[2], tracklet.last)
        if likeness >= CONFIRMED:
            tracklet.tail.append((frame.number, frame.time, face))

    def _before(self, time: float, face: Boxes, look: Looks, last: int = -1) -> list[tuple[int, float, Boxes]]:
        """The face in the frames before a sighting and behind frame `last`, as long as they show it."""
        rows: list[tuple[int, float, Boxes]] = []
        for seen in reversed(self.seen):
            if time - seen.time > END_SECONDS or seen.number <= last:
                break
            likeness, face = confirm(seen, face, look)
            if likeness < CONFIRMED:
                break
            rows.insert(0, (seen.number, seen.time, face))
        return rows


def confirm(seen: Seen, face: Boxes, sighting: Looks) -> tuple[float, Boxes]:
    """How well a frame shows a face at its place or SEARCH pixels of a patch beside, -1 to 1, and the face there.

    Where another face was found there it shows that one.
    """
    if len(seen.faces) and overlaps(face[None], seen.faces).max() > STEADY_IOU:
        return -1.0, face
    cv2 = require("cv2", "following faces")
    x, y, side = squares_of(face[None])[0]
    around = window(seen.grey, (x * seen.scale, y * seen.scale, side * seen.scale), SEARCH)
    patch = sighting.patches.reshape(PATCH, PATCH)
    if not patch.any() or around.std() < 1:
        return 0.0, face
    score = cv2.matchTemplate(around.astype(np.float32), patch, cv2.TM_CCOEFF_NORMED)
    _, best, _, (column, row) = cv2.minMaxLoc(score)
    shifted = face.copy()
    offset = np.array([column - SEARCH, row - SEARCH]) * side / PATCH
    shifted[:4] += np.tile(offset, 2)
    shifted[5:] += np.tile(offset, 5)
    return float(best), shifted
