"""Fused, differentiable operators for deepfake detection: `dfops.<operator>`, in plain torch `dfops.reference.<operator>`."""

from importlib.metadata import PackageNotFoundError, version

from dfops import _extension

_extension.load()

# the libraries must be loaded before fake kernels and autograd formulas can be registered
from dfops import reference  # noqa: E402
from dfops.ops.inconsistency_gate import inconsistency_gate  # noqa: E402
from dfops.ops.strip_merge import strip_merge  # noqa: E402
from dfops.ops.strip_pool import strip_pool  # noqa: E402

try:
    __version__ = version("dfops")
except PackageNotFoundError:  # a source tree on sys.path that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__", "inconsistency_gate", "reference", "strip_merge", "strip_pool"]
