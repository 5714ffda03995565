"""Groups of FaceForensics++: both layouts, what an item shows, how draws repeat, and what is left out."""

import functools
import json
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Subset

cv2 = pytest.importorskip("cv2")

from dfmodels.data import (  # noqa: E402
    ForgeryGroups,
    Video,
    VideoFrames,
    collate_groups,
    deepfakebench_videos,
    folder_videos,
    make_groups,
    read_pairs,
)
from dfmodels.data.augmentation import GroupAugmentation  # noqa: E402
from dfmodels.data.groups import Moments, pair_frames  # noqa: E402
from dfmodels.data.index import REAL  # noqa: E402
from dfmodels.data.layouts import METHODS  # noqa: E402
from dfmodels.detector import InputContract  # noqa: E402
from dfmodels.video import VideoError  # noqa: E402

CONTRACT = InputContract(num_frames=1, size=(24, 40), mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.5))


@pytest.fixture
def copy(miniature, tmp_path):
    """A miniature to damage."""
    return shutil.copytree(miniature, tmp_path / "copy")


def videos(root, split="train", **options):
    return folder_videos(root, read_pairs(root / "splits" / f"{split}.json"), **options)


def groups(root, **options):
    return make_groups(videos(root), **options)


def resized(file):
    image = cv2.resize(cv2.imread(str(file)), CONTRACT.size[::-1], interpolation=cv2.INTER_CUBIC)
    return torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)


def empty(name, method="m", dataset="d"):
    return Video(Path("nowhere", method, name), 1, "train", dataset, method, name)


def fake_folder(root, method, name):
    return root / "manipulated_sequences" / method / "c23" / "frames" / name


# ---------------------------------------------------------------------- lists


def test_a_pair_makes_two_groups(miniature):
    found = groups(miniature)
    assert [[(video.method, video.id) for video in group] for group in found[:2]] == [
        [(REAL, "000"), *((method, "000_001") for method in METHODS)],
        [(REAL, "001"), *((method, "001_000") for method in METHODS)],
    ]
    assert [group[0].id for group in found] == ["000", "001", "002", "003"]
    assert found[0][3].frames[2] == fake_folder(miniature, "FaceSwap", "000_001") / "002.png"
    assert found[0][0].frames[0] == miniature / "original_sequences/youtube/c23/frames/000/000.png"


def test_both_layouts_give_the_same_groups(miniature):
    listed = deepfakebench_videos(miniature / "FaceForensics++.json", miniature, split="train")
    assert sorted(make_groups(listed), key=str) == sorted(groups(miniature), key=str)


def test_methods_and_folders_are_arguments(miniature, tmp_path):
    chosen = groups(miniature, methods=("FaceSwap", "Deepfakes"))
    assert [[video.method for video in group] for group in chosen] == [[REAL, "FaceSwap", "Deepfakes"]] * 4
    for where in ("original_sequences/youtube", "manipulated_sequences/Other"):
        for name in ("7", "8") if "youtube" in where else ("7_8", "8_7"):
            shutil.copytree(
                miniature / "original_sequences/youtube/c23/frames/000", tmp_path / where / "raw" / "faces" / name
            )
    found = folder_videos(tmp_path, [("7", "8")], methods=("Other",), compression="raw", frames="faces")
    assert [len(group) for group in make_groups(found, ("Other",))] == [2, 2]


def test_frames_are_in_natural_order(copy):
    folder = fake_folder(copy, "Deepfakes", "000_001")
    for old, new in (("000", "9"), ("001", "10"), ("002", "100"), ("003", "11")):
        (folder / f"{old}.png").rename(folder / f"{new}.png")
    assert [file.stem for file in groups(copy)[0][1].frames] == ["9", "10", "11", "100"]


def test_incomplete_groups_are_left_out_with_one_warning(copy):
    shutil.rmtree(fake_folder(copy, "FaceSwap", "000_001"))
    for file in fake_folder(copy, "NeuralTextures", "000_001").iterdir():
        file.unlink()
    shutil.rmtree(copy / "original_sequences/youtube/c23/frames/003")
    with pytest.warns(UserWarning, match="groups are left out") as caught:
        found = groups(copy)
    assert [group[0].id for group in found] == ["001", "002"]
    assert [str(warning.message) for warning in caught] == [
        "2 groups are left out: 000_001 (no FaceSwap 000_001, NeuralTextures 000_001); 003_002 (no real 003)"
    ]


@pytest.mark.parametrize("other", ["Thumbs.db", ".DS_Store", "._001.png", "notes.txt"])
def test_a_folder_without_images_is_left_out(copy, other):
    folder = copy / "original_sequences/youtube/c23/frames/003"
    for file in folder.iterdir():
        file.unlink()
    (folder / other).write_bytes(b"x")
    with pytest.warns(UserWarning, match=r"1 groups are left out: 003_002 \(no real 003\)"):
        assert len(groups(copy)) == 3


def test_a_real_video_without_fakes_is_named(miniature):
    listed = videos(miniature)
    with pytest.warns(UserWarning, match=r"1 groups are left out: 042 \(no fakes\)"):
        assert len(make_groups([*listed, replace(listed[0], id="042")])) == 4


def test_no_complete_group_is_an_error(miniature):
    with pytest.raises(ValueError, match=r"no complete group: 000_001 \(no FaceShifter 000_001\); 001_000"):
        make_groups(videos(miniature, methods=("FaceShifter",)), ("FaceShifter",))
    with pytest.raises(ValueError, match=r"no complete group$"):
        make_groups([])


def test_many_names_are_counted(miniature):
    listed = [empty(f"{n}_0") for n in range(11)]
    with pytest.raises(ValueError, match=r"7_0 \(no real 7, m 7_0\); and 3 more$"):
        make_groups(listed, ("m",))


@pytest.mark.parametrize("content", ['{"a": 1}', '[["000"]]', "[[1, 2]]", "[3]", "[["])
def test_split_file_errors(tmp_path, content):
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(ValueError, match=r"train\.json: (a split file must be a list of pairs|no JSON)"):
        read_pairs(tmp_path / "train.json")


def test_root_must_be_a_folder(tmp_path):
    with pytest.raises(ValueError, match=r"root must be the folder of FaceForensics\+\+, got .*nowhere"):
        folder_videos(tmp_path / "nowhere", [("0", "1")])


def bench_file(path, content):
    path.write_text(json.dumps(content))
    return path


def test_deepfakebench_file_without_compressions(tmp_path):
    entries = {"id0": {"label": "CelebDFv1_fake", "frames": ["Celeb\\fake\\id0\\0.png"]}}
    path = bench_file(tmp_path / "Celeb-DF-v1.json", {"Celeb-DF-v1": {"CelebDFv1_fake": {"test": entries}}})
    options = {"dataset": "Celeb-DF-v1", "compression": None, "labels": {"CelebDFv1_fake": "fake"}, "split": "test"}
    (video,) = deepfakebench_videos(path, tmp_path, **options)
    assert video == Video(tmp_path / "Celeb/fake/id0", 1, "test", "Celeb-DF-v1", "fake", "id0")


@pytest.mark.parametrize("entry", [{"label": "FF-DF"}, {"label": "FF-DF", "frames": None}, {"frames": []}, None])
def test_a_deepfakebench_entry_without_frames_is_left_out(miniature, tmp_path, entry):
    content = json.loads((miniature / "FaceForensics++.json").read_text())
    content["FaceForensics++"]["FF-DF"]["train"]["c23"]["001_000"] = entry
    listed = deepfakebench_videos(bench_file(tmp_path / "e.json", content), miniature, split="train")
    assert [(video.id, video.frames) for video in listed if not video.frames] == [("001_000", ())]
    with pytest.warns(UserWarning, match=r"1 groups are left out: 001_000 \(no Deepfakes 001_000\)"):
        assert len(make_groups(listed)) == 3


def test_null_in_place_of_a_path_is_passed_over(miniature, tmp_path):
    content = json.loads((miniature / "FaceForensics++.json").read_text())
    content["FaceForensics++"]["FF-DF"]["train"]["c23"]["001_000"]["frames"][1] = None
    listed = deepfakebench_videos(bench_file(tmp_path / "e.json", content), miniature, split="train")
    (video,) = (video for video in listed if (video.method, video.id) == ("Deepfakes", "001_000"))
    assert video.path == fake_folder(miniature, "Deepfakes", "001_000")


def test_frames_of_a_deepfakebench_entry_lie_in_one_folder(tmp_path):
    entries = {"0": {"label": "r", "frames": ["a/0.png", "b/1.png"]}}
    path = bench_file(tmp_path / "d.json", {"d": {"r": {"test": entries}}})
    with pytest.raises(ValueError, match="frames of r 0 must lie in one folder, got a, b"):
        deepfakebench_videos(path, tmp_path, split="test", dataset="d", compression=None, labels={"r": REAL})


@pytest.mark.parametrize("entry", [["a.png"], {"frames": "a.png"}, {"frames": ["a.png", 3]}, {"frames": 0}, 3])
def test_a_deepfakebench_entry_of_another_form(tmp_path, entry):
    content = {"FaceForensics++": {"FF-DF": {"train": {"c23": {"001_000": entry}}}}}
    with pytest.raises(ValueError, match=r'e.json: FF-DF 001_000 must be {"frames": \[path, ...\]}, got '):
        deepfakebench_videos(
            bench_file(tmp_path / "e.json", content), tmp_path, split="train", labels={"FF-DF": "Deepfakes"}
        )


def test_a_deepfakebench_list_in_place_of_videos(tmp_path):
    path = bench_file(tmp_path / "e.json", {"FaceForensics++": {"FF-DF": {"train": {"c23": []}}}})
    with pytest.raises(ValueError, match=r"e.json: .* expected videos by id, got list"):
        deepfakebench_videos(path, tmp_path, split="train", labels={"FF-DF": "Deepfakes"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "DFD"}, r"expected the key 'DFD', found FaceForensics\+\+"),
        ({"labels": {"FF-FH": "FaceShifter"}}, "expected the key 'FF-FH', found FF-real, FF-DF"),
        ({"split": "validation"}, "expected the key 'validation', found train, val, test"),
        ({"compression": "c40"}, "expected the key 'c40', found c23"),
    ],
)
def test_deepfakebench_key_errors(miniature, options, message):
    with pytest.raises(ValueError, match=message):
        deepfakebench_videos(miniature / "FaceForensics++.json", miniature, **({"split": "train"} | options))


def test_deepfakebench_paths_begin_at_the_root(tmp_path):
    entries = {"0": {"label": "r", "frames": ["/data/0.png"]}}
    path = bench_file(tmp_path / "d.json", {"d": {"r": {"test": entries}}})
    with pytest.raises(ValueError, match=r"frames of r 0 must be relative to root, got /data"):
        deepfakebench_videos(path, tmp_path, split="test", dataset="d", compression=None, labels={"r": REAL})


# ---------------------------------------------------------------------- items


def test_item_shows_one_frame_index_of_all_videos(miniature):
    found = groups(miniature)
    data = ForgeryGroups(found, CONTRACT, normalize=False)
    assert len(data) == 4
    for index, group in enumerate(found):
        images, labels = data[index]
        assert images.dtype == torch.uint8
        assert labels.tolist() == [0, 1, 2, 3, 4]
        candidates = [torch.stack([resized(video.frames[frame]) for video in group]) for frame in range(4)]
        assert sum(torch.equal(images, candidate) for candidate in candidates) == 1
    with pytest.raises(IndexError):
        data[4]
    assert torch.equal(data[-1][0], data[3][0])


def test_images_are_normalised_as_the_contract_says(miniature):
    plain, normal = (ForgeryGroups(groups(miniature), CONTRACT, normalize=flag)[1][0] for flag in (False, True))
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (CONTRACT.mean, CONTRACT.std))
    assert normal.shape == (5, 3, 24, 40)
    assert normal.is_contiguous()
    torch.testing.assert_close(normal, (plain.float() / 255 - mean) / std)


def test_transform_sees_a_resized_group_before_the_normalisation(miniature):
    seen = []

    def transform(images):
        seen.append((images.shape, images.dtype))
        return torch.full_like(images, 51)

    images, _ = ForgeryGroups(groups(miniature), CONTRACT, transform=transform)[0]
    assert seen == [((5, 3, 24, 40), torch.uint8)]
    assert torch.allclose(images[:, 0], torch.tensor((0.2 - 0.5) / 0.5))


def visits(data, epochs):
    """Frame number each video shows in every epoch, found by comparing pixels."""
    shown = []
    for epoch in range(epochs):
        data.set_epoch(epoch)
        images, _ = data[0]
        frames = [
            [frame for frame, file in enumerate(video.frames) if torch.equal(resized(file), image)]
            for video, image in zip(data.groups[0], images, strict=True)
        ]
        assert all(found == frames[0] for found in frames)
        shown += frames[0]
    return shown


@pytest.mark.parametrize("missing", [0, 1, 3])
def test_a_frame_that_one_video_lacks_is_left_out(copy, missing):
    """Wherever it is: the others stay with the frames of the same moment."""
    (fake_folder(copy, "Face2Face", "000_001") / f"00{missing}.png").unlink()
    left_out = r"frames that a video of their group lacks are left out: .*youtube/c23/frames/000 and its fakes \(1\)$"
    with pytest.warns(UserWarning, match=left_out):
        data = ForgeryGroups(groups(copy), CONTRACT, normalize=False)
    left = [name for name in range(4) if name != missing]
    assert [[file.stem for file in video.frames] for video in data.groups[0]] == [[f"00{name}" for name in left]] * 5
    assert set(visits(data, 30)) == {0, 1, 2}


def group(*names):
    return tuple(Moments(empty("1", f"m{i}"), tuple(map(Path, each))) for i, each in enumerate(names))


@pytest.mark.parametrize(
    ("names", "paired"),
    [
        ((["0.png", "1.png", "2.png"], ["1.jpg", "2.jpg"]), (["1.png", "2.png"], ["1.jpg", "2.jpg"])),
        ((["9.png", "10.png"], ["010.png", "009.png"]), (["9.png", "10.png"], ["009.png", "010.png"])),
        ((["071_3.png", "071_4.png"], ["071_054_4.png", "071_054_5.png"]), (["071_4.png"], ["071_054_4.png"])),
        ((["f03_face0.png", "f05_face0.png"], ["f05_face0.png", "f07_face0.png"]), (["f05_face0.png"],) * 2),
        ((["a.png", "b7.png"], ["b7.png", "c.png"]), (["b7.png"],) * 2),
        ((["a1.png"], ["b1.png"]), (["a1.png"], ["b1.png"])),
        ((["a1.png"], ["a2.png"]), None),
        ((["a.png", "b.png"], ["c.png", "d.png"]), None),
        ((["1_1.png", "2_2.png"], ["1.png", "2.png"]), None),  # which of the numbers is that of the frame?
    ],
)
def test_frames_are_paired_by_their_names(names, paired):
    found = pair_frames(group(*names))
    assert (found and tuple([file.name for file in video.frames] for video in found)) == paired


def test_names_without_anything_in_common_are_paired_by_position(copy):
    folder = fake_folder(copy, "Face2Face", "000_001")
    for name in ("b", "a", "c", "d"):
        next(folder.glob("0*.png")).rename(folder / f"{name}.png")
    (folder / "d.png").unlink()
    with pytest.warns(UserWarning, match="left out|by their positions") as caught:
        data = ForgeryGroups(groups(copy), CONTRACT, normalize=False)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 2
    assert "frames of 1 groups have no names in common and are paired by their positions" in messages[0]
    assert messages[0].endswith("/000 and its fakes")
    assert messages[1].endswith("/000 and its fakes (1)")
    assert [[file.stem for file in data.groups[0][at].frames] for at in (0, 2)] == [
        ["000", "001", "002"],
        ["a", "b", "c"],
    ]


def test_numbers_without_anything_in_common_are_never_paired(copy):
    for method, kept in (("Face2Face", 0), ("FaceSwap", 1)):
        for file in sorted(fake_folder(copy, method, "000_001").glob("*.png")):
            if int(file.stem) % 2 != kept:
                file.unlink()
    every = groups(copy)
    with pytest.warns(UserWarning, match=r"1 groups are left out, by the numbers of their frames .*/000 and its"):
        data = ForgeryGroups(every, CONTRACT, normalize=False)
    assert [group[0].id for group in data.groups] == [group[0].id for group in every[1:]]
    with pytest.raises(ValueError, match=r"groups must hold a frame that all their videos have, got none: .*/000 and"):
        ForgeryGroups(every[:1], CONTRACT)


def test_a_group_without_a_hole_is_quiet(miniature):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = ForgeryGroups(groups(miniature), CONTRACT)
        assert [tuple(found.video for found in group) for group in data.groups] == groups(miniature)


def test_draws_follow_from_seed_epoch_and_index_alone(miniature):
    def noisy(images):
        return images + torch.randint(100, images.shape, dtype=torch.uint8)

    data = ForgeryGroups(groups(miniature), CONTRACT, transform=noisy, normalize=False)
    first = [data[i][0] for i in range(4)]
    torch.manual_seed(11)
    state = torch.get_rng_state()
    assert all(torch.equal(data[i][0], first[i]) for i in (3, 1, 0, 2))
    assert torch.equal(torch.get_rng_state(), state)
    data.set_epoch(1)
    assert not any(torch.equal(data[i][0], first[i]) for i in range(4))
    data.set_epoch(0)
    assert torch.equal(data[2][0], first[2])
    other = ForgeryGroups(groups(miniature), CONTRACT, transform=noisy, normalize=False, seed=1)
    assert not torch.equal(other[2][0], first[2])


def test_groups_have_draws_of_their_own(miniature):
    drawn = []
    data = ForgeryGroups(groups(miniature), CONTRACT, transform=lambda images: drawn.append(torch.rand(())) or images)
    for index in range(4):
        data[index]
    assert len({float(value) for value in drawn}) == 4


def test_workers_do_not_change_the_draws(miniature):
    data = ForgeryGroups(groups(miniature), CONTRACT, transform=lambda images: images + torch.randint(9, (1,)).byte())
    workers = DataLoader(data, batch_size=2, num_workers=2, persistent_workers=True)
    for epoch in range(2):
        data.set_epoch(epoch)
        alone = list(DataLoader(data, batch_size=2))
        together = list(workers)
        assert [images.shape for images, _ in together] == [(2, 5, 3, 24, 40)] * 2
        for (images, labels), (want, want_labels) in zip(together, alone, strict=True):
            assert torch.equal(images, want)
            assert torch.equal(labels, want_labels)


def test_augmentation_fits(miniature):
    data = ForgeryGroups(groups(miniature), CONTRACT, transform=GroupAugmentation(1.0))
    plain = ForgeryGroups(groups(miniature), CONTRACT)
    assert data[0][0].shape == (5, 3, 24, 40)
    assert all(not torch.equal(a, b) for a, b in zip(data[0][0], plain[0][0], strict=True))


def test_a_damaged_image_is_named(copy):
    for n in range(4):
        file = fake_folder(copy, "NeuralTextures", "001_000") / f"{n:03d}.png"
        file.write_bytes(file.read_bytes()[:40])
    data = ForgeryGroups(groups(copy), CONTRACT)
    data[0]
    with (
        pytest.warns(UserWarning, match="a frame of .*youtube/c23/frames/001 and its fakes"),
        pytest.raises(VideoError, match=r"NeuralTextures/c23/frames/001_000/00\d\.png: the image is broken"),
    ):
        data[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_reported_once_and_skipped(copy, workers):
    file = fake_folder(copy, "NeuralTextures", "000_001") / "002.png"
    file.write_bytes(file.read_bytes()[:40])
    seen = []
    data = ForgeryGroups(groups(copy), CONTRACT, normalize=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for epoch in range(20):
            data.set_epoch(epoch)
            seen += [images[0] for images, _ in DataLoader(Subset(data, [0, 1]), num_workers=workers)][:1]
    if not workers:  # those of workers go to their own standard error
        (message,) = {str(warning.message) for warning in caught}
        assert len(caught) == 1
        assert re.match("a frame of .*/000 and its fakes is left out: ", message)
        assert "000_001/002.png: the image is broken" in message
    assert int(data._reported.sum()) == 1
    real = [resized(file) for file in data.groups[0][0].frames]
    shown = {next(i for i, image in enumerate(real) if torch.equal(image, group[0])) for group in seen}
    assert shown == {0, 1, 3}
    for images in seen:
        frame = next(i for i, image in enumerate(real) if torch.equal(image, images[0]))
        for video, image in zip(data.groups[0], images, strict=True):
            assert torch.equal(resized(video.frames[frame]), image)


def test_a_video_without_frames_makes_no_group(miniature):
    whole = groups(miniature)[0]
    with pytest.raises(ValueError, match=r"groups must hold videos with frames, got none of .*nowhere/m/1$"):
        ForgeryGroups([(*whole[:4], empty("1"))], CONTRACT)


def test_groups_must_be_of_one_length(miniature):
    found = groups(miniature)
    for bad, lengths in (([], r"\[\]"), ([found[0], found[1][:3]], r"\[3, 5\]")):
        with pytest.raises(ValueError, match=f"groups must be one or more of equal length, got lengths {lengths}"):
            ForgeryGroups(bad, CONTRACT)


# ---------------------------------------------------------------------- collate


@given(num_groups=st.integers(1, 5), num_images=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
def test_collate_sorts_every_group(num_groups, num_images, seed):
    rng = np.random.default_rng(seed)
    items, want = [], torch.empty(num_groups, num_images, 3, 2, 3)
    for group in range(num_groups):
        for label in rng.permutation(num_images):
            want[group, label] = image = torch.full((3, 2, 3), float(100 * group + label))
            items.append((image, int(label)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images, labels = collate_groups(items, num_images)
    assert torch.equal(images, want)
    assert torch.equal(labels, torch.arange(num_images).expand(num_groups, num_images))


def test_collate_leaves_incomplete_groups_out():
    labels = [0, 1, 2, 2, 1, 1, 2, 0, 1, 0, 3, 1]
    items = [(torch.full((3, 1, 1), float(n)), label) for n, label in enumerate(labels)]
    with pytest.warns(UserWarning, match=r"2 of 4 groups are left out: .* 0 to 2, got \[\[1, 1, 2\], \[0, 1, 3\]\]"):
        images, sorted_labels = collate_groups(items, 3)
    assert images[:, :, 0, 0, 0].tolist() == [[0, 1, 2], [7, 8, 6]]
    assert sorted_labels.tolist() == [[0, 1, 2]] * 2


def test_collate_errors():
    items = [(torch.zeros(3, 1, 1), label) for label in (0, 1, 1, 1)]
    with pytest.raises(ValueError, match="items must be a multiple of 5, the images of a group, got 4"):
        collate_groups(items)
    with pytest.raises(ValueError, match=r"labels of a group must be 0 to 3, got \[\[0, 1, 1, 1\]\]"):
        collate_groups(items, 4)


def test_collate_serves_a_loader():
    data = [(torch.full((3, 2, 2), float(n)), n % 3) for n in range(12)]
    loader = DataLoader(data, batch_size=6, collate_fn=functools.partial(collate_groups, num_images=3))
    assert [tuple(images.shape) for images, _ in loader] == [(2, 3, 3, 2, 2)] * 2


# ---------------------------------------------------------------------- single frames


def test_every_frame_of_every_video(copy):
    (fake_folder(copy, "Deepfakes", "006_007") / "001.png").unlink()
    listed = videos(copy, "test")
    data = VideoFrames(listed, CONTRACT, normalize=False)
    want = [(file, video) for video in listed for file in video.frames]
    assert len(data) == len(want) == 4 * 5 * 4 - 1
    for (image, label, key), (file, video) in zip((data[n] for n in range(len(data))), want, strict=True):
        assert torch.equal(image, resized(file))
        assert (label, key) == (video.method != REAL, video.key)
    assert torch.equal(data[-1][0], data[len(data) - 1][0])


def test_a_loader_leaves_damaged_frames_out(copy):
    data = VideoFrames(videos(copy), CONTRACT, normalize=False)
    data.videos[0].frames[2].write_bytes(b"no image")
    whole = [resized(file) for file in data.videos[0].frames[:2]]
    with pytest.warns(UserWarning, match=r"a frame is left out: .*frames/000/002.png: the image is broken"):
        images, _, keys = next(iter(DataLoader(data, batch_size=4)))
    assert keys == (data.videos[0].key,) * 3
    assert torch.equal(images[:2], torch.stack(whole))
    for read in (lambda: data[2], lambda: data.__getitems__([2])):
        with pytest.raises(VideoError, match=r"002\.png: the image is broken"):
            read()


def test_fakes_of_a_pair_are_separate_videos(miniature):
    data = VideoFrames(videos(miniature, "test"), CONTRACT)
    keys = []
    for images, labels, batch in DataLoader(data, batch_size=16):
        assert images.shape[1:] == (3, 24, 40)
        assert labels.tolist() == ["youtube" not in key for key in batch]
        keys += batch
    assert len(set(keys)) == 4 * 5
    assert all(keys.count(key) == 4 for key in keys)


def test_single_frames_are_normalised(miniature):
    plain, normal = (VideoFrames(videos(miniature), CONTRACT, normalize=flag)[9][0] for flag in (False, True))
    torch.testing.assert_close(normal, CONTRACT.normalize(plain.permute(1, 2, 0)))


def test_videos_without_frames_are_named(copy):
    shutil.rmtree(fake_folder(copy, "FaceSwap", "006_007"))
    with pytest.warns(UserWarning, match=r"1 videos without frames are left out: .*FaceSwap/c23/frames/006_007"):
        assert len(VideoFrames(videos(copy, "test"), CONTRACT).videos) == 19
    with pytest.raises(ValueError, match=r"videos must hold one with frames, got none: .*nowhere/m/1"):
        VideoFrames([empty("1")], CONTRACT)


def test_videos_must_differ(miniature):
    listed = videos(miniature)
    with pytest.raises(ValueError, match=r"got twice: .*/frames/000$"):
        VideoFrames([*listed, listed[0]], CONTRACT)


@pytest.mark.parametrize("index", [80, -81])
def test_index_errors(miniature, index):
    with pytest.raises(IndexError, match=r"index must lie in \[-80, 80\)"):
        VideoFrames(videos(miniature), CONTRACT)[index]
