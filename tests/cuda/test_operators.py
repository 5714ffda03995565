"""What only a GPU does to operators: streams, graphs, device assertions, sizes beyond 32 bits, waiting for the host."""

import subprocess
import sys

import pytest
import torch

import dfops
from tests import compiled
from tests.cuda.watch import WHERE, capture, no_synchronisation
from tests.ops.cases import CASES, flat, tensors


def everything(case, arguments):
    """Results and gradients, without a value that comes from the host."""
    outs = list(flat(case.function(**arguments)))
    leaves = [x for x in tensors(arguments).values() if x.requires_grad]
    grads = torch.autograd.grad([y.sin().sum() for y in outs if y.requires_grad], leaves)
    return [*(y.detach() for y in outs), *grads]


def floating(arguments):
    return [x for x in tensors(arguments).values() if x.is_floating_point()]


@pytest.mark.parametrize("device", WHERE)
def test_waiting_is_noticed(device):
    x = torch.ones(2, device=device)
    message = "synchroniz" if device == "cuda" else "_local_scalar_dense"
    with pytest.raises((AssertionError, RuntimeError), match=message), no_synchronisation(device):
        x.sum().item()


@pytest.mark.parametrize("device", WHERE)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_host_does_not_wait(case, device):
    arguments = case.arguments(device=device, requires_grad=True)
    everything(case, arguments)  # whatever is set up at first does not count
    with no_synchronisation(device):
        everything(case, arguments)


@pytest.mark.cuda
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_stream_of_its_own(case):
    arguments = case.arguments(device="cuda", requires_grad=True)
    expected = everything(case, arguments)
    late = [x.detach().clone() for x in floating(arguments)]
    with torch.no_grad():
        for x in floating(arguments):
            x.fill_(float("nan"))
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(100_000_000)  # a launch on another stream would read the NaN
        with torch.no_grad():
            for x, value in zip(floating(arguments), late, strict=True):
                x.copy_(value)
        results = everything(case, arguments)
    torch.cuda.synchronize()
    for ours, want in zip(results, expected, strict=True):
        assert torch.equal(ours, want)


@pytest.mark.cuda
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_graph_of_forward_and_backward(case):
    arguments = case.arguments(device="cuda", requires_grad=True)
    graph, results = capture(lambda: everything(case, arguments))
    with torch.no_grad():
        for x in floating(arguments):
            x.mul_(0.75)
    graph.replay()
    torch.cuda.synchronize()
    for ours, want in zip(results, everything(case, arguments), strict=True):
        assert torch.equal(ours, want)


@pytest.mark.parametrize("device", WHERE)
@pytest.mark.parametrize("value", [-1, 3])
@pytest.mark.parametrize(
    "call",
    [
        "dfops.feature_mixup(torch.zeros(3, 4, device=device), index, 0.5)",
        "torch.ops.dfops._feature_mixup_backward(*2 * [torch.zeros(3, 4, device=device)], index, lam, True)",
        "dfops.augment.cross_domain_mixup(torch.zeros(2, 3, 4, 5, 6, device=device), index.expand(2, 3), 0.5)",
    ],
    ids=["feature_mixup", "feature_mixup_backward", "cross_domain_mixup"],
)
def test_an_index_out_of_range_stops_the_process(call, value, device):
    # in a process of its own: after a device-side assertion no kernel runs any more
    lines = ["from tests.emulated import library", "library.load(library.build())"] if device == "cpu" else []
    lines += ["import torch, dfops", f"device = {device!r}", "lam = torch.ones(3, device=device)"]
    for last in (2, value):
        lines += [f"index = torch.tensor([0, 1, {last}], device=device)", f"print({call}[0].sum().item(), flush=True)"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, cwd=compiled.ROOT)
    assert done.stdout == "0.0\n", done.stderr
    assert done.returncode != 0
    assert "index out of range" in done.stderr


BEYOND = 2**31 + 2**16  # elements of a tensor whose offsets do not fit 32 bits


def ends(x, axis):
    """The first and the last entries along an axis, as a small tensor."""
    return torch.cat([x.narrow(axis, 0, 2), x.narrow(axis, x.shape[axis] - 2, 2)], axis).clone()


@pytest.mark.cuda
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("strip_pool", {"axis": "T"}),
        ("strip_pool", {"axis": "W"}),
        ("directional_difference", {"axis": "H"}),
        ("interframe_difference", {}),
        ("inconsistency_gate", {}),
        ("latent_rotate", {}),
        ("feature_mixup", {}),
        ("paired_cosine", {"signs": (1.0, -0.5)}),
    ],
)
def test_more_than_2_to_the_31_elements(name, options, layout):
    """Clips do not touch each other: the first and the last two are as they are alone, forward and backward."""
    if torch.cuda.mem_get_info()[0] < 60 * 2**30:
        pytest.skip("needs 60 GiB of free GPU memory")
    t, c, h, w = 4, 8, 64, 64
    batch = BEYOND // (t * c * h * w) + 1
    generator = torch.Generator("cuda").manual_seed(0)

    def clip():
        memory = torch.empty((batch * t, c, h, w), dtype=torch.bfloat16, device="cuda", memory_format=memory_of(layout))
        return memory.normal_(generator=generator).unflatten(0, (batch, t))

    small = torch.randn(c, 3, device="cuda", generator=generator, dtype=torch.float32).bfloat16()
    folded = {"latent_rotate", "feature_mixup"}
    args = {
        "strip_pool": lambda: (clip(), torch.stack([small] * 3)),
        "directional_difference": lambda: (clip(), small),
        "interframe_difference": lambda: (clip(), clip()),
        "inconsistency_gate": lambda: (clip(), clip(), clip()),
        "latent_rotate": lambda: (clip().flatten(0, 1), torch.linspace(-1, 1, batch * t, device="cuda")),
        "feature_mixup": lambda: (clip().flatten(0, 1), torch.arange(batch * t, device="cuda"), 0.5),
        "paired_cosine": lambda: (clip(),),
    }[name]()
    count = len(args[0])
    assert args[0].numel() > 2**31
    few = [ends(x, 0) if isinstance(x, torch.Tensor) and len(x) == count else x for x in args]
    if name == "feature_mixup":
        few[1] = torch.arange(4, device="cuda")
    if name == "inconsistency_gate":
        args, few = (*args, 0.5), [*few, 0.5]

    def run(args):
        leaves = [args[0].requires_grad_()]
        inputs = (args[0][:, 0], args[0][:, 1:3]) if name == "paired_cosine" else args
        out = getattr(dfops, name)(*inputs, **options)
        outs = [out] if isinstance(out, torch.Tensor) else list(out)
        ones = [torch.ones_like(y) for y in outs]
        return [*(y.detach() for y in outs), *torch.autograd.grad(outs, leaves, ones)]

    wanted = run(few)
    for ours, want in zip(run(args), wanted, strict=True):
        torch.testing.assert_close(ends(ours, 0), want, rtol=0, atol=0, equal_nan=True)
    assert name in folded or args[0].shape[0] == batch


def memory_of(layout):
    return torch.channels_last if layout == "channels_last" else torch.contiguous_format
