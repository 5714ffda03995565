"""Packages that only parts of dfmodels need, imported where they are used."""

import importlib
from typing import Any

# what each is called, and the extra of dfops that installs it
PACKAGES = {
    "av": ("PyAV", "video"),
    "cv2": ("OpenCV", "video"),
    "matplotlib": ("matplotlib", "video"),
    "onnx": ("onnx", "onnx"),
    "onnxscript": ("ONNX Script", "onnx"),
}


def require(module: str, purpose: str) -> Any:
    """The module `module`, of an optional package or inside one.

    Args:
        module: as in an import statement, for example "matplotlib.figure".
        purpose: what needs it, as the subject of an error.

    Raises:
        ImportError: the package is not installed; says how to install it.
    """
    package, extra = PACKAGES[module.split(".")[0]]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        # no name of an index: the package called dfops there is another one
        raise ImportError(
            f'{purpose} needs {package} ({error}): pip install "PATH_OR_GIT_URL[{extra}]", '
            "the folder or repository that dfops came from"
        ) from error
