"""Hypothesis profiles, devices, and a random state every test starts and ends with."""

import os
from pathlib import Path

import hypothesis
import pytest
import torch

from tests.emulated import library

hypothesis.settings.register_profile(
    "dev", max_examples=25, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
hypothesis.settings.register_profile(
    "ci", parent=hypothesis.settings.get_profile("dev"), max_examples=200, derandomize=True
)
# for runs under a sanitizer, many times slower
hypothesis.settings.register_profile("few", parent=hypothesis.settings.get_profile("ci"), max_examples=5)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser):
    parser.addoption("--golden-dir", help="folder with *.cases.json and their files (default: tests/golden)")
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")
    parser.addoption("--emulated", action="store_true", help="CUDA kernels, compiled as C++, in place of the CPU's")


def pytest_configure(config):
    torch.backends.cudnn.allow_tf32 = False  # float32 is compared with float32
    if config.getoption("emulated"):
        library.load(Path(os.environ["DFOPS_EMULATED"]) if "DFOPS_EMULATED" in os.environ else library.build())
        # fresh memory is then NaN, or the largest integer, for whoever reads it before it is written
        torch.use_deterministic_algorithms(True, warn_only=True)


def pytest_collection_modifyitems(config, items):
    emulated, gpu = config.getoption("emulated"), torch.cuda.is_available()
    reasons = {
        "slow": None if config.getoption("slow") else "slow: run with --slow",
        "cuda": None if gpu else "no GPU is visible",
        "cpu_kernels": "about the CPU kernels" if emulated else None,
        "emulated": None if emulated else "about the emulated CUDA library: run with --emulated",
    }
    for item in items:
        for mark, reason in reasons.items():
            if reason and item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _same_random_state():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    torch.compiler.reset()


@pytest.fixture
def own_registry(monkeypatch):
    """What a test registers is forgotten after it."""
    from dfmodels import registry
    from dfmodels.training import recipe

    recipe.list_recipes()  # imports them, which registers them for once and all
    for module, table in ((registry, "_BUILDERS"), (registry, "_IMPLIED_OPTIONS"), (recipe, "_RECIPES")):
        monkeypatch.setattr(module, table, dict(getattr(module, table)))


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny(own_registry):
    """The detector and the recipe of `tests.training.runs`."""
    from tests.training import runs

    runs.begin()


@pytest.fixture(scope="session")
def miniature(tmp_path_factory):
    """A small miniature of FaceForensics++, rendered once."""
    pytest.importorskip("cv2")
    from dfmodels.synthetic import write_miniature

    folder = tmp_path_factory.mktemp("miniature")
    write_miniature(folder, pairs=(2, 1, 2), frames=4, size=64, seed=3)
    return folder
