"""A scored video on a time axis, and in words: what its picture and its report both show."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dfmodels.scoring.result import ClipScore, Moment, VideoScore
from dfmodels.video import LeftOut

# seconds between ticks of videos of a minute and longer; shorter ones take 1, 2 or 5 times a power of ten
LONG_STEPS = (10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)


@dataclass(frozen=True)
class Gap:
    """Neighbouring clips that were left out for one reason.

    Attributes:
        start, end: seconds.
        reason: a key of REASONS.
        count: how many clips.
    """

    start: float
    end: float
    reason: str
    count: int


@dataclass(frozen=True)
class Mark:
    """A moment that is shown, under its letter.

    Attributes:
        letter: "A" for the most suspicious one, "B" for the next.
        moment: what is shown of it.
        clip: the clip it is.
        least: whether it is the least suspicious one.
    """

    letter: str
    moment: Moment
    clip: ClipScore
    least: bool

    @property
    def middle(self) -> float:
        """Seconds."""
        return (self.clip.start + self.clip.end) / 2


def length(score: VideoScore) -> float:
    """Seconds from the start of a video to its end as far as known, above 0."""
    ends = [clip.end for clip in score.clips] + [clip.end for clip in score.left_out]
    return max([score.duration or 0.0, *ends]) or 0.04


def judged(score: VideoScore) -> list[int]:
    """Numbers of the people with judged clips."""
    return sorted({clip.track for clip in score.clips})


def gaps(score: VideoScore, track: int | None = None) -> list[Gap]:
    """Where `track`, or with None nobody at all, was judged for a reason, in order of time."""
    if track is None:
        judged_starts = {clip.start for clip in score.clips}  # clips of several people share them
        out = [clip for clip in score.left_out if clip.start not in judged_starts]
        clips: Iterable[ClipScore] = score.clips
    else:
        out = [clip for clip in score.left_out if clip.track in (track, None)]
        clips = (clip for clip in score.clips if clip.track == track)
    found: list[Gap] = []
    run: list[LeftOut] = []
    starts = sorted({clip.start for clip in clips})
    for clip in sorted(out, key=lambda clip: (clip.start, clip.end)):
        if run:
            judged_between = bisect_left(starts, clip.start) > bisect_left(starts, run[-1].start)
            if judged_between or clip.reason != run[-1].reason:
                found.append(_joined(run))
                run = []
        run.append(clip)
    return [*found, _joined(run)] if run else found


def _joined(run: Sequence[LeftOut]) -> Gap:
    moments = {(clip.start, clip.end) for clip in run}  # one for each person
    return Gap(run[0].start, max(clip.end for clip in run), run[0].reason, len(moments))


def runs(starts: Sequence[float], breaks: Sequence[float]) -> list[slice]:
    """Of ascending `starts`, those between which no break lies."""
    cuts = {0, len(starts), *np.searchsorted(starts, breaks, "left").tolist()}
    return [slice(begin, end) for begin, end in pairwise(sorted(cuts))]


def marks(score: VideoScore) -> list[Mark]:
    """The moments that are shown, most suspicious first, the least suspicious last."""
    moments = [(moment, False) for moment in score.most_suspicious]
    if score.least_suspicious is not None:
        moments.append((score.least_suspicious, True))
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return [
        Mark(letters[i % len(letters)], moment, score.clips[moment.clip], least)
        for i, (moment, least) in enumerate(moments)
    ]


def shown_crops(moment: Moment, most: int = 8) -> list[int]:
    """Which crops of a moment are shown: `most` of them at most, evenly spaced."""
    count = len(moment.crops)
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()


def crop_label(clip: ClipScore, number: int, count: int) -> tuple[str, float]:
    """Frame number of a crop and its time, laid evenly over the clip where it does not say which frames it has."""
    if number < len(clip.frames):
        return str(clip.frames[number]), clip.times[number]
    return "", clip.start + (clip.end - clip.start) * number / max(count - 1, 1)


def time_ticks(seconds: float, most: int = 8) -> list[float]:
    """Round times from 0 to `seconds`, `most` of them and one at most."""
    steps = LONG_STEPS if seconds >= 60 else ()
    step = next((step for step in steps if seconds / step <= most), _step(seconds, most))
    return [i * step for i in range(math.floor(seconds / step * (1 + 1e-9)) + 1)]


def frame_ticks(score: VideoScore, most: int = 8) -> list[tuple[float, int]]:
    """Times of round frame numbers, interpolated between the clips; empty where no number is known."""
    points = {0: 0.0}
    for clip in score.clips:
        if clip.frames:
            points |= {clip.frames[0]: clip.start, clip.frames[-1]: clip.end}
    if score.num_frames and score.duration:
        points[score.num_frames] = score.duration
    if len(points) < 2:
        return []
    numbers = sorted(points)
    times = np.maximum.accumulate([points[number] for number in numbers])  # the duration may be a guess
    step = max(1, int(_step(numbers[-1], most)))
    wanted = range(0, score.num_frames or numbers[-1] + 1, step)
    return list(zip(np.interp(wanted, numbers, times).tolist(), wanted, strict=True))


def _step(span: float, most: int) -> float:
    """The smallest of 1, 2, 5, 10, ... times a power of ten of which at most `most` fit into `span`."""
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(step for step in (power, 2 * power, 5 * power, 10 * power) if span / step <= most * (1 + 1e-9))


def time_label(seconds: float, step: float) -> str:
    """Seconds with as many digits as ticks `step` apart need."""
    return f"{seconds:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}" if step < 1 else f"{seconds:.0f}"


def clock(seconds: float) -> str:
    """1:02:03, or 2:03 below an hour."""
    minutes, rest = divmod(math.floor(seconds + 1e-6), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def apart(places: Sequence[float], least: float, low: float, high: float) -> list[float]:
    """Places for labels: in the order of `places`, as near to them as `least` between any two allows, in [low, high].

    Where not all fit, they are spread evenly.
    """
    count = len(places)
    least = min(least, (high - low) / max(count - 1, 1))
    order = sorted(range(count), key=lambda i: places[i])
    left, right = [0.0] * count, [0.0] * count
    for rank, i in enumerate(order):
        left[i] = max(places[i], low if rank == 0 else left[order[rank - 1]] + least)
    for rank, i in reversed(list(enumerate(order))):
        left[i] = min(left[i], high - (count - 1 - rank) * least)
    for rank, i in reversed(list(enumerate(order))):
        right[i] = min(places[i], high if rank == count - 1 else right[order[rank + 1]] - least)
    for rank, i in enumerate(order):
        right[i] = max(right[i], low + rank * least)
    return [(a + b) / 2 for a, b in zip(left, right, strict=True)]


def thinned(clips: Sequence[ClipScore], seconds: float, bins: int = 300) -> list[ClipScore]:
    """Of more than two clips a bin of the time axis, the highest and the lowest of each bin."""
    if len(clips) <= 2 * bins:
        return list(clips)
    kept: dict[int, list[ClipScore]] = {}
    for clip in clips:
        kept.setdefault(min(int(clip.start / seconds * bins), bins - 1), []).append(clip)
    pairs = ((min(bin, key=_probability), max(bin, key=_probability)) for bin in kept.values())
    return [clip for pair in pairs for clip in sorted(set(pair), key=lambda clip: clip.start)]


def _probability(clip: ClipScore) -> float:
    return clip.probability
