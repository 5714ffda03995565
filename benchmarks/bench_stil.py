"""STIL, one clip of 8 x 224 x 224, against the same network composed as the release composes it."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.harness import Row, conv_norm, detector_rows
from dfmodels.detectors import stil
from dfops import reference


def branch(module: stil.DirectionalBranch, z: Tensor, t: int) -> Tensor:
    """One direction's logits, computed on planes (N*W, r, H, T) for height and (N*H, r, T, W) for width."""
    tall = module.axis == "H"
    n, r, h, w = z.shape[0] // t, *z.shape[1:]
    clip = z.view(n, t, r, h, w)
    order = (0, 4, 2, 3, 1) if tall else (0, 3, 2, 1, 4)  # its own inverse
    planes = clip.permute(order).reshape(n * (w if tall else h), r, h if tall else t, t if tall else w)
    time = 3 if tall else 2
    taps = module.taps[:, None, :, None] if tall else module.taps[:, None, None, :]
    later, earlier = planes.narrow(time, 1, t - 1), planes.narrow(time, 0, t - 1)
    d = F.conv2d(later, taps, padding=(1, 0) if tall else (0, 1), groups=r) - earlier
    d = F.pad(d, (0, 1) if tall else (0, 0, 0, 1))
    window = (2, 1) if tall else (1, 2)
    pooled = F.interpolate(conv_norm(module.pooled.unit, F.avg_pool2d(d, window, window)), d.shape[2:])
    logits = conv_norm(module.expand, (d + pooled + conv_norm(module.full.unit, d)) / 3)
    logits = logits.view(n, w if tall else h, -1, *d.shape[2:])
    return logits.permute(order).reshape(n * t, -1, h, w)


def temporal(module: stil.TemporalInconsistency, x: Tensor, t: int) -> Tensor:
    z = conv_norm(module.reduce, x)
    height, width = (branch(part, z, t) for part in module.branches.values())
    return reference.inconsistency_gate(x, height, width, 1.0)


def spatial(module: stil.SpatialInconsistency, x: Tensor) -> tuple[Tensor, Tensor]:
    coarse = conv_norm(module.column, F.relu(conv_norm(module.row, F.avg_pool2d(x, module.pool))))
    evidence = conv_norm(module.features, x) * torch.sigmoid(x + F.interpolate(coarse, x.shape[2:]))
    return conv_norm(module.exit, evidence), evidence


def shift(module: stil.TemporalShift, x: Tensor, t: int) -> Tensor:
    n, c, h, w = x.shape[0] // t, *x.shape[1:]
    lines = x.view(n, t, c, h, w).permute(0, 3, 4, 2, 1).reshape(n * h * w, c, t)
    lines = F.conv1d(lines, module.taps[:, None], padding=1, groups=c)
    return lines.view(n, h, w, c, t).permute(0, 4, 3, 1, 2).reshape(n * t, c, h, w)


def bottleneck(module: stil.Bottleneck, x: Tensor, t: int) -> Tensor:
    block = module.block
    a, b = (F.relu(conv_norm(unit, x)) for unit in (block.project_a, block.project_b))
    b, evidence = spatial(block.spatial, b)
    b = F.relu(b)
    gate = torch.sigmoid(F.conv1d(evidence.mean((2, 3))[:, None], block.to_temporal.taps, padding=1)[:, 0])
    a = temporal(block.temporal, a, t) + evidence * gate[:, :, None, None]
    a = F.relu(conv_norm(block.mix, shift(block.shift, a, t)))
    if module.stride == 2:
        a, b = F.avg_pool2d(a, 3, 2, 1), F.avg_pool2d(b, 3, 2, 1)
    out = conv_norm(module.expand, torch.cat([a, b], 1))
    if module.skip is not None:
        if module.stride == 2:
            x = F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)
        x = conv_norm(module.skip, x)
    return F.relu(out + x)


def published(model: stil.STIL) -> Callable[[Tensor], Tensor]:
    """The network layer by layer on (B*T, C, H, W): permuted for every direction of TIM and for every shift."""

    def forward(clip: Tensor) -> Tensor:
        t = clip.shape[1]
        x = clip.flatten(0, 1)
        for unit in model.stem:
            x = F.relu(conv_norm(unit, x))
        x = F.max_pool2d(x, 3, 2, 1)
        for stage in model.stages:
            for module in stage:
                x = bottleneck(module, x, t)
        return model.head(x.mean((2, 3))).view(clip.shape[0], t, -1).mean(1)

    return forward


def rows(device: str) -> list[Row]:
    """Inference of one clip, and a training step."""
    return detector_rows("stil", published, torch.rand(1, 8, 3, 224, 224, device=device), training=True)
