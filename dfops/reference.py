"""Every operator again in plain torch, in the order of its equation; shares nothing with the kernels.

Same names and arguments as the operators of `dfops`. Slow and clear: the truth of the tests and the eager side of the
benchmarks. No argument checks, and names of transformations are ids here. `active` puts them in the place of the
operators.

>>> x = torch.arange(5.0).reshape(1, 5, 1, 1, 1)
>>> [y.flatten().tolist() for y in dfops.reference.strip_pool(x, axis="T")]
[[0.0, 1.0, 2.0, 3.0, 4.0], [0.5, 2.5], [1.5]]
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_DIMENSIONS = {"T": 1, "H": 3, "W": 4}
_here = threading.local()


@contextmanager
def active() -> Iterator[None]:
    """In this thread, the functions of `dfops` compute by the formulas of this module, after their argument checks.

    For converters, which know torch's operators only: what `torch.export` records here needs no dfops. Autograd then
    differentiates the formulas. Code that `torch.compile` made before, or makes here, keeps the operators.
    """
    before = getattr(_here, "active", False)
    _here.active = True
    try:
        yield
    finally:
        _here.active = before


def is_active() -> bool:
    """Whether the formulas stand for the operators: inside `active`, and while `torch.onnx.export` traces a model."""
    if torch.compiler.is_dynamo_compiling():
        return False
    if getattr(_here, "active", False):
        return True
    return torch.compiler.is_exporting() and torch.onnx.is_in_onnx_export()


def inconsistency_gate(x: Tensor, vertical: Tensor, horizontal: Tensor, gamma: Tensor | float) -> Tensor:
    attention = (torch.sigmoid(vertical) - 0.5) / 2 + (torch.sigmoid(horizontal) - 0.5) / 2
    return x + gamma * attention * x


def strip_pool(x: Tensor, weight: Tensor | None = None, *, axis: str, scales: Sequence[int] = (1, 2, 4)) -> list[Any]:
    if weight is not None and weight.dim() == 4:
        return [strip_pool(x, direction, axis=axis, scales=scales) for direction in weight]
    dim = _DIMENSIONS[axis]
    out = []
    for s, scale in enumerate(scales):
        windows = x.narrow(dim, 0, x.shape[dim] // scale * scale).unflatten(dim, (x.shape[dim] // scale, scale))
        mean = windows.mean(dim + 1)
        if weight is not None:
            mean = _filter(mean, weight[s], dim)
        out.append(mean)
    return out


def _filter(x: Tensor, weight: Tensor, dim: int) -> Tensor:
    """Every channel with its own taps, weight (C, M), along one dimension."""
    half, length = weight.shape[1] // 2, x.shape[dim]
    padded = F.pad(x, [0, 0] * (4 - dim) + [half, half])
    taps = [weight[:, m].reshape(-1, 1, 1) * padded.narrow(dim, m, length) for m in range(weight.shape[1])]
    return torch.stack(taps).sum(0)


def strip_merge(parts: Sequence[Tensor], size: int, *, axis: str) -> Tensor:
    dim = _DIMENSIONS[axis]
    position = torch.arange(size, device=parts[0].device)
    # a size of 0 has no positions to divide
    repeated = [part.index_select(dim, position * part.shape[dim] // max(size, 1)) for part in parts]
    return torch.stack(repeated).mean(0)


def directional_difference(x: Tensor, weight: Tensor, *, axis: str) -> Tensor:
    difference = _filter(x[:, 1:], weight, _DIMENSIONS[axis]) - x[:, :-1]
    return torch.cat([difference, torch.zeros_like(x[:, -1:])], 1)


def latent_rotate(x: Tensor, angle: Tensor | float, *, mode: str = "bilinear", padding_mode: str = "zeros") -> Tensor:
    n, _, h, w = x.shape
    wide = torch.promote_types(x.dtype, torch.float32)
    angle = torch.as_tensor(angle, dtype=wide, device=x.device).expand(n).reshape(n, 1, 1)
    if x.numel() == 0:
        return x + 0 * angle[:, None].to(x.dtype)  # grid_sample refuses maps without pixels
    col, row = ((2 * torch.arange(size, dtype=wide, device=x.device) + 1) / size - 1 for size in (w, h))
    row = row[:, None]
    grid = torch.stack([col * angle.cos() - row * angle.sin(), col * angle.sin() + row * angle.cos()], 3)
    out = F.grid_sample(x.to(wide), grid, mode=mode, padding_mode=padding_mode, align_corners=False)
    return out.to(x.dtype)


def feature_mixup(x: Tensor, index: Tensor, lam: Tensor | float) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    lam = torch.as_tensor(lam, dtype=wide, device=x.device).expand(len(x)).reshape(-1, *[1] * (x.dim() - 1))
    return (lam * x + (1 - lam) * x.index_select(0, index)).to(x.dtype)


def interframe_difference(
    query: Tensor,
    key: Tensor,
    *,
    num_keep: int | None = None,
    mask_rule: str = "le",
    normalize: bool = True,
    eps: float = 1e-8,
    min_variance: float = 0.0,
) -> Tensor:
    return _interframe_difference(query, key, num_keep, mask_rule, normalize, eps, min_variance)[0]


def interframe_difference_sparse(
    query: Tensor,
    key: Tensor,
    *,
    num_keep: int | None = None,
    normalize: bool = True,
    eps: float = 1e-8,
    min_variance: float = 0.0,
) -> tuple[Tensor, Tensor]:
    out, variance, threshold = _interframe_difference(query, key, num_keep, "le", normalize, eps, min_variance)
    b, t, h, w = out.shape
    num_keep = h if num_keep is None else num_keep
    if h * w == 0:
        return torch.full((b, num_keep), -1, device=out.device), F.pad(out.flatten(2), (0, num_keep))
    survives = (variance > threshold[:, None]) | variance.isnan()
    places = torch.arange(h * w, device=out.device)
    positions = torch.where(survives, places, h * w).sort(1).values[:, :num_keep]
    unused = positions == h * w
    index = positions.masked_fill(unused, 0)[:, None].expand(b, t, num_keep)
    values = out.flatten(2).gather(2, index).masked_fill(unused[:, None], 0)
    return positions.masked_fill(unused, -1), values.masked_fill(threshold.isnan()[:, None, None], float("nan"))


def _interframe_difference(
    query: Tensor,
    key: Tensor,
    num_keep: int | None,
    mask_rule: str,
    normalize: bool,
    eps: float,
    min_variance: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The dense map (B, T, H, W), the variances (B, H*W) and the thresholds (B,)."""
    b, t, _, h, w = query.shape
    wide = torch.promote_types(query.dtype, torch.float32)
    query_unit, key_unit = (F.normalize(x.to(wide).flatten(3), dim=2, eps=1e-12) for x in (query, key))
    s = -(query_unit * key_unit.sum(1, keepdim=True)).sum(2)
    s = s + (s.clamp(min=-t) - s).detach()  # the clamp passes the gradient on
    shifted = (s - s[:, :1]).detach()  # equal values then have a variance of exactly 0
    variance = (shifted - shifted.mean(1, keepdim=True)).square().sum(1) / (t - 1)
    variance = torch.where(variance < min_variance, 0, variance)
    if h * w == 0:
        return s.unflatten(2, (h, w)).to(query.dtype), variance, variance.new_zeros(b)
    threshold = variance.topk(h if num_keep is None else num_keep, dim=1).values[:, -1]
    masked = variance <= threshold[:, None] if mask_rule == "le" else variance < threshold[:, None]
    s = torch.where(masked[:, None], -t, s)
    if normalize:
        # argmax and argmin take the first of several; a masked position is a constant
        high = s.gather(2, s.argmax(2, keepdim=True))
        low = s.gather(2, s.argmin(2, keepdim=True))
        low = torch.where(masked.any(1)[:, None, None], low.detach(), low)
        s = (s - low) / (high - low + eps)
    return s.unflatten(2, (h, w)).to(query.dtype), variance, threshold


def latent_augment(
    z: Tensor,
    choice: Tensor,
    lam: Tensor,
    sigma: Tensor | None = None,
    noise: Tensor | None = None,
    angle: Tensor | None = None,
    perm: Tensor | None = None,
    mix_lam: Tensor | None = None,
    *,
    centroid: Tensor | None = None,
    granularity: str = "sample",
    detach_statistics: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    mean, _, hard_index = hard_examples(z, centroid=centroid, granularity=granularity)
    if z.numel() == 0:
        return z.clone(), mean, hard_index
    rows = _rows(z, granularity)
    hard = torch.stack([rows[d, index] for d, index in enumerate(hard_index.tolist())])
    origin = mean if centroid is None else centroid
    if detach_statistics:
        hard, origin = hard.detach(), origin.detach()
    maps = []
    for g in range(z.shape[0]):
        for d in range(z.shape[1]):
            own, scale = z[g, d], lam[g, d].reshape(-1, 1, 1)
            several = rows.shape[1] > 1
            neighbours = z[:, d] if granularity == "sample" else own
            match int(choice[g, d]):
                case 0 if several:
                    out = own + scale * (hard[d] - own)
                case 1 if several or centroid is not None:
                    out = own + scale * (own - origin[d])
                case 2 if sigma is not None and noise is not None:
                    out = own + scale * sigma[g, d].reshape(-1, 1, 1) * noise[g, d]
                case 3 if len(neighbours) > 1:
                    out = own + scale * (neighbours[0] - neighbours[1])
                case 4 if angle is not None:
                    out = latent_rotate(own[None], angle[g, d][None])[0]
                case _:
                    out = own
            maps.append(out.to(z.dtype))
    return torch.stack(maps).unflatten(0, z.shape[:2]), mean.detach(), hard_index


def latent_augment_mix(
    z: Tensor, perm: Tensor, mix_lam: Tensor, choice: Tensor, lam: Tensor, *draws: Tensor | None, **options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    augmented, mean, hard_index = latent_augment(z, choice, lam, *draws, **options)
    weight = (mix_lam if mix_lam.dim() == 2 else mix_lam[:, None])[..., None, None, None]
    partner = z[torch.arange(len(z), device=z.device)[:, None], perm]
    mixed = (weight * z + (1 - weight) * partner).to(z.dtype)
    return torch.cat([augmented, mixed], 2).flatten(0, 1), mean, hard_index


def hard_examples(
    z: Tensor, *, centroid: Tensor | None = None, granularity: str = "sample"
) -> tuple[Tensor, Tensor, Tensor]:
    """Of every domain: the mean of its rows, their distances (D, M) from it or from `centroid`, the farthest row."""
    rows = _rows(z, granularity)
    rows = rows.to(torch.promote_types(z.dtype, torch.float32))
    domains, count = rows.shape[:2]
    if z.numel() == 0:
        zeros = torch.zeros(domains, dtype=torch.int64, device=z.device)
        return rows.new_zeros((domains, *rows.shape[2:])), rows.new_zeros(domains, count), zeros
    mean = rows.mean(1)
    origin = mean if centroid is None else centroid
    squares = (rows - origin[:, None]).flatten(2).square().sum(2)
    return mean, squares.sqrt(), squares.argmax(1)  # the first of several


def _rows(z: Tensor, granularity: str) -> Tensor:
    """(D, M, ...): the maps of a domain, or the planes of all their channels."""
    rows = z.transpose(0, 1)
    return rows if granularity == "sample" else rows.flatten(1, 2)


def paired_cosine(anchor: Tensor, others: Tensor, signs: Sequence[float], *, eps: float = 1e-8) -> Tensor:
    anchor_unit, others_unit = (
        x / (torch.linalg.vector_norm(x, dim=-3, keepdim=True) + eps)
        for x in (y.to(torch.promote_types(y.dtype, torch.float32)) for y in (anchor, others))
    )
    distance = 1 - (anchor_unit[:, None] * others_unit).sum(2)
    return (distance * distance.new_tensor(signs).reshape(-1, 1, 1)).sum(1)
