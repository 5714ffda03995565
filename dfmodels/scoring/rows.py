"""A file of scored videos that grows row by row, and with which a later run can go on."""

import csv
import errno
import fcntl
import io
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from dfmodels.detector import Detector
from dfmodels.files import atomic_write
from dfmodels.scoring.formats import COLUMNS, SHOWN_HASH, Csv, Form, JsonLines, as_dict
from dfmodels.scoring.result import VideoScore
from dfmodels.scoring.video import clips_wanted
from dfops import __version__

LOG = logging.getLogger(__name__)
SYNC_SECONDS = 10  # rows of as many seconds may be lost with the power, none with the process
LONGEST_ROW = 1 << 18  # bytes of CSV; what is longer has a quotation mark too many
FORMS: dict[str, Callable[[], Form]] = {".csv": Csv, ".jsonl": JsonLines}


def describe_run(
    model: Detector, *, faces: str, num_clips: int | Literal["all"] | None, average: str | None, select: str
) -> dict[str, Any]:
    """What decides about the scores of a run: detector, weights, and the settings as they are in effect."""
    wanted = clips_wanted(model.contract, num_clips)
    return {
        "detector": model.name,
        "options": model.config,
        "weights": asdict(model.origin),
        "faces": faces,
        "settings": {
            "clips": "all" if wanted is None else wanted,
            "average": average or model.contract.average,
            "select": select,
        },
        "version": __version__,
    }


class Results:
    """Writes the rows of scored videos into a file, each as soon as it is there.

    >>> with Results("scores.csv", describe_run(model, ...), resume=True) as results:  # doctest: +SKIP
    ...     results.add(score)

    The file holds whole rows at every moment, but for the last one where the process was killed while it wrote;
    resuming removes that. Beside it lies `FILE.run.json`, which says what made the rows. The process that writes has
    the file locked; that ends with the process, and processes that it starts have no part in it.

    Args:
        path: a .csv or .jsonl file.
        run: what makes the rows, as `describe_run` gives it; further facts are kept beside the file too.
        resume: whether rows that are there already are kept; they must come from the same `run`.
        replace: whether rows that are there already are dropped, as far as this class wrote them.

    Raises:
        ValueError: another suffix; by `with`, a file that holds something and is not to be resumed, that another run
            made, that is no such file, or that another process writes.
        OSError: the file cannot be written.
    """

    def __init__(
        self, path: str | Path, run: Mapping[str, Any], *, resume: bool = False, replace: bool = False
    ) -> None:
        self.path = Path(path)
        self.form = results_form(self.path)
        self.run = json.loads(json.dumps({**run, "folder": os.getcwd()}, default=str))
        self.resume, self.replace = resume, replace
        self.beside = Path(f"{self.path}.run.json")
        self.folder = self.run["folder"]  # from which paths in the file lead
        self.verdicts: dict[bytes, str] = {}
        self.size, self.synced = 0, time.monotonic()

    def __enter__(self) -> "Results":
        try:
            # the only handle: closing another one would end the lock
            self.file = open(self.path, "a+b", buffering=0)
        except OSError as error:
            raise OSError(f"{self.path} cannot be written: {error.strerror}") from error
        try:
            self._lock()
            self._open()
        except BaseException:
            self.file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with self.file:
            self._sync()

    def verdict(self, path: Path) -> str | None:
        """The verdict on a video whose row was there already, None where there is none."""
        return self.verdicts.get(_key(os.getcwd(), str(path)))

    def add(self, score: VideoScore) -> None:
        """Write the row of a video."""
        if self.folder != os.getcwd():  # what a relative path would lead from
            score = replace(score, path=Path(os.path.abspath(score.path)))
        self._write(("" if self.size else self.form.begin()) + self.form.row(score))
        if time.monotonic() - self.synced > SYNC_SECONDS:
            self._sync()

    def _lock(self) -> None:
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise ValueError(f"{self.path} is being written by another process; give another file") from error
            LOG.warning("%s cannot be locked (%s); see to it that no other run writes it", self.path, error.strerror)

    def _open(self) -> None:
        held = os.fstat(self.file.fileno()).st_size
        if held and self.replace and self.beside.exists():
            self.file.truncate(0)
            held = 0
        if held and not self.resume:
            raise ValueError(
                f"{self.path} holds rows already: --resume goes on with them, or give another file, or remove it"
            )
        if held:
            self._check_run()
            self._read(held)
        else:
            if self.resume:
                LOG.info("%s holds no rows yet: begun anew", self.path)
            with atomic_write(self.beside) as partial:
                partial.write_text(json.dumps(self.run, indent=2) + "\n")

    def _check_run(self) -> None:
        """Raise ValueError unless the rows that are there were made as those that are to come."""
        try:
            then = json.loads(self.beside.read_text())
            decisive, folder, version = _decisive(then), str(then["folder"]), str(then["version"])
        except FileNotFoundError as error:
            raise ValueError(
                f"{self.beside} is not there, which says what made the rows of {self.path}: they cannot be resumed; "
                "give another file"
            ) from error
        except OSError as error:
            raise OSError(f"{self.beside} cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{self.beside} does not say what made the rows of {self.path}; give another file"
            ) from error
        now = _decisive(self.run)
        for name in [*now, *decisive]:
            if decisive.get(name) != now.get(name):
                raise ValueError(
                    f"{self.path} was made with {_said(name, then, decisive)}, this run has "
                    f"{_said(name, self.run, now)}: resume it with the same, or give another file"
                )
        if version != self.run["version"]:
            LOG.info("%s was begun by version %s and goes on with %s", self.path, version, self.run["version"])
        self.folder = folder

    def _read(self, held: int) -> None:
        """Learn which videos have a row, and remove a last row that is not whole."""
        self.file.seek(0)
        reader = io.BufferedReader(self.file)
        rows = _csv_rows if isinstance(self.form, Csv) else _json_rows
        try:
            for end, row in rows(self.path, reader):
                self.size = end
                if row is not None:
                    self.verdicts[_key(self.folder, str(row["path"]))] = str(row["verdict"])
        finally:
            reader.detach()  # or it would close the file with itself
        if self.size < held:
            LOG.info("%s: the last row is not whole and is removed", self.path)
            self.file.truncate(self.size)

    def _write(self, text: str) -> None:
        # what is no Unicode in a name is an escape in CSV, or nobody could read the whole file; JSON has its own
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        written = 0
        try:
            while written < len(data):
                written += self.file.write(data[written:]) or 0
        except OSError as error:
            with suppress(OSError):
                self.file.truncate(self.size)
            raise self._failure(error) from error
        self.size += written

    def _sync(self) -> None:
        self.synced = time.monotonic()
        try:
            os.fsync(self.file.fileno())
        except OSError as error:
            if error.errno != errno.EINVAL:  # what is no file on a disk
                raise self._failure(error) from error

    def _failure(self, error: OSError) -> OSError:
        return OSError(
            f"{self.path} cannot be written: {error.strerror}; its rows are whole, --resume goes on with them"
        )


def results_form(path: Path) -> Form:
    """The form of rows that the suffix of a file asks for; ValueError for another suffix."""
    suffix = path.suffix.lower()
    if suffix not in FORMS:
        raise ValueError(f"a file of results must end in {' or '.join(FORMS)}, got {str(path)!r}")
    return FORMS[suffix]()


def _key(folder: str, path: str) -> bytes:
    return os.path.abspath(os.path.join(folder, path)).encode("utf-8", "backslashreplace")


def _decisive(run: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same for rows to stand in one file, by name."""
    return {
        "detector": run["detector"],
        **{f"option {name} =": value for name, value in run["options"].items()},
        "weights": run["weights"]["sha256"],
        "calibration": run["weights"].get("calibration"),  # which rows of earlier versions do not have
        **{f"--{name}": run["settings"][name] for name in ("clips", "average", "select")},
        "--cache": run["settings"].get("cache", "none"),
        "--faces": run["faces"],
    }


def _said(name: str, run: Mapping[str, Any], decisive: Mapping[str, Any]) -> str:
    if name == "weights":
        return f"weights {run['weights']['file']} (SHA-256 {str(decisive[name])[:SHOWN_HASH]})"
    return f"{name} {decisive[name]}" if name in decisive else f"no {name}"


def _csv_rows(path: Path, reader: Iterable[bytes]) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Where each whole row of a CSV file ends, with what it says; None for the header."""
    end, record = 0, b""
    header = True
    for line in reader:
        record += line
        if len(record) > LONGEST_ROW:
            raise _foreign(path, end)
        if not line.endswith(b"\n") or record.count(b'"') % 2:  # a line break in a name ends no row
            continue
        (fields,) = csv.reader(io.StringIO(record.decode("utf-8", "surrogateescape"), newline=""))
        if (header and tuple(fields) != COLUMNS) or len(fields) != len(COLUMNS):
            raise _foreign(path, end)
        end += len(record)
        yield end, None if header else dict(zip(COLUMNS, fields, strict=True))
        header, record = False, b""


def _json_rows(path: Path, reader: Iterable[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Where each whole line of JSON ends, with what it says."""
    end, keys = 0, as_dict(VideoScore(Path(), None, (), 0.0)).keys()
    for line in reader:
        if not line.endswith(b"\n"):
            return
        try:
            row = json.loads(line)
        except ValueError as error:
            raise _foreign(path, end) from error
        if not isinstance(row, dict) or row.keys() != keys:
            raise _foreign(path, end)
        end += len(line)
        yield end, row


def _foreign(path: Path, at: int) -> ValueError:
    return ValueError(
        f"{path} does not hold rows as this version writes them (from byte {at} on), so it cannot be resumed; give "
        "another file"
    )
