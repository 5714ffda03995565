"""The page of an evaluation: metrics.json and the table of scores as curves, tables and pictures."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, PackageLoader
from numpy.typing import NDArray

from dfmodels.evaluation.table import Scores
from dfmodels.files import atomic_write
from dfmodels.options import is_number
from dfmodels.scoring import page
from dfmodels.scoring.formats import counted

LOG = logging.getLogger(__name__)
ENVIRONMENT = page.ENVIRONMENT.overlay(
    loader=ChoiceLoader([PackageLoader("dfmodels.evaluation"), PackageLoader("dfmodels.scoring")])
)
LEVELS = ("video", "clip", "frame")  # in the order of the page
GROUPINGS = {"method": "Methods", "dataset": "Data sets", "compression": "Compressions", "split": "Splits"}
MOST_ROWS = 200  # of one table; the others are in metrics.json
MOST_CURVES = 6  # as many colours as there are
MOST_WRONG = 10
MOST_FAILED = 100
BINS, CALIBRATION_BINS = 40, 15
SIDE = 320.0  # of a plot, in its own units
PICTURE_SIDE = 320
COLUMNS = {
    "auc": "AUC",
    "ap": "AP",
    "eer": "EER",
    "balanced_accuracy": "Bal. acc.",
    "accuracy": "Accuracy",
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall",
    "fpr_at_tpr95": "FPR at TPR .95",
    "tpr_at_fpr01": "TPR at FPR .01",
    "ece": "ECE",
    "brier": "Brier",
}
Picture = Callable[[Path], "NDArray[np.uint8] | None"]


def write_report(
    path: str | Path,
    metrics: Mapping[str, Any],
    scores: Scores,
    *,
    average: str = "probabilities",
    before: Scores | None = None,
    picture: Picture | None = None,
) -> None:
    """Write the page about an evaluation; it needs no network and holds all it shows.

    Args:
        path: of the page, replaced once the new one is complete.
        metrics: content of metrics.json, as `judge` gives it.
        scores: the table that was judged.
        average: as it was for `judge`.
        before: the same rows before they were calibrated, where they were.
        picture: of a video by its path, (H, W, 3) uint8 RGB, or None where there is none; None takes `middle_frame`.

    Raises:
        OSError: the page cannot be written.
    """
    text = render(metrics, scores, average=average, before=before, picture=picture)
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def render(
    metrics: Mapping[str, Any],
    scores: Scores,
    *,
    average: str = "probabilities",
    before: Scores | None = None,
    picture: Picture | None = None,
) -> str:
    """The page that `write_report` writes."""
    tables = {scores.level: scores}
    tables.setdefault("video", scores.by_video(average))
    levels = [level for level in LEVELS if level in metrics["levels"] and level in tables]
    about = dict(metrics["about"])
    threshold = float(about.get("threshold", 0.5))
    videos = tables["video"]
    wrong = most_wrong(videos, threshold)
    return ENVIRONMENT.get_template("evaluation.html").render(
        title=_title(about),
        levels=[
            {
                "name": level,
                "metrics": metrics["levels"][level]["all"],
                "groups": list(_groups(metrics["levels"][level])),
                **_seen(metrics["levels"][level]),
                "roc": roc_plot(tables[level], metrics["levels"][level]),
                "pr": pr_plot(tables[level]),
                "histogram": histogram(tables[level], threshold),
            }
            for level in levels
        ],
        columns=COLUMNS,
        number=number_text,
        interval=interval_text,
        bar=interval_bar,
        counted=counted,
        calibration=_calibration(metrics, videos, before and before.by_video(average)),
        wrong=[_wrong(videos, row, threshold, picture or middle_frame) for row in wrong[:MOST_WRONG].tolist()],
        n_wrong=len(wrong),
        threshold=threshold,
        bench={name: value for name, value in (metrics.get("as_deepfakebench") or {}).items() if is_number(value)},
        failed=metrics["failed"][:MOST_FAILED],
        n_failed=len(metrics["failed"]),
        about=list(_flat(about)),
        side=SIDE,
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )


def number_text(value: float | None) -> str:
    """Three digits; a dash for none."""
    return "-" if value is None else f"{value:.3f}"


def interval_text(metrics: Mapping[str, Any], name: str) -> str:
    """The interval of a metric, empty where it has none."""
    ends = (metrics.get("ci") or {}).get(name)
    return "" if not ends or None in ends else f"{ends[0]:.3f}-{ends[1]:.3f}"


def interval_bar(metrics: Mapping[str, Any]) -> dict[str, float] | None:
    """Where the AUC and its interval lie on a bar from 0 to 100."""
    value = metrics.get("auc")
    if value is None:
        return None
    ends = (metrics.get("ci") or {}).get("auc") or (value, value)
    return {"low": round(100 * ends[0], 1), "width": round(100 * (ends[1] - ends[0]), 1), "at": round(100 * value, 1)}


# ---------------------------------------------------------------------- curves


def thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Points of a curve (N,) whose x runs one way, no more than can be told apart; N may be millions.

    Of each step of x, the first, the lowest, the highest and the last in their order.
    """
    places = np.round(np.clip(x, 0, 1) * SIDE).astype(np.int64)
    if len(places) > 4 * SIDE:
        begins = np.flatnonzero(np.r_[True, places[1:] != places[:-1]])
        ends = np.r_[begins[1:], len(places)] - 1
        kept = [begins, ends]
        for values in (y, -y):
            lowest = np.minimum.reduceat(values, begins)
            hit = np.flatnonzero(values == np.repeat(lowest, ends - begins + 1))
            kept.append(hit[np.searchsorted(hit, begins)])
        chosen = np.unique(np.concatenate(kept))
        x, y = x[chosen], y[chosen]
    points = list(zip(np.round(SIDE * x, 1).tolist(), np.round(SIDE * (1 - y), 1).tolist(), strict=True))
    return [point for i, point in enumerate(points) if i == 0 or point != points[i - 1]]


def line(points: Sequence[tuple[float, float]], step: bool = False) -> str:
    """The path of an SVG through points; with `step`, each value of y reaches back to the x before it."""
    text = f"M{points[0][0]:g} {points[0][1]:g}"
    for x, y in points[1:]:
        text += f"V{y:g}H{x:g}" if step else f"L{x:g} {y:g}"
    return text


def roc_plot(table: Scores, level: Mapping[str, Any]) -> dict[str, Any]:
    """Curves of all, of seen and unseen methods or else of the methods; without two classes none."""
    from sklearn.metrics import roc_curve  # a second, for which no other command should wait

    lines: list[dict[str, Any]] = []
    for name, rows in _curve_rows(table, level):
        fake = table.fake[rows]
        if fake.any() and not fake.all():
            fpr, tpr, _ = roc_curve(fake, table.score[rows])
            lines.append({"name": name, "path": line(thinned(fpr, tpr)), "color": len(lines)})
    return {"lines": lines}


def pr_plot(table: Scores) -> dict[str, Any]:
    """Precision over recall of all rows, step-wise, and the share of fakes, which chance has."""
    from sklearn.metrics import precision_recall_curve  # a second, for which no other command should wait

    rows = np.flatnonzero(table.scored)
    fake = table.fake[rows]
    if not fake.any() or fake.all():
        return {"lines": [], "chance": None}
    precision, recall, _ = precision_recall_curve(fake, table.score[rows])
    points = thinned(recall[::-1], precision[::-1])
    return {
        "lines": [{"name": "all", "path": line(points, step=True), "color": 0}],
        "chance": round(SIDE * (1 - float(fake.mean())), 1),
        "share": float(fake.mean()),
    }


def _curve_rows(table: Scores, level: Mapping[str, Any]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    scored = np.flatnonzero(table.scored)
    yield "all", scored
    method = table.columns.get("method")
    if method is None:
        return
    metrics = {name: each for name, each in level.get("method", {}).items() if each}
    if not 2 <= len(metrics) < MOST_CURVES:
        return
    codes = method.codes[scored]
    for name in metrics:
        yield name, scored[~table.fake[scored] | (codes == method.names.index(name))]


def histogram(table: Scores, threshold: float) -> dict[str, Any]:
    """How the scores of real and fake rows are spread: the share of each class in BINS bins of equal width."""
    values, fake = table.score[table.scored], table.fake[table.scored]
    if not len(values):
        return {"lines": []}
    scale = float(np.abs(values).max(initial=1.0))  # so that no difference of two scores is too large for a number
    values = values / scale
    low, high = min(0.0, float(values.min())), max(1 / scale, float(values.max()))
    edges = np.linspace(low, high, BINS + 1)
    shares = {}
    for name, chosen in (("real", ~fake), ("fake", fake)):
        if chosen.any():
            shares[name] = np.histogram(values[chosen], edges)[0] / chosen.sum()
    most = max(float(each.max()) for each in shares.values())
    lines = []
    for name, each in shares.items():
        path = f"M0 {SIDE:g}"
        for i, share in enumerate(each):
            path += f"V{SIDE * (1 - share / most):.1f}H{SIDE * (i + 1) / BINS:.1f}"
        lines.append({"name": name, "path": f"{path}V{SIDE:g}z"})
    at = SIDE * (threshold / scale - low) / (high - low)
    return {
        "lines": lines,
        "threshold": round(at, 1) if 0 <= at <= SIDE else None,
        "ticks": [(round(SIDE * i / 4, 1), f"{scale * (low + (high - low) * i / 4):.3g}") for i in range(5)],
        "most": most,
    }


# ---------------------------------------------------------------------- calibration


def reliability(fake: NDArray[np.bool_], score: NDArray[np.float64]) -> list[dict[str, float]]:
    """Of each bin of probability with rows in it: their mean, the share of fakes, and how many there are."""
    bins = np.minimum((score * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    counts = np.bincount(bins, minlength=CALIBRATION_BINS)
    means, fakes = (np.bincount(bins, values, CALIBRATION_BINS) for values in (score, fake.astype(np.float64)))
    return [
        {
            "x": round(SIDE * means[i] / counts[i], 1),
            "y": round(SIDE * (1 - fakes[i] / counts[i]), 1),
            "r": round(3 + 6 * float(np.sqrt(counts[i] / counts.max())), 1),
            "mean": means[i] / counts[i],
            "share": fakes[i] / counts[i],
            "count": int(counts[i]),
        }
        for i in np.flatnonzero(counts)
    ]


def _calibration(metrics: Mapping[str, Any], videos: Scores, before: Scores | None) -> dict[str, Any] | None:
    """Reliability of the videos, before and after where they were calibrated; None of what are no probabilities."""
    plots = []
    for name, table in (("before", before), ("after" if before else "as judged", videos)):
        if table is None or not table.scored.any():
            continue
        score = table.score[table.scored]
        if score.min() < 0 or score.max() > 1:
            return None
        points = reliability(table.fake[table.scored], score)
        plots.append({"name": name, "points": points, "path": line([(p["x"], p["y"]) for p in points])})
    if not plots:
        return None
    return {"plots": plots, "facts": metrics.get("calibration")}


# ---------------------------------------------------------------------- groups, and what went wrong


def _groups(level: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Tables of the groupings of a level, those of GROUPINGS first; none of a single group of all rows."""
    counts = ("n_real", "n_fake", "n_failed")

    def repeats(group: Mapping[str, Any] | None) -> bool:
        return group is not None and all(group[name] == level["all"][name] for name in counts)

    found = {
        name: groups
        for name, groups in level.items()
        if name not in ("all", "seen", "unseen", "why")
        and isinstance(groups, Mapping)
        and groups
        and not (name != "method" and len(groups) == 1 and all(map(repeats, groups.values())))
    }
    for name in sorted(found, key=lambda name: list(GROUPINGS).index(name) if name in GROUPINGS else len(GROUPINGS)):
        rows = list(found[name].items())
        yield {"title": GROUPINGS.get(name, name), "rows": rows[:MOST_ROWS], "count": len(rows)}


def _seen(level: Mapping[str, Any]) -> dict[str, Any]:
    why = level.get("why") or {}
    names = ("seen", "unseen")
    return {
        "seen": [(f"{name} methods", level[name]) for name in names if level.get(name)],
        "not_seen": [(f"{name} methods", why.get(name, "none")) for name in names if not level.get(name)],
    }


def most_wrong(videos: Scores, threshold: float) -> NDArray[np.int64]:
    """Rows on the wrong side of the threshold, those furthest from it first."""
    error = np.where(videos.fake, threshold - videos.score, videos.score - threshold)
    wrong = np.flatnonzero(videos.scored & ((videos.score >= threshold) != videos.fake))
    return wrong[np.argsort(-error[wrong], kind="stable")]


def _wrong(videos: Scores, row: int, threshold: float, picture: Picture) -> dict[str, Any]:
    path = Path(videos.paths[row])
    image = picture(path)
    return {
        "path": str(path),
        "name": path.name,
        "label": "fake" if videos.fake[row] else "real",
        "verdict": "fake" if videos.score[row] >= threshold else "real",
        "score": number_text(float(videos.score[row])),
        "facts": [f"{name} {text}" for name, each in videos.columns.items() if (text := each.value(row))],
        "picture": None if image is None else page.picture(image, PICTURE_SIDE),
    }


def middle_frame(path: Path) -> "NDArray[np.uint8] | None":
    """The frame in the middle of a film or folder of images, (H, W, 3) uint8 RGB; None where it cannot be had."""
    if not (path.is_file() or path.is_dir()):  # a pipe would keep whoever reads it waiting
        return None
    from dfmodels.video import iter_frames, video_info

    try:
        middle = video_info(path).num_frames // 2
        return next((frame.image for frame in iter_frames(path, [middle])), None)
    except Exception:  # a picture less is no reason to give no report
        LOG.debug("no picture of %s", path, exc_info=True)
        return None


def _title(about: Mapping[str, Any]) -> str:
    detector = about.get("detector")
    return f"Evaluation of {detector}" if detector else "Evaluation of a table of scores"


def _flat(facts: Mapping[str, Any], front: str = "") -> Iterator[tuple[str, str]]:
    """Facts one by one, those of inner mappings under both names."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{front}{name} ")
        elif value is not None:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            yield f"{front}{name}".replace("_", " "), text
