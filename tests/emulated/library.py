"""The CUDA library compiled as plain C++: everything of csrc's `.cu` files but the GPU, for CPU tensors."""

import sys
from importlib.machinery import PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from unittest.mock import patch

import torch

from tests import compiled

HERE = Path(__file__).parent
CSRC = compiled.ROOT / "csrc"


def build(changed: Path | None = None) -> Path:
    """Compile it, and return the file.

    Args:
        changed: folder of sources and headers of operators that take the place of those of csrc at the same paths.
    """
    schemas = [path for path in CSRC.rglob("*.cpp") if not path.stem.endswith("_cpu")]
    sources = [CSRC / "module_cpu.cpp", *sorted([*schemas, *CSRC.rglob("*_cuda.cu")])]
    package = Path(torch.__file__).parent
    flags = ["-DTORCH_TARGET_VERSION=0x020a000000000000", "-DDFOPS_EMULATED", f"-isystem{package / 'include'}"]
    flags += ["-Wno-unknown-pragmas", "-Wno-unused-parameter"]
    touched = {path.relative_to(changed).parent for path in changed.rglob("*.*")} if changed else set()
    other = [path for path in sources if path.parent.relative_to(CSRC) in touched]
    parts = compiled.objects([path for path in sources if path not in other], [HERE, CSRC], flags)
    if changed:
        copies = [changed / path.relative_to(CSRC) for path in other]
        other = [copy if copy.exists() else path for copy, path in zip(copies, other, strict=True)]
        parts += compiled.objects(other, [changed, HERE, CSRC], flags)
    return compiled.extension("_cpu", parts, [f"-L{package / 'lib'}", "-ltorch_cpu", "-lc10"])


def load(file: Path) -> None:
    """Import dfops with this library for its CPU kernels."""
    assert "dfops" not in sys.modules
    find = PathFinder.find_spec

    def find_spec(name, *places):
        return spec_from_file_location(name, file) if name == "dfops._cpu" else find(name, *places)

    with patch.object(PathFinder, "find_spec", find_spec):
        import dfops
    assert dfops._extension.cpu_path == str(file), "another library was loaded than the one asked for"
