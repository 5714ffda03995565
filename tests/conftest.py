"""Hypothesis profiles, devices, and a random state every test starts and ends with."""

import os

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile(
    "dev", max_examples=25, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
hypothesis.settings.register_profile(
    "ci", parent=hypothesis.settings.get_profile("dev"), max_examples=200, derandomize=True
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser):
    parser.addoption("--golden-dir", help="folder with *.cases.json and their files (default: tests/golden)")
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "slow" in item.keywords and not config.getoption("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
        if "cuda" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no GPU is visible"))


@pytest.fixture(autouse=True)
def _same_random_state():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    torch.compiler.reset()


@pytest.fixture(scope="session")
def miniature(tmp_path_factory):
    """A small miniature of FaceForensics++, rendered once."""
    pytest.importorskip("cv2")
    from dfmodels.synthetic import write_miniature

    folder = tmp_path_factory.mktemp("miniature")
    write_miniature(folder, pairs=(2, 1, 2), frames=4, size=64, seed=3)
    return folder
