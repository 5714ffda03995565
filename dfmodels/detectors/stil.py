"""STIL, Spatiotemporal Inconsistency Learning for DeepFake Video Detection (ACM MM 2021, arXiv:2109.01860).

A 2-D residual network runs on every frame. In each of its blocks one half of the inner channels looks for spatial
inconsistency inside a frame (SIM), the other half for temporal inconsistency between neighbouring frames (TIM), and a
supplement (ISM) hands the evidence of one half to the other.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dfops
from dfmodels.detector import Detector, InputContract, evaluating
from dfmodels.layers.clips import fold, unfold
from dfmodels.layers.convolution import ConvNorm, conv_norm
from dfmodels.options import check_choice, check_count, check_option, check_switch, is_count, listed, sides
from dfmodels.registry import register
from dfmodels.weights import PARAMETERS, Layout, inside, renamed

AXES = ("H", "W")
EXPANSION = 4  # width of a bottleneck's output in widths of its inside
HALVES = ("project", "split")


@dataclass(frozen=True)
class BlockOptions:
    """What a `STILBlock` is made of; the defaults are the released block.

    Attributes:
        halves: "project": two 1x1 convolutions from the full width; "split": the channels cut in two (in_channels =
            out_channels).
        (others): the options of these names of `stil`.

    Raises:
        ValueError: a value other than the ones above.
    """

    halves: str = "project"
    sim: bool = True
    sim_pool: int = 4
    sim_exit: bool = True
    tim: bool = True
    tim_difference: str = "later"
    tim_kernel: tuple[int, int] = (3, 1)
    tim_gate: str = "residual"
    reduction: int = 16
    fusion: str = "s->t"
    supplement: str = "add"
    shift: bool = True
    shift_divisor: int = 8
    shift_init: str = "shift"
    clamp_pool: bool = False

    def __post_init__(self) -> None:
        choices = {
            "halves": HALVES,
            "tim_difference": ("later", "both"),
            "tim_gate": ("residual", "confidence"),
            "fusion": ("s->t", "t->s", "s+t", "none"),
            "supplement": ("add", "multiply"),
            "shift_init": ("shift", "identity", "random"),
        }
        for name, known in choices.items():
            check_choice(name, getattr(self, name), known)
        for name in ("sim", "sim_exit", "tim", "shift", "clamp_pool"):
            check_switch(name, getattr(self, name))
        for name in ("sim_pool", "reduction", "shift_divisor"):
            check_count(name, getattr(self, name))
        what = "two odd numbers, taps along space and time"
        taps = listed("tim_kernel", self.tim_kernel, lambda n: is_count(n) and n % 2 == 1, what)
        check_option("tim_kernel", self.tim_kernel, len(taps) == 2, what)

    @property
    def window(self) -> int:
        """Rows and columns that the modules need of a map."""
        return 1 if self.clamp_pool else max(self.sim_pool if self.sim else 1, 2 if self.tim else 1)


class SpatialInconsistency(nn.Module):
    """SIM: features of a frame weighted by how little they agree with their surroundings.

    evidence = norm(conv3x3(x)) * sigmoid(x + up(v)),  v = norm(col(relu(norm(row(pool(x))))))
    out      = norm(conv3x3(evidence))                                                    evidence if not exit_conv

    `pool` averages windows of `pool` x `pool`, row is a 1x3 and col a 3x1 convolution, up is nearest.

    Args:
        channels: C.
        pool: side of the pooling window; 4 as released, 2 in the paper.
        exit_conv: whether the product passes another convolution, as released.
        stride: of that convolution.
        clamp_pool: on maps smaller than the window, take the map as the window instead of raising.
    """

    def __init__(
        self, channels: int, *, pool: int = 4, exit_conv: bool = True, stride: int = 1, clamp_pool: bool = False
    ):
        super().__init__()
        self.pool = pool
        self.clamp_pool = clamp_pool
        self.row = ConvNorm(channels, channels, (1, 3))
        self.column = ConvNorm(channels, channels, (3, 1))
        self.features = ConvNorm(channels, channels, 3)
        self.exit = ConvNorm(channels, channels, 3, stride=stride) if exit_conv else None

    def forward(self, x: Tensor, *, relu: bool = False) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) -> out, rectified if asked for, and evidence, of the same shape."""
        evidence = self.features(x) * self.confidence(x)
        if self.exit is None:
            return (F.relu(evidence) if relu else evidence), evidence
        return self.exit(evidence, relu=relu), evidence

    def confidence(self, x: Tensor) -> Tensor:
        """sigmoid(x + up(v)), (N, C, H, W) in (0, 1)."""
        size = x.shape[2:]
        window = [_window(self.pool, side, "SIM", self.clamp_pool) for side in size]
        whole = x
        if torch.compiler.is_exporting():
            # without a rest: torch before 2.14 makes it, and whether a slice leaves one, conditions of the program
            for dim, length in zip((2, 3), window, strict=True):
                kept = torch.arange(x.shape[dim] // length * length, device=x.device)
                whole = whole.index_select(dim, kept)
            whole = whole.contiguous(memory_format=torch.channels_last)
        coarse = self.column(self.row(F.avg_pool2d(whole, window), relu=True))
        return F.interpolate(coarse, size).add_(x).sigmoid_()


class DirectionalBranch(nn.Module):
    """One direction of TIM: how neighbouring frames differ, seen by filters along height or along width.

    d      = D(z[t + 1]) - z[t]                                dfops.directional_difference; 0 for the last frame
    logits = norm(conv1x1((d + up(norm(pooled(mean of 2 of d))) + norm(full(d))) / 3))

    Args:
        inner: channels of z.
        channels: of the logits.
        axis: "H" or "W".
        kernel: odd taps of the convolutions `pooled` and `full` along the axis and along time.
        difference: "later" as above, as released; "both": d = D(z[t + 1] - z[t]), the formula of the paper.
        clamp_pool: as for `SpatialInconsistency`.
    """

    def __init__(
        self,
        inner: int,
        channels: int,
        *,
        axis: str,
        kernel: tuple[int, int] = (3, 1),
        difference: str = "later",
        clamp_pool: bool = False,
    ):
        super().__init__()
        self.axis = axis
        self.difference_rule = difference
        self.clamp_pool = clamp_pool
        self.taps = nn.Parameter(torch.empty(inner, 3))
        self.pooled = PlaneConvNorm(inner, axis=axis, kernel=kernel)
        self.full = PlaneConvNorm(inner, axis=axis, kernel=kernel)
        self.expand = ConvNorm(inner, channels)
        # He normal, fan out: all output channels count, although the filter is depth-wise
        nn.init.normal_(self.taps, std=math.sqrt(2 / (3 * inner)))

    def forward(self, z: Tensor) -> Tensor:
        """(B, T, inner, H, W) -> (B*T, channels, H, W)."""
        size = z.shape[3 if self.axis == "H" else 4]
        d = self.difference(z)
        window = _window(2, size, "TIM", self.clamp_pool)
        pooled = dfops.strip_pool(d, axis=self.axis, scales=(window,))[0]
        merged = dfops.strip_merge([d, self.pooled(pooled), self.full(d)], size, axis=self.axis)
        return self.expand(fold(merged))

    def difference(self, z: Tensor) -> Tensor:
        """The directional difference d of (B, T, inner, H, W), same shape."""
        taps = self.taps.to(z.dtype)
        if self.difference_rule == "later":
            return dfops.directional_difference(z, taps, axis=self.axis)
        filtered = dfops.strip_pool(z, taps[None], axis=self.axis, scales=(1,))[0]
        return torch.cat([filtered[:, 1:] - filtered[:, :-1], torch.zeros_like(z[:, :1])], 1)


class PlaneConvNorm(nn.Module):
    """Convolution in the plane of one spatial axis and time, then batch norm.

    Args:
        channels: before and after.
        axis: "H" or "W".
        kernel: odd taps along the axis and along time.
    """

    def __init__(self, channels: int, *, axis: str, kernel: tuple[int, int]):
        super().__init__()
        space, self.time = kernel
        self.unit = ConvNorm(channels * self.time, channels, (space, 1) if axis == "H" else (1, space))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C, H, W) -> the same shape; frames beyond the clip are zero."""
        t = x.shape[1]
        if self.time > 1:  # neighbouring frames side by side as channels, earliest first
            half = self.time // 2
            padded = F.pad(x, (0, 0, 0, 0, 0, 0, half, half))
            x = torch.cat([padded[:, k : k + t] for k in range(self.time)], 2)
        return unfold(self.unit(fold(x)), t)


class TemporalInconsistency(nn.Module):
    """TIM: features gated by how neighbouring frames differ along height and along width.

    out = x (1 + mean over both directions of (sigmoid(logits) - 1/2))                                   "residual"
    out = x (sigmoid(logits of H) + sigmoid(logits of W))                                                "confidence"

    Args:
        channels: C.
        reduction: C / inner channels, which the branches see.
        kernel, difference, clamp_pool: as for `DirectionalBranch`.
        gate: "residual" as released, "confidence" as drawn in the paper.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        kernel: tuple[int, int] = (3, 1),
        difference: str = "later",
        gate: str = "residual",
        clamp_pool: bool = False,
    ):
        super().__init__()
        inner = channels // reduction
        if inner < 1:
            raise ValueError(f"channels of TIM must be at least reduction = {reduction}, got {channels}")
        self.gate = gate
        self.reduce = ConvNorm(channels, inner)
        branches = [
            DirectionalBranch(inner, channels, axis=axis, kernel=kernel, difference=difference, clamp_pool=clamp_pool)
            for axis in AXES
        ]
        self.branches = nn.ModuleDict(dict(zip(AXES, branches, strict=True)))

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """(B*T, C, H, W) -> the same shape."""
        height, width = self.logits(x, num_frames)
        if self.gate == "confidence":
            return x * (torch.sigmoid(height) + torch.sigmoid(width))
        return dfops.inconsistency_gate(x, height, width, 1.0)

    def logits(self, x: Tensor, num_frames: int) -> list[Tensor]:
        """Of both directions before the sigmoid, (B*T, C, H, W)."""
        z = unfold(self.reduce(x), num_frames)
        return [branch(z) for branch in self.branches.values()]


class InformationSupplement(nn.Module):
    """ISM: evidence weighted by channel, s * sigmoid(conv(mean of s)), a filter of 3 taps sliding over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.taps = nn.Parameter(torch.empty(1, 1, 3))
        nn.init.uniform_(self.taps, -(3**-0.5), 3**-0.5)

    def forward(self, evidence: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        return evidence * self.gate(evidence)[:, :, None, None]

    def gate(self, evidence: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C) in (0, 1)."""
        neighbours = F.pad(evidence.mean((2, 3)), (1, 1)).unfold(1, 3, 1)
        return torch.sigmoid(neighbours @ self.taps[0, 0].to(neighbours.dtype))


class TemporalShift(nn.Module):
    """Learned filter of 3 taps a channel along time that starts as a shift: `dfops.strip_pool(axis="T", scales=(1,))`.

    Args:
        channels: C, a multiple of `divisor`.
        divisor: the first C / divisor channels start by taking the next frame, as many behind them the previous one.
        init: "shift", "identity" (no channel starts shifted) or "random".
    """

    def __init__(self, channels: int, *, divisor: int = 8, init: str = "shift"):
        super().__init__()
        if channels % divisor:
            raise ValueError(f"channels of the temporal shift must be a multiple of {divisor}, got {channels}")
        self.taps = nn.Parameter(torch.zeros(channels, 3))
        shifted = channels // divisor if init == "shift" else 0
        with torch.no_grad():
            if init == "random":
                self.taps.uniform_(-(3**-0.5), 3**-0.5)
            else:
                self.taps[:shifted, 2] = 1
                self.taps[shifted : 2 * shifted, 0] = 1
                self.taps[2 * shifted :, 1] = 1

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """(B*T, C, H, W) -> the same shape."""
        taps = self.taps[None].to(x.dtype)
        return fold(dfops.strip_pool(unfold(x, num_frames), taps, axis="T", scales=(1,))[0])


class STILBlock(nn.Module):
    """The plug-in: SIM on one half of the channels, TIM on the other, evidence handed over by ISM.

    It maps frames to frames and keeps their size (with `stride` 2, halves it), so it takes the place of a 3x3
    convolution with norm and ReLU in any 2-D residual network.

        a, b     = halves of x
        o, s     = SIM(b);    b = relu(o)
        a        = relu(norm(conv3x3(Shift(TIM(a) + ISM(s)))))
        out      = [a; b]

    Args:
        in_channels, out_channels: C of the input, and of the output, whose halves a and b have 8k channels.
        stride: 1 or 2; with 2 both halves end in an average pool 3x3.
        options: what it is made of, as released by default.
        changes: fields of `BlockOptions` that differ from `options`, as in `STILBlock(64, 64, fusion="none")`.

    Raises:
        TypeError: another name.
        ValueError: another value.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        options: BlockOptions | None = None,
        **changes: Any,
    ):
        super().__init__()
        options = replace(options or BlockOptions(), **changes)
        width = out_channels // 2
        self.stride = stride
        self.supplement = options.supplement
        self.project_a = self.project_b = None
        if options.halves == "project":
            self.project_a = ConvNorm(in_channels, width)
            self.project_b = ConvNorm(in_channels, width)
        self.spatial = self.temporal = self.shift = self.to_temporal = self.to_spatial = None
        if options.sim:
            self.spatial = SpatialInconsistency(
                width, pool=options.sim_pool, exit_conv=options.sim_exit, clamp_pool=options.clamp_pool
            )
        if options.tim:
            self.temporal = TemporalInconsistency(
                width,
                reduction=options.reduction,
                kernel=options.tim_kernel,
                difference=options.tim_difference,
                gate=options.tim_gate,
                clamp_pool=options.clamp_pool,
            )
        if options.fusion in ("s->t", "s+t"):
            self.to_temporal = InformationSupplement()
        if options.fusion in ("t->s", "s+t"):
            self.to_spatial = InformationSupplement()
        if options.shift:
            self.shift = TemporalShift(width, divisor=options.shift_divisor, init=options.shift_init)
        self.mix = ConvNorm(width, width, 3)

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """(B*T, C, H, W) of clips of T = num_frames -> (B*T, O, ceil(H / stride), ceil(W / stride))."""
        a, b = self.split(x)
        evidence = b
        if self.spatial is not None:
            b, evidence = self.spatial(b, relu=True)
        if self.temporal is not None:
            a = self.temporal(a, num_frames)
        temporal = a
        if self.to_temporal is not None:
            a = self.hand_over(a, self.to_temporal(evidence))
        if self.to_spatial is not None:
            b = self.hand_over(b, self.to_spatial(temporal))
        if self.shift is not None:
            a = self.shift(a, num_frames)
        a = self.mix(a, relu=True)
        if self.stride == 2:
            a, b = (F.avg_pool2d(half, 3, 2, 1) for half in (a, b))
        return torch.cat([a, b], 1)

    def split(self, x: Tensor) -> Sequence[Tensor]:
        """The temporal half a and the spatial half b, (B*T, O / 2, H, W) each."""
        if self.project_a is None or self.project_b is None:
            return x.chunk(2, 1)
        return [project(x, relu=True) for project in (self.project_a, self.project_b)]

    def hand_over(self, features: Tensor, evidence: Tensor) -> Tensor:
        return features + evidence if self.supplement == "add" else features * evidence


def _window(pool: int, side: int, module: str, clamp: bool) -> int:
    if side >= pool:
        return pool
    if clamp and side >= 1:
        return side
    raise ValueError(
        f"{module} averages windows of {pool} positions, so its maps must have at least {pool} rows and columns, got "
        f"{side}; give larger frames, or build with clamp_pool=True to shrink the window there"
    )


class Bottleneck(nn.Module):
    """A residual bottleneck around the plug-in: out = relu(norm(conv1x1(block(x))) + skip(x)).

    Args:
        in_channels: C.
        planes: width of the plug-in; the output has 4 planes channels.
        stride: 1 or 2.
        project_skip: whether the skip is a 1x1 convolution with norm; else the identity.
        pool_skip: whether the skip halves the size by an average pool 2x2 as SCNet-50-v1d does; else by its stride.
        options: of the plug-in.
    """

    def __init__(
        self,
        in_channels: int,
        planes: int,
        *,
        stride: int = 1,
        project_skip: bool = False,
        pool_skip: bool = True,
        options: BlockOptions | None = None,
    ):
        super().__init__()
        options = options or BlockOptions()
        projects = options.halves == "project"
        self.reduce = None if projects else ConvNorm(in_channels, planes)
        self.block = STILBlock(in_channels if projects else planes, planes, stride=stride, options=options)
        self.expand = ConvNorm(planes, EXPANSION * planes)
        self.skip_pools = pool_skip
        self.stride = stride
        self.skip = None
        if project_skip:
            skip_stride = 1 if pool_skip else stride
            self.skip = ConvNorm(in_channels, EXPANSION * planes, stride=skip_stride)

    def forward(self, x: Tensor, num_frames: int, *, overwrite: bool = False) -> Tensor:
        """(B*T, C, H, W) -> (B*T, 4 planes, ceil(H / stride), ceil(W / stride)).

        With `overwrite` the result may take the memory of x in an optimized copy.
        """
        inner = self.block(x if self.reduce is None else self.reduce(x, relu=True), num_frames)
        if self.skip is None:
            return self.expand(inner, residual=x, relu=True, overwrite=overwrite)
        if self.skip_pools and self.stride == 2:
            x = F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)
        return self.expand(inner, residual=self.skip(x), relu=True, overwrite=True)


class STIL(Detector):
    """The whole detector; `stil` lists its options. It computes in channels-last."""

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str,
        stem_channels: Sequence[int],
        layers: Sequence[int],
        planes: Sequence[int],
        options: BlockOptions,
        contract: InputContract,
    ):
        super().__init__()
        self.name = "stil"
        self.contract = contract
        self.backbone = backbone
        first, second = stem_channels
        if backbone == "scnet50_v1d":
            stem = [ConvNorm(3, first, 3, stride=2), ConvNorm(first, first, 3), ConvNorm(first, second, 3)]
        else:
            stem = [ConvNorm(3, second, 7, stride=2)]
        self.stem = cast(Sequence[ConvNorm], nn.ModuleList(stem))
        stages = []
        channels = second
        for i, (count, width) in enumerate(zip(layers, planes, strict=True)):
            stage = nn.ModuleList()
            for j in range(count):
                stage.append(
                    Bottleneck(
                        channels,
                        width,
                        stride=2 if i > 0 and j == 0 else 1,
                        project_skip=j == 0,
                        pool_skip=backbone == "scnet50_v1d",
                        options=options,
                    )
                )
                channels = EXPANSION * width
            stages.append(stage)
        self.stages = cast(Sequence[Sequence[Bottleneck]], nn.ModuleList(stages))
        self.head = nn.Linear(channels, num_classes)
        # the tightest maps a block sees: those behind the last stride if any block follows it there
        reduction = 2 ** (len(layers) + (layers[-1] > 1 or len(layers) == 1))
        self.smallest_side = (options.window - 1) * reduction + 1

    def forward(self, clip: Tensor, *, clip_length: int | None = None) -> Tensor:
        """Clip (B, T, 3, H, W), normalised -> logits (B, num_classes), the mean over its frames."""
        return self.frame_logits(clip, clip_length=clip_length).mean(1)

    def frame_logits(self, clip: Tensor, *, clip_length: int | None = None) -> Tensor:
        """Logits (B, T, num_classes) of every frame.

        Args:
            clip: (B, T, 3, H, W), normalised as `contract` says; any T from 1 on.
            clip_length: cuts the T frames into clips of this length that do not see each other; None leaves one clip.

        Raises:
            ValueError: T is no multiple of clip_length, or H or W are too small for the pooling windows.
            TypeError: no floating-point tensor.
        """
        return self.head(self.features(clip, clip_length=clip_length))

    def features(self, clip: Tensor, *, clip_length: int | None = None) -> Tensor:
        """Pooled features (B, T, F) of every frame before the classifier; arguments as for `frame_logits`."""
        self.check_clip(clip)
        b, t, _, h, w = clip.shape
        length = t if clip_length is None else clip_length
        if t < 1:
            raise ValueError(f"clip must have at least one frame, got shape {tuple(clip.shape)}")
        if length < 1 or t % length:
            raise ValueError(f"clip_length must divide the {t} frames of the clip, got {clip_length}")
        if min(h, w) < self.smallest_side:
            raise ValueError(
                f"clip must be at least {self.smallest_side} pixels high and wide, so that the deepest maps hold a "
                f"pooling window, got {h} x {w}; give larger frames, or build with clamp_pool=True"
            )
        x = fold(clip).contiguous(memory_format=torch.channels_last)
        for conv in self.stem[:-1]:
            x = conv(x, relu=True)
        # the pool commutes with ReLU, which then has a quarter of the work
        x = F.relu(F.max_pool2d(self.stem[-1](x), 3, 2, 1), inplace=True)
        for stage in self.stages:
            for block in stage:
                x = block(x, length, overwrite=True)
        return x.mean((2, 3)).unflatten(0, (b, t))

    def attention_maps(self, clip: Tensor) -> dict[str, list[Tensor]]:
        """Where SIM and TIM look, in evaluation mode and without gradients.

        Args:
            clip: (B, T, 3, H, W), normalised as `contract` says.

        Returns:
            One map (B, T, H_i, W_i) in [0, 1] a block. "SIM": the mean over the channels of its confidence. "TIM": how
            far its gate is, in the mean over the channels, from what it is where neighbouring frames do not differ; so
            the last frame of a clip, which has no next one, is 0.
        """
        maps: dict[str, list[Tensor]] = {}

        def keep(name: str, values: Tensor) -> None:
            maps.setdefault(name, []).append(unfold(values.mean(1, keepdim=True), clip.shape[1])[:, :, 0])

        def see_spatial(module: SpatialInconsistency, inputs: tuple[Tensor], output: Any) -> None:
            keep("SIM", module.confidence(inputs[0]))

        def see_temporal(module: TemporalInconsistency, inputs: tuple[Tensor, int], output: Any) -> None:
            gates = sum((torch.sigmoid(logits) for logits in module.logits(*inputs)), torch.zeros(())) / len(AXES)
            resting = unfold(gates, inputs[1])[:, -1:].expand(-1, inputs[1], -1, -1, -1)
            keep("TIM", (gates - fold(resting)).abs())

        detector = evaluating(self)
        for module in detector.modules():
            if isinstance(module, SpatialInconsistency):
                module.register_forward_hook(see_spatial)
            elif isinstance(module, TemporalInconsistency):
                module.register_forward_hook(see_temporal)
        with torch.no_grad():
            detector.features(self.matching(clip))
        return maps

    def published_layout(self) -> Layout:
        layout: Layout = {}
        if self.backbone == "scnet50_v1d":
            for i, norm in enumerate(("conv1.1", "conv1.4", "bn1")):
                layout |= conv_norm(f"conv1.{3 * i}", norm, f"stem.{i}")
        else:
            layout |= conv_norm("conv1", "bn1", "stem.0")
        for i, stage in enumerate(self.stages):
            for j, block in enumerate(stage):
                layout |= inside(f"layer{i + 1}.{j}.", f"stages.{i}.{j}.", bottleneck_layout(block))
        return layout | renamed("fc", "head", PARAMETERS)

    def backbone_layout(self) -> Layout:
        fresh = SCNET_LACKS if self.backbone == "scnet50_v1d" else RESNET_LACKS
        return {key: place for key, place in self.published_layout().items() if not fresh.search(key)}

    def backbone_leaves_out(self, key: str) -> bool:
        extra = SCNET_ALONE if self.backbone == "scnet50_v1d" else RESNET_ALONE
        return extra.search(key) is not None


# keys of an ImageNet backbone: those of a detector that it lacks, and those that it alone has
SCNET_LACKS = re.compile(r"\.(scconv\.f_[wh]|tim|ism|ism_back|shift)\.|^layer\d+\.\d+\.(conv1|bn1)\.|^fc\.")
SCNET_ALONE = re.compile(r"\.scconv\.k2\.|^fc\.")
RESNET_LACKS = re.compile(r"\.(scconv|tim|ism|ism_back|shift|k1|conv1_[ab]|bn1_[ab])\.|^fc\.")
RESNET_ALONE = re.compile(r"\.(conv2|bn2)\.|^fc\.")

SPATIAL_LAYOUT: Layout = {
    **conv_norm("f_w.1", "f_w.2", "row"),
    **conv_norm("f_h.0", "f_h.1", "column"),
    **conv_norm("k3.0", "k3.1", "features"),
    **conv_norm("k4.0", "k4.1", "exit"),
}
TEMPORAL_LAYOUT: Layout = conv_norm("conv1", "bn1", "reduce")
# kernels along height are called "h..." or "ht", along width "v..." or "tw"
for _axis, _plane, _tie in (("H", "ht", "htie"), ("W", "tw", "vtie")):
    TEMPORAL_LAYOUT |= {
        f"conv_{_plane}.weight": (f"branches.{_axis}.taps", ()),
        **conv_norm(f"{_tie}_conv1.0", f"{_tie}_conv1.1", f"branches.{_axis}.pooled.unit"),
        **conv_norm(f"{_tie}_conv2.0", f"{_tie}_conv2.1", f"branches.{_axis}.full.unit"),
        **conv_norm(f"{_plane}_up_conv.0", f"{_plane}_up_conv.1", f"branches.{_axis}.expand"),
    }


def block_layout(block: STILBlock) -> Layout:
    """Published keys of a `STILBlock`."""
    layout = conv_norm("k1.0", "k1.1", "mix")
    if block.project_a is not None:
        layout |= conv_norm("conv1_a", "bn1_a", "project_a") | conv_norm("conv1_b", "bn1_b", "project_b")
    if block.spatial is not None:
        spatial = {key: place for key, place in SPATIAL_LAYOUT.items() if block.spatial.exit or key[:2] != "k4"}
        layout |= inside("scconv.", "spatial.", spatial)
    if block.temporal is not None:
        layout |= inside("tim.", "temporal.", TEMPORAL_LAYOUT)
    for published, ours in (("ism.conv", "to_temporal"), ("ism_back.conv", "to_spatial"), ("shift.conv", "shift")):
        if getattr(block, ours) is not None:
            layout[f"{published}.weight"] = (f"{ours}.taps", ())
    return layout


def bottleneck_layout(bottleneck: Bottleneck) -> Layout:
    """Published keys of a `Bottleneck`; where the release has no such part, those of torchvision's ResNet."""
    layout = inside("", "block.", block_layout(bottleneck.block)) | conv_norm("conv3", "bn3", "expand")
    if bottleneck.reduce is not None:
        layout |= conv_norm("conv1", "bn1", "reduce")
    if bottleneck.skip is not None:
        first = 1 if bottleneck.skip_pools else 0  # the pool stands before the convolution
        layout |= conv_norm(f"downsample.{first}", f"downsample.{first + 1}", "skip")
    return layout


def implied_options(keys: Iterable[str]) -> dict[str, Any]:
    """Options that a checkpoint's container tells: DeepfakeBench normalises and samples otherwise than the authors."""
    benches = [key.startswith("model.base_model.") for key in keys]
    return {"preset": "deepfakebench"} if benches and all(benches) else {}


PRESETS: dict[str, dict[str, Any]] = {
    "released": {
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "sampling": "spread",
        "num_clips": 2,
        "average": "logits",
    },
    "deepfakebench": {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "num_clips": 4, "average": "logits"},
}


@register("stil", implied_options=implied_options)
def stil(
    *,
    backbone: str = "scnet50_v1d",
    num_classes: int = 2,
    layers: Sequence[int] = (3, 4, 6, 3),
    planes: Sequence[int] = (64, 128, 256, 512),
    stem_channels: Sequence[int] = (32, 64),
    halves: str | None = None,
    sim: bool = True,
    sim_pool: int = 4,
    sim_exit: bool = True,
    tim: bool = True,
    tim_difference: str = "later",
    tim_kernel: Sequence[int] = (3, 1),
    tim_gate: str = "residual",
    reduction: int = 16,
    fusion: str = "s->t",
    supplement: str = "add",
    shift: bool = True,
    shift_divisor: int = 8,
    shift_init: str = "shift",
    clamp_pool: bool = False,
    num_frames: int = 8,
    size: int | Sequence[int] = 224,
    preset: str = "released",
) -> STIL:
    """STIL with random weights; the defaults are the released network.

    Args:
        backbone: "scnet50_v1d" as released, or "resnet50": the plain network, in which the block takes the place of the
            3x3 convolution of every bottleneck as the paper describes.
        num_classes: logits, at least 2.
        layers: bottlenecks of each stage; every stage but the first halves the size.
        planes: inner width of each stage; half of it a multiple of `shift_divisor`.
        stem_channels: of the stem's inner convolutions ("scnet50_v1d") and of its output.
        halves: how a block gets its two halves: "project", two 1x1 convolutions from the full width (released, default
            of "scnet50_v1d"); "split", the channels of one cut in two (paper, default of "resnet50").
        sim, tim, shift: whether SIM, TIM and the temporal shift act; where not, they have no weights.
        sim_pool: side of SIM's pooling window; 4 as released, 2 in the paper.
        sim_exit: whether SIM's product passes another convolution, as released.
        tim_difference: "later": the filter acts on the later frame, D(z[t + 1]) - z[t], as released; "both": on the
            difference, D(z[t + 1] - z[t]), the formula of the paper.
        tim_kernel: odd taps of TIM's two dense convolutions along space and along time; (3, 1) as released.
        tim_gate: "residual", x (1 + mean of (sigmoid - 1/2)), as released; "confidence", x times the sum of both
            sigmoids, as drawn in the paper.
        reduction: width of a half / width of TIM's branches.
        fusion: who hands evidence to whom: "s->t" (released, best in the paper), "t->s", "s+t", "none".
        supplement: how it is handed over: "add" as released, "multiply" as drawn in the paper.
        shift_divisor: one channel in this many starts shifted to the next frame, as many to the previous one.
        shift_init: how the temporal filters start: "shift" as released, "identity", "random".
        clamp_pool: shrink pooling windows to maps that are smaller, instead of raising.
        num_frames: frames T of a clip for the input contract; any T runs.
        size: height and width of the face crops it is trained on, for the input contract; from 97 on with the defaults.
        preset: input contract: "released" (ImageNet statistics, frames spread over the video), or "deepfakebench" (mean
            and standard deviation 1/2, neighbouring frames). Implied by the keys of a DeepfakeBench checkpoint.

    Raises:
        ValueError: an option other than the ones above.

    Source: arXiv:2109.01860 and the authors' release.
    """
    config: dict[str, Any] = dict(locals())
    config |= {name: listed(name, config[name]) for name in ("layers", "planes", "stem_channels", "tim_kernel")}
    config["size"] = sides("size", size)
    check_choice("backbone", backbone, ("scnet50_v1d", "resnet50"))
    check_choice("preset", preset, PRESETS)
    check_choice("halves", halves, (None, *HALVES))
    values = {field.name: config[field.name] for field in fields(BlockOptions)}
    values["halves"] = halves or ("project" if backbone == "scnet50_v1d" else "split")
    values["tim_kernel"] = tuple(config["tim_kernel"])
    options = BlockOptions(**values)
    check_count("num_frames", num_frames)
    check_count("num_classes", num_classes, least=2)
    check_option("stem_channels", stem_channels, len(stem_channels) == 2, "two widths")
    check_option("planes", planes, len(planes) == len(layers), f"one width for each of {len(layers)} stages")
    multiple = 2 * (shift_divisor if shift else 1)
    check_option("planes", planes, all(width % multiple == 0 for width in planes), f"multiples of {multiple}")
    least = 2 * reduction if tim else 1
    check_option("planes", planes, min(planes) >= least, f"at least {least}, twice the reduction")
    height, width = config["size"]
    model = STIL(
        num_classes=num_classes,
        backbone=backbone,
        stem_channels=stem_channels,
        layers=layers,
        planes=planes,
        options=options,
        contract=InputContract(num_frames=num_frames, size=(height, width), **PRESETS[preset]),
    )
    model.config = config
    fits = min(height, width) >= model.smallest_side
    check_option("size", size, fits, f"at least {model.smallest_side} for SIM and TIM")
    return model
