"""The training of LSDA (CVPR 2024, arXiv:2311.11278).

One encoder per forgery method, whose latent maps are augmented inside their method's domain and mixed across domains,
and an encoder of real faces; the student, a `dfmodels.detectors.lsda.LSDA`, learns to see what their maps show.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dfops
from dfmodels import weights as files
from dfmodels.backbones.efficientnet import PACKAGE_LAYOUT, EfficientNetB4
from dfmodels.backbones.iresnet import IResNet
from dfmodels.detector import Published
from dfmodels.detectors.lsda import (
    LSDA,
    SLOPE,
    UNUSED,
    encoder_layout,
    head,
    layers_layout,
    lsda,
    make_encoder,
)
from dfmodels.layers.clips import fold
from dfmodels.options import (
    check_choice,
    check_count,
    check_number,
    check_option,
    check_switch,
    is_count,
    is_number,
    listed,
    refuse,
)
from dfmodels.registry import hint
from dfmodels.training.objectives.objective import Objective
from dfmodels.weights import Layout, inside
from dfops.augment import Draws, draw


def fusion(width: int) -> nn.Sequential:
    """(N, 2 * width, h, w), the augmented map before the mixed one -> (N, width, h, w)."""
    return nn.Sequential(
        nn.Conv2d(2 * width, width, 1),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(width, width, 3, padding=1),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(width, width, 3, padding=1),
        nn.LeakyReLU(SLOPE),
    )


SWITCHES = ("detach_statistics", "running_centroid", "untrained_real_encoder", "freeze_norms", "detach_teacher")


@dataclass(frozen=True)
class DistillationOptions:
    """How LSDA is trained; the defaults are the paper's, `PRESETS["deepfakebench"]` the released code.

    Attributes:
        granularity, transforms, transform_weights, noise, mixture, partner, mix_weight, mix_per: of the random draws,
            see `dfops.augment.draw`.
        detach_statistics: no gradient through centroids and hard examples.
        running_centroid: centroids are an exponential mean of the batches so far, 0.9 old + 0.1 new.
        untrained_real_encoder: train although the real encoder has random weights, as the released code does.
        freeze_norms: the norms of the frozen layers of the real encoder stay in inference mode.
        real_batches: how the real encoder sees a batch: "joint", all images at once, or "per_domain", one position of
            the groups at a time; its norms then have the statistics of each.
        real_loss: "cosine" distances, or "js", Jensen-Shannon divergences.
        real_reduction: of "cosine" over groups and positions, "mean" or "sum".
        real_weight, binary_weight, distill_weight, domain_weight: factors of the losses. With real_weight 0 the real
            encoder sees the real images alone.
        pull, push: positions in a group whose identity is that of the real face, and those where it was swapped.
        detach_teacher: no gradient from the distillation into the encoders of the training; the fusion, which no other
            loss reaches, then stays as it starts.
    """

    granularity: str = "sample"
    transforms: tuple[int | str, ...] = (0, 1, 2, 4)
    transform_weights: tuple[float, ...] | None = None
    noise: str = "scaled"
    mixture: tuple[Tensor, Tensor] | None = None
    partner: str = "cyclic"
    mix_weight: str = "beta"
    mix_per: str = "group"
    detach_statistics: bool = False
    running_centroid: bool = False
    untrained_real_encoder: bool = False
    freeze_norms: bool = True
    real_batches: str = "joint"
    real_loss: str = "cosine"
    real_reduction: str = "mean"
    real_weight: float = 1.0
    binary_weight: float = 0.5
    distill_weight: float = 1.0
    domain_weight: float = 1.0
    pull: tuple[int, ...] = (2, 4)
    push: tuple[int, ...] = (1, 3)
    detach_teacher: bool = False

    def __post_init__(self) -> None:
        choices = {
            "granularity": ("sample", "channel"),
            "real_batches": ("joint", "per_domain"),
            "real_loss": ("cosine", "js"),
            "real_reduction": ("mean", "sum"),
        }
        for name, known in choices.items():
            check_choice(name, getattr(self, name), known)
        for name in SWITCHES:
            check_switch(name, getattr(self, name))
        for name in ("real_weight", "binary_weight", "distill_weight", "domain_weight"):
            check_number(name, getattr(self, name))
        for name in ("pull", "push"):
            listed(name, getattr(self, name), is_count, "positions from 1 on", least=0)
        check_option("push", self.push, not {*self.pull} & {*self.push}, "other positions than pull")
        listed("transforms", self.transforms, lambda x: is_count(x, 0) or isinstance(x, str), "ids or names")
        if self.transform_weights is not None:
            listed("transform_weights", self.transform_weights, is_number, "None or numbers")
        maps = torch.zeros(1, 1, 1, 1, 1)
        if self.mixture is not None:
            pair = self.mixture if isinstance(self.mixture, Sequence) else ()
            shapes = [x.shape for x in pair if isinstance(x, Tensor)]
            fits = (
                len(shapes) == 2 and len(shapes[0]) == 1 and len(shapes[1]) == 2 and 1 <= shapes[0][0] == shapes[1][0]
            )
            check_option("mixture", self.mixture, fits, "None or two tensors: weights (K,) and variances (K, C)")
            maps = self.mixture[1].new_zeros(1, 1, shapes[1][1], 1, 1)
        # what else the draws want is theirs to say, and in a training it would be too late to hear it
        self.draw(maps, torch.Generator(maps.device))

    def draw(self, z: Tensor, generator: torch.Generator | None = None) -> Draws:
        """Random draws for latent maps (G, D, C, h, w)."""
        return draw(
            z,
            transforms=self.transforms,
            transform_weights=self.transform_weights,
            granularity=self.granularity,
            noise=self.noise,
            mixture=self.mixture,
            partner=self.partner,
            mix_weight=self.mix_weight,
            mix_per=self.mix_per,
            generator=generator,
        )


PRESETS = {
    "paper": DistillationOptions(),
    "deepfakebench": DistillationOptions(
        granularity="channel",
        transforms=(0, 1, 2, 3),
        partner="permutation",
        untrained_real_encoder=True,
        freeze_norms=False,
        real_batches="per_domain",
        real_reduction="sum",
    ),
}
OPTIONS = [field.name for field in fields(DistillationOptions)]
MOMENTUM = 0.1  # of the running centroid


class LSDADistillation(Objective, Published):
    """The training of LSDA: forgery encoders, real encoder, fusion and heads around a student.

    z[g, d]  = forgery_encoders[d](images[g, d + 1])                    latent maps (C, h, w) of the forgery domains
    a, m     = latent augmentation inside each domain, mixup across domains                both from z, see `dfops`
    F[g, d]  = fusion([a[g, d], m[g, d]])                               what the student is to see in forgeries
    c        = real_encoder(images)                                     what it is to see in real faces

    An encoder is any module (B, 3, H, W) -> (B, C, h, w), all of one C, h and w.

    Attributes:
        student: the detector to save.
        centroid: the running one, None before the first batch and without the option `running_centroid`; saved and
            restored with the state dict.

    Args:
        student: the detector to train; a new `lsda()` by default.
        forgery_encoders: one for each domain; by default `num_domains` new ones like the student's.
        real_encoder: "iresnet100"; "efficientnet_b4", one like the student's; or a module, whose weights are then
            yours to see to.
        num_domains: D, where no forgery_encoders are given.
        preset: "paper", or "deepfakebench", the released code.
        **options: fields of `DistillationOptions` that differ from the preset.

    Raises:
        ValueError, TypeError: an argument other than the ones above.

    Source: arXiv:2311.11278 and DeepfakeBench.
    """

    name = "the training of lsda"
    student: LSDA
    centroid: Tensor | None

    def __init__(
        self,
        student: LSDA | None = None,
        forgery_encoders: Sequence[nn.Module] | None = None,
        real_encoder: nn.Module | str = "iresnet100",
        *,
        num_domains: int = 4,
        preset: str = "paper",
        **options: Any,
    ):
        super().__init__()
        check_choice("preset", preset, PRESETS)
        check_count("num_domains", num_domains)
        for name in options:
            if name not in OPTIONS:
                raise TypeError(f"the training of lsda has no option {name!r}; {hint(name, OPTIONS)}")
        if not isinstance(student, LSDA | None):
            raise TypeError(f"student must be an lsda detector, got {type(student).__name__}")
        self.options = replace(PRESETS[preset], **options)
        self.student = lsda() if student is None else student
        if forgery_encoders is None:
            forgery_encoders = [make_encoder(self.student.config) for _ in range(num_domains)]
        if not forgery_encoders:
            raise ValueError("forgery_encoders must hold at least one encoder, got none")
        self.forgery_encoders = nn.ModuleList(forgery_encoders)
        self.real_trained = not isinstance(real_encoder, str)
        if real_encoder == "iresnet100":
            real_encoder = IResNet(freeze_norms=self.options.freeze_norms)
        elif real_encoder == "efficientnet_b4":
            real_encoder = make_encoder(self.student.config)
        elif not isinstance(real_encoder, nn.Module):
            refuse("real_encoder", "'iresnet100', 'efficientnet_b4' or a module", real_encoder)
        self.real_encoder = real_encoder
        width = self.student.num_features
        # nothing but the distillation would train it
        self.fusion = fusion(width).requires_grad_(not self.options.detach_teacher)
        self.domain_head = head(width, max(1, width // 2), self.num_domains + 1)
        last = self.num_domains
        if not all(1 <= position <= last for position in (*self.options.pull, *self.options.push)):
            raise ValueError(
                f"pull and push must be positions from 1 to {last} in a group, got {self.options.pull} and "
                f"{self.options.push}"
            )
        self.register_buffer("centroid", None)
        self.config = asdict(self.options)

    @property
    def num_domains(self) -> int:
        """D."""
        return len(self.forgery_encoders)

    def losses(self, batch: Mapping[str, Any], generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """`training_losses` of `training_forward` of `images`, groups (G, D + 1, 3, H, W); raises as that does."""
        return self.training_losses(self.training_forward(batch["images"], generator=generator))

    def training_forward(
        self, images: Tensor, draws: Draws | None = None, *, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Everything that the losses are made of.

        Args:
            images: groups (G, D + 1, 3, H, W), normalised as the student's contract says: a real image, then one of
                each forgery domain.
            draws: random draws; None draws them here, on the device of the images.
            generator: source of these draws, on that device; None is torch's own.

        Returns:
            student (G * (D + 1), C, h, w); real (G, D + 1, C, h, w), with real_weight 0 the first position alone;
            forgery, augmented, mixed, fused (G, D, C, h, w); binary_logits (G * (D + 1), 2); domain_logits
            (G * (D + 1), D + 1); centroid and hard_index as `dfops.latent_augment` gives them.

        Raises:
            ValueError: another shape, or encoders whose maps differ in shape.
            RuntimeError: the real encoder has random weights.
        """
        options, domains = self.options, self.num_domains
        self._check(images)
        student = self.student.encoder(images.flatten(0, 1))
        forgery = stack_maps([encoder(images[:, d + 1]) for d, encoder in enumerate(self.forgery_encoders)])
        seen = images[:, :1] if options.real_weight == 0 else images
        if options.real_batches == "joint":
            real = self.real_encoder(seen.flatten(0, 1)).unflatten(0, seen.shape[:2])
        else:
            real = stack_maps([self.real_encoder(seen[:, position]) for position in range(seen.shape[1])])
        shapes = {"student": student.shape[1:], "forgery": forgery.shape[2:], "real": real.shape[2:]}
        if len(set(shapes.values())) > 1:
            listing = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
            raise ValueError(f"the encoders' maps must have one shape (C, h, w), got {listing}")
        if draws is None:
            draws = options.draw(forgery, generator)
        both, centroid, hard_index = dfops.latent_augment_mix(
            forgery,
            draws.perm,
            draws.mix_lam,
            draws.choice,
            draws.lam,
            draws.sigma,
            draws.noise,
            draws.angle,
            centroid=self.centroid if options.running_centroid else None,
            granularity=options.granularity,
            detach_statistics=options.detach_statistics,
        )
        if options.running_centroid and self.training:
            before = centroid if self.centroid is None else self.centroid
            self.centroid = before.lerp(centroid.detach(), MOMENTUM)
        pairs = both.unflatten(0, forgery.shape[:2])
        own = torch.cat([real[:, :1], forgery], 1)
        return {
            "student": student,
            "real": real,
            "forgery": forgery,
            "augmented": pairs[:, :, : pairs.shape[2] // 2],
            "mixed": pairs[:, :, pairs.shape[2] // 2 :],
            "fused": self.fusion(both).unflatten(0, (images.shape[0], domains)),
            "binary_logits": self.student.head(student),
            "domain_logits": self.domain_head(fold(own)),
            "centroid": centroid,
            "hard_index": hard_index,
        }

    def _check(self, images: Tensor) -> None:
        shape = tuple(images.shape)
        if len(shape) != 5 or shape[1] != self.num_domains + 1 or shape[2] != 3:
            raise ValueError(f"images must be (G, D + 1 = {self.num_domains + 1}, 3, H, W), got {shape}")
        if not (self.real_trained or self.options.untrained_real_encoder):
            raise RuntimeError(
                "the real encoder has random weights, so its maps mean nothing: load_real_encoder(FILE) loads an "
                "ArcFace iresnet100; untrained_real_encoder=True trains all the same, as the released code does"
            )
        if shape[0] < 3 and self.options.granularity == "sample" and not self.options.running_centroid:
            warnings.warn(
                f"images hold {shape[0]} groups: with fewer than 3 there is no farthest map but by rounding; give more "
                "groups a batch, or running_centroid=True",
                stacklevel=3,
            )

    def training_losses(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The losses of what `training_forward` returned.

        d(a, b)  = 1 - cosine of a and b over the channels, at every position of the map
        real     = mean (or sum) over groups and positions of d(c[0], c[p]) for p in pull, - d(c[0], c[p]) for p in push
        binary   = cross-entropy of the student's head, real against fake
        distill  = MSE(student, c) over the real images + MSE(student, fused) over the fake ones
        domain   = cross-entropy of the domain head
        overall  = their weighted sum

        Returns:
            real, binary, distill_real, distill_fake, distill, domain and overall, scalars; without real where its
            weight is 0. overall is the one to differentiate.
        """
        options = self.options
        real, fused = outputs["real"], outputs["fused"]
        groups, images = fused.shape[0], self.num_domains + 1
        student = outputs["student"].unflatten(0, (groups, images))
        position = torch.arange(images, device=student.device).repeat(groups)
        teacher_real, teacher_fake = (
            (real[:, 0].detach(), fused.detach()) if options.detach_teacher else (real[:, 0], fused)
        )
        losses = {
            "binary": F.cross_entropy(outputs["binary_logits"], (position > 0).long()),
            "distill_real": F.mse_loss(student[:, 0], teacher_real),
            "distill_fake": F.mse_loss(student[:, 1:], teacher_fake),
            "domain": F.cross_entropy(outputs["domain_logits"], position),
        }
        losses["distill"] = losses["distill_real"] + losses["distill_fake"]
        weighted = {
            "binary": options.binary_weight,
            "distill": options.distill_weight,
            "domain": options.domain_weight,
        }
        if options.real_weight != 0:
            losses["real"] = self.real_loss(real)
            weighted["real"] = options.real_weight
        losses["overall"] = torch.stack([weight * losses[name] for name, weight in weighted.items()]).sum()
        return losses

    def real_loss(self, real: Tensor) -> Tensor:
        """Loss of the real encoder's maps (G, D + 1, C, h, w): faces of one identity together, swapped ones apart."""
        options = self.options
        signs = [float(p in options.pull) - float(p in options.push) for p in range(1, real.shape[1])]
        anchor, others = real_and_fakes(real)
        if options.real_loss == "js":
            return jensen_shannon(anchor, others, signs)
        distances = dfops.paired_cosine(anchor, others, signs)
        return distances.mean() if options.real_reduction == "mean" else distances.sum()

    def load_checkpoint(self, path: str | Path) -> None:
        """Load all weights of a training, ours (a file of the state dict) or of the released code.

        Raises:
            ValueError: a file that does not fit; the message lists what differs.
            FileNotFoundError: no such file.
        """
        state, before = dict(files.read(path)[0]), self.centroid
        kept = next((key for key in state if files.unwrapped(key).split(".")[-1] == "centroid"), None)
        centroid = None if kept is None else state.pop(kept)
        self.centroid = None  # no weight of the released code, so none of the layout
        try:
            files.load_into(self, state, path)
        except ValueError:
            self.centroid = before
            raise
        self.centroid = centroid if centroid is None else centroid.to(next(self.parameters()).device)
        self.real_trained = self.student.trained = True

    def load_real_encoder(self, path: str | Path) -> None:
        """Load a file of the real encoder alone, as ArcFace's `iresnet100`; raises as `load_checkpoint`."""
        layout = encoder_layout(self.real_encoder)
        files.load_part(self.real_encoder, layout, files.read(path)[0], path, "the real encoder")
        self.real_trained = True

    def load_backbones(self, path: str | Path) -> None:
        """Load EfficientNet-B4 into the student and all forgery encoders, each from the same weights.

        The file is ImageNet's of `efficientnet_pytorch`, or a detector of DeepfakeBench (`effnb4_best.pth`).

        Raises:
            ValueError: a file that does not fit, or other encoders.
            FileNotFoundError: no such file.
        """
        state, leaves_out = files.read(path)[0], self.student.backbone_leaves_out
        for encoder in (self.student.encoder, *self.forgery_encoders):
            if not isinstance(encoder, EfficientNetB4):
                raise ValueError(f"encoders must be EfficientNet-B4 to load {path}, got {type(encoder).__name__}")
            files.load_part(encoder.model, PACKAGE_LAYOUT, state, path, "EfficientNet-B4", leaves_out)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **options: Any) -> None:
        kept = state_dict.get(f"{prefix}centroid")  # of no shape known before the first batch
        self.centroid = None if kept is None else torch.empty_like(kept, device=next(self.parameters()).device)
        super()._load_from_state_dict(state_dict, prefix, *args, **options)

    def published_layout(self) -> Layout:
        layout = inside("", "student.", self.student.published_layout())
        layout |= inside("encoder_c.", "real_encoder.", encoder_layout(self.real_encoder))
        for i, encoder in enumerate(self.forgery_encoders):
            layout |= inside(f"encoders_f.{i}.", f"forgery_encoders.{i}.", encoder_layout(encoder))
        return layout | layers_layout("fc_weights", "fusion", (0, 2, 4)) | layers_layout("mlp", "domain_head", (2, 4))

    def published_leaves_out(self, key: str) -> bool:
        return UNUSED.search(key) is not None


def stack_maps(maps: Sequence[Tensor]) -> Tensor:
    """Maps (G, C, h, w) of each domain -> (G, D, C, h, w); channels-last where the first of them is."""
    if maps[0].is_contiguous(memory_format=torch.channels_last) and not maps[0].is_contiguous():
        return torch.stack([x.permute(0, 2, 3, 1) for x in maps], 1).permute(0, 1, 4, 2, 3)
    return torch.stack(list(maps), 1)


def real_and_fakes(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (G, D + 1, C, h, w) -> (G, C, h, w), (G, D, C, h, w), cut so that one copy joins their gradients."""
    sizes = [1, maps.shape[1] - 1]
    if maps.stride(2) != 1:
        anchor, others = maps.split(sizes, 1)
    else:  # torch joins in the order of the axes: that of the memory
        anchor, others = (part.permute(0, 1, 4, 2, 3) for part in maps.permute(0, 1, 3, 4, 2).split(sizes, 1))
    return anchor.squeeze(1), others


def jensen_shannon(anchor: Tensor, others: Tensor, signs: Sequence[float]) -> Tensor:
    """Signed sum of Jensen-Shannon divergences between the channel distributions of maps and an anchor.

    sum_k signs[k] (KL(A || P) + KL(A || Q_k)) / 2 over channels and positions, the mean over groups; P and Q_k are the
    softmax over channels of the anchor and of map k, A = (P + Q_k) / 2. As released, with the arguments of KL reversed.

    Args:
        anchor: (G, C, h, w).
        others: (G, K, C, h, w).
        signs: K numbers.

    Returns:
        Scalar.
    """
    p, q = anchor.softmax(1)[:, None], others.softmax(2)
    middle = (p + q) / 2
    logarithm = middle.log()
    divergences = (middle * (2 * logarithm - p.log() - q.log())).sum((0, 2, 3, 4)) / 2
    return cast(Tensor, sum(sign * value for sign, value in zip(signs, divergences, strict=True))) / anchor.shape[0]
