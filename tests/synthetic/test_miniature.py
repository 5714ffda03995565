"""The generated miniature of FaceForensics++: its files, and what its manipulations do to a face."""

import json

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")

from dfmodels.data import deepfakebench_videos, folder_videos, make_groups, read_pairs  # noqa: E402
from dfmodels.data.index import SPLITS  # noqa: E402
from dfmodels.data.layouts import METHODS  # noqa: E402
from dfmodels.synthetic import render_group, write_miniature  # noqa: E402


def read(video):
    return np.stack([cv2.imread(str(file)) for file in video.frames]).astype(np.float64)


@pytest.fixture(scope="module")
def clips(miniature):
    """Frames (T, H, W, 3) of all five videos of every group: a list of tuples."""
    groups = []
    for split in SPLITS:
        groups += make_groups(folder_videos(miniature, read_pairs(miniature / "splits" / f"{split}.json")))
    return [tuple(read(video) for video in group) for group in groups]


def test_split_files_have_no_identity_in_common(miniature):
    pairs = {split: json.loads((miniature / "splits" / f"{split}.json").read_text()) for split in SPLITS}
    assert pairs == {
        "train": [["000", "001"], ["002", "003"]],
        "val": [["004", "005"]],
        "test": [["006", "007"], ["008", "009"]],
    }


def test_files_of_both_formats_are_the_same(miniature):
    for split in SPLITS:
        folders = folder_videos(miniature, read_pairs(miniature / "splits" / f"{split}.json"))
        listed = deepfakebench_videos(miniature / "FaceForensics++.json", miniature, split=split)
        assert {video.key: video.frames for video in folders} == {video.key: video.frames for video in listed}
        assert all(len(video.frames) == 4 for video in folders)
    assert len(list(miniature.rglob("*.png"))) == 5 * 2 * 5 * 4  # pairs, identities of a pair, videos, frames


def test_paths_are_relative(miniature):
    assert str(miniature) not in (miniature / "FaceForensics++.json").read_text()


def test_fakes_change_the_face_and_nothing_else(clips):
    border = np.ones((64, 64), dtype=bool)
    border[10:62, 10:54] = False
    for real, *fakes in clips:
        for method, fake in zip(METHODS, fakes, strict=True):
            difference = np.abs(fake - real).max(-1)
            # JPEG carries a change into the blocks it touches.
            assert difference[:, border].mean() < 2.5, method
            assert (difference[:, 26:46, 22:42].mean((1, 2)) > 2.5).all(), method


def sharpness(clip):
    return np.mean([cv2.Laplacian(frame[18:50, 20:44].mean(-1), cv2.CV_64F).std() for frame in clip])


def test_each_method_leaves_its_own_trace(clips):
    for real, *fakes in clips:
        deepfakes, face2face, _, neural_textures = (np.log(sharpness(fake) / sharpness(real)) for fake in fakes)
        assert deepfakes < -0.3
        assert face2face > 0.4
        assert abs(neural_textures) < 0.2
        # Only NeuralTextures leave the eyes alone.
        eyes = [np.abs(fake - real)[:, 22:30, 20:44].mean() for fake in fakes]
        assert min(eyes[:3]) > 10
        assert eyes[3] < 2


def test_swaps_show_the_source(clips):
    """Between people of different colours, a swapped face has the colour of its source."""

    def distance(clip, other):
        colours = [c[:, 24:48, 24:40].mean((0, 1, 2)) for c in (clip, other)]
        return np.abs(np.log(colours[0] / colours[1])).sum()

    apart = 0
    for first, second in zip(clips[::2], clips[1::2], strict=True):
        for target, source in ((first, second), (second, first)):
            if distance(target[0], source[0]) > 0.7:
                apart += 1
                for fake in (target[1], target[3]):
                    assert distance(fake, source[0]) < 0.7 * distance(target[0], source[0])
    assert apart >= 4


def test_arguments_decide_every_pixel(miniature, tmp_path):
    write_miniature(tmp_path / "again", pairs=(1, 0, 0), frames=2, size=64, seed=3)
    written = sorted(path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*.png"))
    assert len(written) == 2 * 5 * 2
    for path in written:
        assert (tmp_path / "again" / path).read_bytes() == (miniature / path).read_bytes()
    write_miniature(tmp_path / "other", pairs=(1, 0, 0), frames=1, size=64, seed=4)
    path = written[0]
    assert (tmp_path / "other" / path).read_bytes() != (miniature / path).read_bytes()
    assert read_pairs(tmp_path / "other" / "splits" / "test.json") == []


def test_a_group_by_itself(clips):
    group = render_group(1, 0, frames=4, seed=3)
    assert list(group) == ["real", *METHODS]
    for written, rendered in zip(clips[1], group.values(), strict=True):
        np.testing.assert_array_equal(written[..., ::-1], rendered)
    video = render_group(1, 0, frames=2, seed=3, fps=25)
    for method, frames in video.items():
        np.testing.assert_array_equal(frames[0], group[method][0])
        # 40 ms move a face less than half a second does
        steps = [np.abs(np.diff(c[:2].astype(int), axis=0)).mean() for c in (frames, group[method])]
        assert 0 < steps[0] < steps[1], method


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": -1}, "target must be at least 0, got -1"),
        ({"source": -1}, "source must be at least 0, got -1"),
        ({"frames": 0}, "frames must be at least 1, got 0"),
        ({"fps": 0}, "fps must be positive, got 0"),
    ],
)
def test_argument_errors_of_a_group(arguments, message):
    with pytest.raises(ValueError, match=message):
        render_group(**{"target": 0, "source": 1, **arguments})


def test_progress(tmp_path):
    calls = []
    write_miniature(tmp_path, pairs=(1, 0, 2), frames=1, size=16, progress=lambda *done: calls.append(done))
    assert calls == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pairs": (1, 1)}, "pairs must be three counts"),
        ({"pairs": (0, 0, 0)}, "pairs must be three counts"),
        ({"pairs": (1, -1, 1)}, "pairs must be three counts"),
        ({"frames": 0}, "frames must be at least 1, got 0"),
        ({"size": 8}, "size must be at least 16, got 8"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_argument_errors(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_miniature(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


def test_files_are_not_mixed_with_others(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    for folder in (tmp_path, tmp_path / "note.txt"):
        with pytest.raises(ValueError, match="folder must be new or empty"):
            write_miniature(folder)
