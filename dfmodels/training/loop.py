"""A plain training loop over labelled clips."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from dfmodels.detector import Detector


def fit(
    model: Detector,
    clips: Dataset[tuple[Tensor, int]],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int = 0,
    progress: Callable[[float], object] | None = None,
) -> None:
    """Train `model` on its own device with cross-entropy, AdamW and a one-cycle schedule; marks it as trained.

    Args:
        model: a detector.
        clips: (clip (T, 3, H, W), label) pairs, label 0 real, 1 fake; normalised as the detector's contract says.
        epochs: passes over the clips.
        batch_size: clips a step; an incomplete last batch is left out.
        learning_rate: highest rate of the cycle.
        seed: of the order of the clips.
        progress: called after each step with its loss.

    Raises:
        ValueError: fewer clips than a batch.
    """
    num_clips = len(clips)  # type: ignore[arg-type]
    if num_clips < batch_size:
        raise ValueError(f"clips must hold at least one batch of {batch_size}, got {num_clips}")
    device = next(model.parameters()).device
    steps = num_clips // batch_size
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * steps)
    order = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(epochs):
        shuffled = torch.randperm(num_clips, generator=order).tolist()
        for step in range(steps):
            batch = [clips[i] for i in shuffled[step * batch_size : (step + 1) * batch_size]]
            images = torch.stack([clip for clip, _ in batch]).to(device)
            labels = torch.tensor([label for _, label in batch], device=device)
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if progress is not None:
                progress(loss.item())
    model.trained = True
    model.eval()
