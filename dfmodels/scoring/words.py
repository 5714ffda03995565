"""What there is to say of a scored video, in sentences that can be handed on."""

from pathlib import Path

from dfmodels.files import printable
from dfmodels.scoring.formats import SHOWN_HASH
from dfmodels.scoring.formats import calibrated as calibrated
from dfmodels.scoring.formats import counted as counted
from dfmodels.scoring.formats import left_out as left_out
from dfmodels.scoring.formats import probability_text as probability_text
from dfmodels.scoring.formats import share_text as share_text
from dfmodels.scoring.maps import CAPTIONS
from dfmodels.scoring.result import ClipScore, VideoScore
from dfmodels.scoring.timeline import Mark, clock, judged


def meaning(score: VideoScore) -> str:
    """What the number is: by what, from what, and what is called fake."""
    weights = score.weights
    file = "weights trained in the same process"
    if weights.file is not None:
        file = f"the weights {printable(Path(weights.file).name)}"
    digest = f" (SHA-256 {weights.sha256[:SHOWN_HASH]}...)" if weights.sha256 else ""
    how = f", {calibrated(weights)}," if weights.calibration else ""
    return (
        f"The detector {score.detector} of dfmodels {score.version} with {file}{digest}{how} gives this video "
        f"{probability_text(score.probability)} on a scale from 0 (real) to 1 (fake), {basis(score)}; "
        "from 0.5 on it calls a video fake."
    )


LIMITS = (
    "This is not the probability that the video is forged. It says how much the video resembles the forgeries that the "
    "detector was trained on; it may be wrong in both directions, above all for kinds of forgery, cameras and "
    "compression that were not among them. It judges faces only, and neither sound nor what happens around them."
)


def basis(score: VideoScore) -> str:
    """From how many clips of whom the probability comes."""
    tracks = judged(score)
    if len(tracks) < 2:
        own = len(score.clips)
        of = f" of person {tracks[0]}" if len(score.people) > 1 else ""
        return f"on average over {counted(own, score.unit)}{of}" if own > 1 else f"from a single {score.unit}{of}"
    highest = max(
        (person for person in score.people if person.probability is not None),
        key=lambda person: person.probability or 0.0,
        default=None,
    )
    text = f"the highest of the {len(tracks)} people judged"
    if highest is None:
        return text
    return f"{text}, that of person {highest.track}, on average over {counted(highest.clips, score.unit)}"


def seen(score: VideoScore) -> str:
    """How many people were seen and judged."""
    if score.faces == "none":
        return "frames taken for face crops as they are, no faces looked for"
    if not score.frames_read:
        return "no frame could be looked at"
    if not score.people:
        return "nobody seen"
    return f"{counted(len(score.people), 'person')} seen, {len(judged(score))} judged"


def coverage(score: VideoScore) -> str:
    """How many frames were read, and what they show."""
    read = f"{counted(score.frames_read, 'frame')} read"
    if score.num_frames:
        read = f"{score.frames_read:,} of {score.num_frames:,} frames read"
    damaged = f", {score.frames_damaged:,} damaged" if score.frames_damaged else ""
    if score.faces == "none" or not score.frames_read:
        return f"{read}{damaged}"
    return f"{read}, {score.frames_with_face:,} ({share_text(score.coverage)}) with a face{damaged}"


def amount(score: VideoScore) -> str:
    """How many clips were judged, and how many frames of the video they show."""
    text = f"{counted(len(score.clips), score.unit)} judged"
    frames = {frame for clip in score.clips for frame in clip.frames}
    if not frames or not score.num_frames:
        return text
    return f"{text} ({len(frames):,} of the video's {counted(score.num_frames, 'frame')})"


def duration_text(seconds: float) -> str:
    """Seconds, of a minute and more also hours and minutes."""
    return f"{seconds:.2f} s" if seconds < 60 else f"{seconds:.1f} s ({clock(seconds)})"


def span_text(start: float, end: float) -> str:
    """From when to when; one time where that is the same."""
    return f"{start:.2f} s" if end - start < 0.005 else f"{start:.2f}-{end:.2f} s"


def clip_text(clip: ClipScore, score: VideoScore) -> str:
    """A clip in one line: its probability, when, which frames, and of whom where there are several."""
    frames = ""
    if clip.frames:
        first, last = clip.frames[0], clip.frames[-1]
        frames = f", frame {first}" if first == last else f", frames {first}-{last}"
    whom = f", person {clip.track}" if len(score.people) > 1 else ""
    return f"{probability_text(clip.probability)} at {span_text(clip.start, clip.end)}{frames}{whom}"


def made_by(score: VideoScore) -> str:
    """Detector, weights and version, as a page says it of all its videos."""
    weights = score.weights
    file = "trained in the same process" if weights.file is None else Path(weights.file).name
    digest = f" (SHA-256 {weights.sha256[:SHOWN_HASH]}...)" if weights.sha256 else ""
    how = f", {calibrated(weights)}" if weights.calibration else ""
    return f"Detector {score.detector}, weights {file}{digest}{how}, dfmodels {score.version}"


def moments_text(score: VideoScore) -> str:
    """What is shown of each moment, and how to read its maps."""
    numbered = ", with numbers of frames and times" if score.unit == "clip" else ""
    text = f"Of each the whole frame with the judged crop in a box, and what the detector saw{numbered}"
    kinds = list(score.most_suspicious[0].maps)
    if not kinds:
        return f"{text}."
    named = "; ".join(f"{kind}, {CAPTIONS[kind]}" if kind in CAPTIONS else kind for kind in kinds)
    return (
        f"{text}, then where it looked, by kind of map: {named}. Maps run from the least (dark) to the most (bright) "
        "of all that is shown here, in a real video too: bright spots alone prove nothing."
    )


def rank(mark: Mark) -> str:
    """How suspicious a moment is beside the others."""
    return "least suspicious" if mark.least else "most suspicious" if mark.letter == "A" else "next most suspicious"
