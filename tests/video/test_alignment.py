"""Aligned face crops: the targets, the transform, and the pixels that come out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmodels.video import align_face
from dfmodels.video.alignment import similarity
from tests.strategies import seeds
from tests.video.videos import cv2, noise

# of a crop of side 1 with scale 1.3
TARGETS = np.array([(0.37840, 0.47044), (0.62041, 0.46910), (0.50017, 0.60808), (0.40075, 0.74976), (0.60117, 0.74865)])


def turned(points: np.ndarray, angle: float, scale: float, shift: np.ndarray) -> np.ndarray:
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    return points @ np.array([[cos, sin], [-sin, cos]]) + shift


def umeyama(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Umeyama's solution by singular values, IEEE PAMI 13 (1991)."""
    p, q = points - points.mean(0), targets - targets.mean(0)
    u, d, vt = np.linalg.svd(q.T @ p)
    sign = np.array([1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    matrix = (d * sign).sum() / (p**2).sum() * (u * sign) @ vt
    return np.hstack([matrix, (targets.mean(0) - matrix @ points.mean(0))[:, None]])


@given(seed=seeds(), count=st.integers(2, 9))
def test_similarity_is_umeyamas(seed: int, count: int) -> None:
    points, targets = np.random.default_rng(seed).normal(0, 50, (2, count, 2))
    np.testing.assert_allclose(similarity(points, targets), umeyama(points, targets), rtol=1e-8, atol=1e-8)


@given(seed=seeds(), angle=st.floats(-3, 3), scale=st.floats(0.1, 10))
def test_similarity_finds_an_exact_one(seed: int, angle: float, scale: float) -> None:
    generator = np.random.default_rng(seed)
    points, shift = generator.normal(0, 50, (5, 2)), generator.normal(0, 90, 2)
    matrix = similarity(points, turned(points, angle, scale, shift))
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    expected = np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]]])
    np.testing.assert_allclose(matrix, expected, rtol=1e-8, atol=1e-8)


def test_similarity_does_not_mirror() -> None:
    points = np.random.default_rng(0).normal(0, 9, (5, 2))
    assert np.linalg.det(similarity(points, points * (-1, 1))[:, :2]) > 0


@pytest.mark.parametrize("angle", [0.0, 0.4, -2.5])
def test_landmarks_come_to_the_targets(angle: float) -> None:
    size, scale = 256, 0.7  # the face is a little larger in the image than in the crop
    points = turned(TARGETS * size, angle, 1 / scale, np.array([0.0, 0.0]))
    points += (300, 250) - points.mean(0)
    image = np.zeros((500, 600, 3), np.uint8)
    for number, (x, y) in enumerate(points):
        spot = np.exp(-((np.arange(600) - x) ** 2 + (np.arange(500)[:, None] - y) ** 2) / 18)
        image[..., number % 3] = np.maximum(image[..., number % 3], (250 * spot).astype(np.uint8))
    crop = align_face(image, points, size)
    assert (crop.shape, crop.dtype) == ((size, size, 3), np.uint8)
    for number, target in enumerate(TARGETS * size):
        x, y = target.round().astype(int)
        part = crop[y - 8 : y + 9, x - 8 : x + 9, number % 3].astype(float)
        centre = np.array([(part * np.arange(-8, 9)).sum(), (part * np.arange(-8, 9)[:, None]).sum()]) / part.sum()
        np.testing.assert_allclose((x + centre[0], y + centre[1]), target, atol=0.1)


def test_a_crop_in_place_is_the_image() -> None:
    image = cv2.resize(noise(0), (64, 64))
    crop = align_face(image, TARGETS * 64, 64)
    assert np.abs(crop.astype(int) - image).max() <= 2  # the targets are given to five digits
    # A larger scale shows more around the face, by the same points.
    wide = align_face(image, TARGETS * 64, 64, scale=2.6)
    assert (wide[:15] == 0).all()
    np.testing.assert_allclose(wide[17:47, 17:47].mean(), image.mean(), atol=5)


def test_zero_beyond_the_image() -> None:
    image = np.full((40, 40, 3), 200, np.uint8)
    crop = align_face(image, TARGETS * 40 + (20, 0), 40)
    assert (crop[:, :19] == 200).all()
    assert (crop[:, 21:] == 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (TARGETS[:4], 8),
            r"landmarks must be five finite points \(5, 2\), not all in one place, got \[\[0.3784, 0.47",
        ),
        ((np.ones((5, 2)), 8), "not all in one place"),
        ((TARGETS * np.nan, 8), "finite"),
        ((TARGETS, 0), "size must be a whole number of at least 1, got 0"),
        ((TARGETS, 8, 0.0), "scale must be a finite number above 0, got 0.0"),
    ],
)
def test_errors(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        align_face(noise(0), *arguments)
