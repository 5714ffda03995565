"""The kernel headers as a module for NumPy."""

import importlib.util
from pathlib import Path

import pybind11
import pytest

from tests import compiled

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def kernels():
    """The compiled module."""
    folders = [HERE, HERE.parent / "emulated", compiled.ROOT / "csrc"]
    parts = compiled.objects(sorted(HERE.glob("*.cpp")), folders, [f"-I{pybind11.get_include()}"])
    file = compiled.extension("dfops_kernels", parts)
    spec = importlib.util.spec_from_file_location("dfops_kernels", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
