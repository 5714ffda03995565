"""Data sets whose folders say it all: DeepFakeDetection, WildDeepfake, FFIW, and plain real/ and fake/."""

from __future__ import annotations

import re
from dataclasses import replace

from dfmodels.data.index import IDENTITY, REAL, Video
from dfmodels.data.layouts.tree import FORMS, SPLIT_NAMES, Entry, Listing, Tree, choose_form, make_video, people
from dfmodels.video.images import list_images

_CLASSES = {"real": 0, "fake": 1, "0_real": 0, "1_fake": 1}


def dfd(tree: Tree) -> Listing | None:
    """Rows of DFD_original_sequences/ and DFD_manipulated_sequences/; no official split, so all are test."""
    heads = {
        folder: int("manipulated" in folder.casefold())
        for folder in tree.folders()
        if re.match(r"dfd[_ -](original|manipulated)", folder, re.IGNORECASE)
    }
    if not heads:
        return None
    listing = Listing(f"{', '.join(f'{head}/' for head in sorted(heads))}; no official split, so everything is test")
    found = [
        ("videos" if entry.path.is_file() else entry.parts[-2], entry)
        for entry in tree.entries
        if len(entry.parts) > 1 and entry.parts[0] in heads
    ]
    for entry in choose_form(listing, found):
        label, name = heads[entry.parts[0]], "DeepFakeDetection"
        listing.videos.append(make_video(entry.path, label, "test", name, name, _compression(entry)))
    return listing


def _compression(entry: Entry) -> str:
    return next((part for part in entry.parts if re.fullmatch(r"raw|c\d+", part)), "")


def wilddeepfake(tree: Tree) -> Listing | None:
    """Rows of real_train/, fake_test/ and so on: a folder of images is a sequence, those of a number are one video."""
    listing = Listing("")
    heads = set()
    for entry in tree.entries:
        for place, part in enumerate(entry.parts[:-1]):
            if match := re.fullmatch(r"(real|fake)_(train|val|test)", part, re.IGNORECASE):
                heads.add(part)
                label = _CLASSES[match[1].lower()]
                rest = entry.parts[place + 1 :]
                # the archives of the release hold VIDEO/fake/SEQUENCE/
                video = make_video(entry.path, label, match[2].lower(), "WildDeepfake", "WildDeepfake")
                listing.videos.append(replace(video, target="", source="", extra={IDENTITY: f"{part}/{rest[0]}"}))
                break
    if not listing.videos:
        return None
    listing.how = ", ".join(f"{head}/" for head in sorted(heads))
    return listing


def ffiw(tree: Tree) -> Listing | None:
    """Rows of source/ (real) and target/ (fake), below them train/, val/ and test/."""
    classes = {"source": 0, "target": 1}
    found, used = [], set()
    for entry in tree.entries:
        for place, part in enumerate(entry.parts[:-2]):
            split = entry.parts[place + 1]
            if part in classes and split in SPLIT_NAMES and len(entry.parts) - place in (3, 4):
                used.add(f"{part}/{split}/")
                form = entry.parts[place + 2] if len(entry.parts) - place == 4 else ""
                found.append((form, entry, classes[part], SPLIT_NAMES[split]))
                break
    if not {label for _, _, label, _ in found} >= {0, 1}:
        return None
    listing = Listing(", ".join(sorted(used)))
    kept = {entry.path for entry in choose_form(listing, [(form, entry) for form, entry, _, _ in found])}
    rows = [(entry, label, split) for _, entry, label, split in found if entry.path in kept]
    originals = {(split, entry.name) for entry, label, split in rows if not label}
    for entry, label, split in rows:
        target = entry.name if label and (split, entry.name) in originals else ""
        listing.videos.append(Video(entry.path, label, split, "FFIW", "FFIW" if label else REAL, entry.name, target))
    return listing


def plain(tree: Tree) -> Listing | None:
    """Rows of real/ and fake/, with or without train/, val/ and test/ above or below; further folders are methods."""
    listing = Listing("")
    found: list[tuple[Entry, int, str, tuple[str, ...]]] = []
    heads = set()
    for entry in tree.entries:
        parts = [part.casefold() for part in entry.parts]
        place = next((place for place, part in enumerate(parts[:2]) if part in _CLASSES), None)
        if place is None or (place == 1 and parts[0] not in SPLIT_NAMES):
            continue
        heads.add("/".join(entry.parts[: place + 1]) + "/")
        split = SPLIT_NAMES[parts[0]] if place else ""
        below = entry.parts[place + 1 :]
        if not place and len(below) > 1 and below[0].casefold() in SPLIT_NAMES:
            split, below = SPLIT_NAMES[below[0].casefold()], below[1:]
        label = _CLASSES[parts[place]]
        if entry.path.is_dir() and len(entry.parts) == place + 1:  # single images, each a video of one frame
            images = [Entry(file, (*entry.parts, file.name)) for file in list_images(entry.path)]
            found += [(image, label, split, ()) for image in images]
        else:
            found.append((entry, label, split, below[:-1]))
    if not found:
        return None
    listing.how = ", ".join(sorted(heads))
    originals = {entry.name for entry, label, _, _ in found if not label}
    for entry, label, split, between in found:
        method = "/".join(part for part in between if part not in FORMS) or "fake"
        video = Video(entry.path, label, split or "train", tree.root.name, method if label else REAL, entry.name)
        target, source = people(entry.name)
        if label and entry.name in originals:
            video = replace(video, target=entry.name)
        elif label and target in originals:
            video = replace(video, target=target, source=source)
        listing.videos.append(video)
    return listing
