"""The compiled libraries of dfops: `_cpu` always, `_cuda` where a CUDA toolkit and a CUDA build of torch are found.

Environment: DFOPS_CUDA=1 makes a missing CUDA toolkit an error, DFOPS_CUDA=0 never looks for one;
TORCH_CUDA_ARCH_LIST chooses the GPU architectures.
"""

import json
import os
import runpy
import shutil
import subprocess
from pathlib import Path

import torch
from setuptools import setup

# Machine code from Turing on; a GPU of a generation between these, or after, compiles the newest PTX before it.
DEFAULT_ARCHITECTURES = "7.5;8.0;9.0;10.0+PTX;12.0+PTX"
# 2.10, the oldest torch whose stable ABI has all the calls we make
TARGET = "-DTORCH_TARGET_VERSION=0x020a000000000000"


def toolkit_root() -> str | None:
    """The CUDA toolkit: CUDA_HOME, else what nvcc itself reports (it may be a wrapper in another folder)."""
    named = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if named:
        return named
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return None
    dryrun = subprocess.run([nvcc, "--dryrun", "probe.cu"], capture_output=True, text=True, check=False).stderr
    tops = [line.split("TOP=", 1)[1] for line in dryrun.splitlines() if "TOP=" in line]
    return str(Path(tops[0].strip()).resolve()) if tops else None


def cuda_decision() -> tuple[str | None, str]:
    """Toolkit root to build `_cuda` with, or None, and the reason in words."""
    switch = os.environ.get("DFOPS_CUDA", "")
    if switch == "0":
        return None, "CUDA library not built: DFOPS_CUDA=0"
    root = toolkit_root()
    if torch.version.cuda is None:
        reason = f"CUDA library not built: torch {torch.__version__} is a CPU build"
    elif root is None:
        reason = "CUDA library not built: no nvcc on PATH and no CUDA_HOME"
    else:
        release = subprocess.run([f"{root}/bin/nvcc", "--version"], capture_output=True, text=True, check=True).stdout
        major = release.split("release ", 1)[1].split(".", 1)[0]
        if major == torch.version.cuda.split(".")[0]:
            return root, f"CUDA library built with the toolkit {release.split('release ', 1)[1].split(',')[0]}"
        reason = (
            f"CUDA library not built: toolkit has CUDA {major}, torch {torch.__version__} CUDA {torch.version.cuda}"
        )
    if switch == "1":
        raise SystemExit(f"DFOPS_CUDA=1, but: {reason}")
    return None, reason


cuda_root, cuda_reason = cuda_decision()
if cuda_root is not None:
    os.environ["CUDA_HOME"] = cuda_root
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", DEFAULT_ARCHITECTURES)

# read the environment decided above when imported
from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension  # noqa: E402


class Build(BuildExtension):
    """Compiles, and leaves beside the libraries what `python -m dfops.info` reports about the build."""

    def run(self) -> None:
        super().run()
        package = Path("dfops") if self.inplace else Path(self.build_lib, "dfops")
        facts = {
            "torch": torch.__version__,
            "cuda": torch.version.cuda if cuda_root else None,
            "architectures": os.environ["TORCH_CUDA_ARCH_LIST"] if cuda_root else None,
            "cuda_reason": cuda_reason,
            "sources": runpy.run_path("dfops/_extension.py")["source_hash"](Path("csrc")),
        }
        (package / "_build.json").write_text(json.dumps(facts, indent=1) + "\n")


def compression(root: str) -> list[str]:
    """Flags for a small fat binary; drivers that CUDA 12 still supports cannot read what CUDA 13 makes best."""
    options = subprocess.run([f"{root}/bin/nvcc", "--help"], capture_output=True, text=True, check=True).stdout
    thirteen = int(str(torch.version.cuda).split(".")[0]) >= 13
    return ["--compress-mode=size"] if thirteen and "--compress-mode" in options else ["-Xfatbin", "-compress-all"]


def sources(pattern: str) -> list[str]:
    return sorted(str(path) for path in Path("csrc").rglob(pattern))


include_dirs = [str(Path("csrc").resolve())]
cpp_flags = [
    "-O3",
    "-std=c++17",
    "-g0",
    "-fvisibility=hidden",
    "-Wall",
    "-Wno-unknown-pragmas",
    "-fopenmp-simd",
    TARGET,
]
cpp_flags += ["-fno-math-errno"]  # lets loops around sqrt vectorise; values stay the same
extensions = [
    CppExtension(
        "dfops._cpu",
        sources("*.cpp"),
        include_dirs=include_dirs,
        extra_compile_args={"cxx": cpp_flags},
        extra_link_args=["-s"],
        py_limited_api=True,
    )
]
if cuda_root is not None:
    extensions.append(
        CUDAExtension(
            "dfops._cuda",
            sources("*.cu"),
            include_dirs=include_dirs,
            extra_compile_args={
                "cxx": [*cpp_flags, "-DUSE_CUDA"],
                "nvcc": [
                    "-O3",
                    "-std=c++17",
                    "-DUSE_CUDA",
                    "--expt-relaxed-constexpr",
                    TARGET,
                    *compression(cuda_root),
                ],
            },
            extra_link_args=["-s"],
            py_limited_api=True,
        )
    )

setup(ext_modules=extensions, cmdclass={"build_ext": Build})
