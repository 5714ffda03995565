"""A small painter on OpenCV: layers, curves and strokes.

Positions are in head units: x to the right, y down, the origin between the eyes and the nose, and the crop reaching
from -1 to 1 on both axes. Everything is drawn from curves and small random grids in these units, so a picture looks the
same at every size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfmodels.optional import require

Array = NDArray[np.float32]

EXTENT = 1.25  # half-width of a layer in head units; the margin keeps its border out of the crop while the head moves


def load_cv2() -> Any:
    """OpenCV, which only the drawing needs.

    Raises:
        ImportError: OpenCV is not installed.
    """
    return require("cv2", "drawing talking heads")


def f32(values: ArrayLike) -> Array:
    return np.asarray(values, dtype=np.float32)


def spline(points: Array, closed: bool = False, samples: int = 6) -> Array:
    """Catmull-Rom curve through points (N, 2)."""
    if closed:
        p = np.concatenate((points[-1:], points, points[:2]))
    else:
        p = np.concatenate((2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]))
    u = f32(np.arange(samples) / samples)[None, :, None]
    a, b, c, d = (q[:, None] for q in (p[:-3], p[1:-2], p[2:-1], p[3:]))
    curve = 0.5 * (2 * b + (c - a) * u + (2 * a - 5 * b + 4 * c - d) * u**2 + (3 * b - a - 3 * c + d) * u**3)
    path = f32(curve.reshape(-1, 2))
    return path if closed else np.concatenate((path, points[-1:]))


@lru_cache(maxsize=16)
def _circle(samples: int) -> Array:
    angle = np.linspace(0, 2 * np.pi, samples, endpoint=False)
    return np.stack((np.cos(angle), np.sin(angle)), axis=1).astype(np.float32)


def ellipse(x: float, y: float, rx: float, ry: float, samples: int = 24) -> Array:
    return _circle(samples) * f32((rx, ry)) + f32((x, y))


def oval(x: Array, y: Array, cx: float, cy: float, rx: float, ry: float) -> Array:
    """Coverage of a feathered ellipse at the positions x (1, W), y (H, 1)."""
    r = np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2)
    mask = np.clip((1.14 - r) / 0.30, 0, 1).astype(np.float32)
    mask *= mask * (3 - 2 * mask)
    return mask


def mirrored(points: Array) -> Array:
    return points * f32((-1, 1))


def both(points: Array) -> Array:
    """A curve (P, 2) of the right side and its mirror image (2, P, 2)."""
    return np.stack((points, mirrored(points)))


def resample(points: Array, count: int) -> Array:
    """A polyline (P, 2) at `count` evenly spaced values of its parameter."""
    where, knots = np.linspace(0, 1, count), np.linspace(0, 1, len(points))
    return f32(np.stack([np.interp(where, knots, points[:, axis]) for axis in (0, 1)], axis=1))


def strands(rng: np.random.Generator, start: Array, end: Array, bend: ArrayLike, count: int, spread: float) -> Array:
    """Curved hairs (count, 9, 2) from one polyline to another; the middle of each is pushed by `bend`."""
    s = np.sort(rng.uniform(0, 1, count))
    knots = np.linspace(0, 1, len(start))
    a = np.stack([np.interp(s, knots, start[:, i]) for i in (0, 1)], axis=1)
    s = np.clip(s + rng.normal(0, spread, count), 0, 1)
    b = np.stack([np.interp(s, np.linspace(0, 1, len(end)), end[:, i]) for i in (0, 1)], axis=1)
    reach = rng.uniform(0.55, 1.0, (count, 1))
    begin = rng.uniform(0.0, 0.35, (count, 1))
    m = 0.5 * (a + b) + np.asarray(bend) * rng.uniform(0.6, 1.2, (count, 1))
    u = np.linspace(0, 1, 9)[None, :, None]
    u = begin[:, None] + u * (reach - begin)[:, None]
    curves = (1 - u) ** 2 * a[:, None] + 2 * u * (1 - u) * m[:, None] + u**2 * b[:, None]
    return f32(curves)


class Layer:
    """A picture with coverage over the square from -EXTENT to EXTENT, painted back to front."""

    def __init__(self, cv2: Any, scale: float, ground: Array) -> None:
        self.cv2, self.scale = cv2, scale
        self.side = int(np.ceil(2 * EXTENT * scale))
        self.rgb: Array = np.full((self.side, self.side, 3), ground, dtype=np.float32)
        self.alpha: Array = np.zeros((self.side, self.side), dtype=np.float32)

    def copy(self) -> Layer:
        """A layer to paint on with the same coverage."""
        out = copy(self)
        out.rgb = self.rgb.copy()
        return out

    def grid(self) -> tuple[Array, Array]:
        """Head units of the pixel centres: x (1, side), y (side, 1)."""
        axis = ((np.arange(self.side, dtype=np.float32) + 0.5) / self.scale - EXTENT).astype(np.float32)
        return axis[None, :], axis[:, None]

    def window(self, x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice]:
        """Rows and columns that hold a rectangle of pixels, clipped to the layer."""
        side = self.side
        left, top = min(max(math.floor(x0), 0), side), min(max(math.floor(y0), 0), side)
        right, bottom = min(max(math.ceil(x1) + 1, left), side), min(max(math.ceil(y1) + 1, top), side)
        return slice(top, bottom), slice(left, right)

    def blend(
        self, where: tuple[slice, slice], mask: Array, colour: Array, shade: Array | float = 1.0, solid: bool = False
    ) -> None:
        if colour.ndim == 3:
            colour = colour[where]
        if isinstance(shade, np.ndarray):
            colour = colour * shade[where][..., None]
        elif shade != 1:
            colour = colour * shade
        region = self.rgb[where]
        region += mask[..., None] * (colour - region)
        if solid:
            cover = self.alpha[where]
            cover += mask * (1 - cover)

    def mask(
        self, shapes: Sequence[Array] | Array, blur: float = 0.0, width: float = 0.0
    ) -> tuple[tuple[slice, slice], Array]:
        """Anti-aliased coverage of the union of filled polygons, or of strokes where width > 0."""
        scale = self.scale
        thickness = max(1, round(width * scale))
        every = shapes.reshape(-1, 2) if isinstance(shapes, np.ndarray) else np.concatenate(shapes)
        (x0, y0), (x1, y1) = ((c + EXTENT) * scale - 0.5 for c in (every.min(0), every.max(0)))
        pad = 2 + thickness + 3 * blur * scale
        where = self.window(x0 - pad, y0 - pad, x1 + pad, y1 + pad)
        top, left = where[0].start, where[1].start
        out = np.zeros((where[0].stop - top, where[1].stop - left), dtype=np.uint8)
        if out.size == 0:
            return where, out.astype(np.float32)
        # OpenCV takes fixed-point positions with six binary places.
        origin = f32((EXTENT * scale - 0.5 - left, EXTENT * scale - 0.5 - top)) * 64
        if isinstance(shapes, np.ndarray):
            fixed = list(np.rint(shapes * (64 * scale) + origin).astype(np.int32))
        else:
            fixed = [np.rint(shape * (64 * scale) + origin).astype(np.int32) for shape in shapes]
        if width > 0:
            self.cv2.polylines(out, fixed, False, 255, thickness, self.cv2.LINE_AA, 6)
        else:
            for polygon in fixed:
                self.cv2.fillPoly(out, [polygon], 255, self.cv2.LINE_AA, 6)
        weight = min(1.0, width * scale / thickness) if width > 0 else 1.0
        soft = out.astype(np.float32)
        soft *= np.float32(weight / 255)
        if blur > 0:
            soft = self.cv2.GaussianBlur(soft, (0, 0), max(blur * scale, 0.3))
        return where, soft

    def paint(
        self,
        shapes: Sequence[Array] | Array,
        colour: Array,
        opacity: float = 1.0,
        *,
        shade: Array | float = 1.0,
        blur: float = 0.0,
        width: float = 0.0,
        inside: Array | None = None,
        solid: bool = False,
    ) -> None:
        """Blend a colour over polygons (or over strokes where width > 0).

        Args:
            shapes: curves (P, 2), as a list or stacked (N, P, 2).
            colour: (3,), or a picture of the layer's size.
            opacity: 0 to 1.
            shade: brightness to multiply with, a number or a map of the layer's size.
            blur: standard deviation of the soft edge.
            width: of the stroke.
            inside: coverage of the layer's size to stay within.
            solid: whether the layer's own coverage grows.
        """
        where, mask = self.mask(shapes, blur, width)
        if opacity != 1:
            mask = mask * np.float32(opacity)
        if inside is not None:
            mask = mask * inside[where]
        self.blend(where, mask, colour, shade, solid)

    def spot(
        self, x: float, y: float, rx: float, ry: float, colour: Array, opacity: float, inside: Array | None = None
    ) -> None:
        """Blend a colour over a Gaussian spot."""
        cx, cy = (x + EXTENT) * self.scale - 0.5, (y + EXTENT) * self.scale - 0.5
        sx, sy = rx * self.scale, ry * self.scale
        where = self.window(cx - 2.6 * sx, cy - 2.6 * sy, cx + 2.6 * sx, cy + 2.6 * sy)
        across = np.exp(-0.5 * ((np.arange(where[1].start, where[1].stop) - cx) / sx) ** 2)
        down = np.exp(-0.5 * ((np.arange(where[0].start, where[0].stop) - cy) / sy) ** 2)
        mask = (opacity * down[:, None] * across[None, :]).astype(np.float32)
        if inside is not None:
            mask *= inside[where]
        self.blend(where, mask, colour)

    def full(self, shapes: Sequence[Array], blur: float = 0.0) -> Array:
        """Coverage of polygons over the whole layer."""
        out = np.zeros((self.side, self.side), dtype=np.float32)
        where, mask = self.mask(shapes, blur)
        out[where] = mask
        return out
