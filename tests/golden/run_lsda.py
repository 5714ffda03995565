"""LSDA's golden cases: which module a case belongs to, and how its outputs are obtained."""

import torch
from torch import Tensor, nn

import dfops
from dfmodels.backbones.iresnet import IResNet
from dfmodels.backbones.xception import Xception
from dfops import augment, reference
from tests.golden.cases import Case, Run, fill


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


def run_encoder(case: Case, layout: str, module: nn.Module) -> Run:
    """A network under published names: its output, running statistics and the gradients of its parameters."""
    published = {key: (key, ()) for key in module.state_dict()}
    fill(module, published, case)
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    module.to(memory_format=memory)
    inputs = case.inputs()
    out = module(inputs["x"].contiguous(memory_format=memory))
    outputs = {"out": out, "out_c0_128": out[:, :128], "out_stats": statistics(out)}
    outputs |= {key: value for key, value in module.state_dict().items() if "running" in key}

    def cut(results: dict[str, Tensor]) -> dict[str, Tensor]:
        grads = {key.replace("_param.", "_"): x for key, x in results.items() if key.startswith("grad_param.")}
        return grads | {f"{key}_0": x[0] for key, x in grads.items()}

    return Run(outputs, inputs, module, published, cut)


def run_iresnet(case: Case, layout: str) -> Run:
    blocks = (2, 2, 2, 2) if "iresnet18" in case.name else (3, 13, 30, 3)
    module = IResNet(blocks, freeze_norms=case.args.get("freeze_norms", False))
    stages: list[Tensor] = []
    for stage in (module.prelu, module.layer1, module.layer2, module.layer3, module.layer4):
        stage.register_forward_hook(lambda module, args, out: stages.append(out))
    run = run_encoder(case, layout, module)
    run.outputs |= {"layer1_c0": stages[1][0, 0], "layer3_c0_8": stages[3][:, :8], "layer4_c0_8": stages[4][:, :8]}
    run.outputs["stage_stats"] = torch.stack([statistics(stage) for stage in stages])
    return run


def run_xception(case: Case, layout: str) -> Run:
    return run_encoder(case, layout, Xception())


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
}
