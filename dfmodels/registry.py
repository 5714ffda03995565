"""Names of detectors, and the builders behind them."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from dfmodels import weights as files
from dfmodels.detector import Detector

Builder = TypeVar("Builder", bound=Callable[..., Detector])
_BUILDERS: dict[str, Callable[..., Detector]] = {}


def register(name: str) -> Callable[[Builder], Builder]:
    """Make the decorated builder available as `dfmodels.build(name)`."""

    def decorate(builder: Builder) -> Builder:
        if name in _BUILDERS:
            raise ValueError(f"a detector named {name!r} is registered already")
        _BUILDERS[name] = builder
        return builder

    return decorate


def list_models() -> list[str]:
    """Registered names, sorted."""
    return sorted(_BUILDERS)


def builder(name: str) -> Callable[..., Detector]:
    """The builder registered as `name`; ValueError with the closest names if there is none."""
    if name not in _BUILDERS:
        close = difflib.get_close_matches(str(name), _BUILDERS, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"known: {', '.join(list_models())}"
        raise ValueError(f"no detector is named {name!r}; {hint}")
    return _BUILDERS[name]


def build(name: str, *, weights: str | Path | None = None, **config: Any) -> Detector:
    """Build a detector.

    Args:
        name: one of `list_models()`.
        weights: file to load, written by `save` or in the published layout, .safetensors or a pickle of tensors. None
            leaves random weights: nothing is ever downloaded.
        config: options of the builder; with a file written by `save`, its options are the defaults.

    Returns:
        The detector on the CPU, in training mode as torch builds it.

    Raises:
        ValueError: an unknown name, an option out of range, or a file that does not fit.
        TypeError: an unknown option.
        FileNotFoundError: no such file.
    """
    construct = builder(name)
    if weights is None:
        return construct(**config)
    state, meta = files.read(weights)
    if meta is not None:
        if meta.name != name:
            raise files.WeightsError(f"{weights} holds weights of {meta.name!r}, not of {name!r}")
        config = {**meta.config, **config}
    model = construct(**config)
    files.load_into(model, state, weights)
    return model


def load(path: str | Path) -> Detector:
    """Build the detector saved in `path`, with its weights, in evaluation mode on the CPU.

    Raises:
        ValueError: a file that `dfmodels.save` did not write; `build(name, weights=path)` reads published checkpoints.
        FileNotFoundError: no such file.
    """
    state, meta = files.read(path)
    if meta is None:
        raise files.WeightsError(
            f"{path} does not say which detector it belongs to; name it: dfmodels.build(name, weights={str(path)!r})"
        )
    try:
        model = builder(meta.name)(**meta.config)
    except TypeError as error:
        raise files.WeightsError(
            f"{path} was written by dfops {meta.version} with options unknown here: {error}"
        ) from error
    files.load_into(model, state, path)
    return model.eval()
