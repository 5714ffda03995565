"""Published deepfake detectors on the operators of dfops."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfmodels import detectors
    from dfmodels.detector import Detector, InputContract
    from dfmodels.export import export_onnx
    from dfmodels.inference import optimize
    from dfmodels.registry import build, list_models, load, register
    from dfmodels.scoring import score_video
    from dfmodels.weights import save
    from dfops import __version__

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
# imported where used: torch takes seconds, in which the command would not hear Ctrl-C
_FROM = {
    "Detector": "dfmodels.detector",
    "InputContract": "dfmodels.detector",
    "__version__": "dfops",
    "build": "dfmodels.registry",
    "export_onnx": "dfmodels.export",
    "list_models": "dfmodels.registry",
    "load": "dfmodels.registry",
    "optimize": "dfmodels.inference",
    "register": "dfmodels.registry",
    "save": "dfmodels.weights",
    "score_video": "dfmodels.scoring",
}


def __getattr__(name: str) -> Any:
    if name == "detectors":
        return import_module("dfmodels.detectors")
    if name in _FROM:
        return getattr(import_module(_FROM[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
