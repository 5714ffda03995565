"""LSDA's golden cases: which function a case belongs to, and how its outputs are obtained."""

import torch
from torch import Tensor

import dfops
from dfops.ops.latent_rotate import MODES, PADDINGS
from tests.golden.cases import Case, Run


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
    "lsda_mixup": run_mixup,
    "lsda_mixup_index": run_mixup_index,
    "lsda_rotate": run_rotation,
    "lsda_rotate_modes": run_rotation_modes,
    "lsda_rotate_volume": run_rotation_volume,
}
