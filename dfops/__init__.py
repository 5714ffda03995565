"""Fused, differentiable operators for deepfake detection; `dfops.reference` holds each again in plain torch."""

from importlib.metadata import PackageNotFoundError, version

from dfops import _extension

_extension.load()

# the libraries must be loaded before fake kernels and autograd formulas can be registered
from dfops import augment, reference  # noqa: E402
from dfops.ops.directional_difference import directional_difference  # noqa: E402
from dfops.ops.feature_mixup import feature_mixup  # noqa: E402
from dfops.ops.inconsistency_gate import inconsistency_gate  # noqa: E402
from dfops.ops.interframe_difference import interframe_difference, interframe_difference_sparse  # noqa: E402
from dfops.ops.latent_augment import latent_augment, latent_augment_mix  # noqa: E402
from dfops.ops.latent_rotate import latent_rotate  # noqa: E402
from dfops.ops.paired_cosine import paired_cosine  # noqa: E402
from dfops.ops.strip_merge import strip_merge  # noqa: E402
from dfops.ops.strip_pool import strip_pool  # noqa: E402

try:
    __version__ = version("dfops")
except PackageNotFoundError:  # a source tree on sys.path that was never installed
    __version__ = "0+unknown"


def cuda_loaded() -> bool:
    """Whether CUDA kernels are at hand; `python -m dfops.info` says why not.

    >>> isinstance(dfops.cuda_loaded(), bool)
    True
    """
    return _extension.cuda_loaded


__all__ = [
    "__version__",
    "augment",
    "cuda_loaded",
    "directional_difference",
    "feature_mixup",
    "inconsistency_gate",
    "interframe_difference",
    "interframe_difference_sparse",
    "latent_augment",
    "latent_augment_mix",
    "latent_rotate",
    "paired_cosine",
    "reference",
    "strip_merge",
    "strip_pool",
]
