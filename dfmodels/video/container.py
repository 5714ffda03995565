"""One open video file: its first video stream, decoded frame by frame with PyAV."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dfmodels.optional import require
from dfmodels.video.damage import DamageWatch
from dfmodels.video.frame import Frame, VideoError, VideoInfo
from dfmodels.video.matroska import ClusterCheck, segment_span

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

READ_BYTES = 1 << 20
# Demuxers that draw any text or bytes as a video of coloured letters.
TEXT_ART = frozenset({"tty", "bin", "xbin", "adf", "idf"})
# Recordings of a broadcast begin in mid stream and lose packets on the way: broken pieces are passed over.
BROADCAST = frozenset({"mpegts", "mpeg"})
# The frame count in the header of an AVI file may be off by one without anything missing.
AVI_SLACK = 1
MP4_BOXES = frozenset(
    {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"uuid", b"meta", b"sidx"}
)
NO_INDEX = "the video is cut off, its index (moov) is missing; copy or download the file again"
# Brands of pictures in HEIF files. A phone stores a picture as tiles, and ffmpeg would show one of them.
PICTURES = frozenset({b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif"})
# Decoders that begin in mid stream with frames whose past they do not have, and say nothing.
EAGER = frozenset({"mpeg4"})
IDENTITY = (1, 0, 0, 1)
DEFAULT_RATE = 25  # frames per second of a stream that does not tell its own


@dataclass
class VideoFile:
    """An open video file.

    Attributes:
        promised: number of frames the header announces, None where the container has no such number.
        present: how many of those lie inside the file, None where the header does not tell.
        missing_bytes: bytes between the end of the file and the end its header announces.
        check: tells damaged packets where the container has checksums.
    """

    path: Path
    container: InputContainer
    stream: VideoStream
    threads: bool
    promised: int | None = None
    present: int | None = None
    missing_bytes: int = 0
    check: ClusterCheck | None = None

    @property
    def format(self) -> str:
        return self.container.format.name

    def broken(self, how: str, readable: int) -> VideoError:
        """The error for a video of which only the first frames can be read."""
        count = f"{readable} frames" if self.promised is None else f"{readable} of {self.promised} frames"
        return VideoError(f"{self.path}: the video is {how}, {count} could be read; copy or download the file again")


@dataclass(frozen=True)
class Key:
    """A packet that decoding may begin with.

    Attributes:
        number: packets before it.
        shown: frames shown among those.
        stamp: where to seek to, in units of the stream's time base.
        position: byte in the file, which tells the packet from all others.
    """

    number: int
    shown: int
    stamp: int
    position: int


@dataclass(frozen=True)
class Contents:
    """What the packets of a video tell: frames, and key packets in the order of decoding."""

    info: VideoInfo
    keys: tuple[Key, ...]


@contextmanager
def open_video(path: Path, *, threads: bool = True) -> Iterator[VideoFile]:
    """Open the first video stream of a file, for a decoder that runs in one thread or in several.

    Raises:
        VideoError: the file cannot be opened, is not a video, or has no video stream.
        ImportError: PyAV is not installed.
    """
    av = require("av", "reading videos")
    try:
        mode = path.stat().st_mode
        # Opening a pipe would wait for a writer for ever.
        file = path.open("rb") if stat.S_ISREG(mode) else None
    except FileNotFoundError as error:
        raise VideoError(f"{path}: there is no such file or folder") from error
    except OSError as error:
        raise VideoError(f"{path}: the file cannot be opened: {error.strerror or error}") from error
    except ValueError as error:
        raise VideoError(f"{str(path)!r}: the file cannot be opened: {error}") from error
    if file is None:
        raise VideoError(f"{path}: expected a video or a folder of images, this is neither a file nor a folder")
    with file:
        size = path.stat().st_size
        if size == 0:
            raise VideoError(f"{path}: the file is empty; copy or download it again")
        head = file.read(12)
        file.seek(0)
        if head[4:8] == b"ftyp" and head[8:] in PICTURES:
            raise VideoError(f"{path}: this is a picture of kind {head[8:].decode()}; convert it to png or jpg")
        try:
            # An open file instead of its name: ffmpeg would read a meaning into `%03d`, a colon or a leading dash.
            # No protocol is allowed, so a playlist can neither open other files nor wait for a network.
            container = av.open(
                file,
                "r",
                container_options={"protocol_whitelist": "none"},
                metadata_errors="ignore",
                buffer_size=READ_BYTES,
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = NO_INDEX if mp4_cut_off(file, size) else "this is not a video that the installed ffmpeg can read"
            raise VideoError(f"{path}: {reason}") from error
        with container:
            stream = first_video(path, container)
            if stream is None:
                kinds = sorted({"a cover picture" if s.type == "video" else s.type for s in container.streams})
                none = f"there is no video in this file, only {' and '.join(kinds) or 'an empty container'}"
                raise VideoError(f"{path}: {NO_INDEX if mp4_cut_off(file, size) else none}")
            stream.thread_type = "AUTO" if threads else "NONE"
            video = VideoFile(path, container, stream, threads)
            measure(video, file, size)
            yield video


def first_video(path: Path, container: InputContainer) -> VideoStream | None:
    """The first video stream that is not a cover picture, None where there is none.

    Raises:
        VideoError: a text file, or a stream without a decoder.
    """
    if container.format.name in TEXT_ART:
        raise VideoError(f"{path}: this is text or plain data, not a video")
    for stream in container.streams.video:
        if stream.disposition & (stream.disposition.attached_pic | stream.disposition.timed_thumbnails):
            continue
        if stream.codec_context is None:
            raise VideoError(f"{path}: the installed ffmpeg has no decoder for the video in this file")
        return stream
    return None


def mp4_cut_off(file: BinaryIO, size: int) -> bool:
    """Whether an mp4 or mov file ends inside one of its top-level boxes or before its index, the box `moov`."""
    if size < 8:  # no box at all, so no sign of a video
        return False
    seen, at = set(), 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        if at == 0 and name not in MP4_BOXES:
            return False
        if length == 1:  # a 64-bit length follows
            length = int.from_bytes(head[8:], "big")
        if length == 0:  # up to the end of the file
            length = size - at
        if name not in MP4_BOXES or length < 8:
            break
        seen.add(name)
        at += length
    return at > size or b"moov" not in seen


def measure(video: VideoFile, file: BinaryIO, size: int) -> None:
    """Fill in what the header promises: sample table of mp4 and mov, frame count of AVI, size of matroska."""
    if video.format.startswith("mov") and video.stream.frames:
        video.promised = video.stream.frames
        # The sample table is exact and, as ffmpeg holds it, already follows the edit list. PyAV shows it from 17 on;
        # before that a cut is found where the packets end.
        if hasattr(video.stream, "index_entries"):
            entries = [entry for entry in video.stream.index_entries if not entry.is_discard]
            video.promised = len(entries)
            video.present = sum(entry.pos + entry.size <= size for entry in entries)
    elif video.format == "avi" and video.stream.frames:
        video.promised = video.stream.frames
    elif video.format.startswith("matroska"):
        position = file.tell()
        file.seek(0)
        span = segment_span(file.read(64))
        file.seek(position)
        if span is not None:
            video.missing_bytes = max(0, span[1] - size)
        video.check = ClusterCheck(file)


class FrameMaker:
    """Makes frames of what the decoder of a video gives."""

    def __init__(self, video: VideoFile) -> None:
        from av.video.reformatter import VideoReformatter

        self.video = video
        self.convert = VideoReformatter()
        self.start = (video.container.start_time or 0) / 1e6
        self.rate = float(video.stream.average_rate or DEFAULT_RATE)
        self.time: float | None = None

    def follow(self, raw: VideoFrame) -> None:
        """Tell the time of every decoded frame, as a stream without time stamps goes on at its mean rate."""
        if raw.pts is not None and self.video.stream.time_base is not None:
            self.time = max(0.0, float(raw.pts * self.video.stream.time_base) - self.start)
        else:
            self.time = 0.0 if self.time is None else self.time + 1 / self.rate

    def frame(self, index: int, raw: VideoFrame, damaged: bool) -> Frame:
        """The frame followed last, in RGB and turned."""
        assert self.time is not None
        return Frame(index, self.time, to_rgb(self.video, raw, self.convert), damaged)


def iter_decoded(video: VideoFile) -> Generator[tuple[VideoFrame, bool], None, None]:
    """Decode the video: frames, and whether they are damaged; a break raises VideoError after the frames before it."""
    from av.error import FFmpegError

    packets = video.container.demux(video.stream)
    watch = DamageWatch(withholds=video.stream.codec_context.name not in EAGER)
    decoded, given, sent, end = 0, 0, 0, 0
    failure: Exception | None = None
    broken = False
    while True:
        frames: list[VideoFrame] = []
        packet = None
        try:
            packet = next(packets, None)
            if packet is None:
                break
            broken = ends_early(video, packet)
            if not broken:
                if shows_frame(video, packet):
                    watch.send(packet.pts, is_damaged(video, packet))
                    sent += 1
                end = max(end, packet_end(packet))
                frames = video.stream.decode(packet)
        except (FFmpegError, OSError, ValueError, IndexError) as error:  # IndexError: a stream that begins later
            if video.format in BROADCAST and packet is not None and packet.size:
                continue
            failure = error
            break
        if broken:
            frames = drain(video)
        for frame in frames:
            decoded += 1
            for known in watch.take(frame):
                given += 1
                yield known
        if broken:
            break
    # Several threads lose good frames before a damaged one, offer frames behind it, and are silent about damage near
    # the end. One thread stops at the right place.
    if video.threads and not broken and (failure or (decoded < sent and video.format not in BROADCAST)):
        with open_video(video.path, threads=False) as again:
            yield from islice(iter_decoded(again), given, None)
        return
    yield from watch.rest()
    if failure is not None:
        raise video.broken("damaged", decoded) from failure
    if broken or falls_short(video, end):
        raise video.broken("cut off", decoded)
    if decoded == 0:
        raise VideoError(f"{video.path}: no frame of the video could be decoded")


def ends_early(video: VideoFile, packet: Packet[VideoStream]) -> bool:
    """Whether the file ends inside this packet; ffmpeg flags it and would decode half of it."""
    return packet.is_corrupt and video.format not in BROADCAST


def is_damaged(video: VideoFile, packet: Packet[VideoStream]) -> bool:
    """Whether a packet is known to be damaged without decoding it."""
    return video.check is not None and packet.pos is not None and video.check.fails(packet.pos)


def packet_end(packet: Packet[VideoStream]) -> int:
    return (packet.pts or 0) + 1 if packet.size else 0


def falls_short(video: VideoFile, end: int) -> bool:
    """Whether packets are missing behind a clean end, as when the cut lies between two of them."""
    if video.present is not None and video.promised is not None:
        return video.present < video.promised
    if video.promised is not None:  # AVI: time stamps count frames, dropped ones included
        return end + AVI_SLACK < video.promised
    return video.missing_bytes > 0


def drain(video: VideoFile) -> list[VideoFrame]:
    """Frames the decoder holds back for reordering, or because it runs in several threads."""
    from av.error import FFmpegError

    try:
        return video.stream.decode(None)
    except (FFmpegError, ValueError):  # the damaged part was among them
        return []


def survey(path: Path) -> Contents:
    """`survey_packets` of a file; what was found is kept, as a video is counted first and read afterwards.

    Raises:
        VideoError: the file cannot be read, or the video is cut off.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):  # opening it says why
        return _survey(path)
    return _kept_survey(path, os.path.abspath(path), status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8)
def _kept_survey(path: Path, *identity: object) -> Contents:
    return _survey(path)


def _survey(path: Path) -> Contents:
    with open_video(path) as video:
        return survey_packets(video)


def survey_packets(video: VideoFile) -> Contents:
    """Number and rate of the frames, and the key frames, by the packets of the stream, without decoding one.

    Raises:
        VideoError: the video is cut off.
    """
    from av.error import FFmpegError

    stamps: list[int | None] = []
    keys: list[Key] = []
    end = 0
    packets = video.container.demux(video.stream)
    if video.present is not None and video.promised is not None:
        if video.present < video.promised:
            raise video.broken("cut off", video.present)
        # The table has the times of decoding, seeking goes by those of presentation.
        with suppress(FFmpegError, OSError, IndexError):
            first = next(packets)
            delay = 0 if first.pts is None or first.dts is None else first.pts - first.dts
            for number, entry in enumerate(video.stream.index_entries):
                if entry.is_keyframe:
                    keys.append(Key(number, len(stamps), entry.timestamp + delay, entry.pos))
                if not entry.is_discard:
                    stamps.append(None)
        return _contents(video, [None] * video.present, keys)
    try:
        for number, packet in enumerate(packets):
            if ends_early(video, packet):
                raise video.broken("cut off", len(stamps))
            stamp = packet.dts if packet.pts is None else packet.pts
            if packet.is_keyframe and packet.size and stamp is not None and packet.pos is not None:
                keys.append(Key(number, len(stamps), stamp, packet.pos))
            if shows_frame(video, packet):
                stamps.append(packet.pts)
            end = max(end, packet_end(packet))
    except (FFmpegError, OSError, IndexError) as error:
        raise video.broken("cut off", len(stamps)) from error
    if falls_short(video, end):
        raise video.broken("cut off", len(stamps))
    return _contents(video, stamps, keys)


def _contents(video: VideoFile, stamps: list[int | None], keys: list[Key]) -> Contents:
    if not stamps:
        raise VideoError(f"{video.path}: the video stream holds no frames")
    known = [stamp for stamp in stamps if stamp is not None]
    base, rate = video.stream.time_base, float(video.stream.average_rate or DEFAULT_RATE)
    # The clock of a broadcast jumps and starts anew.
    if len(known) == len(stamps) and base and video.format not in BROADCAST and (span := max(known) - min(known)):
        rate = (len(stamps) - 1) / float(span * base)
    return Contents(VideoInfo(len(stamps), rate), tuple(keys))


def shows_frame(video: VideoFile, packet: Packet[VideoStream]) -> bool:
    """Whether a packet holds a frame to be shown; VP8 has others (RFC 6386, section 9.1: bit `show_frame`)."""
    if not packet.size or packet.is_discard:
        return False
    return video.stream.codec_context.name != "vp8" or bool(bytes(packet)[0] >> 4 & 1)


def to_rgb(video: VideoFile, frame: VideoFrame, convert: Any) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) of a frame as a player turns and mirrors them."""
    try:
        image = convert.reformat(frame, format="rgb24").to_ndarray()
    except (OSError, ValueError) as error:
        raise VideoError(f"{video.path}: pixel format {frame.format.name} cannot be converted to RGB") from error
    return apply_orientation(image, orientation(frame))


def orientation(frame: VideoFrame) -> tuple[int, int, int, int]:
    """The display matrix rounded to quarter turns and mirrors: a pixel (x, y) is shown at (a x + c y, b x + d y).

    The matrix itself rather than `frame.rotation`, which counts counter-clockwise degrees and cannot tell a mirrored
    video from one turned upside down.
    """
    try:
        data: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # side data of a kind this PyAV has no name for
        data = None
    if data is None:
        return IDENTITY
    a, b, _, c, d = (int(value) for value in np.frombuffer(data, np.int32)[:5])
    if abs(a * d) >= abs(b * c):
        rounded = (int(np.sign(a)), 0, 0, int(np.sign(d)))
    else:
        rounded = (0, int(np.sign(b)), int(np.sign(c)), 0)
    return rounded if rounded[0] * rounded[3] - rounded[1] * rounded[2] else IDENTITY


def apply_orientation(image: NDArray[np.uint8], matrix: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Turn and mirror pixels (H, W, 3) by a display matrix of quarter turns."""
    a, b, c, d = matrix
    if b:  # the stored x axis becomes the shown y axis
        image = image.transpose(1, 0, 2)
        a, d = c, b
    return np.ascontiguousarray(image[::d, ::a])
