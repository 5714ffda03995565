"""The rotation in LSDA's within-domain augmentation: angles up to 30 degrees, which are not differentiated."""

from collections.abc import Iterator

import torch

import dfops
from benchmarks.harness import LAYOUTS, LSDA_MAPS, Case, dtypes, feature_maps, name_of
from dfops import reference


def cases(device: str) -> Iterator[Case]:
    for dtype in dtypes(device):
        for shape in LSDA_MAPS:
            for layout in LAYOUTS:

                def make(shape=shape, layout=layout, dtype=dtype):
                    angle = (2 * torch.rand(shape[0], device=device) - 1) * torch.pi / 6
                    return [feature_maps(shape, layout, device, dtype), angle]

                size = torch.Size(shape).numel() * dtype.itemsize
                yield Case(
                    "latent_rotate",
                    "x".join(map(str, shape)),
                    layout,
                    name_of(dtype),
                    make,
                    dfops.latent_rotate,
                    reference.latent_rotate,
                    forward_bytes=2 * size,
                    backward_bytes=2 * size,
                )
