"""LSDA's cross-domain mixup: within every group, each domain with the next one of a cycle; weights are constants."""

from collections.abc import Iterator

import torch

import dfops
from benchmarks.harness import LAYOUTS, LSDA_MAPS, Case, dtypes, feature_maps, name_of
from dfops import reference

DOMAINS = 4


def cases(device: str) -> Iterator[Case]:
    for dtype in dtypes(device):
        for shape in LSDA_MAPS:
            for layout in LAYOUTS:

                def make(shape=shape, layout=layout, dtype=dtype):
                    row = torch.arange(shape[0], device=device)
                    index = row // DOMAINS * DOMAINS + (row + 1) % DOMAINS
                    lam = torch.rand(shape[0] // DOMAINS, device=device).repeat_interleave(DOMAINS)
                    return [feature_maps(shape, layout, device, dtype), index, lam]

                size = torch.Size(shape).numel() * dtype.itemsize
                yield Case(
                    "feature_mixup",
                    "x".join(map(str, shape)),
                    layout,
                    name_of(dtype),
                    make,
                    dfops.feature_mixup,
                    reference.feature_mixup,
                    forward_bytes=2 * size,
                    backward_bytes=2 * size,
                )
