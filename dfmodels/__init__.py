"""Published deepfake detectors on the operators of dfops."""

from dfmodels import detectors  # registers the builders
from dfmodels.inference import optimize
from dfmodels.registry import build, list_models, load
from dfmodels.weights import save

__all__ = ["build", "detectors", "list_models", "load", "optimize", "save"]
