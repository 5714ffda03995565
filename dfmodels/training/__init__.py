"""Training loops, what is trained around a detector, and published recipes."""

from dfmodels.training.distillation import distill
from dfmodels.training.loop import DivergedError, fit
from dfmodels.training.objectives.lsda import LSDADistillation

__all__ = ["DivergedError", "LSDADistillation", "distill", "fit"]
