"""The Deepfake Detection Challenge (DFDC), the whole of it and its preview."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from dfmodels.data.index import IDENTITY, REAL, Video, stem
from dfmodels.data.layouts.tree import SPLIT_NAMES, Entry, Listing, Tree, read_json

_LABELS = {"real": 0, "fake": 1, "0": 0, "1": 1, "0.0": 0, "1.0": 1}


def dfdc(tree: Tree) -> Listing | None:
    """Rows of every metadata.json (label, original) and labels.csv (filename, label), of the root or of its parts."""
    files = [*tree.texts_called("metadata.json"), *tree.texts_called("labels.csv")]
    tables = [(file, rows) for file in files if (rows := _table(file))]
    if not tables:
        return None
    listing = Listing(", ".join(tree.relative(file) for file, _ in tables[:3]) + (" and more" if tables[3:] else ""))
    finder = _Finder(tree)
    done: set[Path] = set()
    for file, rows in tables:
        for name, told in rows.items():
            entry = finder.find(file.parent, name)
            if entry is None:
                listing.left_out[f"are in {file.name} and not there"].append(tree.relative(file.parent / name))
            elif entry.path not in done:  # a folder may hold both kinds of files
                done.add(entry.path)
                listing.videos.append(_row(file, name, told, entry))
    return listing


def _row(file: Path, name: str, told: Mapping[str, Any], entry: Entry) -> Video:
    label = _label(file, name, _told(told))
    split = told.get("split") or next(
        (SPLIT_NAMES[part.casefold()] for part in reversed(entry.parts[:-1]) if part.casefold() in SPLIT_NAMES), "train"
    )
    video = Video(entry.path, label, _split(file, name, split), "DFDC", "DFDC" if label else REAL, entry.name)
    original = told.get("original")
    return replace(video, target=PurePosixPath(original).stem) if label and isinstance(original, str) else video


def _told(row: Mapping[str, Any]) -> str:
    return str(row.get("label", row.get("is_fake")))


def _table(file: Path) -> dict[str, dict[str, Any]]:
    """What a file tells of videos by name; nothing where it is no file of DFDC."""
    if file.suffix == ".json":
        content = read_json(file)
        ours = isinstance(content, dict) and content and all(isinstance(told, dict) for told in content.values())
        return content if ours and any(_told(row).casefold() in _LABELS for row in content.values()) else {}
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            if not {"filename", "label"} <= set(reader.fieldnames or ()):
                return {}
            return {row["filename"]: row for row in reader if row["filename"]}
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file}: no CSV in UTF-8: {error}") from error


def dfdc_preview(tree: Tree) -> Listing | None:
    """Rows of dataset.json: label, set, target_id and swapped_id; the method is the first folder of a path."""
    file = tree.root / "dataset.json"
    content = read_json(file) if file.is_file() else None
    if not isinstance(content, dict) or not all(isinstance(told, dict) and "set" in told for told in content.values()):
        return None
    listing = Listing("dataset.json")
    finder = _Finder(tree)
    for name, told in content.items():
        entry = finder.find(tree.root, name)
        if entry is None:
            listing.left_out["are in dataset.json and not there"].append(name)
            continue
        label = _label(file, name, told.get("label"))
        split = _split(file, name, told["set"])
        target, source = ("" if told.get(key) is None else str(told[key]) for key in ("target_id", "swapped_id"))
        method = PurePosixPath(name).parts[0] if label else REAL
        video = Video(entry.path, label, split, "DFDC-preview", method, entry.name)
        if label:
            video = replace(video, target=target, source=source)
        listing.videos.append(video if label or not target else replace(video, extra={IDENTITY: target}))
    return listing


class _Finder:
    """Videos by a name that a table gives them: at that path, or the only one of that name below the same folder."""

    def __init__(self, tree: Tree) -> None:
        self.at = {tree.root.joinpath(*entry.parts): entry for entry in tree.entries}
        self.named: dict[str, list[Entry]] = defaultdict(list)
        for entry in tree.entries:
            self.named[entry.name].append(entry)

    def find(self, folder: Path, name: str) -> Entry | None:
        """None where there is none, or where several could be meant."""
        if (folder / name) in self.at:
            return self.at[folder / name]
        above = folder / PurePosixPath(name).parts[0] if "/" in name else folder
        found = [entry for entry in self.named[stem(Path(name))] if entry.path.is_relative_to(above)]
        found = [entry for entry in found if entry.path.is_file()] or found  # a film may lie beside its frames
        return found[0] if len(found) == 1 else None


def _label(file: Path, name: str, label: Any) -> int:
    if str(label).casefold() not in _LABELS:
        raise ValueError(f"{file}: the label of {name} must be REAL or FAKE, got {label!r}; correct the file")
    return _LABELS[str(label).casefold()]


def _split(file: Path, name: str, split: Any) -> str:
    if str(split).casefold() not in SPLIT_NAMES:
        raise ValueError(f"{file}: the split of {name} must be train, validation or test, got {split!r}; correct it")
    return SPLIT_NAMES[str(split).casefold()]
