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


def pytest_collection_modifyitems(items):
    for item in items:
        if "cuda" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no GPU is visible"))


@pytest.fixture(autouse=True)
def _same_random_state():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    torch.compiler.reset()
