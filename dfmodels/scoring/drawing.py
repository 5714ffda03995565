"""The timeline of a report: what `templates/timeline.svg` draws, in its coordinates."""

from dataclasses import dataclass
from typing import Any

from dfmodels.scoring import timeline, words
from dfmodels.scoring.result import REASONS, ClipScore, VideoScore

LEFT, RIGHT, TOP, BOTTOM = 52.0, 972.0, 70.0, 250.0  # of the data
LANE = 16.0  # height of the row of one person
NARROWEST = 4.0  # of a gap
COLORS = 6  # in the style of a report
SHORT = {"no_face": "no face", "gap": "not seen", "short": "came or went", "still": "still", "damaged": "damaged"}
CORNERS = {
    "circle": None,
    "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "triangle": [(0, -1.15), (1.1, 0.85), (-1.1, 0.85)],
    "diamond": [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)],
    "turned triangle": [(0, 1.15), (1.1, -0.85), (-1.1, -0.85)],
}


def drawing(score: VideoScore, name: str) -> dict[str, Any]:
    """Everything that is drawn of a video; `name` begins the addresses of its moments."""
    axes = Axes(score, timeline.length(score))
    tracks = timeline.judged(score)
    people = [axes.person(order, track) for order, track in enumerate(tracks)]
    marks = timeline.marks(score)
    places = timeline.apart([axes.x(mark.middle) for mark in marks], 22.0, LEFT, RIGHT)
    ticks = timeline.time_ticks(axes.seconds)
    step = ticks[1] if len(ticks) > 1 else axes.seconds
    lanes = len(tracks) if len(tracks) > 1 else 0
    floor = BOTTOM + 8 + LANE * lanes
    clocks = axes.seconds >= 60
    return {
        "id": name,
        "left": LEFT,
        "right": RIGHT,
        "top": TOP,
        "bottom": BOTTOM,
        "lane": LANE,
        "floor": floor,
        "height": floor + (54 if clocks else 40),
        "levels": [(value / 4, axes.y(value / 4)) for value in range(5)],
        "ticks": [(axes.x(time), timeline.time_label(time, step), timeline.clock(time)) for time in ticks],
        "clocks": clocks,
        "frames": [(axes.x(time), number) for time, number in timeline.frame_ticks(score)],
        "bands": axes.bands(None),
        "people": people,
        "thinned": any(person["thinned"] for person in people),
        "shapes": [shape(order, 8, 8, 5) for order in range(len(people))],
        "reasons": score.reasons(),
        "letters": [
            {
                "letter": mark.letter,
                "x": round(place, 1),
                "at": axes.x(mark.middle),
                "y": axes.y(mark.clip.probability),
                "title": f"{mark.letter}, shown below: {words.clip_text(mark.clip, score)}",
            }
            for mark, place in zip(marks, places, strict=True)
        ],
    }


@dataclass(frozen=True)
class Axes:
    """Seconds and probabilities of a video in coordinates."""

    score: VideoScore
    seconds: float

    def x(self, time: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * min(max(time / self.seconds, 0.0), 1.0), 1)

    def y(self, probability: float) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * probability, 1)

    def person(self, order: int, track: int) -> dict[str, Any]:
        """The line of one person, and the row below where there are several."""
        clips = [clip for clip in self.score.clips if clip.track == track]
        drawn = timeline.thinned(clips, self.seconds)
        gaps = timeline.gaps(self.score, track)
        course = ""
        for run in timeline.runs([clip.start for clip in drawn], [gap.start for gap in gaps]):
            course += "M" + "L".join(f"{self.middle(clip)} {self.y(clip.probability)}" for clip in drawn[run])
        return {
            "track": track,
            "color": order % COLORS,
            "path": course,
            "bands": self.bands(track),
            "points": [self.point(clip, order) for clip in drawn],
            "thinned": len(drawn) < len(clips),
        }

    def middle(self, clip: ClipScore) -> float:
        return self.x((clip.start + clip.end) / 2)

    def point(self, clip: ClipScore, order: int) -> dict[str, Any]:
        """The mark of one clip."""
        y = self.y(clip.probability)
        return {
            "begin": self.x(clip.start),
            "end": self.x(clip.end),
            "y": y,
            "outline": shape(order, self.middle(clip), y, 4.5 if len(self.score.clips) <= 120 else 2.5),
            "fake": clip.probability >= 0.5,
            "title": words.clip_text(clip, self.score),
        }

    def bands(self, track: int | None) -> list[dict[str, Any]]:
        """Where `track`, or with None nobody, was judged."""
        found = []
        for gap in timeline.gaps(self.score, track):
            width = max(self.x(gap.end) - self.x(gap.start), NARROWEST)
            text = 7.5 * len(SHORT[gap.reason]) + 8
            found.append(
                {
                    "x": round(min(self.x(gap.start), RIGHT - width), 1),
                    "width": round(width, 1),
                    "reason": gap.reason,
                    "text": text,
                    "label": SHORT[gap.reason] if width > text else "",
                    "title": f"{words.span_text(gap.start, gap.end)}: not judged, {REASONS[gap.reason]} "
                    f"({words.counted(gap.count, self.score.unit)})",
                }
            )
        return found


def shape(order: int, x: float, y: float, r: float) -> str:
    """Outline of a mark of the `order`-th person, about 2 r wide, as the path of an SVG."""
    corners = list(CORNERS.values())[order % len(CORNERS)]
    if corners is None:
        return f"M{x - r:.1f} {y:.1f}a{r:g} {r:g} 0 1 0 {2 * r:g} 0a{r:g} {r:g} 0 1 0 {-2 * r:g} 0z"
    return "M" + "L".join(f"{x + r * dx:.1f} {y + r * dy:.1f}" for dx, dy in corners) + "z"
