"""Several reports beside each other: one table, one picture of their ROC curves."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dfmodels.evaluation.folder import GROUP_ROWS, METRICS, SCORES, columns, groups, head, number, read_metrics, row
from dfmodels.evaluation.metrics import AREAS, NAMES
from dfmodels.evaluation.table import Scores, read_scores
from dfmodels.files import atomic_write, printable, writable_folder
from dfmodels.optional import require
from dfmodels.scoring.formats import counted

TABLE, PICTURE = "comparison.csv", "roc.png"
COUNTS = ("n_real", "n_fake", "n_failed")
HEAD = ("report", "level", "group", *NAMES, *(f"{name}_{end}" for name in AREAS for end in ("low", "high")), *COUNTS)
# colours of Okabe and Ito, darkened for thin lines on white; they differ by their lines too
COLORS, LINES = ("#0064a8", "#c24a00", "#00795a", "#9c3f7c", "#7a5c00", "#3c4350"), ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Judged:
    """A report as it is compared: the name it is given, its metrics, and its scores by video."""

    name: str
    metrics: dict[str, Any]
    videos: Scores

    @property
    def keys(self) -> dict[str, bool]:
        """Whether each video that has a score is fake, by its name."""
        return {self.videos.paths[i]: bool(self.videos.fake[i]) for i in np.flatnonzero(self.videos.scored).tolist()}


def read_reports(folders: Sequence[str | Path]) -> list[Judged]:
    """The reports in these folders.

    Raises:
        ValueError: one that is no report, or is given twice.
        OSError: one that cannot be read.
    """
    found: list[Judged] = []
    for folder in map(Path, folders):
        if any(folder.resolve() == Path(other.name).resolve() for other in found):
            raise ValueError(f"{folder} is given twice; name every report once")
        metrics = read_metrics(folder)
        _check(folder, metrics)
        if not (folder / SCORES).is_file():
            raise ValueError(f"{folder} holds {METRICS} but no {SCORES}: evaluate again into it")
        scores = read_scores(folder / SCORES)
        videos = scores.by_video(metrics["about"].get("average", "probabilities"))
        found.append(Judged(str(folder), metrics, videos))
    return found


def differences(reports: Sequence[Judged]) -> list[str]:
    """One sentence for each report that judged other videos than the first, or by another threshold."""
    first, *others = reports
    held, said = first.keys, []
    for other in others:
        keys = other.keys
        more = [name for name in keys if name not in held]
        fewer = [name for name in held if name not in keys]
        if more or fewer:
            parts = [
                f"{counted(len(names), 'video')} in {one.name} alone ({', '.join(map(printable, names[:3]))})"
                for one, names in ((first, fewer), (other, more))
                if names
            ]
            said.append(
                f"{first.name} and {other.name} have scores of different videos, {' and '.join(parts)}, "
                f"{len(held) - len(fewer)} in both: their numbers do not compare"
            )
        labels = [name for name, fake in keys.items() if held.get(name, fake) != fake]
        if labels:
            said.append(
                f"{first.name} and {other.name} give different labels to {counted(len(labels), 'video')} "
                f"({printable(labels[0])})"
            )
        thresholds = [one.metrics["about"].get("threshold") for one in (first, other)]
        if thresholds[0] != thresholds[1]:
            said.append(
                f"{first.name} and {other.name} were judged at the thresholds {thresholds[0]} and {thresholds[1]}: "
                "evaluate with the same --threshold to compare accuracies"
            )
    return said


def table(reports: Sequence[Judged]) -> str:
    """For people: for every group, the reports below each other."""
    found = _by_group(reports)
    lines = [["", *head("report")]]
    for level, group in list(found)[:GROUP_ROWS]:
        for place, (name, metrics) in enumerate(found[level, group].items()):
            lines.append(["" if place else printable(f"{level}s: {group}"), *row(printable(name), metrics)])
    rest = len(found) - GROUP_ROWS
    return "\n".join([*columns(lines, left=2), *([f"... and {counted(rest, 'more group')}"] if rest > 0 else [])])


def write_comparison(folder: Path, reports: Sequence[Judged]) -> None:
    """Write comparison.csv, with every metric of every group of every report, and roc.png.

    Raises:
        ValueError: `folder` holds files of these names that are not of a comparison, or cannot be written to.
        OSError: a file cannot be written.
        ImportError: matplotlib is not installed.
    """
    check_comparison(folder)
    writable_folder("--out", folder)
    with atomic_write(folder / TABLE) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEAD)
        for (level, group), found in _by_group(reports).items():
            for name, metrics in found.items():
                ends = [end for area in AREAS for end in metrics["ci"].get(area, (None, None))]
                values = [*(metrics[key] for key in NAMES), *ends, *(metrics[key] for key in COUNTS)]
                writer.writerow([name, level, group, *("" if value is None else value for value in values)])
    _draw(folder / PICTURE, reports)


def check_comparison(folder: Path) -> None:
    """ValueError where a comparison would take the place of somebody else's files, or `folder` is a file."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out must be a folder, but {folder} is a file")
    if (folder / TABLE).exists():
        with open(folder / TABLE, "rb") as file:
            ours = file.readline(1 << 16).rstrip(b"\n") == ",".join(HEAD).encode()
        if not ours:
            raise ValueError(f"{folder / TABLE} is there and is no comparison of reports: give another --out")
    elif (folder / PICTURE).exists():
        raise ValueError(f"{folder / PICTURE} is there, but no {TABLE} beside it: give another --out")


def _check(folder: Path, report: dict[str, Any]) -> None:
    """ValueError unless every group has all that is compared."""
    try:
        found = [metrics for level in report["levels"].values() for _, metrics in groups(level)]
        whole = "all" in report["levels"]["video"] and isinstance(report["about"], dict)
        whole = whole and all(metrics.keys() >= {*NAMES, *COUNTS, "ci"} for metrics in found)
    except (KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise ValueError(f"{folder / METRICS} is not as this version writes it: evaluate {folder / SCORES} again")


def _by_group(reports: Sequence[Judged]) -> dict[tuple[str, str], dict[str, Any]]:
    """Metrics by name of the report, for every level and group that any has."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for level in ("video", "clip", "frame"):
        for report in reports:
            for group, metrics in groups(report.metrics["levels"].get(level, {})):
                found.setdefault((level, group), {})[report.name] = metrics
    return found


def _draw(path: Path, reports: Sequence[Judged]) -> None:
    """ROC curves of videos; a report without both classes has none, and its entry says why."""
    from sklearn.metrics import roc_curve  # a second, for which no other command should wait

    figure = require("matplotlib.figure", "the picture of ROC curves").Figure(figsize=(7, 7), dpi=110)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#aab0b8", linewidth=1)
    for place, report in enumerate(reports):
        metrics = report.metrics["levels"]["video"]["all"]
        rows = report.videos.scored
        fake, score = report.videos.fake[rows], report.videos.score[rows]
        label = f"{_short(report.name)}: AUC {number(metrics, 'auc')}"
        fpr, tpr = [], []
        if fake.any() and not fake.all():
            fpr, tpr, _ = roc_curve(fake, score)
        else:
            label = f"{_short(report.name)}: one class only"
        style = {"color": COLORS[place % len(COLORS)], "linestyle": LINES[place // len(COLORS) % len(LINES)]}
        axes.plot(fpr, tpr, label=label.replace("$", r"\$"), **style)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title="ROC curves of videos")
    axes.set(xlabel="reals called fake (FPR)", ylabel="fakes called fake (TPR)")
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", fontsize="small")
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png", bbox_inches="tight")


def _short(name: str) -> str:
    return printable(name if len(name) <= 40 else f"...{name[-37:]}")
