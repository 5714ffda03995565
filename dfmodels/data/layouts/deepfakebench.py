"""Files of DeepfakeBench, which DF40 uses too."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from dfmodels.data.index import REAL, Video
from dfmodels.data.layouts.faceforensics import COMPRESSION, DATASET
from dfmodels.data.layouts.tree import SPLIT_NAMES, Listing, Tree, make_video, read_json

LABELS = {
    "FF-real": REAL,
    "FF-DF": "Deepfakes",
    "FF-F2F": "Face2Face",
    "FF-FS": "FaceSwap",
    "FF-NT": "NeuralTextures",
}
# of the other files; what is not here is called by its label without "_fake"
_METHODS = {
    **LABELS,
    "FF-FH": "FaceShifter",
    "FF-SH": "FaceShifter",
    "DFD_fake": "DeepFakeDetection",
    "CelebDFv1_fake": "Celeb-synthesis",
    "CelebDFv2_fake": "Celeb-synthesis",
    "DFDCP_FakeA": "method_A",
    "DFDCP_FakeB": "method_B",
}
_AGAIN = "are in a file a second time; where one is a test video, it stays one"
_MOST_SHOWN = 200  # characters of a wrong entry
_PARENTS = 3  # folders above a file that its paths may begin at
_MOST_DROPPED = 2  # first parts of a path
_TRIED = 50  # folders that are looked for
_RGB = ("", "datasets/rgb", "datasets", "rgb")  # of the bench


def deepfakebench_videos(
    path: str | Path,
    root: str | Path,
    *,
    split: str,
    dataset: str = DATASET,
    compression: str | None = COMPRESSION,
    labels: Mapping[str, str] = LABELS,
) -> list[Video]:
    """Videos of a split from a JSON file of DeepfakeBench.

    The file holds {dataset: {label: {split: {compression: {id: {"label": ..., "frames": [path, ...]}}}}}}. The folder
    of its frames is the path of a video, and the frames are what lies there. A video without "frames", or with null
    there, has a path that is nowhere; null in place of a path is passed over.

    Args:
        path: the file.
        root: folder that the paths of the frames begin at.
        split: "train", "val" or "test".
        dataset: name of the data set in the file.
        compression: its name in the file; None where the file has no such level, as for Celeb-DF.
        labels: label in the file -> REAL or the name of the manipulation, for the labels that are wanted.

    Raises:
        ValueError: a file of another form or without what is asked for, or a path that does not begin at `root`.
    """
    content = read_json(path)
    videos = []
    for label, method in labels.items():
        level = content
        for key in (dataset, label, split, *(() if compression is None else (compression,))):
            if not isinstance(level, dict) or key not in level:
                known = ", ".join(level) if isinstance(level, dict) else "no object"
                raise ValueError(f"{path}: {dataset}, {label}, {split}: expected the key {key!r}, found {known}")
            level = level[key]
        for name, folder in _folders(Path(path), (dataset, label, split), level):
            if folder is not None and Path(folder).is_absolute():
                raise ValueError(f"{path}: frames of {label} {name} must be relative to root, got {folder}")
            nowhere = Path(path, label, split, compression or "", name)
            place = Path(os.path.abspath(nowhere if folder is None else Path(root, folder)))
            number = int(method != REAL)
            videos.append(make_video(place, number, split, dataset, method, compression or "", name=name))
    return videos


def _folders(path: Path, where: tuple[str, ...], level: Any) -> Iterator[tuple[str, str | None]]:
    """Every id with the folder of its frames, None where it has none."""
    if not isinstance(level, dict):
        raise ValueError(f"{path}: {', '.join(where)}: expected videos by id, got {type(level).__name__}")
    label = where[1]
    for name, entry in level.items():
        listed = entry.get("frames") if isinstance(entry, dict) else None
        listed = [] if listed is None else listed
        whole = isinstance(entry, dict | NoneType) and isinstance(listed, list)
        if not whole or not all(isinstance(file, str | None) for file in listed):
            raise ValueError(
                f'{path}: {label} {name} must be {{"frames": [path, ...]}}, got {json.dumps(entry)[:_MOST_SHOWN]}'
            )
        files = [file.replace("\\", "/") for file in listed if file is not None]  # files made on Windows
        folders = sorted({os.path.dirname(file) for file in files})
        if len(folders) > 1:
            raise ValueError(f"{path}: frames of {label} {name} must lie in one folder, got {', '.join(folders)}")
        yield name, folders[0] if folders else None


def deepfakebench(tree: Tree) -> Listing | None:
    """Rows of every JSON file of this form in the root, or of the file that the root is."""
    files: dict[Path, Any] = {}
    broken = []
    for text in tree.texts:
        if re.fullmatch(r"[^/]+\.json", text):
            try:
                content = read_json(tree.root / text)
            except ValueError:
                if not tree.entries and len(tree.texts) == 1:
                    raise
                broken.append(text)
            else:
                if _is_bench(content):
                    files[tree.root / text] = content
    if not files:
        return None
    listing = Listing(", ".join(file.name for file in files))
    listing.left_out["are no JSON"] += broken
    taken: dict[str, Video] = {}
    for file, content in files.items():
        found = [row for dataset, labels in content.items() for row in _walk(file, dataset, labels)]
        root, dropped = _root(file, [folder for *_, folder in found if folder is not None])
        for dataset, label, split, compression, name, folder in found:
            title = f"{dataset} {label} {split} {name}"
            place = None if folder is None else Path(os.path.abspath(root / _behind(folder, dropped)))
            if place is None:
                listing.left_out["have no frames in the file"].append(title)
            elif not place.is_dir():
                listing.left_out[f"have frames that are not below {root}"].append(title)
            else:
                method = method_of(label)
                video = make_video(place, int(method != REAL), split, dataset, method, compression, name=name)
                before = taken.get(video.key)
                # the files of Celeb-DF and DFD repeat their test videos as validation: a test must stay one
                if before is None or (split == "test" != before.split):
                    taken[video.key] = video
                if before is not None:
                    listing.left_out[_AGAIN].append(title)
    listing.videos = list(taken.values())
    return listing


def method_of(label: str) -> str:
    """REAL or the name of the manipulation, by a label of the bench or of DF40."""
    if label in _METHODS:
        return _METHODS[label]
    if re.search(r"(^|[_-])real$", label, re.IGNORECASE):
        return REAL
    return re.sub(r"[_-]fake$", "", label, flags=re.IGNORECASE)


def _is_bench(content: Any) -> bool:
    """Whether a file has the levels data set, label, split."""
    try:
        splits = {split for labels in content.values() for splits in labels.values() for split in dict(splits)}
    except (AttributeError, TypeError, ValueError):
        return False
    return bool(splits) and splits <= set(SPLIT_NAMES)


def _walk(file: Path, dataset: str, labels: Any) -> Iterator[tuple[str, str, str, str, str, str | None]]:
    """Data set, label, split, compression, id and folder of all videos of a data set."""
    for label, splits in labels.items():
        for split, level in splits.items():
            has_compressions = (
                isinstance(level, dict) and level and all(re.fullmatch(r"raw|c\d+", key) for key in level)
            )
            for compression, videos in level.items() if has_compressions else [("", level)]:
                for name, folder in _folders(file, (dataset, label, split), videos):
                    yield dataset, label, SPLIT_NAMES[split], compression, name, folder


def _root(file: Path, folders: list[str]) -> tuple[Path, int]:
    """The folder that paths begin at, and how many of their first parts do not count.

    It is the first around the file below which one of them is. Files of DF40 begin with a folder of their authors.
    """
    around = [file.parent, *list(file.parent.parents)[:_PARENTS]]
    for dropped in range(_MOST_DROPPED + 1):
        for root in (above / rgb for above in around for rgb in _RGB):
            if any(
                (root / _behind(folder, dropped)).is_dir()
                for folder in folders[:_TRIED]
                if folder.count("/") >= dropped
            ):
                return root, dropped
    return file.parent, 0


def _behind(folder: str, dropped: int) -> str:
    return folder.split("/", dropped)[-1]
