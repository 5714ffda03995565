"""The difference of frames in STIL's TIM, whose features are reduced to very few channels, along height and width."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

import dfops
from benchmarks.harness import LAYOUTS, Case, clip, dtypes, name_of
from dfops import reference

# where STIL at 8 x 224 x 224 calls it, one clip; the last is beyond the caches, and no detector's
SHAPES = ((1, 8, 2, 56, 56), (1, 8, 4, 28, 28), (1, 8, 8, 14, 14), (1, 8, 16, 7, 7), (4, 8, 64, 112, 112))


def by_convolution(x: Tensor, weight: Tensor, axis: str) -> Tensor:
    """As the release computes it: a grouped convolution of the folded frames."""
    later, taps = x[:, 1:], weight[:, None, :, None] if axis == "H" else weight[:, None, None]
    padding = (weight.shape[1] // 2, 0) if axis == "H" else (0, weight.shape[1] // 2)
    filtered = F.conv2d(later.flatten(0, 1), taps, padding=padding, groups=x.shape[2]).view_as(later)
    return torch.cat([filtered - x[:, :-1], torch.zeros_like(x[:, -1:])], 1)


def cases(device: str) -> Iterator[Case]:
    for dtype in dtypes(device):
        for shape in SHAPES:
            for layout in LAYOUTS:
                for axis in ("H", "W"):

                    def make(shape=shape, layout=layout, dtype=dtype):
                        weight = torch.randn(shape[2], 3, device=device, dtype=dtype, requires_grad=True)
                        return [clip(shape, layout, device, dtype), weight]

                    size = torch.Size(shape).numel() * dtype.itemsize
                    yield Case(
                        f"directional_difference {axis}",
                        "x".join(map(str, shape)),
                        layout,
                        name_of(dtype),
                        make,
                        lambda x, weight, axis=axis: dfops.directional_difference(x, weight, axis=axis),
                        lambda x, weight, axis=axis: reference.directional_difference(x, weight, axis=axis),
                        forward_bytes=2 * size,
                        backward_bytes=3 * size,  # gradient and x read, grad_x written
                        published=lambda x, weight, axis=axis: by_convolution(x, weight, axis),
                    )
