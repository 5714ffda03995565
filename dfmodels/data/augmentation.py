"""Image augmentation of LSDA's training, on top of torchvision's transforms.

Transforms take uint8 RGB images (..., 3, H, W) and give the same shape and type; one call makes one draw for all images
it is given, from torch's own generator. Where torchvision has an operation of the same formula it serves unchanged.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2


def _uniform(low: float, high: float) -> float:
    return float(torch.empty(()).uniform_(low, high))


class BrightnessContrast(v2.Transform):
    """out = floor(clip(a v + 255 b, 0, 255)), a uniform in 1 +- contrast, b in +- brightness.

    torchvision's own contrast scales around the mean of the picture, this one around black.

    Args:
        brightness: greatest |b|.
        contrast: greatest |a - 1|.
    """

    def __init__(self, brightness: float = 0.1, contrast: float = 0.1) -> None:
        super().__init__()
        self.brightness, self.contrast = brightness, contrast

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {
            "a": _uniform(1 - self.contrast, 1 + self.contrast),
            "b": _uniform(-self.brightness, self.brightness),
        }

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        return (params["a"] * inpt.float() + 255 * params["b"]).clamp(0, 255).to(torch.uint8)


class Downscale(v2.Transform):
    """Nearest resize to (floor(H / r), floor(W / r)) and bilinear back, r one of `factors`.

    Pixel i of the small picture is pixel floor(i W / floor(W / r)) of the large one.

    Args:
        factors: choices of r, each as likely.
    """

    def __init__(self, factors: tuple[int, ...] = (2, 4)) -> None:
        super().__init__()
        self.factors = factors

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"factor": self.factors[int(torch.randint(len(self.factors), ()))]}

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        height, width = inpt.shape[-2:]
        factor = params["factor"]
        if min(height, width) < factor:
            raise ValueError(f"images must be at least {factor} pixels high and wide, got {height} x {width}")
        images = inpt.reshape(-1, 3, height, width).float()
        small = F.interpolate(images, (height // factor, width // factor), mode="nearest")
        large = F.interpolate(small, (height, width), mode="bilinear", align_corners=False)
        return large.round().to(torch.uint8).reshape(inpt.shape)


class Sharpen(v2.Transform):
    """3 x 3 filter with 1 - a + a (8 + l) in the centre and -a around it, rounded and clipped to [0, 255].

    The border is reflected without repeating the edge. a is uniform in `alpha`, l in `lightness`.
    """

    def __init__(self, alpha: tuple[float, float] = (0.2, 0.5), lightness: tuple[float, float] = (0.5, 1.0)) -> None:
        super().__init__()
        self.alpha, self.lightness = alpha, lightness

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"a": _uniform(*self.alpha), "l": _uniform(*self.lightness)}

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        height, width = inpt.shape[-2:]
        if min(height, width) < 2:
            raise ValueError(f"images must be at least 2 pixels high and wide, got {height} x {width}")
        a, lightness = params["a"], params["l"]
        kernel = torch.full((3, 1, 3, 3), -a, device=inpt.device)
        kernel[..., 1, 1] = 1 - a + a * (8 + lightness)
        images = inpt.reshape(-1, 3, height, width).float()
        out = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), kernel, groups=3)
        return out.round().clamp(0, 255).to(torch.uint8).reshape(inpt.shape)


class GroupAugmentation(nn.Module):
    """LSDA's augmentation of face crops: five steps in order, each with the same probability.

    1. `BrightnessContrast`; 2. horizontal flip; 3. `Downscale`; 4. `Sharpen`; 5. JPEG of a quality from 40 to 100.

    Args:
        probability: of each step.
        shared: whether all images of a call get the same draws; otherwise each its own, as released.

    Source: the recipe of arXiv:2311.11278 as released; the release hands RGB to an encoder of BGR, this one does not.
    """

    def __init__(self, probability: float = 0.5, *, shared: bool = False) -> None:
        super().__init__()
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must lie in [0, 1], got {probability}")
        self.shared = shared
        steps = (BrightnessContrast(), v2.RandomHorizontalFlip(1.0), Downscale(), Sharpen(), v2.JPEG((40, 100)))
        self.steps = v2.Compose([v2.RandomApply([step], probability) for step in steps])

    def forward(self, images: Tensor) -> Tensor:
        """Augmented images.

        Args:
            images: (3, H, W) or (N, 3, H, W), uint8 RGB, on the CPU.

        Returns:
            The same shape, contiguous; the input is left unchanged.

        Raises:
            ValueError: images of another shape, none at all, or smaller than 4 x 4.
            TypeError: images of another type.
        """
        if images.dtype != torch.uint8:
            raise TypeError(f"images must be uint8, got {images.dtype}")
        if images.dim() not in (3, 4) or images.shape[-3] != 3 or min(images.shape[-2:]) < 4 or len(images) == 0:
            raise ValueError(
                f"images must be (3, H, W) or (N, 3, H, W), N at least 1, H and W at least 4, got {tuple(images.shape)}"
            )
        images = images.contiguous()
        if self.shared or images.dim() == 3:
            return self.steps(images)
        return torch.stack([self.steps(image) for image in images])
