"""What operators refuse, and how they say it: of any argument, from its kind; of one operator, from the table here."""

import re

import pytest
import torch
from torch.autograd import forward_ad

import dfops
from tests.ops.cases import CASES, exchanged, flat, tensors

every_case = pytest.mark.parametrize("case", CASES, ids=str)
NUMBERS = ("gamma", "lam", "angle")  # may be numbers in some operators


def refused(case, arguments, error, message):
    with pytest.raises(error, match=message):
        case.function(**arguments)


@every_case
def test_anything_but_a_tensor(case):
    arguments = case.arguments()
    for name in tensors(arguments):
        number = " or a number" if name in NUMBERS else ""
        wrong = exchanged(arguments, name, {"a": 1})
        refused(case, wrong, TypeError, rf"{re.escape(name)} must be a tensor({number})?, got dict")


@every_case
def test_other_kinds_of_numbers(case):
    arguments = case.arguments()
    for name, value in tensors(arguments).items():
        if value.is_floating_point():
            wrong, message = value.long(), "float64, float32, bfloat16 or float16, got torch.int64"
        else:
            wrong, message = value.int(), "int64, got torch.int32"
        refused(case, exchanged(arguments, name, wrong), TypeError, f"{re.escape(name)} must be {message}")
        refused(case, exchanged(arguments, name, value.to(torch.complex64)), TypeError, f"{re.escape(name)} must be")


@every_case
def test_another_device(case):
    arguments = case.arguments()
    first, *others = tensors(arguments)
    for name in others:
        wrong = exchanged(arguments, name, tensors(arguments)[name].to("meta"))
        message = f"{re.escape(name)} must be on the device of {re.escape(first)}, cpu, got meta"
        refused(case, wrong, ValueError, message)


@every_case
def test_forward_mode(case):
    arguments = case.arguments()
    for name, value in tensors(arguments).items():
        if not value.is_floating_point():
            continue
        message = f"{re.escape(name)} carries a forward-mode tangent"
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(value, torch.ones_like(value))
            refused(case, exchanged(arguments, name, dual), NotImplementedError, message)
        with pytest.raises(NotImplementedError, match=message):
            torch.func.jvp(lambda x: case.function(**exchanged(arguments, name, x)), (value,), (value,))


@every_case
def test_derivatives_of_torch_func(case):
    arguments = case.arguments()
    for name, value in tensors(arguments).items():
        if not value.is_floating_point():
            continue

        def summed(x):
            return next(flat(case.function(**exchanged(arguments, name, x)))).sum()

        for transform in (torch.func.grad, torch.func.jacrev, torch.func.hessian):
            with pytest.raises(NotImplementedError, match=f"{re.escape(name)} .*(torch.func|forward-mode)"):
                transform(summed)(value)


@every_case
def test_vmap_is_a_loop_or_refused(case):
    """Lists of tensors torch refuses; the rest it calls for one entry after the other, with a warning."""
    arguments = case.arguments(requires_grad=True)
    for name, value in tensors(arguments).items():
        entries = torch.stack([value.detach(), value.detach().flip(0)])
        entries.requires_grad_(value.requires_grad)

        def call(x):
            return tuple(flat(case.function(**exchanged(arguments, name, x))))

        if case.function in (dfops.strip_merge, dfops.strip_pool):
            with pytest.raises(RuntimeError, match="Batching rule not implemented for dfops::strip_"):
                torch.func.vmap(call)(entries)
            continue
        results = torch.func.vmap(call)(entries), [torch.stack(x) for x in zip(*map(call, entries), strict=True)]
        for ours, expected in zip(*results, strict=True):
            assert torch.equal(ours, expected)
            if ours.requires_grad and value.requires_grad:
                grads = [torch.autograd.grad(y.square().sum(), entries, retain_graph=True)[0] for y in (ours, expected)]
                torch.testing.assert_close(*grads)


def zeros(*shape, **kind):
    return torch.zeros(shape, **kind)


def halved(x):
    return x.half()


def doubled(x):
    return x.double()


INTERFRAME = [
    (
        {"query": zeros(2, 3), "key": zeros(2, 3)},
        ValueError,
        r"query must be \(B, T, C, H, W\), got shape \(2, 3\)",
    ),
    (
        {"key": lambda key: key[..., :6]},
        ValueError,
        r"key must have the shape of query, \(2, 4, 5, 6, 7\), got \(2, 4, 5, 6, 6\)",
    ),
    ({"key": doubled}, TypeError, "key must have the dtype of query, torch.float32, got torch.float64"),
    (
        {"query": lambda query: query[:, :1], "key": lambda key: key[:, :1]},
        ValueError,
        "query must have at least 2 frames for a variance over time, got 1",
    ),
    *(({"num_keep": n}, ValueError, rf"num_keep must lie in \[1, H \* W = 42\], got {n}") for n in (0, -1, 43)),
    *(({"num_keep": n}, TypeError, f"num_keep must be an integer, got {type(n).__name__}") for n in (2.0, True)),
    ({"eps": 0.0}, ValueError, r"eps must be positive, got 0\.0"),
    ({"min_variance": -1.0}, ValueError, r"min_variance must not be negative, got -1\.0"),
]
REFUSED = {
    dfops.directional_difference: [
        ({"x": zeros(2, 3, 4)}, ValueError, r"x must be \(B, T, C, H, W\), got shape \(2, 3, 4\)"),
        *(({"axis": axis}, ValueError, f'axis must be "H" or "W", got {axis!r}') for axis in ("T", "C", 3)),
        *(
            ({"weight": zeros(*shape)}, ValueError, r"weight must be \(C, M\) with C = 4 and M odd, got \(")
            for shape in ((4, 2), (5, 3), (4, 0), (4,), (1, 4, 3))
        ),
        ({"x": halved}, TypeError, "weight must have the dtype of x, torch.float16, got torch.float32"),
    ],
    dfops.feature_mixup: [
        ({"x": torch.tensor(1.0)}, ValueError, r"x must have at least one axis, got shape \(\)"),
        *(
            change
            for shape in ((), (4,), (5, 1))
            for change in (
                (
                    {"index": zeros(*shape, dtype=torch.int64)},
                    ValueError,
                    r"index must be \(N,\) with N = 5, got shape \(",
                ),
                ({"lam": zeros(*shape)}, ValueError, r"lam must be \(N,\) with N = 5 or a number, got shape \("),
            )
        ),
        *(
            ({"lam": wrong}, TypeError, f"lam must be a tensor or a number, got {type(wrong).__name__}")
            for wrong in (None, True, "0.5")
        ),
    ],
    dfops.inconsistency_gate: [
        ({"vertical": zeros(2, 3)}, ValueError, r"vertical must have the shape of x, \(2, 3, 4, 5, 6\), got \(2, 3\)"),
        ({"horizontal": doubled}, TypeError, "horizontal must have the dtype of x, torch.float32, got torch.float64"),
        ({"gamma": zeros(2)}, ValueError, r"gamma must have one element, got shape \(2,\)"),
        *(
            ({"gamma": wrong}, TypeError, f"gamma must be a tensor or a number, got {type(wrong).__name__}")
            for wrong in (None, True, "0.5")
        ),
    ],
    dfops.interframe_difference: INTERFRAME,
    dfops.interframe_difference_sparse: INTERFRAME,
    dfops.latent_augment: [
        ({"z": lambda z: z[..., 0]}, ValueError, r"z must be \(G, D, C, H, W\), got shape \(3, 4, 5, 4\)"),
        ({"choice": lambda choice: choice.t()}, ValueError, r"choice must be \(G, D\) = \(3, 4\), got \(4, 3\)"),
        ({"lam": None}, TypeError, "lam must be a tensor, got NoneType"),
        (
            {"lam": lambda lam: lam[..., None].expand(3, 4, 5)},
            ValueError,
            r"lam must be \(G, D\) = \(3, 4\), got \(3, 4, 5\)",
        ),
        ({"granularity": "channel"}, ValueError, r"lam must be \(G, D, C\) = \(3, 4, 5\), got \(3, 4\)"),
        ({"lam": doubled}, TypeError, "lam must have the dtype of z, torch.float32, got torch.float64"),
        (
            {"z": halved, "noise": None, "sigma": lambda sigma: sigma.bfloat16()},
            TypeError,
            "sigma must have the dtype of z, torch.float16 or torch.float32, got torch.bfloat16",
        ),
        (
            {"noise": lambda noise: noise[..., 0]},
            ValueError,
            r"noise must have the shape of z, \(3, 4, 5, 4, 6\), got \(3, 4, 5, 4\)",
        ),
        ({"angle": lambda angle: angle[0]}, ValueError, r"angle must be \(G, D\) = \(3, 4\), got \(4,\)"),
        (
            {"centroid": zeros(4, 4, 6)},
            ValueError,
            r"centroid must be \(D, C, H, W\) = \(4, 5, 4, 6\), got \(4, 4, 6\)",
        ),
        (
            {
                "granularity": "channel",
                "lam": lambda lam: lam[..., None].expand(3, 4, 5),
                "sigma": None,
                "centroid": zeros(4, 6, 4),
            },
            ValueError,
            r"centroid must be \(D, H, W\) = \(4, 4, 6\), got \(4, 6, 4\)",
        ),
        ({"granularity": "map"}, ValueError, 'granularity must be "sample" or "channel", got \'map\''),
    ],
    dfops.latent_augment_mix: [
        ({"perm": lambda perm: perm[:, 0]}, ValueError, r"perm must be \(G, D\) = \(3, 4\), got \(3,\)"),
        ({"mix_lam": zeros(4)}, ValueError, r"mix_lam must be \(G,\) or \(G, D\) = \(3, 4\), got \(4,\)"),
    ],
    dfops.latent_rotate: [
        ({"x": zeros(2, 3, 4)}, ValueError, r"x must be \(N, C, H, W\), got shape \(2, 3, 4\)"),
        *(
            ({"angle": zeros(*shape)}, ValueError, r"angle must be \(N,\) with N = 2 or a number, got shape \(")
            for shape in ((), (1,), (3,), (2, 1))
        ),
        ({"angle": "0.5"}, TypeError, "angle must be a tensor or a number, got str"),
        ({"mode": "bicubic"}, ValueError, "mode must be one of bilinear, nearest, got 'bicubic'"),
        (
            {"padding_mode": "circular"},
            ValueError,
            "padding_mode must be one of zeros, border, reflection, got 'circular'",
        ),
    ],
    dfops.paired_cosine: [
        (
            {"others": zeros(2, 6, 5, 3)},
            ValueError,
            r"others must be \(G, K, C, H, W\), got shape \(2, 6, 5, 3\)",
        ),
        *(
            ({"anchor": zeros(*shape)}, ValueError, r"anchor must be \(G, C, H, W\) with .*, \(2, 6, 5, 3\), got \(")
            for shape in ((2, 6, 5, 4), (1, 6, 5, 3), (2, 4, 6, 5, 3), (2, 6, 5))
        ),
        *(
            ({"signs": [1.0] * count}, ValueError, f"signs must hold K = 4 numbers.* got {count}")
            for count in (0, 3, 5)
        ),
        (
            {"others": lambda others: others[:, :1].expand(2, 257, 6, 5, 3), "signs": [1.0] * 257},
            ValueError,
            "256 at most",
        ),
        *(
            ({"signs": wrong}, TypeError, "signs must be a sequence of numbers, got")
            for wrong in (torch.ones(4), 1.0, ["1"] * 4, None)
        ),
        *(({"eps": eps}, ValueError, f"eps must be positive, got {eps}") for eps in (0.0, -1.0, float("nan"))),
        ({"anchor": halved}, TypeError, "others must have the dtype of anchor, torch.float16, got torch.float32"),
    ],
    dfops.strip_merge: [
        ({"parts": []}, ValueError, "parts must hold 1 to 8 tensors, got 0"),
        ({"parts": lambda parts: parts * 3}, ValueError, "parts must hold 1 to 8 tensors, got 9"),
        (
            {"parts": lambda parts: [parts[0], parts[1][:, :0]]},
            ValueError,
            r"parts\[1\] is empty along T, so it cannot be repeated to size 8",
        ),
        (
            {"parts": lambda parts: [parts[0], parts[0], parts[2]], "axis": "H"},
            ValueError,
            r"parts\[2\] must agree with parts\[0\] in all axes but H, \(2, 8, 4, 6, 5\), got",
        ),
        ({"parts": [zeros(2, 3)]}, ValueError, r"parts\[0\] must be \(B, T, C, H, W\), got shape \(2, 3\)"),
        ({"size": -1}, ValueError, "size must be an integer and not negative, got -1"),
        ({"axis": 1}, ValueError, 'axis must be "T", "H" or "W", got 1'),
        (
            {"parts": lambda parts: [parts[0], parts[1].double()]},
            TypeError,
            r"parts\[1\] must have the dtype of parts\[0\], torch.float32, got torch.float64",
        ),
    ],
    dfops.strip_pool: [
        ({"x": zeros(2, 3, 4)}, ValueError, r"x must be \(B, T, C, H, W\), got shape \(2, 3, 4\)"),
        ({"axis": "C"}, ValueError, 'axis must be "T", "H" or "W", got \'C\''),
        *(
            ({"weight": None, "scales": scales}, ValueError, "scales must be one or more positive integers, got ")
            for scales in ((), (0, 1), (2, -1), (1.5,), (True,))
        ),
        *(
            ({"weight": zeros(*shape)}, ValueError, r"S = 3, C = 4 and M odd, got \(\d+, ")
            for shape in ((3, 4, 2), (2, 4, 3), (3, 5, 3), (3, 3), (0, 3, 4, 3), (1, 1, 3, 4, 3))
        ),
        ({"x": halved}, TypeError, "weight must have the dtype of x, torch.float16, got torch.float32"),
    ],
}


@pytest.mark.parametrize("function", REFUSED, ids=lambda function: function.__name__)
def test_refused(function):
    case = next(case for case in CASES if case.function is function)
    for changes, error, message in REFUSED[function]:
        arguments = case.arguments()
        for name, value in changes.items():
            arguments[name] = value(arguments[name]) if callable(value) else value
        refused(case, arguments, error, message)


def test_every_operator_is_in_the_table():
    assert REFUSED.keys() == {case.function for case in CASES}
