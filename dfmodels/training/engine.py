"""The engine that trains every detector: what ties recipe, samples and the folder of a run to Accelerate."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from dfmodels import weights
from dfmodels.data.crops import CropSource
from dfmodels.data.index import Video
from dfmodels.data.prepare import TooManyFailedError
from dfmodels.detector import Detector, Origin, evaluating
from dfmodels.optional import require
from dfmodels.progress import progress_bar
from dfmodels.training.about import environment, model_card, notes
from dfmodels.training.batches import Batches, balanced, make_loader, next_batch, seed_of, started
from dfmodels.training.divergence import diverged, not_finite
from dfmodels.training.recipe import METRICS as JUDGED_BY
from dfmodels.training.recipe import Recipe
from dfmodels.training.run import BEGIN_ANEW, BEST, FAILED, FINAL, METRICS, NEW_STATE, STATE, RunFolder, readable
from dfmodels.training.validation import Validation

LOG = logging.getLogger(__name__)
CHECK_EVERY = 100  # steps from one look at the losses to the next on a GPU: each waits for it
ROW_EVERY = 50  # steps of a row of metrics.csv
LOWER_IS_BETTER = ("loss", "eer")
MAX_BAD = 0.01
MIXED = {"fp32": "no", "fp16": "fp16", "bf16": "bf16"}


def train(
    recipe: Recipe,
    videos: Sequence[Video],
    out: str | Path,
    *,
    crops: CropSource,
    resume: bool = False,
    device: str | torch.device = "auto",
    max_bad: float = MAX_BAD,
    command: str = "",
) -> dict[str, str]:
    """Train by a recipe, into the folder of a run.

    A run that was cut off at any moment goes on inside its epoch, and on one CPU process ends with the very weights of
    an undisturbed one: order and draws of every step follow from seed, epoch and step alone, and the state in `last/`
    is whole. Several processes (`accelerate launch`) take one batch each of what one process with as many times the
    batch would take.

    Args:
        recipe: what is trained, and how.
        videos: rows of an index; those of the splits train and val are used.
        out: folder of the run: recipe.yaml, environment.json, metrics.csv, events of TensorBoard, curves.png, last/,
            best.safetensors (by the recipe's metric; not without a validation split), final.safetensors, README.md.
        crops: opens the face crops of a video.
        resume: go on in a folder that holds a run; a finished one is left as it is, one without a state begins anew.
        device: "auto", "cpu" or a GPU.
        max_bad: share of the videos that may turn out to be unreadable before the training ends.
        command: what was typed, for the model card.

    Returns:
        Reason of every video that could not be read, by its key.

    Raises:
        ValueError: a training split of one class or of fewer samples than a step takes, a folder that is not empty or
            in use, or a resume of another recipe, index or number of processes.
        TooManyFailedError: more videos cannot be read than may.
        DivergedError: a loss or a weight is not finite; names the videos of the step.
        OSError: the folder cannot be written to.
    """
    training = [video for video in videos if video.split == "train"]
    _check_classes(training)
    accelerate = require("accelerate", "training")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else torch.device(device)
    if recipe.precision == "fp16" and device.type == "cpu":  # torch would compute in fp32 and say nothing
        raise ValueError("precision must be 'fp32' or 'bf16' on the CPU, got 'fp16'")
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    accelerator = accelerate.Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=MIXED[recipe.precision],
        gradient_accumulation_steps=recipe.accumulate,
        step_scheduler_with_optimizer=False,
    )
    folder = None
    try:
        with torch.random.fork_rng():
            if accelerator.is_main_process:
                folder = RunFolder(out, resume=resume)
            run = _Training(recipe, training, videos, crops, accelerator, folder, Path(out), resume, max_bad, command)
            if folder is not None:
                folder.settle(
                    recipe.as_dict(),
                    environment(recipe, videos, accelerator, crops, command),
                    must_match=("videos", "index", "processes", "faces"),
                )
            accelerator.wait_for_everyone()
            run.run()
            return run.failed
    finally:
        if folder is not None:
            folder.close()
        accelerator.free_memory()
        # the next training of this process may ask for another precision or device
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=accelerator.num_processes == 1)
        accelerate.state.GradientState._reset_state()


def _check_classes(videos: Sequence[Video]) -> None:
    found = {video.label for video in videos}
    for label, name in enumerate(("real", "fake")):
        if label not in found:
            raise ValueError(
                f"the split 'train' holds no {name} video (label {label}) among {len(videos)}; a training needs both "
                "classes: add some, or choose the rows otherwise (--data, --where)"
            )


def _check_size(recipe: Recipe, size: tuple[int, int]) -> None:
    """Raise ValueError where the recipe's augmentation does not take crops of the detector's size."""
    augment = recipe.augmentation()
    if augment is None:
        return
    try:
        with torch.random.fork_rng(devices=[]):
            augment(torch.zeros(1, 3, *size, dtype=torch.uint8))
    except ValueError as error:
        raise ValueError(
            f"model.size must be one that the augmentation of the recipe {recipe.name} takes, got {size[0]} x {size[1]}"
        ) from error


@dataclass
class _Position:
    """How far a training has come: steps of the optimiser done, in all and in this epoch; and the best so far."""

    epoch: int = 0
    in_epoch: int = 0
    step: int = 0
    best: float | None = None
    best_epoch: int | None = None


@dataclass
class _Interval:
    """What is summed up from one row of metrics.csv to the next."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    batches: int = 0
    begun: float = field(default_factory=lambda: time.perf_counter())
    waited: float = 0.0


class _Training:
    def __init__(
        self,
        recipe: Recipe,
        training: Sequence[Video],
        videos: Sequence[Video],
        crops: CropSource,
        accelerator: Any,
        folder: RunFolder | None,
        out: Path,
        resume: bool,
        max_bad: float,
        command: str,
    ) -> None:
        self.recipe, self.accelerator, self.folder, self.out = recipe, accelerator, folder, out
        self.resume, self.command = resume, command
        validating = [video for video in videos if video.split == "val"]
        self.max_bad, self.used = max_bad, len(training) + len(validating)
        self.failed: dict[str, str] = folder.read_failed() if folder is not None and resume else {}
        torch.manual_seed(recipe.seed)
        objective = recipe.objective(training)
        self.student: Detector = objective.student
        self.student.trained, self.student.origin = False, Origin()
        contract = self.student.contract
        _check_size(recipe, contract.size)
        self.samples = recipe.samples(balanced(training, recipe), crops, contract)
        self.validation = (
            Validation(recipe.validation(validating, crops, contract), recipe, accelerator) if validating else None
        )
        self.batches = Batches(len(self.samples), recipe, accelerator.num_processes, accelerator.process_index)
        if self.batches.steps < 1:
            raise ValueError(
                f"batch_size must leave at least one step an epoch: a step takes {recipe.batch_size} samples x "
                f"{recipe.accumulate} x {accelerator.num_processes} processes, and there are {len(self.samples)}"
            )
        objective.to(accelerator.device)
        self.objective, self.optimizer = accelerator.prepare(objective, recipe.optimizer(objective))
        self.schedule = recipe.schedule(self.optimizer.optimizer, self.batches.steps)
        self.average = (
            AveragedModel(self.student, multi_avg_fn=get_ema_multi_avg_fn(recipe.average), use_buffers=True)
            if recipe.average
            else None
        )
        accelerator.register_for_checkpointing(self.schedule, *([self.average] if self.average is not None else []))
        self.position = _Position()
        # losses since they were last looked at: whether one was not finite, and the videos of the steps
        self._bad = torch.zeros((), device=accelerator.device)
        self._keys: list[tuple[int, list[str]]] = []

    # ------------------------------------------------------------------ from the first step to the last

    def run(self) -> None:
        if self._finished():
            LOG.info("%s: finished already, after %d epochs; nothing to do", self.out, self.recipe.epochs)
            return
        self._restore()
        if self.validation is None and self.accelerator.is_main_process:
            LOG.info("no validation split: every epoch is as good as the other, and there will be no %s", BEST)
        loader = make_loader(self.samples, self.batches, self.recipe.num_workers)
        total = self.recipe.epochs * self.batches.steps
        with progress_bar(
            total=total,
            initial=self.position.step,
            desc="training",
            unit="step",
            shown=self.accelerator.is_main_process,
        ) as bar:
            while self.position.epoch < self.recipe.epochs:
                self._epoch(loader, bar)
        if self.folder is not None:
            what, last = f"the last of {self.recipe.epochs} epochs", self.folder.last_epoch()
            self.folder.written(FINAL, lambda: self._write_weights(FINAL, what, last))
            self.folder.draw_curves()
            self.folder.write_card(model_card(self.recipe, self.folder, self._best(), len(self.failed), self.command))

    def _best(self) -> str:
        """When the validation was best; empty where it never was."""
        position = self.position
        if position.best is None:
            return ""
        return f"Best {self.recipe.best_metric} {position.best:.4f} after epoch {position.best_epoch} (`{BEST}`)."

    def _finished(self) -> bool:
        done = torch.tensor(self.folder is not None and (self.out / FINAL).is_file(), device=self.accelerator.device)
        return bool(self.accelerator.reduce(done.int(), "sum"))

    def _restore(self) -> None:
        """Go on from the last whole state, if there is one."""
        progress = self.folder.progress() if self.folder is not None else None
        if self.accelerator.num_processes > 1:
            box = [progress]
            require("accelerate.utils", "training").broadcast_object_list(box)
            progress = box[0]
        if progress is not None:
            with readable(self.out / STATE, BEGIN_ANEW):
                self.accelerator.load_state(str(self.out / STATE))
                self.position = _Position(**progress)
            if self.accelerator.is_main_process:
                LOG.info("goes on after step %d, in epoch %d", self.position.step, self.position.epoch + 1)
        elif self.resume and self.folder is not None:
            LOG.info("%s holds no state yet: the training begins anew", self.out)
        if self.folder is not None:
            self.folder.open_metrics(self.position.step)

    def _epoch(self, loader: DataLoader[Any], bar: Any) -> None:
        position, recipe = self.position, self.recipe
        self.samples.set_epoch(position.epoch)
        self.batches.epoch, self.batches.done = position.epoch, position.in_epoch
        self.objective.train()
        if recipe.freeze_norms:
            freeze_norms(self.objective)
        interval = _Interval()
        batches = started(loader)
        while position.in_epoch < self.batches.steps:
            self._step(batches, interval)
            bar.update()
            if position.step % ROW_EVERY == 0 or position.in_epoch == self.batches.steps:
                self._row(interval, bar)
                interval = _Interval()
            if position.step % recipe.save_every == 0 and position.in_epoch < self.batches.steps:
                self._save()
        position.epoch, position.in_epoch = position.epoch + 1, 0
        self._share_failed()
        self._validate()
        self._save()
        if self.folder is not None:
            self.folder.draw_curves()

    def _step(self, batches: Iterator[Mapping[str, Any]], interval: _Interval) -> None:
        """One step of the optimiser."""
        position = self.position
        sent = require("accelerate.utils", "training").send_to_device
        keys: list[str] = []
        bad = torch.zeros((), device=self.accelerator.device)
        losses: dict[str, Tensor] = {}
        for part in range(self.recipe.accumulate):
            begun = time.perf_counter()
            batch = next_batch(batches)
            interval.waited += time.perf_counter() - begun
            keys += [str(key) for key in batch.get("video", ())]
            self._note_failed(batch)
            seed = seed_of(self.recipe.seed, position.epoch, position.in_epoch, part, self.accelerator.process_index)
            torch.manual_seed(seed)
            generator = torch.Generator(self.accelerator.device).manual_seed(seed)
            with self.accelerator.accumulate(self.objective):
                losses = self.objective(sent(dict(batch), self.accelerator.device, non_blocking=True), generator)
                for name, value in losses.items():
                    bad += ~value.detach().isfinite().all()
                    interval.sums[name] = interval.sums.get(name, 0) + value.detach().double().mean()
                interval.batches += 1
                self.accelerator.backward(losses["overall"])
                if part < self.recipe.accumulate - 1:
                    continue
                self._keys.append((position.step + 1, keys))
                self._check(bad, losses)
                if self.recipe.clip_norm:
                    self.accelerator.clip_grad_norm_(self.objective.parameters(), self.recipe.clip_norm)
                self.optimizer.step()
                self.schedule.step()
                self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.student)
        position.step += 1
        position.in_epoch += 1

    # ------------------------------------------------------------------ what may go wrong

    def _check(self, bad: Tensor, losses: Mapping[str, Tensor]) -> None:
        """End the training where a loss was not finite; on the CPU before its gradient reaches the weights."""
        self._bad += bad
        step = self.position.step + 1
        last = self.position.in_epoch + 1 == self.batches.steps
        if self.accelerator.device.type != "cpu" and step % CHECK_EVERY and not last:
            return
        if not float(self.accelerator.reduce(self._bad, "sum")):
            self._keys.clear()
            return
        keys = [key for _, keys in self._keys for key in keys]
        shown = ", ".join(f"{name} {float(value.detach()):.4g}" for name, value in losses.items())
        steps = f"of step {step}" if len(self._keys) == 1 else f"of a step from {self._keys[0][0]} to {step}"
        if len(self._keys) == 1 and not self._not_finite():
            self._write_state()
        raise diverged(
            f"the loss {steps} (epoch {self.position.epoch + 1}) is not finite: {shown}, of the videos "
            f"{', '.join(dict.fromkeys(keys))}",
            self._kept(),
        )

    def _not_finite(self) -> str:
        return not_finite(
            {
                "weights": self.accelerator.unwrap_model(self.objective).state_dict(),
                "optimizer": self.optimizer.state_dict()["state"],
            }
        )

    def _kept(self) -> str:
        if self.folder is None:
            return ""
        progress = self.folder.progress()
        return (
            "" if progress is None else f"{self.folder.state} holds the last good weights, of step {progress['step']}"
        )

    def _note_failed(self, batch: Mapping[str, Any]) -> None:
        """Count the videos that turned out to be unreadable, up to `max_bad`."""
        new = {}
        for text in batch.get("failed", ()):
            for line in text.splitlines():
                path, _, reason = line.partition(": ")
                if path not in self.failed:
                    new[path] = reason
        if not new:
            return
        for path, reason in new.items():
            LOG.warning("left out: %s: %s", path, reason)
        self.failed.update(new)
        if self.folder is not None:
            self.folder.write_failed(self.failed)
        if len(self.failed) > self.max_bad * self.used:
            raise TooManyFailedError(
                f"{len(self.failed)} of {self.used} videos cannot be read, and {self.max_bad:.3g} of them may: "
                f"{self.out / FAILED} says why; what is trained is kept"
            )

    def _share_failed(self) -> None:
        """Failures of all processes, in the file of the one that writes."""
        if self.accelerator.num_processes > 1:
            found = require("accelerate.utils", "training").gather_object([self.failed])
            self.failed = {path: reason for one in found for path, reason in one.items()}
            if self.folder is not None and self.failed:
                self.folder.write_failed(self.failed)

    # ------------------------------------------------------------------ what is kept

    def _row(self, interval: _Interval, bar: Any) -> None:
        means = {name: total / interval.batches for name, total in interval.sums.items()}
        shared = self.accelerator.reduce(torch.stack(list(means.values())), "mean").tolist()
        values = {("loss" if name == "overall" else f"loss_{name}"): v for name, v in zip(means, shared, strict=True)}
        seconds = time.perf_counter() - interval.begun
        waiting = interval.waited / max(seconds, 1e-9)
        bar.set_postfix(
            loss=f"{values['loss']:.3f}", waiting=f"{waiting:.0%}", epoch=self.position.epoch + 1, refresh=False
        )
        if self.folder is None:
            return
        row = {
            "kind": "step",
            "epoch": self.position.epoch + 1,
            "step": self.position.step,
            "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
            "seconds": round(seconds, 3),
            "waiting": round(waiting, 4),
            **values,
        }
        folder = self.folder
        folder.written(METRICS, lambda: folder.add_row(row))

    def _save(self) -> None:
        if wrong := self._not_finite():
            raise diverged(f"step {self.position.step} ends with values that are not finite in {wrong}", self._kept())
        self._write_state()

    def _write_state(self) -> None:
        def write() -> None:
            if self.folder is not None:
                self.folder.begin_state()
            self.accelerator.wait_for_everyone()
            self.accelerator.save_state(str(self.out / NEW_STATE))
            self.accelerator.wait_for_everyone()
            if self.folder is not None:
                self.folder.finish_state(vars(self.position))

        if self.folder is None:
            write()
            return
        try:
            self.folder.written(f"the state of step {self.position.step}", write)
        except OSError:
            self.folder.drop_state()
            raise

    def _write_weights(self, name: str, what: str, epoch: Mapping[str, Any]) -> None:
        view = evaluating(self._judged())
        view.trained = True
        assert self.folder is not None
        weights.save(view, self.out / name, **notes(self.recipe, self.folder.environment(), what, epoch))

    def _judged(self) -> Detector:
        if self.average is None:
            return self.student
        inner: Any = self.average.module
        return inner

    # ------------------------------------------------------------------ validation

    def _validate(self) -> None:
        if self.validation is None:
            return
        found = self.validation.numbers(evaluating(self._judged()), self._note_failed)
        self._share_failed()
        if found is None:
            raise diverged(
                f"epoch {self.position.epoch} judges the validation split by values that are not finite", self._kept()
            )
        position, name = self.position, self.recipe.best_metric
        value = found.get(name)
        better = value is not None and (
            position.best is None or (value < position.best if name in LOWER_IS_BETTER else value > position.best)
        )
        if better:
            position.best, position.best_epoch = value, position.epoch
        if self.folder is None:
            return
        folder = self.folder
        if value is None:
            LOG.warning("the validation split defines no %s: %s", name, found.get("why", {}).get(name, "unknown"))
        row = {
            "kind": "epoch",
            "epoch": position.epoch,
            "step": position.step,
            **{f"val_{key}": v for key, v in found.items() if isinstance(v, float)},
        }
        folder.written(METRICS, lambda: folder.add_row(row))
        shown = (f"{key} {found[key]:.4f}" for key in JUDGED_BY if isinstance(found.get(key), float))
        LOG.info("epoch %d of %d: %s", position.epoch, self.recipe.epochs, ", ".join(shown) or "no video was judged")
        if better:
            folder.written(
                BEST, lambda: self._write_weights(BEST, f"epoch {position.epoch}, validation {name} {value:.4f}", row)
            )


def freeze_norms(module: nn.Module) -> None:
    """Put all batch norms into inference mode."""
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.eval()
