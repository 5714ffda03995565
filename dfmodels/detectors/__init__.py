"""One module per detector: blocks, class, key conversion, builder."""

from dfmodels.detector import Detector, InputContract
from dfmodels.detectors import ddl, lsda, stil

__all__ = ["Detector", "InputContract", "ddl", "lsda", "stil"]
