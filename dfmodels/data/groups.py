"""Groups of a real video and its forgeries by several methods, which trainings such as LSDA's compare.

`make_groups` turns rows of an index into groups, and `ForgeryGroups` shows one moment of all videos of a group.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dfmodels.data.clips import MOMENTS, draw_plan, line_of
from dfmodels.data.crops import CropSource
from dfmodels.data.index import REAL, Video, named
from dfmodels.data.samples import Sample, Samples
from dfmodels.detector import InputContract
from dfmodels.options import check_count
from dfmodels.video.faces import check_margin
from dfmodels.video.frame import VideoError
from dfmodels.video.images import natural_key

Group = tuple[Video, ...]


@dataclass(frozen=True)
class Moments:
    """A video of a group with those of its images that all of its group have, in one order; a film has none."""

    video: Video
    frames: tuple[Path, ...] = ()

    @property
    def id(self) -> str:
        return self.video.id

    @property
    def key(self) -> str:
        return self.video.key


PairedGroup = tuple[Moments, ...]


def methods_of(videos: Iterable[Video]) -> tuple[str, ...]:
    """The manipulations that make the positions 1, 2, ... of a group: those of the forgeries, by name."""
    return tuple(sorted({video.method for video in videos if video.label}))


def make_groups(videos: Iterable[Video], methods: Sequence[str] | None = None) -> list[Group]:
    """Groups (a real video, its forgeries by all methods), one for each id of a forgery, in the order of the videos.

    A forgery belongs to the real video of its data set and compression that is its target: 071 for "071_054". Groups of
    which a video is missing or has no frames are left out with one warning, and so are real videos without any forgery.

    Args:
        videos: rows of an index, films or folders of frames, in any order.
        methods: manipulations at the positions 1, 2, ... of a group; None is those of `videos`.

    Raises:
        ValueError: no complete group.
    """
    videos = list(videos)
    methods = methods_of(videos) if methods is None else tuple(methods)
    known = {
        (video.dataset, video.compression, video.method, video.id): video
        for video in videos
        if video.frames or video.path.is_file()
    }
    fakes = {
        (video.dataset, video.compression, video.id): video.target or video.id.split("_")[0]
        for video in videos
        if video.label and video.method in methods
    }
    targets = {(dataset, compression, target) for (dataset, compression, _), target in fakes.items()}
    lonely = {
        f"{video.id} (no fakes)": None
        for video in videos
        if not video.label and (video.dataset, video.compression, video.id) not in targets
    }
    groups, incomplete = [], list(lonely)
    for (dataset, compression, fake), target in fakes.items():
        wanted = ((REAL, target), *((method, fake) for method in methods))
        missing = [f"{method} {name}" for method, name in wanted if (dataset, compression, method, name) not in known]
        if missing:
            incomplete.append(f"{fake} (no {', '.join(missing)})")
        else:
            groups.append(tuple(known[dataset, compression, method, name] for method, name in wanted))
    if not groups:
        raise ValueError(
            "videos must hold a real video and its fakes"
            + (f" by {', '.join(methods)}" if methods else "")
            + ", got no complete group"
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


class ForgeryGroups(Samples):
    """Groups of D + 1 images of one moment: the real face at position 0 and its forgeries at 1, ..., D.

    A sample holds `images` (D + 1, 3, H, W), float32 as the contract says, `label` (D + 1,), 0 real, 1 fake, and the
    key of the real video, `video`. One frame is drawn for all videos of the group, of those that all of them have: of
    films by the number of the frame, every tenth of which is looked at; of folders by the names of the images
    (`pair_frames`). Images that a video of their group lacks are left out with one warning; so is a moment of which an
    image proves damaged, and another one is drawn. In place of a group of which a video cannot be read, or whose faces
    are never seen at one moment, the next one is shown; `failed` then says why, a line for each, else it is empty.

    Attributes:
        groups: with the images that are paired: those at one index show one moment.

    Args:
        groups: as `make_groups` gives them. Where images have no numbers, and no names in common, they are paired by
            their positions, with a warning; a group of which the numbers have nothing in common is left out, with one.
        contract: size and normalisation.
        source: where crops come from; None takes images and frames for crops.
        samples_per_group: samples of a group, in a row.
        margins: least and greatest margin, drawn uniformly for every sample; None is the contract's.
        transform: of the uint8 crops of a group (D + 1, 3, H, W), to the same; draws from torch's own generator.
        seed: of all draws.

    Raises:
        ValueError: no group, none with a moment in common, groups of different lengths, or a video without frames.
        VideoError: by a sample, where no group can be read.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        contract: InputContract,
        source: CropSource | None = None,
        *,
        samples_per_group: int = 1,
        margins: tuple[float, float] | None = None,
        transform: Callable[[Tensor], Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        lengths = sorted({len(group) for group in groups})
        if len(lengths) != 1:
            raise ValueError(f"groups must be one or more of equal length, got lengths {lengths}")
        empty = [video.key for group in groups for video in group if not video.frames and not video.path.is_file()]
        if empty:
            raise ValueError(f"groups must hold videos with frames, got none of {named(empty)}")
        check_count("samples_per_group", samples_per_group)
        for margin in margins or ():
            check_margin(margin, "margins")
        self.groups = _paired(groups)
        self.contract, self.samples_per_group = contract, samples_per_group
        self.margins, self.transform = margins, transform
        self.source = CropSource("none") if source is None else source
        self._ends = list(accumulate(max(1, len(group[0].frames)) for group in self.groups))
        # shared memory, so that of the workers of a loader one speaks for all
        self._reported = torch.zeros(self._ends[-1], dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return len(self.groups) * self.samples_per_group

    def sample(self, index: int, draws: np.random.Generator) -> Sample:
        first = index // self.samples_per_group
        failed: list[str] = []
        for place in (*range(first, len(self.groups)), *range(first)):
            images = self._images(place, draws, failed)
            if images is None:
                continue
            if self.transform is not None:
                images = self.transform(images)
            group = self.groups[place]
            return {
                "images": self.contract.normalize(images.movedim(-3, -1)).contiguous(),
                "label": torch.tensor([moments.video.label for moments in group]),
                "video": group[0].key,
                "failed": "\n".join(failed),
                "counts": True,
            }
        raise VideoError(f"none of the {len(self.groups)} groups can be read; the last one: {failed[-1]}")

    def _images(self, place: int, draws: np.random.Generator, failed: list[str]) -> Tensor | None:
        """The crops (D + 1, 3, H, W) of a moment that is whole in all videos of a group; None where there is none."""
        group = self.groups[place]
        opened = []
        for moments in group:
            plan = draw_plan(MOMENTS, self.contract, images=bool(moments.frames))
            try:
                opened.append(self.source.open(moments.video, self.contract, plan))
            except VideoError as error:
                failed.append(line_of(moments.video, error))
                return None
        left = list(_shared(group, [crops.numbers for crops in opened]))
        reason = f"{group[0].key}: its face and those of its fakes are never seen at one moment"
        while left:
            moment, numbers = left.pop(int(draws.integers(len(left))))
            margin = None if self.margins is None else float(draws.uniform(*self.margins))
            crops = []
            try:
                for one, number in zip(opened, numbers, strict=True):
                    crops.append(one.read([number], margin))
            except VideoError as error:
                reason = line_of(group[len(crops)].video, error)
                known = self._reported[self._ends[place] - max(1, len(group[0].frames)) + moment]
                if not known:
                    known.fill_(True)
                    warnings.warn(f"a frame of {group[0].key} and its fakes is left out: {error}", stacklevel=4)
                continue
            return torch.from_numpy(np.concatenate(crops)).movedim(-1, 1).contiguous()
        failed.append(reason)
        return None


def _shared(group: PairedGroup, seen: Sequence[Sequence[int]]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Moments that all videos of a group show: what they are reported by, and the number of the frame in each video."""
    if not group[0].frames:
        for number in sorted(set.intersection(*map(set, seen))):
            yield 0, (number,) * len(group)
        return
    places = [{file: number for number, file in enumerate(moments.video.frames)} for moments in group]
    shown = [set(numbers) for numbers in seen]
    for moment, files in enumerate(zip(*(moments.frames for moments in group), strict=True)):
        numbers = tuple(place[file] for place, file in zip(places, files, strict=True))
        if all(number in numbers_seen for number, numbers_seen in zip(numbers, shown, strict=True)):
            yield moment, numbers


def _paired(groups: Sequence[Group]) -> list[PairedGroup]:
    """Groups with paired frames, and one warning each of what is left out and of what is paired by position.

    Numbers that differ tell that the moments do; by position they would be paired all the same.
    """
    result, unnamed, short, apart = [], [], [], []
    for group in groups:
        films = [not video.frames for video in group]
        if all(films):
            result.append(tuple(map(Moments, group)))
            continue
        if any(films):
            apart.append(f"{group[0].key} and its fakes (films and folders)")
            continue
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
