"""The end of DDL's pyramid: three parts of C / 4 channels up-sampled along time and averaged."""

from collections.abc import Iterator

import torch

import dfops
from benchmarks.harness import LAYOUTS, Case, clip, ddl_shapes, dtypes, name_of
from dfops import reference


def cases(device: str) -> Iterator[Case]:
    for dtype in dtypes(device):
        for name, shape in ddl_shapes(device, divide_channels=4):
            for layout in LAYOUTS:

                def make(shape=shape, layout=layout, dtype=dtype):
                    b, t, *rest = shape
                    return [clip((b, t // s, *rest), layout, device, dtype) for s in (1, 2, 4)]

                size = torch.Size(shape).numel() * dtype.itemsize
                parts = size + size // 2 + size // 4
                yield Case(
                    "strip_merge",
                    name,
                    layout,
                    name_of(dtype),
                    make,
                    lambda *parts: dfops.strip_merge(list(parts), 8, axis="T"),
                    lambda *parts: reference.strip_merge(list(parts), 8, axis="T"),
                    forward_bytes=parts + size,
                    backward_bytes=parts + size,
                )
