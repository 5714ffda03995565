"""What a published training script fixes: one frozen dataclass a script, registered by name, every field settable."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import import_module
from types import NoneType, UnionType
from typing import Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler

from dfmodels.data.clips import ClipSamples, draw_plan
from dfmodels.data.crops import CropSource
from dfmodels.data.index import Video
from dfmodels.data.plan import FramePlan
from dfmodels.data.samples import Samples
from dfmodels.detector import InputContract
from dfmodels.options import check_choice, check_count, check_number, check_option, is_number, refuse
from dfmodels.registry import build, check_options, hint
from dfmodels.training.objectives.objective import CrossEntropy, Objective
from dfmodels.video.decode import is_images

BALANCES = ("none", "oversample")
PRECISIONS = ("fp32", "fp16", "bf16")
METRICS = ("auc", "ap", "eer", "accuracy", "balanced_accuracy", "loss")
MODEL = "model."  # what a setting of the detector's own begins with

AnyRecipe = TypeVar("AnyRecipe", bound="type[Recipe]")
_RECIPES: dict[str, type[Recipe]] = {}


@dataclass(frozen=True)
class Recipe:
    """How a detector is trained: objective, samples, optimiser and schedule, and the numbers that they take.

    A subclass gives the numbers of a published script as defaults, and overrides what else the script does its own way.

    Attributes:
        epochs: passes over the samples.
        batch_size: samples a step and process; an incomplete last batch is left out.
        learning_rate: highest rate.
        weight_decay: as the optimiser takes it.
        clips_per_video: samples of a video an epoch; where the detector judges single frames, frames.
        frames_per_video: frames of a video that samples are drawn from, as `dfmodels.data.clips.ClipSamples` chooses
            them; 0 leaves it to the draw.
        margins: least and greatest margin of the face crop, drawn uniformly for every sample; null for the contract's.
        balance: "none", or "oversample": videos of the rarer class come again until both are as many.
        seed: of the weights' start, the order and all draws.
        num_workers: processes that load samples; 0 loads them in the training process.
        precision: "fp32", or "fp16" or "bf16", mixed.
        accumulate: batches whose gradients make one step of the optimiser.
        clip_norm: greatest norm of the gradient of a step; 0 leaves it as it is.
        average: share of the old in a running mean of the weights, which then is what is saved; 0 for none.
        freeze_norms: batch norms stay in inference mode, and their statistics as they start.
        best_metric: one of METRICS on the videos of the validation split; the epoch where it is best is kept.
        save_every: steps from one saved state to the next; the end of an epoch is always saved.
        backbone_weights: file of the backbone alone to start from; empty for random weights.
        model: options of the detector, "model.KEY" among the settings.
    """

    name: ClassVar[str]
    detector: ClassVar[str]  # registered name of what is trained
    draw: ClassVar[str]  # of the frames of a sample, as `dfmodels.data.clips.draw_plan` knows them

    epochs: int = 10
    batch_size: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    clips_per_video: int = 1
    frames_per_video: int = 0
    margins: tuple[float, float] | None = None
    balance: str = "none"
    seed: int = 0
    num_workers: int = 0
    precision: str = "fp32"
    accumulate: int = 1
    clip_norm: float = 0.0
    average: float = 0.0
    freeze_norms: bool = False
    best_metric: str = "auc"
    save_every: int = 500
    backbone_weights: str = ""
    model: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "clips_per_video", "accumulate", "save_every"):
            check_count(name, getattr(self, name))
        for name in ("frames_per_video", "num_workers", "seed"):
            check_count(name, getattr(self, name), least=0)
        check_number("seed", self.seed, lambda seed: seed < 2**63, "below 2^63")  # what a generator of torch takes
        check_number("learning_rate", self.learning_rate, lambda rate: rate > 0, "above 0")
        for name in ("weight_decay", "clip_norm"):
            check_number(name, getattr(self, name), lambda value: value >= 0, "of at least 0")
        check_number("average", self.average, lambda share: 0 <= share < 1, "from 0 to below 1")
        if self.margins is not None:
            check_option(
                "margins",
                self.margins,
                0 < self.margins[0] <= self.margins[1] < math.inf,
                "two ascending numbers above 0",
            )
        check_choice("balance", self.balance, BALANCES)
        check_choice("precision", self.precision, PRECISIONS)
        if self.best_metric not in METRICS:
            raise ValueError(
                f"best_metric must be a metric, got {self.best_metric!r}; {hint(self.best_metric, METRICS)}"
            )
        try:
            check_options(self.detector, self.model)
        except TypeError as error:
            raise ValueError(f"{error}; options of the detector are set as {MODEL}KEY=VALUE") from error

    # ------------------------------------------------------------------ what is trained, on what, and how

    def objective(self, videos: Sequence[Video]) -> Objective:
        """What is trained, on the CPU; its random start follows from torch's own generator.

        Args:
            videos: of the training split.
        """
        return CrossEntropy(build(self.detector, backbone_weights=self.backbone_weights or None, **self.model))

    def augmentation(self) -> Callable[[Tensor], Tensor] | None:
        """What is done to the uint8 crops (T, 3, H, W) of a sample, drawn from torch's own generator; or nothing."""
        return None

    def plan(self, video: Video, contract: InputContract) -> FramePlan:
        """The frames of a video of the training split that `samples` looks at, and `dfmodels prepare` keeps.

        Args:
            video: a film or a folder of images.
            contract: of the detector.
        """
        return draw_plan(self.draw, contract, self.frames_per_video or None, images=is_images(video.path))

    def samples(self, videos: Sequence[Video], crops: CropSource, contract: InputContract) -> Samples:
        """What an epoch goes through, in any order.

        Args:
            videos: of the training split, balanced already.
            crops: opens the face crops of a video.
            contract: of the detector.
        """
        return ClipSamples(
            videos,
            contract,
            crops,
            draw=self.draw,
            clips_per_video=self.clips_per_video,
            frames_per_video=self.frames_per_video or None,
            margins=self.margins,
            transform=self.augmentation(),
            seed=self.seed,
        )

    def validation(self, videos: Sequence[Video], crops: CropSource, contract: InputContract) -> Samples:
        """The clips by which the detector judges videos, without augmentation; arguments as of `samples`."""
        return ClipSamples(videos, contract, crops)

    def optimizer(self, objective: nn.Module) -> Optimizer:
        """Adam over what requires a gradient."""
        trained = (parameter for parameter in objective.parameters() if parameter.requires_grad)
        return Adam(trained, lr=self.learning_rate, weight_decay=self.weight_decay)

    def schedule(self, optimizer: Optimizer, steps_per_epoch: int) -> LRScheduler:
        """Of the rate, stepped after every step of the optimiser: constant.

        Args:
            optimizer: as `optimizer` gives it.
            steps_per_epoch: steps of the optimiser, at least 1.
        """
        return ConstantLR(optimizer, factor=1.0)

    # ------------------------------------------------------------------ settings

    def with_settings(self, settings: Mapping[str, Any]) -> Recipe:
        """The recipe with other values.

        Args:
            settings: by the name of a field, or "model.KEY" for an option of the detector.

        Raises:
            ValueError: a name that is none, with the ones that are like it, or a value of another type or range.
        """
        kinds = get_type_hints(type(self))
        known = {entry.name for entry in fields(self)} - {"model"}
        changed: dict[str, Any] = {}
        options = dict(self.model)
        for name, value in settings.items():
            if name.startswith(MODEL):
                options[name.removeprefix(MODEL)] = value
            elif name in known:
                changed[name] = _typed(name, kinds[name], value)
            else:
                raise ValueError(
                    f"recipe {self.name} has no setting {name!r}; {hint(name, sorted(known))} (options of the detector "
                    f"are {MODEL}KEY)"
                )
        return replace(self, **changed, model=options)

    def as_dict(self) -> dict[str, Any]:
        """Name and all settings, as JSON and YAML hold them."""
        return json.loads(json.dumps({"recipe": self.name, "detector": self.detector, **asdict(self)}))


def register(name: str) -> Callable[[AnyRecipe], AnyRecipe]:
    """Make the decorated subclass of `Recipe` available as `find_recipe(name)`; ValueError for a name that is taken."""

    def decorate(recipe: AnyRecipe) -> AnyRecipe:
        if name in _RECIPES:
            raise ValueError(f"a recipe named {name!r} is registered already")
        recipe.name = name
        _RECIPES[name] = recipe
        return recipe

    return decorate


def list_recipes() -> list[str]:
    """Registered names, sorted."""
    import_module("dfmodels.training.recipes")  # which registers them, and imports this module
    return sorted(_RECIPES)


def find_recipe(name: str) -> Recipe:
    """The recipe of a registered name as published; ValueError with close names for another."""
    if name not in list_recipes():
        raise ValueError(f"unknown recipe {name!r}; {hint(name, list_recipes())}")
    return _RECIPES[name]()


def _typed(name: str, kind: Any, value: Any) -> Any:
    """`value` as the annotation `kind` has it; ValueError where it is of another kind."""
    for wanted in get_args(kind) if isinstance(kind, UnionType) else (kind,):
        if wanted is float and is_number(value):
            return float(value)
        if wanted is NoneType and value is None:
            return None
        if get_origin(wanted) is tuple and isinstance(value, list | tuple):
            inner = get_args(wanted)
            inner = (inner[0],) * len(value) if inner[1:] == (...,) else inner
            if len(inner) == len(value):
                return tuple(_typed(name, one, entry) for one, entry in zip(inner, value, strict=True))
        if type(value) is wanted:
            return value
    return refuse(name, _words(kind), value)


_WORDS = {int: "a whole number", float: "a number", str: "a word", bool: "true or false", NoneType: "null"}


def _words(kind: Any) -> str:
    """What the annotation `kind` asks for, as a person types it."""
    if isinstance(kind, UnionType):
        return ", or ".join(map(_words, get_args(kind)))
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        return f"[{_words(inner[0])}, ...]" if inner[1:] == (...,) else f"[{', '.join(map(_words, inner))}]"
    return _WORDS.get(kind, str(kind))
