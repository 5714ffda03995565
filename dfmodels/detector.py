"""What all detectors have in common: their input contract, their options, and probabilities from logits."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dfmodels.options import check_choice, check_count, check_number, check_option, is_number, listed, sides

CROPS = ("square", "aligned")
SAMPLINGS = ("consecutive", "spread", "even")
AVERAGES = ("probabilities", "logits")
AnyDetector = TypeVar("AnyDetector", bound="Detector")
AnyModule = TypeVar("AnyModule", bound=nn.Module)


@dataclass(frozen=True)
class InputContract:
    """What a detector wants to see.

    Attributes:
        num_frames: frames T of a clip.
        size: height and width of a face crop in pixels, or one number for both; other sizes run, this one was trained
            for.
        margin: side of the square crop relative to the longer side of the face box, of an aligned one relative to the
            template.
        crop: "square", around the face box, or "aligned", turned and scaled by landmarks (`dfmodels.video.align_face`);
            a face detector that gives none leaves the square one.
        mean, std: per colour (RGB, after scaling to [0, 1]): input = (value - mean) / std.
        sampling: which frames make the clips of a video. "consecutive": T neighbouring frames a clip, the clips evenly
            spaced; "spread": the T * clips frames of STIL's test protocol (`dfmodels.video.eval_frames`), cut into
            clips of T in order of time; "even": T * clips frames evenly spaced from the first to the last
            (`dfmodels.video.even_frames`), cut in the same way, all of them different where the video has enough.
        num_clips: clips of a video that its score is made of, unless the caller asks for another number.
        average: how clips become a video. "probabilities": the mean of the clips' fake probabilities; "logits": the
            softmax of the mean of their logits. Where a clip's logits are the mean of its frames', the latter is the
            mean over all frames.
    """

    num_frames: int
    size: tuple[int, int]
    margin: float = 1.3
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    sampling: str = "consecutive"
    num_clips: int = 8
    average: str = "probabilities"
    crop: str = "square"

    def __post_init__(self) -> None:
        check_count("num_frames", self.num_frames)
        check_count("num_clips", self.num_clips)
        height, width = sides("size", self.size)
        object.__setattr__(self, "size", (height, width))  # one number, or the list that JSON makes of a tuple
        check_number("margin", self.margin, lambda x: x > 0, "above 0")
        for name, fits, what in (("mean", is_number, "three numbers"), ("std", _positive, "three numbers above 0")):
            values = getattr(self, name)
            check_option(name, values, len(listed(name, values, fits, what)) == 3, what)
        check_choice("crop", self.crop, CROPS)
        check_choice("sampling", self.sampling, SAMPLINGS)
        check_choice("average", self.average, AVERAGES)

    @property
    def unit(self) -> str:
        """What one score speaks of: "frame" where a clip is a single one, otherwise "clip"."""
        return "frame" if self.num_frames == 1 else "clip"

    def normalize(self, frames: Tensor) -> Tensor:
        """Network input (..., 3, H, W), float32, from RGB values in 0..255, (..., H, W, 3) uint8.

        Raises:
            TypeError: another type; values in 0..1, or normalised ones, would pass for black.
            ValueError: another shape.
        """
        if not isinstance(frames, Tensor) or frames.dtype != torch.uint8:
            kind = frames.dtype if isinstance(frames, Tensor) else type(frames).__name__
            raise TypeError(
                f"frames must be a uint8 tensor of RGB values in 0..255, got {kind}; from floating-point images in "
                "0..1: (255 * images).round().byte()"
            )
        if frames.dim() < 3 or frames.shape[-1] != 3:
            raise ValueError(
                f"frames must be (..., H, W, 3), colours last, got shape {tuple(frames.shape)}; of images "
                "(..., 3, H, W): images.movedim(-3, -1)"
            )
        clip = frames.movedim(-1, -3).float() / 255
        mean, std = (torch.tensor(v, device=clip.device)[:, None, None] for v in (self.mean, self.std))
        return (clip - mean) / std

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def _positive(value: Any) -> bool:
    return is_number(value) and value > 0


@dataclass(frozen=True)
class Calibration:
    """Temperature and bias under which fake probabilities agree best with what was fake among videos of known label.

    p = sigmoid((logit of fake - logit of real) / temperature + bias); the order of clips stays as it is.

    Attributes:
        temperature: above 0; above 1 where the detector is too sure of itself.
        bias: any finite number; above 0 where it calls too few fake.
        fitted_on: the videos, in words.

    Raises:
        ValueError: a temperature or bias other than the ones above.

    Source: arXiv:1706.04599, with the bias of Platt's scaling.
    """

    temperature: float
    bias: float = 0.0
    fitted_on: str = ""

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, lambda x: x > 0, "above 0")
        check_number("bias", self.bias, lambda x: True, "finite")
        if not isinstance(self.fitted_on, str):
            raise ValueError(f"fitted_on must be text, got {self.fitted_on!r}")

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits (B, num_classes) whose softmax is calibrated."""
        scaled = logits / self.temperature
        scaled[:, 1] += self.bias
        return scaled

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Origin:
    """Where the weights of a detector come from, which every verdict names.

    Attributes:
        file: path of the file they were read from; None for those of a model that was trained in this process.
        sha256: of that file.
        note: what was written beside them (`dfmodels.save`): data, licence, what they are not for; empty where nothing
            was.
        calibration: what makes probabilities of their logits where `dfmodels evaluate --calibrate` left it beside the
            file; verdicts go by it, `Detector.predict` does not.
    """

    file: str | None = None
    sha256: str | None = None
    note: str = ""
    calibration: Calibration | None = None


def fake_probability(logits: Tensor) -> Tensor:
    """Probability (B,) of class 1, fake, from logits (B, num_classes)."""
    return logits.softmax(1)[:, 1]


def evaluating(model: AnyModule) -> AnyModule:
    """`model` in evaluation mode, while it stays in its own: other modules with the same tensors and the same hooks.

    Made anew for every use, so that other threads may use or train `model` meanwhile. Hooks that are added to it, and
    what its forward keeps in attributes, end with it. Modules that `Module.compile` compiled run uncompiled.
    """
    views: dict[nn.Module, nn.Module] = {}
    for module in model.modules():
        view = views[module] = module.__class__.__new__(module.__class__)
        # the tables of tensors, children and hooks are copied too: who adds to them changes one of the two
        state = {key: value.copy() if isinstance(value, dict) else value for key, value in vars(module).items()}
        vars(view).update(state, training=False, _compiled_call_impl=None)
    for view in views.values():
        for name, child in view._modules.items():
            view._modules[name] = None if child is None else views[child]
        forward = vars(view).get("forward")  # libraries that wrap a model put a method of this very object there
        if isinstance(forward, MethodType) and forward.__self__ in views:
            vars(view)["forward"] = MethodType(forward.__func__, views[forward.__self__])
    return views[model]  # type: ignore[return-value]


class Published(nn.Module):
    """A network whose weights a published training script writes, under other names than ours.

    Attributes:
        name: what error messages call it.
        config: the options it was built with.
    """

    name: str
    config: dict[str, Any]

    def published_layout(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Published key -> our key, and the index of that tensor in ours where we keep several in one.

        The keys are alike unless overridden.
        """
        return {key: (key, ()) for key in self.state_dict()}

    def published_leaves_out(self, key: str) -> bool:
        """Whether a published checkpoint may hold `key` without a counterpart here, as parts that never run."""
        return False

    def backbone_layout(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Keys of a file of the backbone alone -> ours; empty where none is known."""
        return {}

    def backbone_leaves_out(self, key: str) -> bool:
        """Whether a file of the backbone alone may hold `key` without a counterpart here, as its classifier."""
        return False


class Optimizable(nn.Module):
    """A module that computes otherwise in the copies that `dfmodels.optimize` makes.

    Attributes:
        optimized: whether it belongs to such a copy and serves inference only. It may then do what training and hooks
            on its children could not bear: leave norms out, write over its input, take a few frames at a time.
    """

    optimized: bool = False

    def optimize_(self) -> None:
        """Change this module of a copy in evaluation mode; called once, before that of its children."""
        self.optimized = True


class Detector(Published, Optimizable):
    """A network from clips (B, T, 3, H, W) to logits (B, 2), class 0 real, class 1 fake.

    Attributes:
        name: registered name.
        config: the options it was built with, enough to build it again.
        contract: what it wants to see.
        trained: whether it has detector weights. Random weights give no verdict; loading a complete state dict sets
            this, and so does dfmodels' training loop. Set it after training a model in a loop of your own.
        optimized: whether `dfmodels.optimize` made it; it then serves inference only.
        origin: where its weights come from; `dfmodels.load` and `build(weights=...)` set it.
    """

    contract: InputContract
    trained: bool = False
    origin: Origin = Origin()

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        if self.optimized:
            raise RuntimeError("an optimized detector takes no weights; load them into the model it was made from")
        result = super().load_state_dict(state_dict, strict, assign)
        self.origin = Origin()  # of another state dict than the file that was read
        self.trained = self.trained or strict
        return result

    def train(self: AnyDetector, mode: bool = True) -> AnyDetector:
        if mode and self.optimized:
            raise RuntimeError("an optimized detector serves inference only; train the model it was made from")
        return super().train(mode)

    def attention_maps(self, clip: Tensor) -> dict[str, list[Tensor]]:
        """Where it looks in a clip (B, T, 3, H, W): by name, a map (B, T, H_i, W_i) a block; none unless overridden.

        As `predict`, in evaluation mode whatever the mode of the detector, without gradients, safe from threads.
        """
        return {}

    def predict_logits(self, clip: Tensor, **options: Any) -> Tensor:
        """Logits of each clip, in evaluation mode and without gradients.

        Neither mode nor state of the detector changes, so threads may share it, also with one that trains it.

        Args:
            clip: (B, T, 3, H, W) as `contract` says, of any floating-point type.
            **options: further arguments of `forward`.

        Returns:
            (B, num_classes), float32.

        Raises:
            RuntimeError: the detector has no trained weights.
            ValueError: a clip that is none, or a detector of your own that gives no logits (B, num_classes).
        """
        self.check_trained()
        with torch.no_grad():
            logits = evaluating(self)(self.matching(clip), **options).float()
        if logits.dim() != 2 or len(logits) != len(clip) or logits.shape[1] < 2:
            raise ValueError(
                f"{self.name} must give logits (B, num_classes), one row a clip, class 0 real and class 1 fake, "
                f"got {tuple(logits.shape)} of {len(clip)} clips"
            )
        return logits

    def predict(self, clip: Tensor, **options: Any) -> Tensor:
        """Probability (B,) in [0, 1] that each clip is fake: `fake_probability` of `predict_logits`."""
        return fake_probability(self.predict_logits(clip, **options))

    def save_pretrained(self, folder: str | Path, **notes: Any) -> None:
        """Write the detector to a folder as the Hugging Face Hub has them: weights, configuration, model card.

        Args:
            folder: to write to; made where it is missing, and what an earlier call wrote is replaced.
            notes: as of `dfmodels.save`. The card has sections for `recipe`, `metrics`, `data` and `licence`. Those of
                the file that the weights come from, as a run writes them, are kept where they are not given.

        Raises:
            ValueError: an untrained detector or an optimized copy, or an empty name.
            NotADirectoryError: `folder` is a file.
            ImportError: huggingface_hub is not installed.
        """
        import_module("dfmodels.hub").save_pretrained(self, folder, **notes)

    def push_to_hub(self, repository: str, *, notes: Mapping[str, Any] | None = None, **options: Any) -> str:
        """Write the detector to a repository on the Hugging Face Hub, which is made where it is missing.

        Args:
            repository: OWNER/NAME.
            notes: as of `save_pretrained`.
            options: of the mixin of `huggingface_hub`, as `private`, `token`, `commit_message`.

        Returns:
            The address of the commit.

        Raises:
            ValueError: an untrained detector or an optimized copy.
            ImportError: huggingface_hub is not installed.
        """
        return import_module("dfmodels.hub").push_to_hub(self, repository, options, dict(notes or {}))

    @classmethod
    def from_pretrained(cls: type[AnyDetector], source: str | Path, **options: Any) -> AnyDetector:
        """A detector that `save_pretrained` or `push_to_hub` wrote, in evaluation mode on the CPU.

        Args:
            source: a folder, which never touches the network; or, where no such folder exists, the name OWNER/NAME of
                a repository on the Hugging Face Hub.
            options: for the hub, as `revision`, `token`, `cache_dir`, `local_files_only`.

        Raises:
            FileNotFoundError: no such folder, or one without a detector.
            NotADirectoryError: `source` is a file.
            TypeError: it holds a detector of another class.
            ValueError: weights that do not fit, or an empty name.
            ImportError: the name of a repository, and huggingface_hub is not installed.
        """
        detector = import_module("dfmodels.hub").from_pretrained(source, **options)
        if not isinstance(detector, cls):
            raise TypeError(f"{source} holds a detector {detector.name!r}, which is no {cls.__name__}")
        return detector

    @property
    def device(self) -> torch.device:
        """Where its weights lie; the CPU where it has none."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def check_trained(self) -> None:
        """Raise RuntimeError when the detector has no trained weights."""
        if not self.trained:
            raise RuntimeError(
                f"this {self.name} detector has random weights, so its output means nothing; load trained weights "
                f'(dfmodels.build("{self.name}", weights=...) or dfmodels.load); set trained = True after training it'
            )

    def matching(self, clip: Tensor) -> Tensor:
        """`clip` in the floating-point type of the detector's weights."""
        if not isinstance(clip, Tensor) or not clip.is_floating_point():
            return clip  # which `check_clip` refuses
        return clip.to(next((p.dtype for p in self.parameters() if p.is_floating_point()), clip.dtype))

    def check_clip(self, clip: Tensor) -> None:
        """Raise ValueError or TypeError when `clip` is no (B, T, 3, H, W) of floating-point numbers."""
        if not isinstance(clip, Tensor) or not clip.is_floating_point():
            kind = clip.dtype if isinstance(clip, Tensor) else type(clip).__name__
            raise TypeError(f"clip must be a floating-point tensor (B, T, 3, H, W), got {kind}")
        if clip.dim() != 5 or clip.shape[2] != 3:
            raise ValueError(f"clip must be (B, T, 3, H, W), got shape {tuple(clip.shape)}")
        if clip.shape[3] < 1 or clip.shape[4] < 1:
            raise ValueError(f"clip must have at least one row and column, got shape {tuple(clip.shape)}")


def check_detector(model: object) -> None:
    """Raise TypeError that lists all that `model` lacks of a detector, or has of another type."""
    if not isinstance(model, Detector):
        raise TypeError(f"a detector must be a dfmodels.Detector, got {type(model).__name__}")
    wanted: dict[str, tuple[type, str]] = {
        "name": (str, "the registered name"),
        "config": (dict, "the options it was built with, names to JSON values"),
        "contract": (InputContract, "a dfmodels.InputContract"),
        "trained": (bool, "True or False"),
        "optimized": (bool, "True or False"),
    }
    problems = []
    for name, (kind, what) in wanted.items():
        value = getattr(model, name, None)
        if not isinstance(value, kind):
            problems.append(
                f"{name} must be {what}, " + (f"got {value!r:.100}" if hasattr(model, name) else "is missing")
            )
    if isinstance(config := getattr(model, "config", None), dict):
        try:
            json.dumps(config)
        except (TypeError, ValueError) as error:
            problems.append(f"config must hold JSON values, got {config!r:.200}: {error}")
    if type(model).forward is nn.Module.forward:
        problems.append("forward must be a method from clips (B, T, 3, H, W) to logits (B, 2), is missing")
    if problems:
        raise TypeError(f"{type(model).__name__} is no complete detector:\n  " + "\n  ".join(problems))
