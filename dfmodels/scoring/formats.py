"""Scores of videos as text: a table for people, JSON and CSV for programs; each video is written once it is ready."""

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from dfmodels.detector import Origin
from dfmodels.files import printable
from dfmodels.scoring.result import REASONS, VideoScore

SHOWN_HASH = 12  # digits of a SHA-256 that people are shown
LONGEST_COLUMN = 72  # characters; longer names run over
REMARKS = 3  # of one kind that are said one by one


class Form(Protocol):
    """A form in which scores are written, one video after the other."""

    def begin(self) -> str:
        """What stands before the first video."""

    def row(self, score: VideoScore) -> str:
        """One video."""

    def end(self) -> str:
        """What stands behind the last one, also where the work was broken off."""


class Table:
    """For people: one line a video; below, what there is to say of them, and by which detector and weights.

    Of the failures and warnings of one kind, which differ in names and numbers alone, a few are said or the first.

    Args:
        paths: of the videos that are to come.
        unit: what a score speaks of, "clip" or "frame".
    """

    def __init__(self, paths: Sequence[str | Path], unit: str = "clip") -> None:
        self.width = min(LONGEST_COLUMN, max([len("video"), *(len(printable(str(path))) for path in paths)]))
        self.unit = unit
        self.about = ""
        self.verdicts: Counter[str] = Counter()
        self.remarks: dict[str, list[str]] = {}
        self.counts: Counter[str] = Counter()

    def begin(self) -> str:
        unit = self.unit
        return self._line(
            "video", "verdict", "fake probability", "people", "with face", f"{unit}s", f"highest {unit}", "took"
        )

    def row(self, score: VideoScore) -> str:
        self.about = self.about or "\n".join(filter(None, [about(score), about_weights(score)]))
        self.verdicts[score.verdict] += 1
        name = printable(str(score.path))
        if score.error:
            self._remark(f"failed: {printable(score.error)}", name)
        for warning in score.warnings:
            self._remark(f"warning: {name}: {printable(warning)}", name)
        probability = highest = people = covered = clips = "-"
        if score.probability is not None:
            probability = probability_text(score.probability)
        if score.highest is not None:
            highest = f"{probability_text(score.highest.probability)} at {score.highest.start:.2f} s"
        if score.clips or score.left_out:
            clips = f"{len(score.clips)} of {len(score.clips) + len(score.left_out)}"
        if score.left_out and not score.error:
            self._remark(f"not judged: {name}: {', '.join(left_out(score))}", name)
        if score.frames_read and score.faces != "none":
            people, covered = str(len(score.people)), share_text(score.coverage)
        return self._line(name, score.verdict, probability, people, covered, clips, highest, f"{score.seconds:.1f} s")

    def end(self) -> str:
        lines = []
        for kind, said in self.remarks.items():
            count = self.counts[kind]
            lines += said if count <= REMARKS else [f"{said[0]} (and {count - 1} more videos)"]
        if self.verdicts.total() > 1:
            lines.append(f"{self.verdicts.total()} videos: {tally(self.verdicts)}")
        return "".join(f"{line}\n" for line in [*lines, *filter(None, [self.about])])

    def _line(self, name: str, *cells: str) -> str:
        verdict, *numbers = cells
        aligned = [
            f"{cell:>{width}}" for cell, width in zip(numbers, (16, 6, 9, len(self.unit) + 3, 17, 7), strict=True)
        ]
        return "  ".join([f"{name:{self.width}}", f"{verdict:7}", *aligned]) + "\n"

    def _remark(self, text: str, name: str) -> None:
        kind = re.sub("[0-9.]+", "0", text.replace(name, ""))
        self.counts[kind] += 1
        said = self.remarks.setdefault(kind, [])
        if len(said) < REMARKS:
            said.append(text)


class Json:
    """A list of objects, see `as_dict`."""

    def __init__(self) -> None:
        self.written = 0

    def begin(self) -> str:
        return "["

    def row(self, score: VideoScore) -> str:
        self.written += 1
        text = json.dumps(as_dict(score), indent=2).replace("\n", "\n  ")
        return ("," if self.written > 1 else "") + "\n  " + text

    def end(self) -> str:
        return "\n]\n" if self.written else "]\n"


class JsonLines:
    """One object a line, see `as_dict`."""

    def begin(self) -> str:
        return ""

    def row(self, score: VideoScore) -> str:
        return json.dumps(as_dict(score)) + "\n"

    def end(self) -> str:
        return ""


class Csv:
    """One line a video with what is one value of it; people and clips are counts, see `as_row`."""

    def begin(self) -> str:
        return _line(COLUMNS)

    def row(self, score: VideoScore) -> str:
        row = as_row(score)
        return _line([row[column] for column in COLUMNS])

    def end(self) -> str:
        return ""


def written(form: Form, scores: Iterable[VideoScore]) -> str:
    """All of `scores` in one text."""
    return "".join([form.begin(), *map(form.row, scores), form.end()])


def as_dict(score: VideoScore) -> dict[str, Any]:
    """What JSON says of a video: times in seconds, `probability` null where nothing was judged."""
    return {
        "path": str(score.path),
        "probability": score.probability,
        "verdict": score.verdict,
        "detector": score.detector,
        "weights": asdict(score.weights),
        "version": score.version,
        "faces": score.faces,
        "people": [
            {
                "track": person.track,
                "probability": person.probability,
                "share": round(person.share, 4),
                "first": _round(person.first),
                "last": _round(person.last),
                "clips": person.clips,
            }
            for person in score.people
        ],
        "frames_read": score.frames_read,
        "frames_with_face": score.frames_with_face,
        "frames_damaged": score.frames_damaged,
        "clips": [
            {
                "start": _round(clip.start),
                "end": _round(clip.end),
                "probability": clip.probability,
                "track": clip.track,
            }
            for clip in score.clips
        ],
        "left_out": dict.fromkeys(REASONS, 0) | score.reasons(),
        "warnings": list(score.warnings),
        "error": score.error,
        "seconds": round(score.seconds, 3),
    }


COLUMNS = (
    "path",
    "probability",
    "verdict",
    "detector",
    "weights_file",
    "weights_sha256",
    "weights_note",
    "weights_calibration",
    "version",
    "faces",
    "people",
    "frames_read",
    "frames_with_face",
    "frames_damaged",
    "clips",
    *(f"left_out_{reason}" for reason in REASONS),
    "warnings",
    "error",
    "seconds",
)


def as_row(score: VideoScore) -> dict[str, Any]:
    """`as_dict` flattened to COLUMNS: counts of people, clips and clips left out, warnings one behind the other."""
    row = as_dict(score)
    weights, left_out = row.pop("weights"), row.pop("left_out")
    row |= {f"weights_{key}": value for key, value in weights.items()} | {
        "weights_calibration": calibrated(score.weights)
    }
    row |= {f"left_out_{reason}": left_out[reason] for reason in REASONS}
    return row | {"people": len(score.people), "clips": len(score.clips), "warnings": " ".join(score.warnings)}


def about(score: VideoScore) -> str:
    """By what a verdict was given: detector, weights, version, face detector."""
    weights = score.weights
    file = "weights trained in this process" if weights.file is None else f"weights {printable(weights.file)}"
    digest = f" (SHA-256 {weights.sha256[:SHOWN_HASH]})" if weights.sha256 else ""
    calibration = f", {calibrated(weights)}" if weights.calibration else ""
    return (
        f"by {score.detector}, {file}{digest}{calibration}; dfmodels {score.version}, faces: {printable(score.faces)}"
    )


def calibrated(weights: Origin) -> str:
    """Whether and how the probabilities are calibrated; empty where they are not."""
    how = weights.calibration
    if how is None:
        return ""
    on = f", fitted on {printable(how.fitted_on)}" if how.fitted_on else ""
    return f"calibrated (temperature {how.temperature:.3g}, bias {how.bias:.3g}{on})"


def about_weights(score: VideoScore) -> str:
    """What was noted of the weights, above all what they are not for; empty where nothing was."""
    return f"about the weights: {printable(score.weights.note)}" if score.weights.note else ""


def left_out(score: VideoScore) -> list[str]:
    """How many clips were left out for which reason."""
    return [f"{counted(count, score.unit)} ({REASONS[reason]})" for reason, count in score.reasons().items()]


def counted(count: int, what: str) -> str:
    """1 clip, 2 clips, 3,000 frames, 2 people."""
    if count == 1:
        return f"1 {what}"
    return f"{count:,} people" if what == "person" else f"{count:,} {what}s"


def probability_text(probability: float | None) -> str:
    """Three digits, on the side of 1/2 on which the verdict is."""
    if probability is None:
        return "-"
    text = f"{probability:.3f}"
    return "0.499" if probability < 0.5 <= float(text) else text


def share_text(share: float) -> str:
    """A share in whole percents; 0 and 100 % are exact."""
    percent = round(100 * share)
    if 0 < share < 1:
        percent = min(max(percent, 1), 99)
    return f"{percent} %"


def tally(verdicts: Mapping[str, int]) -> str:
    """How many videos have which verdict."""
    return ", ".join(f"{verdicts.get(verdict, 0)} {verdict}" for verdict in ("fake", "real", "failed"))


def _round(seconds: float) -> float | None:
    return round(seconds, 4) if math.isfinite(seconds) else None


def _line(values: Sequence[Any]) -> str:
    text = io.StringIO()
    # fields with a character that ends a line are quoted: a lone carriage return too
    csv.writer(text, lineterminator="\r\n").writerow(values)
    return text.getvalue().removesuffix("\r\n") + "\n"


FORMATS: dict[str, Callable[[Sequence[str | Path], str], Form]] = {
    "table": Table,
    "json": lambda paths, unit: Json(),
    "csv": lambda paths, unit: Csv(),
}
