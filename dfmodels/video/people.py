"""Who is in a video: faces searched for over the whole of it and followed, one track a person."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfmodels.options import check_choice
from dfmodels.video.decode import iter_frames, video_info
from dfmodels.video.faces import FaceDetector, opencv, reduced
from dfmodels.video.frame import Frame
from dfmodels.video.tracking import Boxes, Follower, Tracklet, colour_likeness, squares_of

__all__ = ["SELECT", "Person", "Survey", "choose", "survey_frames", "survey_people"]

SEARCHES = 6  # frames a second that are searched between the clips
MOST_SEARCHES = 512  # of them a video
FARTHEST = 1.0  # seconds between two of them
FEW = 3  # frames; a face in fewer of them may be a false detection
BRIEF = 0.4  # seconds within which a false detection comes and goes
UNSURE = 0.5  # score of a false detection, in scores of the person found most often
MOST_TRACKLETS = 512  # that are kept apart before the end of the video
APART = 1e6  # distance of two that are never one person


@dataclass(frozen=True, eq=False)
class Person:
    """One person of a video.

    Attributes:
        track: number, from 1 in order of face area over the video, the largest first.
        frames: numbers (N) of the frames that show the face, found or bridged, ascending.
        times: their times (N) in seconds.
        faces: the face in each (N, 15): x0, y0, x1, y1 in pixels of the video, score, x and y of five landmarks, NaN
            where they are unknown. Those of a bridged one lie between its neighbours'.
        found: whether the detector found it (N); otherwise it is bridged, see `survey_people`.
    """

    track: int
    frames: NDArray[np.int64]
    times: NDArray[np.float64]
    faces: NDArray[np.float64]
    found: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Survey:
    """What was looked at in a video, and who was seen.

    Attributes:
        frames: numbers of the frames read, ascending.
        times: their times in seconds.
        sizes: their heights and widths in pixels.
        with_face: how many of them show a face, found or bridged.
        damaged: numbers of those that are damaged; they are not searched.
        people: everybody seen, by track; empty where no face was found.
    """

    frames: tuple[int, ...]
    times: tuple[float, ...]
    sizes: tuple[tuple[int, int], ...]
    with_face: int
    damaged: tuple[int, ...]
    people: tuple[Person, ...]


def survey_frames(num_frames_in_video: int, rate: float, plan: Sequence[Sequence[int]]) -> list[int]:
    """Frames that are searched for faces: those of the clips, and every k-th one.

    k = max(round(rate / SEARCHES), ceil(n / MOST_SEARCHES)); where k frames are longer than FARTHEST seconds only those
    of the clips.

    Args:
        num_frames_in_video: n.
        rate: frames per second.
        plan: numbers of the frames of every clip.

    Returns:
        Ascending frame numbers.
    """
    step = max(1, round(rate / SEARCHES), math.ceil(num_frames_in_video / MOST_SEARCHES))
    between = range(0, num_frames_in_video, step) if step <= FARTHEST * rate else range(0)
    return sorted({index for clip in plan for index in clip}.union(between))


def survey_people(
    path: str | os.PathLike[str],
    detector: FaceDetector,
    plan: Sequence[Sequence[int]],
    *,
    landmarks: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Survey:
    """Search a video for faces and tell the people apart.

    The frames of `survey_frames` are searched. Faces are followed from one to the next (`tracking.Follower`); those who
    were out of sight, also behind a cut, are known again by the colours of head and shoulders (`join`). Two faces in
    one frame are two people. Gaps of BRIDGE_SECONDS at most are bridged where the frames show the face, and
    END_SECONDS before the first and behind the last sighting; `without_false` says what is taken for a false detection.
    Of a frame only the grey values at DETECTION_SIDE are kept, for BRIDGE_SECONDS.

    Args:
        path: a video or a folder of images, as for `read_frames`.
        detector: finds the faces of a frame; not one of whole frames.
        plan: numbers of the frames of every clip, as of `clip_frames`.
        landmarks: ask the detector for landmarks if it has them.
        progress: called after each frame with the number of frames read so far.

    Raises:
        VideoError: nothing to read at `path`, or a video that is cut off.
        ImportError: PyAV or OpenCV is not installed.
    """
    path = Path(path)
    info = video_info(path)
    wanted = survey_frames(info.num_frames, info.rate, plan)
    follower, most = Follower(), MOST_TRACKLETS
    frames: list[int] = []
    times: list[float] = []
    sizes: list[tuple[int, int]] = []
    damaged: list[int] = []
    with closing(iter_frames(path, set(wanted))) as reader:
        for frame in reader:
            frames.append(frame.index)
            times.append(frame.time)
            sizes.append((frame.image.shape[0], frame.image.shape[1]))
            if frame.damaged:
                damaged.append(frame.index)
            else:
                grey = opencv().cvtColor(reduced(frame.image)[0], opencv().COLOR_RGB2GRAY)
                faces = detect(detector, frame, path, landmarks)
                follower.add(frame.index, frame.time, frame.image, grey, faces)
            if progress is not None:
                progress(len(frames))
            if len(follower.done) >= most:  # those of a long video do not pile up
                follower.done = join(follower.done, follower.alike)
                most = max(MOST_TRACKLETS, 2 * len(follower.done))
            del frame  # the name would keep it alive while the next one is decoded
    people = without_false(people_of(join(follower.finish(), follower.alike)), times, frames)
    shown = {int(index) for person in people for index in person.frames}
    return Survey(tuple(frames), tuple(times), tuple(sizes), len(shown), tuple(damaged), tuple(people))


def detect(detector: FaceDetector, frame: Frame, path: Path, landmarks: bool) -> Boxes:
    """Faces (N, 15) of a frame, NaN for landmarks that are not wanted or that the detector does not give."""
    if landmarks and hasattr(detector, "detect_landmarks"):
        return np.asarray(detector.detect_landmarks(frame, path), np.float64).reshape(-1, 15)
    faces = np.asarray(detector.detect(frame, path), np.float64).reshape(-1, 5)
    return np.concatenate([faces, np.full((len(faces), 10), np.nan)], axis=1)


def join(tracklets: Sequence[Tracklet], alike: float) -> list[Tracklet]:
    """Tracklets of one person each, by the colours alone.

    Those whose likeness is `alike` on average are joined, the most alike first, but never two that share a frame.
    """
    if len(tracklets) < 2:
        return list(tracklets)
    from scipy.cluster.hierarchy import fcluster, linkage  # half a second, for which no other command should wait

    colours = np.array([tracklet.colours for tracklet in tracklets])
    norms = np.linalg.norm(colours, axis=2, keepdims=True)
    colours /= np.where(norms > 0, norms, 1)
    distances = np.clip(1 - colour_likeness(colours, colours).astype(np.float64), 0, None)
    together: dict[int, list[int]] = defaultdict(list)
    for i, tracklet in enumerate(tracklets):
        for number, found in zip(tracklet.frames, tracklet.found, strict=True):
            if found:
                together[number].append(i)
    for rows in together.values():
        distances[np.ix_(rows, rows)] = APART
    between = distances[np.triu_indices(len(tracklets), 1)]
    people: dict[int, list[Tracklet]] = defaultdict(list)
    for group, tracklet in zip(fcluster(linkage(between, "average"), 1 - alike, "distance"), tracklets, strict=True):
        people[int(group)].append(tracklet)
    return [one_of(group) for group in people.values()]


def one_of(tracklets: Sequence[Tracklet]) -> Tracklet:
    """One tracklet of all those of a person."""
    # A sighting goes before a bridged face of another tracklet in the same frame.
    rows = {
        row[0]: row
        for found in (False, True)
        for tracklet in tracklets
        for row in zip(tracklet.frames, tracklet.times, tracklet.faces, tracklet.found, strict=True)
        if row[3] == found
    }
    frames, times, faces, founds = (list(column) for column in zip(*(rows[n] for n in sorted(rows)), strict=True))
    colours = np.sum([tracklet.colours for tracklet in tracklets], axis=0)
    return Tracklet(frames, times, faces, founds, tracklets[-1].last, colours)


def people_of(tracklets: Sequence[Tracklet]) -> list[Person]:
    """People of tracklets, by face area."""
    return number_people(
        [
            Person(0, np.array(t.frames, np.int64), np.array(t.times), np.array(t.faces), np.array(t.found))
            for t in tracklets
        ]
    )


def number_people(people: Sequence[Person]) -> list[Person]:
    ordered = sorted(people, key=lambda person: (-areas(person.faces).sum(), person.frames[0], *person.faces[0, :2]))
    return [Person(i, p.frames, p.times, p.faces, p.found) for i, p in enumerate(ordered, 1)]


def without_false(people: Sequence[Person], times: Sequence[float], frames: Sequence[int]) -> list[Person]:
    """People without false detections.

    Beside somebody found in FEW frames or more, a face is none if it is found in fewer whenever it is seen, while
    frames read just before and behind do not show it: within BRIEF seconds nobody comes and goes. Neither is one found
    in fewer frames altogether whose mean score is below UNSURE times that of the one found most often.
    """
    sure = max(people, key=lambda person: int(person.found.sum()), default=None)
    if sure is None or sure.found.sum() < FEW:
        return list(people)
    score = sure.faces[sure.found, 4].mean()
    read = np.array(times)

    def brief(sighted: NDArray[np.float64]) -> bool:
        before, behind = read[read < sighted[0]], read[read > sighted[-1]]
        passing = len(before) > 0 and len(behind) > 0 and behind[0] - before[-1] <= BRIEF
        return len(sighted) < FEW and bool(passing)

    def false(person: Person) -> bool:
        places = np.searchsorted(frames, person.frames)
        seen = np.split(np.arange(len(places)), np.flatnonzero(np.diff(places) > 1) + 1)  # frame after frame read
        sightings = [person.times[rows][person.found[rows]] for rows in seen]
        unsure = person.found.sum() < FEW and person.faces[person.found, 4].mean() < UNSURE * score
        return bool(unsure) or all(brief(sighted) for sighted in sightings if len(sighted))

    return number_people([person for person in people if not false(person)])


def areas(faces: Boxes) -> Boxes:
    sides: Boxes = np.clip(faces[:, 2:4] - faces[:, :2], 0, None)
    return sides.prod(axis=1)


def face_area(person: Person, survey: Survey) -> float:
    return float(areas(person.faces).sum())


def nearness_to_centre(person: Person, survey: Survey) -> float:
    """Negative mean distance from the centre of the frame, in its diagonals."""
    size_of = dict(zip(survey.frames, survey.sizes, strict=True))
    sizes = np.array([size_of[int(number)] for number in person.frames], np.float64)
    offsets = squares_of(person.faces)[:, :2] - sizes[:, ::-1] / 2
    return -float((np.hypot(*offsets.T) / np.hypot(*sizes.T)).mean())


def confidence(person: Person, survey: Survey) -> float:
    return float(person.faces[person.found, 4].mean())


SELECT: dict[str, Callable[[Person, Survey], float]] = {
    "largest": face_area,
    "central": nearness_to_centre,
    "confident": confidence,
}


def choose(survey: Survey, select: str) -> Person:
    """The person to be judged.

    Args:
        survey: of a video that shows somebody.
        select: "largest" (most face area over the video), "central" (nearest to the centre of the frame on average) or
            "confident" (highest mean score). The last two choose among those who are seen in half as many frames as
            the one seen in most of them, or more.

    Raises:
        ValueError: another rule.
    """
    check_choice("select", select, SELECT)
    people = survey.people
    if select != "largest":
        most = max(len(person.frames) for person in people)
        people = tuple(person for person in people if 2 * len(person.frames) >= most)
    return max(people, key=lambda person: SELECT[select](person, survey))
