"""`python -m benchmarks.ray_queue`: what many films cost on a Ray cluster, by a small queueing simulation, as Markdown.

A worker reads a film (decode), looks for faces, has the model judge it, and takes the next; the command that started
the workers hands out films and writes the rows. Cores are the workers' own, GPUs are shared by all, and there is one
writer. Without seconds a stage, they are measured here, on a rendered film. --check runs the same films on a cluster of
two workers on this machine and compares.
"""

import argparse
import heapq
import itertools
import os
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

STAGES = "decode", "faces", "model", "write"
ENOUGH = 0.98  # of the rate that more workers reach
MILLION = 1_000_000
DISPATCH = 0.0074  # seconds of the command's process that Ray Data takes for an item, by 2000 empty ones on two cores


@dataclass(frozen=True)
class Rates:
    """Seconds of a film in each stage, and how much films differ."""

    decode: float
    faces: float
    model: float
    write: float
    variation: float = 0.5  # standard deviation of the seconds of a film in their mean


@dataclass(frozen=True)
class Outcome:
    """Films a second, and the share of time in which each resource works."""

    rate: float
    busy: dict[str, float]

    @property
    def bottleneck(self) -> str:
        return max(self.busy, key=lambda name: self.busy[name])


def simulate(rates: Rates, workers: int, cores: int, gpus: int, films: int | None = None, seed: int = 0) -> Outcome:
    """Films through workers that hold a core to decode and find faces, and a GPU (a core where there is none) to judge.

    The seconds of a film in each stage are gamma distributed.
    """
    films = films or max(2000, 60 * cores)  # the first and the last ones leave workers idle
    generator = np.random.default_rng(seed)
    shape = 1 / rates.variation**2
    seconds = generator.gamma(shape, 1 / shape, (films, len(STAGES))) * [getattr(rates, name) for name in STAGES]
    free = {"cores": cores, "gpus": gpus, "writer": 1}
    units = dict(free)
    needs = ["cores", "cores", "gpus" if gpus else "cores", "writer"]
    waiting: dict[str, deque[tuple[int, int]]] = {name: deque() for name in free}
    busy = dict.fromkeys(free, 0.0)
    ends: list[tuple[float, int, int]] = []  # when, which film, which stage
    fresh = iter(range(films))
    now = 0.0

    def ask(film: int, stage: int) -> None:
        name = needs[stage]
        waiting[name].append((film, stage))
        serve(name)

    def serve(name: str) -> None:
        while free[name] and waiting[name]:
            free[name] -= 1
            film, stage = waiting[name].popleft()
            busy[name] += seconds[film, stage]
            heapq.heappush(ends, (now + seconds[film, stage], film, stage))

    for film in itertools.islice(fresh, workers):
        ask(film, 0)
    while ends:
        now, film, stage = heapq.heappop(ends)
        free[needs[stage]] += 1
        serve(needs[stage])
        if stage + 1 < len(STAGES):
            ask(film, stage + 1)
        if STAGES[stage] == "model":  # the worker takes another film
            following = next(fresh, None)
            if following is not None:
                ask(following, 0)
    shares = {name: busy[name] / (units[name] * now) for name in units if units[name]}
    return Outcome(films / now, shares)


def enough_workers(rates: Rates, cores: int, gpus: int) -> int:
    """The fewest workers that reach the rate of many, as far as `ENOUGH` says."""
    low, high = 1, 4 * (cores + gpus)
    enough = ENOUGH * simulate(rates, high, cores, gpus).rate
    while low < high:
        middle = (low + high) // 2
        if simulate(rates, middle, cores, gpus).rate >= enough:
            high = middle
        else:
            low = middle + 1
    return low


# ---------------------------------------------------------------------- measured


class Timed:
    """Calls of a function, and the seconds they took."""

    def __init__(self, function: Any) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        begin = time.perf_counter()
        try:
            return self.function(*arguments, **options)
        finally:
            self.seconds += time.perf_counter() - begin


def measure(folder: Path, name: str, faces: str, films: int) -> tuple[Rates, Sequence[Path], Any]:
    """Seconds of the stages over rendered films in one thread, with the films and the detector."""
    import torch

    import dfmodels
    from dfmodels.scoring.rows import Results, describe_run
    from dfmodels.scoring.video import score_video
    from dfmodels.synthetic import render_clip
    from dfmodels.video import face_detector
    from dfmodels.video.encode import write_video

    frames = render_clip(3, 1, False, num_frames=250, size=360)
    first = folder / "0.mp4"
    write_video(first, np.pad(frames, ((0, 0), (0, 0), (140, 140), (0, 0)), mode="edge"))
    paths = [first, *(folder / f"{i}.mp4" for i in range(1, films))]
    for path in paths[1:]:
        os.link(first, path)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = dfmodels.optimize(dfmodels.build(name).eval())
    model.trained = True
    detector = face_detector(faces)
    score_video(model, first, faces=detector)  # what only the first one does
    finds = "detect_landmarks" if hasattr(detector, "detect_landmarks") else "detect"
    look, judge = Timed(getattr(detector, finds)), Timed(model.predict_logits)
    setattr(detector, finds, look)
    object.__setattr__(model, "predict_logits", judge)
    run = describe_run(model, faces=detector.name, num_clips=None, average=None, select="largest")
    whole = Timed(score_video)
    with Results(folder / "alone.csv", run) as results:
        add = Timed(results.add)
        for path in paths:
            score = whole(model, path, faces=detector)
            assert score.clips, score.error
            add(score)
    delattr(detector, finds)
    object.__delattr__(model, "predict_logits")
    taken = whole.seconds - look.seconds - judge.seconds, look.seconds, judge.seconds, add.seconds
    return Rates(*(seconds / len(paths) for seconds in taken), variation=0.05), paths, model


def check(rates: Rates, paths: Sequence[Path], model: Any, faces: str) -> str:
    """Films a second of a local cluster of two workers, between the first row and the last, beside the simulation."""
    from dfmodels.scoring.batch import iter_scores

    times, seconds = [], []
    begin = time.perf_counter()
    for score in iter_scores(model, paths, faces=faces, ray="cpu", workers=2):
        times.append(time.perf_counter() - begin)
        seconds.append(score.seconds)
    measured = (len(times) - 1) / (times[-1] - times[0])
    predicted = simulate(rates, 2, 2, 0, len(paths)).rate
    slower = np.mean(seconds) / (rates.decode + rates.faces + rates.model)
    return (
        f"Two workers here: {measured:.2f} films/s, simulated {predicted:.2f}; beside each other a film took "
        f"{slower:.2f} times as long as alone, simulated with that {predicted / slower:.2f}. First row after "
        f"{times[0]:.0f} s."
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ray_queue", description=__doc__)
    for name in STAGES:
        parser.add_argument(f"--{name}", type=float, metavar="S", help="seconds of a film (default: measured here)")
    parser.add_argument("--gpu-model", type=float, metavar="S", help="seconds of a film's model stage on a GPU")
    parser.add_argument(
        "--dispatch",
        type=float,
        default=DISPATCH,
        metavar="S",
        help="seconds of Ray Data for a film (default: %(default)s)",
    )
    parser.add_argument("--model-name", default="stil", metavar="NAME", help="detector to measure (default: stil)")
    parser.add_argument("--find", default="haar", metavar="HOW", help="face detector to measure (default: haar)")
    parser.add_argument("--films", type=int, default=12, help="films to measure (default: 12)")
    parser.add_argument("--check", action="store_true", help="run the films on a local cluster of two workers")
    options = parser.parse_args()
    given = [getattr(options, name) for name in STAGES]
    with tempfile.TemporaryDirectory() as folder:
        if None in given:
            rates, paths, model = measure(Path(folder), options.model_name, options.find, options.films)
        else:
            rates = Rates(*given)
        print("| stage | " + " | ".join(STAGES) + " |\n|---|---|---|---|---|")
        print("| seconds a film | " + " | ".join(f"{getattr(rates, name):.4f}" for name in STAGES) + " |\n", flush=True)
        if options.check:
            if None not in given:
                parser.error("--check measures the films, give no seconds")
            print(check(rates, paths, model, options.find) + "\n", flush=True)
    print("| cores | GPUs | workers | films/s | busy cores / GPUs / writer | bottleneck | a million films |")
    print("|---|---|---|---|---|---|---|")
    clusters = [(2, 0), (16, 0), (64, 0), (512, 0)]
    if options.gpu_model is not None:
        clusters += [(16, 1), (64, 1), (64, 8), (512, 8)]
    for cores, gpus in clusters:
        stage = options.gpu_model if gpus else rates.model
        mixed = Rates(rates.decode, rates.faces, stage, rates.write + options.dispatch)
        workers = enough_workers(mixed, cores, gpus)
        outcome = simulate(mixed, workers, cores, gpus)
        busy = " / ".join(
            f"{outcome.busy[name]:.0%}" if name in outcome.busy else "-" for name in ("cores", "gpus", "writer")
        )
        hours = MILLION / outcome.rate / 3600
        print(f"| {cores} | {gpus} | {workers} | {outcome.rate:.3g} | {busy} | {outcome.bottleneck} | {hours:.3g} h |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
