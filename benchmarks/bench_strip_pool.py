"""The pooling pyramid of DDL's MSA: time axis, three scales, two directions."""

from collections.abc import Iterator

import torch

import dfops
from benchmarks.harness import LAYOUTS, Case, clip, ddl_shapes, dtypes, name_of
from dfops import reference

SCALES = (1, 2, 4)


def cases(device: str) -> Iterator[Case]:
    for dtype in dtypes(device):
        for name, shape in ddl_shapes(device):
            for layout in LAYOUTS:

                def make(shape=shape, layout=layout, dtype=dtype):
                    weight = torch.randn(2, 3, shape[2], 3, device=device, dtype=dtype, requires_grad=True)
                    return [clip(shape, layout, device, dtype), weight]

                size = torch.Size(shape).numel() * dtype.itemsize
                strips = 2 * sum(size // s for s in SCALES)
                yield Case(
                    "strip_pool",
                    name,
                    layout,
                    name_of(dtype),
                    make,
                    lambda x, weight: dfops.strip_pool(x, weight, axis="T", scales=SCALES),
                    lambda x, weight: reference.strip_pool(x, weight, axis="T", scales=SCALES),
                    forward_bytes=size + strips,
                    backward_bytes=strips + 2 * size,  # gradients and x read, grad_x written
                )
