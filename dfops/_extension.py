"""Loads the compiled libraries: `_cpu`, which every operator needs, and `_cuda` where it fits the installed torch.

They lie beside this file, but for one case: a source folder that was installed and not built in place shadows the
installed package wherever Python starts in it. It then uses the installed libraries, if they are of the same sources.
"""

import hashlib
import importlib.util
import json
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent

# {} in a source tree that was never built
build: dict[str, Any] = {}
cpu_path: str | None = None
cuda_loaded = False
cuda_reason = ""  # why CUDA tensors cannot be used, or which library serves them


def load() -> None:
    global build, cpu_path, cuda_loaded, cuda_reason
    _refuse_second_copy()
    folder = _library_folder()
    build = _build_facts(folder)
    try:
        cpu_path = _load_library("_cpu", folder)
    except ImportError as error:
        built = f"built with torch {build['torch']}" if build else "never built here"
        raise ImportError(
            f"dfops could not load its compiled library dfops._cpu ({built}, torch {torch.__version__} is installed, "
            f"2.10 or newer is needed): {error}. Rebuild it: {_rebuild()}"
        ) from None
    cuda_loaded, cuda_reason = _load_cuda(folder)


def source_hash(csrc: Path) -> str:
    """Of the names and contents of all files of `csrc` that the libraries are compiled from."""
    state = hashlib.sha256()
    for path in sorted(path for path in csrc.rglob("*") if path.suffix in (".h", ".cuh", ".cpp", ".cu")):
        state.update(f"{path.relative_to(csrc).as_posix()} {path.stat().st_size}\n".encode())
        state.update(path.read_bytes())
    return state.hexdigest()


def _build_facts(folder: Path) -> dict[str, Any]:
    facts = folder / "_build.json"
    return dict(json.loads(facts.read_text())) if facts.is_file() else {}


def _library_folder() -> Path:
    """Where the libraries lie: beside this file, or in the installed package that this source folder shadows."""
    csrc = HERE.parent / "csrc"
    if _find_library("_cpu", HERE) is not None or not csrc.is_dir():
        return HERE
    others = [Path(entry).resolve() / "dfops" for entry in sys.path]
    others = [folder for folder in others if folder != HERE and _find_library("_cpu", folder) is not None]
    sources = source_hash(csrc)
    for folder in others:
        if _build_facts(folder).get("sources") == sources:
            return folder
    found = f"the one installed in {others[0]} was built from other sources" if others else "none is installed"
    raise ImportError(
        f"dfops is imported from its source folder {HERE}, which holds no compiled library, and {found}. "
        f"Build it: {_rebuild()}; or start Python in another folder to use what is installed there"
    )


def _rebuild() -> str:
    if (HERE.parent / "csrc").is_dir():
        tree = HERE.parent
        return f'pip install "{tree}", or, to work on the sources, pip install --no-build-isolation -e "{tree}"'
    return "pip install --force-reinstall --no-deps PATH_OR_GIT_URL, the folder or repository that dfops came from"


def _find_library(name: str, folder: Path) -> ModuleSpec | None:
    return PathFinder.find_spec(f"dfops.{name}", [str(folder)])


def _load_library(name: str, folder: Path) -> str:
    """Import dfops.`name` from `folder`, which runs its registrations; its file."""
    spec = _find_library(name, folder)
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} holds no library {name}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[spec.name] = module
    return str(spec.origin)


def _refuse_second_copy() -> None:
    # registering the same operators from two files ends the process without a message
    if torch._C._jit_get_schemas_for_operator("dfops::inconsistency_gate"):
        raise ImportError(
            "the operators of dfops are registered already, by another copy of dfops in this process; "
            "keep one installation on sys.path and start Python anew"
        )


def _load_cuda(folder: Path) -> tuple[bool, str]:
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
        _load_library("_cuda", folder)
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
