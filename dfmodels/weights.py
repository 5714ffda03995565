"""Detector weights in files: our safetensors, with all that builds the detector again, and published checkpoints."""

import argparse
import json
import os
import pickle
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dfmodels.detector import Detector, Published

# published key -> our key, and the index of the published tensor in ours where several are kept in one
Layout = dict[str, tuple[str, tuple[int, ...]]]

PARAMETERS = {name: name for name in ("weight", "bias")}
NORM = {name: name for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}

_META = "dfmodels"
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_PART_PREFIXES = ("module.", "model.", "backbone.")
_COUNTER = "num_batches_tracked"  # missing in files written before torch 0.4.1
_MOST_LISTED = 8


def renamed(published: str, ours: str, leaves: dict[str, str]) -> Layout:
    """Tensors `leaves` (published -> ours) of one module."""
    return {f"{published}.{a}": (f"{ours}.{b}", ()) for a, b in leaves.items()}


def inside(published: str, ours: str, layout: Layout) -> Layout:
    """`layout` with prefixes in front of both names."""
    return {published + key: (ours + our_key, index) for key, (our_key, index) in layout.items()}


class WeightsError(ValueError):
    """A file does not hold the weights asked for; the message names the file and what differs."""


@dataclass(frozen=True)
class Meta:
    """What `save` writes beside the tensors: registered name, options, input contract, library version, and notes."""

    name: str
    config: dict[str, Any]
    contract: dict[str, Any]
    version: str
    notes: dict[str, Any]


def save(model: Detector, path: str | Path, **notes: Any) -> None:
    """Write a detector as safetensors with its name, options, input contract and the library version.

    Args:
        model: a detector from `build` or `load`, on any device.
        path: file to write; an existing one is replaced only once the new one is complete.
        notes: further facts to keep (JSON values): training data, licence, scores.

    Raises:
        ValueError: the model has no trained weights: a file of random ones would be taken for a detector; or it is an
            optimized copy, which could not be trained on.
        OSError: the file cannot be written.
    """
    from dfops import __version__

    if model.optimized:
        raise ValueError("an optimized detector cannot be saved; save the model it was made from")
    if not model.trained:
        raise ValueError(
            f"this {model.name} detector has random weights; saved, they would be taken for a detector. "
            "Train or load it first (after a training loop of your own set model.trained = True)"
        )
    meta = Meta(model.name, model.config, model.contract.as_dict(), __version__, notes)
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    path = Path(path)
    partial = path.with_name(path.name + ".part")
    try:
        save_file(tensors, partial, metadata={_META: json.dumps(meta.__dict__)})
        os.replace(partial, path)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def read(path: str | Path) -> tuple[dict[str, Tensor], Meta | None]:
    """Tensors of a file by key, and what `save` wrote about them, if it did.

    Raises:
        WeightsError: neither safetensors nor a pickle that holds tensors alone.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights file {path} {'is a folder' if path.is_dir() else 'does not exist'}")
    meta = None
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt") as file:
                text = (file.metadata() or {}).get(_META)
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            meta = Meta(**json.loads(text)) if text else None
        except (SafetensorError, json.JSONDecodeError, TypeError, OSError) as error:
            raise WeightsError(f"{path} is not a readable safetensors file: {error}") from error
    else:
        state = _state_dict(path)
    return state, meta


def unpickle(path: str | Path, device: str | torch.device = "cpu") -> Any:
    """What a file of tensors and plain values holds; WeightsError for any other file."""
    try:
        # training scripts keep their arguments beside the weights; a namespace of plain values runs nothing
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, OSError) as error:
        raise WeightsError(
            f"{path} is not a checkpoint of tensors alone (weights_only=True: code in a file never runs); "
            f"{_reason(error)}"
        ) from error


def _state_dict(path: Path) -> dict[str, Tensor]:
    content = unpickle(path)
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{path} must hold a state dict (key -> tensor), got {type(content).__name__}")
    return {str(key): value for key, value in content.items()}


def _reason(error: Exception) -> str:
    """What torch says of the file, without its advice to load it unsafely."""
    text = str(error).split("WeightsUnpickler error:")[-1].strip().split("\n")[0]
    return f"{type(error).__name__}: {text.split(' Please use')[0]}"


def load_into(model: Published, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Load every tensor of `state`, in our layout or the published one, or raise WeightsError with all differences."""
    ours = model.state_dict()
    own_layout: Layout = {key: (key, ()) for key in ours}
    published = model.published_layout()
    state = _without_prefixes(state, own_layout.keys() | published.keys(), model.published_prefixes)
    backbone = _backbone_layout(model, state)
    own_parts = {key for key in published.keys() - backbone.keys() if not model.backbone_leaves_out(key)}
    if backbone and backbone.keys() <= state.keys() and not own_parts & state.keys():
        raise WeightsError(
            f"{source} holds weights of the backbone alone, not of a {model.name} detector, so it gives no verdict; to "
            f'start a training from it: dfmodels.build("{model.name}", backbone_weights={str(source)!r})'
        )
    layout = max(own_layout, published, key=lambda keys: len(keys.keys() & state.keys()))
    if layout is published:
        state = {key: value for key, value in state.items() if key in layout or not model.published_leaves_out(key)}
    problems = _differences(ours, layout, state)
    if problems:
        raise WeightsError(f"{source} does not fit {model.name} with options {model.config}:\n" + "\n".join(problems))
    model.load_state_dict(convert(model, layout, state))


def load_backbone(model: Published, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Load the backbone out of a file of it alone, or raise WeightsError with all differences; not trained by that."""
    state = _without_prefixes(state, model.backbone_layout(), model.published_prefixes)
    layout = _backbone_layout(model, state)
    if not layout:
        raise WeightsError(f"{model.name} knows no backbone weights; leave backbone_weights out")
    state = {key: value for key, value in state.items() if key in layout or not model.backbone_leaves_out(key)}
    load_part(model, layout, state, source, f"the backbone of {model.name}")


def load_part(module: nn.Module, layout: Layout, state: Mapping[str, Tensor], source: str | Path, what: str) -> None:
    """Load a file of a part of `module`, called `what`, or raise WeightsError with all differences.

    Prefixes of wrappers may stand in front of its keys, and counters of batches may be missing.
    """
    state = _without_prefixes(state, layout, _PART_PREFIXES)
    layout = {key: place for key, place in layout.items() if key in state or not key.endswith(_COUNTER)}
    problems = _differences(module.state_dict(), layout, state)
    if problems:
        raise WeightsError(f"{source} does not fit {what}:\n" + "\n".join(problems))
    converted = convert(module, layout, state)
    module.load_state_dict({our_key: converted[our_key] for our_key, _ in layout.values()}, strict=False)


def _backbone_layout(model: Published, state: Mapping[str, Tensor]) -> Layout:
    layout = model.backbone_layout()
    return {key: place for key, place in layout.items() if key in state or not key.endswith(_COUNTER)}


def _without_prefixes(
    state: Mapping[str, Tensor], known: Collection[str], prefixes: tuple[str, ...]
) -> dict[str, Tensor]:
    """`state` with prefixes stripped from the front of keys until the key is known or has none."""
    result = {}
    for key, value in state.items():
        name = key
        while name not in known and name.startswith(prefixes):
            name = name.split(".", 1)[1]
        result[name] = value
    return result


def convert(module: nn.Module, layout: Layout, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of `module` from one in `layout`; fitting it is the caller's business."""
    converted = {key: torch.empty_like(value) for key, value in module.state_dict().items()}
    for key, (our_key, index) in layout.items():
        target = converted[our_key][index]
        target.copy_(state[key].reshape(target.shape))
    return converted


def _differences(ours: Mapping[str, Tensor], layout: Layout, state: Mapping[str, Tensor]) -> list[str]:
    shapes = {key: ours[our_key][index].shape for key, (our_key, index) in layout.items()}
    wrong = [
        f"{key} {tuple(state[key].shape)}, expected {tuple(shape)}"
        for key, shape in shapes.items()
        if key in state and _core(state[key].shape) != _core(shape)
    ]
    found = {
        "missing": [key for key in layout if key not in state],
        "unexpected": [key for key in state if key not in layout],
        "wrongly shaped": wrong,
    }
    lines = []
    for kind, names in found.items():
        if names:
            more = f", and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
            lines.append(f"  {len(names)} {kind}: {', '.join(names[:_MOST_LISTED])}{more}")
    return lines


def _core(shape: torch.Size) -> list[int]:
    # the published layout writes matrices as 1x1 convolutions
    return [n for n in shape if n != 1]
