"""What is said of a run: where and on what it took place, and the model card of what it gave."""

from __future__ import annotations

import platform
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dfops
from dfmodels.data.crops import CropSource
from dfmodels.data.index import Video, index_hash
from dfmodels.optional import require
from dfmodels.training.recipe import Recipe
from dfmodels.training.run import BEST, CURVES, FINAL, FREE, RunFolder

CARD = """---
library_name: dfmodels
tags:
- deepfake-detection
---

# {detector}, trained by the recipe {recipe}

A detector of forged faces in videos: `dfmodels score VIDEO --weights {final}` gives the probability that it is fake.
What it says of forgeries and cameras unlike those it was trained on is not known; `dfmodels evaluate` finds out.

![losses and validation]({curves})

## Data

{datasets}; manipulations: {methods}. Index {index}; {failed} videos could not be read.
Weights inherit the terms of the data that they were trained on; add the licence here before you share them.

| split and class | videos |
|---|---|
{data}

## Validation

{validation}
## Recipe

| setting | value |
|---|---|
{settings}

Made by dfops {version}:

    {command}
"""


def environment(
    recipe: Recipe, videos: Sequence[Video], accelerator: Any, crops: CropSource, command: str
) -> dict[str, Any]:
    """Where and on what a run takes place, as environment.json holds it."""
    counts: dict[str, int] = defaultdict(int)
    for video in videos:
        counts[f"{video.split} {'fake' if video.label else 'real'}"] += 1
    device = accelerator.device
    return {
        "index": index_hash(videos),
        "videos": dict(counts),
        "datasets": sorted({video.dataset for video in videos if video.dataset}),
        "methods": sorted({video.method for video in videos if video.split == "train" and video.label}),
        "faces": getattr(crops, "faces", None),
        "seed": recipe.seed,
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "command": command,
        "versions": {
            "dfops": dfops.__version__,
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "numpy": np.__version__,
            "accelerate": require("accelerate", "training").__version__,
        },
    }


def _processor() -> str:
    """Name of the CPU; where the system tells none, what kind it is."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def notes(recipe: Recipe, facts: Mapping[str, Any], what: str, epoch: Mapping[str, Any]) -> dict[str, Any]:
    """What the file of weights says of their training, under the names that a model card knows.

    Args:
        recipe: that trained.
        facts: as of `environment`.
        what: which weights of the run they are.
        epoch: the row of metrics.csv that judges them; empty without a validation split.
    """
    judged = _validation(epoch)
    data = ", ".join(facts["datasets"]) or "an index"
    return {
        "note": f"trained on {data} by the recipe {recipe.name}, {what}",
        "recipe": {name: value for name, value in recipe.as_dict().items() if name not in FREE},
        "metrics": {"of": f"the validation split after epoch {epoch['epoch']}", **judged}
        if judged
        else {"of": "no validation split"},
        "data": {name: facts[name] for name in ("datasets", "methods", "videos", "index")},
    }


def _validation(epoch: Mapping[str, Any]) -> dict[str, float]:
    """The metrics in a row of an epoch, by their names."""
    return {
        name.removeprefix("val_"): value
        for name, value in epoch.items()
        if name.startswith("val_") and isinstance(value, int | float)
    }


def model_card(recipe: Recipe, folder: RunFolder, best: str, failed: int, command: str) -> str:
    """The README.md of a run that is finished.

    Args:
        recipe: that trained.
        folder: of the run.
        best: when the validation was best, in a sentence; empty without one.
        failed: videos that could not be read.
        command: what was typed.
    """
    settings = "\n".join(f"| {name} | {value} |" for name, value in recipe.as_dict().items())
    last = "\n".join(f"| {name} | {value:.4f} |" for name, value in _validation(folder.last_epoch()).items())
    validation = (
        f"{best}\n\n"
        if best
        else f"No validation split that defines {recipe.best_metric}, so there is no `{BEST}`.\n\n"
    ) + (f"After the last epoch:\n\n| metric | videos of the validation split |\n|---|---|\n{last}\n" if last else "")
    facts = folder.environment()
    data = "\n".join(f"| {name} | {count} |" for name, count in facts["videos"].items())
    return CARD.format(
        detector=recipe.detector,
        recipe=recipe.name,
        datasets=", ".join(facts["datasets"]) or "an index without names of data sets",
        methods=", ".join(facts["methods"]) or "unnamed",
        data=data,
        index=facts["index"],
        validation=validation,
        settings=settings,
        command=command or "dfmodels.training.train(...)",
        version=dfops.__version__,
        failed=failed,
        final=FINAL,
        curves=CURVES,
    )
