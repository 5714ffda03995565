"""Compiles the kernel headers into a module for NumPy, once per state of the sources.

DFOPS_KERNELS_SANITIZE=1 adds the address and undefined-behaviour sanitizers (start Python with libasan preloaded).
"""

import hashlib
import importlib.util
import os
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pybind11
import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


def compile_module() -> Path:
    sanitize = os.environ.get("DFOPS_KERNELS_SANITIZE") == "1"
    flags = ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-fopenmp-simd", "-fno-math-errno", "-Wall", "-Wextra"]
    flags += [f"-I{path}" for path in (ROOT / "csrc", HERE, pybind11.get_include(), sysconfig.get_paths()["include"])]
    if sanitize:
        flags += ["-O1", "-g", "-DDFOPS_NO_CLONES", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    else:
        flags += ["-O2"]
    headers = [*ROOT.glob("csrc/**/*.h"), *HERE.glob("*.h")]
    state = hashlib.sha256(repr(flags).encode())
    for path in sorted([*headers, *HERE.glob("*.cpp")]):
        state.update(path.read_bytes())
    compiler = os.environ.get("CXX", "g++")
    folder = ROOT / "build" / "kernels" / state.hexdigest()[:16]
    module = folder / ("dfops_kernels" + sysconfig.get_config_var("EXT_SUFFIX"))
    if not module.exists():
        folder.mkdir(parents=True, exist_ok=True)

        def compile_one(source: Path) -> str:
            target = str(folder / (source.stem + ".o"))
            subprocess.run([compiler, *flags, "-c", str(source), "-o", target], check=True)
            return target

        with ThreadPoolExecutor(2) as pool:
            objects = list(pool.map(compile_one, sorted(HERE.glob("*.cpp"))))
        linked = module.with_suffix(".part")
        subprocess.run([compiler, *flags, "-shared", *objects, "-o", str(linked)], check=True)
        linked.rename(module)
    return module


@pytest.fixture(scope="session")
def kernels():
    """The compiled module."""
    spec = importlib.util.spec_from_file_location("dfops_kernels", compile_module())
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
