"""The detectors that can be built, with their options."""

import argparse
import inspect

from dfmodels.registry import builder, list_models


def add(parser: argparse.ArgumentParser) -> None:
    pass


def run(options: argparse.Namespace) -> int:
    for name in list_models():
        build = builder(name)
        print(f"{name}: {(inspect.getdoc(build) or '').splitlines()[0]}")
        for option in inspect.signature(build).parameters.values():
            print(f"    {option.name} = {option.default!r}")
    return 0
