"""What ends a training that has diverged."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


class DivergedError(RuntimeError):
    """A training whose loss or weights are no longer finite; the message says when, what, and what to do."""


def diverged(what: str, advice: str) -> DivergedError:
    return DivergedError(
        f"training has diverged: {what}. Begin again with a lower learning rate, and look for clips or images that are "
        f"not finite{'; ' + advice if advice else ''}"
    )


def not_finite(state: Mapping[str, Any]) -> str:
    """Names of the floating-point tensors in a state dict that are not finite, empty where all are.

    Waits for the device once.
    """
    tensors = {name: value for name, value in _tensors(state) if value.is_floating_point() and value.numel()}
    if not tensors:
        return ""
    device = next(iter(tensors.values())).device  # an optimiser counts its steps on the CPU
    finite = torch.stack([value.isfinite().all().to(device, non_blocking=True) for value in tensors.values()])
    wrong = [name for name, whole in zip(tensors, finite.tolist(), strict=True) if not whole]
    return ", ".join(wrong[:4]) + (f" and {len(wrong) - 4} more" if len(wrong) > 4 else "")


def _tensors(state: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(state, Tensor):
        yield name, state
    elif isinstance(state, Mapping):
        for key, value in state.items():
            yield from _tensors(value, f"{name}.{key}" if name else str(key))
