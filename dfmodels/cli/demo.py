"""Train a small detector on rendered talking heads, then score an unseen real and an unseen fake film."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

import dfmodels
from dfmodels.detector import Detector, InputContract

if TYPE_CHECKING:
    from dfmodels.data import TalkingHeads

SIZE = 64
# detectors small enough for two CPU cores; every module of the published networks is in them
OPTIONS: dict[str, dict[str, Any]] = {
    "ddl": {
        "num_frames": 8,
        "size": SIZE,
        "stem_channels": (8, 16),
        "widths": (24, 48, 48),
        "num_convs": (2, 2, 2),
        "strides": (2, 2, 1),
        "exit_channels": (64, 32),
        "fusion_channels": 128,
        "gamma": 1.0,
    },
    "stil": {
        "num_frames": 8,
        "size": SIZE,
        "layers": (1, 1, 1),
        "planes": (16, 32, 64),
        "stem_channels": (16, 24),
        "reduction": 2,
        "shift_init": "random",  # from the released start it learns nothing on so few clips
        "preset": "deepfakebench",  # neighbouring frames, as in the clips it trains on
    },
}
LEARNING_RATES = {"ddl": 1e-2, "stil": 3e-3}
TRAIN_CLIPS, HELD_OUT_CLIPS = 640, 200
TRAIN_IDENTITIES, HELD_OUT_IDENTITIES = 320, 100
EPOCHS, BATCH = 8, 16
FILM_SECONDS, FPS = 3, 25


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", default="demo", metavar="DIR", help="folder for weights, films and plots (default: demo)"
    )
    parser.add_argument("--model", choices=sorted(OPTIONS), default="ddl", help="detector to train (default: ddl)")
    parser.add_argument("--seed", type=int, default=0, help="of training, from 0 on (default: 0)")


def run(options: argparse.Namespace) -> int:
    from dfmodels.cli import score
    from dfmodels.data import render_clip
    from dfmodels.video import face_detector

    if options.seed < 0:
        raise ValueError(f"--seed must be at least 0, got {options.seed}")
    begun = time.perf_counter()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    weights = out / f"{options.model}-demo.safetensors"
    say(f"1/4 rendering and training on {TRAIN_CLIPS} clips of {TRAIN_IDENTITIES} rendered people")
    model = train(options.model, options.seed)
    dfmodels.save(
        model, weights, data="rendered talking heads of `dfmodels demo`; for trying the tool, not for judging films"
    )

    say(f"2/4 testing on {HELD_OUT_CLIPS} clips of {HELD_OUT_IDENTITIES} unseen people")
    auc, accuracy = test(model, options.seed)

    say("3/4 encoding an unseen real and an unseen fake film")
    person = TRAIN_IDENTITIES + HELD_OUT_IDENTITIES
    films = []
    for name, fake in (("real", False), ("fake", True)):
        frames = render_clip(person + fake, options.seed, fake, num_frames=FILM_SECONDS * FPS, size=SIZE)
        films.append(out / f"{name}.mp4")
        write_film(films[-1], frames)

    say("4/4 scoring both films, as `dfmodels score` does")
    scores = score.score_videos(
        dfmodels.load(weights),
        films,
        faces=face_detector("none"),
        num_clips="all",
        average=None,
        batch_size=4,
        select="largest",
        plot=out,
    )
    print(f"\nheld-out clips: AUC {auc:.3f}, accuracy {accuracy:.3f} ({HELD_OUT_IDENTITIES} unseen people)\n")
    print(score.table(scores))
    print(f"weights  {weights}")
    for film in films:
        print(f"plot     {out / film.name}.png")
    print(f"again    dfmodels score {films[0]} {films[1]} --weights {weights} --faces none --clips all --plot {out}")
    print(f"took     {time.perf_counter() - begun:.0f} s")
    return 1 if any(result.error for result in scores) else 0


def say(step: str) -> None:
    print(step, file=sys.stderr)


def train(name: str, seed: int) -> Detector:
    """The small detector `name`, trained on rendered clips."""
    from dfmodels.data import TalkingHeads
    from dfmodels.training.loop import fit

    torch.manual_seed(seed)
    model = dfmodels.build(name, **OPTIONS[name])
    clips = rendered(
        TalkingHeads(TRAIN_CLIPS, first_identity=0, num_identities=TRAIN_IDENTITIES, seed=seed, size=SIZE),
        model.contract,
    )
    steps = EPOCHS * (TRAIN_CLIPS // BATCH)
    with tqdm(total=steps, desc="training", unit="step", disable=None) as bar:

        def progress(loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update()

        fit(
            model,
            clips,
            epochs=EPOCHS,
            batch_size=BATCH,
            learning_rate=LEARNING_RATES[name],
            seed=seed,
            progress=progress,
        )
    return model


def test(model: Detector, seed: int) -> tuple[float, float]:
    """AUC and accuracy on clips of people that training never saw."""
    from dfmodels.data import TalkingHeads
    from dfmodels.evaluation.metrics import accuracy, roc_auc

    clips = rendered(
        TalkingHeads(
            HELD_OUT_CLIPS,
            first_identity=TRAIN_IDENTITIES,
            num_identities=HELD_OUT_IDENTITIES,
            seed=seed + 1,
            size=SIZE,
        ),
        model.contract,
    )
    labels = [label for _, label in clips]
    probabilities = [float(model.predict(clip[None])) for clip, _ in clips]
    return roc_auc(labels, probabilities), accuracy(labels, probabilities)


def rendered(clips: "TalkingHeads", contract: InputContract) -> Any:
    """All clips in memory as a detector wants them, with their labels."""
    return [
        (contract.normalize(clips.frames(i).movedim(1, -1)), clips.label(i))
        for i in tqdm(range(len(clips)), desc="rendering", unit="clip", disable=None)
    ]


def write_film(path: Path, frames: NDArray[np.uint8]) -> None:
    """Encode frames (T, H, W, 3), uint8 RGB, as an MP4."""
    try:
        import av
    except ImportError as error:
        raise ImportError('the demo needs PyAV: pip install "dfops[video]"') from error
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "18"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())
