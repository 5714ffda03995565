"""How well a detector judges the validation split, in the middle of its training."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

from dfmodels.data.samples import Samples
from dfmodels.detector import Detector
from dfmodels.evaluation.metrics import measure
from dfmodels.optional import require
from dfmodels.progress import progress_bar
from dfmodels.training.batches import make_loader, next_batch, started
from dfmodels.training.recipe import Recipe


class Validation:
    """The clips of the validation split, shared among the processes of a training.

    Args:
        samples: clips in order; the ones whose `counts` is False stand for clips that a video does not have.
        recipe: samples of a batch, workers, and the metric that a training goes by.
        accelerator: of the training.
    """

    def __init__(self, samples: Samples, recipe: Recipe, accelerator: Any) -> None:
        self.samples, self.recipe, self.accelerator = samples, recipe, accelerator
        samples.set_epoch(0)
        self.mine = list(range(accelerator.process_index, len(samples), accelerator.num_processes))

    @cached_property
    def _loader(self) -> DataLoader[Any]:
        size = self.recipe.batch_size
        batches = [self.mine[i : i + size] for i in range(0, len(self.mine), size)]
        return make_loader(self.samples, batches, self.recipe.num_workers)

    def numbers(self, detector: Detector, note: Callable[[Mapping[str, Any]], None]) -> dict[str, Any] | None:
        """Metrics of the videos, and the mean cross-entropy of their clips; None where a score is not finite.

        Args:
            detector: in evaluation mode.
            note: called with every batch.
        """
        from dfmodels.scoring import video_score

        rows = self._judged(detector, note)
        if self.accelerator.num_processes > 1:
            rows = require("accelerate.utils", "training").gather_object(rows)
        if not rows:
            return {"why": {self.recipe.best_metric: "none of its videos can be read"}}
        rows.sort()
        clips: dict[str, list[list[float]]] = defaultdict(list)
        label_of = {}
        for _, video, label, values in rows:
            clips[video].append(values)
            label_of[video] = label
        scores = [video_score(torch.tensor(values), detector.contract.average) for values in clips.values()]
        if not all(map(math.isfinite, scores)):
            return None
        found = measure([label_of[video] for video in clips], scores)
        del found["threshold"]  # it is always the same
        loss = F.cross_entropy(torch.tensor([row[3] for row in rows]), torch.tensor([row[2] for row in rows]))
        return {**found, "loss": float(loss)}

    def _judged(
        self, detector: Detector, note: Callable[[Mapping[str, Any]], None]
    ) -> list[tuple[int, str, int, list[float]]]:
        """Number, video, label and logits of the clips that are this process's to judge."""
        rows: list[tuple[int, str, int, list[float]]] = []
        seen = 0
        batches = started(self._loader)
        with progress_bar(
            total=len(self._loader),
            desc="validating",
            unit="batch",
            leave=False,
            shown=self.accelerator.is_main_process,
        ) as bar:
            for _ in range(len(self._loader)):
                batch = next_batch(batches)
                note(batch)
                labels, videos = batch["label"], batch["video"]
                counts = batch.get("counts", torch.ones(len(videos), dtype=torch.bool))
                judged = counts.nonzero()[:, 0].tolist()
                if judged:
                    with torch.no_grad(), self.accelerator.autocast():
                        logits = detector(batch["images"][counts].to(self.accelerator.device)).double().cpu()
                    for i, values in zip(judged, logits.tolist(), strict=True):
                        rows.append((self.mine[seen + i], videos[i], int(labels[i]), values))
                seen += len(videos)
                bar.update()
        return rows
