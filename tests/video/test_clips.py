"""Which frames make a clip, and the crops of a clip."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dfmodels.video import (
    Frame,
    NoFaceError,
    VideoError,
    WholeFrame,
    align_face,
    clip_frames,
    clips,
    container,
    crop_box,
    eval_frames,
    even_frames,
    folder_clip_frames,
    read_clips,
    read_frames,
    seeking,
)
from tests.video.videos import STEP, cartoon, cut, cv2, draw_person, noise, scene, write_image, write_video

GOLDEN = Path(__file__).parents[1] / "golden" / "ddl_protocol.json"


def golden(section: str) -> list[dict]:
    if not GOLDEN.is_file():
        pytest.skip("tests/golden/ddl_protocol.json is not there")
    cases = json.loads(GOLDEN.read_text())[section]["cases"]
    assert cases
    return cases


def test_clip_frames_golden() -> None:
    for case in golden("video_clips"):
        assert clip_frames(case["video_frames"], case["clip_length"]) == case["expect"]


def test_folder_clip_frames_golden() -> None:
    for case in golden("clip_frames"):
        assert folder_clip_frames(case["first"], case["last"], case["clip_length"]) == case["expect"]


def test_clip_frames_examples() -> None:
    assert clip_frames(13, 6) == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert clip_frames(5, 8) == [[0, 1, 2, 3, 4, 4, 4, 4]]
    assert clip_frames(80, 8, 1) == [list(range(40, 48))]
    assert [clip[0] // 8 for clip in clip_frames(80, 8, 3)] == [1, 5, 8]
    assert clip_frames(80, 8, 10) == clip_frames(80, 8, 99) == clip_frames(80, 8)
    assert folder_clip_frames(15, 18, 8) == [15, 16, 17, 18, 18, 18, 18, 18]


@given(frames=st.integers(1, 300), length=st.integers(1, 40), wanted=st.none() | st.integers(1, 40))
@example(frames=1, length=1, wanted=1)
def test_clip_frames(frames: int, length: int, wanted: int | None) -> None:
    result = clip_frames(frames, length, wanted)
    every = clip_frames(frames, length)
    assert len(every) == max(1, frames // length)
    assert [i for clip in every for i in clip][:frames] == list(range(min(frames, len(every) * length)))
    assert len(result) == (len(every) if wanted is None else min(wanted, len(every)))
    assert all(len(clip) == length and 0 <= clip[0] <= clip[-1] < frames for clip in result)
    assert all(clip in every for clip in result)
    starts = [clip[0] // length for clip in result]
    assert starts == sorted(set(starts))
    # Evenly spaced: steps differ by one segment at most, the ends by one too.
    steps = np.diff(starts)
    assert not steps.size or steps.max() - steps.min() <= 1
    assert abs(starts[0] - (len(every) - 1 - starts[-1])) <= 1


def test_spread_clip_frames_examples() -> None:
    assert clip_frames(300, 8, 1, "spread") == [[18, 56, 92, 130, 168, 206, 242, 280]]
    assert clip_frames(300, 8, 2, "spread") == [
        [8, 28, 46, 64, 84, 102, 120, 140],
        [158, 178, 196, 214, 234, 252, 270, 290],
    ]
    assert clip_frames(1, 3, 2, "spread") == [[0, 0, 0], [0, 0, 0]]
    assert clip_frames(3, 4, 2, "spread") == [[0, 0, 0, 0], [1, 1, 1, 1]]
    for frames, expected in ((1, 1), (15, 1), (16, 2), (149, 18), (9000, 18)):
        assert len(clip_frames(frames, 8, None, "spread")) == expected


@given(frames=st.integers(1, 300), length=st.integers(1, 40), wanted=st.none() | st.integers(1, 40))
def test_spread_clip_frames(frames: int, length: int, wanted: int | None) -> None:
    result = clip_frames(frames, length, wanted, "spread")
    assert len(result) == (max(1, min(frames, 150) // length) if wanted is None else wanted)
    assert all(len(clip) == length for clip in result)
    assert [i for clip in result for i in clip] == eval_frames(frames, length * len(result))


def test_even_clip_frames_examples() -> None:
    assert clip_frames(300, 1, 4, "even") == [[0], [100], [199], [299]]
    assert clip_frames(300, 2, 2, "even") == [[0, 100], [199, 299]]
    assert clip_frames(9, 2, 32, "even") == [[0, 1], [2, 3], [5, 6], [7, 8]]
    assert clip_frames(2, 4, 5, "even") == [[0, 0, 1, 1]]
    assert clip_frames(5, 1, 1, "even") == [[2]]


@given(frames=st.integers(1, 300), length=st.integers(1, 40), wanted=st.none() | st.integers(1, 40))
@example(frames=31, length=1, wanted=32)
@example(frames=32, length=1, wanted=32)
@example(frames=200, length=1, wanted=None)
def test_even_clip_frames(frames: int, length: int, wanted: int | None) -> None:
    result = clip_frames(frames, length, wanted, "even")
    most = max(1, frames // length)
    assert len(result) == (most if wanted is None else min(wanted, most))
    assert all(len(clip) == length for clip in result)
    picked = [i for clip in result for i in clip]
    assert picked == even_frames(frames, length * len(result))
    if frames >= length:
        assert len(set(picked)) == len(picked)
    if length == 1 and (wanted is None or frames <= wanted):
        assert picked == list(range(frames))


def test_unknown_sampling() -> None:
    with pytest.raises(ValueError, match="sampling must be one of 'consecutive', 'spread', 'even', got 'dense'"):
        clip_frames(9, 4, 1, "dense")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((0, 8), "num_frames_in_video"), ((5, 0), "clip_length"), ((5, 8, 0), "num_clips"), ((5.0, 8), "num_frames_in")],
)
def test_clip_frames_errors(arguments: tuple[int, ...], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.*must be a whole number of at least 1, got"):
        clip_frames(*arguments)


def test_folder_clip_frames_errors() -> None:
    with pytest.raises(ValueError, match="last must be at least first = 5, got 4"):
        folder_clip_frames(5, 4, 8)
    with pytest.raises(ValueError, match="clip_length must be a whole number"):
        folder_clip_frames(5, 6, 0)


# --- reading clips


def level(image: np.ndarray) -> int:
    return round(float(image.mean()) / STEP)


@pytest.fixture
def ramp_video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "ramp.mp4", 21)


def test_whole_frames(ramp_video: Path) -> None:
    for faces in (None, "none", WholeFrame()):
        got = list(read_clips(ramp_video, num_frames=4, size=(10, 14), faces=faces))
        assert len(got) == 5
        for number, clip in enumerate(got):
            assert clip.frames.shape == (4, 10, 14, 3)
            assert clip.frames.dtype == np.uint8
            assert clip.indices == tuple(range(4 * number, 4 * number + 4))
            assert tuple(level(image) for image in clip.frames) == clip.indices
            np.testing.assert_allclose(clip.times, np.array(clip.indices) / 25, atol=1e-4)
            assert (clip.start, clip.end) == (clip.times[0], clip.times[-1])
            assert clip.boxes.tolist() == [[0, 0, 64, 48]] * 4
            assert clip.boxes.dtype == np.int64


def test_short_video_repeats_its_last_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 2)
    (clip,) = read_clips(path, num_frames=5, size=8)
    assert clip.indices == (0, 1, 1, 1, 1)
    assert [level(image) for image in clip.frames] == [0, 1, 1, 1, 1]
    assert clip.times[1:] == (clip.times[1],) * 4
    assert clip.boxes.shape == (5, 4)


def test_num_clips(ramp_video: Path) -> None:
    got = list(read_clips(ramp_video, num_frames=2, size=8, num_clips=3))
    assert [list(clip.indices) for clip in got] == clip_frames(21, 2, 3)
    assert [[level(image) for image in clip.frames] for clip in got] == clip_frames(21, 2, 3)


def test_resize_is_plain_bilinear(tmp_path: Path) -> None:
    write_image(tmp_path / "1.png", noise(3))
    (clip,) = read_clips(tmp_path, num_frames=1, size=(20, 31))
    expected = cv2.resize(noise(3)[..., ::-1].copy(), (31, 20), interpolation=cv2.INTER_LINEAR)
    assert (clip.frames[0] == expected).all()


def test_folder_of_images_of_different_size(tmp_path: Path) -> None:
    for i, (height, width) in enumerate([(10, 20), (30, 15), (7, 7)]):
        write_image(tmp_path / f"frame{i + 8}.png", np.full((height, width, 3), 10 * i, np.uint8))
    (clip,) = read_clips(tmp_path, num_frames=3, size=12)
    assert clip.boxes.tolist() == [[0, 0, 20, 10], [0, 0, 15, 30], [0, 0, 7, 7]]
    assert [int(image.max()) for image in clip.frames] == [0, 10, 20]


def boxes(tmp_path: Path, content: dict) -> str:
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    return f"boxes:{tmp_path / 'boxes.json'}"


def test_crops_are_those_of_crop_box(tmp_path: Path) -> None:
    for i in range(6):
        write_image(tmp_path / f"{i}.png", noise(i))
    box = [20.3, 11.7, 31.9, 26.4]
    faces = boxes(tmp_path, {str(i): [box] for i in range(6)})
    (clip,) = read_clips(tmp_path, num_frames=6, size=9, faces=faces, margin=1.1)
    x0, y0, x1, y1 = crop_box(box, (48, 64), 1.1)
    assert clip.boxes.tolist() == [[x0, y0, x1, y1]] * 6
    for i, image in enumerate(clip.frames):
        crop = noise(i)[y0:y1, x0:x1, ::-1].copy()
        assert (image == cv2.resize(crop, (9, 9), interpolation=cv2.INTER_LINEAR)).all()


def walk(tmp_path: Path, frames: int = 12, step: int = 2) -> tuple[Path, dict[str, list]]:
    """A person who walks to the right, and the boxes of all frames."""
    found: dict[str, list] = {}

    def picture(index: int) -> np.ndarray:
        image = scene()
        found[str(index)] = [draw_person(image, 60 + step * index, 70, 40, (200, 40, 40))]
        return image

    return write_video(tmp_path / "walk.mp4", frames, picture), found


def test_missing_detections_are_interpolated(tmp_path: Path) -> None:
    path, found = walk(tmp_path)
    faces = boxes(tmp_path, {number: found[number] for number in ("0", "4", "5", "6", "11")})
    first, second = read_clips(path, num_frames=6, size=8, faces=faces, margin=1.0)
    assert first.boxes[:, 0].tolist() == [40, 42, 44, 46, 48, 50]
    assert second.boxes[:, 0].tolist() == [52, 54, 56, 58, 60, 62]
    assert {tuple(box) for box in np.diff(second.boxes, axis=0)} == {(2, 0, 2, 0)}


def test_clips_without_a_face_are_left_out(tmp_path: Path) -> None:
    shown = [*range(4, 8), *range(16, 20)]
    found: dict[str, list] = {}

    def picture(index: int) -> np.ndarray:
        image = scene()
        if index in shown:
            found[str(index)] = [draw_person(image, 60 + 2 * index, 70, 40, (200, 40, 40))]
        return image

    path = write_video(tmp_path / "a.mp4", 21, picture)
    got = list(read_clips(path, num_frames=4, size=8, faces=boxes(tmp_path, found)))
    assert [clip.indices[0] for clip in got] == [4, 16]


def test_no_face_at_all(ramp_video: Path, tmp_path: Path) -> None:
    for faces, name in (("haar", "haar"), (boxes(tmp_path, {}), "boxes.json")):
        with pytest.raises(NoFaceError, match=rf"{name} finds no face.* another face detector, or `none`") as caught:
            list(read_clips(ramp_video, num_frames=4, size=8, faces=faces))
        assert str(caught.value).startswith(f"{ramp_video}: ")
    assert issubclass(NoFaceError, VideoError)


def test_haar_on_a_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 6, lambda i: cartoon(240, 320, 120 + 6 * i, 120, 100))
    (clip,) = read_clips(path, num_frames=6, size=64, faces="haar")
    centres = (clip.boxes[:, 0] + clip.boxes[:, 2]) / 2
    np.testing.assert_allclose(centres, 120 + 6 * np.arange(6), atol=10)
    assert clip.frames.shape == (6, 64, 64, 3)


class TwoPeople:
    """A small sure face on the left, a large unsure one on the right that is missed in every third frame."""

    name = "two people"
    whole_frame = False
    left, right = (30, 50, 60, 80, 0.9), (150, 30, 220, 100, 0.2)

    def picture(self, index: int) -> np.ndarray:
        image = scene()
        draw_person(image, 45, 65, 30, (200, 40, 40))
        draw_person(image, 185, 65, 70, (40, 60, 200))
        return image

    def detect(self, frame: Frame, path: object) -> np.ndarray:
        return np.array([self.left] if frame.index % 3 == 2 else [self.left, self.right])


@pytest.mark.parametrize(("sampling", "length"), [("consecutive", 7), ("spread", 4), ("even", 4), ("even", 1)])
@pytest.mark.parametrize(("select", "left"), [("largest", False), ("confident", True), ("central", False)])
def test_one_person_is_judged(tmp_path: Path, select: str, left: bool, sampling: str, length: int) -> None:
    path = write_video(tmp_path / "two.mp4", 21, TwoPeople().picture)
    options = {"num_frames": length, "size": 8, "faces": TwoPeople(), "margin": 1.0, "sampling": sampling}
    got = list(read_clips(path, select=select, **options))
    assert [list(clip.indices) for clip in got] == clip_frames(21, length, None, sampling)
    expected = TwoPeople.left if left else TwoPeople.right
    for clip in got:
        assert clip.track == (2 if left else 1)
        assert clip.boxes.tolist() == [list(expected[:4])] * length


@pytest.mark.parametrize("frames", [1, 2, 5, 21, 160])
@pytest.mark.parametrize("num_clips", [None, 1, 2, 5])
@pytest.mark.parametrize(("sampling", "length"), [("spread", 4), ("even", 4), ("even", 1)])
def test_clips_apart(tmp_path: Path, frames: int, num_clips: int | None, sampling: str, length: int) -> None:
    path = write_video(tmp_path / "a.mp4", frames)
    seen: list[int] = []
    options = {"num_frames": length, "size": 8, "num_clips": num_clips, "sampling": sampling}
    got = list(read_clips(path, progress=seen.append, **options))
    plan = clip_frames(frames, length, num_clips, sampling)
    assert [list(clip.indices) for clip in got] == plan
    assert seen == list(range(1, 1 + len({index for clip in plan for index in clip})))  # each frame once
    for clip in got:
        assert clip.frames.shape == (length, 8, 8, 3)
        np.testing.assert_allclose(clip.times, np.array(clip.indices) / 25, atol=1e-4)
        assert (clip.start, clip.end) == (clip.times[0], clip.times[-1])
        assert [level(image) for image in clip.frames] == [index % 25 for index in clip.indices]


def test_spread_boxes_are_not_smoothed(tmp_path: Path) -> None:
    found: dict[str, list] = {}

    def picture(index: int) -> np.ndarray:
        image = scene()
        found[str(index)] = [draw_person(image, 60 + index % 7, 70, 40, (200, 40, 40))]
        return image

    path = write_video(tmp_path / "a.mp4", 40, picture)
    options = {"num_frames": 4, "size": 8, "faces": boxes(tmp_path, found), "num_clips": 2, "margin": 1.2}
    for clip in read_clips(path, sampling="spread", **options):
        expected = [crop_box(found[str(index)][0], (180, 320), 1.2) for index in clip.indices]
        assert clip.boxes.tolist() == [list(box) for box in expected]


def test_single_frames_without_a_face_are_left_out(ramp_video: Path, tmp_path: Path) -> None:
    path, found = walk(tmp_path, 61, 1)
    plan = clip_frames(61, 1, 6, "even")
    assert plan == [[0], [12], [24], [36], [48], [60]]
    faces = boxes(tmp_path, {number: found[number] for number in found if 20 < int(number) < 50})
    options = {"num_frames": 1, "size": 8, "num_clips": 6, "margin": 1.0, "sampling": "even"}
    got = list(read_clips(path, faces=faces, **options))
    assert [clip.indices for clip in got] == [(24,), (36,), (48,)]
    assert [clip.boxes.tolist() for clip in got] == [[[40 + i, 50, 80 + i, 90]] for i in (24, 36, 48)]
    with pytest.raises(NoFaceError, match="finds no face"):
        list(read_clips(path, faces=boxes(tmp_path, {}), **options))


def test_aligned_crops(tmp_path: Path) -> None:
    images = [scene(height=48, width=64) for _ in range(5)]
    box = draw_person(images[0], 30, 20, 20, (200, 40, 40))
    for i, image in enumerate(images):
        image[:] = images[0]
        write_image(tmp_path / f"{i}.png", image[..., ::-1])
    points = [[26, 18], [35, 16], [31, 22], [28, 27], [36, 25]]
    landmarks = [1, *(value for point in points for value in point)]
    found = {"0": [[*box, *landmarks]], "1": [box], "3": [[*box, 1, *[30] * 10]], "4": [[*box, *landmarks]]}
    options = {"size": 12, "num_frames": 5, "margin": 1.1, "sampling": "even", "faces": boxes(tmp_path, found)}
    (square,) = read_clips(tmp_path, **options)
    (aligned,) = read_clips(tmp_path, crop="aligned", **options)
    assert (aligned.boxes == square.boxes).all()
    # No landmarks on both sides, or points in one place: the square crop.
    assert (aligned.frames[1:4] == square.frames[1:4]).all()
    for i in (0, 4):
        assert (aligned.frames[i] == align_face(images[i], np.array(points), 12, 1.1)).all()
        assert (aligned.frames[i] != square.frames[i]).any()
    # A bridged frame has the landmarks between its neighbours'.
    (aligned,) = read_clips(
        tmp_path, crop="aligned", **options | {"faces": boxes(tmp_path, dict.fromkeys("0134", found["0"]))}
    )
    assert (aligned.frames[2] == align_face(images[2], np.array(points), 12, 1.1)).all()
    # Faces of a detector without landmarks, and frames taken whole.
    for faces in (TwoPeople(), "none"):
        (square,) = read_clips(tmp_path, **options | {"faces": faces})
        (aligned,) = read_clips(tmp_path, crop="aligned", **options | {"faces": faces})
        assert (aligned.frames == square.frames).all()


def test_the_picture_of_a_clip(tmp_path: Path) -> None:
    image = np.asarray(cv2.resize(scene(), (1280, 720)))
    box = [400.0, 200, 700, 500]
    for i in range(3):
        image[:, :, 0] = 100 + 10 * i
        write_image(tmp_path / f"{i}.png", image[..., ::-1])
    faces = boxes(tmp_path, {str(i): [box] for i in range(3)})
    (clip,) = read_clips(tmp_path, num_frames=3, size=8, faces=faces, margin=1.0)
    assert clip.picture.shape == (360, 640, 3)
    assert clip.picture.dtype == np.uint8
    assert (clip.picture[..., 0] == 110).all()
    assert clip.picture_box == (200, 100, 350, 250)


def test_progress(ramp_video: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    list(read_clips(ramp_video, num_frames=4, size=8, progress=seen.append))
    assert seen == list(range(1, 21))  # frame 20 belongs to no clip and is not read
    seen.clear()
    path, found = walk(tmp_path, 21)
    list(read_clips(path, num_frames=4, size=8, faces=boxes(tmp_path, found), progress=seen.append))
    assert seen == list(range(1, 42))  # the survey looks at frame 20 too


def test_frames_behind_the_last_clip_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", 60)
    decoded, converted = [], []
    whole, convert = container.iter_decoded, container.to_rgb

    def counted(*args: object) -> Iterator[object]:
        for frame in whole(*args):  # type: ignore[arg-type]
            decoded.append(1)
            yield frame

    monkeypatch.setattr(seeking, "iter_decoded", counted)
    monkeypatch.setattr(container, "to_rgb", lambda *args: converted.append(1) or convert(*args))
    got = list(read_clips(path, num_frames=4, size=8, num_clips=2))
    assert [clip.indices[0] for clip in got] == [12, 44]
    assert len(decoded) == 48
    assert len(converted) == 8


@pytest.mark.parametrize(("sampling", "num_clips"), [("consecutive", None), ("spread", 8), ("spread", 16), ("even", 3)])
def test_memory_holds_one_clip(monkeypatch: pytest.MonkeyPatch, sampling: str, num_clips: int | None) -> None:
    plan = clip_frames(40, 5, num_clips, sampling)
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0

    def make(index: int) -> Frame:
        nonlocal most
        frame = Frame(index, index / 25, np.full((6, 8, 3), index, np.uint8))
        alive.append(weakref.ref(frame.image))
        most = max(most, sum(ref() is not None for ref in alive))
        return frame

    def reader(path: Path, wanted: set[int]) -> Iterator[Frame]:
        for index in sorted(wanted):
            yield make(index)

    monkeypatch.setattr(clips, "count_frames", lambda path: 40)
    monkeypatch.setattr(clips, "iter_frames", reader)
    gc.disable()  # references in a cycle would count as memory held
    try:
        count = 0
        for clip in read_clips("fake.mp4", num_frames=5, size=4, num_clips=num_clips, sampling=sampling):
            count += 1
            shared = count < len(plan) and plan[count][0] == plan[count - 1][-1]
            kept = sum(ref() is not None and ref() is not clip.picture for ref in alive)
            assert kept == shared, "frames of a finished clip are kept"
            assert clip.frames[0, 0, 0, 0] == clip.indices[0]
    finally:
        gc.enable()
    assert count == len(plan)
    assert most == max(len(set(clip)) for clip in plan) + 1  # the picture of the clip before


def test_decoder_that_gives_fewer_frames_than_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def reader(path: Path, wanted: object) -> Iterator[Frame]:
        for index in range(given_frames):
            yield Frame(index, index / 25, np.full((6, 8, 3), index, np.uint8))

    monkeypatch.setattr(clips, "count_frames", lambda path: 12)
    monkeypatch.setattr(clips, "iter_frames", reader)
    for given_frames, expected in ((12, [0, 4, 8]), (11, [0, 4]), (8, [0, 4]), (3, [0])):
        got = list(read_clips("fake.mp4", num_frames=4, size=4))
        assert [clip.indices[0] for clip in got] == expected
    assert got[0].indices == (0, 1, 2, 2)
    for given_frames, expected in ((12, clip_frames(12, 4, 2, "spread")), (9, [[0, 2, 3, 4]]), (3, [[0, 2, 2, 2]])):
        got = list(read_clips("fake.mp4", num_frames=4, size=4, num_clips=2, sampling="spread"))
        assert [list(clip.indices) for clip in got] == expected


def test_cut_off_video_fails_before_the_first_clip(tmp_path: Path) -> None:
    path = cut(write_video(tmp_path / "a.mp4", 50, noise, movflags="faststart"), 0.6)
    with pytest.raises(VideoError, match="of 50 frames could be read"):
        next(read_clips(path, num_frames=4, size=8))
    assert next(read_frames(path)).index == 0


def test_missing_video(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no such file"):
        list(read_clips(tmp_path / "a.mp4", num_frames=4, size=8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": 0}, "num_frames must be a whole number of at least 1, got 0"),
        ({"size": 0}, "size must be a whole number of at least 1, got 0"),
        ({"size": (8, -1)}, "size must be"),
        ({"size": (8, 8, 8)}, r"size must be one number or \(height, width\), got \(8, 8, 8\)"),
        ({"num_clips": 0}, "num_clips must be"),
        ({"margin": 0.0}, "margin must be a finite number above 0, got 0"),
        ({"select": "oldest"}, "select must be one of 'largest', 'central', 'confident', got 'oldest'"),
        ({"sampling": "dense"}, "sampling must be one of 'consecutive', 'spread', 'even', got 'dense'"),
        ({"crop": "oval"}, "crop must be one of 'square', 'aligned', got 'oval'"),
        ({"crop": "aligned", "size": (8, 9)}, r"size must be square for an aligned crop, got \(8, 9\)"),
        ({"faces": "harr"}, "did you mean haar"),
    ],
)
def test_errors_come_with_the_call(ramp_video: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_clips(ramp_video, **{"num_frames": 4, "size": 8, **options})


def test_more_clips_than_candidates() -> None:
    assert len(clip_frames(40, 8, 150, "spread")) == 150
    with pytest.raises(
        ValueError, match="num_clips must be at most 150 where frames are spread over the video, got 151"
    ):
        clip_frames(40, 8, 151, "spread")
    for sampling in ("consecutive", "even"):
        assert len(clip_frames(40, 8, 10**9, sampling)) == 5
