"""What lies below a root, searched once, and what a layout makes of it."""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from dfmodels.data.index import IDENTITY, REAL, Video, stem
from dfmodels.progress import progress_bar
from dfmodels.video.search import walk

FORMS = ("videos", "", "frames", "images", "faces")  # folders between a compression or a class and its videos
TEXTS = frozenset({".json", ".txt", ".csv"})
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# how the published data sets name a person or a pair: FaceForensics++, Celeb-DF, DeepFakeDetection
_PAIRS = (r"(\d{3})_(\d{3})", r"(id\d+)_(id\d+)_\d+", r"(\d{2})_(\d{2})__.+")
_PEOPLE = (r"(id\d+)_\d+", r"(\d{2})__.+")


@dataclass(frozen=True)
class Entry:
    """A film, or a folder of images, by the parts of its path below the root."""

    path: Path
    parts: tuple[str, ...]

    @property
    def name(self) -> str:
        return stem(self.path)


@dataclass
class Listing:
    """What a layout found.

    Attributes:
        how: by what the layout was recognised.
        videos: rows.
        left_out: names of what makes no row, by the reason.
        notes: what else there is to say.
        layout: name of the layout.
    """

    how: str
    videos: list[Video] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)
    layout: str = ""


class Tree:
    """Everything below a root that is not hidden.

    Attributes:
        root: absolute.
        entries: films and folders of images, in natural order; the root itself has no parts.
        texts: .json, .txt and .csv files below the root, in POSIX form.
        empty: folders that hold nothing, or no video and no folder.
        unreadable: folders that cannot be listed.
        others: files of other kinds, counted by suffix, with the first of each.
        twice: videos that a link leads to a second time.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(os.path.abspath(root))
        self.entries: list[Entry] = []
        self.texts: list[str] = []
        self.empty: list[str] = []
        self.unreadable: list[str] = []
        self.others: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self.twice: list[str] = []
        if self.root.is_file():
            self.texts.append(self.root.name)
            self.root = self.root.parent
            return
        seen = set()
        with progress_bar(desc="searching", unit=" videos") as bar:
            for place, path in walk(self.root, os.path.realpath(self.root), self._odd):
                bar.update()
                if place in seen:
                    self.twice.append(self.relative(path))
                else:
                    seen.add(place)
                    self.entries.append(Entry(path, path.relative_to(self.root).parts))

    def _odd(self, folder: Path, names: list[str] | None) -> None:
        if names is None:
            self.unreadable.append(self.relative(folder))
            return
        if not names:
            self.empty.append(self.relative(folder))
        for name in names:
            suffix = Path(name).suffix.lower()
            if suffix in TEXTS:
                self.texts.append(self.relative(folder / name))
            else:
                self.others[suffix] += 1
                self.first.setdefault(suffix, self.relative(folder / name))

    def relative(self, path: Path) -> str:
        """A path below the root as text; one elsewhere as it is."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def folders(self, depth: int = 1) -> set[str]:
        """Names of the folders at a depth below the root that hold videos."""
        return {entry.parts[depth - 1] for entry in self.entries if len(entry.parts) > depth}

    def texts_called(self, name: str) -> list[Path]:
        """Text files of a name, those near the root first."""
        found = [file for file in self.texts if PurePosixPath(file).name == name]
        return [self.root / file for file in sorted(found, key=lambda file: (file.count("/"), file))]


def choose_form(listing: Listing, found: Iterable[tuple[str, Entry]]) -> list[Entry]:
    """The entries of the form that most have; an index that mixed films and their frames would hold videos twice.

    Args:
        found: the folder that holds each entry, "videos" or "frames" as a rule, and the entry.
    """
    by_form: dict[str, list[Entry]] = defaultdict(list)
    for form, entry in found:
        by_form[form].append(entry)
    order = {form: place for place, form in enumerate(FORMS)}
    ranked = sorted(by_form, key=lambda form: (-len(by_form[form]), order.get(form, len(FORMS)), form))
    for form in ranked[1:]:
        reason = (
            f"lie in {form or 'the folder itself'}: an index holds one form of videos, most here are in {ranked[0]}"
        )
        listing.left_out[reason] += ["/".join(entry.parts) for entry in by_form[form]]
    return by_form[ranked[0]] if ranked else []


def people(name: str) -> tuple[str, str]:
    """Target and source that the name of a forgery tells as in a published data set; empty where it does not."""
    for pattern in _PAIRS:
        if match := re.fullmatch(pattern, name):
            return match[1], match[2]
    return "", ""


def person(name: str) -> dict[str, str]:
    """The column `identity` of a real video whose name tells the person: several films show one."""
    for pattern in _PEOPLE:
        if match := re.fullmatch(pattern, name):
            return {IDENTITY: match[1]}
    return {}


def make_video(entry: Entry, label: int, split: str, dataset: str, method: str, compression: str = "") -> Video:
    """The row of an entry whose name tells who is in it."""
    target, source = people(entry.name) if label else ("", "")
    extra = {} if label else person(entry.name)
    method = method if label else REAL
    return Video(entry.path, label, split, dataset, method, entry.name, target, source, compression, extra)


def read_json(path: str | Path) -> Any:
    """What a JSON file holds; ValueError that names it where it is none."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no JSON: {error}") from error
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error.strerror or error}") from error
