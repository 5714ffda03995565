"""A generated miniature of FaceForensics++: rendered heads, four manipulations of them, and its split files.

A fake a_b is the recording of a, as in FaceForensics++, and b gives its face or its expression. Each manipulation
leaves traces of its own kind within single frames:

    Deepfakes       face of b under the light of a, coarse, off in colour, behind a feathered oval
    Face2Face       a with the expression of b, sharpened too much
    FaceSwap        face of b as b's own recording lights it, misplaced, behind a hard edge with a halo
    NeuralTextures  a with the mouth of b, softened, overlaid with the checkerboard of a decoder
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfmodels.data.index import REAL, SPLITS
from dfmodels.data.layouts import COMPRESSION, DATASET, FRAMES, LABELS, video_folder
from dfmodels.synthetic._canvas import Array, f32, load_cv2, oval
from dfmodels.synthetic._portrait import MOUTH_Y
from dfmodels.synthetic.talking_heads import DEFAULT_CONFIG, Alteration, Motion, Scene

DEEPFAKEBENCH_FILE = f"{DATASET}.json"

# Real faces are drawn as they are, and frames are half a second apart, as spread over a video.
_CONFIG = replace(
    DEFAULT_CONFIG, fps=2.0, shift=0.0, stretch=0.0, roll=0.0, colour=0.0, texture=0.0, softness=0.0, mask=0.0
)
_MINIATURE = 110  # stream of random numbers, beside those of the talking heads


def write_miniature(
    folder: str | Path,
    *,
    pairs: tuple[int, int, int] = (24, 3, 8),
    frames: int = 6,
    size: int = 64,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Render a data set in the folder layout of FaceForensics++, with what trains and tests on it.

    Beside the frames, as PNG, the folder holds splits/train.json, val.json and test.json in the official format, and
    FaceForensics++.json in the format of DeepfakeBench, whose paths are relative to the folder. No two splits have an
    identity in common. The arguments decide every pixel.

    Args:
        folder: made if need be; must be empty.
        pairs: pairs of identities for training, validation and test; a pair makes two real and eight fake videos.
        frames: frames of a video.
        size: H and W, at least 16.
        seed: other seeds show other people.
        progress: called with the number of pairs ready and the number of pairs.

    Raises:
        ValueError: a count out of range, or a folder that holds something.
        ImportError: OpenCV is missing.
    """
    if len(pairs) != len(SPLITS) or min(pairs) < 0 or sum(pairs) < 1:
        raise ValueError(f"pairs must be three counts (train, val, test), not all 0, got {pairs}")
    _check_least(("frames", frames, 1), ("size", size, 16), ("seed", seed, 0))
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"folder must be new or empty, got {folder}")
    (folder / "splits").mkdir(parents=True)

    listing: dict[str, Any] = {label: {split: {COMPRESSION: {}} for split in SPLITS} for label in LABELS}
    first = 0
    for split, count in zip(SPLITS, pairs, strict=True):
        numbers = [(first + 2 * n, first + 2 * n + 1) for n in range(count)]
        first += 2 * count
        for pair in numbers:
            for target, source in (pair, pair[::-1]):
                clips = render_group(target, source, frames=frames, size=size, seed=seed)
                for label, method in LABELS.items():
                    video = f"{target:03d}" if method == REAL else f"{target:03d}_{source:03d}"
                    files = _write_frames(folder, video_folder(method, video, COMPRESSION, FRAMES), clips[method])
                    listing[label][split][COMPRESSION][video] = {"label": label, "frames": files}
            if progress is not None:
                progress(pair[1] // 2 + 1, sum(pairs))
        names = [[f"{a:03d}", f"{b:03d}"] for a, b in numbers]
        (folder / "splits" / f"{split}.json").write_text(json.dumps(names, indent=2))
    (folder / DEEPFAKEBENCH_FILE).write_text(json.dumps({DATASET: listing}, indent=1))


def _check_least(*limits: tuple[str, int, int]) -> None:
    for name, value, least in limits:
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def render_group(
    target: int, source: int, *, frames: int = 6, size: int = 64, seed: int = 0, fps: float = _CONFIG.fps
) -> dict[str, NDArray[np.uint8]]:
    """Render a recording of one person, and what each manipulation with another one makes of it.

    Args:
        target, source: numbers of these people; below 2 * sum(pairs) they are those of the miniature of this seed.
        frames: T.
        size: H and W.
        seed: other seeds show other people.
        fps: frames per second.

    Returns:
        Frames (T, H, W, 3), RGB, by REAL and the names of the manipulations.

    Raises:
        ValueError: a number out of range.
        ImportError: OpenCV is missing.
    """
    people = (("target", target, 0), ("source", source, 0))
    _check_least(*people, ("frames", frames, 1), ("size", size, 16), ("seed", seed, 0))
    config = replace(_CONFIG, fps=fps)
    draws = [np.random.default_rng([_MINIATURE, seed, person]) for person in (target, source)]
    own, other = (Scene(int(rng.integers(2**62)), int(rng.integers(2**62)), size, config) for rng in draws)
    motion, guide = own.motion(frames), other.motion(frames)
    expression = ("blink", "gaze_x", "gaze_y", "mouth", "jaw", "smile", "brows")
    mimicry = replace(motion, **{name: getattr(guide, name) for name in expression})
    mouthing = replace(motion, mouth=guide.mouth, jaw=guide.mouth, smile=guide.smile)
    return {
        REAL: own.render(False, frames),
        "Deepfakes": own.render(False, frames, alter=_deepfakes(own, other, draws[0])),
        "Face2Face": own.render(False, frames, motion=mimicry, alter=_face2face(own)),
        "FaceSwap": own.render(False, frames, alter=_faceswap(own, other, draws[0])),
        "NeuralTextures": own.render(False, frames, motion=mouthing, alter=_neural_textures(own)),
    }


def _write_frames(root: Path, folder: Path, clip: NDArray[np.uint8]) -> list[str]:
    """Write the frames and return their paths below `root`."""
    (root / folder).mkdir(parents=True)
    files = []
    for t, frame in enumerate(clip):
        file = folder / f"{t:03d}.png"
        # cv2.imwrite cannot write every non-ASCII path.
        load_cv2().imencode(".png", frame[..., ::-1])[1].tofile(root / file)
        files.append(file.as_posix())
    return files


def _blurred(scene: Scene, face: Array, radius: float) -> Array:
    out: Array = scene.cv2.GaussianBlur(face, (0, 0), max(radius * scene.scale, 0.3))
    return out


def _deepfakes(target: Scene, source: Scene, rng: np.random.Generator) -> Alteration:
    swapped = target.portray(source.portrait.identity)
    tint = f32(1 + rng.uniform(0.04, 0.10, 3) * rng.choice((-1, 1), 3))
    mask = oval(swapped.x, swapped.y, 0, 0.12, 0.40, 0.50)[..., None]

    def alter(face: Array, motion: Motion, t: int) -> None:
        cv2, side = target.cv2, face.shape[0]
        coarse = round(side / (0.06 * target.scale))  # pixels of 0.06 head units, as from a small decoder
        small = cv2.resize(swapped.face(*motion.expression(t)), (coarse, coarse), interpolation=cv2.INTER_AREA)
        face += mask * (tint * cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR) - face)

    return alter


def _face2face(target: Scene) -> Alteration:
    mask = oval(target.portrait.x, target.portrait.y, 0, 0.12, 0.44, 0.54)[..., None]

    def alter(face: Array, motion: Motion, t: int) -> None:
        face += 1.6 * mask * (face - _blurred(target, face, 0.035))

    return alter


def _faceswap(target: Scene, source: Scene, rng: np.random.Generator) -> Alteration:
    portrait = source.portrait
    outline = portrait.identity.contour(-0.05)
    hull = outline[outline[:, 1] > -0.30]
    gain = np.float32(1 + rng.uniform(0.08, 0.16) * rng.choice((-1, 1)))
    shift = rng.normal(0, 0.012, 2)

    def alter(face: Array, motion: Motion, t: int) -> None:
        cv2, side = target.cv2, face.shape[0]
        dx, dy = shift + rng.normal(0, 0.006, 2)
        where, mask = portrait.head.mask([hull + f32((dx, dy))])
        move = f32([[1, 0, dx * target.scale], [0, 1, dy * target.scale]])
        swapped = cv2.warpAffine(
            portrait.face(*motion.expression(t)), move, (side, side), borderMode=cv2.BORDER_REPLICATE
        )
        face[where] += mask[..., None] * (gain * swapped[where] - face[where])
        where, seam = portrait.head.mask([np.concatenate((hull, hull[:1])) + f32((dx, dy))], width=0.03)
        face[where] *= 1 + 0.5 * seam[..., None]

    return alter


def _neural_textures(target: Scene) -> Alteration:
    portrait = target.portrait
    mask = oval(portrait.x, portrait.y, 0, MOUTH_Y - 0.02, 0.34, 0.30)[..., None]
    period = 0.13
    board = np.sign(np.sin(2 * np.pi * portrait.x / period) * np.sin(2 * np.pi * portrait.y / period))
    pattern = f32(1 + 0.11 * board)[..., None]

    def alter(face: Array, motion: Motion, t: int) -> None:
        face += mask * (pattern * _blurred(target, face, 0.03) - face)

    return alter
