"""Scores of a detector over the videos of an index: of weights, of a run folder, or of a file of Python."""

import importlib.util
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dfmodels.data.crops import CropSource
from dfmodels.data.index import COLUMNS, Video
from dfmodels.data.plan import FramePlan
from dfmodels.detector import Calibration, Detector, Origin
from dfmodels.evaluation.calibration import calibrate, fit_calibration
from dfmodels.evaluation.table import REASON, REQUIRED, RESERVED, UNIT, VIDEO, Scores
from dfmodels.files import sha256
from dfmodels.progress import progress_bar
from dfmodels.scoring.batch import iter_scores
from dfmodels.scoring.result import VideoScore
from dfmodels.scoring.rows import Results, describe_run
from dfmodels.scoring.video import score_prepared, score_video
from dfmodels.video import FaceDetector
from dfops import __version__

LOG = logging.getLogger(__name__)
ROWS = "videos.jsonl"  # of a report folder: what the detector says of each video, before any calibration
ENVIRONMENT = "environment.json"
METHODS, FACES = "methods", "faces"  # in ENVIRONMENT: those of the training split, and how faces were found
GROUPINGS = ("dataset", "method", "compression", "split")  # columns of an index by which videos are grouped


@dataclass(frozen=True)
class Judged:
    """A detector that gives rows.

    Attributes:
        name: what a report calls it.
        made_by: what decides about its rows, as `describe_run` gives it.
        unit: what a row is, "frame", "clip", or "video" where it gives one number a video.
        average: how the rows of a video become its score, as for `Scores.by_video`.
        scores: from videos, and the keys of those of them to pass over, to their scores one by one.
    """

    name: str
    made_by: Mapping[str, Any]
    unit: str
    average: str
    scores: Callable[[Sequence[Video], Collection[str]], Iterator[VideoScore]]


def of_detector(model: Detector, faces: FaceDetector) -> Judged:
    """A trained detector as `dfmodels score` runs it; its rows are not calibrated."""
    model.origin = replace(model.origin, calibration=None)
    made_by = describe_run(model, faces=faces.name, num_clips=None, average=None, select="largest")

    def scores(videos: Sequence[Video], done: Collection[str]) -> Iterator[VideoScore]:
        paths = [Path(video.key) for video in videos]
        return iter_scores(model, paths, faces=faces, done=set(map(Path, done)))

    return Judged(model.name, made_by, model.contract.unit, model.contract.average, scores)


def of_prepared(model: Detector, source: CropSource) -> Judged:
    """A trained detector on the crops of `source.cache`; videos that are not prepared are decoded.

    Whether a picture stands still is judged of the latter alone.

    Raises:
        ValueError: a source without a cache.
    """
    if source.cache is None:
        raise ValueError("source must have a cache, got one without")
    cache, plan = source.cache, FramePlan.of(model.contract)
    model.origin = replace(model.origin, calibration=None)
    made_by = describe_run(model, faces=cache.faces, num_clips=None, average=None, select=cache.select)
    made_by["settings"]["cache"] = "where it holds a video, whether the picture stands still is not judged"

    def scores(videos: Sequence[Video], done: Collection[str]) -> Iterator[VideoScore]:
        warned = False
        with progress_bar(total=len(videos), desc=model.name, unit="video") as bar:
            for video in videos:
                if video.key not in done:
                    path = Path(video.key)
                    crops = cache.find(video, model.contract, plan)
                    if crops is not None:
                        yield score_prepared(model, path, crops, faces=cache.faces)
                    else:
                        if not warned:
                            LOG.warning("%s is not prepared in %s: it is decoded, as are others", path, cache.folder)
                        warned = True
                        yield score_video(model, path, faces=source.detector, select=cache.select)
                bar.update()

    return Judged(model.name, made_by, model.contract.unit, model.contract.average, scores)


def of_file(path: str | Path) -> Judged:
    """A file of Python that offers `predict(path) -> float`: a function, or a method of a class or an object in it.

    The file runs as a program does, with all rights of the user. `predict` gives a finite number that is higher for
    what looks fake; an error in it costs the row of that video.

    Raises:
        ValueError: no such file, or one that cannot be run or offers none.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"--model {path}: no such file; give a file of Python that offers predict(path) -> float")
    predict = _predict(path)
    origin = Origin(str(path), sha256(path))
    made_by = {
        "detector": path.name,
        "options": {},
        "weights": asdict(origin),
        "faces": "its own",
        "settings": {"clips": "its own", "average": "its own", "select": "its own"},
        "version": __version__,
    }

    def scores(videos: Sequence[Video], done: Collection[str]) -> Iterator[VideoScore]:
        with progress_bar(total=len(videos), desc=path.name, unit="video") as bar:
            for video in videos:
                if video.key not in done:
                    yield _score(Path(video.key))
                bar.update()

    def _score(video: Path) -> VideoScore:
        begun = time.perf_counter()
        value, error = None, None
        try:
            with redirect_stdout(sys.stderr):  # the output holds results alone
                value = float(predict(str(video)))
            if not math.isfinite(value):
                value, error = None, f"{video}: predict gave {value}, not a finite number"
        except KeyboardInterrupt:
            raise
        except BaseException as problem:  # whatever one video brings about costs no other
            LOG.debug("%s", video, exc_info=True)
            error = f"{video}: {type(problem).__name__}: {problem}".removesuffix(": ")
        seconds = time.perf_counter() - begun
        return VideoScore(video, value, (), seconds, error, detector=path.name, weights=origin, version=__version__)

    return Judged(path.name, made_by, "video", "probabilities", scores)


def _predict(path: Path) -> Callable[[str], Any]:
    """`predict` of a module, of the one class in it that has it, or of the one object."""
    spec = importlib.util.spec_from_file_location(f"dfmodels_model_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"--model {path} is no file of Python: it must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles look there
    sys.path.insert(0, str(path.resolve().parent))  # as for a program, which finds what lies beside it
    try:
        with redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
            found = getattr(module, "predict", None)
            if found is None:
                owners = [
                    value
                    for value in vars(module).values()
                    if callable(getattr(value, "predict", None))
                    and getattr(value if isinstance(value, type) else type(value), "__module__", "") == spec.name
                ]
                objects = [owner for owner in owners if not isinstance(owner, type)]
                owners = objects or owners
                if len(owners) > 1:
                    names = ", ".join(getattr(owner, "__name__", type(owner).__name__) for owner in owners)
                    raise ValueError(f"several offer predict ({names}): name one `predict` in the module")
                if owners:
                    found = (owners[0]() if isinstance(owners[0], type) else owners[0]).predict
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a file of somebody else's may raise anything
        LOG.debug("%s", path, exc_info=True)
        raise ValueError(f"--model {path} cannot be used: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    if not callable(found):
        raise ValueError(f"--model {path} offers no predict(path) -> float: write a function of that name, or a class")
    return found


# ---------------------------------------------------------------------- runs


def seen_methods(source: str | Path) -> frozenset[str] | None:
    """Methods that the training index of a run held, by what the run folder says; None where nobody knows."""
    methods = _said_of(source).get(METHODS)
    return frozenset(map(str, methods)) if isinstance(methods, list) else None


def warn_of_other_faces(source: str | Path, faces: str) -> None:
    """Warn where the faces that a run was trained with were found otherwise than those that it is to judge."""
    trained = _said_of(source).get(FACES)
    if isinstance(trained, str) and trained.partition(":")[0] != faces.partition(":")[0]:
        LOG.warning(
            "warning: %s was trained with faces %r and judges those of %r, whose crops may lie otherwise: --faces %s "
            "is as it was trained",
            source,
            trained,
            faces,
            trained,
        )


def _said_of(source: str | Path) -> Mapping[str, Any]:
    """What a run folder, or the one of a weights file, says of the training; nothing where it is none."""
    source = Path(source)
    folder = source if source.is_dir() else source.parent
    try:
        said = json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


# ---------------------------------------------------------------------- rows


def score_index(judged: Judged, videos: Sequence[Video], rows: Path, *, resume: bool) -> dict[str, dict[str, Any]]:
    """Score videos into the file `rows`, of which each has one row, and give the rows by `Video.key`.

    A run that was killed is gone on with by `resume`: no video that has a row is scored again, failed ones neither.

    Raises:
        ValueError: rows of another detector or with other settings, which are not mixed.
        OSError: the file cannot be written.
    """
    wanted = {video.key for video in videos}
    with Results(rows, judged.made_by, resume=resume, replace=not resume) as results:
        done = {key for key in wanted if results.verdict(Path(key))}
        if done:
            LOG.info("%d of %d videos have a row in %s", len(done), len(videos), rows)
        for score in judged.scores(videos, done):
            results.add(score)
            del score
    found = {}
    with rows.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["path"] in wanted:
                found[row["path"]] = row
    return found


def as_scores(
    videos: Sequence[Video],
    rows: Mapping[str, Mapping[str, Any]],
    judged: Judged,
    calibration: Calibration | None = None,
) -> Scores:
    """The table of scores of videos: a row a clip or frame, or a video of a detector that gives one number a video.

    The path of a row is that of the video with the number of the clip behind it, FILM#2; a video that failed has one
    row without a score.
    """
    extra = sorted(
        {name for video in videos for name in video.extra} - {*COLUMNS, *REQUIRED, *RESERVED, VIDEO, UNIT, REASON}
    )
    paths: list[str] = []
    labels: list[int] = []
    values: list[float | None] = []
    of_video: list[str] = []
    reasons: dict[int, str] = {}
    columns: dict[str, list[str]] = {name: [] for name in (*GROUPINGS, *extra)}
    for video in videos:
        row = rows[video.key]
        if row["probability"] is None:
            reasons[len(paths)] = str(row["error"])
            own: list[tuple[str, float | None]] = [(video.key, None)]
        elif judged.unit == "video":
            own = [(video.key, row["probability"])]
        else:
            own = [(f"{video.key}#{number}", clip["probability"]) for number, clip in enumerate(row["clips"], 1)]
        for path, value in own:
            paths.append(path)
            labels.append(video.label)
            values.append(value)
            of_video.append(video.key)
            for name, column in columns.items():
                column.append(getattr(video, name) if name in GROUPINGS else video.extra.get(name, ""))
    if calibration is not None:
        scored = [i for i, value in enumerate(values) if value is not None]
        for i, value in zip(scored, calibrate([values[i] or 0.0 for i in scored], calibration).tolist(), strict=True):
            values[i] = value
    return Scores.of(
        paths,
        labels,
        values,
        columns={name: column for name, column in columns.items() if any(column)},
        video=None if judged.unit == "video" else of_video,
        reasons=reasons,
        unit="clip" if judged.unit == "clip" else "frame",
    )


def calibration_of(judged: Judged, videos: Sequence[Video], rows: Mapping[str, Mapping[str, Any]]) -> Calibration:
    """The calibration that fits the videos with a score, which are those of a validation split.

    Raises:
        ValueError: they are not of both classes.
    """
    scored = [video for video in videos if rows[video.key]["probability"] is not None]
    fakes = sum(video.label for video in scored)
    names = ", ".join(sorted({video.dataset for video in scored if video.dataset}))
    return fit_calibration(
        [[clip["probability"] for clip in rows[video.key]["clips"]] for video in scored],
        [video.label for video in scored],
        average=judged.average,
        fitted_on=f"{len(scored) - fakes} real and {fakes} fake videos{f' of {names}' if names else ''}, split val",
    )
