"""The report of a run: one page that shows what every verdict rests on, to be kept and handed on."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any

from markupsafe import Markup

from dfmodels.files import atomic_write, printable, sha256
from dfmodels.scoring import timeline, words
from dfmodels.scoring.drawing import drawing
from dfmodels.scoring.page import ENVIRONMENT, picture
from dfmodels.scoring.pictures import boxed, overlay
from dfmodels.scoring.result import REASONS, VideoScore

SECTION_BYTES = 400_000  # of one video; pictures are compressed further where they take more
FINENESS = ((80, 1.0), (50, 0.75), (20, 0.5))  # quality of pictures, and part of their side
PICTURE_SIDE, CROP_SIDE = 480, 128
LISTED = 300  # clips; of longer lists, those with the highest probabilities
NEITHER = "neither a file nor a folder"


class Report:
    """Writes a page about the videos of a run, one after the other; no video stays in memory.

    >>> with Report("report.html", command="dfmodels score ...", settings={}) as report:  # doctest: +SKIP
    ...     report.add(score)

    The file appears when the block ends. If an error or Ctrl-C ends it, the page holds the videos so far and says that
    it is incomplete.

    Args:
        path: of the page, written over if it is there.
        command: how to do it again.
        settings: further facts of the run, by name.

    Raises:
        OSError: the page cannot be written; by `with` already where nothing can be written to its folder.
    """

    def __init__(self, path: str | Path, *, command: str, settings: Mapping[str, str]) -> None:
        self.path, self.command, self.settings = Path(path), command, dict(settings)
        self.rows: list[dict[str, Any]] = []
        self.sections: IO[bytes] | None = None

    def __enter__(self) -> "Report":
        if self.path.is_dir():
            raise OSError(f"{self.path} cannot be written: it is a folder")
        folder = Path(os.path.realpath(self.path)).parent
        try:
            # has no name, so nothing of it stays if this process is killed
            self.sections = TemporaryFile(dir=folder)
        except OSError as error:
            raise OSError(f"{self.path} cannot be written: {error.strerror}") from error
        return self

    def add(self, score: VideoScore) -> None:
        """Put a video behind the others."""
        assert self.sections is not None, "a report takes videos inside its `with` block"
        number = len(self.rows) + 1
        text = section(score, number).encode()
        row = _row(score, number)
        begin = self.rows[-1]["end"] if self.rows else 0
        try:
            self.sections.seek(begin)  # not where a section ends that was broken off
            self.sections.write(text)
            self.sections.flush()
        except OSError as error:
            raise OSError(f"{self.path} cannot be written: {error.strerror}") from error
        self.rows.append(row | {"end": begin + len(text)})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.sections is not None
        try:
            with self.sections as sections:
                sections.seek(0)
                ends = [0, *(row["end"] for row in self.rows)]
                blocks = (Markup(sections.read(end - begin).decode()) for begin, end in pairwise(ends))
                pieces = _page(self.rows, blocks, self.command, self.settings, _ended(error))
                with atomic_write(self.path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
                    file.writelines(pieces)
        except OSError as failure:  # also of what a full disk did not take before
            if failure.strerror is None:
                raise
            raise OSError(f"{self.path} cannot be written: {failure.strerror}") from failure


def render(scores: Sequence[VideoScore], *, command: str, settings: Mapping[str, str]) -> str:
    """The page about `scores`, as `Report` writes it."""
    rows = [_row(score, number) for number, score in enumerate(scores, 1)]
    sections = (section(score, number) for number, score in enumerate(scores, 1))
    return "".join(_page(rows, sections, command, settings, None))


def section(score: VideoScore, number: int) -> Markup:
    """The part of a page that is about one video, its `number`-th."""
    template = ENVIRONMENT.get_template("video.html")
    facts = _facts(score, number)
    text = Markup()
    for quality, scale in FINENESS:
        text = Markup(template.render(facts, moments=_moments(score, quality, scale)))
        if len(text) <= SECTION_BYTES:
            break
    return text


def digest(path: Path) -> tuple[str | None, str]:
    """SHA-256 of a video, and of what it is; None with the reason where there is none.

    That of a folder is the one of the list that `LC_ALL=C sha256sum -- *` prints inside it.
    """
    try:
        if path.is_dir():
            return _folder_digest(path), "of the list that `LC_ALL=C sha256sum -- *` prints in this folder"
        if path.exists() and not path.is_file():
            return None, NEITHER
        return sha256(path), "of the file"
    except (OSError, ValueError) as error:
        return None, getattr(error, "strerror", None) or str(error)


def _folder_digest(folder: Path) -> str:
    lines = hashlib.sha256()
    for name in sorted(os.fsencode(file.name) for file in folder.iterdir() if file.is_file()):
        if name.startswith(b"."):  # which `*` leaves out
            continue
        escaped = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
        mark = b"\\" if escaped != name else b""
        lines.update(mark + sha256(folder / os.fsdecode(name)).encode() + b"  " + escaped + b"\n")
    return lines.hexdigest()


def _page(
    rows: Sequence[Mapping[str, Any]],
    sections: Iterable[Markup],
    command: str,
    settings: Mapping[str, str],
    incomplete: str | None,
) -> Iterator[str]:
    made_by = {row["by"]: None for row in rows if row["by"]}
    return ENVIRONMENT.get_template("report.html").generate(
        rows=rows,
        sections=sections,
        command=command,
        settings=settings,
        incomplete=incomplete,
        made_by=list(made_by),
        notes=list(dict.fromkeys(row["note"] for row in rows if row["note"])),
        counts={verdict: sum(row["verdict"] == verdict for row in rows) for verdict in ("fake", "real", "failed")},
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _ended(error: BaseException | None) -> str | None:
    if error is None:
        return None
    if isinstance(error, KeyboardInterrupt):
        return f"The run was broken off by {str(error) or 'hand'}"
    return f"The run ended with an error ({str(error) or type(error).__name__})"


def _row(score: VideoScore, number: int) -> dict[str, Any]:
    """What the table of all videos says of one: text and numbers only."""
    highest = score.highest
    return {
        "number": number,
        "name": _name(score.path),
        "verdict": score.verdict,
        "unit": score.unit,
        "probability": score.probability,
        "shown": words.probability_text(score.probability),
        "people": len(score.people) if score.frames_read and score.faces != "none" else None,
        "coverage": score.coverage if score.frames_read and score.faces != "none" else None,
        "share": words.share_text(score.coverage),
        "clips": len(score.clips),
        "left_out": len(score.left_out),
        "highest": highest.probability if highest else None,
        "when": words.span_text(highest.start, highest.end) if highest else "",
        "warnings": len(score.warnings),
        "by": words.made_by(score) if score.detector else "",
        "note": score.weights.note,
    }


def _name(path: Path) -> str:
    return printable(path.name or str(path))


def _facts(score: VideoScore, number: int) -> dict[str, Any]:
    hash_of_video, hash_what = digest(score.path)
    clips = sorted(score.clips, key=lambda clip: -clip.probability)[:LISTED]
    return {
        "score": score,
        "id": f"video-{number}",
        "name": _name(score.path),
        "verdict": score.verdict,
        "probability": words.probability_text(score.probability),
        "meaning": words.meaning(score) if score.probability is not None else None,
        "seen": words.seen(score),
        "coverage": words.coverage(score),
        "left_out": words.left_out(score),
        "words": words,
        "limits": words.LIMITS,
        "reasons": REASONS,
        "clips": sorted(clips, key=lambda clip: (clip.start, clip.track)),
        "digest": hash_of_video,
        "digest_of": hash_what,
        "line": drawing(score, f"video-{number}") if score.clips or score.left_out else None,
    }


def _moments(score: VideoScore, quality: int, scale: float) -> list[dict[str, Any]]:
    whole, side = round(PICTURE_SIDE * scale), round(CROP_SIDE * scale)
    found = []
    for mark in timeline.marks(score):
        moment, clip = mark.moment, mark.clip
        count = len(moment.crops)
        columns = []
        for number in timeline.shown_crops(moment):
            frame, time = timeline.crop_label(clip, number, count)
            columns.append(
                {
                    "frame": frame,
                    "time": f"{time:.2f} s",
                    "crop": picture(moment.crops[number], side, quality),
                    "maps": {
                        name: picture(overlay(moment.crops[number], values[number]), side, quality)
                        for name, values in moment.maps.items()
                    },
                }
            )
        found.append(
            {
                "letter": mark.letter,
                "rank": words.rank(mark),
                "text": words.clip_text(clip, score),
                "picture": picture(boxed(moment.picture, moment.box), whole, quality),
                "columns": columns,
            }
        )
    return found
