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


@dataclass
class Tree:
    """Everything below a root that is not hidden; `search` makes it.

    Attributes:
        root: absolute.
        entries: films and folders of images, in natural order; the root itself has no parts.
        texts: .json, .txt and .csv files below the root, in POSIX form.
        empty: folders without a video, a text and a folder.
        unreadable: folders that cannot be listed.
        others: files of other kinds, counted by suffix.
        first: the first of each.
        twice: videos that a link leads to a second time.
    """

    root: Path
    entries: list[Entry] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)

    def relative(self, path: Path) -> str:
        """A path below the root as text; one elsewhere as it is."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def folders(self, depth: int = 1) -> set[str]:
        """Names of the folders at a depth below the root that hold videos."""
        return {entry.parts[depth - 1] for entry in self.entries if len(entry.parts) > depth}

    def folders_of_texts(self) -> set[str]:
        """Names of the folders below the root that hold text files."""
        return {file.split("/")[0] for file in self.texts if "/" in file}

    def below(self, folder: str) -> Tree:
        """The part of the tree that lies in a folder of the root."""
        return Tree(
            self.root / folder,
            [Entry(entry.path, entry.parts[1:]) for entry in self.entries if entry.parts[:1] == (folder,)],
            [file.split("/", 1)[1] for file in self.texts if file.startswith(f"{folder}/")],
        )

    def texts_called(self, name: str) -> list[Path]:
        """Text files of a name, those near the root first."""
        found = [file for file in self.texts if PurePosixPath(file).name == name]
        return [self.root / file for file in sorted(found, key=lambda file: (file.count("/"), file))]


def search(root: str | Path) -> Tree:
    """The tree below a folder; of a file no more than itself."""
    tree = Tree(Path(os.path.abspath(root)))
    if tree.root.is_file():
        return Tree(tree.root.parent, texts=[tree.root.name])

    def odd(folder: Path, names: list[str] | None, empty: bool) -> None:
        if names is None:
            tree.unreadable.append(tree.relative(folder))
            return
        texts = [name for name in names if Path(name).suffix.lower() in TEXTS]
        tree.texts += [tree.relative(folder / name) for name in texts]
        if empty and not texts:
            tree.empty.append(tree.relative(folder))
        for name in names if len(texts) < len(names) else ():
            suffix = Path(name).suffix.lower()
            if suffix not in TEXTS:
                tree.others[suffix] += 1
                tree.first.setdefault(suffix, tree.relative(folder / name))

    seen = set()
    with progress_bar(desc="searching", unit=" videos") as bar:
        for place, path in walk(tree.root, os.path.realpath(tree.root), odd):
            bar.update()
            if place in seen:
                tree.twice.append(tree.relative(path))
            else:
                seen.add(place)
                tree.entries.append(Entry(path, path.relative_to(tree.root).parts))
    return tree


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
    called = {form: form or "the folder itself" for form in ranked}
    for form in ranked[1:]:
        reason = f"lie in {called[form]}: an index holds one form of videos, most here are in {called[ranked[0]]}"
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


def make_video(
    path: Path, label: int, split: str, dataset: str, method: str, compression: str = "", *, name: str | None = None
) -> Video:
    """The row of a video whose name, its own unless said, tells who is in it; the method is that of the forgeries."""
    name = stem(path) if name is None else name
    if not label:
        return Video(path, 0, split, dataset, REAL, name, compression=compression, extra=person(name))
    return Video(path, 1, split, dataset, method, name, *people(name), compression)


def read_json(path: str | Path) -> Any:
    """What a JSON file holds; ValueError that names it where it is none."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no JSON: {error}") from error
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error.strerror or error}") from error
