"""Published deepfake detectors on the operators of dfops."""

import importlib
from typing import TYPE_CHECKING, Any

from dfmodels import detectors  # registers the builders
from dfmodels.detector import Detector, InputContract
from dfmodels.export import export_onnx
from dfmodels.inference import optimize
from dfmodels.registry import build, list_models, load, register
from dfmodels.weights import save
from dfops import __version__

if TYPE_CHECKING:
    from dfmodels.scoring import score_video

__all__ = [
    "Detector",
    "InputContract",
    "__version__",
    "build",
    "detectors",
    "export_onnx",
    "list_models",
    "load",
    "optimize",
    "register",
    "save",
    "score_video",
]


def __getattr__(name: str) -> Any:
    if name == "score_video":  # what reads videos is optional, and takes its time to import
        return importlib.import_module("dfmodels.scoring").score_video
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
