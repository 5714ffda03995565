"""One frame of a video, what is known of the whole, and the error every reader of videos raises."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Frame", "VideoError", "VideoInfo"]


class VideoError(ValueError):
    """A video, or a folder of images, that cannot be read. The message is one sentence and begins with its path."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a video, turned the way a player shows it.

    Attributes:
        index: number of the frame in order of presentation, the first is 0.
        time: presentation time in seconds from the start of the video.
        image: pixels (H, W, 3), uint8 RGB, 0 to 255.
        damaged: whether this frame, or one that it may be predicted from, is known to be damaged; see `read_frames`.
    """

    index: int
    time: float
    image: NDArray[np.uint8]
    damaged: bool = False


@dataclass(frozen=True)
class VideoInfo:
    """What a video holds, known without decoding it.

    Attributes:
        num_frames: number of frames, at least 1.
        rate: mean number of frames per second, above 0.
        duration: num_frames / rate, seconds from the start of the first frame to the end of the last.
    """

    num_frames: int
    rate: float

    @property
    def duration(self) -> float:
        return self.num_frames / self.rate
