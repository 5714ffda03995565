"""Trials of detectors on the proving ground: trained on some forgeries by their recipes, tested on unseen people."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dfmodels.data.cache import CropCache
from dfmodels.data.crops import CropSource
from dfmodels.data.index import LABELS, Video, load_videos, where
from dfmodels.data.prepare import CropJob, Prepared, prepare_crops
from dfmodels.detector import Detector
from dfmodels.evaluation.detectors import ROWS, as_scores, of_detector, score_index
from dfmodels.evaluation.folder import PAGE, write_folder
from dfmodels.evaluation.judge import judge
from dfmodels.evaluation.report import write_report
from dfmodels.progress import progress_bar
from dfmodels.registry import build, load
from dfmodels.synthetic.benchmark import FORGERIES, RATE_FACTORS, write_benchmark
from dfmodels.training.engine import train
from dfmodels.training.recipe import Recipe, find_recipe
from dfmodels.training.run import FINAL
from dfmodels.video.faces import face_detector

LOG = logging.getLogger(__name__)
DATASET = "rendered proving ground"  # not what its layout is of: weights say what they were trained on
FACES = "none"  # they fill the picture
COMPRESSIONS = tuple(RATE_FACTORS)
TRAINED_ON = COMPRESSIONS[0]
SIZE = 64
# Detectors small enough for two CPU cores, and what their training then needs in place of the published numbers. Every
# module of the published networks is in them, but for LSDA's encoders and the network of the frame classifier.
REDUCED: dict[str, Recipe] = {
    name: find_recipe(recipe).with_settings({**settings, "model.size": SIZE})
    for name, recipe, settings in (
        (
            "frame",
            "frame",
            {
                "epochs": 20,
                "learning_rate": 1e-3,
                "clips_per_video": 4,
                "balance": "oversample",
                "model.encoder": "test_resnet",
            },
        ),
        (
            "lsda",
            "lsda",
            {
                "epochs": 100,
                "learning_rate": 1e-3,
                "real_encoder": "student",
                "untrained_real_encoder": True,
                "model.encoder": "plain",
                "model.channels": [24, 48, 96, 96],
                "model.width": 64,
            },
        ),
        (
            "stil",
            "stil-deepfakebench",  # of neighbouring frames; those of the authors' are a quarter of a second apart
            {
                "epochs": 12,
                "batch_size": 16,
                "learning_rate": 1e-3,
                "clips_per_video": 2,
                "balance": "oversample",
                "model.num_frames": 8,
                "model.layers": [1, 1, 1],
                "model.planes": [16, 32, 64],
                "model.stem_channels": [16, 24],
                "model.reduction": 2,
                "model.shift_init": "random",  # from the released start it learns nothing on so few clips
            },
        ),
        (
            "ddl",
            "ddl",
            {
                "epochs": 22,
                "batch_size": 16,
                "learning_rate": 1e-3,
                "clips_per_video": 2,
                "balance": "oversample",
                "model.num_frames": 8,
                "model.stem_channels": [8, 16],
                "model.widths": [24, 48, 48],
                "model.num_convs": [2, 2, 2],
                "model.strides": [2, 2, 1],
                "model.exit_channels": [64, 32],
                "model.fusion_channels": 128,
                "model.gamma": 1.0,
            },
        ),
    )
}


def reduced(name: str, seed: int = 0, **settings: Any) -> Recipe:
    """The recipe of a detector of REDUCED, small enough for two CPU cores.

    Args:
        name: of the detector.
        seed: of the training.
        settings: further ones, in the place of those of REDUCED.

    Raises:
        KeyError: another name.
        ValueError: another setting.
    """
    return REDUCED[name].with_settings({"seed": seed, **settings})


def ground(
    folder: str | Path, *, pairs: tuple[int, int, int], frames: int = 60, seed: int = 0, workers: int | None = None
) -> list[Video]:
    """The videos of a proving ground, which is rendered where `folder` is not there yet.

    Args:
        folder: appears when all films are in it.
        pairs, frames, seed, workers: as for `write_benchmark`.

    Raises:
        ValueError: as `write_benchmark`.
    """
    if not Path(folder).exists():
        with progress_bar(total=sum(pairs), desc="rendering", unit="pair") as bar:
            write_benchmark(
                folder, pairs=pairs, frames=frames, seed=seed, workers=workers, progress=lambda *_: bar.update()
            )
    return [replace(video, dataset=DATASET) for video in load_videos(folder)]


def prepared(recipe: Recipe, videos: Sequence[Video], folder: str | Path, *, workers: int | None = None) -> CropSource:
    """Crops that a training by `recipe` takes from `videos`, of the training split, in the cache `folder`."""
    with torch.device("meta"):  # nothing is computed with it
        contract = build(recipe.detector, **recipe.model).contract
    jobs = [CropJob(video, contract, recipe.plan(video, contract)) for video in videos]
    cache = CropCache.open(folder, faces=FACES)
    with progress_bar(total=len(jobs), desc="preparing", unit="video") as bar:

        def show(_: Prepared) -> None:
            bar.update()

        prepare_crops(jobs, cache, workers=workers, max_bad=0.0, progress=show)
    return CropSource(cache=cache.folder)


@dataclass(frozen=True)
class Tested:
    """A trained detector and how it did.

    Attributes:
        weights: file of the detector.
        reports: what `judge` says of the unseen people, by the compression of their films.
    """

    weights: Path
    reports: Mapping[str, Mapping[str, Any]]


def trial(
    recipe: Recipe,
    videos: Sequence[Video],
    out: str | Path,
    *,
    crops: str | Path,
    left_out: str | None = None,
    compressions: Sequence[str] = (TRAINED_ON,),
    device: str | torch.device = "cpu",
    workers: int | None = None,
    command: str = "",
) -> Tested:
    """Train by a recipe on some forgeries, and test on people and on a forgery that were not among them.

    What an earlier call with the same arguments has done in `out` is not done again.

    Args:
        recipe: of the training.
        videos: of the proving ground.
        out: folder of the run (run/) and of a report for each compression (report-COMPRESSION/).
        crops: folder of the prepared crops, which several trials may share.
        left_out: the method of FORGERIES that the training does without; None for none.
        compressions: of the films to test on; the training has those of TRAINED_ON.
        device: that trains and scores.
        workers: processes that prepare crops, None for one a core.
        command: what was typed, for model card and reports.

    Raises:
        ValueError: what stands in `out` is of another trial.
    """
    out = Path(out)
    methods = [method for method in FORGERIES if method != left_out]
    training = where(videos, {"split": "train", "compression": TRAINED_ON, "method": [LABELS[0], *methods]})
    source = prepared(recipe, training, crops, workers=workers)
    train(recipe, training, out / "run", crops=source, resume=True, device=device, command=command)
    weights = out / "run" / FINAL
    model = load(weights).to(device)
    reports = {
        compression: report(
            model,
            where(videos, {"split": "test", "compression": compression}),
            methods,
            out / f"report-{compression}",
            command=command,
        )
        for compression in compressions
    }
    return Tested(weights, reports)


def report(
    model: Detector, videos: Sequence[Video], seen: Sequence[str], folder: Path, *, command: str = ""
) -> dict[str, Any]:
    """Score videos, judge the scores, and write both and a page about them into a folder, as `dfmodels evaluate`."""
    judged = of_detector(model, face_detector(FACES))
    folder.mkdir(parents=True, exist_ok=True)
    scores = as_scores(videos, score_index(judged, videos, folder / ROWS, resume=True), judged)
    about = {
        "detector": judged.name,
        "weights": judged.made_by["weights"],
        "faces": FACES,
        "settings": judged.made_by["settings"],
        "seen_methods": sorted(seen),
        "command": command,
    }
    found = judge(scores, seen_methods=seen, average=judged.average, about=about)
    write_folder(folder, scores, found)
    write_report(folder / PAGE, found, scores, average=judged.average)
    return found


# ---------------------------------------------------------------------- all detectors beside each other


def table(tried: Mapping[str, Tested], left_out: str) -> str:
    """Video AUC with its 95 % interval in Markdown, a row a detector.

    Args:
        tried: detectors by name, each trained without `left_out` and tested on all of COMPRESSIONS.
        left_out: the method.
    """
    seen = [method for method in FORGERIES if method != left_out]
    head = ["detector", *seen, *(f"all three, {name}" for name in COMPRESSIONS), f"left out: {left_out}"]
    lines = [head]
    for name, tested in tried.items():
        levels = {compression: report["levels"]["video"] for compression, report in tested.reports.items()}
        found = [
            *(levels[TRAINED_ON]["method"][method] for method in seen),
            *(levels[name]["seen"] for name in COMPRESSIONS),
            levels[TRAINED_ON]["unseen"],
        ]
        lines.append([name, *map(cell, found)])
    rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([rows[0], "|---" * len(head) + "|", *rows[1:]])


def cell(metrics: Mapping[str, Any]) -> str:
    """The AUC of a group, and between which numbers it lies."""
    low, high = metrics["ci"]["auc"]
    return f"{metrics['auc']:.2f} [{low:.2f}, {high:.2f}]"
