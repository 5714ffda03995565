"""Calibration: the temperature and bias under which probabilities agree with what was fake on the validation split."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_expit

from dfmodels.detector import AVERAGES, Calibration
from dfmodels.options import check_choice

TEMPERATURES = (1e-3, 1e3)
LARGEST_LOGIT = 36.0  # beyond it, a probability in float64 is 1


def logits_of(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Logits (N,) of probabilities (N,) in [0, 1], at most LARGEST_LOGIT away from 0."""
    p = np.asarray(probabilities, np.float64)
    with np.errstate(divide="ignore"):
        return np.clip(np.log(p) - np.log1p(-p), -LARGEST_LOGIT, LARGEST_LOGIT)


def calibrate(probabilities: ArrayLike, calibration: Calibration) -> NDArray[np.float64]:
    """Calibrated probabilities (N,) of clips from those (N,) that the detector gives."""
    return expit(logits_of(probabilities) / calibration.temperature + calibration.bias)


def video_probabilities(clips: Sequence[ArrayLike], average: str = "probabilities") -> NDArray[np.float64]:
    """Probability (V,) of each video from those of its clips, V lists of one or more; `average` as of `video_score`."""
    check_choice("average", average, AVERAGES)
    if average == "logits":
        return expit(np.array([logits_of(own).mean() for own in clips]))
    return np.array([np.asarray(own, np.float64).mean() for own in clips])


def fit_calibration(
    clips: Sequence[ArrayLike], labels: ArrayLike, *, average: str = "probabilities", fitted_on: str = ""
) -> Calibration:
    """The calibration of clips that makes the probabilities of their videos most likely.

    The targets are Platt's, (n_fake + 1) / (n_fake + 2) for a fake video and 1 / (n_real + 2) for a real one, so that
    a split without a mistake gives a finite temperature. Probabilities fit a share of fakes like that of the videos
    given; another share asks for another bias.

    Args:
        clips: fake probabilities of the clips of V videos as the detector gives them, one list or more each.
        labels: (V,), 0 real, 1 fake; both must occur.
        average: how clips become a video, as for `video_score`.
        fitted_on: the videos, in words.

    Raises:
        ValueError: an argument other than the ones above.

    Source: arXiv:1706.04599 (temperature); J. Platt, Probabilistic Outputs for Support Vector Machines, 1999.
    """
    from scipy.optimize import minimize  # half a second, for which no other command should wait

    check_choice("average", average, AVERAGES)
    fake = np.asarray(labels)
    n_fake = int((fake == 1).sum())
    n_real = int((fake == 0).sum())
    if len(clips) != len(fake) or n_fake + n_real != len(fake):
        raise ValueError(f"labels must be 0 or 1 for each of the {len(clips)} videos, got {fake.tolist()!r:.100}")
    if not n_real or not n_fake:
        raise ValueError(f"calibration needs real and fake videos, got {n_real} real and {n_fake} fake")
    if not all(np.size(own) for own in clips):
        raise ValueError("clips must hold at least one probability a video")
    target = np.where(fake == 1, (n_fake + 1) / (n_fake + 2), 1 / (n_real + 2))
    logits = [logits_of(own) for own in clips]
    if average == "logits":
        logits = [own.mean(keepdims=True) for own in logits]
    flat = np.concatenate(logits)
    begins = np.cumsum([0, *(len(own) for own in logits[:-1])])
    counts = np.array([len(own) for own in logits])

    def loss(x: NDArray[np.float64]) -> float:
        values = flat * np.exp(-x[0]) + x[1]
        # logarithms of the means over the clips, exact where all of them are next to 0
        p, q = (np.logaddexp.reduceat(log_expit(sign * values), begins) - np.log(counts) for sign in (1, -1))
        return float(-(target * p + (1 - target) * q).mean())

    bounds = [tuple(np.log(TEMPERATURES)), (-LARGEST_LOGIT, LARGEST_LOGIT)]
    # from a temperature on which the logits are of the size of 1, where the loss has a slope
    start = (float(np.log(np.clip(np.abs(flat).mean(), 0.1, 10.0))), 0.0)
    found = [minimize(loss, x, method="L-BFGS-B", bounds=bounds) for x in (start, (0.0, 0.0))]
    best = min(found, key=lambda result: result.fun).x
    return Calibration(float(np.exp(best[0])), float(best[1]), fitted_on)
