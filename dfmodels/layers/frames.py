"""What detectors that judge every frame alone have in common."""

from abc import abstractmethod

import torch
from torch import Tensor

from dfmodels.detector import Detector, InputContract, evaluating
from dfmodels.layers.clips import fold, mean_logits


class FrameDetector(Detector):
    """Frames to logits: every frame is judged alone, and the fake probability of a clip is the mean of its frames'.

    Its two halves are called as those of timm's networks are.

    Args:
        name: registered one.
        contract: for its input.
        num_features: channels C of the maps.
        smallest: side of the smallest frames that it takes.
    """

    def __init__(self, name: str, contract: InputContract, num_features: int, smallest: int = 1):
        super().__init__()
        self.name = name
        self.contract = contract
        self.num_features = num_features
        self.smallest = smallest

    @abstractmethod
    def forward_features(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) to maps (N, C, h, w), or to what else the head takes."""

    @abstractmethod
    def forward_head(self, features: Tensor) -> Tensor:
        """What `forward_features` gives to logits (N, 2); takes maps of any height and width."""

    def forward(self, clip: Tensor) -> Tensor:
        """Logits of clips.

        Args:
            clip: (B, T, 3, H, W), normalised as `contract` says, any T from 1 on.

        Returns:
            (B, 2), whose softmax is the mean of the frames' probabilities; those of the frame where T = 1 or all frames
            are alike.

        Raises:
            ValueError, TypeError: another shape, or no floating-point tensor.
        """
        self.check_clip(clip)
        if clip.shape[1] < 1:
            raise ValueError(f"clip must have at least one frame, got shape {tuple(clip.shape)}")
        if min(clip.shape[3:]) < self.smallest:
            raise ValueError(
                f"clip must have at least {self.smallest} rows and columns with the encoder "
                f"{self.config['encoder']!r}, got shape {tuple(clip.shape)}"
            )
        logits = self.forward_head(self.forward_features(fold(clip)))
        return mean_logits(logits.unflatten(0, clip.shape[:2]))

    def attention_maps(self, clip: Tensor) -> dict[str, list[Tensor]]:
        """Where the evidence for fake lies, in evaluation mode and without gradients.

        CAM[h, w] = max(0, sum_c w[c] f[c, h, w]),  w[c] = sum_hw gradient of (fake logit - real logit) for f[c, h, w]

        Args:
            clip: (B, T, 3, H, W), normalised as `contract` says.

        Returns:
            "CAM": one map (B, T, h, w), at least 0; nothing of an encoder whose features are no maps (N, C, h, w).
        """
        self.check_clip(clip)
        detector = evaluating(self)
        with torch.no_grad():
            features = detector.forward_features(fold(self.matching(clip)))
        if not isinstance(features, Tensor) or features.dim() != 4 or features.shape[1] != self.num_features:
            return {}
        with torch.inference_mode(False), torch.enable_grad():
            features = features.clone().requires_grad_()
            real, fake = detector.forward_head(features).unbind(1)
            (gradients,) = torch.autograd.grad((fake - real).sum(), features)
        maps = (features.detach() * gradients.sum((2, 3), keepdim=True)).sum(1).relu()
        return {"CAM": [maps.unflatten(0, clip.shape[:2])]}
