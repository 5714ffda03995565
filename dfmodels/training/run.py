"""The folder of a run: who writes to it, what it has come to, and what is kept of it."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch
from safetensors import SafetensorError

from dfmodels.files import atomic_write, flush, writable_folder
from dfmodels.optional import require

LOCK, RECIPE, ENVIRONMENT, METRICS, FAILED = ".lock", "recipe.yaml", "environment.json", "metrics.csv", "failed.csv"
STATE, NEW_STATE, OLD_STATE, PROGRESS = "last", ".last.new", ".last.old", "progress.json"
BEST, FINAL, CARD, CURVES = "best.safetensors", "final.safetensors", "README.md", "curves.png"
# rows of METRICS are of a step-interval ("step") or of an epoch ("epoch"); seconds since the row before, and the share
# of them in which the model waited for samples
COLUMNS = ("kind", "epoch", "step", "learning_rate", "seconds", "waiting")
BEGIN_ANEW = "remove it to begin anew"
# the metrics that are drawn: few, so that each has a colour of its own
JUDGED = ("val_auc", "val_ap", "val_eer", "val_accuracy", "val_balanced_accuracy")
# what a resume may have otherwise: it changes no number
FREE = ("num_workers",)


class RunFolder:
    """The folder of one run, which one process at a time writes to.

    Args:
        path: made if it is not there.
        resume: whether to go on in a folder that is not empty.

    Raises:
        ValueError: the folder is not empty, is no folder to write to, or a living process writes to it.
    """

    def __init__(self, path: str | Path, *, resume: bool) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"--out must be a folder, but {self.path} is a file")
        names = {entry.name for entry in self.path.iterdir()} if self.path.is_dir() else set()
        if not resume and names - {LOCK}:
            raise ValueError(f"{self.path} is not empty: go on there with --resume, or name another folder")
        if RECIPE not in names and any(not name.startswith(".") for name in names):
            raise ValueError(
                f"{self.path} is not empty and holds no run: there is no {RECIPE} in it; name another folder"
            )
        writable_folder("--out", self.path)
        self._lock = self._locked()
        self.rows: list[dict[str, Any]] = []
        self._writer: Any = None
        # a swap that was cut off: both states are whole, the newer one has its name not yet
        if not self.state.is_dir() and self._old.is_dir():
            os.replace(self._old, self.state)
        for left in (self._new, self._old):
            shutil.rmtree(left, ignore_errors=True)
        for left in self.path.glob(".*.part"):
            left.unlink(missing_ok=True)

    def _locked(self) -> TextIO:
        # a lock of the open file, which Python closes in every program that this process starts
        lock = open(self.path / LOCK, "a+", encoding="utf-8")  # noqa: SIM115
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.truncate(0)
            os.write(lock.fileno(), f"{os.getpid()}\n".encode())
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            raise ValueError(
                f"{self.path} is in use: process {owner} trains there; wait for it, or name another folder"
            ) from None
        except OSError as error:
            lock.close()
            raise OSError(f"{self.path / LOCK} cannot be written: {error.strerror}") from error
        return lock

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._lock.close()

    # ------------------------------------------------------------------ what was asked for

    def settle(self, recipe: Mapping[str, Any], environment: Mapping[str, Any], *, must_match: Iterable[str]) -> None:
        """Write down recipe and environment, or compare them with those of the run that is gone on with.

        Args:
            recipe, environment: content of the two files.
            must_match: keys of the environment that a resume must have too.

        Raises:
            ValueError: a resume with other values, each of which it names.
        """
        yaml = require("yaml", "the folder of a run")
        known = self._known(RECIPE, yaml.safe_load)
        surroundings = self._known(ENVIRONMENT, json.loads)
        pairs = [(key, known.get(key), recipe.get(key)) for key in {**known, **recipe} if known and key not in FREE]
        pairs += [(key, surroundings.get(key), environment.get(key)) for key in must_match if surroundings]
        other = [f"{key} was {was!r} and is {now!r}" for key, was, now in _flat(pairs) if was != now]
        if other:
            raise ValueError(
                f"{self.path} holds another run: {'; '.join(other)}. Resume it with the values that it had "
                f"({RECIPE} and {ENVIRONMENT} in it), or name another folder"
            )
        if not known:
            self._write(RECIPE, yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True))
        if not surroundings:
            self._write(ENVIRONMENT, json.dumps(environment, indent=2) + "\n")

    def environment(self) -> dict[str, Any]:
        """What was written down of where and on what the run takes place."""
        return self._known(ENVIRONMENT, json.loads)

    def _known(self, name: str, parse: Callable[[str], Any]) -> dict[str, Any]:
        """What a file of the run says; nothing where it is not there or empty."""
        file = self.path / name
        with readable(file, "name another folder"):
            content = parse(file.read_text(encoding="utf-8")) if file.is_file() and file.stat().st_size else {}
            if not isinstance(content, dict):
                raise ValueError(f"it must hold names and values, not {content!r}")
        return content

    def _write(self, name: str, text: str) -> None:
        with atomic_write(self.path / name) as partial:
            partial.write_text(text, encoding="utf-8")

    # ------------------------------------------------------------------ the state

    @property
    def state(self) -> Path:
        """The last whole state; a folder that is not there before the first."""
        return self.path / STATE

    @property
    def _new(self) -> Path:
        return self.path / NEW_STATE

    @property
    def _old(self) -> Path:
        return self.path / OLD_STATE

    def progress(self) -> dict[str, Any] | None:
        """What was said with the last state; None before the first."""
        if not self.state.is_dir():
            return None
        with readable(self.state, BEGIN_ANEW):
            content: dict[str, Any] = json.loads((self.state / PROGRESS).read_text(encoding="utf-8"))
        return content

    def begin_state(self) -> Path:
        """An empty folder for a state, which `finish_state` puts in the place of the last one."""
        shutil.rmtree(self._new, ignore_errors=True)
        self._new.mkdir()
        return self._new

    def finish_state(self, progress: Mapping[str, Any]) -> None:
        """Put the new state, once it is on the disk, in the place of the last; one of them is whole at any moment."""
        (self._new / PROGRESS).write_text(json.dumps(progress), encoding="utf-8")
        for file in self._new.rglob("*"):
            flush(file)
        flush(self._new)
        if self.state.is_dir():
            os.replace(self.state, self._old)
        os.replace(self._new, self.state)
        flush(self.path)
        shutil.rmtree(self._old, ignore_errors=True)

    def drop_state(self) -> None:
        """Remove what there is of a new state that could not be written."""
        shutil.rmtree(self._new, ignore_errors=True)

    # ------------------------------------------------------------------ numbers

    def open_metrics(self, step: int) -> None:
        """Go on after `step`: rows behind it are of work that is done again."""
        file = self.path / METRICS
        if file.is_file():
            with (
                readable(file, "remove it to go on without its rows"),
                file.open(encoding="utf-8", newline="") as lines,
            ):
                for row in csv.DictReader(lines):
                    if None not in row.values() and row["step"].isdigit() and int(row["step"]) <= step:
                        self.rows.append({name: _number(value) for name, value in row.items()})
        writer = require("torch.utils.tensorboard", "the curves of a training").SummaryWriter
        self._writer = writer(str(self.path), purge_step=step + 1)
        self._write_rows()

    def add_row(self, row: Mapping[str, Any]) -> None:
        """A row of METRICS and the same for TensorBoard."""
        known = self.rows[0].keys() if self.rows else {}
        self.rows.append({**dict.fromkeys(known, ""), **row})
        if self.rows[-1].keys() == known:
            with (self.path / METRICS).open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, list(known)).writerow(self.rows[-1])
        else:  # the first row, or the first of a kind with further columns
            names = dict.fromkeys(name for row in self.rows for name in row)
            self.rows = [{**dict.fromkeys(names, ""), **row} for row in self.rows]
            self._write_rows()
        for name, value in row.items():
            if isinstance(value, float):
                self._writer.add_scalar(f"{row['kind']}/{name}", value, row["step"])
        self._writer.flush()

    def last_epoch(self) -> Mapping[str, Any]:
        """The last row of an epoch; empty before the first, and without a validation split."""
        return next((row for row in reversed(self.rows) if row["kind"] == "epoch"), {})

    def _write_rows(self) -> None:
        with atomic_write(self.path / METRICS) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(self.rows[0]) if self.rows else list(COLUMNS))
            writer.writeheader()
            writer.writerows(self.rows)

    def write_failed(self, failed: Mapping[str, str]) -> None:
        """Name the videos that could not be read, and why."""
        with atomic_write(self.path / FAILED) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("path", "reason"))
            writer.writerows(failed.items())

    def read_failed(self) -> dict[str, str]:
        """Videos that could not be read so far, and why."""
        file = self.path / FAILED
        if not file.is_file():
            return {}
        with file.open(encoding="utf-8", newline="") as lines:
            return {row["path"]: row["reason"] for row in csv.DictReader(lines)}

    # ------------------------------------------------------------------ for people

    def draw_curves(self) -> None:
        """A picture: losses of training and validation above, metrics of the validation split below."""
        figure = require("matplotlib.figure", "the curves of a training").Figure(figsize=(8, 6), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True)
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        losses = [name for name in names if name.startswith("loss") or name == "val_loss"]
        for axes, shown in ((top, losses), (bottom, [name for name in names if name in JUDGED])):
            for name in shown:
                points = [(row["step"], row[name]) for row in self.rows if isinstance(row.get(name), int | float)]
                if points:
                    of_epochs = name.startswith("val_")
                    axes.plot(*zip(*points, strict=True), marker="." if of_epochs else None, label=name)
            axes.set_ylabel("loss" if axes is top else "validation videos")
            axes.grid(alpha=0.3)
            if axes.lines:
                axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")  # beside what it would hide
        bottom.set_xlabel("step")
        with atomic_write(self.path / CURVES) as partial:
            figure.savefig(partial, format="png", dpi=120)

    def write_card(self, text: str) -> None:
        self._write(CARD, text)

    def written(self, what: str, write: Callable[[], object]) -> None:
        """Call `write`; OSError that says what is left of the run where the disk does not take it."""
        try:
            write()
        except (OSError, RuntimeError, SafetensorError) as error:
            progress = self.progress()
            left = "no state was saved yet" if progress is None else f"{self.state} holds step {progress['step']}"
            reason = str(error).rpartition(" cannot be written: ")[2]  # the file is named already
            raise OSError(
                f"{self.path}: {what} cannot be written: {reason}. {left}; make room, then go on with --resume"
            ) from error


@contextmanager
def readable(what: Path, remedy: str) -> Iterator[None]:
    """ValueError that names `what` and says what to do, where the block cannot read it."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):  # says nothing of what was read
        raise
    except Exception as error:  # each of the formats has errors of its own
        said = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise ValueError(f"{what} cannot be read: {said}; {remedy}") from error


def _flat(pairs: Iterable[tuple[str, Any, Any]]) -> Iterable[tuple[str, Any, Any]]:
    """Pairs of values, those of mappings one by one."""
    for key, was, now in pairs:
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            yield from _flat((f"{key}.{name}", was.get(name), now.get(name)) for name in {**was, **now})
        else:
            yield key, was, now


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
