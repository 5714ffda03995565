"""Labelled clips of stylised talking heads, rendered from seeds.

The clips train and test temporal detectors without any download. A fake clip flickers the way frame-wise face swaps do:
the face is synthesised anew in every frame, so its place, colours, sharpness and texture disagree from one frame to the
next.

Principle: one marginal distribution, two temporal laws. *Every* frame, real or fake, passes through the same
re-synthesis of the face region (warp, softening, colour, texture, feathered mask), steered by a vector z_t of standard
normal numbers:

    real   z_t = z_0                                          one draw, held over the clip and moving with the head
    fake   z_t = sqrt(1 - flicker^2) z_0 + flicker e_t        e_t drawn anew for every frame after the first

Both laws give each z_t the standard normal distribution, and all else (identity, light, background, motion, noise,
compression) is drawn without looking at the label. Hence a single frame holds no evidence about the label: the first
frame of a fake clip is the very picture that the real clip of the same seed begins with, and any other frame has the
same distribution. Only several frames together tell real from fake.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from dfmodels.synthetic._canvas import EXTENT, Array, load_cv2, oval
from dfmodels.synthetic._identity import Identity, Light
from dfmodels.synthetic._portrait import Portrait, background

_COARSE, _FINE = 10, 26  # sides of the grids of resampled texture
_SCALARS = 14
_LATENTS = _SCALARS + _COARSE**2 + _FINE**2

# One stream of random numbers per purpose: adding a draw to one leaves the others as they were.
_IDENTITY, _SCENE, _BACKGROUND, _CLOTHES, _MOTION, _HELD, _FRESH, _SENSOR, _CLIPS = range(101, 110)


@dataclass(frozen=True)
class TalkingHeadConfig:
    """How clips move, flicker and are recorded; nothing here depends on the label.

    Strengths are standard deviations of normal draws. Ranges (low, high) are drawn from uniformly, once per clip.

    Attributes:
        fps: frames per second; a lower rate shows more motion between frames.
        motion: range of the factor on head sway, turns and zoom.
        flicker: 0 to 1, how much of each fake frame's re-synthesis is drawn anew; at 0 fake clips equal real ones.
        shift: misplacement of the re-synthesised face in fractions of the frame's width (0.01 is 0.64 pixels at 64).
        stretch: relative error of its size.
        roll: error of its in-plane rotation, degrees.
        colour: relative colour error per channel, and of the light's slope across the face.
        texture: relative strength of the re-synthesised skin detail.
        softness: 0 to 1, greatest loss of sharpness.
        mask: relative error of the blending mask's place and size.
        noise: range of the sensor noise's standard deviation, 8-bit levels.
        quality: range of the JPEG quality each frame is stored with, None for no compression.
        supersample: pixels drawn per output pixel and axis.
    """

    fps: float = 25.0
    motion: tuple[float, float] = (0.3, 1.3)
    flicker: float = 1.0
    shift: float = 0.009
    stretch: float = 0.012
    roll: float = 0.9
    colour: float = 0.020
    texture: float = 0.022
    softness: float = 0.6
    mask: float = 0.04
    noise: tuple[float, float] = (0.5, 4.0)
    quality: tuple[int, int] | None = (60, 95)
    supersample: int = 2

    def __post_init__(self) -> None:
        if not self.fps > 0:
            raise ValueError(f"fps must be positive, got {self.fps}")
        for name in ("flicker", "softness"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        for name in ("stretch", "mask"):
            if not 0 <= getattr(self, name) <= 0.25:
                raise ValueError(f"{name} must lie in [0, 0.25], got {getattr(self, name)}")
        for name in ("shift", "roll", "colour", "texture"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {getattr(self, name)}")
        for name in ("motion", "noise"):
            low, high = getattr(self, name)
            if not 0 <= low <= high < math.inf:
                raise ValueError(f"{name} must be (low, high) with 0 <= low <= high, got {(low, high)}")
        if self.quality is not None and not 1 <= self.quality[0] <= self.quality[1] <= 100:
            raise ValueError(f"quality must be (low, high) with 1 <= low <= high <= 100 or None, got {self.quality}")
        if self.supersample < 1:
            raise ValueError(f"supersample must be at least 1, got {self.supersample}")


DEFAULT_CONFIG = TalkingHeadConfig()


def render_clip(
    identity: int,
    seed: int,
    fake: bool,
    *,
    num_frames: int = 8,
    size: int = 64,
    config: TalkingHeadConfig = DEFAULT_CONFIG,
) -> NDArray[np.uint8]:
    """Render a talking head, framed like a face crop.

    The arguments decide every pixel. A shorter clip is the beginning of a longer one; other sizes show the same scene.

    Args:
        identity: who is shown: head shape, skin, hair, features.
        seed: everything else: light, background, clothes, motion, re-synthesis, noise, compression.
        fake: whether the face is re-synthesised anew in every frame.
        num_frames: T, at least 1.
        size: H and W, at least 16.
        config: strengths and ranges.

    Returns:
        Frames (T, H, W, 3), RGB.

    Raises:
        ValueError: a negative identity or seed, or a size or length out of range.
        ImportError: OpenCV is missing.
    """
    for name, value, least in (
        ("identity", identity, 0),
        ("seed", seed, 0),
        ("num_frames", num_frames, 1),
        ("size", size, 16),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    return Scene(identity, seed, size, config).render(fake, num_frames)


class TalkingHeads(Dataset[tuple[Tensor, int]]):
    """Rendered clips with their labels, 0 real and 1 fake.

    Item i is fake for odd i, so labels are balanced. Items 2n and 2n + 1 show the same identity in different scenes.
    Data sets whose ranges of identities do not overlap have no identity in common.

    Items are a clip (T, 3, H, W), float32 in [0, 1], and its label. Clips are rendered when asked for; `render_all`
    renders and keeps them.

    Args:
        num_clips: number of items.
        first_identity: identities first_identity, ..., first_identity + num_identities - 1 appear.
        num_identities: None for one per pair of clips.
        seed: decides the clips of given identities.
        num_frames: T.
        size: H and W.
        config: strengths and ranges of the clips.
        frame_steps: every clip shows each n-th frame of its motion, n drawn from these for each clip; several values
            make a detector ready for videos that it samples sparsely.

    Raises:
        ValueError: a count out of range.
    """

    def __init__(
        self,
        num_clips: int,
        *,
        first_identity: int = 0,
        num_identities: int | None = None,
        seed: int = 0,
        num_frames: int = 8,
        size: int = 64,
        config: TalkingHeadConfig = DEFAULT_CONFIG,
        frame_steps: Sequence[int] = (1,),
    ) -> None:
        if num_identities is None:
            num_identities = max(1, (num_clips + 1) // 2)
        limits = (
            ("num_clips", num_clips, 1),
            ("first_identity", first_identity, 0),
            ("num_identities", num_identities, 1),
            ("seed", seed, 0),
            ("num_frames", num_frames, 1),
            ("size", size, 16),
        )
        for name, value, least in limits:
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if not frame_steps or min(frame_steps) < 1:
            raise ValueError(f"frame_steps must be one or more positive integers, got {tuple(frame_steps)}")
        self.num_clips, self.num_frames, self.size = num_clips, num_frames, size
        self.first_identity, self.num_identities = first_identity, num_identities
        self.seed, self.config, self.frame_steps = seed, config, tuple(frame_steps)
        self._kept: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return self.num_clips

    def label(self, index: int) -> int:
        """Label of an item, 0 real and 1 fake."""
        return self._check(index) % 2

    def identity(self, index: int) -> int:
        """Who is shown in an item."""
        return self.first_identity + (self._check(index) // 2) % self.num_identities

    @property
    def labels(self) -> Tensor:
        """Labels of all items (num_clips,), int64."""
        return torch.arange(self.num_clips) % 2

    def frames(self, index: int) -> Tensor:
        """Frames of an item (T, 3, H, W), uint8."""
        index = self._check(index)
        if index in self._kept:
            return self._kept[index]
        rng = _stream(_CLIPS, self.seed, index)
        clip_seed = int(rng.integers(2**62))
        step = self.frame_steps[int(rng.integers(len(self.frame_steps)))]
        clip = render_clip(
            self.identity(index),
            clip_seed,
            bool(self.label(index)),
            num_frames=self.num_frames,
            size=self.size,
            config=replace(self.config, fps=self.config.fps / step),
        )
        return torch.from_numpy(clip).permute(0, 3, 1, 2).contiguous()

    def render_all(self, progress: Callable[[int, int], None] | None = None) -> TalkingHeads:
        """Render every item and keep it, eight bits per value.

        Args:
            progress: called with the number of clips ready and the number of clips.

        Returns:
            The data set itself.
        """
        for index in range(self.num_clips):
            self._kept[index] = self.frames(index)
            if progress is not None:
                progress(index + 1, self.num_clips)
        return self

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.frames(index).to(torch.float32) / 255, self.label(index)

    def _check(self, index: int) -> int:
        # An IndexError past the end also ends iteration over the data set.
        if not -self.num_clips <= index < self.num_clips:
            raise IndexError(f"index must lie in [{-self.num_clips}, {self.num_clips}), got {index}")
        return index % self.num_clips


def _stream(purpose: int, *key: int) -> np.random.Generator:
    return np.random.default_rng([purpose, *key])


def _bound(z: float) -> float:
    """Keep a latent that scales something within three standard deviations."""
    return min(max(float(z), -3.0), 3.0)


def _phi(z: float) -> float:
    """Distribution function of the standard normal law: turns a latent into a uniform number."""
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def _waves(rng: np.random.Generator, time: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """A smooth random course, values mostly within [-1, 1], from three sine waves of low to high hertz."""
    pitch, phase = rng.uniform(low, high, 3), rng.uniform(0, 2 * np.pi, 3)
    weight = np.asarray((0.6, 0.35, 0.25))
    course: NDArray[np.float64] = np.sin(2 * np.pi * pitch * time[:, None] + phase) @ weight
    return course


@dataclass(frozen=True)
class Motion:
    """Pose and expression of every frame, (T,) each; lengths in head units, angles in radians."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    zoom: NDArray[np.float64]
    roll: NDArray[np.float64]
    yaw: NDArray[np.float64]
    pitch: NDArray[np.float64]
    camera_x: NDArray[np.float64]
    camera_y: NDArray[np.float64]
    blink: NDArray[np.float64]
    gaze_x: NDArray[np.float64]
    gaze_y: NDArray[np.float64]
    mouth: NDArray[np.float64]
    jaw: NDArray[np.float64]
    smile: NDArray[np.float64]
    brows: NDArray[np.float64]
    exposure: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator, num_frames: int, config: TalkingHeadConfig) -> Motion:
        time = np.arange(num_frames) / config.fps
        a = float(rng.uniform(*config.motion))
        hold = rng.normal(0, 1, 8)
        gaps = rng.uniform(1.2, 4.5, 24)
        lids = np.cumsum(gaps) - rng.uniform(0, 1.2)
        # Blinks repeat after two dozen; one takes about a quarter of a second.
        since = np.abs((time[:, None] % gaps.sum()) - lids)
        blink = np.clip(1.25 - since.min(1) / 0.10, 0, 1)
        glances = rng.normal(0, 0.35, (32, 2))
        beat = time / float(rng.uniform(0.6, 1.4)) + float(rng.uniform(0, 1))
        index = np.floor(beat).astype(int)
        ease = np.clip((beat - index) / 0.08, 0, 1)[:, None]
        gaze = (1 - ease) * glances[(index - 1) % 32] + ease * glances[index % 32]
        speech = _waves(rng, time, 1.8, 4.2)
        phrase = np.clip(0.65 + 0.6 * _waves(rng, time, 0.15, 0.5), 0.05, 1)
        wide = float(rng.uniform(0.55, 0.95))
        mouth = wide * phrase * np.clip(0.30 + 0.75 * speech, 0, 1)
        return cls(
            x=0.025 * hold[0] + 0.050 * a * _waves(rng, time, 0.15, 0.55),
            y=0.015 * hold[1] + 0.030 * a * _waves(rng, time, 0.2, 0.7),
            zoom=1.03 + np.clip(0.03 * hold[2], -0.06, 0.06) + 0.025 * a * _waves(rng, time, 0.1, 0.4),
            roll=np.radians(2.5 * hold[3] + 4.0 * a * _waves(rng, time, 0.15, 0.5)),
            yaw=0.09 * hold[4] + 0.14 * a * _waves(rng, time, 0.15, 0.5),
            pitch=0.04 * hold[5] + 0.08 * a * _waves(rng, time, 0.2, 0.7),
            camera_x=0.012 * a * _waves(rng, time, 0.3, 1.0),
            camera_y=0.012 * a * _waves(rng, time, 0.3, 1.0),
            blink=blink,
            gaze_x=gaze[:, 0],
            gaze_y=0.5 * gaze[:, 1],
            mouth=mouth,
            jaw=mouth,
            smile=np.clip(0.45 * hold[6] + 0.3 * _waves(rng, time, 0.1, 0.4), -1, 1),
            brows=0.025 * _waves(rng, time, 0.2, 0.8),
            exposure=1 + 0.012 * _waves(rng, time, 0.1, 0.5),
        )

    def expression(self, t: int) -> tuple[float, tuple[float, float], float, float]:
        """Blink, gaze, mouth and smile of a frame, the arguments of `Portrait.face`."""
        gaze = (float(self.gaze_x[t]), float(self.gaze_y[t]))
        return float(self.blink[t]), gaze, float(self.mouth[t]), float(self.smile[t])


Alteration = Callable[[Array, Motion, int], None]  # changes the head layer of a frame, see `Scene.render`


class Scene:
    """One identity in one recording; `render` plays it as a real or as a fake clip."""

    def __init__(self, identity: int, seed: int, size: int, config: TalkingHeadConfig) -> None:
        self.cv2, self.config, self.size, self.seed = load_cv2(), config, size, seed
        self.scale = 0.5 * size * config.supersample
        scene = _stream(_SCENE, seed)
        self.light = Light.draw(scene)
        self.contrast, self.gain = float(scene.uniform(0.90, 1.10)), float(scene.uniform(0.98, 1.16))
        self.noise = float(scene.uniform(*config.noise))
        self.quality = None if config.quality is None else int(scene.integers(config.quality[0], config.quality[1] + 1))
        self.portrait = self.portray(Identity.draw(_stream(_IDENTITY, identity)))
        # What is smooth anyway needs no supersampling: the background and the fields that bend the head.
        self.background = background(_stream(_BACKGROUND, seed), 0.5 * size)
        body = self.portrait.body
        self.body: Array = np.dstack((body.rgb * body.alpha[..., None], body.alpha))
        self.fields = self._fields()
        self._region()

    def portray(self, who: Identity) -> Portrait:
        """Anyone under the light and in the clothes of this scene."""
        return Portrait(who, self.light, _stream(_CLOTHES, self.seed), self.scale)

    def motion(self, num_frames: int) -> Motion:
        return Motion.draw(_stream(_MOTION, self.seed), num_frames, self.config)

    def _fields(self) -> Array:
        """Depth, and how much a place follows the brows and the jaw, at the scale of the frame (side, side, 3)."""
        x, y, scale = self.portrait.x, self.portrait.y, self.scale
        depth = self.cv2.GaussianBlur(self.portrait.depth, (0, 0), max(0.035 * scale, 0.3))
        brows = np.exp(-(((y + 0.29) / 0.10) ** 2)) * np.exp(-((x / 0.42) ** 4))
        ramp = np.clip((y - 0.40) / 0.22, 0, 1)
        jaw = ramp * ramp * (3 - 2 * ramp) * np.exp(-((x / 0.48) ** 4))
        fields = np.dstack((depth, brows, jaw))
        side = self.background.shape[0]
        out: Array = self.cv2.resize(fields, (side, side), interpolation=self.cv2.INTER_AREA)
        return out

    def _region(self) -> None:
        """Window of the head layer that re-synthesis touches."""
        side = self.portrait.head.side
        low = np.floor((np.asarray((-0.58, -0.62)) + EXTENT) * self.scale).astype(int)
        high = np.ceil((np.asarray((0.58, 0.86)) + EXTENT) * self.scale).astype(int)
        low, high = np.clip(low, 0, side), np.clip(high, 0, side)
        self.window = (slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])))
        self.near_x, self.near_y = self.portrait.x[:, self.window[1]], self.portrait.y[self.window[0]]

    # ------------------------------------------------------------------ re-synthesis

    def _latents(self, fake: bool, num_frames: int) -> list[NDArray[np.float64]]:
        held = _stream(_HELD, self.seed).standard_normal(_LATENTS)
        if not fake:
            return [held] * num_frames
        fresh = _stream(_FRESH, self.seed)
        mix = self.config.flicker
        keep = math.sqrt(1 - mix * mix)
        return [held] + [keep * held + mix * fresh.standard_normal(_LATENTS) for _ in range(num_frames - 1)]

    def _resynthesise(self, face: Array, z: NDArray[np.float64]) -> None:
        """Replace the face in a head layer by what a swap would put there, in place."""
        cv2, cfg, scale = self.cv2, self.config, self.scale
        patch = face[self.window]
        height, width = patch.shape[:2]
        cx, cy = 0.30 * cfg.mask * z[10], 0.12 + 0.30 * cfg.mask * z[11]
        rx, ry = 0.40 * (1 + cfg.mask * _bound(z[12])), 0.50 * (1 + cfg.mask * _bound(z[13]))
        mask = oval(self.near_x, self.near_y, cx, cy, rx, ry)
        # Place, size and rotation about the middle of the face; the frame is 2 * scale pixels wide.
        grow = 1 + cfg.stretch * _bound(z[2])
        turn = math.radians(cfg.roll * z[3])
        a, b = math.cos(turn) / grow, math.sin(turn) / grow
        mx = EXTENT * scale - 0.5 - self.window[1].start
        my = (EXTENT + 0.12) * scale - 0.5 - self.window[0].start
        dx, dy = (2 * scale * cfg.shift * z[0], 2 * scale * cfg.shift * z[1])
        inverse = np.asarray([[a, b, mx - a * (mx + dx) - b * (my + dy)], [-b, a, my + b * (mx + dx) - a * (my + dy)]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        swap: Array = cv2.warpAffine(patch, inverse, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        # Sharpness.
        soft = cv2.GaussianBlur(swap, (0, 0), max(0.022 * scale, 0.3))
        swap += np.float32(cfg.softness * _phi(z[9])) * (soft - swap)
        # Colour, slope of the light, texture.
        grids = z[_SCALARS:].astype(np.float32)
        coarse = cv2.resize(
            grids[: _COARSE**2].reshape(_COARSE, _COARSE), (width, height), interpolation=cv2.INTER_CUBIC
        )
        fine = cv2.resize(grids[_COARSE**2 :].reshape(_FINE, _FINE), (width, height), interpolation=cv2.INTER_CUBIC)
        slope = cfg.colour * (z[7] * self.near_x / 0.4 + z[8] * (self.near_y - 0.12) / 0.5)
        detail = (slope + cfg.texture * (0.7 * coarse + fine)).astype(np.float32)
        gain = (1 + cfg.colour * z[4:7]).astype(np.float32)
        swap *= gain * (1 + detail[..., None])
        patch += mask[..., None] * (swap - patch)

    # ------------------------------------------------------------------ frames

    def _pose(self, scale: float, x: float, y: float, zoom: float, roll: float) -> NDArray[np.float64]:
        """Matrix (2, 3) from a pixel of the frame to a pixel of a layer, both with `scale` pixels per head unit."""
        a, b = math.cos(roll) / zoom, math.sin(roll) / zoom
        axis = 0.5  # the head leans about a point near the chin
        # A pixel i lies at u = (i + 0.5) / scale - 1 and shows p = R^-1 (u - shift - axis) / zoom + axis of the layer.
        turn = np.asarray([[a, b], [-b, a]])
        move = turn @ np.asarray((-x - 1 + 0.5 / scale, -y - axis - 1 + 0.5 / scale)) + (0, axis)
        return np.column_stack((turn, (move + EXTENT) * scale - 0.5))

    def render(
        self,
        fake: bool,
        num_frames: int,
        *,
        motion: Motion | None = None,
        alter: Alteration | None = None,
    ) -> NDArray[np.uint8]:
        """Frames (T, H, W, 3), RGB.

        Args:
            fake: whether the face is re-synthesised anew in every frame.
            num_frames: T.
            motion: None for the scene's own.
            alter: given the head layer (side, side, 3), the motion and the number of a frame, changes the layer in
                place before everything that happens to it in a recording.
        """
        motion = motion or self.motion(num_frames)
        sensor = _stream(_SENSOR, self.seed)
        clip = np.empty((num_frames, self.size, self.size, 3), dtype=np.uint8)
        for t, z in enumerate(self._latents(fake, num_frames)):
            face = self.portrait.face(*motion.expression(t))
            if alter is not None:
                alter(face, motion, t)
            picture = self._picture(face, motion, t, z)
            picture += np.float32(self.noise) * sensor.standard_normal(picture.shape, dtype=np.float32)
            frame = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
            clip[t] = frame if self.quality is None else self._compress(frame)
        return clip

    def _picture(self, face: Array, motion: Motion, t: int, z: NDArray[np.float64]) -> Array:
        """A frame as the lens sees it (H, W, 3), 0 to 255, before noise; changes the head layer `face`."""
        cv2, scale, alpha = self.cv2, self.scale, self.portrait.head.alpha
        self._resynthesise(face, z)
        head = np.dstack((face * alpha[..., None], alpha))

        size, small = (self.size, self.size), 0.5 * self.size
        side = self.size * self.config.supersample
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cam_x, cam_y, x, y = (float(v[t]) for v in (motion.camera_x, motion.camera_y, motion.x, motion.y))
        zoom, roll, yaw, pitch = (float(v[t]) for v in (motion.zoom, motion.roll, motion.yaw, motion.pitch))
        out: Array = cv2.warpAffine(self.background, self._pose(small, cam_x, cam_y, 1, 0), size, flags=flags)
        place = (cam_x + 0.55 * x, cam_y + 0.4 * y, 0.5 + 0.5 * zoom, 0.15 * roll)
        self._cover(out, cv2.warpAffine(self.body, self._pose(scale, *place), (side, side), flags=flags))

        # Near parts move farther when the head turns; the mean depth of the face is the axis of the turn.
        place = (cam_x + x, cam_y + y, zoom, roll)
        near, brows, jaw = cv2.split(cv2.warpAffine(self.fields, self._pose(small, *place), size, flags=flags))
        near -= np.float32(0.30)
        bend_x = np.float32(-scale * math.sin(yaw)) * near
        bend_y = np.float32(-scale * math.sin(pitch)) * near + np.float32(scale * motion.brows[t]) * brows
        bend_y -= np.float32(0.055 * scale * motion.jaw[t]) * jaw
        m = self._pose(scale, *place).astype(np.float32)
        axis = np.arange(side, dtype=np.float32)
        map_x, map_y = cv2.resize(bend_x, (side, side)), cv2.resize(bend_y, (side, side))
        for bent, (across, down, origin) in ((map_x, m[0]), (map_y, m[1])):
            bent += across * axis[None, :]
            bent += down * axis[:, None] + origin
        self._cover(out, cv2.remap(head, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0))

        level = self.contrast * self.gain * float(motion.exposure[t])
        out *= np.float32(255 * level)
        out += np.float32(255 * 0.45 * (1 - self.contrast))
        return out

    def _cover(self, out: Array, layer: Array) -> None:
        """Lay a picture with coverage (side, side, 4), colours times coverage, over a frame, in place."""
        if self.config.supersample > 1:
            layer = self.cv2.resize(layer, (self.size, self.size), interpolation=self.cv2.INTER_AREA)
        out *= 1 - layer[..., 3:]
        out += layer[..., :3]

    def _compress(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        cv2: Any = self.cv2
        _, code = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        decoded: NDArray[np.uint8] = cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1]
        return decoded
