"""Names of detectors, and the builders behind them: ours, and those of other packages.

A package has its detectors found by an entry point of the group `dfmodels.detectors`, whose value is the module that
registers them.
"""

import difflib
import inspect
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from dfmodels import weights as files
from dfmodels.detector import Detector, check_detector

Builder = TypeVar("Builder", bound=Callable[..., Detector])
_BUILDERS: dict[str, Callable[..., Detector]] = {}
_IMPLIED_OPTIONS: dict[str, Callable[[Iterable[str]], dict[str, Any]]] = {}
ENTRY_POINTS = "dfmodels.detectors"
_awaiting: list[EntryPoint] | None = None  # None until a name is looked up
_loading = threading.RLock()  # a module may look up names while it is loaded


def register(
    name: str, *, implied_options: Callable[[Iterable[str]], dict[str, Any]] = lambda keys: {}
) -> Callable[[Builder], Builder]:
    """Make the decorated builder available as `dfmodels.build(name)`.

    Args:
        name: one that is not taken.
        implied_options: options that the keys of a published checkpoint tell, without what wrappers of torch put into
            them; defaults when it is loaded.

    Raises:
        TypeError: no name, or what is decorated cannot be called, or is a class other than a Detector.
        ValueError: the name is taken.
    """
    if not isinstance(name, str) or not name:  # here, or `@register` alone would put `decorate` in the place of a class
        raise TypeError(f"name must be the name to register, as in @register('mine'), got {name!r}")

    def decorate(builder: Builder) -> Builder:
        if not callable(builder) or (isinstance(builder, type) and not issubclass(builder, Detector)):
            raise TypeError(f"a builder must be a function that returns a Detector, or such a class, got {builder!r}")
        if name in _BUILDERS:
            raise ValueError(f"a detector named {name!r} is registered already")
        _BUILDERS[name] = builder
        _IMPLIED_OPTIONS[name] = implied_options
        return builder

    return decorate


def list_models() -> list[str]:
    """Registered names, sorted."""
    _load_other_packages()
    return sorted(_BUILDERS)


def builder(name: str) -> Callable[..., Detector]:
    """The builder registered as `name`; ValueError with the closest names if there is none."""
    _load_other_packages()
    if name not in _BUILDERS:
        raise ValueError(f"no detector is named {name!r}; {hint(name, list_models())}")
    return _BUILDERS[name]


def _load_other_packages() -> None:
    """Import what the entry points name, once; what cannot be is a warning."""
    global _awaiting
    with _loading:
        if _awaiting is None:
            _awaiting = list(entry_points(group=ENTRY_POINTS))
        while _awaiting:
            entry = _awaiting.pop(0)
            try:
                entry.load()
            except (Exception, SystemExit) as error:
                package = f" of {entry.dist.name} {entry.dist.version}" if entry.dist is not None else ""
                warnings.warn(
                    f"the detectors {entry.name!r}{package} are left out: {entry.value} cannot be loaded, "
                    f"{type(error).__name__}: {error}",
                    stacklevel=3,
                )


def check_options(name: str, options: Iterable[str]) -> None:
    """Raise TypeError with the closest options of the detector `name` for one that it does not have."""
    parameters = inspect.signature(builder(name)).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    known = list(parameters)
    for option in options:
        if option not in known:
            raise TypeError(f"{name} has no option {option!r}; {hint(option, known)}")


def hint(name: str, known: Sequence[str]) -> str:
    """The names that are like one that is not known, or all."""
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
        The detector on the CPU: with `weights` in evaluation mode, otherwise in training mode as torch builds it.

    Raises:
        ValueError: an unknown name, an option out of range, or a file that does not fit.
        TypeError: an unknown option, or a builder whose detector lacks something.
        FileNotFoundError: no such file.
    """
    builder(name)
    check_options(name, config)
    if weights is not None and backbone_weights is not None:
        raise ValueError("give weights or backbone_weights, not both: detector weights hold the backbone's")
    if weights is None:
        model = _construct(name, config)
        if backbone_weights is not None:
            files.load_backbone(model, files.read(backbone_weights)[0], backbone_weights)
        return model
    state, meta = files.read(weights)
    if meta is not None and meta.name != name:
        raise files.WeightsError(
            f"{weights} holds weights of {meta.name!r}, not of {name!r}; the file says so itself, name no other model"
        )
    if meta is not None:
        model = _construct_saved(meta, state, weights, config)
    else:
        model = _construct(name, {**_IMPLIED_OPTIONS[name](map(files.unwrapped, state)), **config})
    return _loaded(model, state, meta, weights)


def _loaded(model: Detector, state: Mapping[str, Tensor], meta: files.Meta | None, path: str | Path) -> Detector:
    """The detector with the weights of a file, in evaluation mode."""
    files.load_into(model, state, path)
    model.origin = files.origin(path, meta)
    return model.eval()


def _construct(name: str, config: dict[str, Any]) -> Detector:
    model = builder(name)(**config)
    check_detector(model)
    if model.name != name:
        raise TypeError(f"{type(model).__name__}.name must be {name!r}, as it is registered, got {model.name!r}")
    try:
        check_options(name, model.config)
    except TypeError as error:
        raise TypeError(f"config of {type(model).__name__} could not build it again: {error}") from error
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
    return _loaded(_construct_saved(meta, state, path, {}), state, meta, path)


def _construct_saved(
    meta: files.Meta, state: Mapping[str, Tensor], path: str | Path, config: Mapping[str, Any]
) -> Detector:
    """The detector that `save` wrote to `path`, but for options that the caller gives."""
    if meta.name not in list_models():
        raise files.WeightsError(
            f"{path} holds a detector {meta.name!r}, which is not registered here; import its module, or install the "
            f"package that it comes from (known: {', '.join(list_models())})"
        )
    try:
        check_options(meta.name, meta.config)
        if _asks_for(meta.name, meta.config) > sum(value.numel() for value in state.values()):
            raise ValueError("they make a larger detector than the file holds")
        return _construct(meta.name, {**meta.config, **config})
    except Exception as error:
        if config:
            raise
        raise files.WeightsError(
            f"{path} was written by dfops {meta.version} as {meta.name!r} with options unknown here: {error}"
        ) from error


def _asks_for(name: str, config: Mapping[str, Any]) -> int:
    """How many numbers a detector holds, found without memory for them: a damaged file may ask for more than there is.

    0 where the builder looks at values while it builds, so that nobody knows without building.
    """
    try:
        with torch.device("meta"):
            return sum(value.numel() for value in builder(name)(**config).state_dict().values())
    except (RuntimeError, NotImplementedError):
        return 0


import_module("dfmodels.detectors")  # which registers ours, before any other package could take their names
