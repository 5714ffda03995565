"""`python -m benchmarks.ray_queue`: what many films cost on a Ray cluster, by a queueing simulation, as Markdown.

A worker reads a film (decode), looks for faces, has the model judge it, and takes the next: so do the workers of
`score`, one a core. The process that started them, the driver, hands films out and writes the rows; between a film and
the next one a worker waits for it, and for Ray (transit). GPUs are shared by all workers.

The seconds of the stages are measured by a local cluster, on a rendered film, and the simulation is checked against the
films a second of that run, and of one of `score` behind it. Larger clusters are simulated with the seconds of a core,
which do not count what others on the machine took.
"""

import argparse
import heapq
import os
import resource
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import astuple, dataclass, fields, replace
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

ENOUGH = 0.98  # of the rate that a worker a core reaches
MILLION = 1_000_000
EMPTY = 500  # items without work, which tell what handing out takes
# nodes, and cores and GPUs of each
CLUSTERS = [(1, 2, 0), (1, 16, 0), (4, 16, 0), (32, 16, 0), (1, 16, 1), (1, 64, 1), (4, 16, 1), (1, 64, 8), (8, 64, 1)]


@dataclass(frozen=True)
class Stages:
    """Mean seconds of a film in each stage, in the order in which it passes them."""

    hand_out: float
    transit: float
    decode: float
    faces: float
    model: float
    write: float


NAMES = [field.name for field in fields(Stages)]


@dataclass(frozen=True)
class Outcome:
    """Films a second from the first row to the last, and what share of the time each resource works."""

    rate: float
    busy: dict[str, float]

    @property
    def bottleneck(self) -> str:
        return max(self.busy, key=lambda name: self.busy[name])


def simulate(
    stages: Stages, workers: int, cores: int, gpus: int, films: int | None = None, variation: float = 0.5, seed: int = 0
) -> Outcome:
    """Films through workers that have a core each, share the GPUs, and are fed by one process, which also writes.

    Args:
        stages: of a mean film; the model's is that of a GPU where there are any.
        workers: at most one a core.
        films: None is as many as make the first and the last ones, which leave workers idle, not matter.
        variation: standard deviation of the seconds in a stage, which are gamma distributed, as a share of their mean.
    """
    films = films or max(2000, 100 * workers)
    generator = np.random.default_rng(seed)
    shape = 1 / variation**2
    seconds = generator.gamma(shape, 1 / shape, (films, len(NAMES))) * astuple(stages)
    units = {"cores": cores, "GPUs": gpus, "driver": 1}
    # what is waited for; a worker has its core already
    queues = {"hand_out": "driver", "write": "driver", **({"model": "GPUs"} if gpus else {})}
    works = {**dict.fromkeys(("decode", "faces", "model"), "cores"), **queues}
    free = dict(units)
    waiting: dict[str, deque[tuple[int, int]]] = {name: deque() for name in units}
    busy = dict.fromkeys(units, 0.0)
    ends: list[tuple[float, int, int]] = []  # when, which film, which stage
    rows: list[float] = []
    fresh = iter(range(films))
    now = 0.0

    def begin(film: int, stage: int) -> None:
        name = NAMES[stage]
        if name in works:
            busy[works[name]] += seconds[film, stage]
        heapq.heappush(ends, (now + seconds[film, stage], film, stage))

    def enter(film: int, stage: int) -> None:
        queue = queues.get(NAMES[stage])
        if queue is None:
            begin(film, stage)
        elif free[queue]:
            free[queue] -= 1
            begin(film, stage)
        else:
            waiting[queue].append((film, stage))

    for film in islice(fresh, workers):
        enter(film, 0)
    while ends:
        now, film, stage = heapq.heappop(ends)
        queue = queues.get(NAMES[stage])
        if queue is not None:
            if waiting[queue]:
                begin(*waiting[queue].popleft())
            else:
                free[queue] += 1
        if stage + 1 < len(NAMES):
            enter(film, stage + 1)
        else:
            rows.append(now)
        if NAMES[stage] == "model":  # the worker takes another film
            following = next(fresh, None)
            if following is not None:
                enter(following, 0)
    shares = {name: busy[name] / (units[name] * now) for name in units if units[name]}
    return Outcome((films - 1) / (rows[-1] - rows[0]), shares)


def enough_workers(stages: Stages, cores: int, gpus: int, variation: float) -> int:
    """The fewest workers that reach the rate of one a core, as far as `ENOUGH` says."""
    low, high = 1, cores
    enough = ENOUGH * simulate(stages, high, cores, gpus, variation=variation).rate
    while low < high:
        middle = (low + high) // 2
        if simulate(stages, middle, cores, gpus, variation=variation).rate >= enough:
            high = middle
        else:
            low = middle + 1
    return low


# ---------------------------------------------------------------------- measured


class Timed:
    """Calls of a function, the seconds they took, and those of a core."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.taken = function, np.zeros(2)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        begin = clocks()
        try:
            return self.function(*arguments, **options)
        finally:
            self.taken += clocks() - begin


def clocks() -> Any:
    """The time, and the time in which this process had a core: the same but where others want the cores too."""
    return np.array([time.time(), time.process_time()])


def timed_scorer(model: Any, faces: str, device: str) -> Callable[[Path], Any]:
    """What `score` has workers answer with, and when each stage of it was."""
    from dfmodels.scoring.video import score_video
    from dfmodels.video import face_detector

    detector = face_detector(faces)
    finds = "detect_landmarks" if hasattr(detector, "detect_landmarks") else "detect"
    look, judge = Timed(getattr(detector, finds)), Timed(model.predict_logits)
    setattr(detector, finds, look)
    object.__setattr__(model, "predict_logits", judge)

    def score(path: Path) -> tuple[Any, dict[str, Any]]:
        look.taken, judge.taken = np.zeros(2), np.zeros(2)
        begin = clocks()
        found = score_video(model, path, faces=detector)
        end = clocks()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        stages = np.stack([end - begin - look.taken - judge.taken, look.taken, judge.taken])
        return found, {"begin": begin[0], "end": end[0], "stages": stages, "memory": memory, "worker": os.getpid()}

    return score


def nothing(device: str) -> Callable[[int], int]:
    return abs


def rate(times: Sequence[float]) -> float:
    return float((len(times) - 1) / (times[-1] - times[0]))


def measure(folder: Path, name: str, faces: str, films: int, workers: int) -> Stages:
    """Seconds of a core in the stages, by workers of a local cluster; prints the check of the simulation."""
    import torch

    import dfmodels
    from dfmodels.cluster import ray_pool
    from dfmodels.scoring.batch import iter_scores
    from dfmodels.scoring.rows import Results, describe_run
    from dfmodels.synthetic import render_clip
    from dfmodels.video.encode import write_video

    paths = [folder / f"{i}.mp4" for i in range(films)]
    frames = render_clip(3, 1, False, num_frames=250, size=360)
    write_video(paths[0], np.pad(frames, ((0, 0), (0, 0), (140, 140), (0, 0)), mode="edge"))
    for path in paths[1:]:
        os.link(paths[0], path)
    torch.manual_seed(0)
    model = dfmodels.optimize(dfmodels.build(name).eval())
    model.trained = True
    run = describe_run(model, faces=faces, num_clips=None, average=None, select="largest")
    load = os.getloadavg()[0]
    with ExitStack() as stack:
        results = stack.enter_context(Results(folder / "scores.csv", run))
        pool = stack.enter_context(ray_pool(workers))
        stack.enter_context(redirect_stdout(sys.stderr))  # Ray tells of workers that end
        spent = time.process_time()
        empty = sum(1 for _ in pool.answers(nothing, range(EMPTY)))
        hand_out = (time.process_time() - spent) / empty
        add = Timed(results.add)
        arrived, told = [], []
        begun = time.time()
        for _, answer in pool.answers(partial(timed_scorer, model, faces), paths):
            assert answer is not None, "a worker ended"
            score, times = answer
            assert score.clips, score.error
            add(score)
            arrived.append(time.time())
            told.append(times)
        plain = iter_scores(model, paths, faces=faces, ray="cpu", workers=workers)
        after = np.array([(time.time(), score.seconds) for score in plain])
    own: dict[int, list[dict[str, Any]]] = {}
    for times in sorted(told, key=lambda each: each["begin"]):
        own.setdefault(times["worker"], []).append(times)
    gap = float(np.mean([late["begin"] - early["end"] for each in own.values() for early, late in pairwise(each)]))
    # what a worker reads first, its libraries among it, comes once
    steady = np.stack([times["stages"] for each in own.values() for times in each[1:]])
    here, alone = (
        Stages(hand_out, max(gap - hand_out, 0.0), *map(float, steady.mean(0)[:, clock]), add.taken[clock] / films)
        for clock in (0, 1)
    )
    show({"s a film": here, "s of a core": alone})
    whole = steady[:, :, 0].sum(1)
    variation = max(float(whole.std() / whole.mean()), 0.01)
    # others on the machine may slow one run more than the other, as its own rows tell
    slower = float(after[workers:, 1].mean() / whole.mean())
    later = replace(here, decode=slower * here.decode, faces=slower * here.faces, model=slower * here.model)
    checks = {"this run": (rate(arrived), here), "`score` behind it": (rate(after[:, 0]), later)}
    memory = max(times["memory"] for times in told)
    print(
        f"{films} films by {workers} workers, load of the machine {load:.1f} before and {os.getloadavg()[0]:.1f} after."
        f" The first row came after {arrived[0] - begun:.1f} s, a worker took {memory:.2f} GB, and the films differed "
        f"by {variation:.0%}.\n"
    )
    print("| films/s | measured | simulated | difference |\n|---|---|---|---|")
    for kind, (measured, calibrated) in checks.items():
        said = simulate(calibrated, workers, workers, 0, films, variation).rate
        print(f"| {kind} | {measured:.3f} | {said:.3f} | {said / measured - 1:+.0%} |")
    print(flush=True)
    return alone


def show(rows: dict[str, Stages]) -> None:
    print(f"| stage | {' | '.join(name.replace('_', ' ') for name in NAMES)} |\n|---|{'---|' * len(NAMES)}")
    for name, stages in rows.items():
        print(f"| {name} | {' | '.join(f'{seconds:.2g}' for seconds in astuple(stages))} |")
    print(flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ray_queue", description=__doc__)
    parser.add_argument(
        "--seconds",
        type=float,
        nargs=len(NAMES),
        metavar=tuple(name.upper() for name in NAMES),
        help="seconds of a film in each stage (default: measured here)",
    )
    parser.add_argument("--gpu-model", type=float, metavar="S", help="seconds of a film's model stage on a GPU")
    parser.add_argument(
        "--variation", type=float, default=0.5, help="by how much films differ, in their mean (default: %(default)s)"
    )
    parser.add_argument("--model", default="stil", metavar="NAME", help="detector to measure (default: stil)")
    parser.add_argument("--find", default="haar", metavar="HOW", help="face detector to measure (default: haar)")
    parser.add_argument("--films", type=int, default=24, help="films to measure (default: 24)")
    parser.add_argument("--workers", type=int, default=2, help="of the local cluster (default: 2)")
    options = parser.parse_args()
    if options.seconds is None:
        with tempfile.TemporaryDirectory() as folder:
            stages = measure(Path(folder), options.model, options.find, options.films, options.workers)
    else:
        stages = Stages(*options.seconds)
        show({"s a film": stages})
    print("| nodes x (cores + GPUs) | workers a node | a GPU | films/s | busy cores / GPUs / driver |", end="")
    print(" bottleneck | a million films |\n|---|---|---|---|---|---|---|")
    for nodes, cores, gpus in CLUSTERS:
        if gpus and options.gpu_model is None:
            continue
        mixed = replace(stages, model=options.gpu_model) if gpus else stages
        workers = enough_workers(mixed, nodes * cores, nodes * gpus, options.variation)
        outcome = simulate(mixed, workers, nodes * cores, nodes * gpus, variation=options.variation)
        shares = [f"{outcome.busy[name]:.0%}" if name in outcome.busy else "-" for name in ("cores", "GPUs", "driver")]
        sharing = f"{workers / nodes / gpus:.3g}" if gpus else "-"
        print(
            f"| {nodes} x ({cores} + {gpus}) | {workers / nodes:.3g} | {sharing} | {outcome.rate:.3g} | "
            f"{' / '.join(shares)} | {outcome.bottleneck} | {MILLION / outcome.rate / 3600:.3g} h |"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
