"""DDL, Dynamic Difference Learning With Spatio-Temporal Correlation for Deepfake Video Detection (IEEE TIFS 2023).

A shortened Xception per frame. Before each of its blocks, DFDC captures the few positions whose inter-frame difference
fluctuates most and MSA gates the features by temporal convolutions at three temporal scales.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

import dfops
from dfmodels.detector import Detector, InputContract, Optimizable, evaluating
from dfmodels.layers.clips import by_frames, each_frame, fold, pointwise
from dfmodels.layers.convolution import ConvNorm, conv_norm
from dfmodels.options import check_choice, check_count, check_number, check_option, is_count, listed, sides
from dfmodels.registry import register
from dfmodels.weights import NORM, Layout, inside, renamed

SCALES = (1, 2, 4)
PATHS = ("vertical", "horizontal")  # both act along time; the names are those of the release


class DifferenceCapture(nn.Module):
    """DFDC, dynamic fine-grained difference capture: re-injects features where the inter-frame difference fluctuates.

    out = x + gamma * (W_v x) * map, map = dfops.interframe_difference(W_q x, W_k x)

    Under mask_rule "le" the map lives on fewer than num_keep positions a clip: the value branch, the addition and the
    whole backward run only there.

    Args:
        channels: C.
        ratio: C / channels of query and key.
        num_keep: rank of the variance that a position must exceed to survive; None is the height of the map.
        mask_rule: "le" as released, "lt" as in the text of the paper.
        min_variance: variances below count as 0.
    """

    def __init__(
        self,
        channels: int,
        *,
        ratio: int = 8,
        num_keep: int | None = None,
        mask_rule: str = "le",
        min_variance: float = 0,
    ):
        super().__init__()
        self.query = nn.Parameter(torch.empty(channels // ratio, channels))
        self.key = nn.Parameter(torch.empty(channels // ratio, channels))
        self.value = nn.Parameter(torch.empty(channels, channels))
        self.gamma = nn.Parameter(torch.zeros(1))
        self.num_keep = num_keep
        self.mask_rule = mask_rule
        self.min_variance = min_variance
        for weight in (self.query, self.key, self.value):
            nn.init.normal_(weight, std=math.sqrt(2 / weight.shape[0]))

    def forward(self, x: Tensor, *, maps: list[Tensor] | None = None, may_overwrite: bool = False) -> Tensor:
        """Features (B, T, C, H, W) of the same shape; the difference map (B, T, H, W) is appended to `maps`.

        With `may_overwrite` the result takes the memory of x where no gradient is recorded.
        """
        if self.mask_rule == "lt":
            return self._dense(x, maps)
        b, t, c, h, w = x.shape
        # an exported program keeps no work that only a backward pass needs: there the operator is differentiated itself
        at_slots = not torch.compiler.is_exporting()
        with torch.set_grad_enabled(torch.is_grad_enabled() and not at_slots):
            query, key = self._query_key(x)
            positions, values = dfops.interframe_difference_sparse(query, key, **self._options(h, w))
        slots = positions.clamp(min=0)  # unused slots hold value 0, so adding them to position 0 changes nothing
        index = slots[:, None, :, None].expand(b, t, -1, c)
        rows = x.flatten(3).transpose(2, 3).gather(2, index)  # (B, T, N, C)
        if torch.is_grad_enabled() and at_slots:
            again = self._map_of_slots(rows, positions)
            values = values + (again - again.detach())  # the gradient of the one, the value of the other
        if maps is not None:
            maps.append(_spread(values.detach(), slots, h, w))
        change = self.gamma * F.linear(rows, self.value) * values[..., None]
        out = x if may_overwrite and not torch.is_grad_enabled() else x.clone()
        out.view(b, t, c, h * w).transpose(2, 3).scatter_add_(2, index, change.to(x.dtype))
        return out

    def _map_of_slots(self, rows: Tensor, positions: Tensor) -> Tensor:
        """The map (B, T, N) of the positions (B, N) from their features (B, T, N, C), differentiable in these alone."""
        # unused slots become zeros, which do not fluctuate; where not all are NaN there is one, so the threshold is 0
        used = (positions >= 0)[:, None]
        query, key = self._query_key(rows.transpose(2, 3)[..., None])
        query, key = (torch.where(used[:, None, ..., None], slots, 0) for slots in (query, key))
        # the map of a frame that holds a NaN is NaN throughout, but unused slots add nothing
        return torch.where(used, dfops.interframe_difference(query, key)[..., 0], 0)

    def _dense(self, x: Tensor, maps: list[Tensor] | None) -> Tensor:
        query, key = self._query_key(x)
        difference = dfops.interframe_difference(query, key, mask_rule="lt", **self._options(*x.shape[3:]))
        if maps is not None:
            maps.append(difference.detach())
        return x + (self.gamma * pointwise(x, self.value) * difference[:, :, None]).to(x.dtype)

    def _query_key(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # the mask is a hard decision that rounding to a half type would move, so both products stay in float32
        device = x.device.type
        autocast = device != "meta" and torch.is_autocast_enabled(device)
        # only where it is on: torch writes such a region of an exported program, but cannot read it
        with torch.autocast(device, enabled=False) if autocast else nullcontext():
            wide = x if x.dtype == torch.float64 else x.float()
            return pointwise(wide, self.query.to(wide.dtype)), pointwise(wide, self.key.to(wide.dtype))

    def _options(self, h: int, w: int) -> dict[str, Any]:
        rank = h if self.num_keep is None else min(self.num_keep, h * w)
        return {"num_keep": rank, "min_variance": self.min_variance}


def _spread(values: Tensor, slots: Tensor, h: int, w: int) -> Tensor:
    """The dense map (B, T, H, W) of slot values (B, T, N)."""
    b, t, _ = values.shape
    index = slots[:, None].expand(b, t, -1)
    return values.new_zeros(b, t, h * w).scatter_add(2, index, values).unflatten(2, (h, w))


class TemporalAggregation(Optimizable):
    """MSA, multi-scale spatio-temporal aggregation: gates features by temporal filters at three temporal scales.

    On each of two paths, for s in SCALES: mean over s frames, filter of 3 taps a channel, 1x1 convolution to
    C / ratio, norm, nearest up-sampling to T; their mean, 1x1 convolution to C, norm. The gate is
    dfops.inconsistency_gate of the two paths.

    Args:
        channels: C.
        ratio: C / inner channels.
    """

    def __init__(self, channels: int, *, ratio: int = 4):
        super().__init__()
        inner = channels // ratio
        self.taps = nn.Parameter(torch.empty(len(PATHS), len(SCALES), channels, 3))
        reduce = nn.ModuleList(nn.ModuleList(ConvNorm(channels, inner) for _ in SCALES) for _ in PATHS)
        self.reduce = cast(Sequence[Sequence[ConvNorm]], reduce)
        merge = nn.ModuleList(ConvNorm(inner, channels, bias=True) for _ in PATHS)
        self.merge = cast(Sequence[ConvNorm], merge)
        self.gamma = nn.Parameter(torch.zeros(1))
        nn.init.normal_(self.taps, std=math.sqrt(2 / (3 * channels)))

    def forward(self, x: Tensor, *, may_overwrite: bool = False) -> Tensor:
        """x (B, T, C, H, W) with T >= 4 -> the same shape.

        With `may_overwrite` the result may take the memory of x where no gradient is recorded.
        """
        frames = [fold(x), *map(fold, self.merged(x))]
        out = frames[0] if may_overwrite else None
        return by_frames(self, self.gate, *frames, width=2 * x.shape[2], out=out).unflatten(0, x.shape[:2])

    def merged(self, x: Tensor) -> list[Tensor]:
        """The mean over scales (B, T, C / ratio, H, W) of each path."""
        num_frames = x.shape[1]
        if num_frames < SCALES[-1]:
            raise ValueError(f"clip must have at least {SCALES[-1]} frames for MSA, got {num_frames}")
        strips = dfops.strip_pool(x, self.taps.to(x.dtype), axis="T", scales=SCALES)
        merged = []
        for d in range(len(PATHS)):
            parts = [each_frame(self.reduce[d][s], y) for s, y in enumerate(strips[d])]
            merged.append(dfops.strip_merge(parts, num_frames, axis="T"))
        return merged

    def logits(self, *merged: Tensor) -> list[Tensor]:
        """The two paths (N, C, H, W) before the sigmoid."""
        return [merge(y) for y, merge in zip(merged, self.merge, strict=True)]

    def gate(self, x: Tensor, *merged: Tensor) -> Tensor:
        """The module behind `merged`, frame by frame."""
        vertical, horizontal = self.logits(*merged)
        return dfops.inconsistency_gate(x, vertical, horizontal, self.gamma)


class SeparableConv(nn.Module):
    """3x3 convolution a channel, then 1x1 to `out_channels`, then a norm."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = ConvNorm(in_channels, out_channels)
        nn.init.normal_(self.depthwise.weight, std=math.sqrt(2 / (9 * in_channels)))

    def forward(self, x: Tensor, *, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """(N, C, H, W) -> (N, O, H, W); a residual and ReLU behind the norm as in `ConvNorm`."""
        return self.pointwise(self.depthwise(x), residual=residual, relu=relu)


class Block(Optimizable):
    """ReLU, DFDC, MSA, then separable convolutions beside a skip; both see the features after MSA.

    Args:
        in_channels, out_channels: width before and after.
        num_convs: separable convolutions.
        stride: 1 or 2; the convolutions end in a max pool, the skip samples even rows and columns.
        leading_relu: whether the block rectifies its input.
        use_capture, use_aggregation: whether DFDC and MSA act; their parameters exist either way.
        capture: options of `DifferenceCapture`.
        aggregation_ratio: of `TemporalAggregation`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        num_convs: int,
        stride: int,
        leading_relu: bool = True,
        use_capture: bool = True,
        use_aggregation: bool = True,
        capture: dict[str, Any] | None = None,
        aggregation_ratio: int = 4,
    ):
        super().__init__()
        self.stride = stride
        self.leading_relu = leading_relu
        self.use_capture = use_capture
        self.use_aggregation = use_aggregation
        self.capture = DifferenceCapture(in_channels, **(capture or {}))
        self.aggregation = TemporalAggregation(in_channels, ratio=aggregation_ratio)
        # what is there for the files alone gets no gradient, and distributed training would wait for it
        self.capture.requires_grad_(use_capture)
        self.aggregation.requires_grad_(use_aggregation)
        convs = [SeparableConv(in_channels if i == 0 else out_channels, out_channels) for i in range(num_convs)]
        self.convs = cast(Sequence[SeparableConv], nn.ModuleList(convs))
        self.width = max(in_channels, out_channels)
        projects = stride != 1 or in_channels != out_channels
        self.skip = ConvNorm(in_channels, out_channels, stride=stride) if projects else None

    def forward(self, x: Tensor, maps: list[Tensor] | None = None) -> Tensor:
        """(B, T, C, H, W) -> (B, T, O, ceil(H/stride), ceil(W/stride)), not rectified."""
        if self.leading_relu:
            x = F.relu(x)
        may_overwrite = self.optimized and self.leading_relu
        if self.use_capture:
            x = self.capture(x, maps=maps, may_overwrite=may_overwrite)
        if self.use_aggregation:
            x = self.aggregation(x, may_overwrite=may_overwrite)
        return by_frames(self, self.convolve, fold(x), width=self.width).unflatten(0, x.shape[:2])

    def convolve(self, x: Tensor) -> Tensor:
        """The separable convolutions and the skip beside them, frame by frame."""
        y = x
        for conv in self.convs[:-1]:
            y = conv(y, relu=True)
        if self.stride == 1:
            return self.convs[-1](y, residual=x if self.skip is None else self.skip(x))
        assert self.skip is not None
        return self.skip(x, residual=F.max_pool2d(self.convs[-1](y), 3, 2, 1), overwrite=True)


class ChannelAttention(nn.Module):
    """Gate (B, C, 1, 1) in (0, 1) from the mean and the maximum over positions through one shared two-layer network."""

    def __init__(self, channels: int, ratio: int = 16):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // ratio, 1, bias=False)
        self.excite = nn.Conv2d(channels // ratio, channels, 1, bias=False)
        for conv in (self.squeeze, self.excite):
            nn.init.normal_(conv.weight, std=math.sqrt(2 / conv.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 1, 1)."""
        pooled = (x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True))
        return torch.sigmoid(sum(self.excite(F.relu(self.squeeze(p))) for p in pooled))


class FrameFusion(nn.Module):
    """Fuses the frames of a clip, stacked into channels frame by frame: f = ReLU(norm(conv1x1)), out = f (1 + gate)."""

    def __init__(self, in_channels: int, out_channels: int, ratio: int = 16):
        super().__init__()
        self.merge = ConvNorm(in_channels, out_channels)
        self.attention = ChannelAttention(out_channels, ratio)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T*C, H, W) -> (B, O, H, W)."""
        fused = self.merge(x, relu=True)
        return fused * (1 + self.attention(fused))


class DDL(Detector):
    """The whole detector; `ddl` lists its options.

    In inference the stem runs in channels-last, and so does everything behind it: there a 1x1 convolution is one
    product over positions.
    """

    def __init__(
        self,
        *,
        num_frames: int,
        num_classes: int,
        stem_channels: Sequence[int],
        widths: Sequence[int],
        num_convs: Sequence[int],
        strides: Sequence[int],
        exit_channels: Sequence[int],
        fusion_channels: int,
        num_keep: int | None,
        mask_rule: str,
        min_variance: float,
        gamma: float,
        capture_blocks: Sequence[bool],
        aggregation_blocks: Sequence[bool],
        size: tuple[int, int],
    ):
        super().__init__()
        self.name = "ddl"
        self.contract = InputContract(num_frames=num_frames, size=size)
        capture = {"num_keep": num_keep, "mask_rule": mask_rule, "min_variance": min_variance}
        first, second = stem_channels
        self.stem_width = first
        self.conv1 = ConvNorm(3, first, 3)
        self.conv2 = ConvNorm(first, second, 3, stride=2)
        inputs = [second, *widths[:-1]]
        blocks = nn.ModuleList(
            Block(
                inputs[i],
                widths[i],
                num_convs=num_convs[i],
                stride=strides[i],
                use_capture=capture_blocks[i],
                use_aggregation=aggregation_blocks[i],
                capture=capture,
            )
            for i in range(len(widths))
        )
        self.blocks = cast(Sequence[Block], blocks)
        self.exits = nn.ModuleList(
            SeparableConv(a, b) for a, b in zip([widths[-1], *exit_channels[:-1]], exit_channels, strict=True)
        )
        self.fusion = FrameFusion(num_frames * exit_channels[-1], fusion_channels)
        self.head = nn.Linear(fusion_channels, num_classes)
        for block in self.blocks:
            nn.init.constant_(block.capture.gamma, gamma)
            nn.init.constant_(block.aggregation.gamma, gamma)

    def forward(self, clip: Tensor) -> Tensor:
        """Clip (B, T, 3, H, W), RGB in [0, 1] -> logits (B, num_classes)."""
        return self.head(self.features(clip))

    def features(self, clip: Tensor, maps: list[Tensor] | None = None) -> Tensor:
        """Pooled features (B, fusion_channels) before the classifier; difference maps are appended to `maps`."""
        self.check_clip(clip)
        b, t = clip.shape[:2]
        if t != self.contract.num_frames:
            raise ValueError(
                f"clip must have the {self.contract.num_frames} frames the fusion head was built for "
                f"(option num_frames), got {t}"
            )
        x = fold(clip).contiguous(memory_format=torch.channels_last)
        x = by_frames(self, self.stem, x, width=self.stem_width).unflatten(0, (b, t))
        for block in self.blocks:
            x = block(x, maps)
        for conv in self.exits:
            x = each_frame(conv, F.relu(x))
        x = self.fusion(rearrange(F.relu(x), "b t c h w -> b (t c) h w"))
        return x.mean((2, 3))

    def stem(self, x: Tensor) -> Tensor:
        """The convolutions before the blocks, frame by frame; block 1 rectifies the result, as every block does."""
        return self.conv2(self.conv1(x, relu=True)).contiguous(memory_format=torch.channels_last)

    def published_layout(self) -> Layout:
        layout = conv_norm("conv1", "bn1", "conv1") | conv_norm("conv2", "bn2", "conv2")
        for i, block in enumerate(self.blocks):
            layout |= inside(f"block{i + 1}.", f"blocks.{i}.", block_layout(block))
        for i in range(len(self.exits)):
            layout |= inside(f"conv{i + 3}.", f"exits.{i}.", SEPARABLE)
            layout |= renamed(f"bn{i + 3}", f"exits.{i}.pointwise.norm", NORM)
        layout |= inside("fea_fusion.", "fusion.", FUSION_LAYOUT)
        return layout | renamed("fc", "head", {"weight": "weight", "bias": "bias"})

    def inconsistency_maps(self, clip: Tensor) -> list[Tensor]:
        """Difference maps of every block whose DFDC acts, in evaluation mode and without gradients.

        Args:
            clip: (B, T, 3, H, W), RGB in [0, 1].

        Returns:
            (B, T, H_i, W_i) a block in [0, 1]: 1 at the position of a frame that differs most from the clip, 0 where
            the difference fluctuates too little to count.
        """
        maps: list[Tensor] = []
        with torch.no_grad():
            evaluating(self).features(self.matching(clip), maps)
        return maps

    def attention_maps(self, clip: Tensor) -> dict[str, list[Tensor]]:
        """`inconsistency_maps` under their name."""
        maps = self.inconsistency_maps(clip)
        return {"DFDC": maps} if maps else {}


SEPARABLE: Layout = {
    "conv1.weight": ("depthwise.weight", ()),
    "pointwise.weight": ("pointwise.conv.weight", ()),
}
FUSION_LAYOUT: Layout = {
    **conv_norm("convblk.0", "convblk.1", "merge"),
    "ca.sharedMLP.0.weight": ("attention.squeeze.weight", ()),
    "ca.sharedMLP.2.weight": ("attention.excite.weight", ()),
}
CAPTURE_LAYOUT: Layout = {
    "q_conv.weight": ("query", ()),
    "k_conv.weight": ("key", ()),
    "v_conv.weight": ("value", ()),
    "gamma": ("gamma", ()),
}


def aggregation_layout() -> Layout:
    """Published keys of `TemporalAggregation`."""
    layout: Layout = {"gamma": ("gamma", ())}
    for d, path in enumerate(PATHS):
        for s, suffix in enumerate(("", "_down", "_down2")):
            published = f"{path}_conv{suffix}"
            layout[f"{published}.0.conv1.weight"] = ("taps", (d, s))
            layout |= conv_norm(f"{published}.0.pointwise", f"{published}.1", f"reduce.{d}.{s}")
        layout |= conv_norm(f"{path}_conv_merge.0", f"{path}_conv_merge.1", f"merge.{d}")
        layout[f"{path}_conv_merge.0.bias"] = (f"merge.{d}.conv.bias", ())
    return layout


def block_layout(block: Block) -> Layout:
    """Published keys of a `Block`."""
    layout = inside("neg_sim.", "capture.", CAPTURE_LAYOUT) | inside("hv_att.", "aggregation.", aggregation_layout())
    for i in range(len(block.convs)):  # ReLUs stand between the published entries
        layout |= inside(f"block.rep.{3 * i}.", f"convs.{i}.", SEPARABLE)
        layout |= renamed(f"block.rep.{3 * i + 1}", f"convs.{i}.pointwise.norm", NORM)
    if block.skip is not None:
        layout |= conv_norm("block.skip", "block.skipbn", "skip")
    return layout


@register("ddl")
def ddl(
    *,
    num_frames: int = 8,
    num_classes: int = 2,
    stem_channels: Sequence[int] = (32, 64),
    widths: Sequence[int] = (128, 256, 512, 512, 512, 512, 512),
    num_convs: Sequence[int] = (2, 2, 2, 3, 3, 3, 3),
    strides: Sequence[int] = (2, 2, 2, 1, 1, 1, 2),
    exit_channels: Sequence[int] = (512, 256),
    fusion_channels: int = 1024,
    num_keep: int | None = None,
    mask_rule: str = "le",
    min_variance: float = 0.0,
    gamma: float = 0.0,
    capture_blocks: Sequence[bool] | bool = True,
    aggregation_blocks: Sequence[bool] | bool = True,
    size: int | Sequence[int] = 256,
) -> DDL:
    """DDL with random weights; the defaults are the published network.

    Args:
        num_frames: frames T of a clip, at least 4; only the fusion head's weights depend on it.
        num_classes: logits, at least 2.
        stem_channels: of the two convolutions before the blocks.
        widths: output channels of each block; with the stem's, multiples of 8.
        num_convs: separable convolutions of each block.
        strides: 1 or 2 of each block.
        exit_channels: of the separable convolutions behind the blocks.
        fusion_channels: width of the fusion head, a multiple of 16.
        num_keep: rank of the variance that a position must exceed to survive in DFDC; None is the map's height (paper
            section 3: k = H), and at most H * W counts.
        mask_rule: "le" masks variances up to that rank as released, "lt" only those below it as in the paper's text.
        min_variance: variances below count as 0.
        gamma: where the gates of DFDC and MSA start. At 0, as released, both are the identity at first and open slowly;
            at 1 short trainings get further.
        capture_blocks, aggregation_blocks: whether DFDC and MSA act, for all blocks or for each.
        size: height and width of the face crops it is trained on, for the input contract; any size runs.

    Raises:
        ValueError: an option other than the ones above.

    Source: IEEE TIFS 2023 and the authors' release.
    """
    config: dict[str, Any] = dict(locals())
    check_count("num_frames", num_frames, least=SCALES[-1])
    check_count("num_classes", num_classes, least=2)
    for name in ("stem_channels", "widths", "num_convs", "exit_channels"):
        config[name] = listed(name, config[name])
    listed("widths", widths, lambda width: is_count(width) and width % 8 == 0, "positive multiples of 8")
    blocks = len(config["widths"])
    fits = len(config["stem_channels"]) == 2 and config["stem_channels"][1] % 8 == 0
    check_option("stem_channels", stem_channels, fits, "two, the second a multiple of 8")
    config["strides"] = listed("strides", strides, lambda stride: is_count(stride) and stride <= 2, "1 or 2 each")
    for name in ("capture_blocks", "aggregation_blocks"):
        switch = config[name]
        switches = [switch] * blocks if isinstance(switch, bool) else switch
        config[name] = listed(
            name, switches, lambda value: isinstance(value, bool), "True or False, or one of them each"
        )
    for name in ("num_convs", "strides", "capture_blocks", "aggregation_blocks"):
        check_option(name, config[name], len(config[name]) == blocks, f"one for each of the {blocks} blocks")
    check_option(
        "fusion_channels",
        fusion_channels,
        is_count(fusion_channels, 16) and fusion_channels % 16 == 0,
        "a multiple of 16",
    )
    check_option("num_keep", num_keep, num_keep is None or is_count(num_keep), "None or a whole number of at least 1")
    check_choice("mask_rule", mask_rule, ("le", "lt"))
    check_number("min_variance", min_variance, lambda x: x >= 0, "of at least 0")
    check_number("gamma", gamma)
    config["size"] = sides("size", size)
    model = DDL(**{**config, "size": tuple(config["size"])})
    model.config = config
    return model
