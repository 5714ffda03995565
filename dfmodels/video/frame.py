"""One frame of a video, and the error every reader of videos raises."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Frame", "VideoError"]


class VideoError(ValueError):
    """A video, or a folder of images, that cannot be read. The message is one sentence and begins with its path."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a video, turned the way a player shows it.

    Attributes:
        index: number of the frame in order of presentation, the first is 0.
        time: presentation time in seconds from the start of the video.
        image: pixels (H, W, 3), uint8 RGB, 0 to 255.
    """

    index: int
    time: float
    image: NDArray[np.uint8]
