"""The wanted frames of a video, without decoding what lies before them where that gives the same frames."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dfmodels.video.container import (
    BROADCAST,
    FrameMaker,
    Key,
    VideoFile,
    ends_early,
    is_damaged,
    iter_decoded,
    open_video,
    shows_frame,
    survey,
)
from dfmodels.video.damage import DamageWatch
from dfmodels.video.frame import Frame

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Codecs whose key frames end every dependency on earlier frames, beside those that have only key frames.
SEEKABLE = frozenset({"h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "libaom-av1", "mpeg4"})
MIN_SKIP = 32  # packets passed over; fewer do not pay for a decoder filled anew, which holds a frame a thread
PROOF = 4  # frames at the start of a video that must show that decoder and packets count alike
NAL_SEI, NAL_IDR = 6, 5
SEI_RECOVERY_POINT = 6


class NotExactError(Exception):
    """Seeking may give other frames than reading from the start."""


def iter_video(path: Path, wanted: Collection[int] | None) -> Generator[Frame, None, None]:
    """The wanted frames of a video, None for all."""
    numbers = None if wanted is None else sorted({number for number in wanted if number >= 0})
    if numbers is not None and leaves_out(numbers):
        numbers = yield from by_seeking(path, numbers)
        if not numbers:
            return
    yield from by_reading(path, numbers)


def leaves_out(numbers: list[int]) -> bool:
    """Whether more than MIN_SKIP frames in a row are not wanted."""
    return any(after - before > MIN_SKIP for before, after in zip([-1, *numbers], numbers, strict=False))


def by_reading(path: Path, numbers: list[int] | None) -> Generator[Frame, None, None]:
    """The frames of these ascending numbers, None for all; the ones in between are decoded but not converted to RGB."""
    with open_video(path) as video:
        if numbers is not None and not numbers:
            return
        maker = FrameMaker(video)
        wanted = None if numbers is None else set(numbers)
        for index, (raw, damaged) in enumerate(iter_decoded(video)):
            maker.follow(raw)
            if wanted is None or index in wanted:
                yield maker.frame(index, raw, damaged)
            del raw
            if numbers is not None and index >= numbers[-1]:
                return


def by_seeking(path: Path, numbers: list[int]) -> Generator[Frame, None, list[int]]:
    """As `by_reading`, up to where seeking is no longer exact; returns the numbers that are left."""
    from av.error import FFmpegError

    left = deque(numbers)
    try:
        contents = survey(path)
        with open_video(path) as video:
            if not may_seek(video, contents.keys):
                raise NotExactError
            seeker = Seeker(video, contents.keys)
            maker = FrameMaker(video)
            while left and left[0] < contents.info.num_frames:
                raw, damaged = seeker.frame(left[0])
                maker.follow(raw)
                yield maker.frame(left.popleft(), raw, damaged)
                del raw
    except (NotExactError, FFmpegError, OSError, ValueError, IndexError):
        return list(left)  # reading from the start tells what is wrong, if anything is
    return []  # what is left lies beyond the end


def may_seek(video: VideoFile, keys: Sequence[Key]) -> bool:
    """Whether codec and container are known to be exact, and the key packets are told apart and begin the video."""
    codec = video.stream.codec_context.codec
    if video.format in BROADCAST or not (codec.name in SEEKABLE or codec.intra_only):
        return False
    if codec.name == "vp8" and video.present is not None:  # a sample table does not tell hidden frames
        return False
    return bool(keys) and keys[0].number == 0 and len({key.position for key in keys}) == len(keys)


class Seeker:
    """Gives frames by their numbers, ascending, of a video whose packets tell where each of them lies.

    The number of a frame is how many are shown before it. For a key frame these are the frames shown among the packets
    before it, and its leading pictures: the ones of the packets right behind it that are shown before it. From there
    on, each frame that comes out must have the smallest time stamp that is inside the decoder. That a decoder counts
    otherwise, as with two packets a frame, shows at the start of the video.

    Every method raises NotExactError where a frame may be another one than by reading from the start.
    """

    def __init__(self, video: VideoFile, keys: Sequence[Key]) -> None:
        self.video = video
        self.keys = keys
        self.at = {key.position: key for key in keys}
        self.start(0, seek=False)
        if self.number:  # leading pictures before any other, which decoders leave out
            raise NotExactError
        while len(self.ready) < PROOF:
            self.decode()

    def frame(self, wanted: int) -> tuple[VideoFrame, bool]:
        """The frame of a number above those given before, and whether it is damaged."""
        at = bisect_right(self.keys, wanted, key=lambda key: key.shown) - 1
        if self.keys[at].number > self.sent + MIN_SKIP:
            self.start(at)
            while self.number > wanted:  # a leading picture of this key frame
                at -= 1
                self.start(at)
        while True:
            while self.ready:
                known = self.ready.popleft()
                self.number += 1
                if self.number > wanted:
                    return known
            self.decode()

    def start(self, at: int, seek: bool = True) -> None:
        """Go to a key frame, or to one before it if the container leads there."""
        key = self.keys[at]
        if seek:
            # Halfway to the next one: containers differ in what time they seek by, and edit lists shift it.
            before = max(1, min(at + 1, len(self.keys) - 1))
            half = (self.keys[before].stamp - self.keys[before - 1].stamp) // 2
            self.video.container.seek(key.stamp + half, stream=self.video.stream)
        self.packets = self.video.container.demux(self.video.stream)
        first = next(self.packets)
        found = None if first.pos is None else self.at.get(first.pos)
        if found is None or found.number > key.number or not is_clean_start(self.video, first):
            raise NotExactError
        self.pending = deque([first])
        leading = 0
        for packet in self.packets:
            self.pending.append(packet)
            if not packet.size or stamp_of(packet) > stamp_of(first):
                break
            leading += shows_frame(self.video, packet)
        self.first = self.last = stamp_of(first)
        self.expect_key = shows_frame(self.video, first)
        self.number = found.shown + leading
        self.sent = found.number
        self.watch = DamageWatch()
        self.ready: deque[tuple[VideoFrame, bool]] = deque()

    def decode(self) -> None:
        """Send one more packet to the decoder."""
        packet = self.pending.popleft() if self.pending else next(self.packets, None)
        if packet is None or ends_early(self.video, packet):
            raise NotExactError
        self.sent += 1
        if shows_frame(self.video, packet) and (stamp := stamp_of(packet)) >= self.first:
            if stamp in self.watch.outstanding:
                raise NotExactError
            self.watch.send(stamp, is_damaged(self.video, packet))
        for raw in self.video.stream.decode(packet):
            if raw.pts is not None and raw.pts < self.first:  # a leading picture, whose past is not there
                continue
            if raw.pts is None or raw.pts != min(self.watch.outstanding, default=None) or raw.pts < self.last:
                raise NotExactError
            if self.expect_key and not raw.key_frame:
                raise NotExactError
            self.expect_key = False
            self.last = raw.pts
            self.ready.extend(self.watch.take(raw))
        if not packet.size:
            self.ready.extend(self.watch.rest())


def stamp_of(packet: Packet[VideoStream]) -> int:
    if packet.pts is None:
        raise NotExactError
    return packet.pts


def is_clean_start(video: VideoFile, packet: Packet[VideoStream]) -> bool:
    """Whether all frames shown from a key frame on can be decoded without the frames before it.

    In most codecs that is what the flag says. In H.264 recovery points have it too (D.2.8), from which on pictures are
    exact only where the recovery takes no further frames and is marked as an exact match.
    """
    if not packet.is_keyframe or not packet.size:
        return False
    if video.stream.codec_context.name != "h264":
        return True
    for unit in nal_units(bytes(packet), video.stream.codec_context.extradata):
        kind = unit[0] & 31
        if kind == NAL_IDR:
            return True
        # Payload type 6, its size, recovery_frame_cnt = 0 as one bit, exact_match_flag.
        if kind == NAL_SEI and len(unit) > 3 and unit[1] == SEI_RECOVERY_POINT and unit[3] & 0xC0 == 0xC0:
            return True
    return False


def nal_units(data: bytes, extradata: bytes | None) -> Iterator[bytes]:
    """The units of a packet of H.264, each behind its length (ISO 14496-15) or behind a start code."""
    if extradata and extradata[0] == 1:
        width, at = (extradata[4] & 3) + 1, 0
        while at + width < len(data):
            end = at + width + int.from_bytes(data[at : at + width], "big")
            if end > at + width:
                yield data[at + width : end]
            at = end
    else:
        yield from (unit for unit in data.split(b"\0\0\1")[1:] if unit)
