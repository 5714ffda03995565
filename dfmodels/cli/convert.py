"""Rewrite a checkpoint as safetensors that say which detector they belong to."""

import argparse
from pathlib import Path

import torch

import dfmodels
from dfmodels import weights
from dfmodels.cli.loading import add_model_arguments, check_path, format_settings, load_model, parse_settings
from dfmodels.detector import Detector
from dfmodels.registry import builder

EXAMPLE = "dfmodels convert checkpoint.tar stil.safetensors --model stil"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="IN", help="checkpoint of a published training script, or safetensors")
    parser.add_argument("target", metavar="OUT", help="file to write, .safetensors")
    add_model_arguments(parser)
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")


def run(options: argparse.Namespace) -> int:
    check_path("IN", options.source)
    check_path("OUT", options.target)
    source, target = Path(options.source), Path(options.target)
    settings = parse_settings(options.set, options.model)
    check_target(source, target, options.force)
    model = load_model(options.model, source, settings)
    meta = weights.read(source)[1]
    # of another program's file the verdicts shall say which it was
    notes = {"converted_from": f"{source.name}, SHA-256 {model.origin.sha256}"} if meta is None else meta.notes
    dfmodels.save(model, target, **notes)
    print(f"wrote {target}: {describe(model)}")
    return 0


def check_target(source: Path, target: Path, force: bool) -> None:
    """Raise ValueError unless `target` may be written."""
    if target.suffix.lower() != ".safetensors":
        raise ValueError(f"OUT must end in .safetensors, got {target}")
    if not target.parent.is_dir():
        raise ValueError(f"OUT must lie in a folder that exists, got {target}")
    if not target.exists():
        return
    if source.exists() and target.samefile(source):
        raise ValueError(f"OUT must not be IN, got {target} for both")
    if target.is_dir():
        raise ValueError(f"OUT must be a file, but {target} is a folder")
    if not force:
        raise ValueError(f"OUT must not exist, but {target} does; --force replaces it")


def describe(model: Detector) -> str:
    """Detector, number of parameters, and the options that are not its defaults, given or told by the file."""
    with torch.device("meta"):  # allocates and draws nothing
        defaults = builder(model.name)().config
    changed = {name: value for name, value in model.config.items() if name not in defaults or value != defaults[name]}
    parameters = sum(p.numel() for p in model.parameters())
    return f"{model.name}, {parameters:,} parameters, {format_settings(changed) or 'default options'}"
