"""Who is shown and under which light: the traits that one generator each decides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dfmodels.synthetic._canvas import Array, f32, spline


def palette(codes: str) -> Array:
    """Colours (N, 3) in [0, 1] from hexadecimal codes."""
    return f32([[int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)] for code in codes.split()])


_SKIN = palette("f4ceb6 eabc9e deac88 cb946e ac7652 86583c 62402e")
_HAIR = palette("1e1918 34241c 543824 7a5230 aa7a46 cda86c 863e22 8c8a88")
_IRIS = palette("462e1e 5c3e24 6e6238 4c6c54 4e7094 687a84")
_FRAMES = palette("181618 462a1a 6e181e 96825a 243054")
CLOTH = palette("2c3a5c 78282e 3a5446 c4beb2 282a30 967046 606c7c 5c426e")
ROOM = palette("cec4b2 acbabe 788a96 5c6460 b29684 465068 96a084 3c383e")

HAIR_STYLES = ("short", "parted", "fringe", "long", "curly", "buzz", "swept")
BEARDS = ("none", "none", "none", "none", "stubble", "full", "goatee", "moustache")
GLASSES = ("none", "none", "none", "round", "square")


def near_colour(rng: np.random.Generator, choices: Array, spread: float = 0.03) -> Array:
    """A colour near one of the palette, in [0, 1]."""
    base = choices[int(rng.integers(len(choices)))]
    return f32(np.clip(base + rng.normal(0, spread, 3), 0.03, 0.97))


@dataclass(frozen=True)
class Identity:
    """What makes a head recognisable; lengths in head units."""

    skin: Array
    hair: Array
    iris: Array
    lips: Array
    frames: Array
    head_width: float
    jaw_width: float
    chin_width: float
    chin_y: float
    eye_x: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    brow_thickness: float
    brow_arch: float
    brow_y: float
    nose_width: float
    nose_length: float
    mouth_width: float
    upper_lip: float
    lower_lip: float
    ear_size: float
    hair_style: str
    hair_volume: float
    hairline: float
    hair_side: float
    beard: str
    glasses: str
    blush: float
    freckles: Array
    blotches: Array
    pores: Array
    strand_seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Identity:
        """Traits from a generator, each independent of the others but for a few that must agree."""
        tone = float((len(_SKIN) - 1) * rng.uniform(0, 1) ** 1.35)
        low = int(tone)
        pair = _SKIN[low : low + 2]
        skin = pair[0] + (tone - low) * (pair[-1] - pair[0]) + rng.normal(0, 0.012, 3)
        skin = np.clip(skin, 0.1, 0.97).astype(np.float32)
        hair = near_colour(rng, _HAIR if tone < 3.5 else _HAIR[:3], 0.02)
        lips = np.clip(skin * (0.86, 0.62, 0.62) + (0.03, 0.0, 0.01), 0, 1) * rng.uniform(0.9, 1.05)
        style = HAIR_STYLES[int(rng.integers(len(HAIR_STYLES)))]
        beard = BEARDS[int(rng.integers(len(BEARDS)))] if style != "long" else "none"
        count = int(rng.integers(15, 60)) if rng.random() < 0.45 else int(rng.integers(1, 5))
        spread = rng.normal(0, 1, (count, 2)) * (0.25, 0.13) + (0, 0.08)
        if count < 6:
            spread = rng.uniform((-0.42, -0.4), (0.42, 0.55), (count, 2))
        size = rng.uniform(0.006, 0.013, (count, 1)) * (1.0 if count >= 6 else 1.4)
        return cls(
            skin=skin,
            hair=hair,
            iris=near_colour(rng, _IRIS),
            lips=lips.astype(np.float32),
            frames=near_colour(rng, _FRAMES),
            head_width=float(rng.uniform(0.525, 0.59)),
            jaw_width=float(rng.uniform(0.345, 0.43)),
            chin_width=float(rng.uniform(0.12, 0.19)),
            chin_y=float(rng.uniform(0.69, 0.78)),
            eye_x=float(rng.uniform(0.205, 0.24)),
            eye_width=float(rng.uniform(0.095, 0.12)),
            eye_height=float(rng.uniform(0.042, 0.062)),
            eye_tilt=float(rng.uniform(-0.10, 0.16)),
            brow_thickness=float(rng.uniform(0.022, 0.05)),
            brow_arch=float(rng.uniform(0.01, 0.06)),
            brow_y=float(rng.uniform(-0.29, -0.25)),
            nose_width=float(rng.uniform(0.085, 0.13)),
            nose_length=float(rng.uniform(0.14, 0.20)),
            mouth_width=float(rng.uniform(0.165, 0.225)),
            upper_lip=float(rng.uniform(0.024, 0.044)),
            lower_lip=float(rng.uniform(0.038, 0.062)),
            ear_size=float(rng.uniform(0.85, 1.15)),
            hair_style=style,
            hair_volume=float(rng.uniform(0.05, 0.11)),
            hairline=float(rng.uniform(-0.56, -0.46)),
            hair_side=float(2 * rng.integers(2) - 1),
            beard=beard,
            glasses=GLASSES[int(rng.integers(len(GLASSES)))],
            blush=float(rng.uniform(0.06, 0.22)),
            freckles=np.concatenate((spread, size), axis=1).astype(np.float32),
            blotches=rng.normal(0, 1, (9, 9, 3)).astype(np.float32),
            pores=rng.normal(0, 1, (72, 72)).astype(np.float32),
            strand_seed=int(rng.integers(2**31)),
        )

    def contour(self, grow: float = 0.0) -> Array:
        """Outline of the head, closed, from the top clockwise."""
        w, j, c, y = self.head_width + grow, self.jaw_width + grow, self.chin_width + 0.6 * grow, self.chin_y + grow
        right = [
            (0.0, -0.81 - 1.15 * grow),
            (0.56 * w, -0.715 - 0.95 * grow),
            (0.91 * w, -0.48 - 0.5 * grow),
            (w, -0.20),
            (0.955 * w, 0.10),
            (0.5 * (0.955 * w + j) + 0.018, 0.32),
            (j, 0.49),
            (0.5 * (j + c) + 0.01, 0.5 * (0.49 + y) + 0.035),
            (c, y - 0.035),
            (0.0, y),
        ]
        return spline(f32(right + [(-a, b) for a, b in right[-2:0:-1]]), closed=True)


@dataclass(frozen=True)
class Light:
    """One lamp and its surroundings."""

    direction: Array
    ambient: float
    diffuse: float
    tint: Array

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Light:
        azimuth, elevation = rng.uniform(-1.05, 1.05), rng.uniform(0.1, 0.75)
        direction = (np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), np.cos(azimuth) * np.cos(elevation))
        warm = rng.normal(0, 0.035)
        return cls(
            direction=f32(direction),
            ambient=float(rng.uniform(0.44, 0.58)),
            diffuse=float(rng.uniform(0.56, 0.72)),
            tint=f32((1 + warm, 1, 1 - warm)),
        )
