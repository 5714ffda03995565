"""A detector of single frames for the tests: bright is fake, so a video of rising grey tells which frames it saw."""

import torch

from dfmodels.detector import Detector, InputContract


class FrameLevel(Detector):
    """One convolution to a map of each class and the mean over it; fake grows with brightness above 0.3."""

    def __init__(self, num_clips=32, scale=20.0):
        super().__init__()
        self.name, self.config = "frame_level", {"num_clips": num_clips}
        self.contract = InputContract(num_frames=1, size=(8, 8), sampling="even", num_clips=num_clips)
        self.trained = True
        self.classes = torch.nn.Conv2d(3, 2, 4, 4)
        self.batches = []  # clips of every call
        with torch.no_grad():
            self.classes.weight.copy_(torch.tensor([0, scale / 48])[:, None, None, None].expand_as(self.classes.weight))
            self.classes.bias.copy_(torch.tensor([0, -0.3 * scale]))

    def published_layout(self):
        return {}

    def maps(self, clip):
        self.check_clip(clip)
        return self.classes(clip.flatten(0, 1)).unflatten(0, clip.shape[:2])

    def forward(self, clip):
        self.batches.append(len(clip))
        return self.maps(clip).mean((1, 3, 4))

    def attention_maps(self, clip):
        with torch.no_grad():
            real, fake = self.maps(clip).unbind(2)
        return {"CAM": [fake - real]}
