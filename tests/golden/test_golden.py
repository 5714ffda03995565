"""Every case of every `*.cases.json` against the matching module; RUNNERS is the table from case to module."""

from pathlib import Path

import pytest
import torch

from tests.golden import run_ddl, run_frame, run_lsda, run_stil
from tests.golden.cases import Case, load_cases
from tests.strategies import DEVICES

SLOW = ("lsda_train_full",)
# the longest matching beginning of a case's name decides
RUNNERS = {**run_ddl.RUNNERS, **run_frame.RUNNERS, **run_lsda.RUNNERS, **run_stil.RUNNERS}


def runner_of(case: Case):
    matches = [prefix for prefix in RUNNERS if case.name.startswith(prefix)]
    return RUNNERS[max(matches, key=len)] if matches else None


def pytest_generate_tests(metafunc):
    folder = Path(metafunc.config.getoption("golden_dir") or Path(__file__).parent)
    cases = load_cases(folder)
    if not cases:
        raise pytest.UsageError(f"--golden-dir {folder} holds no *.cases.json")
    arguments = []
    for case in cases:
        layouts = ["contiguous"] if case.facts["mode"] in ("protocol", "layout") else ["contiguous", "channels_last"]
        marks = [pytest.mark.slow] if case.name in SLOW else []
        arguments += [pytest.param(case, layout, id=f"{case.name}-{layout}", marks=marks) for layout in layouts]
    metafunc.parametrize(("case", "layout"), arguments)


@pytest.mark.parametrize("device", DEVICES)
def test_case(case, layout, device):
    run_case = runner_of(case)
    if run_case is None:
        pytest.skip(f"{case.name}: {case.name.split('_')[0]} is not built yet")
    with torch.device(device):  # modules, weights and inputs of the case are made there
        run = run_case(case, layout)
        if run is None:  # a protocol: plain numbers, compared by its runner
            return
        outputs = {**run.outputs, **case.gradients(run)}
        outputs |= run.derive(outputs)
    missing = [name for name in case.facts["outputs"] if name not in outputs]
    assert not missing, f"{case.name}: no value for {missing}"
    for name in case.facts["outputs"]:
        case.compare(name, outputs[name])
