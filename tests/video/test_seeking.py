"""Frames by seeking: the same as by reading from the start, and fewer decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dfmodels.video import Frame, VideoError, clip_frames, iter_frames, read_frames, seeking, video_info
from dfmodels.video.container import open_video
from dfmodels.video.seeking import Seeker, nal_units
from tests.video.videos import av, cut, moving, noise, packets, turn, write_video

FRAMES = 130
X264 = {"g": "30", "preset": "veryfast"}
QUIET = "log-level=none:keyint=30"
VPX = {"g": "30", "deadline": "realtime", "cpu-used": "8"}
ALT_REF = VPX | {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16", "b": "200k"}
IRREGULAR = np.cumsum(np.random.default_rng(1).integers(1, 6, FRAMES)).tolist()

# Name of the file, codec, options of the encoder, other options of `write_video`; whether seeking is expected to work.
VIDEOS = [
    ("a.mp4", "libx264", X264, {}, True),
    ("a.mov", "libx264", X264 | {"bf": "8", "x264-params": "b-pyramid=normal"}, {"sound": True}, True),
    ("a.mkv", "libx264", X264, {"sound": True}, True),
    ("a.avi", "libx264", X264, {}, False),
    ("a.ts", "libx264", X264, {}, False),
    ("baseline.avi", "libx264", X264 | {"profile": "baseline"}, {}, True),
    ("fragments.mp4", "libx264", X264, {"movflags": "frag_keyframe+empty_moov"}, True),
    ("start.mp4", "libx264", X264, {"movflags": "faststart"}, True),
    ("live.mkv", "libx264", X264, {"live": "1"}, True),
    ("open.mp4", "libx264", X264 | {"x264-params": "open-gop=1"}, {}, True),
    ("open.mkv", "libx264", X264 | {"x264-params": "open-gop=1"}, {}, True),
    ("refresh.mp4", "libx264", X264 | {"x264-params": "intra-refresh=1:scenecut=0"}, {}, False),
    ("refresh.mkv", "libx264", X264 | {"x264-params": "intra-refresh=1:scenecut=0"}, {}, False),
    ("fields.mp4", "libx264", X264 | {"x264-params": "interlaced=1"}, {}, True),
    ("variable.mp4", "libx264", X264, {"pts": IRREGULAR}, True),
    ("variable.mkv", "libx264", X264, {"pts": IRREGULAR}, True),
    ("late.mp4", "libx264", X264, {"pts": range(50, 50 + FRAMES), "avoid_negative_ts": "disabled"}, True),
    # The first frames are cut off by an edit list.
    ("edited.mp4", "libx264", X264, {"pts": range(-20, FRAMES - 20), "avoid_negative_ts": "disabled"}, True),
    (
        "edited.mov",
        "libx264",
        X264 | {"bf": "0"},
        {"pts": range(-20, FRAMES - 20), "avoid_negative_ts": "disabled"},
        True,
    ),
    ("negative.mkv", "libx264", X264, {"pts": range(-20, FRAMES - 20), "avoid_negative_ts": "disabled"}, None),
    ("a.mp4", "libx265", {"x265-params": QUIET}, {}, True),
    ("a.mkv", "libx265", {"x265-params": QUIET}, {}, True),
    ("closed.mp4", "libx265", {"x265-params": QUIET + ":open-gop=0:radl=2"}, {}, True),
    ("refresh.mp4", "libx265", {"x265-params": QUIET + ":intra-refresh=1"}, {}, None),
    ("a.webm", "libvpx", VPX, {}, True),
    ("hidden.webm", "libvpx", ALT_REF, {}, True),
    ("a.webm", "libvpx-vp9", VPX, {}, True),
    ("hidden.mp4", "libvpx-vp9", ALT_REF, {}, True),
    ("a.mp4", "libsvtav1", {"g": "30", "preset": "12"}, {}, True),
    ("a.mkv", "libsvtav1", {"g": "30", "preset": "12"}, {}, True),
    ("a.mp4", "mpeg4", {"g": "30"}, {}, True),
    ("b.mp4", "mpeg4", {"g": "30", "bf": "2"}, {}, True),
    ("a.avi", "mpeg4", {"g": "30"}, {}, True),
    ("a.mkv", "mpeg2video", {"g": "15", "bf": "2"}, {}, False),
    ("a.avi", "mjpeg", {}, {"pixels": "yuvj420p"}, True),
    ("a.mov", "prores_ks", {}, {"pixels": "yuv422p10le"}, True),
    ("a.mkv", "ffv1", {"g": "10"}, {}, False),
]


def same(got: list[Frame], expected: list[Frame]) -> None:
    assert [frame.index for frame in got] == [frame.index for frame in expected]
    for one, other in zip(got, expected, strict=True):
        assert one.time == other.time
        assert one.damaged == other.damaged
        assert (one.image == other.image).all()


@pytest.mark.parametrize(("name", "codec", "encoder", "options", "seeks"), VIDEOS)
def test_frames_are_those_of_reading(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    codec: str,
    encoder: dict[str, str],
    options: dict,
    seeks: bool | None,
) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this ffmpeg has no {codec}")
    path = write_video(tmp_path / name, FRAMES, moving, codec=codec, encoder=encoder, **options)
    frames = list(read_frames(path))
    assert len(frames) == video_info(path).num_frames
    assert not any(frame.damaged for frame in frames)
    sought: list[int] = []
    start = Seeker.start

    def begin(self: Seeker, at: int, seek: bool = True) -> None:
        start(self, at, seek)
        sought.append(at)

    monkeypatch.setattr(Seeker, "start", begin)
    numbers = [[at] for at in (*range(55, 66), 86, 90, 94)]  # around key frames
    numbers += [[0, 1, 64, 65, 105], list(range(70, 96)), [2, 40, 78, 116], [len(frames) - 1, len(frames) + 50]]
    for wanted in numbers:
        same(list(iter_frames(path, wanted)), [frames[at] for at in wanted if at < len(frames)])
    if seeks is not None:
        assert any(sought) == seeks


@pytest.mark.parametrize(
    ("name", "codec", "encoder"),
    [
        ("a.mp4", "libx264", X264),
        ("a.mkv", "libx264", X264),
        ("a.mp4", "libx265", {"x265-params": QUIET}),
        ("a.webm", "libvpx-vp9", VPX),
    ],
)
def test_few_frames_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str, encoder: dict[str, str]
) -> None:
    path = write_video(tmp_path / name, 600, moving, codec=codec, encoder=encoder)
    sent: list[int] = []
    decode = Seeker.decode
    monkeypatch.setattr(Seeker, "decode", lambda self: sent.append(self.sent) or decode(self))
    monkeypatch.delattr(seeking, "by_reading")
    plan = clip_frames(600, 4, 4)
    got = list(iter_frames(path, {number for clip in plan for number in clip}))
    assert [frame.index for frame in got] == [number for clip in plan for number in clip]
    # Four clips: from the key frame, at most 30 packets before, to the clip's end and the frames inside the decoder.
    assert len(sent) <= 4 * (30 + 4 + 24) + 24


def test_turned_video(tmp_path: Path) -> None:
    path = turn(write_video(tmp_path / "a.mp4", 90, moving, encoder=X264), 0, 1, -1, 0)
    frames = list(read_frames(path))
    assert frames[0].image.shape == (64, 48, 3)
    same(list(iter_frames(path, {70, 80})), [frames[70], frames[80]])


def test_one_packet_a_field_is_read_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that gives one frame for two packets numbers them otherwise than the packets do."""
    path = write_video(tmp_path / "a.mp4", 100, moving, encoder=X264)
    decode = Seeker.decode

    def halve(self: Seeker) -> None:
        decode(self)
        self.watch.outstanding = {stamp: at for stamp, at in self.watch.outstanding.items() if at % 2}

    monkeypatch.setattr(Seeker, "decode", halve)
    same(list(iter_frames(path, {80})), [list(read_frames(path))[80]])


def test_break_is_found_as_by_reading(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 100, noise, codec="png", pixels="rgb24")
    start, size = packets(path)[90]
    data = bytearray(path.read_bytes())
    data[start : start + size] = bytes(size)
    path.write_bytes(data)
    assert [frame.index for frame in iter_frames(path, {2, 70})] == [2, 70]
    with pytest.raises(VideoError, match="the video is damaged, 90 of 100 frames could be read"):
        list(iter_frames(path, {2, 90}))
    whole = write_video(tmp_path / "b.mp4", 100, noise, encoder=X264, movflags="faststart")
    assert [frame.index for frame in iter_frames(cut(whole, 0.6), {2, 40})] == [2, 40]
    with pytest.raises(VideoError, match=r"cut off, [0-9]+ of 100 frames could be read"):
        list(iter_frames(cut(whole, 0.6), {2, 90}))


def test_files_are_closed(tmp_path: Path) -> None:
    frames = iter_frames(write_video(tmp_path / "a.mp4", 100, moving, encoder=X264), {80, 90})
    next(frames)
    frames.close()
    with pytest.raises(VideoError, match="no such file"):
        list(iter_frames(tmp_path / "b.mp4", {80}))
    assert list(iter_frames(tmp_path / "a.mp4", [])) == []


def test_units_of_a_packet(tmp_path: Path) -> None:
    for name, first in (("a.mp4", 6), ("a.ts", 9)):  # behind their lengths, behind start codes
        with open_video(write_video(tmp_path / name, 12)) as video:
            packet = next(video.container.demux(video.stream))
            kinds = [unit[0] & 31 for unit in nal_units(bytes(packet), video.stream.codec_context.extradata)]
        assert kinds[0] == first
        assert kinds[-1] == 5
