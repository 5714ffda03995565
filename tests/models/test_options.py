"""Options of detectors, of their contract and of LSDA's training: whatever does not fit is refused by name."""

import inspect
from dataclasses import fields

import pytest
import torch

import dfmodels
from dfmodels.detector import InputContract
from dfmodels.registry import builder
from dfmodels.training.objectives.lsda import DistillationOptions
from tests.models.test_detectors import SMALL

WRONG = ("8", "", b"8", None, float("nan"), float("inf"), True, 0, -1, 1.5, (), [], {}, object(), torch.ones(2))
WRONG_ONES = ("8", None, float("nan"), True, 0, -1, 1.5, [])
NUMBERS, FLAGS, COUNTS = (0, -1, 1.5), (True,), (8,)
# which of these fit
FITTING = {
    "ddl": {"gamma": NUMBERS, "min_variance": (0, 1.5), "num_keep": (None,), "capture_blocks": FLAGS,
            "aggregation_blocks": FLAGS},
    "frame": {"drop_path": (0,)},
    "lsda": {"drop_path": (0,)},
    "stil": {"halves": (None,), **dict.fromkeys(("sim", "sim_exit", "tim", "shift", "clamp_pool"), FLAGS)},
    "contract": {"margin": (1.5,)},
    "distillation": {
        "mixture": (None,), "transform_weights": (None,), "pull": ((), []), "push": ((), []),
        **dict.fromkeys(("real_weight", "binary_weight", "distill_weight", "domain_weight"), NUMBERS),
        **dict.fromkeys(("detach_statistics", "running_centroid", "untrained_real_encoder", "freeze_norms",
                         "detach_teacher"), FLAGS),
    },
}  # fmt: skip
FITTING_ONES = {
    "ddl": {"capture_blocks": FLAGS, "aggregation_blocks": FLAGS},
    "contract": {"mean": NUMBERS, "std": (1.5,)},
    "distillation": {"transforms": (0,), "transform_weights": (0, 1.5)},
}
DETECTORS = dfmodels.list_models()
OPTIONS = [(name, option) for name in DETECTORS for option in inspect.signature(builder(name)).parameters]
OPTIONS += [("contract", field.name) for field in fields(InputContract)]
OPTIONS += [("distillation", field.name) for field in fields(DistillationOptions)]


def make(name, **options):
    if name == "contract":
        return InputContract(**{"num_frames": 8, "size": (24, 24), **options})
    if name == "distillation":
        return DistillationOptions(**options)
    return dfmodels.build(name, **{**SMALL[name], **options})


def but(values, fit):
    """Those of `values` that are not among `fit`; True is not 1 here."""
    return [value for value in values if not any(type(value) is type(x) and repr(value) == repr(x) for x in fit)]


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_values_that_do_not_fit(name, option):
    usual = make(name)
    value = usual.config[option] if name in DETECTORS else getattr(usual, option)
    wrong = but(WRONG, FITTING.get(name, {}).get(option, ()))
    if (name, option) == ("contract", "size"):
        wrong += [(64,), (64, 64, 64)]
    if isinstance(value, list | tuple) and value:
        wrong += [[one, *value[1:]] for one in but(WRONG_ONES, FITTING_ONES.get(name, {}).get(option, ()))]
    for value in wrong:
        with pytest.raises((ValueError, TypeError)) as caught:
            make(name, **{option: value})
        message = str(caught.value)
        assert f"{option} must be" in message, (value, message)
        shown = [repr(value), repr(tuple(value)), *map(repr, value[:1])] if isinstance(value, list) else [repr(value)]
        assert message.endswith(tuple(f"got {text}" for text in shown)), (value, message)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [(name, option, value) for name, table in FITTING.items() for option, values in table.items() for value in values],
)
def test_values_that_fit(name, option, value):
    make(name, **{option: value})


@pytest.mark.parametrize("name", ["ddl", "stil"])
def test_one_class_is_no_decision(name):
    with pytest.raises(ValueError, match="num_classes must be a whole number of at least 2, got 1"):
        dfmodels.build(name, num_classes=1)


def test_frames_to_normalize():
    contract = InputContract(num_frames=1, size=(2, 2), mean=(0.5,) * 3, std=(0.25,) * 3)
    frames = torch.randint(0, 256, (4, 5, 6, 3), dtype=torch.uint8)
    expected = (frames.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    assert torch.equal(contract.normalize(frames), expected)
    for wrong, found in ((frames / 255, "torch.float32"), (frames.int(), "torch.int32"), (frames.numpy(), "ndarray")):
        with pytest.raises(TypeError, match=f"frames must be a uint8 tensor of RGB values in 0..255, got {found}"):
            contract.normalize(wrong)
    with pytest.raises(ValueError, match=r"frames must be \(\.\.\., H, W, 3\), colours last, got shape \(4, 3, 5, 6\)"):
        contract.normalize(frames.movedim(-1, 1))
