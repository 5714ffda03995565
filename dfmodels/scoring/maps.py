"""Where a detector looked, as maps over the crops."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dfmodels.detector import Detector

# what the maps of `Detector.attention_maps` mean, by name
CAPTIONS = {
    "CAM": "class activation: bright where the evidence for fake lies",
    "DFDC": "inconsistency between frames: bright where they differ most unsteadily",
    "SIM": "inconsistency inside a frame: bright where its features count most",
    "TIM": "inconsistency between frames: bright where the step to the next one acts most; the last one has no next",
}


def heat_maps(model: Detector, clips: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """One map (N, T, H, W) in [0, 1] for each kind of attention maps that the detector has.

    Every block's map is brought to the crop's size and smoothed over its own cell, since single positions may be all
    that is bright in it; the mean over the blocks is scaled from the smallest to the largest value of all clips.

    Args:
        model: a detector.
        clips: crops of N clips (N, T, H, W, 3), uint8 RGB.
    """
    batch = model.contract.normalize(torch.from_numpy(clips).to(model.device))
    return {name: _joined(maps, clips.shape[2:4]) for name, maps in model.attention_maps(batch).items()}


def _joined(maps: list[Tensor], size: tuple[int, int]) -> NDArray[np.float32]:
    """Blocks' maps (N, T, H_i, W_i) as one (N, T, H, W)."""
    total = torch.zeros(())
    for values in maps:
        smooth = F.avg_pool2d(values.flatten(0, 1)[:, None].float().cpu(), 3, 1, 1, count_include_pad=False)
        total = total + F.interpolate(smooth, size, mode="bilinear", align_corners=False)[:, 0]
    # a frame with one value everywhere, but for rounding, shows nothing
    varied = total[total.amax((1, 2)) - total.amin((1, 2)) > 1e-5]
    if len(varied):
        low, high = varied.aminmax()
        total = ((total - low) / (high - low)).clamp(0, 1)
    else:
        total = torch.zeros_like(total)
    return total.unflatten(0, maps[0].shape[:2]).numpy()
