"""Indexes: one row a video, with its label, its split and where it comes from; CSV files that say so."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dfmodels.files import atomic_write, printable
from dfmodels.video.images import IMAGE_SUFFIXES, list_images, natural_key
from dfmodels.video.search import VIDEO_SUFFIXES

REAL = "real"
SPLITS = ("train", "val", "test")
LABELS = (REAL, "fake")
COLUMNS = ("path", "label", "split", "dataset", "method", "id", "target", "source", "compression")
REQUIRED = COLUMNS[:3]
IDENTITY = "identity"  # the further column that `Video.identities` knows
_ALIKE = 0.85  # of names of columns that may be missing, by difflib: "metod" is method, "target_id" is not target
_MOST_NAMED = 8


@dataclass(frozen=True)
class Video:
    """One row of an index.

    Attributes:
        path: a film, or a folder of frames or of face crops; absolute.
        label: 0 real, 1 fake.
        split: one of SPLITS.
        dataset: name of the data set.
        method: REAL, or the manipulation.
        id: "071" of a real video of FaceForensics++, "071_054" of a fake one; the stem of the path unless said.
        target, source: identities of a forgery where known, else empty.
        compression: as "c23"; empty where unknown.
        extra: further columns by name.
    """

    path: Path
    label: int
    split: str
    dataset: str = ""
    method: str = ""
    id: str = ""
    target: str = ""
    source: str = ""
    compression: str = ""
    extra: Mapping[str, str] = field(default_factory=dict, hash=False)

    @cached_property
    def key(self) -> str:
        """Names the video among all others: its path without links."""
        return os.path.realpath(self.path)

    @property
    def identities(self) -> frozenset[tuple[str, str]]:
        """(data set, name) of everybody in it: of a real one its id, of a fake one its target and source.

        The column `identity` says it instead where there is one: several films may show one person.
        """
        if self.extra.get(IDENTITY):
            names: tuple[str, ...] = (self.extra[IDENTITY],)
        else:
            names = (self.id,) if self.label == 0 else (self.target, self.source)
        return frozenset((self.dataset, name) for name in names if name)

    @cached_property
    def frames(self) -> tuple[Path, ...]:
        """Images of a folder in their natural order, or the image that the path is; none of a film or of nothing."""
        if self.path.suffix.lower() in IMAGE_SUFFIXES and self.path.is_file():
            return (self.path,)
        return tuple(list_images(self.path)) if self.path.is_dir() else ()


def stem(path: Path) -> str:
    """Name of a film or an image without its suffix; the whole name of a folder."""
    return path.stem if path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES else path.name


# ---------------------------------------------------------------------- files


def read_index(path: str | Path) -> list[Video]:
    """The rows of an index: a CSV file with a header, UTF-8, that holds at least the columns of REQUIRED.

    Paths begin at the folder of the file where they are not absolute. Columns of COLUMNS that the file lacks are empty,
    but for `id`, the stem of the path, and `method`, which is REAL where the label is 0 and "fake" elsewhere. Further
    columns are kept in `Video.extra`. A byte order mark, blank lines and line ends of any system are fine.

    Raises:
        ValueError: another form, a column, label, split or method that is none, a path that is not there or is there
            twice, or no row. Names the file, the line and what to do.
        OSError: the file cannot be read.
    """
    path = Path(path)
    folder = Path(os.path.abspath(path)).parent
    rows = _rows(path)
    header = [name.strip() for name in next(rows, (1, []))[1]]
    _check_header(path, header)
    videos: list[Video] = []
    lines: dict[str, int] = {}
    for line, cells in rows:
        where = f"{path}, line {line}"
        if len(cells) != len(header):
            raise ValueError(
                f"{where}: expected {len(header)} values, one for each column of the header, got {len(cells)}; quote a "
                "value that holds a comma"
            )
        video = _video(where, folder, dict(zip(header, cells, strict=True)))
        if not os.path.exists(video.path):
            raise ValueError(
                f"{where}: the path {video.path} is not there; paths begin at the folder of the index or are absolute: "
                "correct the path, or make the index anew with `dfmodels index`"
            )
        if video.key in lines:
            raise ValueError(
                f"{where}: the path {video.path} leads to the video of line {lines[video.key]}; remove one of the lines"
            )
        lines[video.key] = line
        videos.append(video)
    if not videos:
        raise ValueError(f"{path} holds no row below its header; make an index with `dfmodels index ROOT -o {path}`")
    return videos


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The first line of every record that is not blank, with its cells."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise OSError(f"{path}: the index cannot be read: {error.strerror or error}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: the index is not UTF-8; save it as CSV in UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}, line {line}: no CSV: {error}; quote values that hold commas or quotes") from error


def _check_header(path: Path, header: Sequence[str]) -> None:
    where = f"{path}, line 1"
    expected = f"an index is a CSV file whose first line names its columns: {','.join(COLUMNS)}"
    if not header:
        raise ValueError(f"{where}: the file is empty; {expected}")
    for sign, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and sign in header[0]:
            raise ValueError(f"{where}: values are separated by {name}; save the index with commas")
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise ValueError(f"{where}: the column {twice[0]!r} is there twice; rename or remove one")
    missing = [column for column in COLUMNS if column not in header]
    lacking = [column for column in missing if column in REQUIRED]
    for name in (name for name in header if name not in COLUMNS):
        close = difflib.get_close_matches(name.casefold(), lacking, 1) or difflib.get_close_matches(
            name.casefold(), missing, 1, _ALIKE
        )
        if close:
            raise ValueError(f"{where}: the column {name!r} must be called {close[0]!r}; rename it")
    if lacking:
        raise ValueError(f"{where}: no column {', '.join(map(repr, lacking))} among {', '.join(header)}; {expected}")


def _video(where: str, folder: Path, row: Mapping[str, str]) -> Video:
    given = {column: row.get(column, "") for column in COLUMNS[1:]}
    # the others may hold names of files, which begin and end with whatever they like
    given |= {column: given[column].strip() for column in ("label", "split", "dataset", "method", "compression")}
    path = row["path"] if os.path.exists(folder / row["path"]) else row["path"].strip()
    if not path:
        raise ValueError(f"{where}: the path is empty; give a film or a folder of frames")
    if "\0" in path:
        raise ValueError(f"{where}: the path {path!r} holds a zero byte; correct it")
    if given["label"] not in ("0", "1"):
        raise ValueError(f"{where}: label must be 0 (real) or 1 (fake), got {given['label']!r}; correct it")
    label = int(given["label"])
    if given["split"] not in SPLITS:
        raise ValueError(f"{where}: split must be train, val or test, got {given['split']!r}; correct it")
    method = given["method"] or LABELS[label]
    if (method == REAL) != (label == 0):
        wanted = f"must be {REAL!r} or empty" if label == 0 else f"must name the manipulation, not {REAL!r},"
        raise ValueError(f"{where}: method {wanted} where the label is {label}, got {method!r}; correct one of them")
    absolute = Path(os.path.abspath(folder / path))
    return Video(
        absolute,
        label,
        given["split"],
        given["dataset"],
        method,
        given["id"] or stem(absolute),
        given["target"],
        given["source"],
        given["compression"],
        {name: value for name, value in row.items() if name not in COLUMNS},
    )


def write_index(path: str | Path, videos: Sequence[Video]) -> None:
    """Write videos as `read_index` reads them; paths below the folder of the file are relative to it.

    The file is complete or not there.

    Raises:
        ValueError: no video, or a path that is no Unicode.
        OSError: the file cannot be written.
    """
    if not videos:
        raise ValueError(f"{path}: an index must hold a video, got none")
    folder = Path(os.path.abspath(path)).parent
    further = list(dict.fromkeys(name for video in videos for name in video.extra))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *further])
    for video in videos:
        row = [_relative(video.path, folder), *(getattr(video, column) for column in COLUMNS[1:])]
        writer.writerow([*row, *(video.extra.get(name, "") for name in further)])
    try:
        data = text.getvalue().encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{path}: a path is no Unicode, and no CSV could hold it: {error.object!r:.200}") from error
    with atomic_write(path) as partial:
        partial.write_bytes(data)


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def load_videos(source: str | Path, layout: str = "auto") -> list[Video]:
    """The videos of an index, or of the root of a data set, which is indexed in memory.

    Warns of identities in several splits.

    Args:
        source: an index (.csv), a folder, or a file of DeepfakeBench (.json).
        layout: of a folder, a name of `dfmodels.data.layouts.LAYOUTS` or "auto".

    Raises:
        ValueError: a bad index, or a root of another layout or without videos.
        OSError: `source` is not there or cannot be read.
    """
    from dfmodels.data.layouts import index_root  # layouts make rows of this module

    source = Path(source)
    if not source.exists():
        raise FileNotFoundError(f"{source} is not there: give an index (.csv) or the folder of a data set")
    is_index = source.is_file() and source.suffix.lower() != ".json"
    videos = read_index(source) if is_index else index_root(source, layout).videos
    warn_of_shared_identities(videos)
    return videos


# ---------------------------------------------------------------------- choosing rows


def where(videos: Sequence[Video], wanted: Mapping[str, str | Collection[str]]) -> list[Video]:
    """The videos whose columns have the wanted value, or one of several.

    Args:
        wanted: by column; labels are "0" and "1".

    Raises:
        ValueError: a column that no video has, or a value that none of the videos has in it.
    """
    chosen = list(videos)
    known = [*COLUMNS, *dict.fromkeys(name for video in videos for name in video.extra)]
    for column, values in wanted.items():
        if column not in known:
            raise ValueError(f"no column {column!r} to choose by{_instead(column, known)}")
        values = {values} if isinstance(values, str) else set(values)
        held = {_value(video, column) for video in videos}
        for value in sorted(values - held):
            raise ValueError(f"no video has {column} {value!r}{_instead(value, sorted(held))}")
        chosen = [video for video in chosen if _value(video, column) in values]
    return chosen


def _value(video: Video, column: str) -> str:
    return str(getattr(video, column)) if column in COLUMNS else video.extra.get(column, "")


def _instead(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 3, 0.6)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else f"; there is {named(known, ', ')}"


def limit(videos: Sequence[Video], n: int) -> list[Video]:
    """At most `n` videos of each class and split, in the order of `videos`.

    Those with the first ids are kept, so that forgeries of one person by all methods stay together.
    """
    if n < 1:
        raise ValueError(f"the limit must be at least 1 video a class and split, got {n}")
    left: dict[tuple[str, int], int] = defaultdict(lambda: n)
    kept = set()
    for place in sorted(range(len(videos)), key=lambda place: natural_key(videos[place].id)):
        kind = (videos[place].split, videos[place].label)
        if left[kind]:
            left[kind] -= 1
            kept.add(place)
    return [video for place, video in enumerate(videos) if place in kept]


def index_hash(videos: Sequence[Video]) -> str:
    """SHA-256 of the rows and their order, in hexadecimal; where the data as a whole lies makes no difference."""
    top = Path(os.path.commonpath([video.path.parent for video in videos])) if videos else Path()
    rows = [
        [_relative(video.path, top), *(getattr(video, column) for column in COLUMNS[1:]), sorted(video.extra.items())]
        for video in videos
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


# ---------------------------------------------------------------------- what is wrong with them


def warn_of_shared_identities(videos: Iterable[Video]) -> None:
    """One warning that names the identities which are in several splits: a test among them is no test on new people."""
    splits: dict[tuple[str, str], set[str]] = defaultdict(set)
    for video in videos:
        for identity in video.identities:
            splits[identity].add(video.split)
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for (dataset, name), found in splits.items():
        if len(found) > 1:
            groups[tuple(sorted(found, key=SPLITS.index))].append(f"{dataset} {name}".strip())
    if groups:
        shared = "; ".join(
            f"{' and '.join(found)} share {len(names)} ({named(sorted(names, key=natural_key), ', ')})"
            for found, names in groups.items()
        )
        warnings.warn(f"identities are in several splits, so a test is not on unseen people: {shared}", stacklevel=2)


def check_classes(videos: Iterable[Video], split: str = "train", of: str = "the index") -> None:
    """Raise ValueError, which names `of`, unless a split holds real and fake videos."""
    found = {video.label for video in videos if video.split == split}
    for label, name in enumerate(LABELS):
        if label not in found:
            raise ValueError(
                f"{of}: the split {split!r} holds no {name} video (label {label}); add some, or choose other rows"
            )


def named(names: Sequence[str], between: str = "; ") -> str:
    """The first few of many names, and how many more there are."""
    rest = len(names) - _MOST_NAMED
    return between.join(map(printable, names[:_MOST_NAMED])) + (f"{between}and {rest} more" if rest > 0 else "")
