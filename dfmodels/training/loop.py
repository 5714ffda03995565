"""A plain training loop over labelled clips."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from dfmodels.detector import Origin
from dfmodels.options import check_number
from dfmodels.training.divergence import diverged, not_finite
from dfmodels.weights import unwrap

CHECK_EVERY = 100  # steps from one look at the losses to the next: each waits for the device


class Losses:
    """The losses of an epoch, summed on their device, which a step does not wait for; read every CHECK_EVERY steps.

    Args:
        epoch: number of the epoch, for the error.
        advice: what the caller has to say about what is left of the training.
    """

    def __init__(self, epoch: int, advice: str = "") -> None:
        self.epoch, self.advice = epoch, advice
        self.steps = 0
        self._names: tuple[str, ...] = ()

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Take the losses of a step.

        Raises:
            DivergedError: one of a step up to this one was not finite; found with the next look.
        """
        values = torch.stack([value.detach().double() for value in losses.values()])
        if not self._names:
            self._names = tuple(losses)
            self._sums, self._first = torch.zeros_like(values), torch.zeros_like(values)
            self._step, self._first_step = torch.zeros_like(values[0]), torch.zeros_like(values[0])
        self._sums += values
        self._step += 1
        first = ~values.isfinite().all() & (self._first_step == 0)
        self._first = torch.where(first, values, self._first)
        self._first_step = torch.where(first, self._step, self._first_step)
        self.steps += 1
        if self.steps % CHECK_EVERY == 0:
            self.means()

    def means(self) -> dict[str, float]:
        """Mean of every loss so far.

        Raises:
            DivergedError: one of them was not finite.
        """
        step, *values = torch.cat([self._first_step[None], self._first, self._sums]).tolist()
        first, sums = values[: len(self._names)], values[len(self._names) :]
        if step:
            shown = ", ".join(f"{name} {value:.4g}" for name, value in zip(self._names, first, strict=True))
            raise diverged(
                f"the loss of step {int(step)} of epoch {self.epoch + 1} is not finite: {shown}", self.advice
            )
        return {name: total / self.steps for name, total in zip(self._names, sums, strict=True)}


def check_state(state: Mapping[str, Any], epoch: int, advice: str = "") -> None:
    """Raise DivergedError unless all floating-point tensors of a state dict, of a model or an optimiser, are finite.

    A loss tells of the weights before its step, so the last step of an epoch is judged by this. Waits for the device
    once.
    """
    if wrong := not_finite(state):
        raise diverged(f"epoch {epoch + 1} ends with values that are not finite in {wrong}", advice)


def fit(
    model: nn.Module,
    clips: Dataset[tuple[Tensor, int]],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int = 0,
    progress: Callable[[float], object] | None = None,
) -> None:
    """Train `model` on its own device with cross-entropy, AdamW and a one-cycle schedule; marks it as trained.

    While it trains, and where it does not come to its end, the model counts as untrained. Without `progress` losses are
    read from the device every CHECK_EVERY steps and at the end of an epoch.

    Args:
        model: a detector, or one inside the wrappers that `dfmodels.save` takes, through which it is then trained.
        clips: (clip (T, 3, H, W), label) pairs, label 0 real, 1 fake; normalised as the detector's contract says.
        epochs: passes over the clips, at least 1.
        batch_size: clips a step; an incomplete last batch is left out.
        learning_rate: highest rate of the cycle, above 0.
        seed: of the order of the clips.
        progress: called after each step with its loss.

    Raises:
        ValueError: fewer clips than a batch, a label that is no class, or another argument out of range.
        TypeError: no detector.
        DivergedError: a loss or weights that are not finite.
    """
    detector = unwrap(model)
    num_clips = len(clips)  # type: ignore[arg-type]
    check_plan(epochs, batch_size)
    if num_clips < batch_size:
        raise ValueError(f"clips must hold at least one batch of {batch_size}, got {num_clips}")
    check_number("learning_rate", learning_rate, lambda rate: rate > 0, "above 0")
    device = next(model.parameters()).device
    steps = num_clips // batch_size
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * steps)
    order = torch.Generator().manual_seed(seed)
    model.train()
    detector.trained, detector.origin = False, Origin()
    for epoch in range(epochs):
        shuffled = torch.randperm(num_clips, generator=order).tolist()
        losses = Losses(epoch)
        for step in range(steps):
            batch = [clips[i] for i in shuffled[step * batch_size : (step + 1) * batch_size]]
            images = torch.stack([clip for clip, _ in batch]).to(device)
            logits = model(images)
            labels = torch.tensor([check_label(label, logits.shape[1]) for _, label in batch], device=device)
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.add({"overall": loss})
            if progress is not None:
                progress(loss.item())
        losses.means()
    check_state(model.state_dict(), epochs - 1)
    detector.trained = True
    model.eval()


def check_plan(epochs: int, batch_size: int) -> None:
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def check_label(label: Any, num_classes: int) -> int:
    """A label as a Python number; ValueError for what is no class: on a GPU it would end the process."""
    try:
        number = operator.index(label)
    except TypeError:
        number = -1
    if not 0 <= number < num_classes:
        raise ValueError(f"label must be a whole number from 0 (real) to {num_classes - 1}, got {label!r}")
    return number
