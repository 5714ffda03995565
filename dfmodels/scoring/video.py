"""From a video to a fake probability, and what it rests on."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from heapq import nlargest, nsmallest
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from dfmodels.data.cache import CachedCrops
from dfmodels.detector import AVERAGES, Detector, InputContract, fake_probability
from dfmodels.options import check_choice, check_count
from dfmodels.scoring.maps import heat_maps
from dfmodels.scoring.result import REASONS, ClipScore, Moment, PersonScore, VideoScore
from dfmodels.video import (
    Clip,
    FaceDetector,
    LeftOut,
    NoFaceError,
    Survey,
    VideoError,
    choose,
    clip_frames,
    face_detector,
    read_people,
    survey_people,
    video_info,
)
from dfmodels.video.clips import WHOLE_FRAME
from dfmodels.video.people import SELECT, survey_frames
from dfmodels.weights import unwrap
from dfops import __version__

LOG = logging.getLogger(__name__)
MOST_SUSPICIOUS = {"clip": 3, "frame": 8}  # moments kept, by what one is
BATCH_FRAMES = 8  # frames scored together unless the caller says otherwise
LEAST_COVERAGE = 0.5  # of the frames read; a face in fewer of them is worth a warning
ALL_PEOPLE = "all"


# what to do where no clip could be judged, by the reason of most
REMEDIES = {
    "no_face": "try another face detector (--faces), or `none` if the frames are face crops already",
    "gap": "--clips all takes every clip, --select all judges everyone",
    "short": "--clips all takes every clip, --select all judges everyone",
    "damaged": "copy or download the file again",
    "still": "a detector of single frames, such as lsda, judges still pictures",
}


def video_score(clip_logits: Tensor, average: str = "probabilities") -> float:
    """Fake probability of a video.

    Args:
        clip_logits: logits (N, num_classes) of its clips, N at least 1.
        average: "probabilities", the mean of the clips' fake probabilities, or "logits", the fake probability of the
            mean of their logits.

    Raises:
        ValueError: another `average`.
    """
    check_choice("average", average, AVERAGES)
    logits = clip_logits.double()
    if average == "logits":
        logits = logits.mean(0, keepdim=True)
    return float(fake_probability(logits).mean())


def clips_wanted(contract: InputContract, num_clips: int | Literal["all"] | None) -> int | None:
    """`num_clips` of `score_video` as `clip_frames` takes it: a number, or None for all."""
    if num_clips is None:
        return contract.num_clips
    return None if num_clips == "all" else num_clips


def score_video(
    model: nn.Module,
    path: str | Path,
    *,
    faces: FaceDetector | str = "auto",
    num_clips: int | Literal["all"] | None = None,
    average: str | None = None,
    batch_size: int | None = None,
    select: str = "largest",
    progress: Callable[[int, int], object] | None = None,
    keep_moments: bool = False,
) -> VideoScore:
    """Score one video; a file that cannot be scored gives a score without probability and with the reason.

    So does one that makes a face detector or OpenCV fail, or needs more memory than there is: the reason then begins
    with the type of the exception, whose traceback goes to the log (level DEBUG).

    Which frames make its clips is what the detector's contract says. The faces are followed through the whole video,
    one track a person; clips that do not show the person judged are left out. A clip that stands still is left out
    where the detector judges motion, that is where its clips have more than one frame. Probabilities are calibrated
    where the weights' file has a calibration beside it (`dfmodels.detector.Calibration`). Threads may share a detector
    and a face detector.

    Args:
        model: a trained detector, on the device that shall compute; also one inside the wrappers that `dfmodels.save`
            takes, which then computes without them.
        path: a video or a folder of images.
        faces: a detector or its specification, as for `dfmodels.video.read_clips`.
        num_clips: number of clips as for `dfmodels.video.clip_frames`, or "all"; None takes the contract's.
        average: how clips become a video, as for `video_score`; None takes the contract's rule.
        batch_size: clips computed together; None takes one, of single frames BATCH_FRAMES.
        select: who is judged: "largest", the person with most face area over the video, "central" or "confident", as
            for `dfmodels.video.read_clips`; or "all", where the person with the highest probability makes the video's.
        progress: called after each frame with the number of frames handled so far, and how many there will be.
        keep_moments: whether the score holds pictures of its most and least suspicious moments, megabytes a video.

    Raises:
        ValueError: an argument out of range.
        TypeError: no detector.
        RuntimeError: the detector is not trained.
        ImportError: a package is not installed that is needed to read videos.
    """
    check_choice("select", select, [*SELECT, ALL_PEOPLE])
    detector = face_detector(faces)
    judge = _Judge(unwrap(model), Path(path), detector.name, average, batch_size, keep_moments)
    wanted = clips_wanted(judge.model.contract, num_clips)
    if wanted is not None:
        check_count("num_clips", wanted)
    return judge.said(lambda: judge.look(detector, wanted, select, progress or (lambda done, total: None)))


def score_prepared(model: nn.Module, path: str | Path, crops: CachedCrops, *, faces: str) -> VideoScore:
    """Score the clips of a video that `dfmodels prepare` wrote, as `score_video` does.

    What only the whole film tells is not in the score: who else was seen, and whether the picture stands still.

    Args:
        model: as for `score_video`.
        path: the video.
        crops: of the frames that the detector's contract asks for.
        faces: what found them.

    Raises:
        TypeError, RuntimeError: as `score_video`.
    """
    judge = _Judge(unwrap(model), Path(path), faces, None, None, keep_moments=False)
    return judge.said(lambda: judge.look_at_prepared(crops))


def unjudged(model: Detector, path: str | Path, faces: str) -> VideoScore:
    """What is known of a video before it is read, and what finds faces in it."""
    return VideoScore(
        Path(path),
        None,
        (),
        0.0,
        unit=model.contract.unit,
        detector=model.name,
        weights=model.origin,
        version=__version__,
        faces=faces,
    )


class _Judge:
    """Gathers what is said of one video; `score` holds what is known so far."""

    def __init__(
        self,
        model: Detector,
        path: Path,
        faces: str,
        average: str | None,
        batch_size: int | None,
        keep_moments: bool,
    ) -> None:
        model.check_trained()
        contract = model.contract
        self.model = model
        self.average = contract.average if average is None else average
        check_choice("average", self.average, AVERAGES)
        self.batch_size = (BATCH_FRAMES if contract.unit == "frame" else 1) if batch_size is None else batch_size
        check_count("batch_size", self.batch_size)
        self.score = unjudged(model, path, faces)
        self.kept = MOST_SUSPICIOUS[contract.unit] if keep_moments else 0
        self.judged: list[tuple[ClipScore, Tensor]] = []  # with the logits
        self.left_out: list[LeftOut] = []
        self.most: list[tuple[ClipScore, Clip]] = []
        self.least: list[tuple[ClipScore, Clip]] = []

    def said(self, look: Callable[[], None]) -> VideoScore:
        """What is said of the video once `look` has looked at it."""
        begun = time.perf_counter()
        try:
            look()
        except VideoError as error:
            self.score = replace(self.score, error=str(error))
        except ImportError:  # of a package that every video needs
            raise
        except Exception as error:  # whatever one video brings about costs no other
            LOG.debug("%s", self.score.path, exc_info=True)
            self.score = replace(self.score, error=f"{self.score.path}: {type(error).__name__}: {error}")
        return replace(self.score, seconds=time.perf_counter() - begun)

    def look_at_prepared(self, crops: CachedCrops) -> None:
        """Judge the clips that are prepared."""
        for batch in _batches(map(crops.clip, crops.clips), self.batch_size):
            self.judge(batch)
        self.score = replace(self.score, clips=tuple(clip for clip, _ in self.judged))
        self.conclude(None, "largest", None)

    def look(
        self,
        detector: FaceDetector,
        num_clips: int | None,
        select: str,
        progress: Callable[[int, int], object],
    ) -> None:
        """Read the video and judge it."""
        path, contract = self.score.path, self.model.contract
        info = video_info(path)
        self.score = replace(self.score, num_frames=info.num_frames, duration=info.duration)
        plan = clip_frames(info.num_frames, contract.num_frames, num_clips, contract.sampling)
        of_clips = len({index for clip in plan for index in clip})
        survey, searched = None, 0
        tracks: tuple[int, ...] = (WHOLE_FRAME,)
        if not getattr(detector, "whole_frame", False):
            searched = len(survey_frames(info.num_frames, info.rate, plan))
            survey = survey_people(
                path,
                detector,
                plan,
                landmarks=contract.crop == "aligned",
                progress=lambda done: progress(done, searched + of_clips),
            )
            self.note(survey)
            people = survey.people if select == ALL_PEOPLE or not survey.people else (choose(survey, select),)
            tracks = tuple(person.track for person in people)
        reader = read_people(
            path,
            plan,
            survey,
            tracks,
            size=contract.size,
            margin=contract.margin,
            sampling=contract.sampling,
            crop=contract.crop,
            progress=lambda done: progress(searched + done, searched + of_clips),
        )
        for batch in _batches(self.judgeable(reader), self.batch_size):
            self.judge(batch)
            del batch  # or its crops would stay while the next ones are read
        progress(searched + of_clips, searched + of_clips)
        self.leave_out_still_people()
        self.score = replace(self.score, clips=tuple(clip for clip, _ in self.judged), left_out=tuple(self.left_out))
        if survey is None:
            self.note_whole_frames()
        self.conclude(survey, select, num_clips)

    def note(self, survey: Survey) -> None:
        """Everyone who was seen, none of them judged yet."""
        read = len(survey.frames)
        self.score = replace(
            self.score,
            people=tuple(
                PersonScore(
                    person.track,
                    None,
                    len(person.frames) / read,
                    float(person.times[0]),
                    float(person.times[-1]),
                    0,
                )
                for person in survey.people
            ),
            frames_read=read,
            frames_with_face=survey.with_face,
            frames_damaged=len(survey.damaged),
        )

    def judgeable(self, reader: Iterator[Clip | LeftOut]) -> Iterator[Clip]:
        """The clips of `reader` that can be judged; the others are noted."""
        for clip in reader:
            if isinstance(clip, LeftOut):
                self.left_out.append(clip)
            elif clip.still:
                self.left_out.append(LeftOut(clip.start, clip.end, "still", clip.track, clip.indices))
            else:
                yield clip
            del clip

    def judge(self, batch: list[Clip]) -> None:
        frames = torch.from_numpy(np.stack([clip.frames for clip in batch])).to(self.model.device)
        logits = self.model.predict_logits(self.model.contract.normalize(frames)).cpu().double()
        if self.score.weights.calibration is not None:
            logits = self.score.weights.calibration(logits)
        for clip, row, probability in zip(batch, logits, fake_probability(logits).tolist(), strict=True):
            score = ClipScore(clip.start, clip.end, probability, clip.track, clip.indices, clip.times)
            self.judged.append((score, row))
            if self.kept:
                self.most = nlargest(self.kept, [*self.most, (score, clip)], key=_probability)  # the earlier of equals
                self.least = nsmallest(1, [*self.least, (score, clip)], key=_probability)

    def leave_out_still_people(self) -> None:
        """Judge nothing of somebody who stands still in most clips: the others differ by what compression does."""
        moving = Counter(clip.track for clip, _ in self.judged)
        still = Counter(clip.track for clip in self.left_out if clip.reason == "still")
        out = {track for track in moving if still[track] > moving[track]}
        gone = [clip for clip, _ in self.judged if clip.track in out]
        self.left_out += [LeftOut(clip.start, clip.end, "still", clip.track, clip.frames) for clip in gone]
        self.left_out.sort(key=lambda clip: clip.start)
        self.judged = [(clip, row) for clip, row in self.judged if clip.track not in out]
        self.most, self.least = (
            [kept for kept in found if kept[0].track not in out] for found in (self.most, self.least)
        )

    def conclude(self, survey: Survey | None, select: str, num_clips: int | None) -> None:
        """Make one verdict of the clips."""
        if not self.judged:
            raise nothing_judged(self.score)
        rows: dict[int, list[Tensor]] = {}
        for clip, row in self.judged:
            rows.setdefault(clip.track, []).append(row)
        scores = {track: video_score(torch.stack(rows[track]), self.average) for track in rows}
        if not np.isfinite(list(scores.values())).all():
            self.score = replace(self.score, clips=())
            raise VideoError(f"{self.score.path}: the detector's output is not a number; are the weights damaged?")
        people = tuple(
            replace(person, probability=scores.get(person.track), clips=len(rows.get(person.track, ())))
            for person in self.score.people
        )
        # all at once: whatever fails on the way leaves no verdict beside its error
        self.score = replace(
            self.score,
            people=people,
            probability=max(scores.values()),
            warnings=tuple(self.cautions(survey, select, num_clips)),
            **self.moments(),
        )

    def note_whole_frames(self) -> None:
        """Of frames that are crops already, what their clips tell: one person in all of them."""
        clips: list[ClipScore | LeftOut] = [*self.score.clips, *self.score.left_out]
        read = {index for clip in clips for index in clip.frames}
        if not read:
            raise VideoError(f"{self.score.path}: no frame of the video could be decoded")
        damaged = {index for clip in self.left_out for index in clip.damaged}
        times = [time for clip in clips for time in (clip.start, clip.end)]
        sound = len(read) - len(damaged)
        self.score = replace(
            self.score,
            people=(PersonScore(WHOLE_FRAME, None, sound / len(read), min(times), max(times), 0),),
            frames_read=len(read),
            frames_with_face=sound,
            frames_damaged=len(damaged),
        )

    def moments(self) -> dict[str, Any]:
        """The fields of a score that hold pictures; one scale of brightness for the maps of all."""
        if not self.most:
            return {}
        kept = [*self.most, *(found for found in self.least if found not in self.most)]
        maps = heat_maps(self.model, np.stack([clip.frames for _, clip in kept]))
        moments = []
        for i, (score, clip) in enumerate(kept):
            own = {kind: values[i] for kind, values in maps.items()}
            number = self.score.clips.index(score)
            moments.append(Moment(number, clip.picture, clip.picture_box, clip.frames, own))
        most = len(self.most)
        return {"most_suspicious": tuple(moments[:most]), "least_suspicious": next(iter(moments[most:]), None)}

    def cautions(self, survey: Survey | None, select: str, num_clips: int | None) -> Iterator[str]:
        """What whoever reads the verdict must know, and what can be done about it."""
        score, contract = self.score, self.model.contract
        if survey is not None:
            if score.coverage < LEAST_COVERAGE:
                yield (
                    f"{score.faces} found a face in {score.frames_with_face} of {score.frames_read} frames read "
                    f"({score.coverage:.0%}): the verdict speaks of these alone; another face detector may find more "
                    "(--faces)"
                )
            if len(survey.people) > 1 and select != ALL_PEOPLE:
                rule = {"largest": "the one with most face area"}.get(select, f"chosen as {select!r}")
                yield (
                    f"{len(score.people)} people were seen, person {score.clips[0].track} was judged, {rule}; "
                    "--select all judges everyone"
                )
            judged = [person for person in survey.people if any(clip.track == person.track for clip in score.clips)]
            if contract.crop == "aligned" and not all(np.isfinite(person.faces[:, 5:]).any() for person in judged):
                yield (
                    f"{score.detector} wants aligned crops and {score.faces} gives no landmarks: square ones were "
                    "judged; centerface and yunet give them (--faces)"
                )
        if score.frames_damaged:
            yield (
                f"{score.frames_damaged} of {score.frames_read} frames read are damaged, and the clips that hold them "
                f"were left out; {REMEDIES['damaged']}"
            )
        total = len(score.clips) + len(score.left_out)
        if len(score.clips) < LEAST_COVERAGE * total:
            more = "" if num_clips is None else "; --clips all looks at more of the video"
            yield f"only {len(score.clips)} of {total} {score.unit}s were judged{more}"
        if score.num_frames is not None and score.num_frames < contract.num_frames:
            yield (
                f"the video has {score.num_frames} frames and a clip of {score.detector} {contract.num_frames}: frames "
                "were repeated"
            )


def _probability(found: tuple[ClipScore, Clip]) -> float:
    return found[0].probability


def _batches(clips: Iterator[Clip], size: int) -> Iterator[list[Clip]]:
    while batch := list(islice(clips, size)):
        yield batch


def listed_reasons(score: VideoScore) -> str:
    """How many clips were left out why, in words."""
    return ", ".join(f"{count} as {REASONS[reason]}" for reason, count in score.reasons().items())


def nothing_judged(score: VideoScore) -> VideoError:
    """Why there is no verdict, in a sentence that begins with the video."""
    reasons = score.reasons()
    if score.frames_damaged == score.frames_read:
        return VideoError(f"{score.path}: all {score.frames_read} frames read are damaged; {REMEDIES['damaged']}")
    if not score.people:
        return NoFaceError(
            f"{score.path}: {score.faces} finds no face in any of the {score.frames_read} frames read; "
            + REMEDIES["no_face"]
        )
    if set(reasons) == {"still"}:
        others = ", and --select all judges everyone" if len(score.people) > 1 else ""
        return VideoError(
            f"{score.path}: the picture stands still, and {score.detector} judges motion, so there is no verdict; "
            + REMEDIES["still"]
            + others
        )
    worst = max(reasons, key=lambda reason: reasons[reason])
    return VideoError(f"{score.path}: none of its clips could be judged ({listed_reasons(score)}); {REMEDIES[worst]}")
