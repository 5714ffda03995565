"""Names of detectors, and the builders behind them."""

import difflib
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from dfmodels import weights as files
from dfmodels.detector import Detector

Builder = TypeVar("Builder", bound=Callable[..., Detector])
_BUILDERS: dict[str, Callable[..., Detector]] = {}
_IMPLIED_OPTIONS: dict[str, Callable[[Iterable[str]], dict[str, Any]]] = {}


def register(
    name: str, *, implied_options: Callable[[Iterable[str]], dict[str, Any]] = lambda keys: {}
) -> Callable[[Builder], Builder]:
    """Make the decorated builder available as `dfmodels.build(name)`.

    Args:
        name: one that is not taken.
        implied_options: options that the keys of a published checkpoint tell; defaults when it is loaded.
    """

    def decorate(builder: Builder) -> Builder:
        if name in _BUILDERS:
            raise ValueError(f"a detector named {name!r} is registered already")
        _BUILDERS[name] = builder
        _IMPLIED_OPTIONS[name] = implied_options
        return builder

    return decorate


def list_models() -> list[str]:
    """Registered names, sorted."""
    return sorted(_BUILDERS)


def builder(name: str) -> Callable[..., Detector]:
    """The builder registered as `name`; ValueError with the closest names if there is none."""
    if name not in _BUILDERS:
        raise ValueError(f"no detector is named {name!r}; {_hint(name, list_models())}")
    return _BUILDERS[name]


def check_options(name: str, options: Iterable[str]) -> None:
    """Raise TypeError with the closest options of the detector `name` for one that it does not have."""
    known = list(inspect.signature(builder(name)).parameters)
    for option in options:
        if option not in known:
            raise TypeError(f"{name} has no option {option!r}; {_hint(option, known)}")


def _hint(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else f"known: {', '.join(known)}"


def build(
    name: str, *, weights: str | Path | None = None, backbone_weights: str | Path | None = None, **config: Any
) -> Detector:
    """Build a detector.

    Args:
        name: one of `list_models()`.
        weights: file to load, written by `save` or in the published layout, .safetensors or a pickle of tensors. None
            leaves random weights: nothing is ever downloaded.
        backbone_weights: file of the backbone alone (ImageNet) to start a training from; all else stays random, and the
            detector untrained.
        config: options of the builder; with a file written by `save`, its options are the defaults.

    Returns:
        The detector on the CPU, in training mode as torch builds it.

    Raises:
        ValueError: an unknown name, an option out of range, or a file that does not fit.
        TypeError: an unknown option.
        FileNotFoundError: no such file.
    """
    construct = builder(name)
    check_options(name, config)
    if weights is not None and backbone_weights is not None:
        raise ValueError("give weights or backbone_weights, not both: detector weights hold the backbone's")
    if weights is None:
        model = construct(**config)
        if backbone_weights is not None:
            files.load_backbone(model, files.read(backbone_weights)[0], backbone_weights)
        return model
    state, meta = files.read(weights)
    if meta is not None and meta.name != name:
        raise files.WeightsError(f"{weights} holds weights of {meta.name!r}, not of {name!r}")
    defaults = meta.config if meta is not None else _IMPLIED_OPTIONS[name](state)
    model = construct(**{**defaults, **config})
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
            f"{path} does not say which detector it belongs to; name it: dfmodels.build(name, weights={str(path)!r}), "
            "or --model NAME on the command line"
        )
    try:
        model = builder(meta.name)(**meta.config)
    except TypeError as error:
        raise files.WeightsError(
            f"{path} was written by dfops {meta.version} with options unknown here: {error}"
        ) from error
    files.load_into(model, state, path)
    return model.eval()
