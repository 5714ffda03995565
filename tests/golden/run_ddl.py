"""DDL's golden cases: which module a case belongs to, and how its outputs are obtained."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import dfops
from dfmodels import registry
from dfmodels.detectors import ddl
from dfmodels.scoring import video_score
from dfmodels.training.recipes import DDL
from dfmodels.video import clip_frames, crop_box, folder_clip_frames
from tests.golden.cases import Case, Run, fill, published_buffers, published_grad_norms, published_means
from tests.golden.run_stil import rates
from tests.strategies import lay_out


def clip_of(folded: Tensor, num_frames: int, layout: str) -> Tensor:
    """(B*T, C, H, W) -> (B, T, C, H, W) in the layout asked for."""
    clip = folded.unflatten(0, (-1, num_frames))
    if layout == "contiguous":
        return clip
    b, t, c, h, w = clip.shape
    empty = clip.new_empty_strided(clip.shape, (t * c * h * w, c * h * w, 1, w * c, c))
    return torch.zeros_like(empty) + clip if clip.requires_grad else lay_out(clip, layout)


def survivors(variance: Tensor, threshold: Tensor, rule: str) -> Tensor:
    masked = variance <= threshold[:, None, None] if rule == "le" else variance < threshold[:, None, None]
    return (~masked).to(torch.uint8)


def maps_of(query: Tensor, key: Tensor, args) -> dict[str, Tensor]:
    """Everything stored of a difference map, from the operator."""
    rule, rank = args["mask_rule"], args["num_keep"]
    options = {"eps": args.get("eps", 1e-8), "min_variance": args.get("min_variance", 0.0)}
    h, w = query.shape[3:]
    _, variance, threshold, _ = torch.ops.dfops.interframe_difference(
        query.detach(), key.detach(), rank, rule == "lt", True, options["eps"], options["min_variance"]
    )
    return {
        # with the smallest variance as threshold, "lt" masks nothing
        "raw": dfops.interframe_difference(query, key, num_keep=h * w, mask_rule="lt", normalize=False, **options),
        "var": variance,
        "threshold": threshold,
        "survive": survivors(variance, threshold, rule),
        "masked": dfops.interframe_difference(query, key, num_keep=rank, mask_rule=rule, normalize=False, **options),
        "norm": dfops.interframe_difference(query, key, num_keep=rank, mask_rule=rule, **options),
    }


def run_difference(case: Case, layout: str) -> Run:
    args = case.args
    inputs = case.inputs()
    query, key = (clip_of(inputs[name], args["clip_length"], layout) for name in ("q", "k"))
    outputs = maps_of(query, key, args)
    if args["mask_rule"] == "le":
        options = {"eps": args["eps"], "min_variance": args["min_variance"]}
        positions, values = dfops.interframe_difference_sparse(query, key, num_keep=args["num_keep"], **options)
        outputs |= {"positions": positions, "values": values}
        upstream = case.array(case.facts["upstream"]["norm"]).flatten(2)
        slots = upstream.gather(2, positions.clamp(min=0)[:, None].expand_as(values))
        sparse = torch.autograd.grad((values * slots).sum(), list(inputs.values()), retain_graph=True)
        dense = torch.autograd.grad(
            (outputs["norm"].flatten(2) * upstream).sum(), list(inputs.values()), retain_graph=True
        )
        for one, other in zip(sparse, dense, strict=True):
            torch.testing.assert_close(one, other)

    def times_norm(results):
        norms = {name: inputs[name].detach().norm(dim=1, keepdim=True).clamp(min=1e-12) for name in ("q", "k")}
        return {f"grad_{name}_times_norm": results[f"grad_{name}"] * norm for name, norm in norms.items()}

    return Run(outputs, inputs, derive=times_norm)


def run_capture(case: Case, layout: str) -> Run:
    args = case.args
    module = fill(
        ddl.DifferenceCapture(
            args["channels"], ratio=args["ratio"], num_keep=args["num_keep"], mask_rule=args["mask_rule"]
        ),
        ddl.CAPTURE_LAYOUT,
        case,
    )
    inputs = case.inputs()
    x = clip_of(inputs["x"], args["clip_length"], layout)
    maps: list[Tensor] = []
    out = module(x, maps=maps)
    outputs = maps_of(*module._query_key(x), args)
    torch.testing.assert_close(maps[0], outputs["norm"])
    return Run({**outputs, "out": out}, inputs, module, ddl.CAPTURE_LAYOUT)


def run_aggregation(case: Case, layout: str) -> Run:
    args = case.args
    published = ddl.aggregation_layout()
    module = fill(ddl.TemporalAggregation(args["channels"], ratio=args["ratio"]), published, case)
    inputs = case.inputs()
    x = clip_of(inputs["x"], args["clip_length"], layout)
    seen = {}
    logits = module.logits

    def record(*merged):
        seen["paths"] = logits(*merged)
        return seen["paths"]

    module.logits = record
    out = module(x)
    attention = sum((torch.sigmoid(path) - 0.5) / 2 for path in seen["paths"])
    return Run({"out": out, "att": attention, **published_buffers(module, published)}, inputs, module, published)


def run_block(case: Case, layout: str) -> Run:
    args = case.args
    block = ddl.Block(
        args["in_channels"],
        args["out_channels"],
        num_convs=args["reps"],
        stride=args["stride"],
        leading_relu=args["leading_relu"],
    )
    published = ddl.block_layout(block)
    fill(block, published, case)
    inputs = case.inputs()
    outputs, maps = {}, []

    def keep(name):
        return lambda module, args, out: outputs.__setitem__(name, out[:, :, 0::2])

    block.capture.register_forward_hook(keep("after_dfdc_even"))
    block.aggregation.register_forward_hook(keep("after_msa_even"))
    outputs["out"] = block(clip_of(inputs["x"], args["clip_length"], layout), maps)
    outputs["norm"] = maps[0]
    outputs |= published_buffers(block, published)
    return Run(outputs, inputs, block, published, lambda results: {"grad_x_even": results["grad_x"][:, 0::2]})


def run_fusion(case: Case, layout: str) -> Run:
    args = case.args
    module = ddl.FrameFusion(args["in_channels"], args["out_channels"], args["ratio"])
    fill(module, ddl.FUSION_LAYOUT, case)
    inputs = case.inputs()
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    outputs = {}
    module.attention.register_forward_hook(lambda module, args, out: outputs.__setitem__("gate", out))
    outputs["out"] = module(inputs["x"].contiguous(memory_format=memory))
    return Run(outputs, inputs, module, ddl.FUSION_LAYOUT)


def run_model(case: Case, layout: str) -> Run:
    args = case.args
    model = registry.build("ddl", num_frames=args["clip_length"], num_classes=args["num_classes"])
    published = model.published_layout()
    fill(model, published, case)
    inputs = case.inputs()
    x = inputs["x"].unflatten(1, (args["clip_length"], 3))
    x = clip_of(x.flatten(0, 1), args["clip_length"], layout)
    blocks: list[Tensor] = []
    for block in model.blocks:
        block.register_forward_hook(lambda module, args, out: blocks.append(out.flatten(0, 1)))
    maps: list[Tensor] = []
    features = model.features(x, maps)
    outputs = {"features": features, "out": model.head(features)}
    for i, (difference, block) in enumerate(zip(maps, blocks, strict=True), 1):
        outputs[f"map{i}"] = difference
        outputs[f"survive{i}"] = (difference > 0).any(1).flatten(1).to(torch.uint8)
        outputs[f"block{i}_slice"] = block[[0, -1], :4]
    outputs["block_mean"] = torch.stack([b.mean() for b in blocks])
    outputs["block_std"] = torch.stack([b.std() for b in blocks])
    outputs["block_shape"] = torch.tensor([b.shape for b in blocks])
    if not case.train:
        model_again = model(x)
        torch.testing.assert_close(model_again, outputs["out"])
        return Run(outputs, inputs, model, published)
    outputs["loss"] = F.cross_entropy(outputs["out"], inputs["labels"])
    buffers = published_buffers(model, published)
    outputs |= buffers | published_means(case, buffers)
    return Run(outputs, inputs, model, published, lambda results: published_grad_norms(case, results))


def run_protocol(case: Case, layout: str) -> None:
    sections = case.protocol()
    for facts in sections["clip_frames"]["cases"]:
        assert folder_clip_frames(facts["first"], facts["last"], facts["clip_length"]) == facts["expect"]
    for facts in sections["video_clips"]["cases"]:
        assert clip_frames(facts["video_frames"], facts["clip_length"]) == facts["expect"]
    for facts in sections["crop_boxes"]["cases"]:
        assert list(crop_box(facts["box"], tuple(facts["frame"]), facts["margin"])) == facts["expect"]
    for facts in sections["video_score"]["cases"]:
        fake = torch.tensor(facts["clip_probabilities"], dtype=torch.float64).logit()
        logits = torch.stack([torch.zeros_like(fake), fake], dim=1)
        assert video_score(logits) == pytest.approx(facts["expect"], rel=1e-6)
    steps = 3
    seen = rates(DDL(), steps, steps * DDL().epochs)
    for facts in sections["learning_rate"]["cases"]:
        epoch = facts["epoch"] * steps
        assert seen[epoch : epoch + steps] == pytest.approx([facts["expect"]] * steps, rel=1e-6)
    assert sections.keys() == {"clip_frames", "video_clips", "learning_rate", "crop_boxes", "video_score"}


RUNNERS = {
    "ddl_diffmap": run_difference,
    "ddl_dfdc": run_capture,
    "ddl_msa": run_aggregation,
    "ddl_block": run_block,
    "ddl_fusion": run_fusion,
    "ddl_model": run_model,
    "ddl_protocol": run_protocol,
}
