"""A page on this machine that judges the videos dropped on it."""

import argparse
import logging
import math
import shlex
from pathlib import Path
from typing import Any

from dfmodels.cli.score import add_judging, check_judging, load_judging, report_settings
from dfmodels.scoring import app
from dfmodels.scoring.rows import describe_run

LOG = logging.getLogger(__name__)
EXAMPLE = "dfmodels app --weights detector.safetensors"


def add(parser: argparse.ArgumentParser) -> None:
    add_judging(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="name or address to be reached by (default: 127.0.0.1, from this machine alone); there is no password",
    )
    parser.add_argument("--port", type=int, default=7860, metavar="N", help="0 for any that is free (default: 7860)")
    parser.add_argument(
        "--max-size", type=float, default=500, metavar="MB", help="largest video that is taken (default: 500)"
    )
    parser.add_argument(
        "--max-minutes", type=float, default=30, metavar="N", help="longest video that is taken (default: 30)"
    )


def run(options: argparse.Namespace) -> int:
    for name in ("max_size", "max_minutes"):
        value = getattr(options, name)
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"--{name.replace('_', '-')} must be above 0, got {value:g}")
    if not 0 <= options.port < 1 << 16:
        raise ValueError(f"--port must be from 0 to 65535, got {options.port}")
    if not options.host:
        raise ValueError("--host must be a name or an address, got an empty one")
    settings, num_clips = check_judging(options)
    model, faces = load_judging(options, settings)
    model.check_trained()
    rules: dict[str, Any] = {"num_clips": num_clips, "average": None, "select": options.select}
    made_by = describe_run(model, faces=faces.name, **rules)

    def make_desk(folder: Path) -> app.Desk:
        return app.Desk(
            model,
            folder,
            faces=faces,
            max_minutes=options.max_minutes,
            command=lambda name: command(options, name),
            settings=report_settings(made_by, device=options.device),
            **rules,
        )

    def ready(address: str) -> None:
        LOG.info("open this address in a browser; Ctrl-C ends it")
        print(address, flush=True)

    app.run(make_desk, host=options.host, port=options.port, max_bytes=int(options.max_size * 2**20), ready=ready)
    return 0


def command(options: argparse.Namespace, name: str) -> str:
    """What gives the verdict of the page about a video of this name on a command line."""
    given = {"--model": options.model, "--weights": options.weights, "--clips": options.clips}
    words: list[Any] = [part for pair in given.items() if pair[1] is not None for part in pair]
    words += [part for setting in options.set for part in ("--set", setting)]
    words += ["--faces", options.faces, "--select", options.select]
    # a name that begins with a hyphen would be an option
    return shlex.join(["dfmodels", "score", *words, "--", name])
