"""Names at the places where earlier versions had them."""

import importlib
import warnings
from collections.abc import Callable
from typing import Any


def moved(module: str, to: str, *names: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module whose `names` are found in the module `to`, with a DeprecationWarning."""

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(f"{module}.{name} is now {to}.{name}", DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(to), name)

    return __getattr__
