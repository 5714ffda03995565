"""Decode videos, find the faces and keep the crops, so that training has to do neither."""

import argparse
import logging
from pathlib import Path

import torch

from dfmodels.cli.loading import (
    add_ray,
    add_recipe_settings,
    add_row_choice,
    check_path,
    choose_rows,
    output_of_results,
    parse_recipe,
    parse_share,
)
from dfmodels.data.cache import FAILED, CropCache
from dfmodels.data.index import load_videos
from dfmodels.data.plan import FramePlan
from dfmodels.data.prepare import CropJob, Prepared, TooManyFailedError, in_bytes, prepare_crops
from dfmodels.progress import progress_bar
from dfmodels.registry import build
from dfmodels.training.recipe import list_recipes
from dfmodels.video.people import SELECT

LOG = logging.getLogger(__name__)
EXAMPLE = "dfmodels prepare videos.csv --model stil --cache crops/"
MARGIN = 1.5  # the widest that a recipe draws


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("videos", metavar="DATA", help="index of `dfmodels index`, or the root of a data set")
    parser.add_argument(
        "--model",
        required=True,
        metavar="RECIPE",
        help=f"what is to be trained, as for `train`: {', '.join(list_recipes())}",
    )
    add_recipe_settings(parser)
    parser.add_argument("--cache", required=True, metavar="DIR", help="folder of the crops; made if it is not there")
    parser.add_argument(
        "--faces",
        metavar="HOW",
        help="as for `score`: auto, yunet[:MODEL.onnx], centerface[:MODEL.onnx], haar, boxes:FILE.json, or none: the "
        "frames are face crops already (default: what the cache has, of a new one auto)",
    )
    parser.add_argument("--select", choices=list(SELECT), help="whose face (default: that of the cache, else largest)")
    parser.add_argument(
        "--margin",
        type=float,
        metavar="M",
        help=f"widest margin that crops can be cut with (default: that of the cache, else {MARGIN})",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")
    add_ray(parser)
    parser.add_argument(
        "--max-bad",
        default="1%",
        metavar="SHARE",
        help="share of the videos that may fail before the command ends, as 0.05 or 5%% (default: 1%%)",
    )
    add_row_choice(parser)


def run(options: argparse.Namespace) -> int:
    for name in ("videos", "cache"):
        check_path("DATA" if name == "videos" else f"--{name}", getattr(options, name))
    max_bad = parse_share("--max-bad", options.max_bad)
    if options.workers is not None and options.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {options.workers}")
    recipe = parse_recipe(options.model, options.set)
    with torch.device("meta"):  # nothing is computed with it
        contract = build(recipe.detector, **recipe.model).contract
    widest = max(contract.margin, *(recipe.margins or ()), 0)
    margin = widest if options.margin is None and widest > MARGIN else options.margin
    videos = choose_rows(load_videos(options.videos), options)
    cache = CropCache.open(options.cache, faces=options.faces, select=options.select, margin=margin)
    cache.check(None, margin=widest)
    jobs = [
        CropJob(video, contract, recipe.plan(video, contract) if video.split == "train" else FramePlan.of(contract))
        for video in videos
    ]
    written = 0
    with output_of_results(options.ray), progress_bar(total=len(jobs), unit="video") as bar:

        def show(prepared: Prepared) -> None:
            nonlocal written
            written += prepared.bytes
            if not prepared.seconds:  # it was there, and says nothing of the rate
                bar.initial = getattr(bar, "initial", 0) + 1
            bar.update()

        try:
            failed = prepare_crops(
                jobs, cache, workers=options.workers, ray=options.ray, max_bad=max_bad, progress=show
            )
        except TooManyFailedError as error:
            LOG.error("dfmodels prepare: %s; --max-bad lets more of them fail", error)
            return 1
    done = (
        f"{len(jobs) - len(failed)} of {len(jobs)} videos are prepared in {cache.folder}, {in_bytes(written)} written"
    )
    print(f"{done}; {len(failed)} failed: {Path(options.cache) / FAILED} says why" if failed else done)
    return 1 if failed else 0
