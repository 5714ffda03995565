"""LSDA's within-domain augmentation and mixup at 256 x 256: the input of the fusion stack from the latent maps."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

import dfops
from benchmarks.harness import LAYOUTS, Case, clip, dtypes, name_of
from dfops.augment import Draws, draw

GROUPS = (4, 32)  # 4 is the released batch
POOL = (0, 1, 2, 4)


def fused(z: Tensor, draws: Draws, granularity: str) -> Tensor:
    return dfops.latent_augment_mix(z, draws.perm, draws.mix_lam, *draws[:5], granularity=granularity)[0]


def batched(z: Tensor, draws: Draws, granularity: str) -> Tensor:
    """Without loops or host reads: every transformation of every map, of which one is taken."""
    groups, domains, channels, height, width = z.shape
    rows = z.transpose(0, 1)
    if granularity == "channel":
        rows = rows.flatten(1, 2)
    mean = rows.mean(1)
    index = (rows - mean[:, None]).flatten(2).square().sum(2).argmax(1)
    hard = rows[torch.arange(domains, device=z.device), index]
    if granularity == "channel":
        mean, hard = mean[:, None], hard[:, None]
    lam, sigma = (x.reshape(groups, domains, -1, 1, 1) for x in (draws.lam, draws.sigma))
    maps = (
        z + lam * (hard - z),
        z + lam * (z - mean),
        z + lam * sigma * draws.noise,
        rotated(z.flatten(0, 1), draws.angle.flatten()).view_as(z),
    )
    choice = draws.choice[..., None, None, None]
    out = z
    for transform, value in zip(POOL, maps, strict=True):
        out = torch.where(choice == transform, value, out)
    weight = draws.mix_lam.reshape(groups, 1, 1, 1, 1)
    partner = z[torch.arange(groups, device=z.device)[:, None], draws.perm]
    return torch.cat([out, weight * z + (1 - weight) * partner], 2).flatten(0, 1)


def rotated(x: Tensor, angle: Tensor) -> Tensor:
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    matrix = torch.stack([torch.stack([cosine, -sine, zero], 1), torch.stack([sine, cosine, zero], 1)], 1)
    grid = F.affine_grid(matrix.to(x.dtype), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def by_rows(z: Tensor, draws: Draws, granularity: str) -> Tensor:
    """As the release computes it: row by row, every distance read by the host, lists stacked level by level."""
    groups, domains = z.shape[:2]
    per_channel = granularity == "channel"
    hard, means = [], []
    for d in range(domains):
        rows = z[:, d].flatten(0, 1) if per_channel else z[:, d]
        mean = rows.mean(0)
        distances = [torch.linalg.vector_norm(row - mean).item() for row in rows]
        hard.append(rows[distances.index(max(distances))])
        means.append(mean)

    def moved(row: Tensor, place: tuple[int, ...], transform: int, d: int) -> Tensor:
        if transform == 0:
            return row + draws.lam[place] * (hard[d] - row)
        if transform == 1:
            return row + draws.lam[place] * (row - means[d])
        return row + draws.lam[place] * draws.sigma[place] * draws.noise[place]

    out = []
    for g in range(groups):
        of_group = []
        for d in range(domains):
            transform = int(draws.choice[g, d])
            if transform == 4:
                of_group.append(rotated(z[g, d][None], draws.angle[g, d][None])[0])
            elif per_channel:
                of_group.append(torch.stack([moved(row, (g, d, c), transform, d) for c, row in enumerate(z[g, d])]))
            else:
                of_group.append(moved(z[g, d], (g, d), transform, d))
        out.append(torch.stack(of_group))
    mixed = torch.zeros_like(z)
    for g in range(groups):
        for d in range(domains):
            weight = draws.mix_lam[g]
            mixed[g, d] = weight * z[g, d] + (1 - weight) * z[g, draws.perm[g, d]]
    return torch.cat([torch.stack(out), mixed], 2).flatten(0, 1)


def cases(device: str) -> Iterator[Case]:
    for dtype in dtypes(device):
        for groups in GROUPS:
            for granularity in ("sample", "channel"):
                for layout in LAYOUTS:
                    if (groups, granularity, layout) == (GROUPS[-1], "channel", "channels_last"):
                        continue  # minutes of Python in the published form, once is enough
                    shape = (groups, 4, 512, 8, 8)

                    def make(shape=shape, granularity=granularity, layout=layout, dtype=dtype):
                        z = clip(shape, layout, device, dtype)
                        places = torch.arange(shape[0])[:, None] + torch.arange(shape[1])
                        every = torch.tensor(POOL)[places % len(POOL)].to(device)  # all ids equally often
                        return [z, draw(z, granularity=granularity)._replace(choice=every)]

                    size = torch.Size(shape).numel() * dtype.itemsize
                    yield Case(
                        f"latent_augment {granularity}",
                        "x".join(map(str, shape)),
                        layout,
                        name_of(dtype),
                        make,
                        lambda z, draws, granularity=granularity: fused(z, draws, granularity),
                        lambda z, draws, granularity=granularity: batched(z, draws, granularity),
                        forward_bytes=size * 13 // 4,  # maps and the noise of a quarter read, both halves written
                        backward_bytes=3 * size,  # gradients of both halves read, one written
                        published=lambda z, draws, granularity=granularity: by_rows(z, draws, granularity),
                    )
