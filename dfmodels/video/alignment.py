"""Faces turned and scaled so that eyes, nose and mouth lie at fixed places."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfmodels.video.faces import check_margin, opencv
from dfmodels.video.sampling import check_count

__all__ = ["align_face"]

# ArcFace's points in pixels of a crop of side 112, x shifted by 8: eyes, nose tip, corners of the mouth
TEMPLATE = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
TEMPLATE_SIDE = 112


def align_face(image: NDArray[np.uint8], landmarks: NDArray[Any], size: int, scale: float = 1.3) -> NDArray[np.uint8]:
    """The face around five points, upright and of fixed size.

    Of all rotations with one scale and a translation the one that brings the landmarks nearest, by the sum of squared
    distances, to size * ((template / 112 - 1/2) / scale + 1/2). Bilinear, zero beyond the image.

    The targets belong to the points that LSDA takes, 37, 44, 30, 49 and 55 of dlib's: upper eyelids, nose tip, and the
    lips beside the corners of the mouth. From a detector that gives centres of the eyes and corners of the mouth, as
    YuNet does, the crop comes out close to LSDA's, not equal.

    Args:
        image: (H, W, 3), uint8.
        landmarks: x and y (5, 2) in pixels: the eye on the left of the picture, the one on the right, the nose tip, the
            corner of the mouth on the left, the one on the right.
        size: side of the crop in pixels.
        scale: side of the crop in sides of the template, above 0.

    Returns:
        (size, size, 3), uint8.

    Raises:
        ValueError: an argument other than the ones above, or landmarks that all lie in one place.
        ImportError: OpenCV is not installed.

    Source: arXiv:2311.11278 and its release.
    """
    check_count("size", size)
    check_margin(scale, "scale")
    points = np.asarray(landmarks, np.float64)
    if points.shape != (5, 2) or not can_align(points):
        raise ValueError(f"landmarks must be five finite points (5, 2), not all in one place, got {points.tolist()}")
    transform = similarity(points, size * ((TEMPLATE / TEMPLATE_SIDE - 0.5) / scale + 0.5))
    return np.asarray(opencv().warpAffine(image, transform, (size, size)), np.uint8)


def crop_corners(landmarks: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """Where the corners (4, 2) of the crop of `align_face` lie in the image, in pixels; not finite where nowhere."""
    forward = similarity(landmarks, (TEMPLATE / TEMPLATE_SIDE - 0.5) / scale + 0.5)
    corners = np.array([(0, 0), (1, 0), (0, 1), (1, 1)], np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        # the inverse of a turn with a scale is its transpose over the scale squared
        return np.asarray((corners - forward[:, 2]) @ forward[:, :2] / np.square(forward[0, :2]).sum())


def can_align(points: NDArray[np.float64]) -> bool:
    """Whether points (5, 2) are known and tell a size."""
    return bool(np.isfinite(points).all() and np.ptp(points, axis=0).any())


def similarity(points: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix (2, 3) of the similarity transform from points to targets (N, 2) of least squared distances.

    With z = x + iy a similarity is z -> az + b, linear in complex a and b, so least squares has a closed form; a mirror
    image is none.
    """
    z, w = (xy[:, 0] + 1j * xy[:, 1] for xy in (points, targets))
    centred = z - z.mean()
    a = np.vdot(centred, w) / np.vdot(centred, centred)
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
