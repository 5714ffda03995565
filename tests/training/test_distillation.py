"""Training of LSDA on the miniature: it learns, goes on where it was cut off, and says what it cannot go on from."""

import pytest
import torch
from torch.utils.data import DataLoader, Subset

import dfmodels
from dfmodels.data import ForgeryGroups, folder_videos, make_groups, read_pairs
from dfmodels.data.clips import ClipSamples
from dfmodels.data.crops import CropSource
from dfmodels.detectors.lsda import PlainEncoder
from dfmodels.evaluation.metrics import measure
from dfmodels.synthetic import write_miniature
from dfmodels.training import DivergedError, LSDADistillation, distill
from dfmodels.training.loop import Losses

CHANNELS, WIDTH, SIZE = (24, 48, 96, 96), 64, 64


@pytest.fixture(scope="module")
def miniature(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "miniature"
    write_miniature(folder, pairs=(48, 0, 8), size=SIZE)
    return folder


def videos(folder, split):
    return folder_videos(folder, read_pairs(folder / "splits" / f"{split}.json"))


def training(channels=CHANNELS, width=WIDTH, seed=0):
    torch.manual_seed(seed)
    student = dfmodels.build("lsda", encoder="plain", channels=channels, width=width, size=SIZE)
    encoders = [PlainEncoder(channels, width) for _ in range(5)]
    return LSDADistillation(student, encoders[:4], encoders[4])


def optimizer(model, learning_rate=1e-3):
    return torch.optim.AdamW(model.parameters(), lr=learning_rate)


class Few(Subset):
    def set_epoch(self, epoch):
        self.dataset.set_epoch(epoch)


def few(folder, model, count=9):
    return Few(ForgeryGroups(make_groups(videos(folder, "test")), model.student.contract), range(count))


def held_out(student, rows):
    """AUC on the frames of videos."""
    labels, scores = [], []
    for batch in DataLoader(ClipSamples(rows, student.contract, CropSource("none")), 64):
        counts = batch["counts"]
        labels += batch["label"][counts].tolist()
        scores.append(student.predict(batch["images"][counts]))
    return measure(labels, torch.cat(scores))["auc"]


def test_learns_and_goes_on_where_it_stopped(miniature, tmp_path):
    checkpoint = tmp_path / "training.pth"
    for epochs in (12, 25):  # the second training begins from the file of the first
        model = training(seed=epochs)
        groups = ForgeryGroups(make_groups(videos(miniature, "train")), model.student.contract)
        history = distill(model, groups, epochs=epochs, optimizer=optimizer(model), checkpoint=checkpoint)
    assert len(history) == 25
    first, last = history[0], history[-1]
    assert all(last[name] < first[name] for name in first), (first, last)
    assert held_out(model.student, videos(miniature, "test")) > 0.9


def test_cut_off_or_not_is_the_same(miniature, tmp_path):
    straight, before, after = (training((8, 16), 16, seed) for seed in (0, 0, 1))
    steps = []
    expected = distill(straight, few(miniature, straight), epochs=3, optimizer=optimizer(straight))
    distill(before, few(miniature, before), epochs=2, optimizer=optimizer(before), checkpoint=tmp_path / "file")
    history = distill(
        after,
        few(miniature, after),
        epochs=3,
        optimizer=optimizer(after),
        checkpoint=tmp_path / "file",
        progress=lambda done, total: steps.append((done, total)),
    )
    assert history == expected
    assert steps == [(5, 6), (6, 6)]  # 9 groups are 2 batches of 4
    for key, value in straight.state_dict().items():
        assert torch.equal(after.state_dict()[key], value), key
    assert after.student.trained
    assert not after.training
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_the_checkpoint_is_one_of_the_training(miniature, tmp_path):
    model, other = training((8, 16), 16), training((8, 16), 16, seed=1)
    distill(model, few(miniature, model), epochs=1, optimizer=optimizer(model), checkpoint=tmp_path / "file.pth")
    other.load_checkpoint(tmp_path / "file.pth")
    student = dfmodels.build("lsda", weights=tmp_path / "file.pth", **model.student.config)
    for key, value in model.student.state_dict().items():
        assert torch.equal(student.state_dict()[key], value), key
    for key, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)


def test_what_it_cannot_go_on_from(miniature, tmp_path):
    model = training((8, 16), 16)
    groups = few(miniature, model)
    with pytest.raises(ValueError, match="groups must hold at least one batch of 10, got 9"):
        distill(model, groups, epochs=1, batch_size=10)
    path = tmp_path / "file.pth"
    torch.save(model.state_dict(), path)
    with pytest.raises(ValueError, match="was not written by a training of lsda"):
        distill(model, groups, epochs=1, checkpoint=path)
    (folder := tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=f"the folder of checkpoint must be a folder to write to, {folder}"):
        distill(model, groups, epochs=1, checkpoint=folder / "a.pth")
    path.write_text("no checkpoint")
    with pytest.raises(ValueError, match="is no weights file: it is text"):
        distill(model, groups, epochs=1, checkpoint=path)
    assert path.read_text() == "no checkpoint"
    path.unlink()
    distill(model, groups, epochs=1, checkpoint=path)
    wider = training((8, 16), 24)
    with pytest.raises(ValueError, match="holds another training"):
        distill(wider, few(miniature, wider), epochs=2, checkpoint=path)


def test_losses_are_read_from_the_device_once_an_epoch(miniature, monkeypatch):
    """Nothing in a step asks the device for a value."""
    model = training((8, 16), 16)
    reads, floats = [], []
    means, item = Losses.means, torch.Tensor.__float__
    monkeypatch.setattr(Losses, "means", lambda self: reads.append(self.steps) or means(self))
    monkeypatch.setattr(torch.Tensor, "__float__", lambda self: floats.append(1) or item(self))
    history = distill(model, few(miniature, model), epochs=2)
    assert reads == [2, 2]
    assert not floats
    assert all(isinstance(value, float) for losses in history for value in losses.values())


@pytest.mark.parametrize("what", ["loss", "gradient", "memory of the optimiser"])
def test_what_is_not_finite_ends_the_training_and_leaves_the_last_good_checkpoint(
    miniature, tmp_path, monkeypatch, what
):
    path = tmp_path / "file.pth"
    model = training((8, 16), 16)
    adam = optimizer(model)
    distill(model, few(miniature, model), epochs=1, optimizer=adam, checkpoint=path)
    assert model.student.trained
    good = path.read_bytes()
    if what == "loss":
        losses = model.losses
        monkeypatch.setattr(
            model, "losses", lambda *batch: {name: value.log() * -1 / 0 for name, value in losses(*batch).items()}
        )
        message = r"the loss of step 1 of epoch 2 is not finite: .*overall (-inf|inf|nan)"
    elif what == "gradient":
        parameters = [p for p in model.parameters() if p.requires_grad]
        step = iter([1.0, float("inf")])  # of two steps, so no loss tells of it
        parameters[0].register_hook(lambda gradient: gradient * next(step))
        message = r"epoch 2 ends with values that are not finite in [\w.]+"
    else:
        parameters = [p for p in model.parameters() if p.requires_grad]
        parameters[0].register_hook(lambda gradient: gradient * 1e30)  # its square is more than float32 holds
        message = r"epoch 2 ends with values that are not finite in optimizer\.state\.\d+\.exp_avg_sq"
    with pytest.raises(DivergedError, match=message + rf".*; {path} holds epoch 1, the last whole one$"):
        distill(model, few(miniature, model), epochs=2, optimizer=adam, checkpoint=path)
    assert path.read_bytes() == good
    assert list(tmp_path.iterdir()) == [path]
    assert not model.student.trained
    again = training((8, 16), 16, seed=1)
    again.load_checkpoint(path)
    assert all(value.isfinite().all() for value in again.state_dict().values())


def test_an_interrupted_training_marks_nothing_trained(miniature):
    model = training((8, 16), 16)
    model.student.trained = True

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(model, few(miniature, model), epochs=1, progress=interrupt)
    assert not model.student.trained


@pytest.mark.parametrize("options", [{"epochs": 0}, {"epochs": 1, "batch_size": 0}])
def test_nothing_to_train(miniature, options):
    model = training((8, 16), 16)
    with pytest.raises(ValueError, match="must be a whole number of at least 1, got 0"):
        distill(model, few(miniature, model), **options)
    assert not model.student.trained
