"""The packages as installed: what is registered, what is said when something is missing, who imports whom."""

import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import dfops
from dfmodels import optional
from dfops import _extension, info
from tests import check_kernel_arguments

ROOT = Path(__file__).parents[1]
NO_BUILD = shutil.ignore_patterns("*.so", "_build.json", "__pycache__")
PUBLIC = [
    "directional_difference",
    "feature_mixup",
    "inconsistency_gate",
    "interframe_difference",
    "interframe_difference_sparse",
    "latent_augment",
    "latent_augment_mix",
    "latent_rotate",
    "paired_cosine",
    "strip_merge",
    "strip_pool",
]
BACKWARD = [
    "_directional_difference_backward",
    "_feature_mixup_backward",
    "_inconsistency_gate_backward",
    "_interframe_difference_backward",
    "_interframe_difference_sparse_backward",
    "_latent_augment_backward",
    "_latent_rotate_backward",
    "_paired_cosine_backward",
    "_strip_merge_backward",
    "_strip_pool_backward",
]


def python(code: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)


def test_every_operator_is_registered_with_all_it_needs():
    # a misspelt name in a registration is silent
    assert info.operators() == sorted(PUBLIC + BACKWARD)
    for name in info.operators():
        assert info.has_kernel(name, "CPU"), name
        assert info.has_kernel(name, "Autograd"), name
        assert info.has_kernel(name, "CUDA") == dfops.cuda_loaded(), name
    for name in PUBLIC:
        assert callable(getattr(dfops, name))
        assert callable(getattr(dfops.reference, name))


def test_info_says_what_was_built():
    report = info.report()
    assert torch.__version__ in report
    assert "CUDA library" in report
    assert _extension.cuda_reason in report
    for name in PUBLIC:
        assert re.search(rf"^{name} +yes", report, re.MULTILINE)


def test_devices_without_kernels_are_named():
    _extension.require_kernels_for(torch.device("cpu"))
    with pytest.raises(RuntimeError, match="kernels for cpu and cuda tensors, got a tensor on mps"):
        _extension.require_kernels_for(torch.device("mps"))


@pytest.mark.skipif(dfops.cuda_loaded(), reason="the CUDA library is loaded")
def test_cuda_tensors_without_the_cuda_library():
    with pytest.raises(RuntimeError, match="built without CUDA kernels that fit this torch"):
        _extension.require_kernels_for(torch.device("cuda"))


def test_a_second_copy_in_one_process_is_refused():
    done = python(
        "import sys, dfops\n"
        "for name in [n for n in sys.modules if n.startswith('dfops')]: del sys.modules[name]\n"
        "import dfops\n"
    )
    assert done.returncode == 1
    assert "ImportError: the operators of dfops are registered already" in done.stderr


def test_a_library_that_does_not_load_says_how_to_rebuild(tmp_path):
    copy = tmp_path / "dfops"
    shutil.copytree(Path(dfops.__file__).parent, copy, ignore=NO_BUILD)
    (copy / "_cpu.py").write_text("raise ImportError('undefined symbol: torch_x')\n")
    done = python("import dfops", tmp_path)
    assert done.returncode == 1
    message = done.stderr.splitlines()[-1]
    assert "could not load its compiled library dfops._cpu" in message
    assert torch.__version__ in message
    assert "undefined symbol: torch_x" in message
    assert "Rebuild it: pip install --force-reinstall --no-deps PATH_OR_GIT_URL" in message
    assert "direct cause" not in done.stderr


@pytest.fixture
def clone(tmp_path):
    """A source folder that was never built."""
    folder = tmp_path / "clone"
    shutil.copytree(ROOT / "dfops", folder / "dfops", ignore=NO_BUILD)
    shutil.copytree(ROOT / "csrc", folder / "csrc")
    return folder


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The package as `pip install` leaves it, in a folder on sys.path."""
    folder = tmp_path / "site" / "dfops"
    shutil.copytree(Path(_extension.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    facts = {**_extension.build, "sources": _extension.source_hash(ROOT / "csrc")}
    (folder / "_build.json").write_text(json.dumps(facts))
    monkeypatch.setenv("PYTHONPATH", str(folder.parent))
    return folder


def test_a_source_folder_uses_the_installed_libraries_it_shadows(clone, installed):
    done = subprocess.run([sys.executable, "-m", "dfops.info"], capture_output=True, text=True, cwd=clone)
    assert done.returncode == 0, done.stderr
    assert f"CPU library      loaded, {installed}" in done.stdout
    assert re.search(r"^strip_pool +yes", done.stdout, re.MULTILINE)
    done = python("import dfops, torch; print(dfops.__file__, dfops.feature_mixup)", clone)
    assert done.stdout.startswith(str(clone)), done.stderr


def test_a_source_folder_refuses_libraries_of_other_sources(clone, installed):
    header = clone / "csrc" / "common" / "index.h"
    header.write_text(header.read_text() + "// changed\n")
    done = python("import dfops", clone)
    assert done.returncode == 1
    assert "During handling" not in done.stderr
    assert "direct cause" not in done.stderr
    message = done.stderr.splitlines()[-1]
    assert f"source folder {clone}/dfops" in message
    assert f"the one installed in {installed} was built from other sources" in message
    assert f'pip install "{clone}"' in message


def test_a_source_folder_that_was_never_installed_says_what_to_do(clone):
    done = python("import dfops", clone)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert "holds no compiled library, and none is installed" in done.stderr.splitlines()[-1]


def test_the_build_records_what_it_was_compiled_from(tmp_path):
    csrc = tmp_path / "csrc"
    shutil.copytree(ROOT / "csrc", csrc)
    before = _extension.source_hash(csrc)
    (csrc / "notes.txt").write_text("of no compiler's concern")
    assert _extension.source_hash(csrc) == before == _extension.source_hash(ROOT / "csrc")
    (csrc / "module_cpu.cpp").rename(csrc / "module.cpp")
    assert _extension.source_hash(csrc) != before


def test_operators_do_not_know_the_detectors():
    done = python("import sys, dfops; sys.exit('dfmodels' in sys.modules)")
    assert done.returncode == 0, done.stderr


def test_what_is_optional_or_slow_to_import_is_imported_where_used():
    where_used = {"av", "cv2", "matplotlib", "accelerate", "torchvision", "timm", "sklearn", "scipy.optimize", "ray"}
    done = python(f"import sys, dfmodels, dfmodels.cli; print(*sys.modules.keys() & {where_used})")
    assert done.stdout.strip() == "", done.stderr


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("av", "testing needs PyAV"),
        ("cv2", "testing needs OpenCV"),
        ("matplotlib.figure", "testing needs matplotlib"),
    ],
)
def test_a_missing_optional_package_says_how_to_install_it(monkeypatch, module, message):
    assert optional.require(module, "testing").__name__ == module
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'{message} .*: pip install "PATH_OR_GIT_URL\[video\]"'):
        optional.require(module, "testing")


def test_a_missing_library_of_the_system_is_named(monkeypatch):
    def fail(name):
        raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(ImportError, match=r"testing needs OpenCV, .*\(libGL.so.1: .*apt install libgl1"):
        optional.require("cv2", "testing")


def test_every_extra_that_is_named_exists():
    project = (ROOT / "pyproject.toml").read_text()
    extras = re.findall(
        r"^(\w+) = \[", project.split("[project.optional-dependencies]")[1].split("\n[")[0], re.MULTILINE
    )
    assert {extra for _, extra in optional.PACKAGES.values()} <= set(extras)


def test_nobody_is_told_to_install_dfops_from_an_index():
    # the package of that name on the public index is another one
    files = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "noxfile.py", "pyproject.toml")]
    for folder, pattern in (("docs", "*.md"), ("docs", "*.py"), ("dfops", "*.py"), ("dfmodels", "*.py"), (".ci", "*")):
        files += (ROOT / folder).rglob(pattern)
    for path in files:
        for line in path.read_text().splitlines():
            assert not re.search(r"""(install|add)\b[^`,;]*[ "']dfops(\[|["',\s=<>]|$)""", line), f"{path}: {line}"


def test_kernel_arguments_are_checked():
    bad = "Tensor f_cpu(const Tensor& x, float scale) {\n}\nm.impl(TORCH_BOX(&f_cpu));"
    assert check_kernel_arguments.offences(bad) == ["f_cpu: `float scale` must be double or int64_t"]
    good = "Tensor f_cpu(const Tensor& x, double scale, int64_t n) {\n}\nm.impl(TORCH_BOX(&f_cpu));"
    assert check_kernel_arguments.offences(good) == []
