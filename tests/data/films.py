"""Films of drawn people, and the boxes of their faces, for the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfmodels.data.index import Video
from tests.video.videos import cv2, draw_person, scene, write_image, write_video

HEIGHT, WIDTH, SIDE = 120, 160, 36


def place(index: int) -> tuple[float, float]:
    """Centre of the face in a frame: it sways, so that smoothed boxes are others than those found."""
    return 70 + 12 * np.sin(index * 1.3), 50 + 6 * np.cos(index * 0.9)


def picture(index: int, shirt: tuple[int, int, int] = (180, 40, 40)) -> NDArray[np.uint8]:
    image = scene(1, HEIGHT, WIDTH)
    draw_person(image, *place(index), SIDE, shirt)
    return image


def face(index: int) -> list[float]:
    """Fifteen numbers of a boxes file: the box, its score, and landmarks of a head that tilts."""
    x, y = place(index)
    half = SIDE / 2
    tilt = 0.2 * np.sin(index)
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    points = np.array([(-0.18, -0.1), (0.18, -0.1), (0, 0.1), (-0.15, 0.28), (0.15, 0.28)]) * SIDE
    return [x - half, y - half, x + half, y + half + 3, 0.9, *(points @ turn.T + (x, y)).ravel()]


def write_boxes(path: Path, frames: int, hidden: tuple[int, ...] = ()) -> str:
    """A boxes file of the face but for the frames that do not show it; gives the specification for `faces`."""
    path.write_text(json.dumps({str(i): [face(i)] for i in range(frames) if i not in hidden}))
    return f"boxes:{path}"


def write_film(path: Path, frames: int = 40, **options: Any) -> Path:
    return write_video(path, frames, picture, **options)


def write_folder(path: Path, frames: int = 40) -> Path:
    """The frames of the film as images."""
    path.mkdir(parents=True)
    for i in range(frames):
        write_image(path / f"{i}.png", cv2.cvtColor(picture(i), cv2.COLOR_RGB2BGR))
    return path


def video(path: Path, label: int = 0, split: str = "train") -> Video:
    return Video(path, label, split, "films", "real" if label == 0 else "fake", path.stem)
