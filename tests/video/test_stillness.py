"""Clips that show a still picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dfmodels.synthetic import TalkingHeads
from dfmodels.video import is_still, read_frames
from tests.video.videos import cv2, write_video

LENGTH = 8


def photo() -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).normal(size=(120, 160, 3))
    image = cv2.GaussianBlur(noise, (0, 0), 4)
    return np.clip(128 + 50 * image / image.std(), 0, 255).astype(np.uint8)


def windows(frames: NDArray[np.uint8], step: int = 2) -> list[bool]:
    return [is_still(frames[at : at + LENGTH]) for at in range(0, len(frames) - LENGTH + 1, step)]


def heads(index: int) -> NDArray[np.uint8]:
    clips = TalkingHeads(4, num_frames=24, size=96, seed=3)
    return np.ascontiguousarray(clips.frames(index).permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize("frames", [1, 2, 8, 40])
def test_repeated_picture(frames: int) -> None:
    assert is_still(np.repeat(photo()[None], frames, 0))
    assert is_still(np.repeat(photo()[None, :5, :3], frames, 0))  # smaller than a block


def test_dithering_is_no_motion() -> None:
    dither = np.random.default_rng(1).integers(-2, 3, (LENGTH, 120, 160, 3))
    assert is_still(np.clip(photo() + dither, 0, 255).astype(np.uint8))


@pytest.mark.parametrize(("crf", "keys"), [(18, 12), (23, 12), (28, 250)])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_photo_as_a_video(tmp_path: Path, codec: str, crf: int, keys: int) -> None:
    options = {"x265-params": f"log-level=none:keyint={keys}"} if codec == "libx265" else {"g": str(keys)}
    path = write_video(tmp_path / "a.mp4", 40, lambda i: photo(), codec=codec, encoder={"crf": str(crf)} | options)
    still = windows(np.stack([frame.image for frame in read_frames(path)]))
    assert np.mean(still) > 0.6


def test_key_frame_is_no_motion_and_a_cut_neither() -> None:
    """One change of the whole picture, as between two photos, shows nothing that moves."""
    frames = np.repeat(photo()[None], LENGTH, 0)
    frames[3:] = 255 - frames[3:]
    assert is_still(frames)
    frames[5:] = 200
    assert not is_still(frames)
    assert not is_still(frames[:4])  # too short to tell a key frame from motion


@pytest.mark.parametrize("index", range(4))
def test_people_are_not_still(tmp_path: Path, index: int) -> None:
    frames = heads(index)
    assert not any(windows(frames))
    path = write_video(tmp_path / "a.mp4", len(frames), lambda i: frames[i], encoder={"crf": "30"})
    assert not any(windows(np.stack([frame.image for frame in read_frames(path)])))


def test_small_motion_is_seen() -> None:
    frames = np.repeat(photo()[None], LENGTH, 0)
    for i in range(LENGTH):
        frames[i, 40:56, 60:76] = np.roll(photo(), i, 1)[40:56, 60:76]
    assert not is_still(frames)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((8, 4, 4), np.uint8),
        np.zeros((8, 4, 4, 1), np.uint8),
        np.zeros((0, 4, 4, 3), np.uint8),
        np.zeros((8, 4, 4, 3), np.float32),
    ],
)
def test_errors(frames: NDArray[np.generic]) -> None:
    with pytest.raises(ValueError, match=r"frames must be \(T, H, W, 3\) uint8 and not empty, got \("):
        is_still(frames)  # type: ignore[arg-type]
