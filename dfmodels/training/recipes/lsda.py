"""The training of LSDA."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from dfmodels.data.clips import MOMENTS
from dfmodels.data.crops import CropSource
from dfmodels.data.groups import ForgeryGroups, make_groups, methods_of
from dfmodels.data.index import Video
from dfmodels.data.samples import Samples
from dfmodels.detector import InputContract
from dfmodels.detectors.lsda import lsda, make_encoder
from dfmodels.options import check_choice, check_number, check_option
from dfmodels.training.objectives.lsda import PRESETS, LSDADistillation
from dfmodels.training.recipe import Recipe, register

LOG = logging.getLogger(__name__)
REAL_ENCODERS = ("iresnet100", "student")


@register("lsda")
@dataclass(frozen=True)
class LSDA(Recipe):
    """LSDA as DeepfakeBench's script has it: groups of a real video and its forgeries, Adam at a constant rate.

    Attributes:
        batch_size: groups a step.
        clips_per_video: samples of a group an epoch.
        preset: of the losses and draws, one of `PRESETS`: "paper", or "deepfakebench", the released code.
        real_encoder: "iresnet100", or "student": an encoder like the student's, trained with it.
        real_encoder_weights: file of the real encoder, ArcFace's iresnet100; without it the real encoder starts at
            random, which the preset "deepfakebench" or `untrained_real_encoder` has to allow.
        untrained_real_encoder: train although the real encoder starts at random.
        pull, push: manipulations that keep the identity of the real face, and those that swap it; of the real loss,
            which is left out where the data hold none of both.
        augment: probability of each of the five steps of `GroupAugmentation`; 0 for none.
    """

    detector: ClassVar[str] = "lsda"
    draw: ClassVar[str] = MOMENTS

    epochs: int = 51  # "50", and the released loop runs one more
    batch_size: int = 4
    learning_rate: float = 2e-4
    weight_decay: float = 5e-4
    preset: str = "paper"
    real_encoder: str = "iresnet100"
    real_encoder_weights: str = ""
    untrained_real_encoder: bool = False
    pull: tuple[str, ...] = ("Face2Face", "NeuralTextures")
    push: tuple[str, ...] = ("Deepfakes", "FaceSwap", "FaceShifter")
    augment: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("preset", self.preset, PRESETS)
        check_choice("real_encoder", self.real_encoder, REAL_ENCODERS)
        check_number("augment", self.augment, lambda share: 0 <= share <= 1, "from 0 to 1")
        check_option("push", self.push, not {*self.pull} & {*self.push}, "other manipulations than pull")
        check_option(
            "frames_per_video", self.frames_per_video, not self.frames_per_video, "0: every tenth one is taken"
        )

    def objective(self, videos: Sequence[Video]) -> LSDADistillation:
        untrained = self.untrained_real_encoder or PRESETS[self.preset].untrained_real_encoder
        if not (self.real_encoder_weights or untrained):
            raise ValueError(
                "real_encoder_weights must name a file of ArcFace's iresnet100, as the maps of a random real encoder "
                "mean nothing; untrained_real_encoder=true trains all the same, as the released code does"
            )
        methods = methods_of(videos)
        unnamed = sum(bool(video.label and not video.method) for video in videos)
        if unnamed:
            LOG.warning(
                "warning: %d fakes name no method and are taken for those of one: the encoder of a manipulation learns "
                "from its own alone, so fill in the column method",
                unnamed,
            )
        pull, push = (
            tuple(methods.index(name) + 1 for name in names if name in methods) for names in (self.pull, self.push)
        )
        options: dict[str, Any] = {}
        if not (pull or push):
            options["real_weight"] = 0.0
            LOG.warning(
                "warning: the loss 'real' is left out: of the manipulations that keep the identity (pull: %s) and that "
                "swap it (push: %s) the data hold none, but %s; say which do which by --set pull=[...] push=[...]",
                ", ".join(self.pull) or "none",
                ", ".join(self.push) or "none",
                ", ".join(name or "unnamed ones" for name in methods),
            )
        student = lsda(**self.model)
        real: nn.Module | str = make_encoder(student.config) if self.real_encoder == "student" else self.real_encoder
        training = LSDADistillation(
            student,
            real_encoder=real,
            num_domains=len(methods),
            preset=self.preset,
            pull=pull,
            push=push,
            untrained_real_encoder=untrained,
            **options,
        )
        if self.backbone_weights:
            training.load_backbones(self.backbone_weights)
        if self.real_encoder_weights:
            training.load_real_encoder(self.real_encoder_weights)
        return training

    def augmentation(self) -> Callable[[Tensor], Tensor] | None:
        if self.augment == 0:
            return None
        from dfmodels.data.augmentation import GroupAugmentation  # which takes a second to import torchvision

        return GroupAugmentation(self.augment)

    def samples(self, videos: Sequence[Video], crops: CropSource, contract: InputContract) -> Samples:
        return ForgeryGroups(
            make_groups(videos),
            contract,
            crops,
            samples_per_group=self.clips_per_video,
            margins=self.margins,
            transform=self.augmentation(),
            seed=self.seed,
        )
