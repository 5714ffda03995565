"""`python -m benchmarks`: prints a table of times; a whole run keeps it in benchmarks/results/<machine>.csv."""

import argparse
import csv
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks import (
    bench_ddl,
    bench_directional_difference,
    bench_feature_mixup,
    bench_inconsistency_gate,
    bench_interframe_difference,
    bench_latent_rotate,
    bench_latent_augment,
    bench_paired_cosine,
    bench_stil,
    bench_strip_merge,
    bench_strip_pool,
)
from benchmarks.harness import Row, copy_bandwidth, keep_memory, run

OPERATORS = {
    "directional_difference": bench_directional_difference,
    "feature_mixup": bench_feature_mixup,
    "inconsistency_gate": bench_inconsistency_gate,
    "interframe_difference": bench_interframe_difference,
    "latent_augment": bench_latent_augment,
    "paired_cosine": bench_paired_cosine,
    "latent_rotate": bench_latent_rotate,
    "strip_merge": bench_strip_merge,
    "strip_pool": bench_strip_pool,
}
DETECTORS = {"ddl": bench_ddl, "stil": bench_stil}
HEADER = ["operator", "shape", "layout", "dtype", "direction", "ours_ms", "spread", "eager_ms", "compiled_ms",
          "eager_ratio", "compiled_ratio", "copy_fraction", "peak_mb", "eager_peak_mb", "allocator"]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--only", nargs="+", choices=[*OPERATORS, *DETECTORS], default=[*OPERATORS, *DETECTORS])
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (default: torch's)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the CSV")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: no GPU is visible")
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)

    bandwidth = copy_bandwidth(options.device)
    facts = describe(options.device, bandwidth)
    print("\n".join(facts))
    print(line(HEADER))
    rows = []
    for row in measure(options.device, options.only):
        rows.append(row)
        tqdm.write(line(row))
    if set(options.only) != {*OPERATORS, *DETECTORS}:
        return 0  # a part must not replace the whole
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / f"{machine(options.device)}.csv"
    with open(target, "w", newline="") as file:
        file.writelines(f"# {fact}\n" for fact in facts)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(rows)
    print(f"written to {target}")
    return 0


def measure(device: str, names: list[str]) -> Iterator[list[str]]:
    """Rows of text. On the CPU, detectors with both allocators, operators where it keeps freed memory."""
    detectors = [DETECTORS[name] for name in names if name in DETECTORS]
    allocator = "torch" if device == "cuda" else "default"
    for detector in detectors:
        yield from (columns(row, allocator) for row in detector.rows(device))
    if device == "cpu":
        keep_memory()
        allocator = "keeps"
        for detector in detectors:
            yield from (columns(row, allocator) for row in detector.rows(device))
    cases = [case for name in names if name in OPERATORS for case in OPERATORS[name].cases(device)]
    for case in tqdm(cases, desc="benchmarks", unit="case", disable=None):
        # a shared machine's memory may be twice as fast a minute later
        yield from (columns(row, allocator) for row in run(case, device, copy_bandwidth(device)))


def columns(row: Row, allocator: str) -> list[str]:
    fraction = "" if row.copy_fraction is None else f"{row.copy_fraction:.2f}"
    peak, eager_peak = ("" if mb is None else f"{mb:.1f}" for mb in (row.peak_mb, row.eager_peak_mb))
    return [row.operator, row.shape, row.layout, row.dtype, row.direction, f"{row.ours:.3f}", f"{row.spread:.2f}",
            f"{row.eager:.3f}", f"{row.compiled:.3f}", f"{row.eager / row.ours:.2f}", f"{row.compiled / row.ours:.2f}",
            fraction, peak, eager_peak, allocator]  # fmt: skip


def line(values: list[str]) -> str:
    widths = [28, 16, 13, 8, 16, 9, 6, 9, 11, 11, 14, 13, 8, 13, 9]
    cells = zip(values, widths, strict=True)
    return " ".join(f"{v:>{width}}" if i >= 5 else f"{v:{width}}" for i, (v, width) in enumerate(cells))


def describe(device: str, bandwidth: float) -> list[str]:
    """What the numbers were measured on."""
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    facts = [
        f"date {date.today()}, commit {git.stdout.strip() or 'unknown'}",
        f"torch {torch.__version__}, CUDA {torch.version.cuda or 'none'}, Python {platform.python_version()}",
    ]
    if device == "cuda":
        driver = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True
        )
        facts.append(f"GPU {torch.cuda.get_device_name()}, driver {driver.stdout.strip() or 'unknown'}")
    else:
        facts.append(f"CPU {processor()}, {torch.get_num_threads()} threads")
        facts.append("allocator: default, or keeps freed memory (mallopt), so that fresh outputs cost no page faults")
    facts.append(
        f"copy bandwidth {bandwidth / 1e9:.1f} GB/s (read + write) at the start, measured again before each operator"
    )
    return facts


def processor() -> str:
    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return models[0] if models else platform.processor() or platform.machine()


def machine(device: str) -> str:
    name = torch.cuda.get_device_name() if device == "cuda" else f"cpu {processor()}"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


if __name__ == "__main__":
    sys.exit(main())
