"""Frames of a video or of a folder of images, one at a time."""

from __future__ import annotations

import os
from collections.abc import Container, Generator, Iterator
from pathlib import Path

from dfmodels.video.container import count_packets, iter_video, open_video
from dfmodels.video.frame import Frame, VideoError
from dfmodels.video.images import IMAGE_SUFFIXES, image_files, iter_images

__all__ = ["Frame", "VideoError", "count_frames", "read_frames"]


def read_frames(path: str | os.PathLike[str]) -> Iterator[Frame]:
    """Read a video frame by frame; only the frames inside the decoder are in memory.

    Only the first video stream is read; cover pictures are not video. Pixels are turned by the display matrix (quarter
    turns and mirrors) and otherwise left as stored: non-square pixels are not stretched, fields not woven, high dynamic
    range not mapped.

    Args:
        path: a video in any format of the installed ffmpeg, or a folder of png, jpg, jpeg, bmp or webp images, read in
            natural order with time = index / 25. A single image is a video of one frame.

    Yields:
        Frames in order of presentation, image (H, W, 3) uint8 RGB, time in seconds from the start of the video. The
        size may change within a video.

    Raises:
        VideoError: nothing to read at `path`; or, after the frames before the break, a video that is damaged or cut
            off, with the number of frames that could be read.
        ImportError: PyAV, for images OpenCV, is not installed.
    """
    return (frame for frame in iter_frames(Path(path)) if frame is not None)


def iter_frames(path: Path, wanted: Container[int] | None = None) -> Generator[Frame | None, None, None]:
    """Like `read_frames`, with None in the place of the frames that are not wanted, which saves converting them."""
    return iter_images(path, wanted) if is_images(path) else iter_video(path, wanted)


def count_frames(path: str | os.PathLike[str]) -> int:
    """Number of frames of a video without decoding it, of images in a folder.

    Read from the sample table of mp4 and mov files, counted in the packets of any other. A decoder may return fewer
    frames than there are packets where a video is damaged.

    Args:
        path: as for `read_frames`.

    Raises:
        VideoError: nothing to read at `path`, or a video that is cut off.
        ImportError: PyAV is not installed.
    """
    path = Path(path)
    if is_images(path):
        return len(image_files(path))
    with open_video(path) as video:
        return count_packets(video)


def is_images(path: Path) -> bool:
    # os.path, as pathlib raises where a parent folder may not be entered; opening the video then says so.
    return os.path.isdir(path) or (path.suffix.lower() in IMAGE_SUFFIXES and os.path.isfile(path))
