"""Tiny trainings that take a moment: a detector of a few weights, and samples out of nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from dfmodels.data.index import Video
from dfmodels.data.samples import Samples
from dfmodels.detector import Detector, InputContract
from dfmodels.registry import register as register_detector
from dfmodels.training.recipe import Recipe, register


class Tiny(Detector):
    name = "tiny"

    def __init__(self, width, drop):
        super().__init__()
        self.config = {"width": width, "drop": drop}
        self.contract = InputContract(num_frames=1, size=8, num_clips=2)
        self.body = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(drop))
        self.head = nn.Linear(width, 2)

    def forward(self, clip):
        return self.head(self.body(clip.flatten(0, 1)).mean((2, 3)))


class Noise(Samples):
    """Fakes are brighter; `wrong` says which draws are not finite, `log` where the keys of what was drawn go."""

    def __init__(self, videos, seed=0, per_video=1, wrong=(), failed=()):
        super().__init__(seed)
        self.videos, self.per_video, self.wrong, self.failed = list(videos), per_video, wrong, failed

    def __len__(self):
        return len(self.videos) * self.per_video

    def sample(self, index, draws):
        video = self.videos[index // self.per_video]
        images = torch.from_numpy(draws.random((1, 3, 8, 8), np.float32)) + 0.3 * video.label + 0.1 * torch.rand(())
        if (int(self._epoch), video.id) in self.wrong:
            images = images * float("nan")
        failed = f"{video.key}: cannot be read" if video.id in self.failed else ""
        return {"images": images, "label": video.label, "video": video.key, "failed": failed, "counts": not failed}


def tiny(width=4, drop=0.25):
    return Tiny(width, drop)


@dataclass(frozen=True)
class TinyRecipe(Recipe):
    detector: ClassVar[str] = "tiny"

    epochs: int = 3
    batch_size: int = 4
    learning_rate: float = 1e-2
    save_every: int = 2
    wrong: tuple[str, ...] = ()  # "EPOCH/ID" of draws that are not finite
    failed: tuple[str, ...] = ()  # ids of videos that cannot be read

    def samples(self, videos, crops, contract):
        wrong = {(int(epoch), name) for epoch, name in (entry.split("/") for entry in self.wrong)}
        return Noise(videos, self.seed, self.clips_per_video, wrong, set(self.failed))

    def validation(self, videos, crops, contract):
        return Noise(videos, per_video=contract.num_clips, failed=set(self.failed))


def begin():
    """Register both names, which other tests are not to meet: in a process of its own, or with `own_registry`."""
    register_detector("tiny")(tiny)
    register("tiny")(TinyRecipe)


def videos(train=24, val=8):
    return [
        Video(Path(f"/nowhere/{split}{i}.mp4"), i % 2, split, "Noise", "noise" if i % 2 else "real", f"{split}{i}")
        for split, count in (("train", train), ("val", val))
        for i in range(count)
    ]
