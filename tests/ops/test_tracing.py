"""Every operator where tensors have no values: meta, fake and symbolic sizes; and the plain formulas in its place."""

import threading

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import dfops
from dfops import reference
from tests.strategies import LAYOUTS, random_clip
from tests.tolerances import assert_matches

SHAPES = [(2, 5, 4, 6, 3), (3, 2, 1, 1, 5)]


def clip_of(shape, layout):
    return random_clip(shape, layout=layout, seed=sum(shape), requires_grad=True)


def rand(*shape):
    generator = torch.Generator().manual_seed(len(shape))
    return torch.rand(shape, generator=generator).requires_grad_()


def draws(z):
    g, d = z.shape[:2]
    choice = (torch.arange(g * d) % 5).reshape(g, d)
    return choice, rand(g, d).detach(), rand(g, d).detach(), z.detach() + 1, rand(g, d).detach()


def mix_draws(z):
    g, d = z.shape[:2]
    return torch.arange(d).flip(0).expand(g, d).contiguous(), rand(g).detach(), *draws(z)


# by name: a call of the public function, and its arguments beside a clip (B, T, C, H, W)
CALLS = {
    "directional_difference": (
        lambda x, weight: dfops.directional_difference(x, weight, axis="H"),
        lambda x: (x, rand(x.shape[2], 3)),
    ),
    "feature_mixup": (dfops.feature_mixup, lambda x: (x, torch.arange(len(x)).flip(0), rand(len(x)))),
    "inconsistency_gate": (dfops.inconsistency_gate, lambda x: (x, x.detach() - 1, x.detach() + 1, rand(1))),
    "interframe_difference": (dfops.interframe_difference, lambda x: (x, x.detach().flip(1))),
    "interframe_difference, lt": (
        lambda query, key: dfops.interframe_difference(query, key, mask_rule="lt"),
        lambda x: (x, x.detach().flip(1)),
    ),
    "interframe_difference_sparse": (dfops.interframe_difference_sparse, lambda x: (x, x.detach().flip(1))),
    "latent_augment": (dfops.latent_augment, lambda z: (z, *draws(z))),
    "latent_augment_mix": (dfops.latent_augment_mix, lambda z: (z, *mix_draws(z))),
    "latent_rotate": (dfops.latent_rotate, lambda x: (x[:, 0], rand(len(x)))),
    "paired_cosine": (
        lambda anchor, others: dfops.paired_cosine(anchor, others, [1.0] * others.shape[1]),
        lambda x: (x[:, 0], x),
    ),
    "strip_merge": (
        lambda *parts: dfops.strip_merge(parts, parts[0].shape[3] + 1, axis="H"),
        lambda x: (x, x.detach()[:, :, :, :1].clone()),
    ),
    "strip_pool": (
        lambda x, weight: [y for d in dfops.strip_pool(x, weight, axis="T", scales=(1, 2)) for y in d],
        lambda x: (x, rand(2, 2, x.shape[2], 3)),
    ),
    "strip_pool without filters": (lambda x: dfops.strip_pool(x, axis="W", scales=(1, 2)), lambda x: (x,)),
}
every_call = pytest.mark.parametrize("name", CALLS)


class Seen(TorchDispatchMode):
    """Collects the operators of dfops that run."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "dfops":
            self.names.add(func._schema.name)
        return func(*args, **(kwargs or {}))


def forward_and_backward(function, args):
    """Outputs and the gradients of all arguments that take one."""
    out = function(*args)
    outputs = [out] if isinstance(out, Tensor) else list(out)
    differentiable = [y for y in outputs if y.requires_grad]
    inputs = [x for x in args if x.requires_grad]
    grads = torch.autograd.grad(differentiable, inputs, [torch.ones_like(y) for y in differentiable])
    return [*outputs, *grads]


def described(tensors):
    """Sizes, types and the strides that matter."""
    return [
        (tuple(x.shape), x.dtype, [s for s, n in zip(x.stride(), x.shape, strict=True) if n > 1] if x.numel() else None)
        for x in tensors
    ]


def on_meta(x):
    meta = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")
    return meta.requires_grad_(x.requires_grad)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
@every_call
def test_meta_and_fake_tensors_have_the_sizes_and_strides_of_the_kernels(name, shape, layout):
    function, arguments = CALLS[name]
    args = arguments(clip_of(shape, layout))
    expected = described(forward_and_backward(function, args))
    assert described(forward_and_backward(function, [on_meta(x) for x in args])) == expected
    with FakeTensorMode() as mode:
        assert described(forward_and_backward(function, [mode.from_tensor(x) for x in args])) == expected


def test_every_operator_is_called_without_values():
    with Seen() as seen:
        for function, arguments in CALLS.values():
            forward_and_backward(function, [on_meta(x) for x in arguments(clip_of(SHAPES[0], "contiguous"))])
    schemas = {schema.name for schema in torch._C._jit_get_all_schemas() if schema.name.startswith("dfops::")}
    assert seen.names == schemas


@every_call
def test_the_plain_formulas_take_the_place_of_every_operator(name):
    function, arguments = CALLS[name]
    args = arguments(clip_of(SHAPES[0], "contiguous"))
    expected = forward_and_backward(function, args)
    with Seen() as seen, reference.active():
        actual = forward_and_backward(function, args)
    assert not seen.names
    for ours, want in zip(actual, expected, strict=True):
        assert_matches(ours, want)


def test_the_plain_formulas_stay_in_their_thread_and_their_block():
    x = clip_of(SHAPES[0], "contiguous")
    elsewhere = []
    with reference.active():
        with reference.active():
            pass
        assert reference.is_active()
        thread = threading.Thread(target=lambda: elsewhere.append(reference.is_active()))
        thread.start()
        thread.join()
        with pytest.raises(ValueError, match="axis must be"):  # arguments are checked all the same
            dfops.strip_pool(x, axis="C")
    assert elsewhere == [False]
    assert not reference.is_active()


def test_one_compiled_graph_serves_every_size():
    def function(x, part):
        merged = dfops.strip_merge([x, part], x.shape[3], axis="H")
        positions, values = dfops.interframe_difference_sparse(merged, x)
        dense = dfops.interframe_difference(merged, x, num_keep=x.shape[3] + 1)
        return merged.sum() + values.sum() + dense.sum()

    torch._dynamo.reset()
    compiled = torch.compile(function, dynamic=True, fullgraph=True, backend="aot_eager")
    for size, stance in ((6, "default"), (9, "fail_on_recompile")):
        x = clip_of((2, 5, 4, size, size + 1), "contiguous")
        args = (x, x.detach()[:, :, :, : size // 2].clone().requires_grad_())
        with torch.compiler.set_stance(stance):
            ours = torch.autograd.grad(compiled(*args), args)
        for actual, expected in zip(ours, torch.autograd.grad(function(*args), args), strict=True):
            assert_matches(actual, expected)


def test_an_exported_program_serves_every_size_by_the_same_kernels():
    class Merge(torch.nn.Module):
        def forward(self, x, part):
            return dfops.strip_merge([x, part], x.shape[3], axis="H"), dfops.interframe_difference(x, x)

    dynamic = dict.fromkeys((0, 1, 3, 4), torch.export.Dim.DYNAMIC)
    args = (torch.rand(2, 5, 4, 6, 3), torch.rand(2, 5, 4, 3, 3))
    program = torch.export.export(Merge(), args, dynamic_shapes=(dynamic, dynamic))
    for size in (6, 7):
        other = (torch.rand(3, 4, 4, size, 8), torch.rand(3, 4, 4, 4, 8))
        for actual, expected in zip(program.module()(*other), Merge()(*other), strict=True):
            assert torch.equal(actual, expected)
