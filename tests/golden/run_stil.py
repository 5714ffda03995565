"""STIL's golden cases: which module a case belongs to, and how its outputs are obtained."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dfmodels import registry
from dfmodels.detectors import stil
from dfmodels.scoring import video_score
from dfmodels.training.recipe import Recipe
from dfmodels.training.recipes import STIL
from dfmodels.video import candidate_frames, crop_box, eval_frames, train_frames
from tests.golden.cases import Case, Run, fill, published_buffers, published_grad_norms, published_means

AVERAGES = {"logit_mean": "logits", "clip_mean": "probabilities"}


def frames_of(case: Case, layout: str) -> tuple[dict[str, Tensor], Tensor]:
    """The inputs, and the frames (N, C, H, W) among them in the layout asked for."""
    inputs = case.inputs()
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    return inputs, inputs["x"].contiguous(memory_format=memory)


def run_temporal(case: Case, layout: str) -> Run:
    args = case.args
    module = fill(stil.TemporalInconsistency(args["channels"], reduction=args["reduction"]), stil.TEMPORAL_LAYOUT, case)
    inputs, x = frames_of(case, layout)
    outputs = {}
    module.reduce.register_forward_hook(lambda module, args, out: outputs.__setitem__("reduced", out))
    outputs["out"] = module(x, args["clip_length"])
    buffers = published_buffers(module, stil.TEMPORAL_LAYOUT)
    if not case.train:
        logits = module.logits(x, args["clip_length"])
        outputs["att"] = sum(torch.sigmoid(path) - 0.5 for path in logits) / 2
    return Run({**outputs, **buffers}, inputs, module, stil.TEMPORAL_LAYOUT)


def run_supplement(case: Case, layout: str) -> Run:
    published = {"conv.weight": ("taps", ())}
    module = fill(stil.InformationSupplement(), published, case)
    inputs, x = frames_of(case, layout)
    return Run({"out": module(x), "gate": module.gate(x)}, inputs, module, published)


def run_spatial(case: Case, layout: str) -> Run:
    args = case.args
    module = stil.SpatialInconsistency(args["channels"], stride=args["stride"], pool=args["pool"])
    fill(module, stil.SPATIAL_LAYOUT, case)
    inputs, x = frames_of(case, layout)
    out, evidence = module(x)
    return Run({"out": out, "s2t": evidence}, inputs, module, stil.SPATIAL_LAYOUT)


def run_shift(case: Case, layout: str) -> Run:
    args = case.args
    published = {"conv.weight": ("taps", ())}
    module = stil.TemporalShift(args["channels"], divisor=args["fold_divisor"])
    if not args["constructor_weights"]:
        fill(module, published, case)
    inputs, x = frames_of(case, layout)
    outputs = {"out": module(x, args["clip_length"]), "weight": module.taps}
    return Run(outputs, inputs, module, published)


def run_block(case: Case, layout: str) -> Run:
    args = case.args
    bottleneck = stil.Bottleneck(
        args["in_channels"], args["planes"], stride=args["stride"], project_skip=args["downsample"]
    )
    published = stil.bottleneck_layout(bottleneck)
    fill(bottleneck, published, case)
    inputs, x = frames_of(case, layout)
    outputs = {}

    def keep(name):
        return lambda module, args, out: outputs.__setitem__(name, out[:, 0::2])

    bottleneck.block.temporal.register_forward_hook(keep("tim"))
    bottleneck.block.to_temporal.register_forward_hook(keep("ism"))
    bottleneck.block.shift.register_forward_hook(keep("shift"))
    out = bottleneck(x, args["clip_length"])
    # the upstream gradient belongs to the whole output, of which every second channel is stored
    outputs |= {"out": out, "out_even": out[:, 0::2], "out_mean": out.mean((2, 3))}
    outputs |= published_buffers(bottleneck, published)

    def cut(results):
        return {"grad_x_4": results["grad_x"][:, 0::4], "grad_x_mean": results["grad_x"].mean((2, 3))}

    return Run(outputs, inputs, bottleneck, published, cut)


def run_model(case: Case, layout: str) -> Run:
    args = case.args
    model = registry.build("stil", num_classes=args["num_classes"])
    published = model.published_layout()
    fill(model, published, case)
    inputs = case.inputs()
    clip = inputs["x"].unflatten(1, (args["frames"], 3))
    if layout == "channels_last":
        clip = clip.movedim(2, -1).contiguous().movedim(-1, 2)
    stages: list[Tensor] = []
    model.stages[0][0].register_forward_pre_hook(lambda module, args: stages.append(args[0]))
    for stage in model.stages:
        stage[-1].register_forward_hook(lambda module, args, out: stages.append(out))
    out = model(clip, clip_length=args["clip_length"])
    outputs = {"out": out}
    if case.train:
        outputs["loss"] = F.cross_entropy(out, inputs["labels"])
        buffers = published_buffers(model, published)
        outputs |= buffers | published_means(case, buffers)
        return Run(outputs, inputs, model, published, lambda results: published_grad_norms(case, results))
    for name, stage in zip(("stem", "layer1", "layer2", "layer3", "layer4"), stages, strict=True):
        outputs[f"{name}_slice"] = stage[[0, -1], :4]
    outputs["stage_mean"] = torch.stack([stage.mean() for stage in stages])
    outputs["stage_std"] = torch.stack([stage.std() for stage in stages])
    outputs["stage_shape"] = torch.tensor([stage.shape for stage in stages])
    outputs["frame_features"] = model.features(clip, clip_length=args["clip_length"]).flatten(0, 1)
    outputs["frame_logits"] = model.frame_logits(clip, clip_length=args["clip_length"]).flatten(0, 1)
    return Run(outputs, inputs, model, published)


def rates(recipe: Recipe, steps_per_epoch: int, steps: int) -> list[float]:
    """The learning rate of each step."""
    optimizer = recipe.optimizer(nn.Linear(1, 1))
    schedule = recipe.schedule(optimizer, steps_per_epoch)
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
        seen = rates(STIL(learning_rate=facts["base"]), facts["steps_per_epoch"], steps=facts["step"])
        assert seen[-1] == pytest.approx(facts["expect"], rel=1e-12)
    for facts in sections["video_score"]["cases"]:
        frame_logits = torch.tensor(facts["frame_logits"], dtype=torch.float64)
        clip_logits = frame_logits.unflatten(0, (-1, facts.get("clip_length", 1))).mean(1)
        score = video_score(clip_logits, AVERAGES[facts["reduce"]])
        assert score == pytest.approx(facts["expect"], rel=1e-12)
    expected = {"candidates", "test_frames", "train_frames", "crop_boxes", "learning_rate", "video_score"}
    assert sections.keys() == expected


RUNNERS = {
    "stil_tim": run_temporal,
    "stil_ism": run_supplement,
    "stil_scconv": run_spatial,
    "stil_shift": run_shift,
    "stil_block": run_block,
    "stil_model": run_model,
    "stil_protocol": run_protocol,
}
