"""The detectors that can be built, with their options."""

import argparse
import inspect

from dfmodels.cli.loading import format_settings
from dfmodels.registry import builder, list_models

EXAMPLE = "dfmodels list"


def add(parser: argparse.ArgumentParser) -> None:
    pass


def run(options: argparse.Namespace) -> int:
    for name in list_models():
        build = builder(name)
        print(f"{name}: {(inspect.getdoc(build) or 'no description').splitlines()[0]}")
        for option in inspect.signature(build).parameters.values():
            given = option.default is option.empty
            print(f"    {option.name if given else format_settings({option.name: option.default})}")
    return 0
