"""Reports of `dfmodels evaluate` beside each other: one table, and one picture of their ROC curves."""

import argparse
import logging
from pathlib import Path

from dfmodels.cli.loading import check_path
from dfmodels.evaluation.comparison import check_comparison, differences, read_reports, table, write_comparison

LOG = logging.getLogger(__name__)
EXAMPLE = "dfmodels compare report-a/ report-b/ --out comparison/"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reports", nargs="+", metavar="REPORT", help="folder that `dfmodels evaluate` wrote")
    parser.add_argument(
        "-o",
        "--out",
        default="comparison",
        metavar="DIR",
        help="folder of comparison.csv and roc.png (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    for report in options.reports:
        check_path("REPORT", report)
    check_path("--out", options.out)
    if len(options.reports) < 2:
        raise ValueError(f"compare needs two reports or more, got {options.reports[0]} alone")
    folder = Path(options.out)
    check_comparison(folder)
    reports = read_reports(options.reports)
    write_comparison(folder, reports)
    print(table(reports))
    print(f"wrote {folder}")
    for difference in differences(reports):
        LOG.warning("warning: %s", difference)
    return 0
