"""The folder of a report: metrics.json and scores.csv."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dfmodels.evaluation.metrics import AREAS
from dfmodels.evaluation.table import Scores, write_scores
from dfmodels.files import atomic_write, printable, writable_folder

METRICS, SCORES, PAGE = "metrics.json", "scores.csv", "report.html"
GROUP_ROWS = 40  # of the summary


def check_folder(folder: Path) -> None:
    """ValueError where files of a report would take the place of somebody else's, or `folder` is a file."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out must be a folder, but {folder} is a file")
    if (folder / METRICS).exists():
        read_metrics(folder)
        return
    for name in (SCORES, PAGE):
        if (folder / name).exists():
            raise ValueError(f"{folder / name} is there, but no {METRICS} of a report beside it: give another --out")


def write_folder(folder: Path, scores: Scores, report: Mapping[str, Any]) -> None:
    """Write metrics.json, which marks the folder as one of ours, then scores.csv.

    Raises:
        ValueError: `folder` holds files of somebody else, or cannot be written to.
        OSError: a file cannot be written.
    """
    check_folder(folder)
    writable_folder("--out", folder)
    with atomic_write(folder / METRICS) as partial:
        partial.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    write_scores(folder / SCORES, scores)


def read_metrics(folder: Path) -> dict[str, Any]:
    """The metrics of a report; ValueError where `folder` is none."""
    path = folder / METRICS
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(
            f"{folder} is no report: there is no {METRICS} in it; `dfmodels evaluate --out {folder}` writes one"
        ) from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}; give another folder") from error
    if not isinstance(report, dict) or not isinstance(report.get("levels"), dict) or "about" not in report:
        raise ValueError(f"{path} does not hold the metrics of a report; give another folder")
    return report


def groups(level: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and metrics of every group of a level, all rows first."""
    for key, found in level.items():
        if key == "why" or found is None:
            continue
        if "n_real" in found:
            yield key, found
        else:
            yield from ((f"{key} {value}", metrics) for value, metrics in found.items())


def number(metrics: Mapping[str, Any], name: str) -> str:
    """A metric with its interval where there is one, "-" where it is None."""
    if metrics[name] is None:
        return "-"
    text = f"{metrics[name]:.3f}"
    pair = metrics["ci"].get(name)
    return f"{text} [{pair[0]:.3f}, {pair[1]:.3f}]" if pair else text


def head(first: str) -> list[str]:
    """Names of the cells of `row`."""
    return [first, "real", "fake", "failed", "AUC", "AP", "EER", "accuracy"]


def row(first: str, metrics: Mapping[str, Any]) -> list[str]:
    """The metrics that people are shown, behind a name."""
    counts = (f"{metrics[name]:,}" for name in ("n_real", "n_fake", "n_failed"))
    return [first, *counts, *(number(metrics, name) for name in (*AREAS, "accuracy"))]


def summary(report: Mapping[str, Any]) -> str:
    """A table for people: the most important metrics of every level and group, and why some are missing."""
    lines: list[str] = []
    reasons: dict[str, str] = {}
    for level, content in report["levels"].items():
        found = [(printable(f"{level}s: {name}"), metrics) for name, metrics in groups(content)]
        shown = found[:GROUP_ROWS]
        lines += columns([head(""), *(row(name, metrics) for name, metrics in shown)])
        if len(found) > GROUP_ROWS:
            lines.append(f"... and {len(found) - GROUP_ROWS} more groups, in {METRICS}")
        for name, metrics in shown:
            if reason := metrics["why"].get("auc"):
                reasons.setdefault(reason, name)
    return "\n".join([*lines, *(f"no AUC of {name}: {reason}" for reason, name in reasons.items())])


def columns(rows: list[list[str]], left: int = 1) -> list[str]:
    """Lines with the cells of each column below each other, the first `left` of them to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([*map(str.ljust, row[:left], widths), *map(str.rjust, row[left:], widths[left:])]) for row in rows
    ]
