"""The engine that trains detectors, what is trained around a detector, and published recipes."""

from dfmodels.training.divergence import DivergedError
from dfmodels.training.engine import train
from dfmodels.training.objectives.lsda import LSDADistillation
from dfmodels.training.objectives.objective import CrossEntropy, Objective
from dfmodels.training.recipe import Recipe, find_recipe, list_recipes, register

__all__ = [
    "CrossEntropy",
    "DivergedError",
    "LSDADistillation",
    "Objective",
    "Recipe",
    "find_recipe",
    "list_recipes",
    "register",
    "train",
]
