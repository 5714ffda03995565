"""Every detector on a GPU: equal to the CPU, in a graph, on a stream of its own, and never waiting for the host."""

import copy

import pytest
import torch
from torch.nn import functional as F

import dfmodels
from dfmodels.detectors.lsda import PlainEncoder
from dfmodels.training import LSDADistillation
from tests.cuda.watch import WHERE, capture, no_synchronisation
from tests.models.test_detectors import clips, small

LABELS = [0, 1]


@pytest.fixture(params=dfmodels.list_models())
def model(request):
    return small(request.param)


def step(model, clip, labels):
    model.zero_grad()
    loss = F.cross_entropy(model(clip), labels)
    loss.backward()
    return loss


@pytest.mark.cuda
@pytest.mark.parametrize("training", [False, True])
def test_equals_the_cpu(model, training):
    # in float64, where no comparison inside a detector is decided by rounding
    model = model.double().train(training)
    twin, clip, labels = copy.deepcopy(model).cuda(), clips(model).double(), torch.tensor(LABELS)
    torch.testing.assert_close(step(twin, clip.cuda(), labels.cuda()).cpu(), step(model, clip, labels))
    for (name, ours), (_, want) in zip(twin.named_parameters(), model.named_parameters(), strict=True):
        assert (ours.grad is None) == (want.grad is None), name
        if want.grad is not None:
            torch.testing.assert_close(ours.grad.cpu(), want.grad, msg=lambda text, name=name: f"{name}: {text}")
    for (name, ours), (_, want) in zip(twin.named_buffers(), model.named_buffers(), strict=True):
        torch.testing.assert_close(ours.cpu(), want, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.cuda
def test_half_precision_under_autocast(model):
    model = model.cuda().eval()
    clip = clips(model).cuda()
    with torch.no_grad():
        want = model(clip)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            ours = model(clip)
    assert (ours.float() - want).abs().max() <= 0.05 * want.abs().max()


@pytest.mark.cuda
def test_a_stream_of_its_own(model):
    model = model.cuda().eval()
    late = clips(model).cuda()
    with torch.no_grad():
        want = model(late)
        clip = torch.full_like(late, float("nan"))
        torch.cuda.synchronize()
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.cuda._sleep(100_000_000)  # a launch on another stream would read the NaN
            clip.copy_(late)
            ours = model(clip)
    torch.cuda.synchronize()
    torch.testing.assert_close(ours, want)


@pytest.mark.cuda
@pytest.mark.parametrize("optimized", [False, True])
def test_a_graph(model, optimized):
    model = model.cuda().eval()
    model = dfmodels.optimize(model) if optimized else model
    clip, other = clips(model).cuda(), clips(model, seed=1).cuda()
    with torch.no_grad():
        model(clip)  # an optimized copy packs its weights at the first call
        graph, logits = capture(lambda: model(clip))
        clip.copy_(other)
        graph.replay()
        torch.cuda.synchronize()
        torch.testing.assert_close(logits, model(other))


@pytest.mark.parametrize("device", WHERE)
def test_the_host_does_not_wait_for_logits(model, device):
    model = model.to(device).eval()
    clip = clips(model).to(device)
    with torch.no_grad():
        model(clip)
        with no_synchronisation(device):
            model(clip)


@pytest.mark.parametrize("device", WHERE)
def test_the_host_does_not_wait_in_a_training_step(model, device):
    model = model.to(device).train()
    clip, labels = clips(model).to(device), torch.tensor(LABELS, device=device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    step(model, clip, labels)
    optimizer.step()
    with no_synchronisation(device):
        step(model, clip, labels)
        optimizer.step()


@pytest.mark.parametrize("device", WHERE)
def test_the_host_does_not_wait_in_a_step_of_distillation(device):
    channels, width = (8, 16), 16
    student = dfmodels.build("lsda", encoder="plain", channels=channels, width=width, size=48)
    encoders = [PlainEncoder(channels, width) for _ in range(5)]
    training = LSDADistillation(student, encoders[:4], encoders[4]).to(device).train()
    images = torch.rand(3, 5, 3, 48, 48, device=device)
    draws = torch.Generator(device).manual_seed(0)
    optimizer = torch.optim.SGD(training.parameters(), lr=1e-3, momentum=0.9)

    def step():
        losses = training({"images": images}, draws)
        optimizer.zero_grad()
        losses["overall"].backward()
        optimizer.step()

    step()
    with no_synchronisation(device):
        step()
