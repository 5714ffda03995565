"""How well a detector, or scores of any origin, tell fakes from real videos: a report with all metrics."""

import argparse
import logging
from pathlib import Path
from typing import Any

from dfmodels.cli.loading import (
    add_row_choice,
    check_path,
    choose_device,
    choose_rows,
    load_model,
    parse_settings,
)
from dfmodels.data.crops import CropSource
from dfmodels.data.index import SPLITS, Video, index_hash, load_videos
from dfmodels.detector import Calibration
from dfmodels.evaluation.bootstrap import RESAMPLES
from dfmodels.evaluation.detectors import (
    ROWS,
    Judged,
    as_scores,
    calibration_of,
    of_detector,
    of_file,
    of_prepared,
    score_index,
    seen_methods,
    warn_of_other_faces,
)
from dfmodels.evaluation.folder import PAGE, check_folder, summary, write_folder
from dfmodels.evaluation.judge import judge
from dfmodels.evaluation.metrics import THRESHOLD, check_threshold
from dfmodels.evaluation.report import write_report
from dfmodels.evaluation.table import Scores, read_scores
from dfmodels.files import sha256, writable_folder
from dfmodels.inference import optimize
from dfmodels.options import check_count
from dfmodels.registry import list_models
from dfmodels.video import face_detector
from dfmodels.weights import find, save_calibration

LOG = logging.getLogger(__name__)
EXAMPLE = "dfmodels evaluate runs/stil --data celebdf.csv --out report/"
WAYS = "give a run folder or a weights file with --data, --model FILE.py with --data, or --scores FILE.csv"
# arguments about videos that are to be scored
OF_VIDEOS = ("source", "model", "data", "cache", "set", "split", "where", "limit", "calibrate", "faces", "resume")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", nargs="?", metavar="RUN|WEIGHTS", help="run folder or saved detector, or its file of weights"
    )
    parser.add_argument(
        "--scores",
        metavar="FILE",
        help="table of scores of any detector, .csv: columns path, label (0 real, 1 fake), score; video where rows are "
        "frames; and any others, by which rows are grouped",
    )
    parser.add_argument(
        "--model",
        metavar="NAME|FILE.py",
        help=f"detector of a published checkpoint: {', '.join(list_models())}; or a file of Python that offers "
        "predict(path) -> float, which runs with your rights",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="option of the detector --model"
    )
    parser.add_argument("--data", metavar="INDEX|ROOT", help="index of videos, .csv, or the folder of a data set")
    parser.add_argument("--split", choices=SPLITS, default="test", help="that is judged (default: %(default)s)")
    add_row_choice(parser)
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="fit temperature and bias on the split val and keep them beside the weights; `score` goes by them then",
    )
    parser.add_argument(
        "--cache",
        metavar="DIR",
        help="crops of `dfmodels prepare`; videos that it lacks are decoded. Of prepared ones it is not judged whether "
        "the picture stands still",
    )
    parser.add_argument(
        "--faces", metavar="HOW", help="as for `dfmodels score` (default: what the cache has, else auto)"
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")
    parser.add_argument("-o", "--out", required=True, metavar="DIR", help="folder of the report")
    parser.add_argument(
        "--resume", action="store_true", help="pass over the videos that a run into the same folder has scored"
    )
    parser.add_argument(
        "--threshold", type=float, default=THRESHOLD, help="scores from it on are called fake (default: %(default)s)"
    )
    parser.add_argument(
        "--resamples",
        type=int,
        default=RESAMPLES,
        metavar="N",
        help="of the bootstrap behind the intervals (default: %(default)s); 0: no intervals",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    for name, value in {"RUN|WEIGHTS": options.source, "--scores": options.scores, "--model": options.model}.items():
        check_path(name, value)
    check_path("--data", options.data)
    check_path("--out", options.out)
    check_path("--cache", options.cache)
    check_threshold(options.threshold)
    check_count("--resamples", options.resamples, 0)
    check_count("--seed", options.seed, 0)
    check_folder(Path(options.out))
    if options.scores:
        return _of_scores(options)
    return _of_detector(options)


def _of_scores(options: argparse.Namespace) -> int:
    parser = argparse.ArgumentParser()
    add(parser)
    for name in OF_VIDEOS:
        if getattr(options, name) != parser.get_default(name):
            given = "RUN|WEIGHTS" if name == "source" else f"--{name}"
            raise ValueError(f"--scores stands alone: every row of the table is judged; leave out {given}, or --scores")
    scores = read_scores(options.scores)
    about = {"scores": {"file": options.scores, "sha256": sha256(options.scores)}}
    return _report(options, scores, about)


def _of_detector(options: argparse.Namespace) -> int:
    of_python = bool(options.model) and options.model.endswith(".py")
    if (options.source is None) != of_python or options.data is None:
        raise ValueError(f"nothing to evaluate: {WAYS}" if options.source is None and not of_python else WAYS)
    if of_python and (options.calibrate or options.set or options.cache):
        raise ValueError(
            "--calibrate, --set and --cache are for detectors of this library; leave them out with --model FILE.py"
        )
    settings = {} if of_python else parse_settings(options.set, options.model)
    everything = load_videos(options.data)
    videos = _split(choose_rows(everything, options), options.split, options.data)
    validation = _split(choose_rows(everything, options), "val", options.data) if options.calibrate else []
    calibration: Calibration | None = None
    weights: Path | None = None
    methods = None
    if of_python:
        judged = of_file(options.model)
    else:
        weights = find(options.source)
        model = load_model(options.model, weights, settings)
        calibration = model.origin.calibration
        model = optimize(model.to(choose_device(options.device)))
        if options.cache:
            judged = of_prepared(model, CropSource(options.faces, cache=options.cache))
            LOG.info("of videos in %s it is not judged whether the picture stands still", options.cache)
        else:
            judged = of_detector(model, face_detector(options.faces or "auto"))
        methods = seen_methods(options.source)
        warn_of_other_faces(options.source, judged.made_by["faces"])
    folder = writable_folder("--out", Path(options.out))
    rows = score_index(judged, [*validation, *videos], folder / ROWS, resume=options.resume)
    if options.calibrate:
        assert weights is not None
        calibration = calibration_of(judged, validation, rows)
        LOG.info("calibration in %s", save_calibration(calibration, weights))
    about = {
        "detector": judged.name,
        "weights": judged.made_by["weights"],
        "data": {"file": options.data, "split": options.split},
        "index_hash": index_hash(videos),
        "faces": judged.made_by["faces"],
        "settings": judged.made_by["settings"],
        "calibration": calibration and calibration.as_dict(),
        "seen_methods": None if methods is None else sorted(methods),
    }
    return _report(options, as_scores(videos, rows, judged, calibration), about, judged, methods, videos, rows)


def _split(videos: list[Video], split: str, source: str) -> list[Video]:
    found = [video for video in videos if video.split == split]
    if not found:
        there = ", ".join(sorted({video.split for video in videos})) or "no row"
        raise ValueError(f"--data {source} holds no video of the split {split} that is wanted; it holds {there}")
    return found


def _report(
    options: argparse.Namespace,
    scores: Scores,
    about: dict[str, Any],
    judged: Judged | None = None,
    methods: frozenset[str] | None = None,
    videos: list[Video] | None = None,
    rows: dict[str, dict[str, Any]] | None = None,
) -> int:
    average = judged.average if judged else "probabilities"
    rules: dict[str, Any] = {"threshold": options.threshold, "seed": options.seed, "average": average}
    about = {**about, "command": options.typed}
    report = judge(scores, seen_methods=methods, resamples=options.resamples, about=about, **rules)
    before = None
    if judged and videos and rows and about["calibration"]:
        before = as_scores(videos, rows, judged)
        plain = judge(before, resamples=0, **rules)
        report["calibration"] = {
            **about["calibration"],
            "levels": {
                level: {
                    when: {name: found["levels"][level]["all"][name] for name in ("ece", "brier")}
                    for when, found in (("before", plain), ("after", report))
                }
                for level in report["levels"]
            },
        }
    folder = Path(options.out)
    write_folder(folder, scores, report)
    write_report(folder / PAGE, report, scores, average=average, before=before)
    print(summary(report))
    print(f"wrote {folder}")
    if report["failed"]:
        path, reason = report["failed"][0]["path"], report["failed"][0]["reason"]
        LOG.warning(
            "%d of %d rows have no score (the first is %s); metrics.json and report.html name them",
            len(report["failed"]),
            len(scores),
            " ".join((reason if reason.startswith(path) else f"{path}: {reason}").split()),
        )
    return 1 if report["failed"] else 0
