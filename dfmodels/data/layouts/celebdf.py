"""Celeb-DF, version 1 and 2."""

from __future__ import annotations

import re

from dfmodels.data.layouts.tree import Listing, Tree, choose_form, make_video

METHOD = "Celeb-synthesis"
FOLDERS = {"Celeb-real": 0, "YouTube-real": 0, METHOD: 1}
TESTING = "List_of_testing_videos.txt"


def celebdf(tree: Tree) -> Listing | None:
    """Rows of Celeb-real/, YouTube-real/ and Celeb-synthesis/: test is what the official list names, the rest train."""
    heads = [folder for folder in FOLDERS if folder in tree.folders()]
    if not {"Celeb-real", METHOD} & set(heads):
        return None
    version = re.search(r"v[12]", tree.root.name, re.IGNORECASE)
    dataset = f"Celeb-DF-{version[0].lower()}" if version else "Celeb-DF"
    testing = _testing(tree)
    how = f"test by {TESTING}" if testing else f"{TESTING} is not there or empty, so everything is train"
    listing = Listing(f"{', '.join(f'{head}/' for head in heads)}; {how}")
    found = [
        (entry.parts[1] if len(entry.parts) == 3 else "", entry)
        for entry in tree.entries
        if len(entry.parts) in (2, 3) and entry.parts[0] in heads
    ]
    for entry in choose_form(listing, found):
        head = entry.parts[0]
        split = "test" if testing.pop(f"{head}/{entry.name}", None) else "train"
        listing.videos.append(make_video(entry.path, FOLDERS[head], split, dataset, METHOD))
    if testing:
        listing.left_out[f"are in {TESTING} and not there"] += testing
    return listing


def _testing(tree: Tree) -> dict[str, int]:
    """Line of every video of the list, by folder and name without suffix."""
    file = tree.root / TESTING
    testing: dict[str, int] = {}
    if not file.is_file():
        return testing
    for number, line in enumerate(file.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        match = re.fullmatch(r"([01])\s+([^/\\]+)[/\\](?:videos[/\\])?(.+?)(?:\.\w+)?", line.strip())
        if match is None or match[2] not in FOLDERS:
            raise ValueError(
                f"{file}, line {number}: expected a label and a video of {', '.join(FOLDERS)}, such as "
                f"1 YouTube-real/00170.mp4, got {line.strip()[:80]!r}"
            )
        if int(match[1]) == FOLDERS[match[2]]:  # in this list 1 is real
            raise ValueError(
                f"{file}, line {number}: in this list 1 is real and 0 fake, which {match[2]} contradicts, got "
                f"{line.strip()[:80]!r}; take the file that came with the videos"
            )
        testing[f"{match[2]}/{match[3]}"] = number
    return testing
