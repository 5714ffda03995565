"""Image augmentation of LSDA's training and of DeepfakeBench's, on top of torchvision's transforms.

Transforms take uint8 RGB images (..., 3, H, W) and give the same shape and type; one call makes one draw for all images
it is given, from torch's own generator. Where torchvision has an operation of the same formula it serves unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from dfmodels.optional import require
from dfmodels.options import check_number, check_option


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


class Rotate(v2.Transform):
    """Turn about the centre, bilinear; beyond the border the picture is reflected without repeating the edge.

    torchvision's own rotation fills the corners with one colour.

    Args:
        degrees: greatest angle, drawn uniformly in +- degrees; counter-clockwise where it is positive.
    """

    def __init__(self, degrees: float = 10.0) -> None:
        super().__init__()
        self.degrees = degrees

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"angle": _uniform(-self.degrees, self.degrees)}

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        height, width = inpt.shape[-2:]
        angle = math.radians(params["angle"])
        across, down = (torch.arange(n, device=inpt.device) - (n - 1) / 2 for n in (width, height))
        y, x = torch.meshgrid(down, across, indexing="ij")
        # where a pixel comes from; with align_corners -1 and 1 are the centres of the outermost pixels
        source_x = (math.cos(angle) * x - math.sin(angle) * y) / max((width - 1) / 2, 0.5)
        source_y = (math.sin(angle) * x + math.cos(angle) * y) / max((height - 1) / 2, 0.5)
        images = inpt.reshape(-1, 3, height, width).float()
        grid = torch.stack((source_x, source_y), -1).expand(len(images), -1, -1, -1)
        turned = F.grid_sample(images, grid, "bilinear", "reflection", align_corners=True)
        return turned.round().clamp(0, 255).to(torch.uint8).reshape(inpt.shape)


class GaussianBlur(v2.Transform):
    """Blur by the kernel of a side of 3, 5 or 7, each as likely; the border is reflected without repeating the edge.

    The kernels are those of OpenCV without a sigma; torchvision's follow from one. Images are on the CPU.
    """

    SIDES = (3, 5, 7)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"side": self.SIDES[int(torch.randint(len(self.SIDES), ()))]}

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        cv2, side = require("cv2", "augmentation"), (params["side"],) * 2
        planes = inpt.reshape(-1, *inpt.shape[-2:]).numpy()
        return torch.from_numpy(np.stack([cv2.GaussianBlur(plane, side, 0) for plane in planes])).reshape(inpt.shape)


class PCAColour(v2.Transform):
    """out = floor(clip(v + 255 sum_i a_i l_i e_i, 0, 255)), a_i normal with standard deviation sigma.

    l_i and e_i are the eigenvalues and eigenvectors of the covariance of the colours (in 0..1) of all images of a call.

    Args:
        sigma: standard deviation of a_i.

    Source: section 4.1 of AlexNet (Krizhevsky et al., 2012).
    """

    def __init__(self, sigma: float = 0.1) -> None:
        super().__init__()
        self.sigma = sigma

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"a": (self.sigma * torch.randn(3)).tolist()}

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        colours = inpt.movedim(-3, 0).flatten(1).double() / 255
        values, vectors = torch.linalg.eigh(colours.cov(correction=0))
        # an eigenvector has two signs, of which another library would take the other
        vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
        shift = 255 * (vectors * values * torch.tensor(params["a"], dtype=torch.float64, device=inpt.device)).sum(1)
        return (inpt + shift[:, None, None]).clamp(0, 255).to(torch.uint8)


class HueSaturation(v2.Transform):
    """Shift hue, saturation and value, each by a uniform draw; greys keep their saturation, since they have no hue.

    torchvision's own saturation multiplies, this one adds.

    Args:
        hue: greatest shift of the hue in degrees.
        saturation, value: greatest shifts, of 255.
    """

    def __init__(self, hue: float = 40.0, saturation: float = 30.0, value: float = 20.0) -> None:
        super().__init__()
        self.hue, self.saturation, self.value = hue, saturation, value

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {name: _uniform(-getattr(self, name), getattr(self, name)) for name in ("hue", "saturation", "value")}

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        images = v2.functional.adjust_hue(inpt.float() / 255, params["hue"] / 360)
        brightest, darkest = images.amax(-3, keepdim=True), images.amin(-3, keepdim=True)
        chroma = brightest - darkest
        saturation = chroma / brightest.clamp(min=1e-12)
        value = (brightest + params["value"] / 255).clamp(0, 1)
        shifted = (saturation + params["saturation"] / 255).clamp(0, 1)
        # of a colour of full saturation: 0 in its brightest channel, 1 in its darkest
        below = torch.where(chroma > 0, (brightest - images) / chroma.clamp(min=1e-12), 0)
        return (255 * value * (1 - shifted * below)).round().clamp(0, 255).to(torch.uint8)


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
        images = _checked(images)
        if self.shared or images.dim() == 3:
            return self.steps(images)
        return torch.stack([self.steps(image) for image in images])


def _checked(images: Tensor) -> Tensor:
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8, got {images.dtype}")
    if images.dim() not in (3, 4) or images.shape[-3] != 3 or min(images.shape[-2:]) < 4 or len(images) == 0:
        raise ValueError(
            f"images must be (3, H, W) or (N, 3, H, W), N at least 1, H and W at least 4, got {tuple(images.shape)}"
        )
    return images.contiguous()


class BenchAugmentation(nn.Module):
    """DeepfakeBench's augmentation of face crops: five steps in order, each with the same probability.

    1. Horizontal flip; 2. `Rotate`; 3. `GaussianBlur`; 4. one of `colours`, each as likely; 5. JPEG of a quality from
    40 to 100. All images of a call, as the frames of a clip, get the same draws.

    Args:
        probability: of each step.
        rotation: greatest angle in degrees; 0 for no rotation.
        colours: transforms of uint8 images.

    Source: the training scripts' configuration as arXiv:2307.01426 publishes it.
    """

    def __init__(
        self,
        probability: float = 0.5,
        *,
        rotation: float = 10.0,
        colours: Sequence[v2.Transform] = (BrightnessContrast(),),
    ) -> None:
        super().__init__()
        check_number("probability", probability, lambda p: 0 <= p <= 1, "in [0, 1]")
        check_number("rotation", rotation, lambda degrees: 0 <= degrees <= 180, "from 0 to 180")
        check_option("colours", colours, len(colours) > 0, "at least one transform")
        steps: list[v2.Transform] = [v2.RandomHorizontalFlip(1.0)]
        steps += [Rotate(rotation)] if rotation else []
        steps += [GaussianBlur(), v2.RandomChoice(colours), v2.JPEG((40, 100))]
        self.steps = v2.Compose([v2.RandomApply([step], probability) for step in steps])

    def forward(self, images: Tensor) -> Tensor:
        """Augmented images; arguments, result and errors are those of `GroupAugmentation`."""
        return self.steps(_checked(images))


def frame_augmentation(rotation: float = 10.0) -> BenchAugmentation:
    """That of the frame classifiers; the one of Xception turns nothing, `rotation` 0."""
    return BenchAugmentation(rotation=rotation)


def stil_bench_augmentation() -> BenchAugmentation:
    """That of DeepfakeBench's STIL: the colours change in one of three ways."""
    return BenchAugmentation(colours=(BrightnessContrast(), PCAColour(), HueSaturation()))
