"""The videos that are meant by paths of files and folders."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from dfmodels.video.images import IMAGE_SUFFIXES, natural_key

LOG = logging.getLogger(__name__)
VIDEO_SUFFIXES = frozenset(
    {
        *(".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov"),
        *(".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv"),
        ".y4m",
    }
)


def find_videos(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The videos at `paths`, each once, under the name by which it is met first.

    A folder that holds images and no video files is a video, whose frames they are. Any other is searched, with the
    folders in it: names in natural order, those of a folder before those of the folders in it; hidden ones are left
    out, and pictures named after a video (`video.mp4.png`). Links are followed, and lead to no folder twice. What
    cannot be read, and a folder without a video, is among the videos: it says so when it is opened.

    Args:
        paths: files, taken whatever their name, and folders.

    Raises:
        ValueError: nothing but folders without a video.
    """
    found: dict[str, Path] = {}  # by the place that a path leads to in the end
    empty: dict[str, str] = {}
    repeated: list[Path] = []
    for given in map(Path, paths):
        itself = os.path.realpath(given)
        videos = list(walk(given, itself)) if os.path.isdir(given) else [(itself, given)]
        if not videos:
            empty[itself] = (
                f"no video in {given}: looked there and in the folders below for files ending in one of "
                f"{', '.join(sorted(VIDEO_SUFFIXES))}, and for images ending in one of "
                f"{', '.join(sorted(IMAGE_SUFFIXES))}"
            )
            videos = [(itself, given)]
        for place, video in videos:
            if place in found:
                repeated.append(video)
            found.setdefault(place, video)
    if empty and len(empty) == len(found):
        raise ValueError("\n".join(empty.values()))
    for message in empty.values():
        LOG.warning("%s", message)
    if repeated:
        others = f" and {len(repeated) - 1} more" if repeated[1:] else ""
        LOG.info("met more than once and taken once: %s%s", repeated[0], others)
    return list(found.values())


def walk(
    top: Path, place: str, odd: Callable[[Path, list[str] | None, bool], object] | None = None
) -> Iterator[tuple[str, Path]]:
    """The videos in a folder, each with the place at which it is when every link is followed.

    Args:
        top: the folder.
        place: where it is itself.
        odd: called with every folder that holds anything but videos and folders, the names of that, and whether there
            is nothing else; names are None where it cannot be read. Folders beside images are then searched as well.
    """
    seen = set()
    folders = [(place, top)]
    while folders:
        place, folder = folders.pop()
        if place in seen:
            continue
        seen.add(place)
        try:
            with os.scandir(folder) as entries:
                shown = {entry.name: entry for entry in entries if not entry.name.startswith(".")}
        except OSError:
            if odd is None:
                yield place, folder
            else:
                odd(folder, None, False)
            continue
        names = sorted(shown, key=natural_key)
        inside = {name: _is_folder(shown[name]) for name in names}
        below = [name for name in names if inside[name]]
        videos = [name for name in names if not inside[name] and Path(name).suffix.lower() in VIDEO_SUFFIXES]
        images = [name for name in names if not inside[name] and _is_frame(name)]
        if odd is not None:
            taken = {*below, *(videos or images)}
            others = [name for name in names if name not in taken]
            if others or not names:
                odd(folder, others, not taken)
        note = logging.INFO if folder == top else logging.DEBUG
        if videos and images:
            LOG.log(note, "%s holds videos: the images beside them are left out", folder)
        elif images:
            yield place, folder
            if odd is None:
                if below:
                    LOG.log(
                        note, "%s holds images and is taken for a video: the folders in it are not searched", folder
                    )
                continue
        for name in videos:
            yield _place(place, shown[name]), folder / name
        folders += [(_place(place, shown[name]), folder / name) for name in reversed(below)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself
        return False


def _is_frame(name: str) -> bool:
    stem, suffix = os.path.splitext(name)
    of_video = os.path.splitext(stem)[1].lower().partition("-")[0]  # -2 where two videos share a name
    return suffix.lower() in IMAGE_SUFFIXES and of_video not in VIDEO_SUFFIXES


def _place(folder: str, entry: os.DirEntry[str]) -> str:
    return os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(folder, entry.name)
