"""The published training scripts: one module a detector, whose recipes are registered when it is imported."""

from dfmodels.training.recipes.ddl import DDL
from dfmodels.training.recipes.frame import Frame
from dfmodels.training.recipes.lsda import LSDA
from dfmodels.training.recipes.stil import STIL, STILDeepfakeBench

__all__ = ["DDL", "LSDA", "STIL", "Frame", "STILDeepfakeBench"]
