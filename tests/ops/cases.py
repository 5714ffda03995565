"""Every public operator in each of its forms, with valid arguments of any seed, dtype, device and layout.

The tests of what all operators owe alike, tests/ops/test_common.py, run over this table; those of one operator draw
its arguments from the same functions.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

import dfops
from dfops.ops.latent_augment import GRANULARITIES
from dfops.ops.latent_rotate import MODES, PADDINGS
from tests.strategies import lay_out, random_clip, random_maps

AXES = {"T": 1, "H": 3, "W": 4}
FRAMES = (2, 5, 4, 6, 7)  # (B, T, C, H, W)
MANY = (5, 3, 16, 33, 31)  # several blocks and tasks


def differenced_clip(shape=FRAMES, seed=0, layout="contiguous", dtype=torch.float32, device="cpu", requires_grad=False,
                     taps=3):  # fmt: skip
    x = random_clip(shape, seed=seed, layout=layout, dtype=dtype, device=device, requires_grad=requires_grad)
    generator = torch.Generator().manual_seed(seed + 1)
    weight = torch.randn(shape[2], taps, generator=generator, dtype=torch.float64).to(device=device, dtype=dtype)
    return x, weight.requires_grad_(requires_grad)


def mixed_rows(shape=(5, 3, 4, 2, 3), seed=0, layout="contiguous", dtype=torch.float32, device="cpu",
               requires_grad=False):  # fmt: skip
    """Features, an index with repeats, weights."""
    if len(shape) == 5:
        x = random_clip(shape, seed=seed, layout=layout, dtype=dtype, device=device)
    else:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(shape, generator=generator, dtype=torch.float64).to(device=device, dtype=dtype)
    generator = torch.Generator().manual_seed(seed + 1)
    index = torch.randint(0, max(shape[0], 1), shape[:1], generator=generator).to(device)
    lam = torch.rand(shape[0], generator=generator, dtype=torch.float64)
    lam = lam.to(device, torch.promote_types(dtype, torch.float32))
    return x.requires_grad_(requires_grad), index, lam.requires_grad_(requires_grad)


def gated_clip(shape=(2, 3, 4, 5, 6), seed=0, layout="contiguous", dtype=torch.float32, device="cpu",
               requires_grad=False):  # fmt: skip
    kind = {"layout": layout, "dtype": dtype, "device": device, "requires_grad": requires_grad}
    x, vertical, horizontal = (random_clip(shape, seed=seed + i, **kind) for i in range(3))
    gamma = torch.tensor([0.7], dtype=dtype, device=device, requires_grad=requires_grad)
    return x, vertical, horizontal, gamma


def query_and_key(shape=(2, 4, 5, 6, 7), seed=0, layout="contiguous", key_layout=None, **kind):
    return (
        random_clip(shape, seed=seed, layout=layout, **kind),
        random_clip(shape, seed=seed + 1, layout=key_layout or layout, **kind),
    )


def turned_maps(shape=(2, 5, 6, 7), seed=0, layout="contiguous", dtype=torch.float32, device="cpu",
                requires_grad=False):  # fmt: skip
    """Maps, and angles of all quadrants."""
    x = random_maps(shape, seed=seed, layout=layout, dtype=dtype, device=device, requires_grad=requires_grad)
    generator = torch.Generator().manual_seed(seed + 1)
    angle = 8 * torch.rand(shape[0], generator=generator, dtype=torch.float64) - 4
    return x, angle.to(device, torch.promote_types(dtype, torch.float32)).requires_grad_(requires_grad)


def compared_maps(shape=(2, 4, 6, 5, 3), seed=0, layout="contiguous", dtype=torch.float32, device="cpu",
                  requires_grad=False):  # fmt: skip
    """anchor, others (G, K, C, H, W) and signs, of their own memory."""
    g, k, c, h, w = shape
    kind = {"layout": layout, "dtype": dtype, "device": device}
    anchor = random_maps((g, c, h, w), seed=seed, **kind, requires_grad=requires_grad)
    others = random_clip(shape, seed=seed + 1, **kind, requires_grad=requires_grad)
    return anchor, others, [(-1.0) ** i * (1 + i / 8) for i in range(k)]


def pyramid(axis="T", lengths=(8, 4, 2), shape=(2, 8, 4, 6, 5), seed=0, **kind):
    """Clips of several lengths along one axis."""
    dim = AXES[axis]
    return [random_clip((*shape[:dim], n, *shape[dim + 1 :]), seed=seed + i, **kind) for i, n in enumerate(lengths)]


def pooled_clip(shape=(2, 9, 4, 6, 5), seed=0, layout="contiguous", dtype=torch.float32, device="cpu",
                requires_grad=False, scales=(1, 2, 4), directions=2, taps=3):  # fmt: skip
    x = random_clip(shape, seed=seed, layout=layout, dtype=dtype, device=device, requires_grad=requires_grad)
    if taps is None:
        return (x,)
    sizes = (len(scales), shape[2], taps) if directions is None else (directions, len(scales), shape[2], taps)
    generator = torch.Generator().manual_seed(seed + 1)
    weight = torch.randn(sizes, generator=generator, dtype=torch.float64).to(device=device, dtype=dtype)
    return x, weight.requires_grad_(requires_grad)


def latents_and_draws(shape=(3, 4, 5, 4, 6), seed=0, layout="contiguous", dtype=torch.float32, device="cpu",
                      requires_grad=False, granularity="sample", ids=range(5), scalars=None, mix=False,
                      centroid=False):  # fmt: skip
    """z, then perm and mix_lam if mix, then choice, lam, sigma, noise, angle; centroid, or None, at the end."""
    generator = torch.Generator().manual_seed(seed + 1)
    kind = {"dtype": scalars or dtype, "device": device}
    g, d, c, h, w = shape

    def uniform(*size):
        return torch.rand(size, generator=generator, dtype=torch.float64)

    ids = torch.tensor(list(ids))
    z = random_clip(shape, seed=seed, layout=layout, dtype=dtype, device=device, requires_grad=requires_grad)
    choice = ids[torch.randint(len(ids), (g, d), generator=generator)].to(device)
    each = (g, d) if granularity == "sample" else (g, d, c)
    lam, sigma = (uniform(*each).to(**kind) for _ in range(2))
    noise = random_clip(shape, seed=seed + 2, layout=layout, dtype=dtype, device=device)
    angle = (3 * uniform(g, d) - 1.5).to(**kind)
    draws = (choice, lam, sigma, noise, angle)
    if mix:
        mix_lam = uniform(*((g,) if seed % 2 else (g, d))).to(**kind)
        draws = (torch.randint(max(d, 1), (g, d), generator=generator).to(device), mix_lam, *draws)
    if not centroid:
        return z, *draws, None
    row = (d, c, h, w) if granularity == "sample" else (d, h, w)
    return z, *draws, torch.randn(row, generator=generator, dtype=torch.float64).to(**kind)


@dataclass(frozen=True)
class Case:
    """One form of an operator.

    Attributes:
        function: the operator in dfops.
        form: what tells this form from the others.
        make: valid arguments, in the order of the function's parameters, from a shape, seed, layout, dtype and device;
            with requires_grad, tensors that can be differentiated are.
        options: keyword arguments of the form.
        many: the shape for which several blocks and tasks have work.
    """

    function: Callable[..., Any]
    form: str
    make: Callable[..., tuple]
    options: dict[str, Any] = field(default_factory=dict)
    many: tuple[int, ...] = MANY

    def __str__(self) -> str:
        return f"{self.function.__name__}-{self.form}"

    def arguments(self, **kind: Any) -> dict[str, Any]:
        parameters = inspect.signature(self.function).parameters
        return dict(zip(parameters, self.make(**kind), strict=False)) | self.options


def tensors(arguments: Any) -> dict[str, Tensor]:
    """All tensors among arguments by name, those of a list as name[i]."""
    found = {}
    for name, value in arguments.items():
        if isinstance(value, Tensor):
            found[name] = value
        elif isinstance(value, list):
            found |= tensors({f"{name}[{i}]": entry for i, entry in enumerate(value)})
    return found


def exchanged(arguments: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """The same arguments with another one for a name as `tensors` gives it."""
    whole, _, place = name.partition("[")
    if place:
        entries = list(arguments[whole])
        entries[int(place[:-1])] = value
        value = entries
    return arguments | {whole: value}


def flat(result: Any) -> Iterator[Tensor]:
    """All tensors of a result."""
    if isinstance(result, Tensor):
        yield result
    else:
        for part in result:
            yield from flat(part)


def derived(function: Callable[..., Any], arguments: dict[str, Any], layout: str = "contiguous"
            ) -> tuple[list[Tensor], tuple[Tensor, ...]]:  # fmt: skip
    """The outputs, and gradients of random output gradients for whatever is differentiated."""
    outputs = list(flat(function(**arguments)))
    leaves = [value for value in tensors(arguments).values() if value.requires_grad]
    differentiated = [y for y in outputs if y.requires_grad]
    upstream = [upstream_of(y, seed, layout) for seed, y in enumerate(differentiated)]
    return outputs, torch.autograd.grad(differentiated, leaves, upstream) if differentiated else ()


def upstream_of(output: Tensor, seed: int, layout: str) -> Tensor:
    """A random gradient; clips and maps lie in memory as `layout` says."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output)
    if output.dim() not in (4, 5):
        return values
    clip = values if output.dim() == 5 else values[:, None]
    return lay_out(clip, layout).view(values.shape) if output.dim() == 5 else lay_out(clip, layout)[:, 0]


def with_number(make: Callable[..., tuple], place: int, number: float) -> Callable[..., tuple]:
    """`make` with a number for one argument."""

    def changed(**kind):
        values = list(make(**kind))
        values[place] = number
        return tuple(values)

    return changed


def merged_pyramid(axis, **kind):
    """Sizes that divide and one that does not."""
    shape = kind.pop("shape", (2, 8, 4, 6, 5))
    size = shape[AXES[axis]]
    return pyramid(axis, (size, max(size // 2, 1), 3), shape, **kind), size


def augmented(function: Callable[..., Any], granularity: str, form: str, **options: Any) -> Case:
    mix = function is dfops.latent_augment_mix

    def make(**kind):
        *values, centroid = latents_and_draws(granularity=granularity, mix=mix, centroid=form == "centroid", **kind)
        return *values, *(() if mix else (None, None)), centroid

    return Case(function, f"{granularity}-{form}", make, {"granularity": granularity, **options}, (5, 3, 70, 9, 7))


def without_noise_and_angle(**kind):
    z, choice, lam, *_ = latents_and_draws(ids=(0, 1, 3), **kind)
    return z, choice, lam


CASES = [
    *(Case(dfops.directional_difference, axis, differenced_clip, {"axis": axis}) for axis in "HW"),
    Case(dfops.feature_mixup, "tensor", mixed_rows, many=(37, 3, 5, 33, 31)),
    Case(dfops.feature_mixup, "number", with_number(mixed_rows, 2, 0.3)),
    Case(dfops.inconsistency_gate, "tensor", gated_clip),
    Case(dfops.inconsistency_gate, "number", with_number(gated_clip, 3, 0.5)),
    *(Case(dfops.interframe_difference, rule, query_and_key, {"mask_rule": rule}) for rule in ("le", "lt")),
    Case(dfops.interframe_difference, "plain", query_and_key, {"normalize": False, "num_keep": 5}),
    Case(dfops.interframe_difference_sparse, "normalized", query_and_key),
    Case(dfops.interframe_difference_sparse, "plain", query_and_key, {"normalize": False, "num_keep": 5}),
    *(
        augmented(function, granularity, form, **options)
        for function in (dfops.latent_augment, dfops.latent_augment_mix)
        for granularity in GRANULARITIES
        for form, options in (("batch", {}), ("centroid", {"detach_statistics": True}))
    ),
    Case(dfops.latent_augment, "least", without_noise_and_angle),
    *(
        Case(
            dfops.latent_rotate,
            f"{mode}-{padding}",
            turned_maps,
            {"mode": mode, "padding_mode": padding},
            (3, 40, 17, 23),
        )
        for mode, padding in product(MODES, PADDINGS)
    ),
    Case(dfops.latent_rotate, "number", with_number(turned_maps, 1, 0.4), many=(3, 40, 17, 23)),
    Case(dfops.paired_cosine, "lists", compared_maps),
    *(
        Case(dfops.strip_merge, axis, partial(merged_pyramid, axis), {"axis": axis}, (2, 8, 16, 33, 31))
        for axis in AXES
    ),
    *(Case(dfops.strip_pool, f"{axis}-two", pooled_clip, {"axis": axis}, (2, 6, 16, 33, 31)) for axis in AXES),
    Case(dfops.strip_pool, "T-one", partial(pooled_clip, directions=None, scales=(2,)), {"axis": "T", "scales": (2,)}),
    Case(dfops.strip_pool, "W-means", partial(pooled_clip, taps=None), {"axis": "W", "scales": (10, 2)}),
]
