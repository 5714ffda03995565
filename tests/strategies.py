"""What operator tests draw: devices by parametrisation; sizes, layouts and seeds by hypothesis."""

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
LAYOUTS = ["contiguous", "channels_last", "strided"]
HALVES = [torch.bfloat16, torch.float16]


def seeds() -> st.SearchStrategy[int]:
    return st.integers(0, 2**16)


def layouts() -> st.SearchStrategy[str]:
    return st.sampled_from(LAYOUTS)


def clip_shapes(frames=st.integers(0, 9), channels=st.integers(0, 9), sides=st.integers(0, 7)):
    """Shapes (B, T, C, H, W), empty, single, odd and non-square ones among them."""
    return st.tuples(st.integers(0, 3), frames, channels, sides, sides)


def lay_out(clip: Tensor, layout: str) -> Tensor:
    """The same values in another memory layout; "strided" is neither of the two that kernels read in place."""
    b, t, c, h, w = clip.shape
    if layout == "channels_last":
        out = clip.new_empty_strided(clip.shape, (t * c * h * w, c * h * w, 1, w * c, c))
    elif layout == "strided":
        out = clip.new_empty((b, t, c, w, 2 * h + 1)).transpose(3, 4)[..., : 2 * h : 2, :]
    else:
        out = torch.empty_like(clip, memory_format=torch.contiguous_format)
    return out.copy_(clip)


def random_clip(
    shape, *, seed=0, layout="contiguous", dtype=torch.float32, device="cpu", requires_grad=False
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator, dtype=torch.float64).to(device=device, dtype=dtype)
    return lay_out(values, layout).requires_grad_(requires_grad)


def random_maps(shape, *, requires_grad=False, **options) -> Tensor:
    """`random_clip` for maps (N, C, H, W)."""
    return random_clip((shape[0], 1, *shape[1:]), **options)[:, 0].requires_grad_(requires_grad)
