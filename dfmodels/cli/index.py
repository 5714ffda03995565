"""What videos a data set holds: one row each in a CSV file, and a table of counts."""

import argparse
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from dfmodels.cli.loading import add_row_choice, check_path, choose_rows
from dfmodels.data.index import COLUMNS, IDENTITY, LABELS, SPLITS, Video, warn_of_shared_identities, write_index
from dfmodels.data.layouts import LAYOUTS, index_root
from dfmodels.files import printable
from dfmodels.video.images import natural_key

LOG = logging.getLogger(__name__)
EXAMPLE = "dfmodels index FaceForensics++ --layout auto -o videos.csv"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "root", metavar="ROOT", help="folder of a data set, as it is published, or a JSON file of DeepfakeBench"
    )
    parser.add_argument(
        "--layout",
        default="auto",
        choices=["auto", *LAYOUTS],
        metavar="NAME",
        help=f"auto (default) recognises them and says how; or {', '.join(LAYOUTS)}",
    )
    parser.add_argument(
        "-o", "--out", metavar="FILE", help="write the index into this file, .csv; without it only the table is shown"
    )
    add_row_choice(parser)


def run(options: argparse.Namespace) -> int:
    check_path("ROOT", options.root)
    check_path("-o", options.out)
    if options.out:
        _check_out(Path(options.out))
    videos = choose_rows(index_root(options.root, options.layout).videos, options)
    warn_of_shared_identities(videos)
    classes = {video.label for video in videos}
    if len(classes) == 1:
        LOG.warning("warning: all videos are %s; training asks for both classes", LABELS[classes.pop()])
    if options.out:
        write_index(options.out, videos)
        LOG.info("%d rows in %s", len(videos), options.out)
    print(count_table(videos))
    return 0


def _check_out(path: Path) -> None:
    """Raise ValueError unless the index can be written there and replaces nothing but an index of this command."""
    if path.suffix.lower() != ".csv":
        raise ValueError(f"-o must end in .csv, got {str(path)!r}")
    if not path.parent.is_dir():
        raise ValueError(f"-o must be in a folder that is there, {path.parent} is not; make it first")
    if path.is_dir():
        raise ValueError(f"-o must be a file, {path} is a folder")
    if not path.exists() or not path.stat().st_size:
        return
    with open(path, encoding="utf-8", errors="replace") as lines:
        header = lines.readline().rstrip("\n").split(",")
    if tuple(header) not in (COLUMNS, (*COLUMNS, IDENTITY)):
        raise ValueError(f"-o {path} is there and not written by this command; remove it or give another file")


def count_table(videos: Sequence[Video]) -> str:
    """Numbers of videos of every data set, method and compression, a column a split."""
    counts: dict[tuple[str, str, str], Counter[str]] = {}
    for video in videos:
        counts.setdefault((video.dataset, video.method, video.compression), Counter())[video.split] += 1
    # real ones first, as everything is judged against them
    order = sorted(counts, key=lambda kind: (kind[0], kind[1] != LABELS[0], natural_key(kind[1]), natural_key(kind[2])))
    rows = [[*map(printable, kind), *_cells(counts[kind])] for kind in order]
    total = sum(counts.values(), Counter[str]())
    table = [["dataset", "method", "compression", *SPLITS, "all"], *rows, ["all", "", "", *_cells(total)]]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{'<' if place < 3 else '>'}{widths[place]}}" for place, cell in enumerate(row))
        for row in table
    )


def _cells(counts: Mapping[str, int]) -> list[str]:
    return [*(str(counts.get(split, 0)) for split in SPLITS), str(sum(counts.values()))]
