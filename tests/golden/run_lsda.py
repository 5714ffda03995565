"""LSDA's golden cases: which module a case belongs to, and how its outputs are obtained."""

from unittest.mock import patch

import torch
from timm.layers import drop_path
from torch import Tensor, nn

import dfmodels
import dfops
from dfmodels import weights
from dfmodels.backbones.efficientnet import EfficientNetB4
from dfmodels.backbones.iresnet import IResNet
from dfmodels.backbones.xception import Xception
from dfmodels.detectors import lsda
from dfmodels.training.objectives import lsda as objective
from dfops import augment, reference
from dfops.augment import Draws
from dfops.ops.latent_rotate import MODES, PADDINGS
from tests.golden.cases import Case, Run, fill, published_buffers


def laid_out(maps: Tensor, layout: str) -> Tensor:
    """Maps (..., C, H, W) in the layout asked for."""
    if layout == "contiguous":
        return maps
    return maps.movedim(-3, -1).contiguous().movedim(-1, -3)


def statistics(x: Tensor) -> Tensor:
    return torch.stack([x.mean(), x.std(correction=0), x.abs().max()])


def run_cosine(case: Case, layout: str) -> Run:
    inputs = case.inputs()
    anchor, others = (laid_out(inputs[name], layout) for name in ("anchor", "others"))

    def distances(anchor: Tensor, **options) -> Tensor:
        pairs = others.split(1, 1)
        return torch.stack([dfops.paired_cosine(anchor, pair, (1.0,), **options) for pair in pairs], 1)

    outputs = {
        "distance": distances(anchor, eps=case.args["eps"]),
        "out": dfops.paired_cosine(anchor, others, case.args["signs"], eps=case.args["eps"]),
        "distance_small": distances(anchor * 1e-8),
    }
    return Run(outputs, inputs)


def run_encoder(case: Case, layout: str, module: nn.Module, published: weights.Layout) -> Run:
    """An encoder: its output, and under published names running statistics and the gradients of its parameters."""
    fill(module, published, case, unused="model._fc.")
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    module.to(memory_format=memory)
    inputs = case.inputs()
    out = module(inputs["x"].contiguous(memory_format=memory))
    outputs = {"out": out, "out_c0_128": out[:, :128], "out_stats": statistics(out)}
    outputs |= published_buffers(module, published)

    def cut(results: dict[str, Tensor]) -> dict[str, Tensor]:
        grads = {key.replace("_param.", "_"): x for key, x in results.items() if key.startswith("grad_param.")}
        grads |= {key: x[:64] for key, x in grads.items() if key.endswith("_depthwise_conv.weight")}
        return grads | {f"{key}_0": x[0] for key, x in grads.items()}

    return Run(outputs, inputs, module, published, cut)


def run_efficientnet(case: Case, layout: str) -> Run:
    module = EfficientNetB4(drop_path=0.0)
    seen: dict[str, Tensor] = {}
    blocks = [block for stage in module.model.blocks for block in stage]
    for i, block in enumerate(blocks):
        block.register_forward_hook(lambda module, args, out, i=i: seen.__setitem__(str(i), out))
    module.conv.register_forward_pre_hook(lambda module, args: seen.__setitem__("features", args[0]))
    run = run_encoder(case, layout, module, module.published_layout())
    features = seen["features"]
    run.outputs |= {"features_c0_32": features[:, :32], "features_c0_16": features[:, :16]}
    run.outputs |= {"block6_c0_2": seen["6"][:, :2], "block22_c0_8": seen["22"][:, :8]}
    run.outputs["block_stats"] = torch.stack([statistics(seen[str(i)]) for i in range(len(blocks))])
    return run


def run_drop_connect(case: Case, layout: str) -> Run:
    """timm's stochastic depth, its draw of the branches that stay replaced by the one of the case."""
    inputs = case.inputs()
    u = inputs["u"]

    def draw(mask: Tensor, keep: float) -> Tensor:
        return mask.copy_((keep + u).floor().reshape(mask.shape))

    with patch.object(Tensor, "bernoulli_", draw):
        return Run({"out": drop_path(laid_out(inputs["x"], layout), float(inputs["p"]), training=True)}, inputs)


def run_drop_rates(case: Case, layout: str) -> Run:
    model = EfficientNetB4(drop_path=case.args["drop_path_rate"]).model
    blocks = [block for stage in model.blocks for block in stage]
    rates = [getattr(block.drop_path, "drop_prob", 0.0) if block.has_skip else 0.0 for block in blocks]
    return Run({"rate": torch.tensor(rates)}, {})


def run_iresnet(case: Case, layout: str) -> Run:
    blocks = (2, 2, 2, 2) if "iresnet18" in case.name else (3, 13, 30, 3)
    module = IResNet(blocks, freeze_norms=case.args.get("freeze_norms", False))
    stages: list[Tensor] = []
    for stage in (module.prelu, module.layer1, module.layer2, module.layer3, module.layer4):
        stage.register_forward_hook(lambda module, args, out: stages.append(out))
    run = run_encoder(case, layout, module, lsda.encoder_layout(module))
    run.outputs |= {"layer1_c0": stages[1][0, 0], "layer3_c0_8": stages[3][:, :8], "layer4_c0_8": stages[4][:, :8]}
    run.outputs["stage_stats"] = torch.stack([statistics(stage) for stage in stages])
    return run


def run_xception(case: Case, layout: str) -> Run:
    module = Xception()
    return run_encoder(case, layout, module, lsda.encoder_layout(module))


def run_part(case: Case, layout: str, module: nn.Module) -> Run:
    """The fusion or a head, whose keys are the published ones."""
    fill(module, {key: (key, ()) for key in module.state_dict()}, case)
    inputs = case.inputs()
    out = module(laid_out(inputs["x"], layout))
    return Run(
        {"out": out, "prob": out.softmax(1)[:, -1]},
        inputs,
        module,
        derive=lambda results: {"grad_x_c0_16": results["grad_x"][:, :16]},
    )


def stub(width: int = 512) -> nn.Module:
    """The encoder of the recorded trainings: one convolution, 32 pixels a position."""
    encoder = nn.Sequential()
    encoder.add_module("proj", nn.Conv2d(3, width, 32, 32))
    return encoder


def stubbed(**options) -> objective.LSDADistillation:
    student = dfmodels.build("lsda")
    student.encoder = stub()
    return objective.LSDADistillation(student, [stub() for _ in range(4)], stub(), **options)


def run_losses(case: Case, layout: str) -> Run:
    training = stubbed(**case.args)
    inputs = case.inputs()
    maps = {name: laid_out(inputs[f"{name}_features"], layout) for name in ("real", "student", "fused")}
    losses = training.training_losses({**maps, **{name: inputs[name] for name in ("binary_logits", "domain_logits")}})
    real, others = maps["real"][:, 0], maps["real"][:, 1:].split(1, 1)
    divergences = torch.stack([objective.jensen_shannon(real, other, (1.0,)) for other in others])
    outputs = {**losses, "js_df_f2f_fs_nt": divergences}
    outputs["real_js"] = stubbed(**{**case.args, "real_loss": "js"}).real_loss(maps["real"])
    for name, value in {"js_df_grad": divergences[0], "js_grad_real_features": outputs["real_js"]}.items():
        outputs[name] = torch.autograd.grad(value, inputs["real_features"], retain_graph=True)[0]
    for name, other in zip(("df", "f2f", "fs", "nt"), others, strict=True):
        outputs[f"cosine_{name}"] = dfops.paired_cosine(real, other, (1.0,))
    return Run(outputs, inputs)


LOSSES = ("binary", "distill", "domain", "real", "overall")


def run_training(case: Case, layout: str, training: objective.LSDADistillation) -> Run:
    weights.load_into(training, case.weights(), case.name)
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    training.eval().to(memory_format=memory)
    given = {name: x.detach() for name, x in case.inputs().items()}
    draws = Draws(**{name: given.get(name) for name in Draws._fields})
    with torch.set_grad_enabled("upstream" in case.facts):
        outputs = training.training_forward(given["image"], draws)
        losses = training.training_losses(outputs)
    outputs["losses"] = torch.stack([losses[name] for name in LOSSES])
    maps = {name: outputs[name] for name in ("student", "real", "forgery", "augmented", "mixed", "fused")}
    for count in (4, 8, 16):
        outputs |= {f"{name}_c0_{count}": x.narrow(-3, 0, count) for name, x in maps.items()}
    outputs |= {f"{name}_stats": statistics(x) for name, x in maps.items()}
    return Run(outputs, {}, training, training.published_layout())


def run_full_training(case: Case, layout: str) -> Run:
    return run_training(case, layout, objective.LSDADistillation(**case.args))


def run_stub_training(case: Case, layout: str) -> Run:
    # In lsda_train_stub_sample a value before a LeakyReLU of the fusion is 2e-8: on which side of 0 it ends, and with
    # it a gradient, depends on the order of sums, hence on the threads. The numbers were recorded on one.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run = run_training(case, layout, stubbed(**case.args))
    finally:
        torch.set_num_threads(threads)

    def cut(results: dict[str, Tensor]) -> dict[str, Tensor]:
        norms = [results[f"grad_param.{key}"].norm() for key in case.weights()]
        return {
            "grad_norm": torch.stack(norms),
            "grad_student_encoder.proj.weight_0": results["grad_param.student_encoder.proj.weight"][0],
            "grad_encoders_f.2.proj.bias": results["grad_param.encoders_f.2.proj.bias"],
            "grad_fc_weights.0.weight_0": results["grad_param.fc_weights.0.weight"][0],
        }

    run.derive = cut
    return run


def run_detector(case: Case, layout: str) -> Run:
    """The whole checkpoint loads into the detector for use, which is the student alone."""
    model = dfmodels.build("lsda")
    weights.load_into(model, case.weights(), case.name)
    inputs = case.inputs()
    features: list[Tensor] = []
    model.encoder.register_forward_hook(lambda module, args, out: features.append(out))
    logits = model.predict_logits(laid_out(inputs["image"], layout)[:, None])
    return Run({"cls": logits, "prob": logits.softmax(1)[:, 1], "features_c0_32": features[0][:, :32]}, inputs)


def run_hard_example(case: Case, layout: str) -> Run:
    """The maps of one domain; the distances are those of the reference, which the operator does not return."""
    inputs = case.inputs()
    z, granularity = laid_out(inputs["z"], layout)[:, None], case.name.rpartition("_")[2]
    centroid, hard_index = farthest(z, granularity)
    rows = z[:, 0] if granularity == "sample" else z[:, 0].flatten(0, 1)
    distance = reference.hard_examples(z, granularity=granularity)[1]
    outputs = {"centroid": centroid, "distance": distance, "index": hard_index[0], "hard": rows[hard_index[0]]}
    return Run(outputs, inputs)


def run_hard_example_ties(case: Case, layout: str) -> Run:
    inputs = case.inputs()
    z, outputs = laid_out(inputs["z"], layout), {}
    for granularity in ("sample", "channel"):
        outputs[f"hard_index_{granularity}"] = farthest(z, granularity)[1]
        outputs[f"distance_{granularity}"] = reference.hard_examples(z, granularity=granularity)[1]
    return Run(outputs, inputs)


def farthest(z: Tensor, granularity: str) -> tuple[Tensor, Tensor]:
    lam = z.new_zeros(z.shape[:2] if granularity == "sample" else z.shape[:3])
    return dfops.latent_augment(z, z.new_zeros(z.shape[:2], dtype=torch.int64), lam, granularity=granularity)[1:]


def run_augment_formulas(case: Case, layout: str) -> Run:
    """Every id on the maps of one domain, beside rows that make the statistics the independent inputs of the case."""
    inputs = case.inputs()
    z, noise = (laid_out(inputs[name], layout) for name in ("z", "noise"))
    hard, mean, first, second = (inputs[name] for name in ("hard", "mean", "zj", "zk"))
    lam, sigma = inputs["lam"].detach(), inputs["sigma"].detach()

    def augmented(id_: int, *rows: Tensor, centroid: Tensor | None = None, **draws: Tensor) -> Tensor:
        """Of z behind further rows, which are copied."""
        maps = laid_out(torch.cat([*(row[None] for row in rows), z]), layout)[:, None]
        choice = torch.tensor([[-1]] * len(rows) + [[id_]] * len(z))
        draws = {name: value[:, None] for name, value in draws.items()}
        scale = torch.cat([lam.new_zeros(len(rows)), lam])[:, None]
        return dfops.latent_augment(maps, choice, scale, centroid=centroid, **draws)[0][len(rows) :, 0]

    far_from_hard = -10 * hard.detach()[None]
    rest = (len(z) + 1) * mean - z.sum(0)  # with which the mean of the rows is the one asked for
    outputs = {
        "interpolate": augmented(0, hard, centroid=far_from_hard),
        "extrapolate": augmented(1, rest),
        "additive": augmented(2, sigma=sigma, noise=noise.detach()),
        "difference": augmented(3, first, second),
    }
    return Run(outputs, inputs)


def run_augment(case: Case, layout: str) -> Run:
    inputs = case.inputs()
    z = laid_out(inputs["z"], layout)
    draws = {name: x.detach() for name, x in inputs.items() if name != "z"}
    if "noise" in draws:
        draws["noise"] = laid_out(draws["noise"], layout)
    function = dfops.latent_augment_mix if "perm" in draws else dfops.latent_augment
    options = {name: case.args[name] for name in ("granularity", "detach_statistics") if name in case.args}
    out, mean, hard_index = function(z, **draws, **options)
    return Run({"out": out, "domain_mean": mean, "hard_index": hard_index}, inputs)


def run_draws(case: Case, layout: str) -> Run:
    inputs = case.inputs()
    outputs = {
        "perm_cyclic": augment.partners(inputs["u_partner"]),
        "perm": augment.partners(inputs["u_partner"], "permutation"),
        "component": augment.mixture_components(inputs["u_component"], inputs["pi"]),
    }
    return Run(outputs, inputs)


def run_mixture_noise(case: Case, layout: str) -> Run:
    inputs = case.inputs()
    z, eps = (laid_out(inputs[name], layout) for name in ("z", "eps"))
    noise = augment.mixture_noise(eps, inputs["component"], inputs["variance"])
    return Run({"noise": noise, "additive": augment.additive(z, inputs["lam"], noise)}, inputs)


def maps_of(z: Tensor, layout: str) -> Tensor:
    """All leading axes as one, (N, C, H, W) in the layout asked for."""
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    return z.flatten(0, -4).contiguous(memory_format=memory)


def run_rotation(case: Case, layout: str) -> Run:
    inputs = case.inputs()
    return Run({"out": dfops.latent_rotate(maps_of(inputs["z"], layout), inputs["angle"])}, inputs)


def run_rotation_modes(case: Case, layout: str) -> Run:
    inputs = case.inputs()
    z, angle = maps_of(inputs["z"], layout), inputs["angle"]
    outputs = {
        f"{mode}_{padding}": dfops.latent_rotate(z, angle, mode=mode, padding_mode=padding)
        for mode in MODES
        for padding in PADDINGS
    }
    return Run(outputs, inputs)


def run_rotation_volume(case: Case, layout: str) -> Run:
    """The released rotation of volumes (channels are the depth) by one angle is the planar one of every map."""
    inputs = case.inputs()
    z = maps_of(inputs["z"], layout)
    out = dfops.latent_rotate(z, inputs["angle"].expand(z.shape[0])).view_as(inputs["z"])
    return Run({"out": out, "planar_out": out}, inputs)


def run_mixup(case: Case, layout: str) -> Run:
    inputs = case.inputs()
    z, perm = inputs["z"], inputs["perm"]
    groups, domains = perm.shape
    index = (torch.arange(groups)[:, None] * domains + perm).flatten()
    out = dfops.feature_mixup(maps_of(z, layout), index, inputs["lam"].repeat_interleave(domains))
    return Run({"out": out.view_as(z)}, inputs)


def run_mixup_index(case: Case, layout: str) -> Run:
    inputs = case.inputs()
    return Run({"out": dfops.feature_mixup(maps_of(inputs["x"], layout), inputs["index"], inputs["lam"])}, inputs)


RUNNERS = {
    "lsda_paired_cosine": run_cosine,
    "lsda_iresnet": run_iresnet,
    "lsda_xception": run_xception,
    "lsda_hard_example": run_hard_example,
    "lsda_hard_example_ties": run_hard_example_ties,
    "lsda_aug_formulas": run_augment_formulas,
    "lsda_augment": run_augment,
    "lsda_draws": run_draws,
    "lsda_mixture_noise": run_mixture_noise,
    "lsda_effb4": run_efficientnet,
    "lsda_drop_connect": run_drop_connect,
    "lsda_drop_rates": run_drop_rates,
    "lsda_fusion": lambda case, layout: run_part(case, layout, objective.fusion(512)),
    "lsda_binary_head": lambda case, layout: run_part(case, layout, lsda.head(512, 512, 2)),
    "lsda_domain_head": lambda case, layout: run_part(case, layout, lsda.head(512, 256, 5)),
    "lsda_losses": run_losses,
    "lsda_train_full": run_full_training,
    "lsda_train_stub": run_stub_training,
    "lsda_detector": run_detector,
    "lsda_mixup": run_mixup,
    "lsda_mixup_index": run_mixup_index,
    "lsda_rotate": run_rotation,
    "lsda_rotate_modes": run_rotation_modes,
    "lsda_rotate_volume": run_rotation_volume,
}
