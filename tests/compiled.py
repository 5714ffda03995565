"""Libraries that tests compile from csrc, once per state of their sources, in build/.

DFOPS_SANITIZE=address adds the address and undefined-behaviour sanitizers, DFOPS_SANITIZE=thread ThreadSanitizer;
Python then has to be started with their libraries preloaded, as nox does.
"""

import hashlib
import os
import subprocess
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
SANITIZE = os.environ.get("DFOPS_SANITIZE", "")
SANITIZERS = {
    "": ["-O2"],
    "address": ["-O1", "-g", "-DDFOPS_NO_CLONES", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    "thread": ["-O1", "-g", "-DDFOPS_NO_CLONES", "-fsanitize=thread"],
}
COMPILER = [os.environ.get("CXX", "g++"), *SANITIZERS[SANITIZE]]
COMPILER += ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-fopenmp-simd", "-fno-math-errno", "-Wall", "-Wextra"]


def objects(sources: Sequence[Path], folders: Sequence[Path], flags: Sequence[str] = ()) -> list[Path]:
    """Compile C++ sources, and CUDA sources as C++; those whose state has been compiled before are taken as they are.

    Args:
        sources: files; objects carry their names.
        folders: where headers are searched, first to last; a change in any header there is a change of state.
        flags: of the compiler, beside the common ones.
    """
    includes = [f"-I{folder}" for folder in (*folders, sysconfig.get_paths()["include"])]
    headers = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".h", ".cuh")]

    def compile_one(source: Path) -> Path:
        command = [*COMPILER, *flags, *includes, "-x", "c++", "-c", str(source)]
        target = ROOT / "build" / "objects" / state_of(command, [source, *headers]) / f"{source.stem}.o"
        return made(target, command)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, sources))


def extension(name: str, parts: Sequence[Path], flags: Sequence[str] = ()) -> Path:
    """Link objects to the extension module `name`."""
    command = [*COMPILER, "-shared", *map(str, parts), *flags]
    target = ROOT / "build" / "extensions" / state_of(command) / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    return made(target, command)


def made(target: Path, command: Sequence[str]) -> Path:
    """`target`, which the command of a compiler writes if it is not there; whole or not at all."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(f".{os.getpid()}")
        # what is preloaded is for the tests; a compiler would only be slower with it
        env = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
        subprocess.run([*command, "-o", str(part)], check=True, env=env)
        part.rename(target)
    return target


def state_of(command: Sequence[str], files: Sequence[Path] = ()) -> str:
    state = hashlib.sha256(repr(command).encode())
    for path in sorted(files):
        state.update(path.read_bytes())
    return state.hexdigest()[:16]
