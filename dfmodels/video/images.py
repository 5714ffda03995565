"""A folder of images as a video."""

from __future__ import annotations

import re
from collections.abc import Collection, Generator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfmodels.optional import require
from dfmodels.video.frame import Frame, VideoError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
IMAGE_RATE = 25.0  # frames per second: a folder has no clock, this is the rate of most published video sets


def image_files(path: Path) -> list[Path]:
    """Images of a folder in natural order, frame10 after frame9; an image stands for a folder that holds only it.

    Raises:
        VideoError: a folder that cannot be listed or holds no image.
    """
    if not path.is_dir():
        return [path]
    files = list_images(path)
    if not files:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise VideoError(f"{path}: the folder holds no images, expected files ending in one of {suffixes}")
    return files


def list_images(path: Path) -> list[Path]:
    """Images of a folder in natural order, none where it holds other files only.

    Hidden files are left out: some systems put a `._` companion beside every image.

    Raises:
        VideoError: a folder that cannot be listed.
    """
    try:
        names = [
            entry.name
            for entry in path.iterdir()
            if entry.suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith(".") and entry.is_file()
        ]
    except OSError as error:
        raise VideoError(f"{path}: the folder cannot be listed: {error.strerror or error}") from error
    return [path / name for name in sorted(names, key=natural_key)]


def natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sort key that compares runs of digits as numbers; the name itself orders frame1 and frame01."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [(int(part), "") if i % 2 else (0, part) for i, part in enumerate(parts)], name


def iter_images(path: Path, wanted: Collection[int] | None) -> Generator[Frame, None, None]:
    """The wanted frames of a folder, None for all; the time of frame i is i / IMAGE_RATE seconds."""
    for index, file in enumerate(image_files(path)):
        if wanted is None or index in wanted:
            yield Frame(index, index / IMAGE_RATE, read_image(file))


def read_image(path: Path) -> NDArray[np.uint8]:
    """Pixels (H, W, 3), uint8 RGB, of an image; grey is repeated, alpha dropped, the EXIF orientation applied.

    Raises:
        VideoError: a file that cannot be read or is no complete image.
        ImportError: OpenCV is not installed.
    """
    cv2 = require("cv2", "reading images")
    try:
        data = np.fromfile(path, np.uint8)  # cv2.imread cannot open every non-ASCII path
    except OSError as error:
        raise VideoError(f"{path}: the image cannot be read: {error.strerror or error}") from error
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error:
        image = None
    if image is None:
        reason = "is broken or cut off" if data.size else "is empty"
        raise VideoError(f"{path}: the image {reason}; replace the file or remove it from the folder")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
