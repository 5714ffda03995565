"""`python -m benchmarks.scores`: time and memory of judging a million scores, as Markdown.

The table that is judged is drawn here: half of the videos are fake, by as many methods as --methods says.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import sklearn


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scores", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="(default: %(default)s)")
    parser.add_argument("--methods", type=int, default=100, help="(default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 25], help="a video (default: 1 25)")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    print(f"{cores} cores, {platform.machine()}, NumPy {np.__version__}, scikit-learn {sklearn.__version__}\n")
    print("| rows | frames a video | methods | resamples | seconds | peak memory |")
    print("|---|---|---|---|---|---|")
    for frames in options.frames:
        with tempfile.TemporaryDirectory() as folder:
            table = write_table(Path(folder), options.rows, frames, options.methods)
            command = ["evaluate", "--scores", table, "--out", f"{folder}/report", "--resamples", options.resamples]
            begin = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "dfmodels", "--quiet", *map(str, command)], check=True, stdout=subprocess.DEVNULL
            )
            seconds = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20  # the highest of those so far
        print(
            f"| {options.rows:,} | {frames} | {options.methods} | {options.resamples:,} | {seconds:.0f} "
            f"| {peak:.1f} GB |",
            flush=True,
        )
    return 0


def write_table(folder: Path, rows: int, frames: int, methods: int) -> Path:
    """A table of `rows` scores in which fakes tend to have the higher ones."""
    generator = np.random.default_rng(0)
    path = folder / "scores.csv"
    with path.open("w") as file:
        file.write(f"path,label,score,method{',video' * (frames > 1)}\n")
        for video in range(rows // frames):
            fake = int(generator.integers(2))
            method = f"m{generator.integers(methods)}" if fake else "real"
            name = f"{method}/{video}"
            for frame, score in enumerate(1 / (1 + np.exp(-generator.normal(fake, size=frames)))):
                file.write(f"{name}/{frame}.png,{fake},{score:.6f},{method}{f',{name}' * (frames > 1)}\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
