"""Scores of videos that nobody filmed: rendered people in a call, with clips, gaps and moments as scoring gives."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from dfmodels.detector import Origin
from dfmodels.scoring.result import ClipScore, Moment, PersonScore, VideoScore
from dfmodels.synthetic import render_clip
from dfmodels.video import LeftOut

ORIGIN = Origin(
    "runs/stil/best.safetensors",
    "9f2c41d7a6b05e8831c7d20f6be94a155d0c3e7782f1a96b40d8e35c17fa6b29",
    "rendered talking heads of `dfmodels demo`; for trying the tool, not for judging videos",
)
RATE = 25.0
FACES = (27, 12, 38, 13, 33)  # identities, one a person
RENDERED, SIDE = 24, 160
SEVERAL = {"people": 3, "judge": (1, 2, 3), "left_out": (("gap", 2), ("no_face", 2))}


@cache
def rendered(person, fake):
    return render_clip(FACES[person], 7 + person, fake, num_frames=RENDERED, size=SIDE)


def scene(faces, shape):
    """A call: one tile a person on a dark screen (H, W, 3), and the square of each tile."""
    height, width = shape
    picture = np.full((height, width, 3), (24, 28, 36), np.uint8)
    picture[: height // 12] = (38, 44, 56)
    columns = max(range(1, len(faces) + 1), key=lambda n: min(width / n, height / -(-len(faces) // n)))
    rows = -(-len(faces) // columns)
    side = int(0.88 * min(width / columns, height * 11 / 12 / rows))
    squares = []
    for i, face in enumerate(faces):
        x = int((i % columns + 0.5) * width / columns - side / 2)
        y = int(height / 12 + (i // columns + 0.5) * height * 11 / 12 / rows - side / 2)
        picture[y : y + side, x : x + side] = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
        squares.append((x, y, x + side, y + side))
    return picture, squares


def make_moment(number, clip, people, length, shape=(360, 640), side=112, kinds=("SIM", "TIM")):
    begin = 5 * number % (RENDERED - length)
    shown = [rendered(person, person == clip.track - 1)[begin : begin + length] for person in people]
    picture, squares = scene([frames[length // 2] for frames in shown], shape)
    x0, y0, x1, y1 = squares[people.index(clip.track - 1)]
    inset = (x1 - x0) // 8
    cut = SIDE // 8
    crops = np.stack(
        [cv2.resize(frame[cut:-cut, cut:-cut], (side, side)) for frame in shown[people.index(clip.track - 1)]]
    )
    maps = {}
    y, x = np.mgrid[:side, :side] / side
    for i, kind in enumerate(kinds):
        centres = [(0.5 + 0.2 * np.sin(t + 2 * i), 0.55 + 0.15 * np.cos(1.3 * t + i)) for t in range(length)]
        values = [
            np.exp(-((x - cx) ** 2 + (y - cy) ** 2) * 14) * (0.5 + 0.5 * (t % 3) / 2)
            for t, (cx, cy) in enumerate(centres)
        ]
        maps[kind] = np.clip(np.stack(values), 0, 1).astype(np.float32)
    return Moment(number, picture, (x0 + inset, y0 + inset, x1 - inset, y1 - inset), crops, maps)


def make_score(
    path="interview.mp4",
    seconds=24.0,
    clips=8,
    length=8,
    people=2,
    judge=(1,),
    unit="clip",
    shape=(360, 640),
    kinds=("SIM", "TIM"),
    left_out=(("no_face", 2), ("gap", 1)),
    level=0.7,
    moments=3,
    seed=0,
    warnings=("Only 62 % of the frames read show a face; try another face detector (--faces), or look at the video.",),
    **changes,
):
    """A score of evenly spaced clips, of which those in the middle are left out."""
    generator = np.random.default_rng(seed)
    if unit == "frame":
        length = 1
    frames = max(1, round(seconds * RATE))
    total = clips + sum(count for _, count in left_out)
    starts = np.linspace(0, max(frames - length, 0), total).round().astype(int)
    reasons = [reason for reason, count in left_out for _ in range(count)]
    first = total // 3
    made, out = [], []
    for i, start in enumerate(starts.tolist()):
        numbers = tuple(min(start + t, frames - 1) for t in range(length))
        begin, end = numbers[0] / RATE, numbers[-1] / RATE
        if first <= i < first + len(reasons):
            reason = reasons[i - first]
            tracks = (None,) if reason in ("no_face", "damaged") else judge
            out += [LeftOut(begin, end, reason, track) for track in tracks]
            continue
        for rank, track in enumerate(judge):
            p = float(np.clip(level - 0.2 * rank + 0.18 * np.sin(i + rank) + generator.normal(0, 0.05), 0.01, 0.99))
            made.append(ClipScore(begin, end, p, track, numbers, tuple(number / RATE for number in numbers)))
    by_track = {t: [c.probability for c in made if c.track == t] for t in judge}
    seen = tuple(
        PersonScore(
            t,
            float(np.mean(by_track[t])) if by_track.get(t) else None,
            0.62 / t,
            0.2 * t,
            max(seconds - 0.4 * t, 0.2 * t),
            len(by_track.get(t, [])),
        )
        for t in range(1, people + 1)
    )
    order = sorted(range(len(made)), key=lambda i: -made[i].probability)
    shown = tuple(range(people))
    options = {"people": shown, "length": length, "shape": shape, "kinds": kinds}
    most = tuple(make_moment(i, made[i], **options) for i in order[:moments])
    least = make_moment(order[-1], made[order[-1]], **options) if len(made) > moments else None
    score = VideoScore(
        Path(path),
        max(float(np.mean(values)) for values in by_track.values()) if made else None,
        tuple(made),
        3.4,
        unit=unit,
        detector="stil",
        weights=ORIGIN,
        version="0.1.0",
        faces="centerface",
        people=seen,
        frames_read=total * max(length, 3),
        frames_with_face=round(0.62 * total * max(length, 3)),
        frames_damaged=sum(count for reason, count in left_out if reason == "damaged"),
        left_out=tuple(out),
        warnings=tuple(warnings),
        num_frames=frames,
        duration=frames / RATE,
        most_suspicious=most,
        least_suspicious=least,
    )
    return replace(score, **changes)


def failed_score(path="holiday.mp4", error="no person was found; try another face detector (--faces)", **changes):
    score = VideoScore(
        Path(path), None, (), 0.4, error, detector="stil", weights=ORIGIN, version="0.1.0", faces="centerface"
    )
    return replace(score, **changes)


def gallery():
    """Scores of many kinds."""
    nobody = "centerface finds no face in any clip; try another face detector, or `none` if the frames are crops"
    cut_off = "the file ends before its header says so: 120 of 300 frames could be read; ask for the original file"
    empty = tuple(LeftOut(2.4 * i, 2.4 * i + 0.28, "no_face", None) for i in range(8))
    single = {"unit": "frame", "clips": 32, "moments": 8, "kinds": ("CAM",), "left_out": (("damaged", 3),)}
    return [
        make_score("interview.mp4"),
        make_score("team call.mp4", seconds=640, level=0.45, seed=3, warnings=(), **SEVERAL),
        make_score("phone.mov", seconds=9, people=1, level=0.25, seed=4, shape=(640, 360), left_out=(), warnings=()),
        make_score("frames of a clip", seconds=12, people=1, seed=5, warnings=("3 frames are damaged.",), **single),
        failed_score(
            "holiday.mp4", f"holiday.mp4: {nobody}", frames_read=48, num_frames=480, duration=19.2, left_out=empty
        ),
        failed_score("broken.mp4", f"broken.mp4: {cut_off}"),
    ]
