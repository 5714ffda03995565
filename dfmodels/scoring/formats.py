"""Scores of videos as text: a table for people, JSON and CSV for programs."""

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

from dfmodels.scoring.video import VideoScore


def table(scores: Sequence[VideoScore]) -> str:
    """For people: one line a video, then the reasons of those that failed. All scores are of one detector."""
    names = [printable(str(score.path)) for score in scores]
    width = max(len("video"), *map(len, names))
    unit = scores[0].unit
    count = len(unit) + 1
    lines = [f"{'video':{width}}  verdict  fake probability  {unit}s  {f'highest {unit} (time)':20}       took"]
    for name, score in zip(names, scores, strict=True):
        if score.probability is None:
            lines.append(f"{name:{width}}  failed   {'-':>16}  {'-':>{count}}  {'-':>20}  {score.seconds:7.1f} s")
            continue
        worst = max(score.clips, key=lambda clip: clip.probability)
        when = f"{worst.start:.2f}" if unit == "frame" else f"{worst.start:.2f}-{worst.end:.2f}"
        highest = f"{worst.probability:.3f} ({when} s)"
        lines.append(
            f"{name:{width}}  {score.verdict:7}  {score.probability:16.3f}  {len(score.clips):{count}d}  {highest:>20}"
            f"  {score.seconds:7.1f} s"
        )
    lines += [f"failed: {printable(score.error)}" for score in scores if score.error]
    return "\n".join(lines) + "\n"


def printable(text: str) -> str:
    """Text of one line: escapes in the place of line breaks, control characters and what is no Unicode."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def as_dict(score: VideoScore) -> dict[str, Any]:
    """What the machine-readable formats say of a video."""
    return {
        "video": str(score.path),
        "verdict": score.verdict,
        "fake_probability": score.probability,
        "clips": [
            {"start": _round(clip.start), "end": _round(clip.end), "fake_probability": clip.probability}
            for clip in score.clips
        ],
        "seconds": round(score.seconds, 3),
        "error": score.error,
    }


def _round(seconds: float) -> float | None:
    return round(seconds, 4) if math.isfinite(seconds) else None


def as_json(scores: Sequence[VideoScore]) -> str:
    return json.dumps([as_dict(score) for score in scores], indent=2, ensure_ascii=False) + "\n"


def as_csv(scores: Sequence[VideoScore]) -> str:
    """One line a video; the columns of its clips hold one value a clip, separated by spaces."""
    text = io.StringIO()
    fields = [
        "video",
        "verdict",
        "fake_probability",
        "clip_starts",
        "clip_ends",
        "clip_probabilities",
        "seconds",
        "error",
    ]
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    for score in scores:
        row = as_dict(score)
        clips = row.pop("clips")
        for column, key in (("starts", "start"), ("ends", "end"), ("probabilities", "fake_probability")):
            row[f"clip_{column}"] = " ".join(str(clip[key]) for clip in clips)
        writer.writerow(row)
    return text.getvalue()


FORMATS = {"table": table, "json": as_json, "csv": as_csv}
