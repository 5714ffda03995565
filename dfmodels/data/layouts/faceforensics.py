"""FaceForensics++ in its official folders, with DeepFakeDetection and FaceShifter."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from dfmodels.data.index import REAL, SPLITS, Video
from dfmodels.data.layouts.tree import Listing, Tree, choose_form, make_video, read_json

DATASET = "FaceForensics++"
METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
COMPRESSION, FRAMES = "c23", "frames"
ORIGINAL, MANIPULATED = "original_sequences", "manipulated_sequences"
ACTORS = ("actors", "DeepFakeDetection")  # of DeepFakeDetection, which has no official split
_SPLIT_FOLDERS = ("splits", "", "dataset/splits")


def read_pairs(path: str | Path) -> list[tuple[str, str]]:
    """Pairs of ids from an official split file of FaceForensics++, a JSON list such as [["071", "054"], ...].

    Raises:
        ValueError: a file of another form.
    """
    pairs = read_json(path)
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) for name in pair) for pair in pairs
    ):
        raise ValueError(f'{path}: a split file must be a list of pairs of ids such as [["071", "054"]]')
    return [(first, second) for first, second in pairs]


def video_folder(method: str, video: str, compression: str, frames: str) -> Path:
    """Folder of a video's frames below the root of FaceForensics++."""
    where = Path(ORIGINAL, "youtube") if method == REAL else Path(MANIPULATED, method)
    return where / compression / frames / video


def folder_videos(
    root: str | Path,
    pairs: Iterable[tuple[str, str]],
    *,
    split: str = "train",
    methods: Sequence[str] = METHODS,
    compression: str = COMPRESSION,
    frames: str = FRAMES,
) -> list[Video]:
    """Videos of a split in the folder layout of FaceForensics++, also those that are not there.

    Frames of a real video lie in original_sequences/youtube/COMPRESSION/FRAMES/ID, those of a fake one in
    manipulated_sequences/METHOD/COMPRESSION/FRAMES/TARGET_SOURCE; their order is the natural one of their names.

    Args:
        root: folder that holds original_sequences and manipulated_sequences.
        pairs: as `read_pairs` gives them; a pair (a, b) has the real videos a and b and the fakes a_b and b_a.
        split: of the videos.
        methods: folders of the manipulations.
        compression: folder of the compression.
        frames: folder of the frames.

    Returns:
        Per pair: a, all fakes a_b, b, all fakes b_a; without frames where a folder is missing or holds no images.

    Raises:
        ValueError: `root` is not a folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"root must be the folder of {DATASET}, got {root}, which is no folder")
    videos = []
    for first, second in pairs:
        for target, source in ((first, second), (second, first)):
            folder = video_folder(REAL, target, compression, frames)
            videos.append(Video((root / folder).absolute(), 0, split, DATASET, REAL, target, compression=compression))
            for method in methods:
                name = f"{target}_{source}"
                folder = (root / video_folder(method, name, compression, frames)).absolute()
                videos.append(Video(folder, 1, split, DATASET, method, name, target, source, compression))
    return videos


def faceforensics(tree: Tree) -> Listing | None:
    """Rows of original_sequences/ and manipulated_sequences/, their splits by pairs of the official files."""
    heads = sorted({ORIGINAL, MANIPULATED} & tree.folders())
    if not heads:
        return None
    splits, how = _splits(tree)
    listing = Listing(f"{' and '.join(f'{head}/' for head in heads)}; {how}")
    found = []
    for entry in tree.entries:
        if len(entry.parts) in (4, 5) and entry.parts[0] in heads:
            if entry.parts[2] == "masks":
                listing.left_out["are masks of the forgeries, no videos"].append("/".join(entry.parts))
            elif re.fullmatch(r"raw|c\d+", entry.parts[2]):
                found.append((entry.parts[3] if len(entry.parts) == 5 else "", entry))
    there: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for entry in choose_form(listing, found):
        head, kind, compression = entry.parts[:3]
        split: str | None = "test"
        if kind not in ACTORS:
            there[head, kind, compression].add(entry.name)
            split = splits.get(entry.name) if splits else "train"
        if split is None:
            listing.left_out["are in no split file"].append("/".join(entry.parts))
        else:
            listing.videos.append(make_video(entry.path, int(head == MANIPULATED), split, DATASET, kind, compression))
    for folder, names in there.items():
        missing = [name for name in splits if ("_" in name) == (folder[0] == MANIPULATED) and name not in names]
        if missing:
            listing.left_out["are in a split file and not there"] += ["/".join([*folder, name]) for name in missing]
    if set(ACTORS) & tree.folders(2):
        listing.notes.append("DeepFakeDetection has no official split: all of it is test")
    return listing


def _splits(tree: Tree) -> tuple[dict[str, str], str]:
    """Split by id of a video, and by which files."""
    splits: dict[str, str] = {}
    read = []
    for split in SPLITS:
        files = [tree.root / folder / f"{split}.json" for folder in _SPLIT_FOLDERS]
        file = next((file for file in files if file.is_file()), None)
        if file is not None:
            read.append(tree.relative(file))
            for a, b in read_pairs(file):
                for name in (a, b, f"{a}_{b}", f"{b}_{a}"):
                    splits.setdefault(name, split)
    if not read:
        return {}, "no split file train.json, val.json or test.json in splits/ or beside them, so everything is train"
    return splits, f"splits by {', '.join(read)}"
