"""The training loop."""

import numpy as np
import pytest
import torch

from dfmodels.training import DivergedError, fit, loop
from tests.models.test_detectors import small


def test_learns_what_is_there_to_learn():
    model = small("ddl")
    generator = torch.Generator().manual_seed(0)
    still = torch.rand(12, 1, 3, 32, 32, generator=generator).expand(-1, 8, -1, -1, -1)
    jumpy = torch.rand(12, 8, 3, 32, 32, generator=generator)
    clips = [(clip, label) for pair in zip(still, jumpy, strict=True) for label, clip in enumerate(pair)]
    losses = []
    fit(model, clips, epochs=10, batch_size=8, learning_rate=5e-3, progress=losses.append)
    assert len(losses) == 30
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])
    assert model.trained
    assert not model.training
    assert model.predict(jumpy).min() > model.predict(still).max()


def test_fewer_clips_than_a_batch():
    with pytest.raises(ValueError, match="at least one batch of 8, got 1"):
        fit(small("ddl"), [(torch.zeros(8, 3, 32, 32), 0)], epochs=1, batch_size=8, learning_rate=1e-3)


def clips(count=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(8, 3, 32, 32, generator=generator), i % 2) for i in range(count)]


def train(model, data, **options):
    fit(model, data, **{"epochs": 1, "batch_size": 4, "learning_rate": 1e-3, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"batch_size": 2.0}, "batch_size must be a whole number of at least 1, got 2.0"),
        ({"learning_rate": "1e-3"}, "learning_rate must be a number above 0, got '1e-3'"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number above 0, got nan"),
    ],
)
def test_arguments_out_of_range(options, message):
    model = small("ddl")
    with pytest.raises(ValueError, match=message):
        train(model, clips(), **options)
    assert not model.trained


def test_through_a_wrapper_the_detector_is_trained():
    models = [small("lsda") for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    models[1].trained = False
    for model, wrapped in zip(models, (models[0], torch.nn.DataParallel(models[1])), strict=True):
        train(wrapped, clips())
        assert model.trained
        assert not model.training
    assert torch.equal(models[0].head[2].weight, models[1].head[2].weight)
    with pytest.raises(TypeError, match="model must be a Detector or a wrapper of one, got Linear"):
        train(torch.nn.Linear(1, 1), clips())


@pytest.mark.parametrize("label", [2, -100, 0.5, 1.0, "fake", None, torch.tensor([0, 1])])
def test_labels_that_are_no_class(label):
    model, data = small("ddl"), clips()
    data[3] = (data[3][0], label)
    with pytest.raises(ValueError, match=r"label must be a whole number from 0 \(real\) to 1, got "):
        train(model, data)
    assert not model.trained


def test_labels_of_several_types_of_whole_numbers():
    model, data = small("ddl"), clips()
    for at, kind in enumerate((np.int64, torch.tensor, bool, np.uint8)):
        data[at] = (data[at][0], kind(data[at][1]))
    train(model, data)
    assert model.trained


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("every", [1, 100])
def test_a_loss_that_is_not_finite_ends_the_training(monkeypatch, trained, every):
    monkeypatch.setattr(loop, "CHECK_EVERY", every)
    model, data, steps = small("ddl"), clips(16), []
    model.trained = trained
    model.register_forward_hook(lambda *_: steps.append(1))
    model.register_forward_hook(lambda module, given, logits: logits * float("nan") if len(steps) == 6 else logits)
    with pytest.raises(
        DivergedError, match=r"the loss of step 2 of epoch 2 is not finite: overall nan\. .* lower learning rate"
    ):
        train(model, data, epochs=3)
    assert len(steps) == {1: 6, 100: 8}[every]  # found at the next look, at the latest at the end of the epoch
    assert not model.trained


def test_a_last_step_into_nothing_ends_the_training():
    """The last loss is finite, and its gradient is not."""
    model, data = small("ddl"), clips(4)
    next(model.parameters()).register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(DivergedError, match=r"epoch 1 ends with values that are not finite in [\w.]+"):
        train(model, data)
    assert not model.trained


@pytest.mark.parametrize("trained", [False, True])
def test_an_interrupted_training_marks_nothing_trained(trained):
    model = small("ddl")
    model.trained = trained

    def interrupt(loss):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model, clips(), progress=interrupt)
    assert not model.trained


def test_no_step_waits_for_the_device(monkeypatch):
    """Losses are read every CHECK_EVERY steps and once an epoch."""
    reads = []
    for name in ("__float__", "item", "tolist", "__bool__"):
        read = getattr(torch.Tensor, name)

        def counted(self, *arguments, read=read):
            reads.append(self.device)
            return read(self, *arguments)

        monkeypatch.setattr(torch.Tensor, name, counted)
    monkeypatch.setattr(loop, "CHECK_EVERY", 3)
    losses = loop.Losses(0)
    for step in range(7):
        losses.add({"overall": torch.tensor(float(step)), "part": torch.tensor(1.0)})
    assert len(reads) == 2
    assert losses.means() == {"overall": 3.0, "part": 1.0}
    assert len(reads) == 3
