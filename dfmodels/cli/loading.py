"""What several commands ask for: paths, and a detector out of a weights file on a device (--model, --set, --device)."""

import argparse
import ast
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

import torch

import dfops
from dfmodels.data.index import Video, limit, where
from dfmodels.detector import Detector
from dfmodels.registry import build, check_options, list_models, load
from dfmodels.training.recipe import Recipe, find_recipe
from dfmodels.weights import find


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help=f"detector: {', '.join(list_models())} (default: what the weights file says)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the detector --model, as `dfmodels list` shows them; may be repeated",
    )


def check_path(name: str, path: str | None) -> None:
    """Raise ValueError for an empty path, which would be the folder at hand."""
    if path == "":
        raise ValueError(f"{name} must be a path, got an empty one")


def add_ray(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ray",
        action="store_true",
        help="work on the Ray cluster of the variable RAY_ADDRESS, without it on one of this machine (extra `ray`)",
    )


@contextmanager
def output_of_results(ray: bool) -> Iterator[TextIO | None]:
    """The output, for results alone: what Ray prints into it meanwhile goes to the error stream."""
    output = sys.stdout
    with redirect_stdout(sys.stderr) if ray else nullcontext():
        yield output


def add_row_choice(parser: argparse.ArgumentParser) -> None:
    """Arguments that take some rows of an index, as `choose_rows` does."""
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="COLUMN=VALUE,...",
        help="take these rows only: compression=c23, method=real,Deepfakes; several columns behind commas or in turn",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="take N videos a class and split, for a trial")


def choose_rows(videos: Sequence[Video], options: argparse.Namespace) -> list[Video]:
    """The rows that the arguments of `add_row_choice` take; ValueError for none of that kind."""
    chosen = where(videos, parse_where(options.where))
    if not chosen:
        raise ValueError(f"--where {' '.join(options.where)} leaves no video; take fewer conditions")
    return chosen if options.limit is None else limit(chosen, options.limit)


def parse_where(texts: Sequence[str]) -> dict[str, list[str]]:
    """Wanted values by column, of COLUMN=VALUE,VALUE,COLUMN=VALUE; ValueError for another form."""
    wanted: dict[str, list[str]] = {}
    for text in texts:
        values: list[str] | None = None
        for part in text.split(","):
            column, equals, value = part.partition("=")
            if equals:
                values = wanted.setdefault(column.strip(), [])
            if values is None or (equals and not column.strip()):
                raise ValueError(f"--where must be COLUMN=VALUE,..., got {text!r}")
            values.append((value if equals else part).strip())
    return wanted


def parse_settings(texts: Sequence[str], name: str | None) -> dict[str, Any]:
    """Options of the detector `name` from NAME=VALUE; ValueError or TypeError for what it does not have."""
    if name is None:
        if texts:
            raise ValueError(f"--set {texts[0]} is an option of a detector; name it with --model")
        return {}
    settings = dict(_setting(text, "NAME=VALUE") for text in texts)
    check_options(name, settings)
    return settings


def add_recipe_settings(parser: argparse.ArgumentParser) -> None:
    """The argument whose values `parse_recipe` takes."""
    parser.add_argument(
        "--set",
        action="append",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="field of the recipe (`dfmodels train RECIPE --print` shows them), or model.KEY for an option of the "
        "detector",
    )


def parse_recipe(name: str, texts: Sequence[Sequence[str]]) -> Recipe:
    """The recipe `name` with the values of --set; ValueError for what it does not have."""
    settings = dict(_setting(text, "KEY=VALUE") for several in texts for text in several)
    return find_recipe(name).with_settings(settings)


def _setting(text: str, form: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(f"--set must be {form}, got {text!r}")
    return name, parse_value(value)


def parse_value(text: str) -> Any:
    """JSON or, as error messages write values, Python; anything else is a string."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):  # the last two for deep brackets
            continue
    return text


def parse_share(name: str, text: str) -> float:
    """A share from 0 to 1, as 0.05 or 5%; ValueError for anything else."""
    number, percent = text.removesuffix("%"), text.endswith("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"{name} must be a share such as 0.05 or 5%, got {text!r}")
    return share


def format_settings(config: dict[str, Any]) -> str:
    """Options as --set takes them, separated by commas."""
    return ", ".join(f"{name}={format_value(value)}" for name, value in config.items())


def format_value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def load_model(name: str | None, weights: str | Path, settings: dict[str, Any]) -> Detector:
    """The detector of a file of weights, or of the one in a folder, in evaluation mode."""
    weights = find(weights)
    if name is None:
        return load(weights)
    try:
        return build(name, weights=weights, **settings)
    except TypeError as error:  # a builder that met a value of another kind than it wants
        if not settings:
            raise
        raise ValueError(f"{name} cannot be built with --set {format_settings(settings)}: {error}") from error


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" is the GPU where torch and dfops can use one."""
    usable = torch.cuda.is_available() and dfops.cuda_loaded()
    if name == "auto":
        return torch.device("cuda" if usable else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"--device must be auto, cpu, cuda or cuda:N, got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"--device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and not usable:
        raise ValueError(f"--device {name}: no usable GPU; `python -m dfops.info` shows why, --device cpu always works")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"--device {name}: torch sees {torch.cuda.device_count()} GPU(s)")
    return device
