"""Small data sets on disk in the folders of the published ones."""

import json
from pathlib import Path


def films(root, *names):
    """Files that stand for films: nothing here decodes them."""
    for name in names:
        file = Path(root, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"film")


def frames(root, *names, count=2):
    """Folders of files that stand for images."""
    for name in names:
        films(root, *(f"{name}/{n:03d}.png" for n in range(count)))


def texts(root, **files):
    for name, content in files.items():
        Path(root, name).parent.mkdir(parents=True, exist_ok=True)
        Path(root, name).write_text(content if isinstance(content, str) else json.dumps(content))


def faceforensics(root, pairs=None, methods=("Deepfakes", "FaceShifter"), form="videos", compressions=("c23",)):
    """Pairs by split, as the official files have them; returns the root."""
    pairs = {"train": [("000", "001")], "val": [("002", "003")], "test": [("004", "005")]} if pairs is None else pairs
    for split, listed in pairs.items():
        texts(root, **{f"splits/{split}.json": listed})
        for a, b in listed:
            for c in compressions:
                names = [f"original_sequences/youtube/{c}/{form}/{name}" for name in (a, b)]
                names += [
                    f"manipulated_sequences/{m}/{c}/{form}/{n}" for m in methods for n in (f"{a}_{b}", f"{b}_{a}")
                ]
                films(root, *(f"{name}.mp4" for name in names)) if form == "videos" else frames(root, *names)
    return root


def rows(videos):
    """(label, split, method, id, target, source) of videos, sorted."""
    return sorted((v.label, v.split, v.method, v.id, v.target, v.source) for v in videos)
