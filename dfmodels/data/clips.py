"""Clips of videos as samples, drawn to train on or fixed to judge by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dfmodels.data.crops import Crops, CropSource
from dfmodels.data.index import Video
from dfmodels.data.plan import FramePlan, smooths
from dfmodels.data.samples import Sample, Samples
from dfmodels.detector import InputContract
from dfmodels.options import check_choice, check_count
from dfmodels.video.faces import check_margin
from dfmodels.video.frame import VideoError
from dfmodels.video.sampling import SPAN, train_frames

__all__ = ["DRAWS", "MOMENTS", "ClipSamples", "draw_plan", "line_of"]

BENCH_FRAMES = 32  # that DeepfakeBench keeps of a video
BENCH_CLIPS = 4
MOMENTS = "moments"
MOMENTS_EVERY = 10  # frames of a film from one moment to the next


@dataclass(frozen=True)
class _Wanted:
    """Clip `part` of `parts` of a video, of `length` frames."""

    part: int
    parts: int
    length: int
    count: int | None


def _segments(crops: Crops, wanted: _Wanted, draws: np.random.Generator) -> list[int]:
    """STIL's: a random frame of each segment of candidates, among the frames that show the face."""
    span = wanted.count or SPAN
    return [crops.numbers[i] for i in train_frames(len(crops.numbers), wanted.length, draws=draws, span=span)]


def _consecutive(crops: Crops, wanted: _Wanted, draws: np.random.Generator) -> list[int]:
    """DDL's: one of the clips that judging takes, of the part-th part of them."""
    return list(crops.clips[_in_part(len(crops.clips), wanted, draws)])


def _bench(crops: Crops, wanted: _Wanted, draws: np.random.Generator) -> list[int]:
    """DeepfakeBench's: a run that begins at random in the part-th part of the first frames."""
    last = crops.clips[-1][0]
    step = last // (wanted.parts - 1) if wanted.parts > 1 else last + 1
    begin = wanted.part * step
    inside = [clip for clip in crops.clips if begin <= clip[0] < begin + step] or crops.clips
    return list(inside[int(draws.integers(len(inside)))])


def _frame(crops: Crops, wanted: _Wanted, draws: np.random.Generator) -> list[int]:
    """A frame of the part-th part; each once where there are as many parts as frames."""
    return [crops.numbers[_in_part(len(crops.numbers), wanted, draws)]] * wanted.length


def _in_part(total: int, wanted: _Wanted, draws: np.random.Generator) -> int:
    """A number of the part-th of `parts` equal parts of 0, ..., total - 1; some are alike where there are fewer."""
    begin = wanted.part * total // wanted.parts
    end = max((wanted.part + 1) * total // wanted.parts, begin + 1)
    return int(draws.integers(begin, end))


DRAWS: dict[str, Callable[[Crops, _Wanted, np.random.Generator], list[int]]] = {
    "segments": _segments,
    "consecutive": _consecutive,
    "bench": _bench,
    "frame": _frame,
}


def draw_plan(
    draw: str | None, contract: InputContract, frames_per_video: int | None = None, *, images: bool = False
) -> FramePlan:
    """The frames of a video that a training may draw from, and that it therefore looks at.

    Args:
        draw: one of DRAWS; MOMENTS, frames that are at one moment in the videos of a group, as of `ForgeryGroups`; or
            None for the clips that judging takes.
        contract: frames of a clip.
        frames_per_video: at most so many frames; None or 0 is 150 with "segments", 32 with "bench", and with the others
            as many as judging takes. To be left out with MOMENTS: every tenth frame of a film however long.
        images: whether the video is a folder of images, of which MOMENTS takes all.

    Raises:
        ValueError: another draw or number, or "segments" for a contract of neighbouring frames.
    """
    if draw is None:
        return FramePlan.of(contract)
    if draw == MOMENTS:
        if frames_per_video:
            raise ValueError(f"frames_per_video must be left out with {MOMENTS!r}, got {frames_per_video}")
        return FramePlan("every", 1, 1 if images else MOMENTS_EVERY)
    check_choice("draw", draw, DRAWS)
    length, frames = contract.num_frames, frames_per_video or 0
    check_count("frames_per_video", frames, least=0)
    if draw == "segments":
        if smooths(contract):
            raise ValueError(
                "draw must be 'consecutive' or 'bench' for a detector whose clips are of neighbouring frames, got "
                "'segments', which takes frames far apart"
            )
        return FramePlan("candidates", 1, frames or SPAN)
    if draw == "bench":
        return FramePlan("windows", length, frames or BENCH_FRAMES)
    if draw == "frame":
        return FramePlan("even", 1, frames or length * contract.num_clips)
    return FramePlan("consecutive", length, max(1, frames // length) if frames else contract.num_clips)


class ClipSamples(Samples):
    """Clips of videos: `images` (T, 3, H, W) float32 as the contract says, `label`, and the `video`'s key.

    To train (`draw`) a video has `clips_per_video` samples in a row, whose frames, margin and transform are drawn anew
    every epoch. Clip i of k is drawn from the i-th of k parts of the video, but for "segments":

    - "segments": one random frame of each of T segments of 150 candidates (`train_frames`), STIL's;
    - "consecutive": T neighbouring frames, one of the clips that judging takes;
    - "bench": T neighbouring frames of the first 32, beginning at random, DeepfakeBench's with 4 clips a video;
    - "frame": one frame out of evenly spaced ones.

    In place of a video that cannot be read the next one of its label is shown; `failed` then says why, for each video
    passed over a line, and is empty otherwise.

    To judge (`draw` None) a video has the contract's `num_clips` samples, in order of time, the very clips that scoring
    judges, still ones too. Where it has fewer, the rest are zero with `counts` False, and so are all of a video that
    cannot be read, with the reason in `failed`; `counts` is True of every other sample.

    Args:
        videos: rows of an index, at least one.
        contract: frames, size and normalisation.
        source: where crops come from.
        draw: as said above.
        clips_per_video: samples of a video; to judge the contract says how many.
        frames_per_video: frames that may be drawn, as for `draw_plan`.
        margins: least and greatest margin, drawn uniformly for every clip; None is the contract's.
        transform: of the uint8 crops of a clip (T, 3, H, W), to the same; draws from torch's own generator.
        seed: of all draws.

    Raises:
        ValueError: no video, or another argument.
        VideoError: by a sample to train on, where no video of its label can be read.
    """

    def __init__(
        self,
        videos: Iterable[Video],
        contract: InputContract,
        source: CropSource,
        *,
        draw: str | None = None,
        clips_per_video: int = 1,
        frames_per_video: int | None = None,
        margins: tuple[float, float] | None = None,
        transform: Callable[[Tensor], Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        self.videos = list(videos)
        if not self.videos:
            raise ValueError("videos must hold at least one, got none")
        check_count("clips_per_video", clips_per_video)
        if margins is not None:
            for margin in margins:
                check_margin(margin, "margins")
        self.contract, self.source, self.draw = contract, source, draw
        self.plan = draw_plan(draw, contract, frames_per_video)
        self.clips_per_video = contract.num_clips if draw is None else clips_per_video
        self.frames_per_video, self.margins, self.transform = frames_per_video, margins, transform
        self._of_label: dict[int, list[int]] = {}
        for place, video in enumerate(self.videos):
            self._of_label.setdefault(video.label, []).append(place)

    def __len__(self) -> int:
        return len(self.videos) * self.clips_per_video

    def sample(self, index: int, draws: np.random.Generator) -> Sample:
        place, part = divmod(index, self.clips_per_video)
        return self._judged(self.videos[place], part) if self.draw is None else self._drawn(place, part, draws)

    def _judged(self, video: Video, part: int) -> Sample:
        height, width = self.contract.size
        crops, failed = np.zeros((self.contract.num_frames, height, width, 3), np.uint8), ""
        counts = False
        try:
            opened = self.source.open(video, self.contract, self.plan)
            if part < len(opened.clips):
                crops, counts = opened.read(opened.clips[part]), True
        except VideoError as error:
            failed = line_of(video, error)
        return {**self._finished(video, torch.from_numpy(crops).movedim(-1, 1)), "failed": failed, "counts": counts}

    def _drawn(self, place: int, part: int, draws: np.random.Generator) -> Sample:
        assert self.draw is not None
        wanted = _Wanted(part, self.clips_per_video, self.contract.num_frames, self.frames_per_video)
        failed: list[str] = []
        for video in self._in_turn(place):
            try:
                crops = self.source.open(video, self.contract, self.plan)
                numbers = DRAWS[self.draw](crops, wanted, draws)
                margin = None if self.margins is None else float(draws.uniform(*self.margins))
                images = torch.from_numpy(crops.read(numbers, margin)).movedim(-1, 1).contiguous()
            except VideoError as error:
                failed.append(line_of(video, error))
                continue
            if self.transform is not None:
                images = self.transform(images)
            return {**self._finished(video, images), "failed": "\n".join(failed), "counts": True}
        raise VideoError(
            f"none of the {len(failed)} videos of label {self.videos[place].label} can be read; "
            f"the last one: {failed[-1]}"
        )

    def _in_turn(self, place: int) -> Iterator[Video]:
        """A video, then the others of its label behind it, then those before it."""
        places = self._of_label[self.videos[place].label]
        at = places.index(place)
        yield from (self.videos[i] for i in (*places[at:], *places[:at]))

    def _finished(self, video: Video, images: Tensor) -> Sample:
        return {
            "images": self.contract.normalize(images.movedim(-3, -1)).contiguous(),
            "label": video.label,
            "video": video.key,
        }


def line_of(video: Video, error: VideoError) -> str:
    """The reason on one line that begins with the key of the video, as samples have it in `failed`."""
    text = " ".join(str(error).split())
    return text if text.startswith(f"{video.key}: ") else f"{video.key}: {text}"
