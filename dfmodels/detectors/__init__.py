"""One module per detector: blocks, class, key conversion, builder."""

from dfmodels.detector import Detector, InputContract
from dfmodels.detectors import ddl, frame, lsda, stil

__all__ = ["Detector", "InputContract", "ddl", "frame", "lsda", "stil"]
