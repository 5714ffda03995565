"""FaceForensics++ as groups of a real face and its forgeries, and as single frames of videos.

`make_groups` turns rows of an index into groups, and `VideoFrames` reads them frame by frame.
"""

from __future__ import annotations

import re
import warnings
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dfmodels.data.index import REAL, Video, named
from dfmodels.data.layouts import METHODS
from dfmodels.detector import InputContract
from dfmodels.video.frame import VideoError
from dfmodels.video.images import natural_key, read_image

# ---------------------------------------------------------------------- groups

Group = tuple[Video, ...]


@dataclass(frozen=True)
class Moments:
    """A video of a group with those of its frames that all of its group have, in one order."""

    video: Video
    frames: tuple[Path, ...]

    @property
    def id(self) -> str:
        return self.video.id

    @property
    def key(self) -> str:
        return self.video.key


PairedGroup = tuple[Moments, ...]


def make_groups(videos: Iterable[Video], methods: Sequence[str] = METHODS) -> list[Group]:
    """Groups (real a, the fakes a_b by all methods), one for each id a_b, in the order of the videos.

    Groups of which a video is missing or has no frames are left out with one warning, and so are real videos without
    any fake.

    Args:
        videos: of one data set, in any order.
        methods: manipulations at the positions 1, 2, ... of a group.

    Raises:
        ValueError: no complete group.
    """
    videos = list(videos)
    known = {(video.method, video.id): video for video in videos if video.frames}
    fakes = dict.fromkeys(video.id for video in videos if video.method in methods)
    targets = {fake.split("_")[0] for fake in fakes}
    groups = []
    incomplete = [f"{video.id} (no fakes)" for video in videos if video.method == REAL and video.id not in targets]
    for fake in fakes:
        wanted = ((REAL, fake.split("_")[0]), *((method, fake) for method in methods))
        missing = [f"{method} {name}" for method, name in wanted if (method, name) not in known]
        if missing:
            incomplete.append(f"{fake} (no {', '.join(missing)})")
        else:
            groups.append(tuple(known[key] for key in wanted))
    if not groups:
        raise ValueError(
            f"videos must hold a real video and its fakes by {', '.join(methods)}, got no complete group"
            + (f": {named(incomplete)}" if incomplete else "")
        )
    if incomplete:
        warnings.warn(f"{len(incomplete)} groups are left out: {named(incomplete)}", stacklevel=2)
    return groups


def pair_frames(group: Sequence[Video]) -> PairedGroup | None:
    """The videos of a group with the frames that all of them have, in natural order; None where no name tells them.

    Frames are the same where the one number in which the names of a video differ is the same ("071_003.png" and
    "071_054_3.jpg"), or else where their names without suffix are.
    """
    for key in (_by_number, _by_name):
        keyed = [key(video.frames) for video in group]
        shared = set.intersection(*(set(files) for files in keyed))
        if shared:
            order = sorted(shared, key=natural_key)
            return tuple(
                Moments(video, tuple(files[name] for name in order)) for video, files in zip(group, keyed, strict=True)
            )
    return None


def _by_number(frames: Sequence[Path]) -> dict[str, Path]:
    """Files by the one number in which their names differ; none where there is no such number."""
    rows = [re.split(r"([0-9]+)", file.stem) for file in frames]
    if len({len(row) for row in rows}) > 1:
        return {}
    columns = list(zip(*rows, strict=True))
    texts, numbers = columns[::2], [[str(int(number)) for number in column] for column in columns[1::2]]
    differing = [column for column in numbers if len(set(column)) > 1] or numbers[-1:]
    if len(differing) != 1 or any(len(set(column)) > 1 for column in texts):
        return {}
    found = dict(zip(differing[0], frames, strict=True))
    return found if len(found) == len(frames) else {}


def _by_name(frames: Sequence[Path]) -> dict[str, Path]:
    return {file.stem: file for file in frames}


class ForgeryGroups(Dataset[tuple[Tensor, Tensor]]):
    """Groups of D + 1 images of one pair: the real face at position 0 and its forgeries at 1, ..., D.

    Item i shows group i: images (D + 1, 3, H, W) and labels (D + 1,), int64, which repeat the positions. One frame is
    drawn for all of its videos, of those that all of them have (`pair_frames`). The others are left out with one
    warning; so is a frame of which an image proves damaged, and another one is drawn. These draws and those of
    `transform` follow from `seed`, the epoch and i alone, so the number of workers, the order of the items and a
    restart do not change them. Call `set_epoch` before every epoch.

    Attributes:
        groups: with the frames that are paired: those at one index show one moment.

    Args:
        groups: as `make_groups` gives them. Where frames have no numbers, and no names in common, they are paired by
            their positions, with a warning; a group of which the numbers have nothing in common is left out, with one.
        contract: gives H, W and the normalisation.
        transform: of the resized images of a group (D + 1, 3, H, W), uint8; draws from torch's own generator.
        normalize: whether images are float32 as the contract says; otherwise they stay uint8.
        seed: of all draws.

    Raises:
        ValueError: no group, none with a frame in common, groups of different lengths, or a video without frames.
        VideoError: by an item of which no frame can be read.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        contract: InputContract,
        *,
        transform: Callable[[Tensor], Tensor] | None = None,
        normalize: bool = True,
        seed: int = 0,
    ) -> None:
        lengths = sorted({len(group) for group in groups})
        if len(lengths) != 1:
            raise ValueError(f"groups must be one or more of equal length, got lengths {lengths}")
        empty = [video.key for group in groups for video in group if not video.frames]
        if empty:
            raise ValueError(f"groups must hold videos with frames, got none of {named(empty)}")
        self.groups = _paired(groups)
        self.contract, self.transform, self.normalize = contract, transform, normalize
        self.seed = seed
        # Shared memory, so that workers that outlive an epoch see the next one, and one of them reports for all.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._ends = list(accumulate(len(group[0].frames) for group in self.groups))
        self._reported = torch.zeros(self._ends[-1], dtype=torch.bool).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Choose the draws of an epoch."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        group = self.groups[index]
        draws = np.random.SeedSequence([self.seed, int(self._epoch), index % len(self)]).generate_state(1, np.uint64)
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would seed the GPUs of the process too.
            torch.default_generator.manual_seed(int(draws[0]))
            images = self._draw(index % len(self))
            if self.transform is not None:
                images = self.transform(images)
        return _finish(images, self.contract, self.normalize), torch.arange(len(group))

    def _draw(self, index: int) -> Tensor:
        """The images (D + 1, 3, H, W) of a frame that is whole in all videos of a group."""
        group = self.groups[index]
        left = list(range(len(group[0].frames)))
        while True:
            frame = left.pop(int(torch.randint(len(left), ())))
            try:
                return torch.stack([_load(video.frames[frame], self.contract) for video in group])
            except VideoError as error:
                if not left:
                    raise
                known = self._reported[self._ends[index] - len(group[0].frames) + frame]
                if not known:
                    known.fill_(True)
                    warnings.warn(f"a frame of {group[0].key} and its fakes is left out: {error}", stacklevel=3)


def _paired(groups: Sequence[Group]) -> list[PairedGroup]:
    """Groups with paired frames, and one warning each of what is left out and of what is paired by position.

    Numbers that differ tell that the moments do; by position they would be paired all the same.
    """
    result, unnamed, short, apart = [], [], [], []
    for group in groups:
        paired = pair_frames(group)
        if paired is None:
            if all(len(video.frames) > 1 and _by_number(video.frames) for video in group):
                apart.append(f"{group[0].key} and its fakes")
                continue
            unnamed.append(f"{group[0].key} and its fakes")
            count = min(len(video.frames) for video in group)
            paired = tuple(Moments(video, video.frames[:count]) for video in group)
        lost = max(len(video.frames) for video in group) - len(paired[0].frames)
        if lost:
            short.append(f"{group[0].key} and its fakes ({lost})")
        result.append(paired)
    if not result:
        raise ValueError(f"groups must hold a frame that all their videos have, got none: {named(apart)}")
    if apart:
        warnings.warn(
            f"{len(apart)} groups are left out, by the numbers of their frames no moment is in all of their videos: "
            f"{named(apart)}",
            stacklevel=3,
        )
    if unnamed:
        warnings.warn(
            f"frames of {len(unnamed)} groups have no names in common and are paired by their positions, which a "
            f"missing frame would shift: {named(unnamed)}",
            stacklevel=3,
        )
    if short:
        warnings.warn(f"frames that a video of their group lacks are left out: {named(short)}", stacklevel=3)
    return result


def collate_groups(items: Sequence[tuple[Tensor, int]], num_images: int = len(METHODS) + 1) -> tuple[Tensor, Tensor]:
    """Groups out of the items of a data set of single images, whose sampler visits the images of a group in a row.

    Every group is sorted by label. Groups whose labels are not 0, ..., D are left out with a warning.

    Args:
        items: B pairs of an image (3, H, W) and a label.
        num_images: D + 1; `functools.partial` sets it for a DataLoader.

    Returns:
        Images (G, D + 1, 3, H, W) and labels (G, D + 1), G at most B / (D + 1).

    Raises:
        ValueError: B is no multiple of D + 1, or no group is complete.
    """
    if len(items) % num_images:
        raise ValueError(f"items must be a multiple of {num_images}, the images of a group, got {len(items)}")
    images = torch.stack([image for image, _ in items])
    labels = torch.tensor([int(label) for _, label in items]).reshape(-1, num_images)
    labels, order = labels.sort(dim=1)
    complete = (labels == torch.arange(num_images)).all(1)
    if not complete.any():
        raise ValueError(f"labels of a group must be 0 to {num_images - 1}, got {labels.tolist()}")
    if not complete.all():
        warnings.warn(
            f"{int((~complete).sum())} of {len(labels)} groups are left out: labels must be 0 to {num_images - 1}, "
            f"got {labels[~complete].tolist()}",
            stacklevel=2,
        )
    place = order + num_images * torch.arange(len(order))[:, None]
    return images[place[complete]], labels[complete]


# ---------------------------------------------------------------------- single frames


class VideoFrames(Dataset[tuple[Tensor, int, str]]):
    """All frames of videos, one by one: image (3, H, W), label (0 real, 1 fake), and the key of its video.

    Videos without frames are left out with one warning. A damaged image is a VideoError; a DataLoader of batches leaves
    it out of its batch, with a warning.

    Args:
        videos: as `folder_videos` and `deepfakebench_videos` give them.
        contract: gives H, W and the normalisation.
        normalize: whether images are float32 as the contract says; otherwise they stay uint8.

    Raises:
        ValueError: no video with frames, or a video that occurs twice.
    """

    def __init__(self, videos: Iterable[Video], contract: InputContract, *, normalize: bool = True) -> None:
        videos = list(videos)
        self.videos = [video for video in videos if video.frames]
        self.contract, self.normalize = contract, normalize
        twice = [key for key, count in Counter(video.key for video in videos).items() if count > 1]
        if twice:
            raise ValueError(f"videos must differ in their paths, got twice: {named(twice)}")
        empty = [video.key for video in videos if not video.frames]
        if not self.videos:
            raise ValueError("videos must hold one with frames, got none" + (f": {named(empty)}" if empty else ""))
        if empty:
            warnings.warn(f"{len(empty)} videos without frames are left out: {named(empty)}", stacklevel=2)
        self._ends = list(accumulate(len(video.frames) for video in self.videos))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> tuple[Tensor, int, str]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index must lie in [{-len(self)}, {len(self)}), got {index}")
        index %= len(self)
        place = bisect_right(self._ends, index)
        video = self.videos[place]
        image = _load(video.frames[index - self._ends[place]], self.contract)  # counted from the end of the video
        return _finish(image, self.contract, self.normalize), video.label, video.key

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int, str]]:
        """The frames of a batch that can be read; VideoError where none can."""
        items: list[tuple[Tensor, int, str]] = []
        damaged: list[VideoError] = []
        for index in indices:
            try:
                items.append(self[index])
            except VideoError as error:
                damaged.append(error)
        if damaged and not items:
            raise damaged[0]
        for reason in damaged:
            warnings.warn(f"a frame is left out: {reason}", stacklevel=2)
        return items


# ---------------------------------------------------------------------- images


def _load(path: Path, contract: InputContract) -> Tensor:
    """An image in the size of the contract (3, H, W), uint8 RGB."""
    image = read_image(path)
    import cv2  # read_image says what is missing without it

    height, width = contract.size
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def _finish(images: Tensor, contract: InputContract, normalize: bool) -> Tensor:
    return contract.normalize(images.movedim(-3, -1)).contiguous() if normalize else images
