"""The engine in this process: what a run leaves, how it goes on, and what ends it."""

import csv
import json
import resource
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from dfmodels.data.prepare import TooManyFailedError
from dfmodels.detector import Calibration
from dfmodels.registry import load
from dfmodels.training import engine
from dfmodels.training.batches import balanced
from dfmodels.training.divergence import DivergedError
from dfmodels.training.engine import train
from dfmodels.training.recipe import METRICS
from dfmodels.training.run import BEST, FINAL, JUDGED
from dfmodels.weights import save_calibration
from tests.training import runs

pytestmark = pytest.mark.usefixtures("tiny", "one_thread")


def run(out, settings=None, videos=None, **options):
    recipe = runs.TinyRecipe().with_settings(settings or {})
    return train(recipe, runs.videos() if videos is None else videos, out, crops=None, device="cpu", **options)


def rows(out):
    with (out / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def state(out):
    return json.loads((out / "last" / "progress.json").read_text())


def test_what_a_run_leaves(tmp_path):
    run(tmp_path / "run")
    names = {path.name.split(".out.")[0] for path in (tmp_path / "run").iterdir()}
    files = {".lock", "recipe.yaml", "environment.json", "metrics.csv", "events", "curves.png", "README.md", "last"}
    assert names == {*files, BEST, FINAL}
    for name in (BEST, FINAL):
        model = load(tmp_path / "run" / name)
        assert model.trained
        assert "trained on Noise by the recipe tiny" in model.origin.note
    epochs = [row for row in rows(tmp_path / "run") if row["kind"] == "epoch"]
    best = max(epochs, key=lambda row: float(row["val_auc"]))
    assert (
        f"epoch {best['epoch']}, validation auc {float(best['val_auc']):.4f}"
        in load(tmp_path / "run" / BEST).origin.note
    )
    facts = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert facts["videos"] == {"train real": 12, "train fake": 12, "val real": 4, "val fake": 4}
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["device_name"]


def test_calibrations_of_weights_that_a_run_overwrites_go(tmp_path):
    run(tmp_path / "run", {"epochs": 1})
    for name in (BEST, FINAL):
        save_calibration(Calibration(2.0, 0.0), tmp_path / "run" / name)
    (tmp_path / "run" / FINAL).unlink()  # as where the run ended before its last epoch
    run(tmp_path / "run", {"epochs": 1}, resume=True)
    assert load(tmp_path / "run" / BEST).origin.calibration == Calibration(2.0, 0.0)
    assert load(tmp_path / "run" / FINAL).origin.calibration is None


def test_curves_can_be_told_apart(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **options: (drawn.append(self), save(self, *args, **options))
    )
    run(tmp_path / "run", {"epochs": 2})
    for axes, names in zip(drawn[-1].axes, (["loss", "val_loss"], JUDGED), strict=True):
        assert sorted(line.get_label() for line in axes.lines) == sorted(names)
        assert len({line.get_color() for line in axes.lines}) == len(names)
    assert "threshold" not in caplog.text
    assert "val_threshold" not in rows(tmp_path / "run")[0]


def test_it_learns(tmp_path):
    run(tmp_path / "run", {"epochs": 12, "model.drop": 0.0, "learning_rate": 0.05})
    losses = [float(row["loss"]) for row in rows(tmp_path / "run") if row["kind"] == "step"]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


@pytest.mark.parametrize("settings", [{}, {"average": 0.9}, {"accumulate": 2}, {"clip_norm": 0.1}])
def test_a_repeated_run_is_the_same(tmp_path, settings):
    for name in ("one", "two"):
        run(tmp_path / name, settings)
    assert (tmp_path / "one" / FINAL).read_bytes() == (tmp_path / "two" / FINAL).read_bytes()


def test_workers_change_nothing(tmp_path):
    for workers in (0, 1):
        run(tmp_path / str(workers), {"num_workers": workers, "epochs": 2})
    assert (tmp_path / "0" / FINAL).read_bytes() == (tmp_path / "1" / FINAL).read_bytes()


def test_the_share_of_the_time_in_which_the_model_waits_for_samples(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=0.0)

    def taking(seconds, work):
        def worked(*arguments):
            clock.now += seconds
            return work(*arguments)

        return worked

    shown: list[str] = []
    monkeypatch.setattr(engine, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(runs.Noise, "sample", taking(0.5, runs.Noise.sample))  # 4 of a batch: 2 s
    monkeypatch.setattr(runs.Tiny, "forward", taking(3.0, runs.Tiny.forward))
    monkeypatch.setattr(tqdm, "set_postfix", lambda bar, **said: shown.append(said["waiting"]))
    run(tmp_path / "run", {"epochs": 2})
    shares = [float(row["waiting"]) for row in rows(tmp_path / "run") if row["kind"] == "step"]
    assert shares == pytest.approx([0.4, 0.4])
    assert shown == ["40%", "40%"]


def test_clips_that_a_video_does_not_have_are_not_judged(tmp_path, monkeypatch):
    counted, forward = [], runs.Tiny.forward
    monkeypatch.setattr(
        runs.Tiny, "forward", lambda self, clip: (self.training or counted.append(len(clip)), forward(self, clip))[1]
    )
    run(tmp_path / "run", {"epochs": 1, "failed": ["val0", "val1", "val2"]}, max_bad=1)
    assert sum(counted) == 2 * 5


def test_two_batches_whose_gradients_make_one_step_are_a_batch_of_twice_the_size(tmp_path):
    settings = {"freeze_norms": True, "model.drop": 0.0}
    run(tmp_path / "one", {**settings, "batch_size": 8})
    run(tmp_path / "two", {**settings, "accumulate": 2})
    one, two = (load(tmp_path / name / FINAL).state_dict() for name in ("one", "two"))
    torch.testing.assert_close(one, two)


def test_frozen_norms_keep_their_statistics(tmp_path):
    for freeze in (False, True):
        run(tmp_path / str(freeze), {"freeze_norms": freeze})
        norms = [part for part in load(tmp_path / str(freeze) / FINAL).modules() if isinstance(part, _BatchNorm)]
        assert all(torch.equal(norm.running_mean, torch.zeros(4)) == freeze for norm in norms)
        assert len(norms) == 1


def test_without_a_validation_split_there_is_no_best(tmp_path, caplog):
    caplog.set_level("INFO")
    run(tmp_path / "run", videos=runs.videos(24, 0))
    assert "no validation split" in caplog.text
    assert not (tmp_path / "run" / BEST).exists()
    assert (tmp_path / "run" / FINAL).exists()
    assert "there is no `best.safetensors`" in (tmp_path / "run" / "README.md").read_text()


@pytest.mark.parametrize(("label", "name"), [(0, "fake"), (1, "real")])
def test_one_class_alone(tmp_path, label, name):
    videos = [video for video in runs.videos() if video.label == label]
    with pytest.raises(ValueError, match=f"the split 'train' holds no {name} video"):
        run(tmp_path / "run", videos=videos)
    assert not (tmp_path / "run").exists()


def test_fewer_samples_than_a_step_takes(tmp_path):
    with pytest.raises(ValueError, match="a step takes 25 samples x 1 x 1 processes, and there are 24"):
        run(tmp_path / "run", {"batch_size": 25})


def test_balance():
    videos = [video for video in runs.videos(12, 0) if video.label or video.id in ("train0", "train2")]
    ids = [video.id for video in balanced(videos, runs.TinyRecipe(balance="oversample"))]
    assert {name: ids.count(name) for name in ids if int(name[5:]) % 2 == 0} == {"train0": 3, "train2": 3}
    assert balanced(videos, runs.TinyRecipe()) == videos


def test_folders_that_are_not_empty(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"is not empty: go on there with --resume"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(ValueError, match="--out must be a folder"):
        run(tmp_path / "notes.txt")


def test_a_resume_without_a_state_begins_anew(tmp_path, caplog):
    caplog.set_level("INFO")
    run(tmp_path / "run", resume=True)
    assert "holds no state yet: the training begins anew" in caplog.text
    assert (tmp_path / "run" / FINAL).exists()


def test_settings_that_cannot_be_built_leave_the_folder_free(tmp_path):
    with pytest.raises(ValueError, match="batch_size must leave at least one step"):
        run(tmp_path / "run", {"batch_size": 100})
    run(tmp_path / "run", {"epochs": 1})
    assert (tmp_path / "run" / FINAL).exists()


def test_a_resume_in_a_folder_of_something_else(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ValueError, match=r"holds no run: there is no recipe\.yaml.*name another folder"):
        run(tmp_path, resume=True)
    assert (tmp_path / "README.md").read_text() == "mine"


DAMAGE = [
    ("recipe.yaml", b"a: [1\n"),
    ("recipe.yaml", b"1\n"),
    ("environment.json", b"{"),
    ("environment.json", b"\xff"),
    ("metrics.csv", b"rubbish\n1,2\n"),
    ("metrics.csv", b"\xff\n"),
    ("last/progress.json", b"{"),
    ("last/progress.json", None),
    ("last/model.safetensors", b"\0" * 20),
    ("last/optimizer.bin", b""),
    ("last/optimizer.bin", None),
]


def test_a_resume_of_a_damaged_run(tmp_path):
    run(tmp_path / "sound", {"epochs": 1})
    (tmp_path / "sound" / FINAL).unlink()
    for i, (name, content) in enumerate(DAMAGE):
        damaged = tmp_path / f"damaged-{i}"
        shutil.copytree(tmp_path / "sound", damaged)
        if content is None:
            (damaged / name).unlink()
        else:
            (damaged / name).write_bytes(content)
        before = {path: path.read_bytes() for path in damaged.rglob("*") if path.is_file() and path.name != ".lock"}
        what = "last" if name.startswith("last/") else name
        with pytest.raises(ValueError, match=f"{what}.* cannot be read: .*(remove|name another)"):
            run(damaged, {"epochs": 1}, resume=True)
        assert all(path.read_bytes() == kept for path, kept in before.items())


def test_half_precision_wants_a_gpu(tmp_path):
    with pytest.raises(ValueError, match="precision must be 'fp32' or 'bf16' on the CPU, got 'fp16'"):
        run(tmp_path / "run", {"precision": "fp16"})
    assert not (tmp_path / "run").exists()


def test_a_resume_of_another_run(tmp_path):
    run(tmp_path / "run", {"model.width": 3})
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(
        ValueError, match=r"holds another run: learning_rate was 0.01 and is 0.1; model.width was 3 and is"
    ):
        run(tmp_path / "run", {"model.width": 4, "learning_rate": 0.1}, resume=True)
    with pytest.raises(ValueError, match="index was '"):
        run(tmp_path / "run", {"model.width": 3}, videos=runs.videos(26), resume=True)
    after = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    before.pop(tmp_path / "run" / ".lock"), after.pop(tmp_path / "run" / ".lock")
    assert before == after


def test_a_loss_that_is_not_finite(tmp_path):
    with pytest.raises(
        DivergedError,
        match=r"the loss of step \d+ \(epoch 2\) is not finite: overall nan, of the videos .*"
        r"/nowhere/train7.mp4.*last holds the last good weights, of step",
    ) as caught:
        run(tmp_path / "run", {"wrong": ["1/train7"]})
    reached = state(tmp_path / "run")
    assert f"the loss of step {reached['step'] + 1} " in str(caught.value)
    from safetensors.torch import load_file

    weights = load_file(tmp_path / "run" / "last" / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values() if tensor.is_floating_point())
    assert (tmp_path / "run" / BEST).exists()
    assert not (tmp_path / "run" / FINAL).exists()


def test_weights_that_are_not_finite_are_not_saved(tmp_path, monkeypatch):
    """A finite loss whose gradient is not."""
    taken = engine._Training._step

    def step(self, batches, interval):
        taken(self, batches, interval)
        if self.position.step == 9:
            with torch.no_grad():
                next(self.student.parameters()).fill_(float("nan"))

    monkeypatch.setattr(engine._Training, "_step", step)
    with pytest.raises(DivergedError, match="the last good weights, of step 8"):
        run(tmp_path / "run")
    assert state(tmp_path / "run")["step"] == 8


def test_videos_that_cannot_be_read(tmp_path):
    settings = {"failed": ["train3", "val1"]}
    failed = {"/nowhere/train3.mp4": "cannot be read", "/nowhere/val1.mp4": "cannot be read"}
    assert run(tmp_path / "some", settings, max_bad=0.1) == failed
    assert run(tmp_path / "some", settings, max_bad=0.1, resume=True) == failed
    with (tmp_path / "some" / "failed.csv").open(newline="") as file:
        assert {row["path"] for row in csv.DictReader(file)} == {"/nowhere/train3.mp4", "/nowhere/val1.mp4"}
    assert "2 videos could not be read" in (tmp_path / "some" / "README.md").read_text()
    with pytest.raises(TooManyFailedError, match=r"1 of 32 videos cannot be read, and 0.01 of them may: .*failed.csv"):
        run(tmp_path / "many", settings)


def test_a_full_disk_leaves_the_last_state_whole(tmp_path, monkeypatch):
    """A limit on the size of files stands in for it: the state no longer fits."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    begin, calls = engine.RunFolder.begin_state, []

    def full(self):
        calls.append(1)
        if len(calls) == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))
        return begin(self)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(engine.RunFolder, "begin_state", full)
            with pytest.raises(OSError, match=r"the state of step 6 cannot be written: .*last holds step 4; make room"):
                run(tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert state(tmp_path / "run")["step"] == 4
    assert not list((tmp_path / "run").glob(".last*"))
    run(tmp_path / "run", resume=True)
    run(tmp_path / "undisturbed")
    assert (tmp_path / "run" / FINAL).read_bytes() == (tmp_path / "undisturbed" / FINAL).read_bytes()


def test_weights_that_cannot_be_written(tmp_path, monkeypatch):
    def full(self, path, **notes):
        raise OSError(f"{path} cannot be written: No space left on device")

    monkeypatch.setattr(engine.weights, "save", full)
    with pytest.raises(OSError, match=r"best\.safetensors cannot be written: No space left") as caught:
        run(tmp_path / "run")
    assert str(caught.value).count("cannot be written") == 1


@pytest.mark.parametrize("name", METRICS)
def test_the_best_epoch(tmp_path, name):
    run(tmp_path / "run", {"best_metric": name, "epochs": 4, "learning_rate": 0.05})
    epochs = {int(row["epoch"]): float(row[f"val_{name}"]) for row in rows(tmp_path / "run") if row["kind"] == "epoch"}
    assert len(epochs) == 4
    best = (min if name in ("eer", "loss") else max)(epochs, key=epochs.get)
    assert state(tmp_path / "run")["best_epoch"] == best
    assert f"epoch {best}, validation {name} {epochs[best]:.4f}" in load(tmp_path / "run" / BEST).origin.note


def test_the_random_state_of_the_caller_is_left_alone(tmp_path):
    before = torch.get_rng_state()
    run(tmp_path / "run", {"epochs": 1})
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(nn.Linear(1, 1), nn.Module)
