"""LSDA's golden cases: which module a case belongs to, and how its outputs are obtained."""

import torch
from torch import Tensor, nn

import dfops
from dfmodels.backbones.iresnet import IResNet
from dfmodels.backbones.xception import Xception
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


RUNNERS = {
    "lsda_paired_cosine": run_cosine,
    "lsda_iresnet": run_iresnet,
    "lsda_xception": run_xception,
}
