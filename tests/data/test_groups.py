"""Groups of FaceForensics++: both layouts, what an item shows, how draws repeat, and what is left out."""

import json
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

cv2 = pytest.importorskip("cv2")

import dfmodels  # noqa: E402
from dfmodels.cli import main  # noqa: E402
from dfmodels.data import (  # noqa: E402
    CropSource,
    ForgeryGroups,
    Video,
    deepfakebench_videos,
    folder_videos,
    load_videos,
    make_groups,
    read_pairs,
    write_index,
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
    """An image as the network sees it, by the path of scoring."""
    image = cv2.resize(cv2.imread(str(file)), CONTRACT.size[::-1], interpolation=cv2.INTER_LINEAR)
    return CONTRACT.normalize(torch.from_numpy(image[..., ::-1].copy()))


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
    data = ForgeryGroups(found, CONTRACT)
    assert len(data) == 4
    for index, group in enumerate(found):
        sample = data[index]
        images = sample["images"]
        assert images.is_contiguous()
        assert sample["label"].tolist() == [0, 1, 1, 1, 1]
        assert (sample["video"], sample["failed"]) == (group[0].key, "")
        candidates = [torch.stack([resized(video.frames[frame]) for video in group]) for frame in range(4)]
        assert sum(torch.equal(images, candidate) for candidate in candidates) == 1
    with pytest.raises(IndexError):
        data[4]


def test_transform_sees_a_resized_group_before_the_normalisation(miniature):
    seen = []

    def transform(images):
        seen.append((images.shape, images.dtype))
        return torch.full_like(images, 51)

    images = ForgeryGroups(groups(miniature), CONTRACT, transform=transform)[0]["images"]
    assert seen == [((5, 3, 24, 40), torch.uint8)]
    assert torch.allclose(images[:, 0], torch.tensor((0.2 - 0.5) / 0.5))


def visits(data, epochs):
    """Frame number each video shows in every epoch, found by comparing pixels."""
    shown = []
    for epoch in range(epochs):
        data.set_epoch(epoch)
        images = data[0]["images"]
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
        data = ForgeryGroups(groups(copy), CONTRACT)
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
        data = ForgeryGroups(groups(copy), CONTRACT)
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
        data = ForgeryGroups(every, CONTRACT)
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

    data = ForgeryGroups(groups(miniature), CONTRACT, transform=noisy)
    first = [data[i]["images"] for i in range(4)]
    torch.manual_seed(11)
    state = torch.get_rng_state()
    assert all(torch.equal(data[i]["images"], first[i]) for i in (3, 1, 0, 2))
    assert torch.equal(torch.get_rng_state(), state)
    data.set_epoch(1)
    assert not any(torch.equal(data[i]["images"], first[i]) for i in range(4))
    data.set_epoch(0)
    assert torch.equal(data[2]["images"], first[2])
    other = ForgeryGroups(groups(miniature), CONTRACT, transform=noisy, seed=1)
    assert not torch.equal(other[2]["images"], first[2])


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
        assert [batch["images"].shape for batch in together] == [(2, 5, 3, 24, 40)] * 2
        for batch, want in zip(together, alone, strict=True):
            assert torch.equal(batch["images"], want["images"])
            assert torch.equal(batch["label"], want["label"])
            assert batch["video"] == want["video"]


def test_augmentation_fits(miniature):
    data = ForgeryGroups(groups(miniature), CONTRACT, transform=GroupAugmentation(1.0))
    plain = ForgeryGroups(groups(miniature), CONTRACT)
    assert data[0]["images"].shape == (5, 3, 24, 40)
    assert all(not torch.equal(a, b) for a, b in zip(data[0]["images"], plain[0]["images"], strict=True))


def test_in_place_of_a_group_that_cannot_be_read_the_next_one_is_shown(copy):
    def damage(name):
        for n in range(4):
            file = fake_folder(copy, "NeuralTextures", name) / f"{n:03d}.png"
            file.write_bytes(file.read_bytes()[:40])

    damage("001_000")
    data = ForgeryGroups(groups(copy), CONTRACT)
    with pytest.warns(UserWarning, match="a frame of .*youtube/c23/frames/001 and its fakes"):
        sample = data[1]
    assert sample["video"] == data.groups[2][0].key
    assert sample["failed"].startswith(f"{data.groups[1][4].key}: ")
    assert re.search(r"NeuralTextures/c23/frames/001_000/00\d\.png: the image is broken", sample["failed"])
    for name in ("000_001", "002_003", "003_002"):
        damage(name)
    with (
        pytest.warns(UserWarning, match="a frame of"),
        pytest.raises(VideoError, match=r"none of the 4 groups can be read; the last one: .*: the image is broken"),
    ):
        data[3]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_reported_once_and_skipped(copy, workers):
    file = fake_folder(copy, "NeuralTextures", "000_001") / "002.png"
    file.write_bytes(file.read_bytes()[:40])
    seen = []
    data = ForgeryGroups(groups(copy), CONTRACT)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for epoch in range(20):
            data.set_epoch(epoch)
            seen += [batch["images"][0] for batch in DataLoader(Subset(data, [0, 1]), num_workers=workers)][:1]
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


def test_a_group_has_several_samples_and_margins_of_its_own(miniature):
    data = ForgeryGroups(groups(miniature), CONTRACT, samples_per_group=3)
    assert len(data) == 12
    assert [data[i]["video"] for i in (0, 2, 3, 11)] == [data.groups[i][0].key for i in (0, 0, 1, 3)]
    for options, message in (
        ({"samples_per_group": 0}, "samples_per_group must be a whole number of at least 1"),
        ({"margins": (0.0, 1.0)}, "margins must be"),
    ):
        with pytest.raises(ValueError, match=message):
            ForgeryGroups(groups(miniature), CONTRACT, **options)


# ---------------------------------------------------------------------- films


@pytest.fixture
def films(tmp_path):
    """Rows of a real film and two forgeries of it, of unlike lengths, each picture as bright as its number says."""
    rows = []
    for method, name, length, offset in (("real", "0", 45, 0), ("B", "0_1", 45, 100), ("A", "0_1", 33, 50)):
        path = tmp_path / f"{method}-{name}.mkv"
        write_grey(path, [offset + 2 * t for t in range(length)])
        rows.append(Video(path, int(method != "real"), "train", "Grey", method, name, "0" if method != "real" else ""))
    return rows


def write_grey(path, levels):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for level in levels:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode())


def test_films_show_frames_of_one_number(films):
    (group,) = make_groups(films)
    assert [video.method for video in group] == ["real", "A", "B"]
    data = ForgeryGroups([group], CONTRACT)
    seen = set()
    for epoch in range(40):
        data.set_epoch(epoch)
        images = data[0]["images"]
        levels = ((images[:, 0] * 0.5 + 0.5) * 255).mean((1, 2)).round().int().tolist()
        number = levels[0] // 2
        assert levels == [2 * number, 50 + 2 * number, 100 + 2 * number]
        seen.add(number)
    assert seen == {0, 10, 20, 30}


def test_a_film_that_cannot_be_read_costs_its_group(films):
    films[1].path.write_bytes(films[1].path.read_bytes()[:300])
    data = ForgeryGroups(make_groups(films), CONTRACT)
    with pytest.raises(VideoError, match=r"none of the 1 groups can be read; the last one: .*B-0_1\.mkv"):
        data[0]


def test_films_and_folders_make_no_group(films, miniature):
    folder = videos(miniature)[0]
    with (
        pytest.raises(
            ValueError, match=r"groups must hold a frame that all their videos have, got none: .*real-0\.mkv"
        ),
    ):
        ForgeryGroups([(films[0], folder)], CONTRACT)


def test_groups_are_of_one_data_set_and_compression(films):
    other = [replace(video, compression="c40") for video in films]
    assert len(make_groups([*films, *other])) == 2
    with pytest.warns(UserWarning, match=r"1 groups are left out: 0_1 \(no A 0_1\)"):
        assert len(make_groups([*films, *other[:2]])) == 1


def test_prepared_groups_are_those_that_were_not(films, miniature, tmp_path, caplog):
    """`dfmodels prepare --model lsda` looks at the moments that groups are drawn from."""
    write_index(tmp_path / "films.csv", films)
    contract = dfmodels.build("lsda", size=64, encoder="plain").contract
    for data in (tmp_path / "films.csv", miniature):
        cache = tmp_path / f"cache-{data.name}"
        arguments = ["prepare", str(data), "--model", "lsda", "--set", "model.size=64", "--cache", str(cache)]
        assert main([*arguments, "--faces", "none", "--workers", "1"]) == 0
        found = make_groups(video for video in load_videos(data) if video.split == "train")
        caplog.clear()
        prepared = ForgeryGroups(found, contract, CropSource(cache=cache))[0]
        assert not caplog.records
        assert torch.equal(prepared["images"], ForgeryGroups(found, contract)[0]["images"])
