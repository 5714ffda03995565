"""Versions, build and kernels of dfops, and the detectors."""

import argparse

import dfmodels
from dfops.info import report

EXAMPLE = "dfmodels info"


def add(parser: argparse.ArgumentParser) -> None:
    pass


def run(options: argparse.Namespace) -> int:
    print(report())
    print(f"\ndetectors        {', '.join(dfmodels.list_models())}")
    return 0
