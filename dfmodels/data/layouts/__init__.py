"""Layouts of published data sets: what lies below a root as rows of an index, one function a layout."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from dfmodels.data.index import Video, named
from dfmodels.data.layouts.celebdf import celebdf
from dfmodels.data.layouts.deepfakebench import LABELS, deepfakebench, deepfakebench_videos
from dfmodels.data.layouts.dfdc import dfdc, dfdc_preview
from dfmodels.data.layouts.faceforensics import (
    COMPRESSION,
    DATASET,
    FRAMES,
    METHODS,
    faceforensics,
    folder_videos,
    read_pairs,
    video_folder,
)
from dfmodels.data.layouts.folders import dfd, ffiw, plain, wilddeepfake
from dfmodels.data.layouts.tree import Listing, Tree, search
from dfmodels.data.layouts.validation import split_validation
from dfmodels.video.images import natural_key

__all__ = [
    "COMPRESSION",
    "DATASET",
    "FRAMES",
    "LABELS",
    "LAYOUTS",
    "METHODS",
    "Listing",
    "Tree",
    "deepfakebench_videos",
    "find_layout",
    "folder_videos",
    "index_root",
    "read_pairs",
    "video_folder",
]

LOG = logging.getLogger(__name__)
Layout = Callable[[Tree], Listing | None]  # None where the tree has another layout
# in the order in which they are tried
LAYOUTS: dict[str, Layout] = {
    "faceforensics": faceforensics,
    "celebdf": celebdf,
    "dfdc-preview": dfdc_preview,
    "dfdc": dfdc,
    "dfd": dfd,
    "wilddeepfake": wilddeepfake,
    "ffiw": ffiw,
    "deepfakebench": deepfakebench,
    "plain": plain,
}


def index_root(root: str | Path, layout: str = "auto") -> Listing:
    """The rows of everything below a root, and what makes none, which is logged too.

    Args:
        root: the folder of a data set, or a JSON file of DeepfakeBench. With "auto" also a folder of such folders.
        layout: a name of LAYOUTS, or "auto" for the first that fits.

    Raises:
        ValueError: no such layout, another one, or no video.
        OSError: the root is not there.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise ValueError(f"the layout must be auto, {', '.join(LAYOUTS)}, got {layout!r}")
    if not Path(root).exists():
        raise FileNotFoundError(f"{root} is not there: give the folder of a data set")
    tree = search(root)
    listing = find_layout(tree, layout)
    if listing is None:
        known = "".join(f"\n  {name}: {(read.__doc__ or '').splitlines()[0]}" for name, read in LAYOUTS.items())
        found = f"{len(tree.entries)} videos" if tree.entries else "no video and no folder of images"
        wanted = "no known layout" if layout == "auto" else f"not the layout {layout}"
        raise ValueError(f"{root} holds {found}, and has {wanted}; the layouts are{known}")
    _finish(tree, listing)
    LOG.info("%s: layout %s, recognised by %s", root, listing.layout, listing.how)
    for note in listing.notes:
        LOG.info("%s", note)
    for reason, names in listing.left_out.items():
        LOG.warning("left out: %d %s: %s", len(names), reason, named(names, ", "))
    if not listing.videos:
        reasons = "; ".join(f"{len(names)} {reason}" for reason, names in listing.left_out.items())
        raise ValueError(f"{root} holds no video in the layout {listing.layout}" + (f": {reasons}" if reasons else ""))
    return listing


def find_layout(tree: Tree, layout: str = "auto", depth: int = 2) -> Listing | None:
    """What a layout, or the first that fits, makes of a tree; None where none fits.

    Where that leaves something out and the folders in the tree, each with a layout of its own, make more rows, theirs
    are taken together: archives unpack into a folder of their own, and data sets lie side by side.
    """
    found = None
    for name in LAYOUTS if layout == "auto" else [layout]:
        found = LAYOUTS[name](tree)
        if found is not None:
            found.layout = name
            break
    if depth and (found is None or len(found.videos) < len(tree.entries)):
        inside = Listing("")
        for folder in sorted(tree.folders() | tree.folders_of_texts(), key=natural_key):
            part = find_layout(tree.below(folder), layout, depth - 1)
            if part is not None:
                inside.videos += part.videos
                inside.how += f"{'; ' if inside.how else ''}{folder}/ as {part.layout} by {part.how}"
                inside.layout += f"{', ' if inside.layout else ''}{part.layout}"
                inside.notes += part.notes
                for reason, names in part.left_out.items():
                    inside.left_out[reason] += [f"{folder}/{name}" for name in names]
        if len(inside.videos) > (len(found.videos) if found else 0):
            return inside
    return found


def _finish(tree: Tree, listing: Listing) -> None:
    """Make the validation split, and say of everything that is no row why."""
    unnamable = [video for video in listing.videos if not _is_unicode(str(video.path))]
    listing.left_out["have names that are no Unicode; rename them"] += [
        tree.relative(video.path) for video in unnamable
    ]
    rows: dict[str, Video] = {}
    for video in listing.videos:
        if _is_unicode(str(video.path)) and rows.setdefault(video.key, video) is not video:
            listing.left_out["are there by another layout or name"].append(tree.relative(video.path))
    listing.videos, between, notes = split_validation(list(rows.values()))
    listing.left_out["show a person of training with one of validation"] += [tree.relative(v.path) for v in between]
    listing.notes += notes
    explained = {name for names in listing.left_out.values() for name in names}
    rows_at = {place for video in rows.values() for place in (video.path, video.path.parent)}
    left = listing.left_out
    left["are not part of the layout"] += [
        name
        for entry in tree.entries
        if entry.path not in rows_at and (name := "/".join(entry.parts) or ".") not in explained
    ]
    left["are links to a video that is there already"] += tree.twice
    left["hold no video"] += tree.empty
    left["cannot be read"] += tree.unreadable
    listing.notes += [
        f"{count} files {suffix or 'without suffix'} are no videos ({tree.first[suffix]}{', ...' if count > 1 else ''})"
        for suffix, count in sorted(tree.others.items())
    ]
    for reason in [reason for reason, names in left.items() if not names]:
        del left[reason]


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
