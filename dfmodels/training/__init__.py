"""Training loops, what is trained around a detector, and published recipes."""

from dfmodels.training.distillation import distill
from dfmodels.training.divergence import DivergedError
from dfmodels.training.loop import fit
from dfmodels.training.objectives.lsda import LSDADistillation

__all__ = ["DivergedError", "LSDADistillation", "distill", "fit"]
