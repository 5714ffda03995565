"""The difference map of DDL's DFDC, dense and sparse, against the published T x T form and the linear reference."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

import dfops
from benchmarks.harness import LAYOUTS, Case, clip, ddl_shapes, dtypes, name_of
from dfops import reference


def published(query: Tensor, key: Tensor) -> Tensor:
    """As the release computes it: permuted to (B, H*W, T, C), the T x T cosine matrix, top-k over positions."""
    b, t, _, h, w = query.shape
    query, key = (F.normalize(x, dim=2).flatten(3).permute(0, 3, 1, 2) for x in (query, key))
    s = -(query @ key.transpose(2, 3)).sum(3)  # (B, H*W, T)
    variance = s.var(2)
    threshold = variance.topk(h, 1).values[:, -1:]
    s = torch.where((variance <= threshold)[..., None], torch.full_like(s, -t), s)
    low, high = s.amin(1, keepdim=True), s.amax(1, keepdim=True)
    return ((s - low) / (high - low + 1e-8)).transpose(1, 2).unflatten(2, (h, w))


def in_a_layer(query: Tensor, key: Tensor) -> list[Tensor]:
    """Forward and backward as DDL's layer calls them: gradients of the surviving vectors, no dense ones."""
    positions, values = dfops.interframe_difference_sparse(query, key)
    index = positions.clamp(min=0)[:, None, None].expand(*query.shape[:3], -1)
    slots = [x.flatten(3).gather(3, index) for x in (query, key)]
    grad = torch.ones_like(values)
    return list(torch.ops.dfops._interframe_difference_sparse_backward(grad, *slots, positions, True, 1e-8))


def cases(device: str) -> Iterator[Case]:
    for dtype in dtypes(device):
        for name, shape in ddl_shapes(device, divide_channels=8):
            for layout in LAYOUTS:

                def make(shape=shape, layout=layout, dtype=dtype):
                    return [clip(shape, layout, device, dtype) for _ in range(2)]

                b, t, c, h, w = shape
                size = b * t * c * h * w * dtype.itemsize
                kept = b * t * h * dtype.itemsize  # one value a frame and slot
                sparse = 2 * 2 * c * kept  # surviving vectors read, their gradients written
                common = (name, layout, name_of(dtype), make)
                yield Case(
                    "interframe_difference",
                    *common,
                    dfops.interframe_difference,
                    reference.interframe_difference,
                    forward_bytes=2 * size + b * t * h * w * dtype.itemsize,
                    backward_bytes=sparse + 2 * size,
                    published=published,
                )
                yield Case(
                    "interframe_difference_sparse",
                    *common,
                    lambda query, key: dfops.interframe_difference_sparse(query, key)[1],
                    lambda query, key: reference.interframe_difference_sparse(query, key)[1],
                    forward_bytes=2 * size + kept,
                    backward_bytes=sparse,
                    published=published,
                    forward_backward=in_a_layer,
                )
