"""Tasks: `nox` runs lint, types and test; `nox -l` lists the others. Arguments behind `--` are passed on.

The first run downloads about 3 GB, nearly all of it torch, keeps 6 GB in .nox and takes some 20 minutes on two cores;
later runs download nothing. DFOPS_TORCH chooses the torch of the sessions that need one, for example
DFOPS_TORCH="torch==2.13.0"; environments of several torches lie side by side with --envdir.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "test"]
nox.options.reuse_existing_virtualenvs = True
nox.needs_version = ">=2025.5.1"

ROOT = Path(__file__).parent
TORCH = os.environ.get("DFOPS_TORCH", "torch>=2.10")
# a CUDA build whose major matches the toolkit that compiles
TORCH_CUDA = os.environ.get("DFOPS_TORCH_CUDA", "torch==2.11.0")
TORCH_OLDEST, TORCH_NEWEST, TORCH_CPU = "torch==2.10.0", "torch", "torch==2.13.0"
BUILD = ["setuptools>=77", "ninja", "numpy"]
CPP = ["csrc/**/*.h", "csrc/**/*.cpp", "csrc/**/*.cu", "csrc/**/*.cuh", "tests/kernels/*.h", "tests/kernels/*.cpp"]
PATHS = ["dfops", "dfmodels", "tests", "benchmarks", "docs", "noxfile.py", "setup.py"]

if len(sys.argv) == 1:
    print((__doc__ or "").split("\n\n")[1].replace("\n", " "), file=sys.stderr)


def install_tree(session: nox.Session, torch: str = TORCH) -> None:
    """This tree, editable, built with the torch it is tested with."""
    session.install(torch, *BUILD)
    # named again, or pip might exchange it for the one that the newest torchvision wants
    session.install("--no-build-isolation", torch, "-e", ".[video,faces,train,ray,hub,test]")


def install_wheel(session: nox.Session, torch: str) -> None:
    """This tree as an installed package, so that nothing is imported from the source folder."""
    session.install(torch, *BUILD)
    session.install("--no-build-isolation", "--force-reinstall", "--no-deps", ".")
    session.install("einops", "safetensors", "tqdm")


@nox.session
def lint(session: nox.Session) -> None:
    """Style of the Python and C++ sources, and argument types the stable ABI would pass as garbage."""
    session.install("ruff", "clang-format==20.*")
    session.run("ruff", "check", *PATHS, *session.posargs)
    session.run("ruff", "format", "--check", *PATHS)
    session.run("clang-format", "--dry-run", "--Werror", *(str(p) for f in CPP for p in sorted(Path().glob(f))))
    session.run("python", "tests/check_kernel_arguments.py", "csrc")


@nox.session
def tree(session: nox.Session) -> None:
    """This tree, editable: the environment of types, test, demo and bench (3 GB once, 6 on disk)."""
    if gpu_missing():  # CUDA kernels could not run here, and take minutes; build-cuda compiles them
        session.env.setdefault("DFOPS_CUDA", "0")
    install_tree(session)
    session.install("mypy")


def run_in_tree(session: nox.Session, module: str, *arguments: str, env: dict[str, str] | None = None) -> None:
    folder = session.cache_dir.parent / "tree" / "bin"
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"  # tests start the command line and compilers
    session.run(str(folder / "python"), "-m", module, *arguments, env={"PATH": path, **(env or {})}, external=True)


@nox.session(venv_backend="none", requires=["tree"])
def types(session: nox.Session) -> None:
    """Static types (seconds)."""
    run_in_tree(session, "mypy", *session.posargs)


@nox.session(venv_backend="none", requires=["tree"])
def test(session: nox.Session) -> None:
    """All tests on the CPU; without arguments, then the kernel bodies again under the sanitizers."""
    if session.posargs:
        run_in_tree(session, "pytest", *session.posargs)
        return
    workers = str(min(os.cpu_count() or 1, 4))
    # the kernel bodies are compiled once, so by one process
    run_in_tree(session, "pytest", "-n", workers, "--ignore", "tests/kernels")
    run_in_tree(session, "pytest", "tests/kernels")
    run_in_tree(session, "pytest", "tests/kernels", "-q", env=sanitizer_environment())


@nox.session(venv_backend="none", requires=["tree"])
def app(session: nox.Session) -> None:
    """The page of `dfmodels app` in Chromium, which is not downloaded: apt install chromium (2 minutes)."""
    if not any(map(shutil.which, ("chromium", "chromium-browser"))):
        session.error("no Chromium on this machine: apt install chromium")
    extras = nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]
    run_in_tree(session, "pip", "install", "--quiet", *extras["app"], "playwright")
    # without this, tests that lack something would be left out
    run_in_tree(session, "pytest", "tests/app", *session.posargs, env={"DFMODELS_BROWSER": "1"})


def sanitizer_environment(kind: str = "address") -> dict[str, str]:
    """For tests of sources compiled with a sanitizer, `address` or `thread`."""
    compiler = os.environ.get("CXX", "g++")
    # libstdc++ too: where Python alone is started, libasan looks for the C++ runtime before anything has loaded it,
    # and the first exception thrown by a library (triton throws when imported) ends the process
    libraries = [
        subprocess.check_output([compiler, f"-print-file-name={name}"], text=True).strip()
        for name in ({"address": "libasan.so", "thread": "libtsan.so"}[kind], "libstdc++.so.6")
    ]
    return {
        "DFOPS_SANITIZE": kind,
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python itself does not free everything
        # torch is not instrumented, so what it orders is not seen
        "TSAN_OPTIONS": "halt_on_error=1 ignore_noninstrumented_modules=1 report_thread_leaks=0",
    }


# what the CUDA library is run under as C++ on the CPU
EMULATED = ["tests/ops", "tests/test_augment.py", "tests/models", "tests/golden", "tests/cuda", "tests/emulated"]
# under a sanitizer: values and gradients of the operators, and of those that use barriers
SANITIZED = ["tests/ops", "-k", "reference or beyond_one or half_types or layout or unaligned or nan"]
THREADED = ["tests/ops", "-k", "reference and not gate and not merge"]


@nox.session(venv_backend="none", requires=["tree"])
def emulate(session: nox.Session) -> None:
    """The CUDA library as C++ on the CPU: tests of operators and detectors, then under the sanitizers (minutes)."""
    run_in_tree(session, "pytest", "--emulated", "-q", *(session.posargs or EMULATED))
    if not session.posargs:
        few = ("pytest", "--emulated", "-q", "--hypothesis-profile=few")
        run_in_tree(session, *few, *SANITIZED, env=sanitizer_environment())
        run_in_tree(session, *few, *THREADED, env=sanitizer_environment("thread"))


@nox.session(name="test-cuda")
def test_cuda(session: nox.Session) -> None:
    """The tests that need a GPU."""
    if missing := gpu_missing():
        session.error(missing)
    install_tree(session, TORCH_CUDA)
    session.run("pytest", "-m", "cuda", *session.posargs)


def gpu_missing() -> str:
    """Why no GPU can be used; empty where one can."""
    count = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        driver.cuInit(0)
        driver.cuDeviceGetCount(ctypes.byref(count))
    except OSError:
        return "no GPU is visible: the NVIDIA driver (libcuda.so.1) is not installed"
    return "" if count.value else "no GPU is visible to the NVIDIA driver"


@nox.session(name="build-cuda")
def build_cuda(session: nox.Session) -> None:
    """Compile the CUDA library, GPU or not, load it, and check that every operator has a CUDA kernel."""
    session.env["DFOPS_CUDA"] = "1"
    install_wheel(session, TORCH_CUDA)
    session.install("pytest")
    session.chdir(session.create_tmp())
    session.run("python", "-m", "dfops.info")
    session.run("python", str(ROOT / "tests" / "smoke.py"), "--cuda-library")


@nox.session
def abi(session: nox.Session) -> None:
    """One wheel, built once, under the oldest and the newest supported torch and one without CUDA."""
    session.install(TORCH_NEWEST, *BUILD, "build")
    dist = Path(session.create_tmp()).resolve() / "abi"
    session.run("python", "-m", "build", "--wheel", "--no-isolation", "--outdir", str(dist))
    wheel = str(max(dist.glob("*.whl"), key=lambda path: path.stat().st_mtime))
    session.chdir(session.create_tmp())
    for torch in (TORCH_NEWEST, TORCH_CPU, TORCH_OLDEST):
        session.install("--upgrade", torch)
        session.install("--force-reinstall", "--no-deps", wheel)
        session.install("einops", "safetensors", "tqdm")
        session.run("python", str(ROOT / "tests" / "smoke.py"))


@nox.session(venv_backend="none", requires=["tree"])
def bench(session: nox.Session) -> None:
    """Benchmarks; for example: nox -s bench -- --device cpu."""
    run_in_tree(session, "benchmarks", *session.posargs)


@nox.session(venv_backend="none", requires=["tree"])
def demo(session: nox.Session) -> None:
    """Train a small detector on the proving ground and judge it (minutes); -- --all for every one (20 minutes)."""
    run_in_tree(session, "dfmodels", "demo", *session.posargs)


@nox.session
def dist(session: nox.Session) -> None:
    """Source distribution and wheel in dist/."""
    session.install("build")
    session.run("python", "-m", "build", *session.posargs)
