"""Tables of scores: one row a video, or one a frame or clip of the video that its row names.

The file is CSV with a header, UTF-8: the columns `path`, `label` (0 real, 1 fake) and `score`, `video` where rows are
frames, `unit` "clip" where they are clips, and any further columns, by whose values rows are grouped.
docs/evaluation.md describes it.
"""

from __future__ import annotations

import csv
import math
import os
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfmodels.data.index import REAL
from dfmodels.files import atomic_write
from dfmodels.options import check_choice

REQUIRED = ("path", "label", "score")
VIDEO, UNIT, REASON, METHOD = "video", "unit", "reason", "method"  # columns that mean something of their own
UNITS = ("frame", "clip")  # what UNIT says in every row; with another value it is a column like any other
RESERVED = ("all", "seen", "unseen", "why")  # keys beside the groupings in a report
VIDEO_KEYS = ("dataset", METHOD, "compression", "split")  # videos of one name that differ in these are several
NO_SCORE = "no score in its row"
NONE = -1  # code of an empty value
LABELS = {"0": False, "1": True}


@dataclass(frozen=True)
class Column:
    """A column of few values: the value of row i is `names[codes[i]]`, none where the code is NONE."""

    codes: NDArray[np.int32]
    names: tuple[str, ...]

    @classmethod
    def of(cls, values: Iterable[str]) -> Column:
        """From the values of the rows; an empty string is no value."""
        reader = _Codes()
        for value in values:
            reader.add(value)
        return reader.column()

    def value(self, row: int) -> str:
        """What stands in a row, an empty string for none."""
        code = self.codes[row]
        return "" if code == NONE else self.names[code]

    def take(self, rows: NDArray[np.int64]) -> Column:
        """The column of some rows."""
        return Column(self.codes[rows], self.names)


@dataclass(frozen=True, eq=False)
class Scores:
    """N rows of scores.

    Attributes:
        paths: what was scored, N different paths; they need not exist.
        fake: (N,), the labels.
        score: (N,), higher for what looks fake; NaN where a row has none.
        columns: further columns by name, by whose values rows are grouped.
        video: which video a row belongs to; None where every row is a video.
        reasons: why a row has no score, by its number; NO_SCORE where nobody said.
        unit: what a row is where it belongs to a video, "frame" or "clip".
        source: name of the file, for errors.
        lines: (N,), where the rows end in the file, empty without one.
        left_out: columns that group nothing here, with the reason.
    """

    paths: Sequence[str]
    fake: NDArray[np.bool_]
    score: NDArray[np.float64]
    columns: Mapping[str, Column] = field(default_factory=dict)
    video: Column | None = None
    reasons: Mapping[int, str] = field(default_factory=dict)
    unit: str = "frame"
    source: str = ""
    lines: Sequence[int] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("unit", self.unit, UNITS)
        for name in self.columns:
            if name in (*REQUIRED, VIDEO, REASON, *RESERVED) or (name == UNIT and self.unit == "clip"):
                raise ValueError(f"{self.source or 'scores'}: no further column can be called {name!r}; rename it")

    def __len__(self) -> int:
        return len(self.paths)

    @classmethod
    def of(
        cls,
        paths: Sequence[str],
        labels: ArrayLike,
        scores: Sequence[float | None] | NDArray[np.float64],
        *,
        columns: Mapping[str, Sequence[str]] | None = None,
        video: Sequence[str] | None = None,
        reasons: Mapping[int, str] | None = None,
        unit: str = "frame",
    ) -> Scores:
        """Scores made here, with the checks of a file.

        Args:
            paths: N different paths.
            labels: (N,), 0 real, 1 fake.
            scores: (N,), None or NaN where there is none.
            columns, video: N values each.
            reasons, unit: as of `Scores`.

        Raises:
            ValueError: other labels, an infinite score, values of another number than there are paths, a path twice.
        """
        given = np.asarray(labels)
        values = np.array([math.nan if score is None else score for score in scores], np.float64)
        texts = {**(columns or {}), **({VIDEO: video} if video is not None else {})}
        for name, column in {"labels": given, "scores": values, **texts}.items():
            if len(column) != len(paths):
                raise ValueError(f"{name} must be as many as paths, {len(paths)}, got {len(column)}")
        for what, wrong in {
            "labels must be 0 (real) or 1 (fake)": (given != 0) & (given != 1),
            "scores must be finite numbers, or None": np.isinf(values),
        }.items():
            if wrong.any():
                row = int(wrong.argmax())
                raise ValueError(f"{what}, got {(given if 'labels' in what else values)[row]} in row {row + 1}")
        return _checked(
            cls(
                list(map(str, paths)),
                given == 1,
                values,
                {name: Column.of(column) for name, column in (columns or {}).items()},
                None if video is None else Column.of(video),
                dict(reasons or {}),
                unit,
            )
        )

    @property
    def level(self) -> str:
        """What a row is: "video", "frame" or "clip"."""
        return "video" if self.video is None else self.unit

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Which rows have a score, (N,)."""
        return ~np.isnan(self.score)

    def place(self, row: int) -> str:
        """Where a row stands, for errors."""
        return f"{self.source} line {self.lines[row]}" if len(self.lines) else f"row {row + 1}"

    def failed(self) -> list[dict[str, str]]:
        """Path and reason of every row without a score."""
        rows = np.flatnonzero(~self.scored)
        return [{"path": self.paths[row], "reason": self.reasons.get(row, NO_SCORE)} for row in rows.tolist()]

    def video_rows(self) -> NDArray[np.int64]:
        """Number of the video that a row belongs to, (N,), in the order in which videos appear.

        Rows of one `video` whose data set, method, compression or split differ belong to several videos.
        """
        if self.video is None:
            return np.arange(len(self))
        key = self.video.codes.astype(np.int64)
        for name in VIDEO_KEYS:
            if name in self.columns:
                column = self.columns[name]
                _, key = np.unique(key * (len(column.names) + 1) + column.codes + 1, return_inverse=True)
        _, first, key = np.unique(key, return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first))[key]

    def by_video(self, average: str = "probabilities") -> Scores:
        """One row a video: the mean over its rows that have a score.

        Args:
            average: of "probabilities", that is of the scores, or of "logits", log(s / (1 - s)), where scores are
                probabilities.

        Raises:
            ValueError: rows of one video with different labels, or another `average`.
        """
        check_choice("average", average, ("probabilities", "logits"))
        if self.video is None:
            return self
        of_row = self.video_rows()
        count = int(of_row.max()) + 1
        first = np.full(count, len(self))
        np.minimum.at(first, of_row, np.arange(len(self)))
        wrong = self.fake != self.fake[first[of_row]]
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(
                f"{self.place(row)}: video {self.video.value(row)!r} has label {int(self.fake[row])} here and "
                f"{int(not self.fake[row])} in {self.place(int(first[of_row[row]]))}; a video has one label: correct "
                "it, or give the two videos different names"
            )
        rows = np.flatnonzero(self.scored)
        values = self.score[rows]
        if average == "logits":
            values = np.log(values) - np.log1p(-values)
        with np.errstate(invalid="ignore"):  # 0 / 0 where no row has a score
            mean = np.bincount(of_row[rows], values, count) / np.bincount(of_row[rows], minlength=count)
        if average == "logits":
            mean = 1 / (1 + np.exp(-mean))
        columns, left_out = {}, dict(self.left_out)
        for name, column in self.columns.items():
            if (column.codes != column.codes[first[of_row]]).any():
                left_out[name] = "differs within videos: it groups single rows only"
            else:
                columns[name] = column.take(first)
        reasons: dict[int, str] = {}
        for row, reason in self.reasons.items():
            reasons.setdefault(int(of_row[row]), reason)
        names = [self.video.value(row) for row in first]
        return Scores(names, self.fake[first], mean, columns, reasons=reasons, source=self.source, left_out=left_out)


def read_scores(path: str | Path) -> Scores:
    """The table of scores in a file.

    Raises:
        ValueError: no such table; names the file and the line, and says what to do.
        OSError: the file cannot be read.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return _read(str(path), csv.reader(file, strict=True))
    except UnicodeDecodeError as error:
        data = Path(path).read_bytes()
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as whole:
            line = data.count(b"\n", 0, whole.start) + 1
            raise ValueError(f"{path} line {line} is no UTF-8 text: save the table as UTF-8") from error
        raise
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error.strerror}") from error


def write_scores(path: str | Path, scores: Scores) -> None:
    """Write a table that `read_scores` reads as it is; OSError where that cannot be done."""
    extra = {**({VIDEO: scores.video} if scores.video else {}), **scores.columns}
    if scores.level == "clip":
        extra[UNIT] = Column.of([scores.unit] * len(scores))
    texts = [[*column.names, ""] for column in extra.values()]  # NONE is the last
    codes = [column.codes.tolist() for column in extra.values()]
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8", newline="", errors="backslashreplace") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow([*REQUIRED, *extra, *([REASON] if scores.reasons else [])])
        rows = zip(scores.paths, scores.fake.tolist(), scores.score.tolist(), strict=True)
        for row, (name, fake, score) in enumerate(rows):
            fields = [name, int(fake), "" if math.isnan(score) else repr(score)]
            fields += [text[code[row]] for text, code in zip(texts, codes, strict=True)]
            writer.writerow([*fields, scores.reasons.get(row, "")] if scores.reasons else fields)


class _Codes:
    """Fills a Column value by value."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {"": NONE}
        self.codes = array("i")

    def add(self, value: str) -> None:
        self.codes.append(self.known.setdefault(value, len(self.known) - 1))

    def column(self) -> Column:
        return Column(np.array(self.codes, np.int32), tuple(self.known)[1:])


def _read(source: str, reader: Any) -> Scores:
    def refuse(what: str, remedy: str, line: int | None = None) -> NoReturn:
        raise ValueError(f"{source} line {reader.line_num if line is None else line}: {what}; {remedy}")

    paths: list[str] = []
    fake, values, lines = array("b"), array("d"), array("q")
    reasons: dict[int, str] = {}
    try:
        header = next(reader, None)
        if header is None:
            raise ValueError(f"{source} is empty: a table of scores begins with the line {','.join(REQUIRED)}")
        at = _header(source, header)
        path_at, label_at, score_at, reason_at = *(at.pop(name) for name in REQUIRED), at.pop(REASON, None)
        columns = [(place, _Codes()) for place in at.values()]
        width = len(header)
        for row in reader:
            if not row:
                continue
            if len(row) != width:
                refuse(
                    f"{len(row)} fields where the header has {width}",
                    "put a field that holds a comma between quotation marks, and write decimals with a point",
                )
            path, label, score = row[path_at], row[label_at].strip(), row[score_at].strip()
            if not path:
                refuse("the path is empty", "name what was scored")
            if label not in LABELS:
                refuse(f"label {label!r}", "write 0 for real and 1 for fake")
            try:
                value = float(score.replace("_", "?")) if score else math.nan  # Python takes 1_000
            except ValueError:
                refuse(f"score {score!r} is no number", "write a number, or nothing where there is no score")
            if score and not math.isfinite(value):
                refuse(f"score {score!r} is not finite", "write a number, or nothing where there is no score")
            if not score and reason_at is not None and row[reason_at]:
                reasons[len(paths)] = row[reason_at]
            paths.append(path)
            fake.append(LABELS[label])
            values.append(value)
            lines.append(reader.line_num)
            for place, codes in columns:
                codes.add(row[place])
    except csv.Error as error:
        refuse(str(error), "look for a quotation mark too many or too few, or save the table as CSV again")
    if not paths:
        raise ValueError(f"{source} holds no rows below its header: write one row a video")
    found = {name: codes.column() for name, (_, codes) in zip(at, columns, strict=True)}
    video, unit = found.pop(VIDEO, None), UNITS[0]
    if video is not None and UNIT in found and found[UNIT].names in [(name,) for name in UNITS]:
        (unit,) = found.pop(UNIT).names
    labels = np.frombuffer(fake, np.int8).astype(bool)
    return _checked(Scores(paths, labels, np.frombuffer(values), found, video, reasons, unit, source, lines))


def _header(source: str, names: Sequence[str]) -> dict[str, int]:
    """Where each column stands."""
    names = [name.strip() for name in names]
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        hint = "; separate columns by commas" if len(names) == 1 and set(names[0]) & set(";\t|") else ""
        raise ValueError(
            f"{source} line 1: no column {' and no column '.join(missing)}, got {', '.join(map(repr, names))}; a table "
            f"of scores has the columns {', '.join(REQUIRED)}: rename them in its first line{hint}"
        )
    for name in names:
        if not name:
            raise ValueError(f"{source} line 1: a column without a name; name it, or remove it")
        if names.count(name) > 1:
            raise ValueError(f"{source} line 1: column {name!r} is there twice; remove or rename one")
        if name in RESERVED:
            raise ValueError(f"{source} line 1: no further column can be called {name!r}; rename it")
    return {name: place for place, name in enumerate(names)}


def _checked(scores: Scores) -> Scores:
    """`scores`; ValueError where rows contradict each other."""
    seen: dict[str, int] = {}
    for row, path in enumerate(scores.paths):
        key = os.path.normpath(path) if "/." in path or "//" in path or path.startswith(".") else path
        first = seen.setdefault(key, row)
        if first != row:
            raise ValueError(
                f"{scores.place(row)}: {path} is there already, in {scores.place(first)}; remove one of the rows, or "
                f"where rows are frames of a video, give each its own path (as film.mp4#12) and a column {VIDEO!r}"
            )
    if scores.video is not None and (empty := scores.video.codes == NONE).any():
        row = int(empty.argmax())
        raise ValueError(f"{scores.place(row)}: no video; name the video that every row belongs to")
    method = scores.columns.get(METHOD)
    if method is not None and REAL in method.names:
        wrong = scores.fake & (method.codes == method.names.index(REAL))
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(
                f"{scores.place(row)}: label 1 (fake) with method {REAL!r}; correct the label, or name the manipulation"
            )
    return scores
