"""What is drawn on the images of a moment."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dfmodels.optional import require

SMALLEST = 320  # pixels, of the longer side of an image with a frame in it


def overlay(crop: NDArray[np.uint8], values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A map (H, W) in [0, 1] in colours over its crop (H, W, 3) in grey, uint8 RGB; what is bright hides more."""
    cv2 = require("cv2", "drawing heat maps")
    grey = crop.mean(-1, keepdims=True)
    colours = cv2.applyColorMap((255 * values).round().astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    part = (0.25 + 0.6 * values)[..., None]
    return (grey * (1 - part) + colours * part).round().astype(np.uint8)


def boxed(image: NDArray[np.uint8], box: Sequence[float]) -> NDArray[np.uint8]:
    """A copy of an image (H, W, 3), enlarged if it is small, with a frame, light inside dark, around x0, y0, x1, y1."""
    cv2 = require("cv2", "drawing boxes")
    image = np.ascontiguousarray(image).copy()
    x0, y0, x1, y1 = (round(value) for value in box)
    side = max(image.shape[:2])
    if side < SMALLEST:  # enlarged when shown, and the lines with it
        scale = SMALLEST / side
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        x0, y0, x1, y1 = (round(value * scale) for value in box)
    thick = max(2, round(max(image.shape[:2]) / 200))
    cv2.rectangle(image, (x0, y0), (x1 - 1, y1 - 1), (0, 0, 0), 2 * thick)
    cv2.rectangle(image, (x0, y0), (x1 - 1, y1 - 1), (255, 214, 10), thick)
    return image
