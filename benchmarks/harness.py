"""Times a function of dfops against its reference, eagerly and compiled, in one process and interleaved."""

import ctypes
import gc
import itertools
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer

import dfmodels
from dfmodels.layers.convolution import ConvNorm

ROUNDS = 3
COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 31}


@dataclass
class Case:
    """One operator at one shape where a detector calls it.

    Attributes:
        operator, shape, layout, dtype: what the row is called.
        make: draws the arguments; those that require a gradient are differentiated.
        ours, reference: functions of these arguments; what they return is a tensor or nested lists of tensors.
        forward_bytes, backward_bytes: compulsory traffic of the forward, and of the backward alone.
        published: a form to compare with eagerly instead of `reference`, where the release computes it differently.
        forward_backward: ours in both directions, of the same arguments, where a detector does not go through autograd.
    """

    operator: str
    shape: str
    layout: str
    dtype: str
    make: Callable[[], list[Any]]
    ours: Callable[..., Any]
    reference: Callable[..., Any]
    forward_bytes: int
    backward_bytes: int
    published: Callable[..., Any] | None = None
    forward_backward: Callable[..., Any] | None = None


@dataclass
class Row:
    """Times in milliseconds (medians of rounds), the spread of ours, our fraction of the copy bandwidth, peaks."""

    operator: str
    shape: str
    layout: str
    dtype: str
    direction: str
    ours: float
    spread: float
    eager: float
    compiled: float
    copy_fraction: float | None
    peak_mb: float | None = None
    eager_peak_mb: float | None = None


def tensors(result: Any) -> list[Tensor]:
    """Nested results as a flat list."""
    if isinstance(result, Tensor):
        return [result]
    return [x for part in result for x in tensors(part)]


def keep_memory() -> None:
    """Let the C allocator keep freed memory instead of returning it: fresh large outputs then cost no page faults."""
    libc = ctypes.CDLL(None)
    for option in (-3, -1):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
        libc.mallopt(option, 1 << 30)


def copy_bandwidth(device: str) -> float:
    """Bytes read and written per second by a copy between two buffers beyond the caches."""
    source = torch.ones(COPY_BYTES[device] // 4, device=device)
    target = torch.empty_like(source).copy_(source)
    return 2 * COPY_BYTES[device] / median_time({"copy": lambda: target.copy_(source)}, device)["copy"][0]


def median_time(functions: dict[str, Callable[[], Any]], device: str) -> dict[str, tuple[float, float]]:
    """Median and spread (interquartile range over median) in seconds of each function, measured in turns."""
    for function in functions.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(ROUNDS):
        for name, function in functions.items():
            timer = Timer("f()", globals={"f": function}, num_threads=torch.get_num_threads())
            times[name] += timer.blocked_autorange(min_run_time=0.1).times
    result = {}
    for name, values in times.items():
        quarters = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
        result[name] = (quarters[1], (quarters[2] - quarters[0]) / quarters[1])
    return result


def forward_only(function: Callable[..., Any], args: list[Any]) -> Callable[[], Any]:
    def call() -> Any:
        with torch.no_grad():
            return function(*args)

    return call


def forward_backward(function: Callable[..., Any], args: list[Any]) -> Callable[[], Any]:
    leaves = [a for a in args if isinstance(a, Tensor) and a.requires_grad]
    grads = [torch.ones_like(out) for out in tensors(function(*args)) if out.requires_grad]

    def call() -> Any:
        outs = [out for out in tensors(function(*args)) if out.requires_grad]
        return torch.autograd.grad(outs, leaves, grads)

    return call


def run(case: Case, device: str, bandwidth: float) -> Iterator[Row]:
    """Forward, and forward + backward."""
    args = case.make()
    for direction, wrap, traffic in (
        ("forward", forward_only, case.forward_bytes),
        ("forward+backward", forward_backward, case.forward_bytes + case.backward_bytes),
    ):
        torch.compiler.reset()  # a full recompile cache would quietly fall back to eager
        ours = wrap(case.ours, args)
        if wrap is forward_backward and case.forward_backward is not None:
            ours = forward_only(case.forward_backward, args)
        functions = {
            "ours": ours,
            "eager": wrap(case.published or case.reference, args),
            "compiled": wrap(torch.compile(case.reference), args),
        }
        times = median_time(functions, device)
        fraction = traffic / times["ours"][0] / bandwidth
        peak = peak_memory(functions["ours"], device) if device == "cuda" else None
        yield Row(
            case.operator,
            case.shape,
            case.layout,
            case.dtype,
            direction,
            times["ours"][0] * 1e3,
            times["ours"][1],
            times["eager"][0] * 1e3,
            times["compiled"][0] * 1e3,
            fraction,
            peak,
        )
    gc.collect()


def peak_memory(function: Callable[[], Any], device: str) -> float:
    """Most memory in MB allocated while `function` runs, beyond what its arguments take."""
    if device == "cpu":
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            function()
        events = (e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]")
        changes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
        return max(itertools.accumulate(changes), default=0) / 2**20
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    function()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def randomize(model: nn.Module) -> None:
    """Weights of a trained network's size: at the start gates may be shut and filters tiny, and hide modules."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5, generator=generator)
            elif value.dim() >= 2:
                fan = value[0].numel() if not name.endswith("taps") else 3
                value.normal_(0, fan**-0.5, generator=generator)
            elif value.is_floating_point() and not name.endswith("running_mean"):
                value.normal_(1 if name.endswith(("weight", "gamma")) else 0, 0.1, generator=generator)


def detector_rows(
    name: str, make_published: Callable[[Any], Callable[[Tensor], Tensor]], clip: Tensor, *, training: bool
) -> list[Row]:
    """A detector, and its optimized copy, against the same network composed as the release composes it.

    Args:
        name: registered name.
        make_published: the composition, from the detector's own weights.
        clip: input (B, T, 3, H, W) on the device to measure.
        training: also a training step, forward and backward of the cross-entropy.
    """
    device = clip.device.type
    model = dfmodels.build(name).to(device).eval()
    randomize(model)
    shape = (name, "x".join(map(str, clip.shape)), "contiguous", "float32")
    torch.compiler.reset()
    published = make_published(model)
    functions = {"ours": model, "optimized": dfmodels.optimize(model), "eager": published}
    functions["compiled"] = torch.compile(published)
    with torch.no_grad():
        logits = {key: function(clip) for key, function in functions.items()}
        for value in logits.values():
            torch.testing.assert_close(value, logits["eager"], rtol=1e-3, atol=1e-3)
    calls = {key: forward_only(function, [clip]) for key, function in functions.items()}
    rows = rows_of(shape, "forward", calls, device, ("ours", "optimized"))
    if training:
        model.train()
        torch.compiler.reset()
        functions = {"ours": model, "eager": published, "compiled": torch.compile(published)}
        calls = {key: training_step(function, model, clip) for key, function in functions.items()}
        rows += rows_of(shape, "forward+backward", calls, device, ("ours",))
    return rows


def conv_norm(unit: ConvNorm, x: Tensor) -> Tensor:
    """Convolution and norm on their own, as the releases have them."""
    assert unit.norm is not None
    return unit.norm(unit.conv(x))


def training_step(function: Callable[[Tensor], Tensor], model: nn.Module, clip: Tensor) -> Callable[[], Any]:
    labels = torch.ones(len(clip), dtype=torch.int64, device=clip.device)
    parameters = list(model.parameters())
    return lambda: torch.autograd.grad(F.cross_entropy(function(clip), labels), parameters)


def rows_of(
    shape: tuple[str, str, str, str],
    direction: str,
    calls: dict[str, Callable[[], Any]],
    device: str,
    ours: tuple[str, ...],
) -> list[Row]:
    """A row for each of `ours`, all against the same measurement of "eager" and "compiled"."""
    times = median_time(calls, device)
    peaks = {key: peak_memory(calls[key], device) for key in (*ours, "eager")}
    ms = {key: 1e3 * median for key, (median, _) in times.items()}
    rows = []
    for key in ours:
        labels = (shape[0] if key == "ours" else f"{shape[0]} {key}", *shape[1:], direction)
        spread = times[key][1]
        rows.append(Row(*labels, ms[key], spread, ms["eager"], ms["compiled"], None, peaks[key], peaks["eager"]))
    return rows


def clip(shape: tuple[int, ...], layout: str, device: str, dtype: torch.dtype, requires_grad: bool = True) -> Tensor:
    """Random features (B, T, C, H, W) in a layout."""
    b, t, c, h, w = shape
    x = torch.randn(shape, device=device, dtype=dtype)
    if layout == "channels_last":
        x = torch.empty_strided(shape, (t * c * h * w, c * h * w, 1, w * c, c), device=device, dtype=dtype).copy_(x)
    return x.requires_grad_(requires_grad)


# LSDA's latents at 256 x 256 for 4 and 32 groups of 4 domains; the last is beyond the caches, and no detector's
LSDA_MAPS = ((16, 512, 8, 8), (128, 512, 8, 8), (64, 256, 32, 32))


def feature_maps(shape: tuple[int, ...], layout: str, device: str, dtype: torch.dtype) -> Tensor:
    """Random features (N, C, H, W) in a layout, to be differentiated."""
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    x = torch.randn(shape, device=device, dtype=dtype)
    return x.contiguous(memory_format=memory).requires_grad_()


# where DDL at 8 x 256 x 256 calls its modules: channels and grid of blocks 1, 2, 3, 4
DDL_GRIDS = ((64, 128), (128, 64), (256, 32), (512, 16))
LAYOUTS = ("contiguous", "channels_last")


def ddl_shapes(device: str, divide_channels: int = 1) -> Iterator[tuple[str, tuple[int, int, int, int, int]]]:
    """Named shapes of DDL's features at 8 x 256 x 256, one clip; a batch beyond the caches for the first."""
    for batch in (1, 12 if device == "cuda" or divide_channels == 8 else 4):
        for c, side in DDL_GRIDS if batch == 1 else DDL_GRIDS[:1]:
            shape = (batch, 8, c // divide_channels, side, side)
            yield "x".join(map(str, shape)), shape


def dtypes(device: str) -> list[torch.dtype]:
    """float32 everywhere; bfloat16 where it is fast."""
    return [torch.float32, torch.bfloat16] if device == "cuda" else [torch.float32]


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
