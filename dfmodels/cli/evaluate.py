"""How well scores tell fakes from real videos: a report with all metrics, for every group of videos."""

import argparse
import logging
from pathlib import Path

from dfmodels.cli.loading import check_path
from dfmodels.evaluation.bootstrap import RESAMPLES
from dfmodels.evaluation.folder import check_folder, summary, write_folder
from dfmodels.evaluation.judge import judge
from dfmodels.evaluation.metrics import THRESHOLD, check_threshold
from dfmodels.evaluation.table import read_scores
from dfmodels.files import sha256
from dfmodels.options import check_count

LOG = logging.getLogger(__name__)
EXAMPLE = "dfmodels evaluate --scores scores.csv --out report/"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scores",
        required=True,
        metavar="FILE",
        help="table of scores of any detector, .csv: columns path, label (0 real, 1 fake), score; video where rows are "
        "frames; and any others, by which rows are grouped",
    )
    parser.add_argument("-o", "--out", required=True, metavar="DIR", help="folder of the report")
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
    check_path("--scores", options.scores)
    check_path("--out", options.out)
    check_threshold(options.threshold)
    check_count("--resamples", options.resamples, 0)
    check_count("--seed", options.seed, 0)
    folder = Path(options.out)
    check_folder(folder)
    scores = read_scores(options.scores)
    made_of = {"scores": {"file": options.scores, "sha256": sha256(options.scores)}, "command": options.typed}
    report = judge(scores, threshold=options.threshold, resamples=options.resamples, seed=options.seed, about=made_of)
    write_folder(folder, scores, report)
    print(summary(report))
    print(f"wrote {folder}")
    if report["failed"]:
        LOG.warning("%d of %d rows have no score; metrics.json names them", len(report["failed"]), len(scores))
    return 1 if report["failed"] else 0
