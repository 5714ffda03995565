"""Videos made for the tests."""

from __future__ import annotations

import wave
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

av = pytest.importorskip("av")
cv2 = pytest.importorskip("cv2")

Picture = Callable[[int], NDArray[np.uint8]]
STEP = 10  # grey levels from one frame of a ramp to the next


def ramp(size: tuple[int, int] = (48, 64)) -> Picture:
    """Frames of one grey level each, which tells them apart."""
    return lambda index: np.full((*size, 3), index * STEP % 250, np.uint8)


def noise(index: int) -> NDArray[np.uint8]:
    """Frames that fill a file, so that a cut falls between them."""
    return np.random.default_rng(index).integers(0, 255, (48, 64, 3), dtype=np.uint8)


def moving(index: int) -> NDArray[np.uint8]:
    """A texture that drifts under a bar that moves otherwise: every frame leans on the ones before it."""
    texture = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    image = np.roll(texture, (index * 3, index * 2), (0, 1))
    image[10:30, index * 5 % 44 : index * 5 % 44 + 20] = index * 7 % 250
    return image


def corners(index: int) -> NDArray[np.uint8]:
    """Red top left and blue top right, which tells turned and mirrored frames apart."""
    image = np.full((48, 80, 3), 128, np.uint8)
    image[:16, :16] = (255, 0, 0)
    image[:16, -16:] = (0, 0, 255)
    return image


def cartoon(height: int, width: int, x: float, y: float, side: float) -> NDArray[np.uint8]:
    """A drawn face that the frontal cascade accepts, about 1.2 * side wide around (x, y)."""
    image = np.full((height, width, 3), 120, np.uint8)

    def ellipse(dx: float, dy: float, a: float, b: float, colour: tuple[int, int, int]) -> None:
        centre, axes = (int(x + dx * side), int(y + dy * side)), (max(1, int(a * side)), max(1, int(b * side)))
        cv2.ellipse(image, centre, axes, 0, 0, 360, colour, -1, cv2.LINE_AA)

    ellipse(0, -0.1, 0.52, 0.68, (50, 35, 25))
    ellipse(0, 0, 0.45, 0.6, (220, 180, 150))
    for k in (-1, 1):
        ellipse(0.19 * k, -0.13, 0.12, 0.07, (120, 85, 65))
        ellipse(0.19 * k, -0.12, 0.09, 0.04, (240, 240, 240))
        ellipse(0.19 * k, -0.12, 0.04, 0.04, (30, 20, 20))
        ellipse(0.19 * k, -0.22, 0.12, 0.025, (50, 35, 25))
    ellipse(0, 0.08, 0.05, 0.13, (235, 200, 170))
    ellipse(0, 0.19, 0.07, 0.025, (150, 100, 80))
    ellipse(0, 0.35, 0.17, 0.05, (150, 60, 60))
    return np.asarray(cv2.GaussianBlur(image, (0, 0), max(0.5, side * 0.015)), np.uint8)


def scene(seed: int = 0, height: int = 180, width: int = 320) -> NDArray[np.uint8]:
    """A background that differs from place to place and from seed to seed."""
    small = np.random.default_rng(seed).integers(60, 200, (5, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def draw_person(
    image: NDArray[np.uint8], x: float, y: float, side: float, shirt: tuple[int, int, int], seed: int = 0
) -> list[float]:
    """Draw a head of `side` pixels around (x, y) with a shirt below, and give the box of the face."""
    rng = np.random.default_rng([seed, *shirt])
    skin, hair = ((np.array(base) + rng.integers(-25, 25, 3)).tolist() for base in ((200, 160, 135), (60, 50, 40)))
    features = rng.uniform(-0.04, 0.04, 6)

    def ellipse(dx: float, dy: float, a: float, b: float, colour: Sequence[int]) -> None:
        centre, axes = (
            (round(16 * (x + dx * side)), round(16 * (y + dy * side))),
            (round(16 * a * side), round(16 * b * side)),
        )
        cv2.ellipse(image, centre, axes, 0, 0, 360, tuple(colour), -1, cv2.LINE_AA, 4)

    ellipse(0, 1.25, 0.95, 0.75, shirt)
    ellipse(0, -0.12, 0.48, 0.55, hair)
    ellipse(0, 0.02, 0.4, 0.5, skin)
    for k in (-1, 1):
        ellipse((0.18 + features[0]) * k, -0.1 + features[1], 0.09, 0.05, (240, 240, 240))
        ellipse((0.18 + features[0]) * k, -0.1 + features[1], 0.04, 0.045, (30, 20, 20))
        ellipse((0.18 + features[0]) * k, -0.2 + features[2], 0.11, 0.025, hair)
    ellipse(0, 0.1 + features[3], 0.05, 0.08, [int(0.85 * value) for value in skin])
    ellipse(0, 0.28 + features[4], 0.15 + features[5], 0.04, (150, 60, 60))
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


def write_video(
    path: Path,
    frames: int = 20,
    picture: Picture | None = None,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    pts: Sequence[int] | None = None,
    sound: bool = False,
    encoder: Mapping[str, str] | None = None,
    **container_options: str,
) -> Path:
    """A video of 25 frames per second; `pts` in 25ths of a second, `encoder` has options of the codec."""
    picture = picture or ramp()
    height, width = picture(0).shape[:2]
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream(codec, rate=25, options=dict(encoder or {}))
        stream.height, stream.width, stream.pix_fmt = height, width, pixels
        voice = container.add_stream("aac", rate=16000) if sound else None
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
            frame.pts, frame.time_base = (pts[i] if pts else i), Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if voice is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 16000 * frames // 25), np.float32), "fltp", "mono")
            silence.sample_rate = 16000
            container.mux(voice.encode(silence))
            container.mux(voice.encode(None))
    return path


def turn(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write a display matrix into the track header of an mp4 file: (x, y) is shown at (a x + c y, b x + d y)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: the matrix follows 40 bytes of times, layer and volume
    one = 1 << 16

    def matrix(*values: int) -> bytes:
        return b"".join(value.to_bytes(4, "big", signed=True) for value in values)

    assert data[at : at + 36] == matrix(one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    data[at : at + 36] = matrix(a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def packets(path: Path) -> list[tuple[int, int]]:
    """Position and length of every packet of the video in its file."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def write_sound(path: Path) -> Path:
    """One second of silence: wav, or aac in m4a."""
    if path.suffix == ".wav":
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16000)
            file.writeframes(bytes(32000))
        return path
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def cut(path: Path, share: float) -> Path:
    """The first part of a file, beside it."""
    data = path.read_bytes()
    target = path.with_name("cut_" + path.name)
    target.write_bytes(data[: int(len(data) * share)])
    return target


def write_image(path: Path, image: NDArray[np.generic]) -> Path:
    """An image with channels in the order of OpenCV."""
    path.write_bytes(cv2.imencode(path.suffix.lower(), image)[1].tobytes())
    return path
