"""The last step of DDL's MSA."""

from collections.abc import Iterator

import torch

import dfops
from benchmarks.harness import LAYOUTS, Case, clip, ddl_shapes, dtypes, name_of
from dfops import reference


def cases(device: str) -> Iterator[Case]:
    for dtype in dtypes(device):
        for name, shape in ddl_shapes(device):
            for layout in LAYOUTS:

                def make(shape=shape, layout=layout, dtype=dtype):
                    gamma = torch.ones(1, device=device, requires_grad=True, dtype=dtype)
                    return [*(clip(shape, layout, device, dtype) for _ in range(3)), gamma]

                size = torch.Size(shape).numel() * dtype.itemsize
                yield Case(
                    "inconsistency_gate",
                    name,
                    layout,
                    name_of(dtype),
                    make,
                    dfops.inconsistency_gate,
                    reference.inconsistency_gate,
                    forward_bytes=4 * size,
                    backward_bytes=7 * size,  # grad and three inputs read, three gradients written
                )
