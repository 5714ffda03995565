"""Frames to a film."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfmodels.optional import require


def write_video(path: Path, frames: NDArray[np.uint8], *, fps: int = 25, crf: int = 23) -> None:
    """Encode frames as H.264 in an MP4.

    One thread encodes, since with several the bytes depend on their number.

    Args:
        path: of the film.
        frames: (T, H, W, 3), RGB, with H and W even.
        fps: frames per second.
        crf: constant rate factor of x264: 0 loses nothing, 51 most.

    Raises:
        ImportError: PyAV is missing.
    """
    av = require("av", "encoding videos")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": str(crf), "threads": "1"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())
