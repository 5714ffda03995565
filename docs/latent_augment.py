"""Draws docs/latent_augment.png: what each augmentation does, on maps that are small pictures of faces."""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dfmodels.synthetic import render_clip
from dfops import augment

GROUPS, SIDE, SHOWN = 6, 32, 2
LAM = (0.25, 0.5, 1.0)


def faces() -> Tensor:
    """Maps (G, D, C, H, W) in [0, 1] of two domains of people."""
    frames = [render_clip(person, 0, False, num_frames=1, size=SIDE)[0] for person in range(2 * GROUPS)]
    maps = torch.stack([torch.from_numpy(frame) for frame in frames]).movedim(-1, 1) / 255
    return maps.unflatten(0, (GROUPS, 2))


def main() -> None:
    z = faces()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(z.shape, generator=generator)
    component = augment.mixture_components(torch.rand(z.shape[:2], generator=generator), torch.tensor([0.5, 0.5]))
    mixture = augment.mixture_noise(noise, component, torch.tensor([[0.2, 0.0, 0.0], [0.0, 0.0, 0.2]]))
    swapped = torch.tensor([1, 0]).expand(GROUPS, 2)
    rows = {
        "centrifugal_direct\naway from the centroid": [augment.centrifugal_direct(z, lam) for lam in LAM],
        "centrifugal_indirect\nto the farthest map": [augment.centrifugal_indirect(z, lam) for lam in LAM],
        "additive\nGaussian": [augment.additive(z, lam, noise, 0.3) for lam in LAM],
        "additive\nGaussian mixture": [augment.additive(z, lam, mixture) for lam in LAM],
        "difference\nof maps 0 and 1": [augment.difference(z, lam) for lam in LAM],
        "cross_domain_mixup\nother domain, m = 1 - lam": [
            augment.cross_domain_mixup(z, swapped, 1 - lam) for lam in LAM
        ],
        "affine_rotation\n-30, 15, 30 degrees": [
            augment.affine_rotation(z, torch.pi / 180 * degrees) for degrees in (-30, 15, 30)
        ],
    }
    titles = ["z", *(f"lam {lam:g}" for lam in LAM)]
    figure = Figure(figsize=(8.5, 1.02 * len(rows)), dpi=110, layout="constrained")
    grid = figure.subplots(len(rows), 2 * len(titles))
    for axes, (name, results) in zip(grid, rows.items(), strict=True):
        for group in range(SHOWN):
            for column, maps in enumerate((z, *results)):
                cell = axes[group * len(titles) + column]
                cell.imshow(maps[2 + group, 0].clamp(0, 1).movedim(0, -1), interpolation="nearest")
                cell.set(xticks=[], yticks=[])
                if cell in grid[0]:
                    cell.set_title(titles[column], fontsize=8)
        axes[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    figure.savefig(Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
