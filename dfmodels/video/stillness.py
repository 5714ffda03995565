"""Whether a clip shows anything move."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 8  # pixels: the mean of a block hardly changes by noise and dithering, but by the motion of an edge
# Grey levels, the least that misses few photos: of clips of 8 frames out of photos encoded as videos (x264, x265, vp9,
# mpeg4, with and without dithering), 75 to 93 of 100 lie below up to CRF 28, 41 to 83 at CRF 36 and 40; the lower
# numbers with a key frame every 12 frames. Uncompressed, a person who talks at a quarter of the speed (carphone) stays
# above 5, the quietest of 32 rendered heads above 2.6. Compressed, one of 1632 such clips lies below at CRF 28; at CRF
# 36 and 40 26 and 57 do, nearly all heads of 64 pixels that x265 froze.
STILL = 1.0
KEY_FRAME_FROM = 8  # frames of a clip that is long enough to show motion on either side of a key frame


def is_still(frames: NDArray[np.uint8]) -> bool:
    """Whether the frames of a clip differ only by what compression does to a still picture.

    The greatest range over time of the mean of any block of 8 x 8 pixels, in grey levels, is at most 1. A key frame
    renews the whole picture at once, so a clip of at least 8 frames may change once: the range is then the one before
    the change or the one behind it, whichever is greater, at the change where that is least.

    A person who sits quietly is not called still, unless the encoder left out all that moved. A photo compressed
    strongly, or seen through crops that move over it, may not be called still.

    Args:
        frames: pixels (T, H, W, 3), uint8, 0 to 255.

    Raises:
        ValueError: frames of another shape or type, or none.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise ValueError(f"frames must be (T, H, W, 3) uint8 and not empty, got {frames.shape} {frames.dtype}")
    height, width = (min(BLOCK, size) for size in frames.shape[1:3])
    rows, columns = frames.shape[1] // height, frames.shape[2] // width
    blocks = frames[:, : rows * height, : columns * width].reshape(len(frames), rows, height, columns, width, 3)
    means = blocks.mean((2, 4, 5), dtype=np.float32)
    before, behind = ranges(means), ranges(means[::-1])[::-1]
    least = before[-1]
    if len(frames) >= KEY_FRAME_FROM:
        least = min(least, np.maximum(before[:-1], behind[1:]).min())
    return bool(least <= STILL)


def ranges(means: NDArray[np.float32]) -> NDArray[np.float32]:
    """Greatest range of any block (T, H, W) up to each frame (T)."""
    spread = np.maximum.accumulate(means) - np.minimum.accumulate(means)
    return np.asarray(spread.max((1, 2)))
