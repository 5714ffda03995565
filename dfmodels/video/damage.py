"""Which frames of a video are damaged, by what the decoder says of single frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

MAX_REORDER = 16  # frames that H.264 and H.265 let a decoder hold back
NEVER = 64  # a frame that this many later ones have overtaken will not come out any more


class DamageWatch:
    """Spreads damage from the frame that a decoder flags to the ones predicted from it.

    Every frame that is decoded after a flagged one is damaged too, up to the next key frame. Some of those are shown
    before it, so a frame is held back until all that were decoded before it have come out.

    Args:
        withholds: whether the decoder keeps back what comes before the first key frame. Otherwise it is damaged.
    """

    def __init__(self, withholds: bool = True) -> None:
        self.outstanding: dict[int, int] = {}  # time stamp of each frame inside the decoder: its number when decoding
        self.held: deque[tuple[int, VideoFrame]] = deque()
        self.sent = 0
        self.last = -1
        self.flagged: set[int] = set() if withholds else {-1}

    def send(self, stamp: int | None, damaged: bool = False) -> None:
        """A packet that shows a frame goes into the decoder; `damaged` where that is known of the packet already."""
        if stamp is not None:
            self.outstanding[stamp] = self.sent
        if damaged:
            self.flagged.add(self.sent)
        self.sent += 1

    def take(self, frame: VideoFrame) -> Iterator[tuple[VideoFrame, bool]]:
        """A frame comes out of the decoder; yields the ones of which it is known now whether they are damaged."""
        number = self.last + 1 if frame.pts is None else self.outstanding.pop(frame.pts, self.last + 1)
        self.last = max(self.last, number)
        if frame.is_corrupt:
            self.flagged.add(number)
        self.held.append((number, frame))
        if len(self.outstanding) > NEVER:
            lost = [stamp for stamp, sent in self.outstanding.items() if sent < number - NEVER]
            for stamp in lost:
                del self.outstanding[stamp]
        first = min(self.outstanding.values(), default=self.sent)
        while self.held and (self.held[0][0] < first or len(self.held) > MAX_REORDER):
            yield self._release()

    def rest(self) -> Iterator[tuple[VideoFrame, bool]]:
        """The decoder is empty; yields the frames held back."""
        while self.held:
            yield self._release()

    def _release(self) -> tuple[VideoFrame, bool]:
        number, frame = self.held.popleft()
        if frame.key_frame and number not in self.flagged:
            self.flagged = {flagged for flagged in self.flagged if flagged > number}
        return frame, any(flagged <= number for flagged in self.flagged)
