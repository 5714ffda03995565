"""Faults written into a copy of a real kernel are found by the operator's own tests, and nothing else fails them."""

import os
import subprocess
import sys

import pytest

from tests import compiled
from tests.emulated import library

pytestmark = pytest.mark.emulated

OPERATOR = "feature_mixup"
# file of csrc/feature_mixup, its text, the fault, the test that finds it, and what that test says
FAULTS = {
    "two phases without a barrier between them": (
        "feature_mixup_blocks.h",
        "found[rank[thread]] = thread;\n      });\n      block.each([&](int thread) {\n",
        "found[rank[thread]] = thread;\n",
        "test_all_rows_from_one",
        "Tensor-likes are not close",
    ),
    "a grid one block short": (
        "feature_mixup_cuda.cu",
        "kThreads * kPack), kThreads, 0,",
        "kThreads * kPack) - 1, kThreads, 0,",
        "test_all_rows_from_one",
        "Tensor-likes are not close",
    ),
    "16 bytes of shared memory too few": (
        "feature_mixup_cuda.cu",
        "Body::shared_bytes(kThreads),",
        "Body::shared_bytes(kThreads) - 16,",
        "test_all_rows_from_one",
        "more shared memory used than the launch asks for",
    ),
}
TESTS = sorted({fault[3] for fault in FAULTS.values()})


def run(built, *tests) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "--emulated", "-q", "-p", "no:cacheprovider", "--tb=short"]
    command += ["--hypothesis-profile=few", f"tests/ops/test_{OPERATOR}.py", "-k", " or ".join(tests)]
    environment = {**os.environ, "DFOPS_EMULATED": str(built)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=compiled.ROOT, check=False)


def planted(fault, folder):
    name, text, wrong, *_ = FAULTS[fault]
    source = (library.CSRC / OPERATOR / name).read_text()
    assert source.count(text) == 1, f"{name} no longer holds {text!r} once: plant the fault elsewhere"
    (folder / OPERATOR).mkdir()
    (folder / OPERATOR / name).write_text(source.replace(text, wrong))
    return library.build(folder)


def test_without_a_fault_the_tests_pass():
    done = run(library.build(), *TESTS)
    assert done.returncode == 0, done.stdout
    assert f"{len(TESTS)} passed" in done.stdout


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found(fault, tmp_path):
    *_, test, says = FAULTS[fault]
    done = run(planted(fault, tmp_path), test)
    if compiled.SANITIZE == "thread" and "barrier" in fault:
        assert "WARNING: ThreadSanitizer: data race" in done.stderr, done.stdout + done.stderr
        assert "feature_mixup_blocks.h" in done.stderr
        return
    assert done.returncode == 1, done.stdout
    assert f"FAILED tests/ops/test_{OPERATOR}.py::{test}[cpu]" in done.stdout
    assert says in done.stdout
