"""Fake probability of videos by a trained detector."""

import argparse
import csv
import io
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

import dfops
from dfmodels.cli.loading import add_model_arguments, load_model, parse_settings
from dfmodels.detector import Detector
from dfmodels.evaluation.scoring import AVERAGES, BATCH_FRAMES, VideoScore, clips_wanted, score_video
from dfmodels.video import FaceDetector, VideoError, clip_frames, count_frames, face_detector

NO_WEIGHTS = """no verdict without trained detector weights: give --weights FILE
  - `dfmodels demo` trains a small detector on rendered clips and saves it (to try the tool, not to judge films)
  - weights you trained: write them with dfmodels.save(model, FILE)
  - a checkpoint of a published training script: --model NAME --weights FILE reads its layout
Backbone weights (ImageNet) are not detector weights: with them every verdict would be chance."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "videos", nargs="+", metavar="VIDEO", help="film, or folder of images in the order of their names"
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--weights", metavar="FILE", help="trained detector weights, .safetensors or a pickle of tensors"
    )
    parser.add_argument(
        "--faces",
        default="haar",
        metavar="HOW",
        help="haar (default), yunet:MODEL.onnx, boxes:FILE.json, or none: the frames are face crops already",
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
    num_clips = _num_clips(options.clips)
    if options.batch is not None and options.batch < 1:
        raise ValueError(f"--batch must be at least 1, got {options.batch}")
    settings = parse_settings(options.set, options.model)
    if options.weights is None:
        raise ValueError(NO_WEIGHTS)
    model = load_model(options.model, options.weights, settings).to(choose_device(options.device))
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
    sys.stdout.write(FORMATS[options.format](scores))
    return 1 if any(score.error for score in scores) else 0


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


def score_videos(
    model: Detector,
    paths: Sequence[str | Path],
    *,
    faces: FaceDetector,
    num_clips: int | Literal["all"] | None,
    average: str | None,
    batch_size: int | None,
    select: str,
    plot: str | Path | None,
) -> list[VideoScore]:
    """Score videos one by one with a progress bar, and plot them; options as for `score_video`."""
    folder = None
    if plot is not None:
        from dfmodels.evaluation.plots import plot_video

        folder = Path(plot)
        folder.mkdir(parents=True, exist_ok=True)
    scores = []
    taken: set[str] = set()
    for number, path in enumerate(paths, 1):
        label = f"[{number}/{len(paths)}] {Path(path).name}"
        with tqdm(
            total=_frames_to_read(path, model, num_clips), desc=label, unit="frame", disable=None, leave=False
        ) as bar:
            score = score_video(
                model,
                path,
                faces=faces,
                num_clips=num_clips,
                average=average,
                batch_size=batch_size,
                select=select,
                progress=_shown_on(bar),
            )
        if folder is not None and score.error is None:
            plot_video(model, score, folder / _free_name(Path(path), taken))
        scores.append(score)
    return scores


def _shown_on(bar: Any) -> Callable[[int], object]:
    return lambda handled: bar.update(handled - bar.n)


def _frames_to_read(path: str | Path, model: Detector, num_clips: int | Literal["all"] | None) -> int | None:
    contract = model.contract
    wanted = clips_wanted(contract, num_clips)
    try:
        return clip_frames(count_frames(path), contract.num_frames, wanted, contract.sampling)[-1][-1] + 1
    except VideoError:  # reading it will give the reason
        return None


def _free_name(video: Path, taken: set[str]) -> str:
    """Picture name after the video's; a number is added where two videos share a name."""
    name, number = f"{video.name}.png", 1
    while name in taken:
        number += 1
        name = f"{video.name}-{number}.png"
    taken.add(name)
    return name


def _num_clips(text: str | None) -> int | Literal["all"] | None:
    if text is None:
        return None
    if text == "all":
        return "all"
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"--clips must be a number from 1 on or all, got {text!r}")
    return int(text)


def table(scores: Sequence[VideoScore]) -> str:
    """For people: one line a video, then the reasons of those that failed. All scores are of one detector."""
    names = [str(score.path) for score in scores]
    width = max(len("video"), *map(len, names))
    unit = scores[0].unit
    count = len(unit) + 1
    lines = [f"{'video':{width}}  verdict  fake probability  {unit}s  {f'highest {unit} (time)':20}       took"]
    for name, score in zip(names, scores, strict=True):
        if score.probability is None:
            lines.append(f"{name:{width}}  failed   {'-':>16}  {'-':>{count}}  {'-':>20}  {score.seconds:7.1f} s")
            continue
        worst = max(score.clips, key=lambda clip: clip.probability)
        when = f"{worst.start:.2f}" if unit == "frame" else f"{worst.start:.2f}-{worst.end:.2f}"
        highest = f"{worst.probability:.3f} ({when} s)"
        lines.append(
            f"{name:{width}}  {score.verdict:7}  {score.probability:16.3f}  {len(score.clips):{count}d}  {highest:>20}"
            f"  {score.seconds:7.1f} s"
        )
    lines += [f"failed: {score.error}" for score in scores if score.error]
    return "\n".join(lines) + "\n"


def as_dict(score: VideoScore) -> dict[str, Any]:
    """What the machine-readable formats say of a video."""
    return {
        "video": str(score.path),
        "verdict": score.verdict,
        "fake_probability": score.probability,
        "clips": [
            {"start": _round(clip.start), "end": _round(clip.end), "fake_probability": clip.probability}
            for clip in score.clips
        ],
        "seconds": round(score.seconds, 3),
        "error": score.error,
    }


def _round(seconds: float) -> float | None:
    return round(seconds, 4) if math.isfinite(seconds) else None


def as_json(scores: Sequence[VideoScore]) -> str:
    return json.dumps([as_dict(score) for score in scores], indent=2, ensure_ascii=False) + "\n"


def as_csv(scores: Sequence[VideoScore]) -> str:
    """One line a video; the columns of its clips hold one value a clip, separated by spaces."""
    text = io.StringIO()
    fields = [
        "video",
        "verdict",
        "fake_probability",
        "clip_starts",
        "clip_ends",
        "clip_probabilities",
        "seconds",
        "error",
    ]
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    for score in scores:
        row = as_dict(score)
        clips = row.pop("clips")
        for column, key in (("starts", "start"), ("ends", "end"), ("probabilities", "fake_probability")):
            row[f"clip_{column}"] = " ".join(str(clip[key]) for clip in clips)
        writer.writerow(row)
    return text.getvalue()


FORMATS = {"table": table, "json": as_json, "csv": as_csv}
