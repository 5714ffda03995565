"""Heat maps of the detectors: where they looked."""

import numpy as np
import pytest
import torch

from dfmodels.detector import Detector
from dfmodels.scoring import maps
from tests.models.frame_level import FrameLevel
from tests.models.test_detectors import SMALL, small

NAMES = {"ddl": ["DFDC"], "frame": ["CAM"], "lsda": ["CAM"], "stil": ["SIM", "TIM"]}


def crops(model, clips=1):
    shape = (clips, model.contract.num_frames, *model.contract.size, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_maps_span_the_clips(name):
    # of its 32 times smaller maps, 2 x 2 would be smoothed to one value
    model = small(name, **({"size": 96} if name == "frame" else {}))
    shown = crops(model, 2)
    found = maps.heat_maps(model, shown)
    assert list(found) == NAMES[name]
    for kind, values in found.items():
        assert kind in maps.CAPTIONS
        assert values.shape == shown.shape[:4]
        assert (values.min(), values.max()) == (0, 1)


def test_a_frame_without_a_next_one_does_not_set_the_scale():
    found = maps.heat_maps(model := small("stil"), crops(model))["TIM"][0]
    assert (found[-1] == 0).all()
    assert found[:-1].min() == 0


def test_maps_of_several_sizes_are_averaged_and_borders_kept():
    flat = [torch.full((1, 2, 6, 6), 0.7), torch.full((1, 2, 3, 3), 0.2)]
    assert (maps._joined(flat, (12, 12)) == 0).all()
    ramp = torch.linspace(0, 1, 6).expand(1, 2, 6, 6)
    joined = maps._joined([*flat, ramp], (12, 12))
    assert joined.shape == (1, 2, 12, 12)
    assert (joined[..., -1] == 1).all()  # zero padding would darken the border
    assert (np.diff(joined, axis=-1) >= 0).all()


def test_a_detector_without_maps():
    class Plain(Detector):
        contract = small("stil").contract

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

    assert maps.heat_maps(Plain(), crops(Plain())) == {}


def test_one_scale_for_the_maps_of_all_clips():
    shown = np.zeros((3, 1, 32, 32, 3), np.uint8)
    shown[1, :, :16, :16] = 100
    shown[2, :, :16, :16] = 200
    found = maps.heat_maps(FrameLevel(), shown)["CAM"]
    assert found.shape == (3, 1, 32, 32)
    assert found[0].max() == 0
    assert (found[2, 0, 0, 0], found[2].min()) == (1, 0)
    assert found[1, 0, 0, 0] == pytest.approx(0.5, abs=0.01)
