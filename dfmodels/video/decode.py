"""Frames of a video or of a folder of images, one at a time."""

from __future__ import annotations

import os
from collections.abc import Collection, Generator, Iterator
from pathlib import Path

from dfmodels.video.container import survey
from dfmodels.video.frame import Frame, VideoError, VideoInfo
from dfmodels.video.images import IMAGE_RATE, IMAGE_SUFFIXES, image_files, iter_images
from dfmodels.video.seeking import iter_video

__all__ = ["Frame", "VideoError", "VideoInfo", "count_frames", "iter_frames", "read_frames", "video_info"]


def read_frames(path: str | os.PathLike[str]) -> Iterator[Frame]:
    """Read a video frame by frame; only the frames inside the decoder are in memory.

    Only the first video stream is read; cover pictures are not video. Pixels are turned by the display matrix (quarter
    turns and mirrors) and otherwise left as stored: non-square pixels are not stretched, fields not woven, high dynamic
    range not mapped.

    A frame is `damaged` where its decoder meets data that cannot be, and so are the frames decoded after it up to the
    next key frame; Matroska has checksums beside (ffmpeg writes them), which flag the frames of some seconds. Nothing
    tells damage that leaves a valid stream: in H.265, VP8 and VP9 without checksums that is nearly all of it, in motion
    JPEG most, in H.264 and MPEG-4 part 2 little, in AV1 next to none.

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
    return iter_frames(path)


def iter_frames(path: str | os.PathLike[str], wanted: Collection[int] | None = None) -> Generator[Frame, None, None]:
    """Read the wanted frames of a video, each the one that `read_frames` yields under this number.

    Reading ends with the last wanted frame. Long stretches that are not wanted are passed over without decoding them
    where the packets tell which frame lies where (mp4, mov, Matroska, WebM, AVI without B frames; H.264, H.265, VP8,
    VP9, AV1, MPEG-4 part 2 and codecs of key frames only); damage in them is not noticed.

    Args:
        path: as for `read_frames`.
        wanted: frame numbers in any order, None for all; numbers beyond the end of the video yield nothing.

    Yields:
        The wanted frames in order of presentation, as `read_frames` does.

    Raises:
        VideoError, ImportError: as `read_frames`, for what lies before the last wanted frame.
    """
    path = Path(path)
    return iter_images(path, wanted) if is_images(path) else iter_video(path, wanted)


def count_frames(path: str | os.PathLike[str]) -> int:
    """Number of frames of a video without decoding it, of images in a folder: `video_info(path).num_frames`."""
    return video_info(path).num_frames


def video_info(path: str | os.PathLike[str]) -> VideoInfo:
    """Number of frames of a video, its frame rate and duration, without decoding it.

    Both are read from the sample table of mp4 and mov files, for any other counted in the packets and taken from the
    time stamps of the first frame and the last, or from the header where there are none. A folder of images has rate
    25. A decoder may return fewer frames than there are packets where a video is damaged.

    Args:
        path: as for `read_frames`.

    Raises:
        VideoError: nothing to read at `path`, or a video that is cut off.
        ImportError: PyAV is not installed.
    """
    path = Path(path)
    if is_images(path):
        return VideoInfo(len(image_files(path)), IMAGE_RATE)
    return survey(path).info


def is_images(path: Path) -> bool:
    # os.path, as pathlib raises where a parent folder may not be entered; opening the video then says so.
    return os.path.isdir(path) or (path.suffix.lower() in IMAGE_SUFFIXES and os.path.isfile(path))
