"""Damaged frames are flagged, up to the next key frame. That sound ones are not, test_seeking.py asks of many."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from dfmodels.video import VideoError, iter_frames, read_frames
from dfmodels.video.damage import MAX_REORDER, DamageWatch
from dfmodels.video.matroska import ClusterCheck
from tests.video.videos import av, cv2, packets, write_video


def texture(seed: int, blur: float) -> NDArray[np.uint8]:
    image = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(320, 400, 3)), (0, 0), blur)
    return np.clip(128 + 60 * image / image.std(), 0, 255).astype(np.uint8)


BACK, FRONT = texture(0, 4), texture(1, 2)


def panning(index: int) -> NDArray[np.uint8]:
    """A texture that pans behind one that turns, so that there is something to break in every frame."""
    image = BACK[index % 60 : index % 60 + 240, index % 70 : index % 70 + 320].copy()
    turn = cv2.getRotationMatrix2D((200, 160), 4.0 * index, 1.0)
    image[48:192, 80:240] = cv2.warpAffine(FRONT, turn, (400, 320))[88:232, 120:280]
    return image


def plant(path: Path, packet: int, size: int, seed: int) -> Path:
    """A copy with random bytes, or one flipped bit for size 0, inside a packet."""
    data = bytearray(path.read_bytes())
    start, length = packets(path)[packet]
    rng = np.random.default_rng(seed)
    at = start + int(rng.integers(length // 4, max(length // 4 + 1, length - size)))
    if size:
        data[at : at + size] = rng.bytes(size)
    else:
        data[at] ^= 1 << int(rng.integers(8))
    target = path.with_name(f"damaged_{packet}_{seed}_{path.name}")
    target.write_bytes(data)
    return target


def compare(path: Path, clean: list[NDArray[np.uint8]]) -> tuple[list[int], list[int], bool]:
    """Numbers of the frames that visibly differ from the clean ones, of the flagged ones, and whether reading ended."""
    broken, flagged = [], []
    try:
        for frame in read_frames(path):
            difference = np.abs(frame.image.astype(int) - clean[frame.index]).mean(2)
            blocks = difference.reshape(15, 16, 20, 16).mean((1, 3))
            if blocks.max() > 20:
                broken.append(frame.index)
            if frame.damaged:
                flagged.append(frame.index)
    except VideoError:
        return broken, flagged, True
    return broken, flagged, False


@pytest.mark.parametrize(
    ("codec", "encoder"),
    [
        ("libx264", {"g": "20", "bf": "0"}),
        ("libx264", {"g": "20", "bf": "3"}),
        ("mpeg4", {"g": "20", "qmin": "3", "qmax": "3"}),
    ],
)
@pytest.mark.parametrize("size", [0, 16])
def test_decoders_tell_damage(tmp_path: Path, codec: str, encoder: dict[str, str], size: int) -> None:
    path = write_video(tmp_path / "a.mp4", 50, panning, codec=codec, encoder=encoder)
    clean = [frame.image for frame in read_frames(path)]
    seen = found = 0
    for seed in range(8):
        packet = 21 + seed  # of the second group of pictures
        broken, flagged, ended = compare(plant(path, packet, size, seed), clean)
        seen += len(broken)
        found += len(broken) if ended else len(set(broken) & set(flagged))
        assert all(20 <= index < 40 for index in flagged)
    assert seen > 30
    # In frames this small one flipped bit in five leaves slices that decode to their end.
    assert found >= (0.8 if size else 0.7) * seen


@pytest.mark.parametrize(
    ("codec", "encoder", "pixels"),
    [
        ("libx265", {"x265-params": "log-level=none:keyint=10"}, "yuv420p"),
        ("libx264", {"g": "10"}, "yuv420p"),
        ("libvpx-vp9", {"g": "10", "deadline": "realtime", "cpu-used": "8"}, "yuv420p"),
        ("ffv1", {}, "yuv420p"),
    ],
)
def test_checksums_tell_damage(tmp_path: Path, codec: str, encoder: dict[str, str], pixels: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this ffmpeg has no {codec}")
    path = write_video(
        tmp_path / "a.mkv", 50, panning, codec=codec, encoder=encoder, pixels=pixels, cluster_time_limit="500"
    )
    clean = [frame.image for frame in read_frames(path)]
    seen = 0
    for seed in range(4):
        broken, flagged, ended = compare(plant(path, 22 + seed, 0, seed), clean)
        seen += bool(broken)
        assert ended or set(broken) <= set(flagged)
        assert ended or 0 < len(flagged) < 50
    assert seen >= 2


@pytest.mark.parametrize("gone", [8, 100])
def test_frames_that_are_gone_from_a_file_without_checksums_are_not_passed_over(tmp_path: Path, gone: int) -> None:
    encoder = {"g": "20", "deadline": "realtime"}
    path = write_video(tmp_path / "video.webm", 40, panning, codec="libvpx", encoder=encoder)
    assert sum(frame.damaged for frame in read_frames(path)) == 0
    start, _ = packets(path)[9]
    data = bytearray(path.read_bytes())
    data[start - 8 : start - 8 + gone] = bytes(gone)  # with the head of its block
    path.write_bytes(data)
    frames = list(read_frames(path))
    assert len(frames) < 40
    assert any(frame.damaged for frame in frames)


def test_damage_in_frames_that_were_sought(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 140, panning, encoder={"g": "20"})
    clean = [frame.image for frame in read_frames(path)]
    path = plant(path, 102, 16, 0)
    flagged = compare(path, clean)[1]
    assert flagged
    assert 100 <= flagged[0] < flagged[-1] < 120
    got = list(iter_frames(path, {1, 60, 99, flagged[0], 119, 120}))
    assert [frame.index for frame in got if frame.damaged] == [flagged[0], 119]


@pytest.mark.parametrize(("codec", "more"), [("libx264", {}), ("mpeg2video", {"bf": "2"}), ("mpeg4", {})])
def test_recordings_that_begin_in_mid_stream(tmp_path: Path, codec: str, more: dict[str, str]) -> None:
    path = write_video(tmp_path / "a.ts", 60, panning, codec=codec, encoder={"g": "20"} | more)
    clean = [frame.image for frame in read_frames(path)]
    data = path.read_bytes()
    path.write_bytes(data[len(data) * 2 // 5 :])
    frames = list(read_frames(path))
    assert 20 <= len(frames) < 50
    for frame, sound in zip(frames, clean[-len(frames) :], strict=True):
        assert frame.damaged == (np.abs(frame.image.astype(int) - sound).max() > 60)
    assert not frames[-1].damaged


def frame(stamp: int | None, *, key: bool = False, corrupt: bool = False) -> SimpleNamespace:
    return SimpleNamespace(pts=stamp, key_frame=key, is_corrupt=corrupt)


def watched(sent: list[int], out: list[SimpleNamespace], damaged: int | None = None) -> list[tuple[int, bool]]:
    watch = DamageWatch()
    for stamp in sent:
        watch.send(stamp, stamp == damaged)
    known = [pair for each in out for pair in watch.take(each)]
    return [(each.pts, damaged) for each, damaged in [*known, *watch.rest()]]


def test_damage_lasts_to_the_next_key_frame() -> None:
    out = [frame(i, key=i in (0, 4), corrupt=i == 2) for i in range(7)]
    assert watched(list(range(7)), out) == [(i, i in (2, 3)) for i in range(7)]
    # A damaged key frame begins the damage.
    out = [frame(i, key=i in (0, 2, 5), corrupt=i == 2) for i in range(7)]
    assert watched(list(range(7)), out) == [(i, i in (2, 3, 4)) for i in range(7)]


def test_damage_reaches_frames_that_are_shown_before() -> None:
    """Decoded 0 4 2 1 3, the fourth is damaged: so are those that lean on it, though they are shown before it."""
    out = [frame(i, key=i == 0, corrupt=i == 4) for i in range(5)]
    assert watched([0, 4, 2, 1, 3], out) == [(0, False), *((i, True) for i in range(1, 5))]
    # Damage in 1 reaches none that was decoded before it.
    out = [frame(i, key=i == 0, corrupt=i == 1) for i in range(5)]
    assert watched([0, 4, 2, 1, 3], out) == [(0, False), (1, True), (2, False), (3, True), (4, False)]


def test_damage_known_of_the_packet() -> None:
    out = [frame(i, key=i in (0, 3)) for i in range(5)]
    assert watched(list(range(5)), out, damaged=1) == [(i, i in (1, 2)) for i in range(5)]


def test_frames_that_never_come_out_hold_back_few() -> None:
    watch = DamageWatch()
    most = released = 0
    for stamp in range(500):
        watch.send(stamp)
        if stamp % 7:
            released += len(list(watch.take(frame(stamp))))  # type: ignore[arg-type]
        most = max(most, len(watch.held), len(watch.outstanding) // 10)
    assert most <= MAX_REORDER
    assert released + len(watch.held) == 500 - 500 // 7 - 1
    # Without time stamps frames come out as they went in.
    watch = DamageWatch()
    for at in range(5):
        watch.send(None)
        known = list(watch.take(frame(None, corrupt=at == 3)))  # type: ignore[arg-type]
        assert [damaged for _, damaged in known] == [at >= 3]


def test_cluster_check(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", 70, panning, encoder={"g": "10"}, cluster_time_limit="800", sound=True)
    spans = packets(path)
    damaged = plant(path, 30, 0, 0)
    for name, expected in ((path, False), (damaged, True)):
        with name.open("rb") as file:
            file.seek(5)
            check = ClusterCheck(file)
            for _ in range(2):  # forwards, and from the start again
                fails = [check.fails(start) for start, _ in spans]
                assert fails[30] == expected
                assert not any(fails[:10] + fails[-10:])
                assert check.fails(spans[30][0]) == expected
            assert file.tell() == 5
    with write_video(tmp_path / "a.webm", 30, panning, codec="libvpx").open("rb") as file:  # without checksums
        assert not ClusterCheck(file).fails(2000)
    (tmp_path / "b.mkv").write_bytes(path.read_bytes()[:40])
    with (tmp_path / "b.mkv").open("rb") as file:
        assert not ClusterCheck(file).fails(2000)
