"""Frames to a film."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfmodels.optional import require


def write_video(path: Path, frames: NDArray[np.uint8], *, fps: int = 25, crf: int = 23) -> None:
    """Encode frames as H.264 in an MP4.

    The same frames make the same bytes: one thread encodes, since with several the bytes depend on their number, and
    x264 does without the approximations that it makes on each kind of CPU (of its macroblock tree), which were seen to
    differ from run to run on one machine.

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
        options = {"crf": str(crf), "threads": "1", "x264-params": "cpu-independent=1"}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())
