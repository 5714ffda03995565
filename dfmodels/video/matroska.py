"""What a Matroska file says of its own size and soundness, which ffmpeg does not look at."""

from __future__ import annotations

import zlib
from typing import BinaryIO

EBML, SEGMENT, CLUSTER, CRC32 = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75", b"\xbf\x84"
HEADER = 12  # bytes of the longest identifier and length of an element


def segment_span(head: bytes) -> tuple[int, int] | None:
    """Where the content of the segment begins and ends, and the file with it, None where the header does not tell."""
    first = number(head, 4) if head[:4] == EBML else None
    start = sum(first) if first else len(head)
    second = number(head, start + 4) if head[start : start + 4] == SEGMENT else None
    return (second[1], sum(second)) if second else None


def number(data: bytes, at: int) -> tuple[int, int] | None:
    """A length (RFC 8794, 4) and the place behind it, None for one that was not known when it was written."""
    width = 9 - data[at].bit_length() if at < len(data) else 9
    if width > 8 or at + width > len(data):
        return None
    value = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
    return None if value == (1 << 7 * width) - 1 else (value, at + width)


def is_filled(content: bytes) -> bool:
    """Whether the elements in an element lie one behind the other up to its end."""
    at = 0
    while at < len(content):
        width = 9 - content[at].bit_length()
        length = number(content, at + width) if width <= 4 else None
        if length is None:
            return False
        at = sum(length)
    return at == len(content)


class ClusterCheck:
    """Tells the packets that lie in damaged clusters: the checksum (RFC 8794, 11.3.1) or the elements do not fit.

    ffmpeg writes a checksum into every cluster of a Matroska file, not of WebM. Where the elements in a cluster do not
    lie one behind the other up to its end, ffmpeg goes on with the next one that it makes out, and frames are gone. The
    file is left where it was.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.first, self.end = segment_span(self._read(0, 64)) or (0, 0)
        self.here, self.following = self.first, self.first  # the element looked at last, and the one behind it
        self.sound = True

    def fails(self, position: int) -> bool:
        """Whether the packet at this byte lies in a damaged cluster; False where nothing tells."""
        if position < self.here:
            self.following = self.first
        while self.following <= position and self.following < self.end:
            self.here = self.following
            self._look(position)
        return not self.sound

    def _look(self, position: int) -> None:
        head = self._read(self.here, HEADER)
        width = 9 - head[0].bit_length() if head else 9
        length = number(head, width)
        self.sound = True
        if length is None:  # nothing behind it can be found
            self.following = self.end
            return
        size, offset = length
        self.following = self.here + offset + size
        if head[:width] == CLUSTER and self.following > position:
            cluster = self._read(self.here + offset, size)
            if cluster[:2] == CRC32:
                self.sound = int.from_bytes(cluster[2:6], "little") == zlib.crc32(memoryview(cluster)[6:])
            elif len(cluster) == size:
                self.sound = is_filled(cluster)

    def _read(self, at: int, size: int) -> bytes:
        before = self.file.tell()
        self.file.seek(at)
        data = self.file.read(size)
        self.file.seek(before)
        return data
