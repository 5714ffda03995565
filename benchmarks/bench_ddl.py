"""DDL, one clip of 8 x 256 x 256, against the same network composed as the release composes it."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.bench_interframe_difference import published as published_difference
from benchmarks.harness import Row, conv_norm, detector_rows
from dfmodels.detectors import ddl
from dfops import reference


def capture(module: ddl.DifferenceCapture, x: Tensor, t: int) -> Tensor:
    """Dense: the value branch everywhere."""
    query, key, value = (F.conv2d(x, w[:, :, None, None]) for w in (module.query, module.key, module.value))
    difference = published_difference(query.unflatten(0, (-1, t)), key.unflatten(0, (-1, t)))
    return x + module.gamma * value * difference.flatten(0, 1)[:, None]


def path(module: ddl.TemporalAggregation, x: Tensor, d: int) -> Tensor:
    """One MSA path on planes (N, C, H, T) for d = 0, (N, C, T, W) for d = 1, as permuted by `aggregate`."""
    size = x.shape[2:]
    total = torch.zeros(())
    for s, scale in enumerate(ddl.SCALES):
        window = (1, scale) if d == 0 else (scale, 1)
        y = x if scale == 1 else F.avg_pool2d(x, window, window)
        taps = module.taps[d, s]
        taps = taps[:, None, None, :] if d == 0 else taps[:, None, :, None]
        y = F.conv2d(y, taps, padding=(0, 1) if d == 0 else (1, 0), groups=taps.shape[0])
        y = conv_norm(module.reduce[d][s], y)
        total = total + (y if scale == 1 else F.interpolate(y, size)) / 3
    return conv_norm(module.merge[d], total)


def aggregate(module: ddl.TemporalAggregation, x: Tensor, t: int) -> Tensor:
    n, c, h, w = x.shape
    clip = x.view(-1, t, c, h, w)
    b = clip.shape[0]
    vertical = path(module, clip.permute(0, 4, 2, 3, 1).reshape(b * w, c, h, t), 0)
    horizontal = path(module, clip.permute(0, 3, 2, 1, 4).reshape(b * h, c, t, w), 1)
    vertical = vertical.view(b, w, c, h, t).permute(0, 4, 2, 3, 1).reshape(n, c, h, w)
    horizontal = horizontal.view(b, h, c, t, w).permute(0, 3, 2, 1, 4).reshape(n, c, h, w)
    return reference.inconsistency_gate(x, vertical, horizontal, module.gamma)


def separable(module: ddl.SeparableConv, x: Tensor) -> Tensor:
    return conv_norm(module.pointwise, module.depthwise(x))


def block(module: ddl.Block, x: Tensor, t: int) -> Tensor:
    x = aggregate(module.aggregation, capture(module.capture, F.relu(x), t), t)
    y = separable(module.convs[0], x)
    for conv in module.convs[1:]:
        y = separable(conv, F.relu(y))
    if module.stride == 2:
        y = F.max_pool2d(y, 3, 2, 1)
    return y + (x if module.skip is None else conv_norm(module.skip, x))


def published(model: ddl.DDL) -> Callable[[Tensor], Tensor]:
    """The network layer by layer on (B*T, C, H, W), permuted for every MSA path, dense maps, norms on their own."""

    def forward(clip: Tensor) -> Tensor:
        t = clip.shape[1]
        x = F.relu(conv_norm(model.conv1, clip.flatten(0, 1)))
        x = F.relu(conv_norm(model.conv2, x))
        for module in model.blocks:
            x = block(module, x, t)
        for conv in model.exits:
            x = separable(conv, F.relu(x))
        x = F.relu(x)
        x = model.fusion(x.view(-1, t * x.shape[1], *x.shape[2:]))
        return model.head(x.mean((2, 3)))

    return forward


def rows(device: str) -> list[Row]:
    """Inference of one clip."""
    return detector_rows("ddl", published, torch.rand(1, 8, 3, 256, 256, device=device), training=False)
