"""Training of LSDA: epochs over groups of images, with checkpoints to go on from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from dfmodels import weights
from dfmodels.data.samples import Samples
from dfmodels.detector import Origin
from dfmodels.files import atomic_write, writable_folder
from dfmodels.training.loop import Losses, check_plan, check_state
from dfmodels.training.objectives.lsda import LSDADistillation
from dfmodels.training.recipes.lsda import LSDA


def distill(
    training: LSDADistillation,
    groups: Samples,
    *,
    epochs: int,
    batch_size: int = 4,
    optimizer: Optimizer | None = None,
    seed: int = 0,
    num_workers: int = 0,
    checkpoint: str | Path | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> list[dict[str, float]]:
    """Train the student of `training` on its own device, and mark it as trained.

    Order of the groups and all random draws of an epoch follow from `seed` and the number of the epoch, so a training
    that was cut off and one that was not end alike. Losses are read from the device once an epoch, in a long one every
    CHECK_EVERY steps; where one is not finite the training ends, and `checkpoint` holds the epoch before. While it
    trains, and where it does not come to its end, the student counts as untrained.

    Args:
        training: forward and losses.
        groups: samples whose `images` are (D + 1, 3, H, W), as of `dfmodels.data.ForgeryGroups`.
        epochs: passes over the groups, at least 1, those of earlier calls that `checkpoint` holds among them.
        batch_size: groups a step; an incomplete last batch is left out.
        optimizer: of the parameters of `training`; by default the one of the recipe.
        seed: of order and draws.
        num_workers: processes that load images; 0 loads them in this one.
        checkpoint: file to write after every epoch, and to go on from if it exists.
        progress: called after each step with the number of steps done and of all, earlier epochs among both.

    Returns:
        The mean of every loss over each epoch, earlier ones among them.

    Raises:
        ValueError: fewer groups than a batch, a number below 1, or a checkpoint of another training.
        DivergedError: a loss, a weight or the state of the optimiser is not finite.
    """
    check_plan(epochs, batch_size)
    steps = len(groups) // batch_size
    if steps < 1:
        raise ValueError(f"groups must hold at least one batch of {batch_size}, got {len(groups)}")
    optimizer = LSDA().optimizer(training) if optimizer is None else optimizer
    device = next(training.parameters()).device
    history: list[dict[str, float]] = []
    if checkpoint is not None:
        writable_folder("the folder of checkpoint", Path(checkpoint).parent)
    if checkpoint is not None and Path(checkpoint).exists():
        history = resume(training, optimizer, checkpoint)
    training.train()
    training.student.trained, training.student.origin = False, Origin()
    for epoch in range(len(history), epochs):
        order = torch.Generator().manual_seed(_seed(seed, epoch))
        draws = torch.Generator(device).manual_seed(_seed(seed, epoch))
        groups.set_epoch(epoch)
        loader = DataLoader(
            groups, batch_size, shuffle=True, drop_last=True, generator=order, num_workers=num_workers
        )  # fmt: skip
        kept = "" if checkpoint is None or epoch == 0 else f"{checkpoint} holds epoch {epoch}, the last whole one"
        sums = Losses(epoch, kept)
        with torch.random.fork_rng():
            torch.manual_seed(_seed(seed, epoch))  # stochastic depth has no generator of its own
            for step, batch in enumerate(loader):
                losses = training({"images": batch["images"].to(device, non_blocking=True)}, draws)
                optimizer.zero_grad()
                losses["overall"].backward()
                optimizer.step()
                sums.add(losses)
                if progress is not None:
                    progress(epoch * steps + step + 1, epochs * steps)
        history.append(sums.means())
        state = {**training.state_dict(), "optimizer": optimizer.state_dict()}
        check_state(state, epoch, kept)
        if checkpoint is not None:
            _write(training, optimizer, history, Path(checkpoint))
    training.eval()
    training.student.trained = True
    return history


def _seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def _write(training: LSDADistillation, optimizer: Optimizer, history: list[dict[str, float]], path: Path) -> None:
    content = {
        "state_dict": training.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": history,
    }
    with atomic_write(path) as partial:
        torch.save(content, partial)


def resume(training: LSDADistillation, optimizer: Optimizer, path: str | Path) -> list[dict[str, float]]:
    """Put back what `distill` wrote to `path`, and return its history.

    Raises:
        ValueError: a file that holds something else, or another training.
    """
    device = next(training.parameters()).device
    content: Any = weights.unpickle(path, device)
    if not isinstance(content, dict) or not content.keys() >= {"state_dict", "optimizer", "history"}:
        raise ValueError(f"checkpoint {path} was not written by a training of lsda; name another file to begin anew")
    history = content["history"]
    try:
        training.load_state_dict(content["state_dict"])
        optimizer.load_state_dict(content["optimizer"])
        if not isinstance(history, list) or not all(isinstance(losses, dict) for losses in history):
            raise ValueError(f"history must be a list of the losses of each epoch, got {history!r:.100}")
    except Exception as error:  # of a damaged file, anything
        raise ValueError(
            f"checkpoint {path} holds another training; name another file to begin anew. {error}"
        ) from error
    return history
