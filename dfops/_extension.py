"""Loads the compiled libraries: `_cpu`, which every operator needs, and `_cuda` where it fits the installed torch."""

import importlib
import json
from pathlib import Path
from typing import Any

import torch

# {} in a source tree that was never built
build: dict[str, Any] = {}
cpu_path: str | None = None
cuda_loaded = False
cuda_reason = ""  # why CUDA tensors cannot be used, or which library serves them


def load() -> None:
    global build, cpu_path, cuda_loaded, cuda_reason
    facts = Path(__file__).with_name("_build.json")
    build = json.loads(facts.read_text()) if facts.is_file() else {}
    _refuse_second_copy()
    try:
        cpu_path = str(importlib.import_module("dfops._cpu").__file__)
    except ImportError as error:
        built = f"built with torch {build['torch']}" if build else "never built here"
        raise ImportError(
            f"dfops could not load its compiled library dfops._cpu ({built}, torch {torch.__version__} is installed, "
            f"2.10 or newer is needed): {error}. Rebuild it: pip install --force-reinstall --no-deps dfops, or "
            "pip install -e . --no-build-isolation in a source tree."
        ) from error
    cuda_loaded, cuda_reason = _load_cuda()


def _refuse_second_copy() -> None:
    # registering the same operators from two files ends the process without a message
    if torch._C._jit_get_schemas_for_operator("dfops::inconsistency_gate"):
        raise ImportError(
            "the operators of dfops are registered already, by another copy of dfops in this process; "
            "keep one installation on sys.path and start Python anew"
        )


def _load_cuda() -> tuple[bool, str]:
    built_for = build.get("cuda")
    if built_for is None:
        return False, str(build.get("cuda_reason", "CUDA library not built"))
    if torch.version.cuda is None:
        return False, f"CUDA library built for CUDA {built_for}, torch {torch.__version__} is a CPU build"
    if built_for.split(".")[0] != torch.version.cuda.split(".")[0]:
        return (
            False,
            f"CUDA library built for CUDA {built_for}, torch {torch.__version__} has CUDA {torch.version.cuda}",
        )
    try:
        importlib.import_module("dfops._cuda")
    except ImportError as error:
        return False, f"CUDA library present, but it does not load: {error}"
    return True, f"CUDA library for CUDA {built_for}, architectures {build['architectures']}"


def require_kernels_for(device: torch.device) -> None:
    """Raise RuntimeError with the reason when no kernel serves `device`."""
    if device.type in ("cpu", "meta") or (device.type == "cuda" and cuda_loaded):
        return
    if device.type == "cuda":
        raise RuntimeError(
            f"dfops was built without CUDA kernels that fit this torch ({cuda_reason}); "
            "rebuild it where nvcc and a CUDA build of torch are installed, or use CPU tensors"
        )
    raise RuntimeError(f"dfops has kernels for cpu and cuda tensors, got a tensor on {device}")
