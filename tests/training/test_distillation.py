"""Training of LSDA on the miniature: it learns, goes on where it was cut off, and says what it cannot go on from."""

import pytest
import torch
from torch.utils.data import Subset

import dfmodels
from dfmodels.data import ForgeryGroups, VideoFrames, folder_videos, make_groups, read_pairs
from dfmodels.detectors.lsda import PlainEncoder
from dfmodels.evaluation.metrics import roc_auc
from dfmodels.synthetic import write_miniature
from dfmodels.training import LSDADistillation, distill

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


def test_learns_and_goes_on_where_it_stopped(miniature, tmp_path):
    checkpoint = tmp_path / "training.pth"
    for epochs in (12, 25):  # the second training begins from the file of the first
        model = training(seed=epochs)
        groups = ForgeryGroups(make_groups(videos(miniature, "train")), model.student.contract)
        history = distill(model, groups, epochs=epochs, optimizer=optimizer(model), checkpoint=checkpoint)
    assert len(history) == 25
    first, last = history[0], history[-1]
    assert all(last[name] < first[name] for name in first), (first, last)
    frames = VideoFrames(videos(miniature, "test"), model.student.contract)
    images, labels, _ = zip(*(frames[i] for i in range(len(frames))), strict=True)
    probabilities = torch.cat([model.student.predict(batch[:, None]) for batch in torch.stack(images).split(64)])
    assert roc_auc(labels, probabilities.tolist()) > 0.9


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
    path.write_text("no checkpoint")
    with pytest.raises(ValueError, match="is no weights file: it is text"):
        distill(model, groups, epochs=1, checkpoint=path)
    assert path.read_text() == "no checkpoint"
    path.unlink()
    distill(model, groups, epochs=1, checkpoint=path)
    wider = training((8, 16), 24)
    with pytest.raises(ValueError, match="holds another training"):
        distill(wider, few(miniature, wider), epochs=2, checkpoint=path)


def test_weights_are_read_from_the_device_once_an_epoch(miniature, monkeypatch):
    """Nothing in a step asks the device for a value."""
    model = training((8, 16), 16)
    reads = []
    item = torch.Tensor.__float__
    monkeypatch.setattr(torch.Tensor, "__float__", lambda self: reads.append(1) or item(self))
    history = distill(model, few(miniature, model), epochs=2)
    assert len(reads) == sum(map(len, history))
