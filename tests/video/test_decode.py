"""Videos and folders, frame by frame; and every way in which they cannot be read."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dfmodels.video import VideoError, container, count_frames, iter_frames, read_frames, video_info
from dfmodels.video.container import VideoFile, iter_decoded
from dfmodels.video.images import natural_key
from dfmodels.video.matroska import segment_span
from tests.video.videos import STEP, av, corners, cut, noise, packets, ramp, turn, write_image, write_sound, write_video


def levels(path: Path) -> list[int]:
    """Which frame of a ramp each frame is."""
    return [round(float(frame.image.mean()) / STEP) for frame in read_frames(path)]


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.MP4", "mpeg4", "yuv420p"),
        ("a.mov", "libx264", "yuv422p"),
        ("a.mp4", "libx264", "yuv420p10le"),
        ("a.mkv", "libx264", "gray"),
        ("a.mkv", "ffv1", "gray10le"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.webm", "libvpx", "yuv420p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.gif", "gif", "rgb8"),
        ("a.ts", "libx264", "yuv420p"),
    ],
)
def test_formats(tmp_path: Path, name: str, codec: str, pixels: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this ffmpeg has no {codec}")
    path = write_video(tmp_path / name, 12, codec=codec, pixels=pixels)
    frames = list(read_frames(path))
    assert count_frames(path) == 12
    assert [frame.index for frame in frames] == list(range(12))
    assert all(
        f.image.shape == (48, 64, 3) and f.image.dtype == np.uint8 and f.image.flags.c_contiguous for f in frames
    )
    # Grey H.264 is written in full range and read in video range, which moves dark frames by up to 16 levels.
    tolerance = 1.7 if pixels == "gray" else 0.9
    np.testing.assert_allclose([frame.image.mean() / STEP for frame in frames], range(12), atol=tolerance)
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(12) / 25, atol=1e-3)


def test_colours_are_rgb(tmp_path: Path) -> None:
    picture = np.empty((48, 64, 3), np.uint8)
    picture[:] = (200, 40, 90)
    frame = next(read_frames(write_video(tmp_path / "a.mp4", 2, lambda i: picture)))
    np.testing.assert_allclose(frame.image.mean((0, 1)), (200, 40, 90), atol=4)


# A video stored with red top left and blue top right: its display matrix (a, b, c, d), and the corners (row, column)
# where a player shows red and blue. Phones write the third and the fourth for videos held upright.
TURNS = [
    ((1, 0, 0, 1), (0, 0), (0, -1)),
    ((-1, 0, 0, -1), (-1, -1), (-1, 0)),
    ((0, 1, -1, 0), (0, -1), (-1, -1)),  # clockwise by 90 degrees; `rotation` of PyAV is -90
    ((0, -1, 1, 0), (-1, 0), (0, 0)),  # counter-clockwise; `rotation` is 90
    ((-1, 0, 0, 1), (0, -1), (0, 0)),  # mirrored
    ((1, 0, 0, -1), (-1, 0), (-1, -1)),
    ((0, 1, 1, 0), (0, 0), (-1, 0)),
    ((0, -1, -1, 0), (-1, -1), (0, -1)),
]


@pytest.mark.parametrize(("matrix", "red", "blue"), TURNS)
def test_display_matrix_is_applied(
    tmp_path: Path, matrix: tuple[int, int, int, int], red: tuple[int, int], blue: tuple[int, int]
) -> None:
    path = turn(write_video(tmp_path / "a.mp4", 3, corners), *matrix)
    for frame in read_frames(path):
        assert frame.image.shape == ((80, 48, 3) if matrix[1] else (48, 80, 3))
        assert frame.image.flags.c_contiguous
        assert frame.image[red].argmax() == 0
        assert frame.image[red][2] < 100
        assert frame.image[blue].argmax() == 2
        assert frame.image[blue][0] < 100


@pytest.mark.parametrize(("degrees", "red"), [(90, (-1, 0)), (180, (-1, -1)), (270, (0, -1))])
def test_rotation_written_by_pyav(tmp_path: Path, degrees: int, red: tuple[int, int]) -> None:
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this PyAV cannot write a display matrix")
        stream.height, stream.width, stream.pix_fmt = 48, 80, "yuv420p"
        stream.set_display_rotation(degrees)  # counter-clockwise
        container.mux(stream.encode(av.VideoFrame.from_ndarray(corners(0), format="rgb24")))
        container.mux(stream.encode(None))
    frame = next(read_frames(tmp_path / "a.mov"))
    assert frame.image.shape == ((48, 80, 3) if degrees == 180 else (80, 48, 3))
    assert frame.image[red].argmax() == 0
    assert frame.image[red][2] < 100


def test_variable_frame_rate(tmp_path: Path) -> None:
    pts = [0, 1, 2, 10, 11, 30, 31, 90]
    path = write_video(tmp_path / "a.mp4", 8, pts=pts)
    assert count_frames(path) == 8
    np.testing.assert_allclose([frame.time for frame in read_frames(path)], np.array(pts) / 25, atol=1e-4)
    assert levels(path) == list(range(8))


@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_time_counts_from_the_start_of_the_video(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, 4, pts=[50, 51, 52, 53], avoid_negative_ts="disabled")
    times = [frame.time for frame in read_frames(path)]
    np.testing.assert_allclose(np.diff(times), 0.04, atol=1e-3)
    assert times[0] == pytest.approx(0, abs=1e-3)


def test_two_frames_and_one(tmp_path: Path) -> None:
    for frames in (1, 2):
        path = write_video(tmp_path / f"{frames}.mp4", frames)
        assert levels(path) == list(range(frames))
        assert count_frames(path) == frames


def test_odd_size(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 3, ramp((37, 51)), pixels="yuv444p")
    assert [frame.image.shape for frame in read_frames(path)] == [(37, 51, 3)] * 3


@pytest.mark.parametrize("name", ["a b.mp4", "Jürgen 映画.mp4", "-y.mp4", "%03d.mp4", "50%.mp4", "http:x.mp4", "F.MoV"])
def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write_video(tmp_path / "plain.mp4", 3).rename(tmp_path / name)
    write_video(tmp_path / "001.mp4", 5)
    monkeypatch.chdir(tmp_path)
    assert levels(Path(name)) == [0, 1, 2]
    assert count_frames(name) == 3


def test_first_video_stream_with_sound(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 10, sound=True)
    assert levels(path) == list(range(10))
    assert count_frames(path) == 10


def test_cover_picture_is_no_video(tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "sound.m4a")
    with av.open(str(sound)) as source, av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as target:
        voice = target.add_stream_from_template(source.streams.audio[0])
        cover = target.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 48, 64, "yuvj420p"
        cover.disposition = cover.disposition.attached_pic.value
        target.mux(cover.encode(av.VideoFrame.from_ndarray(noise(0), format="rgb24")))
        target.mux(cover.encode(None))
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = voice
                target.mux(packet)
    with av.open(str(tmp_path / "song.m4a")) as check:
        assert len(check.streams.video) == 1
    for read in (count_frames, lambda path: list(read_frames(path))):
        with pytest.raises(VideoError, match=r"no video in this file, only a cover picture and audio"):
            read(tmp_path / "song.m4a")


def test_frames_between_wanted_ones_are_passed_over(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 8)
    got = list(iter_frames(path, [5, 2, 99, 5]))
    assert [frame.index for frame in got] == [2, 5]
    assert [round(frame.image.mean() / STEP) for frame in got] == [2, 5]
    assert list(iter_frames(path, [])) == []
    folder = tmp_path / "folder"
    folder.mkdir()
    for index in range(4):
        write_image(folder / f"{index}.png", np.full((4, 4), index, np.uint8))
    assert [(frame.index, frame.time, frame.image.max()) for frame in iter_frames(folder, {3, 1})] == [
        (1, 0.04, 1),
        (3, 0.12, 3),
    ]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts"])
def test_rate_and_duration(tmp_path: Path, name: str) -> None:
    info = video_info(write_video(tmp_path / name, 50, codec="mpeg4", sound=True))
    assert info.num_frames == 50
    assert info.rate == pytest.approx(25, rel=1e-3)
    assert info.duration == pytest.approx(2, rel=1e-3)
    one = video_info(write_video(tmp_path / f"one_{name}", 1, codec="mpeg4"))
    assert (one.num_frames, one.rate, one.duration) == (1, 25, 0.04)


def test_packets_are_read_once_and_again_for_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mkv", 20)
    assert count_frames(path) == 20
    with monkeypatch.context() as patched:
        patched.delattr(container, "_survey")
        assert count_frames(str(path)) == 20
    write_video(path, 21)
    assert count_frames(path) == 21


def test_rate_of_variable_frames_and_of_images(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv"):
        info = video_info(write_video(tmp_path / name, 5, pts=[0, 1, 2, 10, 40], codec="mpeg4"))
        assert 4 / 1.6 <= info.rate <= 5 / 1.6
        assert info.duration == pytest.approx(5 / info.rate)
    write_image(tmp_path / "1.png", np.zeros((4, 4), np.uint8))
    info = video_info(tmp_path)
    assert (info.num_frames, info.rate, info.duration) == (1, 25, 0.04)


def test_reading_is_streaming(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 40)
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0
    for frame in read_frames(path):
        alive.append(weakref.ref(frame.image))
        most = max(most, sum(ref() is not None for ref in alive))
    assert len(alive) == 40
    assert most <= 2


def test_stopping_early_closes_the_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 10)
    frames = read_frames(path)
    next(frames)
    del frames
    gc.collect()
    fds = Path("/proc/self/fd")
    if not fds.is_dir():
        pytest.skip("open files cannot be listed here")
    assert str(path) not in [os.readlink(fd) for fd in fds.iterdir() if fd.is_symlink()]


# --- videos that cannot be read


def both_fail(path: Path, message: str) -> None:
    """Counting and reading give the same kind of reason, in one sentence that begins with the path."""
    for read in (count_frames, lambda path: list(read_frames(path))):
        with pytest.raises(VideoError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_missing(tmp_path: Path) -> None:
    both_fail(tmp_path / "none.mp4", "no such file or folder")
    both_fail(tmp_path / "none.png", "no such file or folder")


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    both_fail(tmp_path / "a.mp4", "the file is empty")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.mp4", "hello world\n" * 50),
        ("short.mp4", "hello\n"),
        ("notes.txt", "hello world\n" * 50),
        ("a.nfo", "\x1b[31mhello\x1b[0m\n" * 50),
        ("a.srt", "1\n00:00:01,000 --> 00:00:02,000\nhello\n\n"),
        ("a.json", '{"a": 1}'),
    ],
)
def test_text_is_no_video(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    both_fail(tmp_path / name, "not a video|no video in this file")


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4", "list.ffconcat"])
def test_playlists_open_no_other_file(tmp_path: Path, name: str) -> None:
    write_video(tmp_path / "a.ts", 5)
    text = "ffconcat version 1.0\nfile 'a.ts'\n"
    if name == "list.m3u8":
        text = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\na.ts\n#EXT-X-ENDLIST\n"
    (tmp_path / name).write_text(text)
    both_fail(tmp_path / name, "not a video")


def test_random_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(np.random.default_rng(0).bytes(50000))
    both_fail(tmp_path / "a.mp4", "not a video")


@pytest.mark.parametrize("name", ["a.wav", "a.m4a"])
def test_sound_only(tmp_path: Path, name: str) -> None:
    both_fail(write_sound(tmp_path / name), "no video in this file, only audio")


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_index_at_the_end_cut_off(tmp_path: Path, share: float) -> None:
    both_fail(cut(write_video(tmp_path / "a.mp4", 50, noise), share), r"cut off, its index \(moov\) is missing")


def test_index_itself_cut_off(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 50)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") + 300])
    both_fail(path, r"cut off, its index \(moov\) is missing")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.998])
def test_faststart_cut_off(tmp_path: Path, share: float) -> None:
    path = cut(write_video(tmp_path / "a.mp4", 50, noise, movflags="faststart"), share)
    both_fail(path, r"cut off, [0-9]+ of 50 frames could be read")
    got: list[int] = []
    with pytest.raises(VideoError, match="could be read") as caught:
        got.extend(frame.index for frame in read_frames(path))
    read = len(got)
    assert got == list(range(read))
    assert f" {read} of 50 frames" in str(caught.value)
    assert 50 * share - 5 < read < 50
    with pytest.raises(VideoError, match=f"{read} of 50 frames"):
        count_frames(path)


def test_whole_faststart_video_is_whole(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 50, noise, movflags="faststart")
    assert count_frames(path) == len(list(read_frames(path))) == 50


@pytest.mark.parametrize(
    ("name", "codec", "count"),
    [("a.avi", "mpeg4", "of 50 frames"), ("a.mkv", "libx264", "frames"), ("a.webm", "libvpx", "frames")],
)
def test_other_containers_cut_off(tmp_path: Path, name: str, codec: str, count: str) -> None:
    path = write_video(tmp_path / name, 50, noise, codec=codec)
    for share in (0.3, 0.6, 0.95):
        both_fail(cut(path, share), rf"cut off, [1-9][0-9]? {count} could be read")


def test_fragmented_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 50, noise, movflags="frag_every_frame+empty_moov")
    assert count_frames(path) == len(list(read_frames(path))) == 50
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"mdat") + 100])
    both_fail(path, "cut off, [0-9]+ frames could be read")


@pytest.mark.parametrize("at", [0, 12, 28, 29])
def test_damaged_frame(tmp_path: Path, at: int) -> None:
    path = write_video(tmp_path / "a.mp4", 30, noise, codec="png", pixels="rgb24")
    start, size = packets(path)[at]
    data = bytearray(path.read_bytes())
    data[start : start + size] = bytes(size)
    path.write_bytes(data)
    read = []
    with pytest.raises(VideoError, match=f"the video is damaged, {at} of 30 frames could be read"):
        read.extend(frame.index for frame in read_frames(path))
    assert read == list(range(at))


class FakeStream:
    """A decoder that gives the packet itself, and refuses a negative one."""

    codec_context = SimpleNamespace(name="h264")

    def decode(self, packet: SimpleNamespace | None) -> list[SimpleNamespace]:
        if packet is not None and packet.pts < 0:
            raise ValueError("damaged")
        return [packet] if packet is not None else []


def fake_video(form: str, *pts: int, error: Exception | None = None) -> VideoFile:
    def demux(stream: FakeStream) -> Iterator[SimpleNamespace]:
        for value in pts:
            yield SimpleNamespace(pts=value, size=9, is_corrupt=value == 13, is_discard=False, key_frame=True)
        if error is not None:
            raise error

    container = SimpleNamespace(format=SimpleNamespace(name=form), demux=demux)
    return VideoFile(Path("fake"), container, FakeStream(), threads=False)  # type: ignore[arg-type]


def test_broadcasts_go_on_behind_damage() -> None:
    assert [frame.pts for frame, _ in iter_decoded(fake_video("mpegts", -1, 1, 13, -2, 3))] == [1, 13, 3]
    with pytest.raises(VideoError, match="the video is damaged, 1 frames could be read"):
        list(iter_decoded(fake_video("mp4", 1, -1, 2)))
    with pytest.raises(VideoError, match="the video is cut off, 1 frames could be read"):
        list(iter_decoded(fake_video("mp4", 1, 13, 2)))


def test_error_of_the_container_is_no_end_of_video() -> None:
    for form in ("mpegts", "mp4"):
        with pytest.raises(VideoError, match="the video is damaged, 2 frames could be read"):
            list(iter_decoded(fake_video(form, 1, 2, error=IndexError("list index out of range"))))


def test_nothing_decodable(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 6, noise)
    data = bytearray(path.read_bytes())
    for start, size in packets(path):
        data[start : start + size] = b"\xff" * size
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"no frame of the video could be decoded| 0 of 6 frames"):
        list(read_frames(path))


def test_container_without_frames(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        container.start_encoding()
    both_fail(tmp_path / "a.mp4", "no video in this file, only an empty container")


def test_permission_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", 2)

    def refuse(self: Path, *args: object, **kwargs: object) -> object:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    both_fail(path, "cannot be opened: Permission denied")
    monkeypatch.setattr(Path, "iterdir", refuse)
    both_fail(tmp_path, "cannot be listed: Permission denied")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    both_fail(tmp_path / "a.mp4", "neither a file nor a folder")


def test_missing_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = write_video(tmp_path / "a.mp4", 2)
    image = write_image(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    for name in ("av", "cv2"):
        monkeypatch.setitem(sys.modules, name, None)
    for path in (video, image):
        with pytest.raises(ImportError, match=r'pip install "PATH_OR_GIT_URL\[video\]"'):
            list(read_frames(path))
    with pytest.raises(ImportError, match=r'reading videos needs PyAV .* pip install "PATH_OR_GIT_URL\[video\]"'):
        count_frames(video)


def test_import_needs_no_optional_package() -> None:
    code = "import sys; sys.modules['av'] = sys.modules['cv2'] = None; import dfmodels.video"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_terminal_stays_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    video = write_video(tmp_path / "a.mp4", 30, noise, movflags="faststart")
    data = bytearray(video.read_bytes())
    for at in range(len(data) // 3, len(data), 997):
        data[at] ^= 0xFF
    (tmp_path / "damaged.mp4").write_bytes(data)
    capfd.readouterr()
    for path in (cut(video, 0.7), tmp_path / "damaged.mp4"):
        with contextlib.suppress(VideoError):
            list(read_frames(path))
    assert capfd.readouterr() == ("", "")


def test_matroska_size() -> None:
    ebml = b"\x1a\x45\xdf\xa3\x84abcd"
    assert segment_span(ebml + b"\x18\x53\x80\x67\x41\x00rest") == (9 + 4 + 2, 9 + 4 + 2 + 256)
    assert segment_span(ebml + b"\x18\x53\x80\x67\x01" + b"\xff" * 7) is None  # written live, length not known
    assert segment_span(ebml) is None
    assert segment_span(b"") is None
    assert segment_span(b"\x1a\x45\xdf\xa3\x00") is None


# --- folders of images


def test_folder(tmp_path: Path) -> None:
    folder = tmp_path / "bilder ü %03d"
    folder.mkdir()
    colour = np.empty((20, 30, 3), np.uint8)
    colour[:] = (10, 20, 200)  # OpenCV order: mostly red
    write_image(folder / "frame10.png", np.full((5, 7), 77, np.uint8))
    write_image(folder / "frame9.PNG", colour)
    write_image(folder / "frame11.png", np.dstack([colour, np.zeros((20, 30), np.uint8)]))
    write_image(folder / "frame100 é.jpg", colour)
    write_image(folder / "frame101.webp", colour)
    write_image(folder / "frame12.bmp", colour)
    write_image(folder / "frame13.png", np.full((6, 6, 3), 0x8000, np.uint16))
    write_image(folder / "._frame1.png", colour)
    (folder / "notes.txt").write_text("no image")
    (folder / "frame0.png").mkdir()
    frames = list(read_frames(folder))
    assert count_frames(folder) == len(frames) == 7
    assert [frame.time for frame in frames] == [i / 25 for i in range(7)]
    assert all(frame.image.dtype == np.uint8 and frame.image.shape[2] == 3 for frame in frames)
    red, grey, alpha, bitmap, deep, jpeg, webp = (frame.image for frame in frames)
    assert (red == (200, 20, 10)).all()
    assert (alpha == red).all()
    assert (bitmap == red).all()
    assert grey.shape == (5, 7, 3)
    assert (grey == 77).all()
    assert (deep == 0x80).all()
    np.testing.assert_allclose(jpeg.mean((0, 1)), (200, 20, 10), atol=6)
    np.testing.assert_allclose(webp.mean((0, 1)), (200, 20, 10), atol=8)


def test_single_image(tmp_path: Path) -> None:
    path = write_image(tmp_path / "%03d.png", np.full((5, 7, 3), 9, np.uint8))
    assert [(frame.index, frame.image.shape) for frame in read_frames(path)] == [(0, (5, 7, 3))]
    assert count_frames(path) == 1


def test_natural_order() -> None:
    names = ["b1", "a10", "a9", "A1", "10", "9", "a09", "a9b2", "a9b10"]
    assert sorted(names, key=natural_key) == ["9", "10", "A1", "a09", "a9", "a9b2", "a9b10", "a10", "b1"]


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    both_fail(tmp_path, "no images, expected files ending in one of")


@pytest.mark.parametrize("content", [b"", b"no image at all", None])
def test_corrupt_image(tmp_path: Path, content: bytes | None) -> None:
    good = write_image(tmp_path / "1.png", noise(0))
    broken = tmp_path / "2.png"
    broken.write_bytes(good.read_bytes()[:4000] if content is None else content)
    frames = read_frames(tmp_path)
    assert (next(frames).image == noise(0)[..., ::-1]).all()
    with pytest.raises(VideoError, match=r"image is (empty|broken or cut off)") as caught:
        next(frames)
    assert str(broken) in str(caught.value)


@pytest.mark.parametrize("brand", ["heic", "mif1", "avif"])
def test_heif_pictures_are_refused(tmp_path: Path, brand: str) -> None:
    path = tmp_path / "photo.heic"
    path.write_bytes(b"\0\0\0\x18ftyp" + brand.encode() + bytes(200))
    for read in (count_frames, lambda path: list(read_frames(path))):
        with pytest.raises(
            VideoError, match=rf"photo\.heic: this is a picture of kind {brand}; convert it to png or jpg"
        ):
            read(path)
