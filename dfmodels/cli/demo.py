"""Train a small detector on rendered forgeries, judge it on unseen people, and score a real and a fake film of them."""

import argparse
import logging
import shlex
import time
from pathlib import Path

from dfmodels.cli.loading import check_path, choose_device
from dfmodels.data.index import LABELS, SPLITS, Video, where
from dfmodels.files import atomic_write, writable_folder
from dfmodels.options import check_number

LOG = logging.getLogger(__name__)
EXAMPLE = "dfmodels demo --model frame --out demo/"
DETECTORS = ("ddl", "frame", "lsda", "stil")
LEFT_OUT = "FramewiseSynthesis"
# of people for training, validation and test; an index without any for validation would take them from the training
PAIRS = (16, 1, 10)
ALL_PAIRS = (48, 1, 32)
FRAMES = 60  # of a film
# beside the reduced ones: so many steps that all takes no more than five minutes on two cores
SETTINGS: dict[str, dict[str, int]] = {
    "ddl": {"epochs": 14},
    "frame": {},
    "lsda": {"epochs": 200},
    "stil": {"epochs": 16},
}
SHOWN = "ResampledSwap"  # the method of the fake film that is scored
TABLE, CROPS = "table.md", "crops"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", default="demo", metavar="DIR", help="folder for films, weights, reports and plots (default: demo)"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--model", choices=DETECTORS, default="stil", help="detector to train (default: stil)")
    what.add_argument(
        "--all",
        action="store_true",
        help="train every detector without one method of forgery and compare them on unseen people; 20 minutes on "
        "two cores. What is in --out already is gone on with",
    )
    parser.add_argument(
        "--folds",
        choices=("one", "all"),
        default="one",
        help=f"with --all: leave out {LEFT_OUT}, or each method in turn (default: one)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        help="of people and training, from 0 on (default: 1; with the people of 0 the settings were chosen)",
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")


def run(options: argparse.Namespace) -> int:
    check_number("--seed", options.seed, lambda seed: 0 <= seed < 2**63, "at least 0 and below 2^63")
    check_path("--out", options.out)
    if options.folds != "one" and not options.all:
        raise ValueError("--folds belongs to --all, which compares the detectors; give both")
    begun = time.perf_counter()
    out = writable_folder("--out", Path(options.out))
    status = compare_detectors(out, options) if options.all else show_detector(out, options)
    print(f"took     {time.perf_counter() - begun:.0f} s")
    return status


def rendered(out: Path, pairs: tuple[int, int, int], seed: int) -> list[Video]:
    """The films of a proving ground, in a folder whose name says how they were made."""
    from dfmodels.training.proving_ground import ground

    LOG.info("rendering %d people and four forgeries of each", 2 * sum(pairs))
    people = "-".join(map(str, pairs))
    return ground(out / f"ground-{people}-{seed}", pairs=pairs, frames=FRAMES, seed=seed)


def show_detector(out: Path, options: argparse.Namespace) -> int:
    from dfmodels.evaluation.folder import PAGE, number, summary
    from dfmodels.registry import load
    from dfmodels.scoring.batch import score_videos
    from dfmodels.scoring.formats import Table, written
    from dfmodels.training.proving_ground import FACES, TRAINED_ON, reduced, trial

    name = options.model
    device = choose_device(options.device)
    videos = rendered(out, PAIRS, options.seed)
    LOG.info("training %s on %d people, and testing it on %d others", name, 2 * PAIRS[0], 2 * PAIRS[2])
    folder = out / name
    tested = trial(
        reduced(name, options.seed, **SETTINGS[name]),
        videos,
        folder,
        crops=out / CROPS,
        device=device,
        command=options.typed,
    )
    LOG.info("scoring an unseen real and an unseen fake film, as `dfmodels score` does")
    films = [
        where(videos, {"split": SPLITS[-1], "compression": TRAINED_ON, "method": method})[0].path
        for method in (LABELS[0], SHOWN)
    ]
    model = load(tested.weights).to(device)
    plots = writable_folder("--out", folder / "plots")
    scores = score_videos(model, films, faces=FACES, num_clips="all", batch_size=4, plot=plots)
    report = tested.reports[TRAINED_ON]
    print(f"\n{summary(report)}\n")
    metrics = report["levels"]["video"]["all"]
    print(f"held-out videos: AUC {number(metrics, 'auc')} ({2 * PAIRS[2]} unseen people, 95 % interval)\n")
    print(written(Table(films, model.contract.unit), scores))
    print(f"weights  {tested.weights}")
    print(f"report   {folder / f'report-{TRAINED_ON}' / PAGE}")
    for film in films:
        print(f"plot     {plots / film.name}.png")
    again = ["dfmodels", "score", *films, "--weights", tested.weights, "--faces", FACES, "--clips", "all"]
    print(f"again    {shlex.join(map(str, [*again, '--plot', plots]))}")
    return 1 if any(result.error for result in scores) else 0


def compare_detectors(out: Path, options: argparse.Namespace) -> int:
    from dfmodels.synthetic.benchmark import FORGERIES
    from dfmodels.training.proving_ground import COMPRESSIONS, REDUCED, reduced, table, trial

    device = choose_device(options.device)
    videos = rendered(out, ALL_PAIRS, options.seed)
    tables = []
    for left_out in FORGERIES if options.folds == "all" else (LEFT_OUT,):
        tried = {}
        for name in REDUCED:
            LOG.info("%s without %s", name, left_out)
            tried[name] = trial(
                reduced(name, options.seed),
                videos,
                out / f"without-{left_out}" / name,
                crops=out / CROPS,
                left_out=left_out,
                compressions=COMPRESSIONS,
                device=device,
                command=options.typed,
            )
        tables.append(table(tried, left_out))
    text = "\n\n".join(tables)
    with atomic_write(out / TABLE) as partial:
        partial.write_text(f"{text}\n", encoding="utf-8")
    print(f"\n{text}\n")
    print(f"table    {out / TABLE}")
    return 0
