"""Frames of a video: evenly spaced ones; STIL's candidates, fixed ones of them to judge by, random ones to train on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["SPAN", "candidate_frames", "eval_frames", "even_frames", "train_frames"]

SPAN = 150  # candidates a video


def even_frames(num_frames_in_video: int, count: int) -> list[int]:
    """Evenly spaced frames from the first to the last of a video of n frames.

    Frame i of k = `count` is floor(i * (n - 1) / (k - 1) + 1/2), in whole numbers; one frame alone is the middle one,
    (n - 1) // 2.

    Args:
        num_frames_in_video: n, at least 1.
        count: number of frames k, at least 1; more frames than the video has repeat some.

    Returns:
        `count` ascending frame numbers.

    Raises:
        ValueError: a number below 1.
    """
    check_count("num_frames_in_video", num_frames_in_video)
    check_count("count", count)
    last, steps = num_frames_in_video - 1, count - 1
    if steps == 0:
        return [last // 2]
    return [(2 * i * last + steps) // (2 * steps) for i in range(count)]


def candidate_frames(num_frames_in_video: int, span: int = SPAN) -> list[int]:
    """Evenly spaced frame numbers from the first to the last frame of a video of n frames.

    c[j] = j * (n - 1) // (span - 1) for j = 0..span-1. A video shorter than the span gives some frames more than once.

    Args:
        num_frames_in_video: n, at least 1.
        span: number of candidates; 0 makes every frame one.

    Returns:
        Ascending frame numbers.

    Raises:
        ValueError: a number other than the ones above.

    Source: arXiv:2109.01860 and its release.
    """
    check_count("num_frames_in_video", num_frames_in_video)
    check_count("span", span, least=0)
    if span == 0:
        return list(range(num_frames_in_video))
    return [j * (num_frames_in_video - 1) // max(span - 1, 1) for j in range(span)]


def eval_frames(num_frames_in_video: int, count: int, span: int = SPAN) -> list[int]:
    """The frames a video is judged by: the middle candidates of `count` equal parts.

    Frame i is c[int(tick / 2 + tick * i)] with tick = candidates / count, in float64, whose rounding the release has.

    Args:
        num_frames_in_video: at least 1.
        count: number of frames, at least 1; more frames than candidates repeat some.
        span: as for `candidate_frames`.

    Returns:
        `count` ascending frame numbers.

    Raises:
        ValueError: a number other than the ones above.

    Source: arXiv:2109.01860 and its release.
    """
    candidates = candidate_frames(num_frames_in_video, span)
    check_count("count", count)
    tick = len(candidates) / count
    return [candidates[int(tick / 2 + tick * i)] for i in range(count)]


def train_frames(
    num_frames_in_video: int, count: int, *, draws: np.random.Generator | Sequence[int], span: int = SPAN
) -> list[int]:
    """Frames to train on: a random one of each segment of candidates.

    Segments hold s = candidates // count candidates, frame i is c[i * s + draws[i]]; the candidates behind the last
    segment are never drawn. Segments of one candidate are none to draw from: `count` candidates are drawn instead,
    without replacement. Fewer candidates than `count` are repeated count // candidates times, then the last one.

    Args:
        num_frames_in_video: at least 1.
        count: number of frames, at least 1.
        draws: what to draw from, or for segments of two candidates or more the draws themselves: `count` numbers
            from 0 to s - 1.
        span: as for `candidate_frames`.

    Returns:
        `count` ascending frame numbers.

    Raises:
        ValueError: a number or draws other than the ones above.

    Source: arXiv:2109.01860 and its release.
    """
    candidates = candidate_frames(num_frames_in_video, span)
    check_count("count", count)
    segment = len(candidates) // count
    if segment == 0:
        repeated = np.repeat(candidates, count // len(candidates)).tolist()
        return repeated + candidates[-1:] * (count - len(repeated))
    if isinstance(draws, np.random.Generator):
        if segment == 1:
            return [candidates[j] for j in np.sort(draws.choice(len(candidates), count, replace=False))]
        offsets: Sequence[int] = draws.integers(segment, size=count).tolist()
    elif segment == 1:
        raise ValueError(
            f"draws must be a numpy.random.Generator where {count} of {len(candidates)} candidates are taken without "
            f"segments, got {draws}"
        )
    elif len(draws) != count or not all(0 <= draw < segment for draw in draws):
        raise ValueError(
            f"draws must be a numpy.random.Generator or {count} numbers from 0 to {segment - 1}, got {draws}"
        )
    else:
        offsets = draws
    return [candidates[i * segment + offset] for i, offset in enumerate(offsets)]


def check_count(name: str, value: int, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
