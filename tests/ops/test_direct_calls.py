"""Calls of `torch.ops.dfops` past the Python functions: what the schema lets through and a kernel cannot read raises.

Every tensor of a valid call is damaged in turn. The error names it, or, where it is one that others are judged by, any
argument. Run under a sanitizer as well, the table shows that nothing is read before the checks.
"""

import re
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor
from torch._C import DispatchKey, DispatchKeySet

import dfops
from dfops import info

CPU = DispatchKeySet(DispatchKey.CPU)
# arguments of any floating dtype, brought to that of the arithmetic, and those of int64
NUMBERS = {"gamma", "lam", "sigma", "angle", "centroid", "mix_lam"}
IDS = {"index", "choice", "perm", "hard_index", "positions"}


@dataclass
class Case:
    """A valid call. `models` are what others are judged by; `free` axes may have any length, `ranks` be any."""

    operator: str
    args: tuple
    models: set[str]
    free: dict[str, set[int]] = field(default_factory=dict)
    ranks: set[str] = field(default_factory=set)

    @property
    def names(self) -> list[str]:
        return [argument.name for argument in self.overload._schema.arguments]

    @property
    def overload(self):
        return getattr(torch.ops.dfops, self.operator).default

    def __call__(self, args):
        return self.overload(*args)

    def tensors(self):
        """Of every tensor: its name in errors, that of its argument, the tensor, and the call with another in place."""
        for i, (name, value) in enumerate(zip(self.names, self.args, strict=True)):
            if isinstance(value, Tensor):
                yield name, name, value, lambda other, i=i: (*self.args[:i], other, *self.args[i + 1 :])
            elif isinstance(value, list) and value and isinstance(value[0], Tensor):
                for j, entry in enumerate(value):

                    def swap(other, i=i, j=j, value=value):
                        return (*self.args[:i], [*value[:j], other, *value[j + 1 :]], *self.args[i + 1 :])

                    yield f"{name}[{j}]", name, entry, swap

    def blamed(self, name: str) -> str:
        """A pattern for what an error about this tensor says."""
        names = [f"{other}(\\[\\d\\])?" for other in self.names] if name in self.models else [re.escape(name)]
        return "|".join(rf"\b{other} must" for other in names)


def values(*shape: int) -> Tensor:
    return torch.randn(shape)


def ids(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.int64)


def augment_draws(*, per_channel: bool) -> tuple:
    z = values(3, 2, 4, 5, 6)
    scalars = (3, 2, 4) if per_channel else (3, 2)
    centroid = values(2, 5, 6) if per_channel else values(2, 4, 5, 6)
    return z, ids(3, 2), values(*scalars), values(*scalars), values(3, 2, 4, 5, 6), values(3, 2), centroid, per_channel


def augment_gradient(*, mixed: bool, per_channel: bool) -> tuple:
    grad = values(6, 8, 5, 6) if mixed else values(3, 2, 4, 5, 6)
    lam = values(3, 2, 4) if per_channel else values(3, 2)
    mix = (ids(3, 2), values(3)) if mixed else (None, None)
    return grad, ids(3, 2), lam, values(3, 2), ids(2), *mix, per_channel, False, False, False


CLIP, WEIGHT = values(2, 5, 3, 4, 6), values(2, 2, 3, 3)
FRAMES = {0, 1, 3, 4}  # every axis of a clip but that of the channels
AUGMENTED = augment_draws(per_channel=False)
CASES = [
    Case("strip_pool", (CLIP, WEIGHT, 3, [1, 2]), {"x"}, {"x": FRAMES, "weight": {0}}),
    Case("strip_pool", (CLIP, None, 1, [2]), {"x"}, {"x": {*FRAMES, 2}}),
    Case(
        "_strip_pool_backward",
        ([values(2, 5, 3, n, 6) for n in (4, 2, 4, 2)], CLIP, WEIGHT, 3, [1, 2], True, True),
        {"x", "weight"},
    ),
    Case("strip_merge", ([values(2, n, 3, 4, 6) for n in (5, 2)], 5, 1), {"parts[0]"}, {"parts": {1}}),
    Case("_strip_merge_backward", (CLIP, [5, 2], 1), {"grad"}, {"grad": {*FRAMES, 2}}),
    Case("directional_difference", (CLIP, values(3, 3), 3), {"x"}, {"x": FRAMES}),
    Case("_directional_difference_backward", (values(2, 5, 3, 4, 6), CLIP, values(3, 3), 4, True, True), {"x"}),
    Case("inconsistency_gate", (values(2, 3), values(2, 3), values(2, 3), values(1), 0.5), {"x"}, ranks={"gamma"}),
    Case(
        "_inconsistency_gate_backward",
        (values(2, 3), values(2, 3), values(2, 3), values(2, 3), values(1), 0.5),
        {"x"},
        ranks={"gamma"},
    ),
    Case(
        "interframe_difference",
        (CLIP, CLIP.clone(), 3, False, True, 1e-8, 0.0),
        {"query"},
        {"query": set(), "key": set()},
    ),
    Case("interframe_difference_sparse", (CLIP, CLIP.clone(), 3, True, 1e-8, 0.0), {"query"}),
    Case(
        "_interframe_difference_backward",
        (values(2, 5, 4, 6), CLIP, CLIP.clone(), values(2, 4, 6).abs(), values(2), True, 1e-8),
        {"query"},
    ),
    Case(
        "_interframe_difference_sparse_backward",
        (values(2, 5, 4), values(2, 5, 3, 4), values(2, 5, 3, 4), ids(2, 4), True, 1e-8),
        {"query"},
    ),
    Case("feature_mixup", (values(4, 3, 5), ids(4), values(4)), {"x"}, {"x": {1, 2}}),
    Case("_feature_mixup_backward", (values(4, 3, 5), values(4, 3, 5), ids(4), values(4), True), {"grad"}),
    Case("latent_rotate", (CLIP, values(10), 0, 0), {"x"}, {"x": {2, 3, 4}}),
    Case("_latent_rotate_backward", (CLIP, CLIP.clone(), values(10), 0, 1, True), {"grad"}),
    Case("paired_cosine", (values(2, 3, 4, 6), CLIP, [1.0, -1.0, 1.0, 1.0, 0.5], 1e-8), {"others"}),
    Case(
        "_paired_cosine_backward",
        (
            values(2, 4, 6),
            values(2, 3, 4, 6),
            CLIP,
            values(2, 6, 4, 6).abs(),
            values(2, 5, 4, 6),
            [1.0, -1.0, 1.0, 1.0, 0.5],
            1e-8,
            True,
            True,
        ),
        {"others"},
    ),
    *(
        Case(
            operator,
            (*draws[:1], *mix, *draws[1:], False),
            {"z"},
        )
        for draws in (AUGMENTED, augment_draws(per_channel=True))
        for operator, mix in (("latent_augment", ()), ("latent_augment_mix", (ids(3, 2), values(3, 2))))
    ),
    *(
        Case(
            "_latent_augment_backward", augment_gradient(mixed=mixed, per_channel=per_channel), {"grad", "choice"}, free
        )
        for mixed in (False, True)
        for per_channel in (False, True)
        for free in [{"grad": {-1, -2} if per_channel else {-1, -2, *(() if mixed else {-3})}}]
    ),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.operator)


def test_every_operator_has_a_case():
    assert {case.operator for case in CASES} == set(info.operators())


@each_case
def test_the_calls_themselves_are_valid(case):
    case(case.args)


@each_case
def test_axes_one_short(case):
    for name, argument, tensor, call_with in case.tensors():
        for axis in range(tensor.dim()):
            short = call_with(tensor.narrow(axis, 0, tensor.shape[axis] - 1))
            if {axis, axis - tensor.dim()} & case.free.get(argument, set()):
                case(short)
                continue
            with pytest.raises(RuntimeError, match=case.blamed(name)):
                case(short)


@each_case
def test_ranks(case):
    for name, argument, tensor, call_with in case.tensors():
        for other in (tensor[None], tensor[0]) if argument not in case.ranks else ():
            with pytest.raises(RuntimeError, match=case.blamed(name)):
                case(call_with(other))


@each_case
def test_dtypes(case):
    arguments = {argument for _, argument, *_ in case.tensors()}
    for name, argument, tensor, call_with in case.tensors():
        for dtype in (torch.int32, torch.bool, torch.complex64, torch.float8_e4m3fn):
            with pytest.raises(RuntimeError, match=case.blamed(name)):
                case(call_with(tensor.to(dtype)))
        double = call_with(tensor.double())
        if argument in NUMBERS or (
            argument not in IDS and argument != "parts" and arguments <= {argument} | NUMBERS | IDS
        ):
            case(double)
            continue
        with pytest.raises(RuntimeError, match=case.blamed(name)):
            case(double)


@each_case
def test_devices(case):
    """The dispatcher takes one meta tensor for all, so the kernel itself is called too."""
    tensors = list(case.tensors())
    for name, _, tensor, call_with in tensors if len(tensors) > 1 else ():
        wrong = call_with(tensor.to("meta"))
        with pytest.raises(RuntimeError, match=r"must be on the device of \w+, (cpu, got meta|meta, got cpu)"):
            case(wrong)
        with pytest.raises(RuntimeError, match=case.blamed(name)):
            case.overload.redispatch(CPU, *wrong)


def flat(results):
    return [results] if isinstance(results, Tensor) else list(results)


@each_case
def test_strides_are_any(case):
    expected = flat(case(case.args))
    for _, _, tensor, call_with in case.tensors():
        spread = torch.stack([tensor, tensor], dim=-1)[..., 0]
        assert spread.numel() < 2 or not spread.is_contiguous()
        for ours, want in zip(flat(case(call_with(spread))), expected, strict=True):
            torch.testing.assert_close(ours, want, rtol=1e-5, atol=1e-6, equal_nan=True)


ops = torch.ops.dfops


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.strip_pool(CLIP, None, 3, [2, 0]), "scales must be positive, got 0"),
        (lambda: ops.strip_pool(CLIP, None, 3, [-1]), "scales must be positive, got -1"),
        (lambda: ops.strip_pool(CLIP, None, 3, []), "scales must hold one or more"),
        (lambda: ops.strip_pool(CLIP, None, 2, [1]), "axis must be 1, 3 or 4, got 2"),
        (lambda: ops.strip_pool(CLIP, values(1, 1, 3, 2), 3, [1]), "M odd, got .1, 1, 3, 2"),
        (lambda: ops._strip_pool_backward([], CLIP, None, 3, [1], True, True), "grads must hold 1 tensors"),
        (lambda: ops._strip_pool_backward([CLIP] * 2, CLIP, None, 3, [1], True, True), "grads must hold 1 .*, got 2"),
        (lambda: ops.strip_merge([CLIP] * 9, 5, 1), "parts must hold 1 to 8 entries, got 9"),
        (lambda: ops.strip_merge([CLIP], -1, 1), "size must not be negative, nor above .*, got -1"),
        (lambda: ops.strip_merge([CLIP], 2**32, 1), "size must not be negative, nor above .*, got 4294967296"),
        (lambda: ops.strip_merge([CLIP], 5, -1), "axis must be 1, 3 or 4, got -1"),
        (lambda: ops._strip_merge_backward(CLIP, [], 1), "lengths must hold 1 to 8 entries, got 0"),
        (lambda: ops._strip_merge_backward(CLIP, [-3], 1), "lengths must not be negative"),
        (lambda: ops._strip_merge_backward(CLIP, [2**62], 1), "lengths must not be negative, nor above"),
        (lambda: ops._strip_merge_backward(CLIP, [3, 0], 1), "lengths must be positive, got 0"),
        (lambda: ops.directional_difference(CLIP, values(3, 3), 1), "axis must be 3 or 4, got 1"),
        (lambda: ops.interframe_difference(CLIP, CLIP, 0, False, True, 1e-8, 0.0), "num_keep must lie in .*, got 0"),
        (lambda: ops.interframe_difference(CLIP, CLIP, 25, True, True, 1e-8, 0.0), "H . W = 24., got 25"),
        (lambda: ops.interframe_difference_sparse(CLIP, CLIP, -(2**40), True, 1e-8, 0.0), "num_keep must lie in"),
        (lambda: ops.interframe_difference_sparse(CLIP, CLIP, 2**32 + 1, True, 1e-8, 0.0), "got 4294967297"),
        (lambda: ops.interframe_difference(CLIP[:, :1], CLIP[:, :1], 1, True, True, 1e-8, 0.0), "at least 2 frames"),
        (lambda: ops.latent_rotate(CLIP, values(10), 2, 0), "mode must be 0 or 1, got 2"),
        (lambda: ops.latent_rotate(CLIP, values(10), 2**32, 0), "mode must be 0 or 1, got 4294967296"),
        (lambda: ops.latent_rotate(CLIP, values(10), 0, -1), "padding must be 0, 1 or 2, got -1"),
        (lambda: ops.paired_cosine(CLIP[:, 0], CLIP, [1.0], 1e-8), "signs must hold .* 5 others, got 1"),
        (
            lambda: ops.paired_cosine(values(1, 1, 1, 1), values(1, 257, 1, 1, 1), [1.0] * 257, 1e-8),
            "others must hold 256 maps a group at most, got 257",
        ),
        (
            lambda: ops._latent_augment_backward(
                *augment_gradient(mixed=True, per_channel=False)[:6], None, False, False, False, False
            ),
            "perm and mix_lam must be given together",
        ),
    ],
)
def test_numbers(call, message):
    with pytest.raises(RuntimeError, match=message):
        call()


@pytest.mark.parametrize("axis", [1, 3, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_scales_beyond_32_bits_are_scales_beyond_the_length(axis, weighted):
    x = values(2, 5, 3, 4, 6)
    for scale in (2**31, 2**32, 2**32 + 1, 2**63 - 1):
        weight = values(1, 2, 3, 3) if weighted else None
        ours = ops.strip_pool(x, weight, axis, [scale, 2])
        expected = ops.strip_pool(x, weight, axis, [100, 2])
        assert all(torch.equal(one, other) for one, other in zip(ours, expected, strict=True))
        assert ours[0].numel() == 0
        ours = ops._strip_pool_backward(expected, x, weight, axis, [scale, 2], True, True)
        for one, other in zip(
            ours, ops._strip_pool_backward(expected, x, weight, axis, [100, 2], True, True), strict=True
        ):
            assert torch.equal(one, other)


def test_more_positions_than_blocks_count():
    """Without channels the clip has no memory, and the check comes before that of the results."""
    clip = torch.empty(1, 2, 0, 2**16, 2**15)
    for call in (
        lambda: ops.interframe_difference(clip, clip, 2**31, True, True, 1e-8, 0.0),
        lambda: dfops.interframe_difference_sparse(clip, clip),
    ):
        with pytest.raises(RuntimeError, match=r"query must have at most 2.31 - 1 positions a frame"):
            call()
