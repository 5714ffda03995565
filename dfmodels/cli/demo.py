"""Train a small detector on rendered talking heads, then score an unseen real and an unseen fake video."""

import argparse
import logging
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

import dfmodels
from dfmodels.cli.loading import check_path
from dfmodels.detector import Detector, InputContract
from dfmodels.files import writable_folder
from dfmodels.progress import progress_bar

if TYPE_CHECKING:
    from dfmodels.detectors.lsda import LSDA
    from dfmodels.synthetic import TalkingHeads

LOG = logging.getLogger(__name__)
EXAMPLE = "dfmodels demo --model stil --out demo/"
SIZE = 64
# detectors small enough for two CPU cores; every module of the published networks is in them, but for LSDA's encoders
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
    "lsda": {"encoder": "plain", "channels": (24, 48, 96, 96), "width": 64, "size": SIZE},
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
LEARNING_RATES = {"ddl": 1e-2, "lsda": 1e-3, "stil": 3e-3}
TRAIN_CLIPS, HELD_OUT_CLIPS = 640, 200
TRAIN_IDENTITIES, HELD_OUT_IDENTITIES = 320, 100
EPOCHS, BATCH = 8, 16
# of LSDA: a pair of people makes two groups of a real video and its forgeries
TRAIN_PAIRS, HELD_OUT_PAIRS = 48, 8
GROUP_EPOCHS, GROUP_BATCH = 25, 4
VIDEO_SECONDS, FPS = 3, 25


@dataclass(frozen=True)
class Outcome:
    """A trained detector, how it did on people it never saw, and videos of further ones.

    Attributes:
        videos: frames (T, H, W, 3), uint8 RGB, by the name of the video.
    """

    model: Detector
    result: str
    videos: dict[str, NDArray[np.uint8]]


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", default="demo", metavar="DIR", help="folder for weights, videos and plots (default: demo)"
    )
    parser.add_argument("--model", choices=sorted(OPTIONS), default="ddl", help="detector to train (default: ddl)")
    parser.add_argument("--seed", type=int, default=0, help="of training, from 0 on (default: 0)")


def run(options: argparse.Namespace) -> int:
    from dfmodels.scoring.batch import score_videos
    from dfmodels.scoring.formats import Table, written
    from dfmodels.video.encode import write_video

    if not 0 <= options.seed < 2**63:  # what a generator of torch takes
        raise ValueError(f"--seed must be at least 0 and below 2^63, got {options.seed}")
    check_path("--out", options.out)
    begun = time.perf_counter()
    out = writable_folder("--out", Path(options.out))
    weights = out / f"{options.model}-demo.safetensors"
    outcome = DEMOS[options.model](options.model, options.seed)
    dfmodels.save(
        outcome.model,
        weights,
        note="rendered talking heads of `dfmodels demo`; for trying the tool, not for judging videos",
    )

    LOG.info("3/4 encoding an unseen real and an unseen fake video")
    videos = []
    for name, frames in outcome.videos.items():
        videos.append(out / f"{name}.mp4")
        write_video(videos[-1], frames, fps=FPS, crf=18)

    LOG.info("4/4 scoring both videos, as `dfmodels score` does")
    model = dfmodels.load(weights)
    scores = score_videos(model, videos, faces="none", num_clips="all", batch_size=4, plot=out)
    print(f"\n{outcome.result}\n")
    print(written(Table(videos, model.contract.unit), scores))
    print(f"weights  {weights}")
    for video in videos:
        print(f"plot     {out / video.name}.png")
    score = ["dfmodels", "score", *videos, "--weights", weights, "--faces", "none", "--clips", "all", "--plot", out]
    print(f"again    {shlex.join(map(str, score))}")
    print(f"took     {time.perf_counter() - begun:.0f} s")
    return 1 if any(result.error for result in scores) else 0


# ---------------------------------------------------------------------- detectors of clips


def clip_demo(name: str, seed: int) -> Outcome:
    """Of a detector that tells real from fake clips by how they flicker."""
    from dfmodels.synthetic import render_clip

    LOG.info(f"1/4 rendering and training on {TRAIN_CLIPS} clips of {TRAIN_IDENTITIES} rendered people")
    model = train_on_clips(name, seed)
    LOG.info(f"2/4 testing on {HELD_OUT_CLIPS} clips of {HELD_OUT_IDENTITIES} unseen people")
    auc, accuracy = test_on_clips(model, seed)
    person = TRAIN_IDENTITIES + HELD_OUT_IDENTITIES
    return Outcome(
        model,
        f"held-out clips: AUC {auc:.3f}, accuracy {accuracy:.3f} ({HELD_OUT_IDENTITIES} unseen people)",
        {
            video: render_clip(person + fake, seed, fake, num_frames=VIDEO_SECONDS * FPS, size=SIZE)
            for video, fake in (("real", False), ("fake", True))
        },
    )


def train_on_clips(name: str, seed: int) -> Detector:
    """The small detector `name`, trained on rendered clips."""
    from dfmodels.synthetic import TalkingHeads
    from dfmodels.training.loop import fit

    torch.manual_seed(seed)
    model = dfmodels.build(name, **OPTIONS[name])
    clips = rendered(
        TalkingHeads(TRAIN_CLIPS, first_identity=0, num_identities=TRAIN_IDENTITIES, seed=seed, size=SIZE),
        model.contract,
    )
    steps = EPOCHS * (TRAIN_CLIPS // BATCH)
    with progress_bar(total=steps, desc="training", unit="step") as bar:

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


def test_on_clips(model: Detector, seed: int) -> tuple[float, float]:
    """AUC and accuracy on clips of people that training never saw."""
    from dfmodels.evaluation.metrics import measure
    from dfmodels.synthetic import TalkingHeads

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
    found = measure(labels, probabilities)
    return found["auc"], found["accuracy"]


def rendered(clips: "TalkingHeads", contract: InputContract) -> Any:
    """All clips in memory as a detector wants them, with their labels."""
    return [
        (contract.normalize(clips.frames(i).movedim(1, -1)), clips.label(i))
        for i in progress_bar(range(len(clips)), desc="rendering", unit="clip")
    ]


# ---------------------------------------------------------------------- detectors of frames, trained on groups


def group_demo(name: str, seed: int) -> Outcome:
    """Of a detector of single frames, trained on groups of a real face and four forgeries that each leave a trace."""
    from dfmodels.synthetic import render_group, write_miniature

    pairs = (TRAIN_PAIRS, 0, HELD_OUT_PAIRS)
    with TemporaryDirectory() as folder:
        LOG.info(f"1/4 rendering and training on {2 * TRAIN_PAIRS} rendered people and four forgeries of each")
        with progress_bar(total=sum(pairs), desc="rendering", unit="pair") as bar:
            write_miniature(folder, pairs=pairs, size=SIZE, seed=seed, progress=lambda ready, _: bar.update())
        model = train_on_groups(name, folder, seed)
        LOG.info(f"2/4 testing frame by frame on {2 * HELD_OUT_PAIRS} unseen people and four forgeries of each")
        auc, accuracy, video_auc = test_on_frames(model, folder)
    person = 2 * sum(pairs)
    group = render_group(person, person + 1, frames=VIDEO_SECONDS * FPS, size=SIZE, seed=seed, fps=FPS)
    return Outcome(
        model,
        f"held-out frames: AUC {auc:.3f}, accuracy {accuracy:.3f} (four in five are fake); "
        f"videos: AUC {video_auc:.3f} ({2 * HELD_OUT_PAIRS} unseen people)",
        {"real": group["real"], "fake": group["Deepfakes"]},
    )


def train_on_groups(name: str, folder: str | Path, seed: int) -> "LSDA":
    """The small detector `name`, distilled on the training split of a miniature."""
    from dfmodels.data import ForgeryGroups, folder_videos, make_groups, read_pairs
    from dfmodels.detectors.lsda import lsda, make_encoder
    from dfmodels.training.distillation import distill
    from dfmodels.training.objectives.lsda import LSDADistillation

    torch.manual_seed(seed)
    student = lsda(**OPTIONS[name])
    training = LSDADistillation(student, real_encoder=make_encoder(student.config))
    videos = folder_videos(folder, read_pairs(Path(folder, "splits", "train.json")))
    groups = ForgeryGroups(make_groups(videos), student.contract, seed=seed)
    steps = GROUP_EPOCHS * (len(groups) // GROUP_BATCH)
    with progress_bar(total=steps, desc="training", unit="step") as bar:
        distill(
            training,
            groups,
            epochs=GROUP_EPOCHS,
            batch_size=GROUP_BATCH,
            optimizer=torch.optim.AdamW(training.parameters(), lr=LEARNING_RATES[name]),
            seed=seed,
            progress=lambda done, _: bar.update(),
        )
    return student


def test_on_frames(model: Detector, folder: str | Path) -> tuple[float, float, float]:
    """AUC and accuracy on the frames of the test split of a miniature, and AUC on its videos by their frames' mean."""
    from dfmodels.data import folder_videos, read_pairs
    from dfmodels.data.clips import ClipSamples
    from dfmodels.data.crops import CropSource
    from dfmodels.evaluation.metrics import measure

    videos = [row for row in folder_videos(folder, read_pairs(Path(folder, "splits", "test.json"))) if row.frames]
    frames = ClipSamples(videos, model.contract, CropSource("none"))
    labels = np.array([video.label for video in videos])
    scores = [model.predict(batch["images"][batch["counts"]]) for batch in DataLoader(frames, model.contract.num_clips)]
    by_video = torch.stack(scores).double().numpy()  # its videos are equally long
    by_frame = measure(labels.repeat(by_video.shape[1]), by_video.ravel())
    return by_frame["auc"], by_frame["accuracy"], measure(labels, by_video.mean(1))["auc"]


DEMOS: dict[str, Callable[[str, int], Outcome]] = {"ddl": clip_demo, "lsda": group_demo, "stil": clip_demo}
