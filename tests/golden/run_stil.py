"""STIL's golden cases: which module a case belongs to, and how its outputs are obtained."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dfmodels.evaluation.scoring import video_score
from dfmodels.training import recipes
from dfmodels.video import candidate_frames, crop_box, eval_frames, train_frames
from tests.golden.cases import Case

AVERAGES = {"logit_mean": "logits", "clip_mean": "probabilities"}


def rates(optimizer: Optimizer, schedule: LRScheduler, steps: int) -> list[float]:
    """The learning rate of each step."""
    result = []
    for _ in range(steps):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return result


def run_protocol(case: Case, layout: str) -> None:
    sections = case.protocol()
    for facts in sections["candidates"]["cases"]:
        assert candidate_frames(facts["video_frames"], facts["span"]) == facts["expect"]
    for facts in sections["test_frames"]["cases"]:
        assert eval_frames(facts["video_frames"], facts["clip_frames"], facts["span"]) == facts["expect"]
    for facts in sections["train_frames"]["cases"]:
        frames, count, span = facts["video_frames"], facts["clip_frames"], facts["span"]
        assert len(candidate_frames(frames, span)) // count == facts["segment"]
        draws = np.random.default_rng(0) if facts["draws"] is None else facts["draws"]
        assert train_frames(frames, count, draws=draws, span=span) == facts["expect"]
    for facts in sections["crop_boxes"]["cases"]:
        assert list(crop_box(facts["box"], tuple(facts["frame"]), facts["margin"])) == facts["expect"]
    for facts in sections["learning_rate"]["cases"]:
        options = {"steps_per_epoch": facts["steps_per_epoch"], "learning_rate": facts["base"]}
        seen = rates(*recipes.stil(nn.Linear(1, 1), **options), steps=facts["step"])
        assert seen[-1] == pytest.approx(facts["expect"], rel=1e-12)
    for facts in sections["video_score"]["cases"]:
        frame_logits = torch.tensor(facts["frame_logits"], dtype=torch.float64)
        clip_logits = frame_logits.unflatten(0, (-1, facts.get("clip_length", 1))).mean(1)
        score = video_score(clip_logits, AVERAGES[facts["reduce"]])
        assert score == pytest.approx(facts["expect"], rel=1e-12)
    expected = {"candidates", "test_frames", "train_frames", "crop_boxes", "learning_rate", "video_score"}
    assert sections.keys() == expected


RUNNERS = {
    "stil_protocol": run_protocol,
}
