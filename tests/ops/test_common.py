"""What every operator owes alike, over the table of cases: registration, gradients, determinism."""

import inspect

import pytest
import torch

import dfops
from dfops import info, reference
from tests.ops.cases import CASES, derived, flat, tensors
from tests.strategies import DEVICES, LAYOUTS
from tests.tolerances import assert_matches, assert_repeats, assert_threads_agree

every_case = pytest.mark.parametrize("case", CASES, ids=str)
on_devices = pytest.mark.parametrize("device", DEVICES)


@pytest.fixture
def calls(monkeypatch):
    """Every call of a registered operator, forward or backward, as (name, arguments)."""
    seen = []

    def recording(name, operator):
        def call(*arguments):
            seen.append((name, arguments))
            return operator(*arguments)

        return call

    for name in info.operators():
        operator = getattr(torch.ops.dfops, name)
        monkeypatch.setattr(torch.ops.dfops, name, recording(name, operator))
    return seen


def derive_each(case, **kind):
    """Differentiate all that can be, then every single argument alone; gives the gradients of the latter by name."""
    arguments = case.arguments(**kind, requires_grad=True)
    leaves = {name: value for name, value in tensors(arguments).items() if value.requires_grad}
    _, together = derived(case.function, arguments)
    alone = {}
    for name in leaves:
        for other, leaf in leaves.items():
            leaf.requires_grad_(other == name)
        alone[name] = derived(case.function, arguments)[1]
    return dict(zip(leaves, together, strict=True)), alone


def test_the_table_has_every_operator(calls):
    public = {name for name in dfops.__all__ if inspect.isfunction(getattr(dfops, name))} - {"cuda_loaded"}
    assert {case.function.__name__ for case in CASES} == public
    assert len({str(case) for case in CASES}) == len(CASES)
    for case in CASES:
        derived(case.function, case.arguments(requires_grad=True))
    assert {name for name, _ in calls} == set(info.operators())


def test_the_reference_has_the_same_parameters():
    for function in {case.function for case in CASES} - {dfops.latent_augment_mix}:  # the reference hands its draws on
        ours, theirs = (inspect.signature(f).parameters for f in (function, getattr(reference, function.__name__)))
        assert [(p.name, p.kind, p.default) for p in ours.values()] == [
            (p.name, p.kind, p.default) for p in theirs.values()
        ]


def with_layouts():
    """The first form of every operator in all layouts, each of the others in one: opcheck takes its time."""
    seen = set()
    for i, case in enumerate(CASES):
        for layout in [LAYOUTS[i % 3]] if case.function in seen else LAYOUTS:
            yield pytest.param(case, layout, id=f"{case}-{layout}")
        seen.add(case.function)


@on_devices
@pytest.mark.parametrize(("case", "layout"), with_layouts())
def test_opcheck(device, case, layout, calls, monkeypatch):
    """The operator without gradients and with all of them; its backward for all arguments and for single ones."""
    case.function(**case.arguments(layout=layout, device=device))
    derived(case.function, case.arguments(layout=layout, device=device, requires_grad=True), layout)
    derive_each(case, layout=layout, device=device)  # of output gradients that are contiguous
    monkeypatch.undo()
    (forward, without), (_, differentiated), *_ = calls
    operator = getattr(torch.ops.dfops, forward)
    for values in (without, differentiated):
        torch.library.opcheck(operator, values)
    backward = {(name, *map(outline, values)): values for name, values in calls if name.startswith("_")}
    assert len({name for name, *_ in backward}) == 1
    for (name, *_), values in backward.items():
        torch.library.opcheck(getattr(torch.ops.dfops, name), detached(values))


def outline(value):
    """What tells one call of a backward operator from another: which tensors there are, and everything else."""
    if isinstance(value, torch.Tensor):
        return torch.Tensor
    return tuple(map(outline, value)) if isinstance(value, list) else value


def detached(value):
    if isinstance(value, (list, tuple)):
        return type(value)(map(detached, value))
    return value.detach() if isinstance(value, torch.Tensor) else value


@on_devices
@every_case
def test_every_gradient_alone_is_the_one_among_all(device, case):
    together, alone = derive_each(case, device=device, dtype=torch.float64)
    assert together
    for name, (grad,) in alone.items():
        assert_matches(grad, together[name])


@every_case
def test_second_derivative_is_refused(case):
    arguments = case.arguments(dtype=torch.float64, requires_grad=True)
    leaves = [value for value in tensors(arguments).values() if value.requires_grad]
    outputs = [y for y in flat(case.function(**arguments)) if y.requires_grad]
    grads = torch.autograd.grad([y.square().sum() for y in outputs], leaves, create_graph=True)
    for grad in grads:
        with pytest.raises(NotImplementedError, match="second derivative"):
            torch.autograd.grad(grad.sum(), leaves, retain_graph=True, allow_unused=True)


@on_devices
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@every_case
def test_repeats_bit_for_bit(device, layout, case):
    arguments = case.arguments(shape=case.many, layout=layout, device=device, requires_grad=True)

    def everything():
        outputs, grads = derived(case.function, arguments, layout)
        return *outputs, *grads

    assert_repeats(everything)
    if device == "cpu":
        assert_threads_agree(everything)
