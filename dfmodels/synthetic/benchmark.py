"""A proving ground: rendered films in the layout of FaceForensics++, with four forgeries that fail differently.

A forgery a_b is made of the recording of a, as in FaceForensics++, and b gives its face or its motion:

    SeamSwap            face of b, off in colour, inside an edge that shows: seen in one frame
    ResampledSwap       face of b in the colours of a, well blended: one frame shows the traces of its enlargement only
    FramewiseSynthesis  face of a synthesised anew in every frame: each is plausible, together they are unsteady
    BorrowedMotion      lips or gaze of b's recording: each frame is plausible and time steady, but the parts of the
                        face neither move nor rest together

What single frames of the last two show has the same distribution as in real films, by construction. Of
FramewiseSynthesis by that of the talking heads: real films pass through the same synthesis with its numbers held. Of
BorrowedMotion by `_motion`: what moves together in a real film is independent at any one time.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfmodels.data.index import REAL, SPLITS
from dfmodels.optional import require
from dfmodels.synthetic._canvas import EXTENT, Array, f32, oval
from dfmodels.synthetic._portrait import Portrait
from dfmodels.synthetic.talking_heads import DEFAULT_CONFIG, Alteration, Motion, Scene
from dfmodels.video.encode import write_video

FORGERIES = ("SeamSwap", "ResampledSwap", "FramewiseSynthesis", "BorrowedMotion")
RATE_FACTORS = {"c23": 23, "c40": 40}
FPS = 25
BURST = (0.3, 0.8)  # seconds that a burst of movement lasts, and the pause behind it
LIPS, GAZE = ("mouth", "smile"), ("blink", "gaze_x", "gaze_y")  # parts that a forgery takes

_CONFIG = replace(DEFAULT_CONFIG, fps=FPS, quality=None, noise=(0.5, 2.0), motion=(0.6, 1.3))
_BENCHMARK, _TURNS = 111, 112  # streams of random numbers, beside those of the talking heads and the miniature


def write_benchmark(
    folder: str | Path,
    *,
    pairs: tuple[int, int, int] = (40, 8, 24),
    frames: int = 60,
    size: int = 96,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Render people and forgeries of them as films, in the folders of FaceForensics++.

    original_sequences/youtube/{c23,c40}/videos/ID.mp4 are real, manipulated_sequences/METHOD/{c23,c40}/videos/
    TARGET_SOURCE.mp4 fake; splits/train.json, val.json and test.json hold the pairs of ids, and no two splits have a
    person in common. Films are H.264 at the constant rate factors 23 and 40 and 25 frames per second, and the face
    fills the picture. The arguments decide every byte, as far as the encoder does.

    The folder appears when all of it is there. Processes are started anew, so a script guards its own lines by
    `if __name__ == "__main__":`, or asks for one worker.

    Args:
        folder: made if need be; must be empty.
        pairs: pairs of people for training, validation and test; a pair makes two real and eight fake films, each in
            two compressions.
        frames: frames of a film.
        size: H and W, even and at least 16.
        seed: other seeds show other people.
        workers: processes that render, None for one per core.
        progress: called with the number of pairs ready and the number of pairs.

    Raises:
        ValueError: a count out of range, or a folder that holds something.
        ImportError: OpenCV or PyAV is missing.
    """
    if len(pairs) != len(SPLITS) or min(pairs) < 0 or sum(pairs) < 1:
        raise ValueError(f"pairs must be three counts (train, val, test), not all 0, got {pairs}")
    for name, value, least in (("frames", frames, 1), ("size", size, 16), ("seed", seed, 0), ("workers", workers, 1)):
        if value is not None and value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if size % 2:
        raise ValueError(f"size must be even, which the films' colours need, got {size}")
    require("av", "encoding videos")
    numbers = [(2 * n, 2 * n + 1) for n in range(sum(pairs))]
    with _appearing(Path(folder)) as root:
        (root / "splits").mkdir()
        for kind in ("original_sequences/youtube", *(f"manipulated_sequences/{method}" for method in FORGERIES)):
            for compression in RATE_FACTORS:
                (root / kind / compression / "videos").mkdir(parents=True)
        ends = np.cumsum(pairs)
        for split, count, end in zip(SPLITS, pairs, ends, strict=True):
            names = [[_name(a), _name(b)] for a, b in numbers[end - count : end]]
            (root / "splits" / f"{split}.json").write_text(json.dumps(names, indent=2))
        write = partial(_write_pair, root, frames, size, seed)
        workers = min(workers or os.cpu_count() or 1, len(numbers))
        for ready, _ in enumerate(_each(write, numbers, workers), 1):
            if progress is not None:
                progress(ready, len(numbers))


def _each(write: Callable[[tuple[int, int]], None], numbers: list[tuple[int, int]], workers: int) -> Iterator[None]:
    if workers == 1:
        yield from map(write, numbers)
        return
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        try:
            yield from pool.map(write, numbers)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `folder` when the block ends and vanishes when it fails."""
    folder = Path(os.path.realpath(folder))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"folder must be new or empty, got {folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    filling = folder.with_name(f".{folder.name[:100]}.{uuid.uuid4().hex}.part")
    filling.mkdir()
    try:
        yield filling
        if folder.exists():
            folder.rmdir()
        filling.rename(folder)
    finally:
        shutil.rmtree(filling, ignore_errors=True)


def _name(person: int) -> str:
    return f"{person:03d}"


def _write_pair(root: Path, frames: int, size: int, seed: int, pair: tuple[int, int]) -> None:
    recordings = [_Recording.of(person, frames, size, seed) for person in pair]
    for own, other in (recordings, recordings[::-1]):
        for method, film in _films(own, other, frames).items():
            if method == REAL:
                kind, stem = Path("original_sequences", "youtube"), _name(own.person)
            else:
                kind, stem = Path("manipulated_sequences", method), f"{_name(own.person)}_{_name(other.person)}"
            for compression, crf in RATE_FACTORS.items():
                write_video(root / kind / compression / "videos" / f"{stem}.mp4", film, fps=FPS, crf=crf)


class _Recording(NamedTuple):
    """A person before the camera."""

    person: int
    scene: Scene
    motion: Motion
    rng: np.random.Generator  # of the forgeries made of it

    @classmethod
    def of(cls, person: int, frames: int, size: int, seed: int) -> _Recording:
        rng = np.random.default_rng([_BENCHMARK, seed, person])
        config = replace(_CONFIG, flicker=float(rng.uniform(0.8, 1.0)))
        scene = Scene(int(rng.integers(2**62)), int(rng.integers(2**62)), size, config)
        clock = _clock(np.random.default_rng([_TURNS, seed, person // 2]), frames, person % 2)
        return cls(person, scene, _motion(rng, clock, scene.motion(frames)), rng)


def _films(own: _Recording, other: _Recording, frames: int) -> dict[str, NDArray[np.uint8]]:
    """Frames (T, H, W, 3), RGB, of the real film and of every forgery."""

    def film(fake: bool = False, motion: Motion = own.motion, alter: Alteration | None = None) -> NDArray[np.uint8]:
        return own.scene.render(fake, frames, motion=motion, alter=alter)

    return {
        REAL: film(),
        "SeamSwap": film(alter=_seam_swap(own.scene, other.scene, own.rng)),
        "ResampledSwap": film(alter=_resampled_swap(own.scene, other.scene, own.rng)),
        "FramewiseSynthesis": film(fake=True),
        "BorrowedMotion": film(motion=_borrowed(own.motion, other.motion, own.rng)),
    }


# ---------------------------------------------------------------------- motion


def _clock(rng: np.random.Generator, frames: int, turn: int) -> NDArray[np.float64]:
    """Seconds (T,) that pass in bursts of movement only: the clock stands still in the pauses between them.

    Args:
        rng: of the bursts; the same for both people of a pair.
        frames: T.
        turn: 0 or 1; one person moves while the other rests, as in a conversation.
    """
    lengths = rng.uniform(*BURST, 2 + math.ceil(frames / FPS / BURST[0]))
    moving = np.arange(len(lengths)) % 2 == turn
    # ends of the pieces, the first of which has begun before the film, and how far the clock is there
    ends, reached = (np.concatenate(((0,), np.cumsum(piece))) for piece in (lengths, lengths * moving))
    clock: NDArray[np.float64] = np.interp(np.arange(frames) / FPS, ends - rng.uniform(0, lengths[0]), reached)
    return clock


def _course(rng: np.random.Generator, clock: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """A Gaussian process (T,) of variance 1 and low to high hertz: sum_k a_k cos(w_k c) + b_k sin(w_k c)."""
    count = 6
    phase = 2 * np.pi * rng.uniform(low, high, count) * clock[:, None]
    a, b = rng.normal(0, 1 / math.sqrt(count), (2, count))
    course: NDArray[np.float64] = np.cos(phase) @ a + np.sin(phase) @ b
    return course


def _motion(rng: np.random.Generator, clock: NDArray[np.float64], loose: Motion) -> Motion:
    """A motion whose parts move together and rest together: lips with the jaw and nods, gaze with turns of the head.

        lips(t) = (s(t) + o) / sqrt(2),    jaw(t) = (s(t) - o) / sqrt(2)

    s is a Gaussian process of variance 1 on the clock of the recording, and o, standard normal, is held through it. At
    any one time the two are standard normal and independent, as lips of one recording are of the jaw of another; along
    time they move by the same, and only while the clock runs. So it is with gaze and turns. Camera and light, of which
    no forgery takes a part, keep their own time.

    Args:
        rng: of the courses.
        clock: of the recording (T,).
        loose: what is not said here.
    """

    def course(low: float, high: float) -> NDArray[np.float64]:
        return _course(rng, clock, low, high)

    def coupled(low: float, high: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        moved, held = course(low, high), rng.standard_normal()
        return (moved + held) / math.sqrt(2), (moved - held) / math.sqrt(2)

    lips, jaw = coupled(1.5, 3.5)
    gaze, turn = coupled(1.0, 2.5)
    return replace(
        loose,
        mouth=np.clip(0.5 + 0.5 * lips, 0, 1),
        smile=np.clip(0.5 * lips, -1, 1),
        jaw=np.clip(0.5 + 0.5 * jaw, 0, 1),
        brows=0.03 * jaw,
        gaze_x=0.9 * gaze,
        gaze_y=0.5 * gaze,
        blink=np.clip(0.9 * gaze - 0.4, 0, 1),
        x=0.03 * turn,
        y=0.02 * jaw,
        zoom=1.3 + 0.02 * course(0.3, 0.8),
        roll=np.radians(3 * course(0.5, 1.3)),
        yaw=0.15 * turn,
        pitch=0.10 * jaw,
    )


def _borrowed(own: Motion, other: Motion, rng: np.random.Generator) -> Motion:
    """Lips, or gaze and lids, as they move in the other recording."""
    parts = LIPS if rng.random() < 0.5 else GAZE
    return replace(own, **{part: getattr(other, part) for part in parts})


# ---------------------------------------------------------------------- swaps


def _swapped(target: Scene, source: Scene) -> tuple[Portrait, Array]:
    """The face of the source with hair and glasses of the target, and the gain (3,) that gives it the target's colours.

    What crosses the edge of a swap would show in every frame, however well the edge is blended.
    """
    own = target.portrait.identity
    kept = ("hair", "hair_style", "beard", "glasses", "frames", "eye_x", "brow_y")
    who = replace(source.portrait.identity, **{name: getattr(own, name) for name in kept})
    portrait = target.portray(who)
    weight = oval(portrait.x, portrait.y, 0, 0.12, 0.3, 0.4)[..., None]
    gain = (target.portrait.head.rgb * weight).sum((0, 1)) / (portrait.head.rgb * weight).sum((0, 1))
    return portrait, f32(gain)


def _seam_swap(target: Scene, source: Scene, rng: np.random.Generator) -> Alteration:
    """Off in colour, behind a narrow edge."""
    portrait, gain = _swapped(target, source)
    gain = gain * f32(1 + rng.uniform(0.06, 0.14, 3) * rng.choice((-1, 1), 3))
    mask = np.clip(5 * oval(portrait.x, portrait.y, 0, 0.12, 0.40, 0.50) - 2, 0, 1)[..., None]

    def alter(face: Array, motion: Motion, t: int) -> None:
        face += mask * (gain * portrait.face(*motion.expression(t)) - face)

    return alter


def _resampled_swap(target: Scene, source: Scene, rng: np.random.Generator) -> Alteration:
    """In the target's colours, behind a soft edge, but enlarged from few pixels."""
    portrait, gain = _swapped(target, source)
    mask = oval(portrait.x, portrait.y, 0, 0.12, 0.40, 0.50)
    mask = (target.cv2.GaussianBlur(mask, (0, 0), 0.05 * target.scale) ** 2)[..., None]
    coarse = round(2 * EXTENT / rng.uniform(0.05, 0.08))

    def alter(face: Array, motion: Motion, t: int) -> None:
        cv2, side = target.cv2, face.shape[0]
        small = cv2.resize(portrait.face(*motion.expression(t)), (coarse, coarse), interpolation=cv2.INTER_AREA)
        face += mask * (gain * cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR) - face)

    return alter
