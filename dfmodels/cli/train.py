"""Train a detector by a published recipe."""

import argparse
import logging
import os
import shlex
from pathlib import Path

from dfmodels.cli.loading import (
    add_recipe_settings,
    add_row_choice,
    check_path,
    choose_device,
    choose_rows,
    parse_recipe,
    parse_share,
)
from dfmodels.training.recipe import list_recipes

LOG = logging.getLogger(__name__)
EXAMPLE = "dfmodels train stil --data videos.csv --cache crops/ --out runs/stil --set epochs=20 model.size=128"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help=f"what is trained, and how: {', '.join(list_recipes())}")
    parser.add_argument("--data", metavar="DATA", help="index of `dfmodels index`, or the root of a data set")
    parser.add_argument(
        "--cache", metavar="DIR", help="crops of `dfmodels prepare` (default: films are decoded as needed)"
    )
    parser.add_argument("--out", metavar="DIR", help="folder of the run: weights, state, curves, model card")
    add_recipe_settings(parser)
    parser.add_argument("--resume", action="store_true", help="go on in --out after the last state that was saved")
    parser.add_argument("--print", action="store_true", help="show the recipe as it would be used, and end")
    parser.add_argument(
        "--faces",
        metavar="HOW",
        help="as for `score`, or none: the frames are face crops already (default: what the cache has, else auto)",
    )
    parser.add_argument("--seed", type=int, help="the same as --set seed=N")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")
    parser.add_argument(
        "--max-bad",
        default="1%",
        metavar="SHARE",
        help="share of the videos that may be unreadable before the training ends, as 0.05 or 5%% (default: 1%%)",
    )
    add_row_choice(parser)


def run(options: argparse.Namespace) -> int:
    from dfmodels.data.crops import CropSource
    from dfmodels.data.index import load_videos
    from dfmodels.data.prepare import TooManyFailedError
    from dfmodels.optional import require
    from dfmodels.training.engine import train
    from dfmodels.training.run import FAILED
    from dfmodels.weights import find

    recipe = parse_recipe(options.recipe, options.set)
    if options.seed is not None:
        recipe = recipe.with_settings({"seed": options.seed})
    if options.print:
        yaml = require("yaml", "showing a recipe")
        print(yaml.safe_dump(recipe.as_dict(), sort_keys=False, allow_unicode=True), end="")
        return 0
    for name in ("data", "out"):
        if getattr(options, name) is None:
            raise ValueError(f"--{name} is missing; only --print does without it")
    for name in ("data", "out", "cache"):
        check_path(f"--{name}", getattr(options, name))
    max_bad = parse_share("--max-bad", options.max_bad)
    device = choose_device(options.device)
    videos = choose_rows(load_videos(options.data), options)
    crops = CropSource(options.faces, cache=options.cache)
    try:
        failed = train(
            recipe,
            videos,
            options.out,
            crops=crops,
            resume=options.resume,
            device=options.device if options.device == "auto" else device,
            max_bad=max_bad,
            command=options.typed,
        )
    except TooManyFailedError as error:
        LOG.error("dfmodels train: %s; --max-bad lets more of them fail", error)
        return 1
    if failed:
        LOG.warning("videos that could not be read: %d; %s says why", len(failed), Path(options.out) / FAILED)
    if os.environ.get("RANK", "0") == "0":  # of several processes the one that writes
        tested = any(video.split == "test" for video in videos)
        print(f"weights in {find(options.out)}" + (f"; {_next(options)} judges them" if tested else ""))
    return 1 if failed else 0


def _next(options: argparse.Namespace) -> str:
    """The command that judges the run on the split test."""
    report = str(options.out).rstrip("/") + "-report"
    words = ["dfmodels", "evaluate", options.out, "--data", options.data, "--out", report]
    for name in ("faces", "cache"):
        value = getattr(options, name)
        words += [] if value is None else [f"--{name}", value]
    for rows in options.where:
        words += ["--where", rows]
    return shlex.join(words)
