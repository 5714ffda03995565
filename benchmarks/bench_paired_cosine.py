"""LSDA's identity loss: a real face's map against the four fakes made of it, at 256 x 256."""

from collections.abc import Iterator

import torch
from torch import Tensor

import dfops
from benchmarks.harness import LAYOUTS, Case, clip, dtypes, name_of

SIGNS = (-1.0, 1.0, -1.0, 1.0)
SHAPES = ((4, 5, 512, 8, 8), (32, 5, 512, 8, 8))  # groups of one real and four fake maps; 4 is the released batch


def fused(maps: Tensor) -> Tensor:
    if maps.stride(2) == 1:
        # cut in the order of memory: torch joins gradients in the order of the axes, and slowly in another
        parts = (part.permute(0, 1, 4, 2, 3) for part in maps.permute(0, 1, 3, 4, 2).split([1, 4], 1))
    else:
        parts = maps.split([1, 4], 1)
    anchor, others = parts
    return dfops.paired_cosine(anchor.squeeze(1), others, SIGNS)


def by_pairs(maps: Tensor) -> Tensor:
    """As the release computes it: four maps of distances, each normalising the real one anew."""
    return sum(sign * distance(maps[:, 0], maps[:, 1 + k]) for k, sign in enumerate(SIGNS))


def distance(a: Tensor, b: Tensor) -> Tensor:
    a_unit, b_unit = (x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-8) for x in (a, b))
    return 1 - (a_unit * b_unit).sum(1)


def cases(device: str) -> Iterator[Case]:
    for dtype in dtypes(device):
        for shape in SHAPES:
            for layout in LAYOUTS:

                def make(shape=shape, layout=layout, dtype=dtype):
                    return [clip(shape, layout, device, dtype)]

                size = torch.Size(shape).numel() * dtype.itemsize
                yield Case(
                    "paired_cosine",
                    "x".join(map(str, shape)),
                    layout,
                    name_of(dtype),
                    make,
                    fused,
                    by_pairs,
                    forward_bytes=size,
                    backward_bytes=2 * size,  # the maps read again, their gradient written
                )
