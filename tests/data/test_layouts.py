"""Every layout, generated small: what becomes a row of which split, and what is named because it does not."""

import json
import os
import shutil
from collections import defaultdict

import pytest

from dfmodels.data.index import where
from dfmodels.data.layouts import LAYOUTS, folder_videos, index_root
from dfmodels.data.layouts.deepfakebench import method_of
from tests.data.trees import faceforensics, films, frames, rows, texts


def only(listing, reason):
    """The names left out for a reason, of which a part is given."""
    (names,) = [names for known, names in listing.left_out.items() if reason in known]
    return names


def splits_of_identities(videos):
    found = defaultdict(set)
    for video in videos:
        for identity in video.identities:
            found[identity].add(video.split)
    return found


# ---------------------------------------------------------------------- FaceForensics++


@pytest.mark.parametrize("form", ["videos", "frames", "images"])
def test_faceforensics(tmp_path, form):
    listing = index_root(faceforensics(tmp_path, form=form))
    assert listing.layout == "faceforensics"
    assert "splits/train.json, splits/val.json, splits/test.json" in listing.how
    assert listing.left_out == {}
    assert rows(v for v in listing.videos if v.split == "val") == [
        (0, "val", "real", "002", "", ""),
        (0, "val", "real", "003", "", ""),
        (1, "val", "Deepfakes", "002_003", "002", "003"),
        (1, "val", "Deepfakes", "003_002", "003", "002"),
        (1, "val", "FaceShifter", "002_003", "002", "003"),
        (1, "val", "FaceShifter", "003_002", "003", "002"),
    ]
    assert {(v.dataset, v.compression) for v in listing.videos} == {("FaceForensics++", "c23")}
    assert len(listing.videos) == 18
    assert all(v.path.exists() and v.path.is_absolute() for v in listing.videos)


def test_split_files_may_lie_beside_the_folders(tmp_path):
    faceforensics(tmp_path)
    for split in ("train", "val", "test"):
        (tmp_path / "splits" / f"{split}.json").rename(tmp_path / f"{split}.json")
    listing = index_root(tmp_path)
    assert "splits by train.json, val.json, test.json" in listing.how
    assert {v.split for v in listing.videos} == {"train", "val", "test"}


def test_rows_equal_those_of_the_functions(tmp_path):
    listing = index_root(faceforensics(tmp_path, form="frames"))
    named = folder_videos(tmp_path, [("004", "005")], split="test", methods=("Deepfakes", "FaceShifter"))
    assert set(named) == {v for v in listing.videos if v.split == "test"}


def test_what_faceforensics_leaves_out_is_named(tmp_path):
    faceforensics(tmp_path, compressions=("raw", "c40"))
    films(
        tmp_path,
        "manipulated_sequences/Deepfakes/masks/videos/000_001.mp4",
        "manipulated_sequences/Deepfakes/c40/videos/000_004.mp4",
        "odd/clip.mp4",
        "original_sequences/youtube/c40/videos/000.mp5",
    )
    (tmp_path / "original_sequences/youtube/c40/videos/005.mp4").unlink()
    (tmp_path / "nothing").mkdir()
    listing = index_root(tmp_path)
    assert {v.compression for v in listing.videos} == {"raw", "c40"}
    assert only(listing, "masks") == ["manipulated_sequences/Deepfakes/masks/videos/000_001.mp4"]
    assert only(listing, "in no split file") == ["manipulated_sequences/Deepfakes/c40/videos/000_004.mp4"]
    assert only(listing, "not there") == ["original_sequences/youtube/c40/005"]
    assert only(listing, "not part") == ["odd/clip.mp4"]
    assert only(listing, "hold no video") == ["nothing"]
    assert len(listing.left_out) == 5
    assert "1 files .mp5 are no videos (original_sequences/youtube/c40/videos/000.mp5)" in listing.notes


def test_films_are_not_mixed_with_their_frames(tmp_path):
    faceforensics(tmp_path)
    frames(tmp_path, "original_sequences/youtube/c23/frames/000")
    listing = index_root(tmp_path)
    assert len(listing.videos) == 18
    assert only(listing, "lie in frames") == ["original_sequences/youtube/c23/frames/000"]


def test_deepfakedetection_is_a_further_method_and_test(tmp_path):
    faceforensics(tmp_path)
    films(
        tmp_path,
        "original_sequences/actors/c23/videos/01__exit_phone_room.mp4",
        "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__exit_phone_room__YVGY8LOK.mp4",
    )
    listing = index_root(tmp_path)
    real, fake = sorted((v for v in listing.videos if "__" in v.id), key=lambda v: v.label)
    assert listing.left_out == {}
    assert (real.method, real.split, real.identities) == ("real", "test", {("FaceForensics++", "01")})
    assert (fake.method, fake.split, fake.target, fake.source) == ("DeepFakeDetection", "test", "01", "02")
    official = where(listing.videos, {"split": "test", "method": ["real", "Deepfakes", "FaceShifter"]})
    assert {v.id for v in official} == {"004", "005", "004_005", "005_004", real.id}


def test_a_validation_file_without_pairs_is_no_validation_split(tmp_path):
    pairs = [(f"{n:03d}", f"{n + 1:03d}") for n in range(0, 120, 2)]
    listing = index_root(faceforensics(tmp_path, {"train": pairs[:50], "val": [], "test": pairs[50:]}))
    assert "splits by splits/train.json, splits/val.json, splits/test.json" in listing.how
    assert any("FaceForensics++ has no validation split" in note for note in listing.notes)
    assert all((v.split == "test") == (v.id >= "100") for v in listing.videos)
    assert {v.label for v in listing.videos if v.split == "val"} == {0, 1}
    assert all(len(splits) == 1 for splits in splits_of_identities(listing.videos).values())


def test_without_split_files_pairs_stay_together(tmp_path):
    pairs = [(f"{n:03d}", f"{n + 1:03d}") for n in range(0, 120, 2)]
    listing = index_root(faceforensics(tmp_path, {"train": pairs}))  # so is a test file that lacks the others
    assert {v.split for v in listing.videos} == {"train", "val"}
    shutil.rmtree(tmp_path / "splits")
    again = index_root(tmp_path)
    assert "no split file" in again.how
    assert again.videos == listing.videos
    assert all(len(splits) == 1 for splits in splits_of_identities(listing.videos).values())
    val = [v for v in listing.videos if v.split == "val"]
    assert 0.02 < len(val) / len(listing.videos) < 0.25
    assert {v.label for v in val} == {0, 1}


# ---------------------------------------------------------------------- Celeb-DF


def celebdf(root, people=4, form="", more=()):
    names = [f"Celeb-real/{form}id{n}_{k:04d}.mp4" for n in range(people) for k in range(2)]
    names += [f"Celeb-synthesis/{form}id{n}_id{n ^ 1}_0000.mp4" for n in range(people)]
    films(root, *names, *(f"YouTube-real/{form}{n:05d}.mp4" for n in range(3)), *more)
    texts(
        root,
        **{
            "List_of_testing_videos.txt": "1 Celeb-real/id0_0000.mp4\n0 Celeb-synthesis/id0_id1_0000.mp4\n\n"
            "1 YouTube-real/00002.mp4\r\n0 Celeb-synthesis/id99_id98_0000.mp4\n"
        },
    )
    return root


@pytest.mark.parametrize("form", ["", "videos/"])
def test_celebdf(tmp_path, form):
    listing = index_root(celebdf(tmp_path / "Celeb-DF-v2", 30, form))
    assert listing.layout == "celebdf"
    assert {v.dataset for v in listing.videos} == {"Celeb-DF-v2"}
    assert rows(v for v in listing.videos if v.split == "test") == [
        (0, "test", "real", "00002", "", ""),
        (0, "test", "real", "id0_0000", "", ""),
        (1, "test", "Celeb-synthesis", "id0_id1_0000", "id0", "id1"),
    ]
    assert only(listing, "not there") == ["Celeb-synthesis/id99_id98_0000"]
    assert len(listing.videos) == 60 + 30 + 3
    rest = splits_of_identities(v for v in listing.videos if v.split != "test")
    assert {len(splits) for splits in rest.values()} == {1}
    assert {v.label for v in listing.videos if v.split == "val"} == {0, 1}


def test_people_who_are_all_linked_are_drawn_one_by_one(tmp_path):
    more = [f"Celeb-synthesis/id{a}_id{b}_0001.mp4" for a in range(40) for b in range(40) if a != b]
    listing = index_root(celebdf(tmp_path, 40, more=more))
    between = only(listing, "show a person of training with one of validation")
    assert len(between) + len(listing.videos) == 80 + 40 + len(more) + 3
    assert {v.label for v in listing.videos if v.split == "val"} == {0, 1}
    assert len(between) < 0.4 * len(more)
    rest = splits_of_identities(v for v in listing.videos if v.split != "test")
    assert {len(splits) for splits in rest.values()} == {1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 Celeb-real/id0_0000.mp4", "line 2: in this list 1 is real and 0 fake, which Celeb-real contradicts"),
        ("Celeb-real/id0_0000.mp4", "line 2: expected a label and a video of Celeb-real, YouTube-real"),
        ("1 Celeb-reel/id0_0000.mp4", "line 2: expected a label and a video"),
    ],
)
def test_a_wrong_line_of_the_list(tmp_path, line, message):
    celebdf(tmp_path)
    texts(tmp_path, **{"List_of_testing_videos.txt": f"1 YouTube-real/00001.mp4\n{line}\n"})
    with pytest.raises(ValueError, match=rf"List_of_testing_videos\.txt, {message}"):
        index_root(tmp_path)


# ---------------------------------------------------------------------- DFDC


def part(number):
    told = {f"r{number}{n}.mp4": {"label": "REAL", "split": "train", "original": None} for n in range(6)}
    told |= {
        f"f{number}{n}.mp4": {"label": "FAKE", "split": "train", "original": f"r{number}{n}.mp4"} for n in range(6)
    }
    return told


def test_dfdc_in_parts(tmp_path):
    for number in range(5):
        folder = tmp_path / f"dfdc_train_part_{number}"
        films(folder, *part(number))
        texts(folder, **{"metadata.json": part(number) | {"gone.mp4": {"label": "REAL"}}})
    films(tmp_path, "dfdc_train_part_0/unknown.mp4")
    listing = index_root(tmp_path)
    assert listing.layout == "dfdc"
    assert len(listing.videos) == 60
    assert [(v.dataset, v.label, v.method, v.target) for v in listing.videos if v.id in ("r12", "f12")] == [
        ("DFDC", 0, "real", ""),
        ("DFDC", 1, "DFDC", "r12"),
    ]
    assert only(listing, "in metadata.json and not there") == [f"dfdc_train_part_{n}/gone.mp4" for n in range(5)]
    assert only(listing, "not part") == ["dfdc_train_part_0/unknown.mp4"]
    assert {len(splits) for splits in splits_of_identities(listing.videos).values()} == {1}
    assert {v.label for v in listing.videos if v.split == "val"} == {0, 1}


def test_dfdc_in_the_root_and_its_test_by_a_table(tmp_path):
    films(tmp_path, *part(0))
    texts(tmp_path, **{"metadata.json": part(0)})
    films(tmp_path, "test/videos/a.mp4", "test/videos/b.mp4")
    texts(tmp_path, **{"test/labels.csv": "filename,label\na.mp4,0\nb.mp4,1\n"})
    listing = index_root(tmp_path)
    assert listing.left_out == {}
    assert rows(v for v in listing.videos if v.split == "test") == [
        (0, "test", "real", "a", "", ""),
        (1, "test", "DFDC", "b", "", ""),
    ]


def test_a_wrong_label_of_dfdc(tmp_path):
    films(tmp_path, "a.mp4", "b.mp4")
    texts(tmp_path, **{"metadata.json": {"b.mp4": {"label": "REAL"}, "a.mp4": {"label": "MAYBE"}}})
    with pytest.raises(ValueError, match=r"metadata.json: the label of a.mp4 must be REAL or FAKE, got 'MAYBE'"):
        index_root(tmp_path)


@pytest.mark.parametrize("form", ["", "videos/"])
def test_dfdc_preview(tmp_path, form):
    told = {}
    for person in range(40):
        told[f"original_videos/{person}/{person}_A_000.mp4"] = {"label": "real", "set": "train", "target_id": person}
        told[f"method_A/{person}/{person}_A_000_x.mp4"] = {
            **{"label": "fake", "set": "train", "target_id": person, "swapped_id": person ^ 1}
        }
    told["method_B/99/99_A_001.mp4"] = {"label": "fake", "set": "test", "target_id": 99, "swapped_id": 98}
    told["method_B/99/gone.mp4"] = told["method_B/99/99_A_001.mp4"]
    texts(tmp_path, **{"dataset.json": told})
    films(tmp_path, *(name.replace("/", f"/{form}", 1) for name in list(told)[:-1]))
    listing = index_root(tmp_path)
    assert listing.layout == "dfdc-preview"
    assert only(listing, "not there") == ["method_B/99/gone.mp4"]
    assert rows(v for v in listing.videos if v.split == "test") == [(1, "test", "method_B", "99_A_001", "99", "98")]
    assert len(listing.videos) == 81
    assert {v.split for v in listing.videos} == {"train", "val", "test"}
    assert {len(splits) for splits in splits_of_identities(listing.videos).values()} == {1}


# ---------------------------------------------------------------------- folders that say it all


def test_dfd(tmp_path):
    films(
        tmp_path,
        "DFD_original_sequences/01__exit_phone_room.mp4",
        "DFD_manipulated_sequences/DFD_manipulated_sequences/01_02__exit_phone_room__YVGY8LOK.mp4",
    )
    listing = index_root(tmp_path)
    assert (listing.layout, listing.left_out) == ("dfd", {})
    assert rows(listing.videos) == [
        (0, "test", "real", "01__exit_phone_room", "", ""),
        (1, "test", "DeepFakeDetection", "01_02__exit_phone_room__YVGY8LOK", "01", "02"),
    ]


def test_wilddeepfake(tmp_path):
    frames(
        tmp_path,
        *(f"{c}_{s}/{n}/{c}/{k}" for c in ("real", "fake") for s in ("train", "test") for n in range(30) for k in "12"),
    )
    films(tmp_path, "real_train/31.tar.gz")
    listing = index_root(tmp_path)
    assert (listing.layout, listing.left_out) == ("wilddeepfake", {})
    assert len(listing.videos) == 240
    assert {(v.label, v.method) for v in listing.videos} == {(0, "real"), (1, "WildDeepfake")}
    assert sum(v.split == "test" for v in listing.videos) == 120
    assert {v.label for v in listing.videos if v.split == "val"} == {0, 1}
    by_video = defaultdict(set)
    for video in listing.videos:
        by_video[video.path.parents[1]].add(video.split)
    assert {len(splits) for splits in by_video.values()} == {1}
    assert "1 files .gz are no videos (real_train/31.tar.gz)" in listing.notes


@pytest.mark.parametrize("form", ["", "videos/"])
def test_ffiw(tmp_path, form):
    names = [f"{c}/{s}/{form}{s}_{n}.mp4" for c in ("source", "target") for s in ("train", "val", "test") for n in "12"]
    films(tmp_path / "FFIW10K-v1-release", *names)
    listing = index_root(tmp_path)
    assert (listing.layout, listing.left_out) == ("ffiw", {})
    assert rows(v for v in listing.videos if v.split == "val") == [
        (0, "val", "real", "val_1", "", ""),
        (0, "val", "real", "val_2", "", ""),
        (1, "val", "FFIW", "val_1", "val_1", ""),
        (1, "val", "FFIW", "val_2", "val_2", ""),
    ]
    assert len(listing.videos) == 12


@pytest.mark.parametrize("reverse", [False, True])
def test_plain_with_splits(tmp_path, reverse):
    for split in ("Train", "valid", "test"):
        for kind in ("Real", "fake"):
            films(tmp_path, f"{kind}/{split}/{kind}{split}.mp4" if reverse else f"{split}/{kind}/{kind}{split}.mp4")
    films(tmp_path, "fake/Train/GAN/a.mp4" if reverse else "Train/fake/GAN/a.mp4")
    listing = index_root(tmp_path)
    assert (listing.layout, listing.left_out, listing.notes) == ("plain", {}, [])
    assert rows(listing.videos) == [
        (0, "test", "real", "Realtest", "", ""),
        (0, "train", "real", "RealTrain", "", ""),
        (0, "val", "real", "Realvalid", "", ""),
        (1, "test", "fake", "faketest", "", ""),
        (1, "train", "GAN", "a", "", ""),
        (1, "train", "fake", "fakeTrain", "", ""),
        (1, "val", "fake", "fakevalid", "", ""),
    ]
    assert {v.dataset for v in listing.videos} == {tmp_path.name}


def test_plain_without_splits(tmp_path):
    films(tmp_path, *(f"real/{n:02d}.mp4" for n in range(40)), *(f"fake/{n:02d}.mp4" for n in range(20)))
    frames(tmp_path, "fake/frames/clip")
    listing = index_root(tmp_path)
    assert {v.split for v in listing.videos} == {"train", "val"}
    assert {v.label for v in listing.videos if v.split == "val"} == {0, 1}
    assert len(listing.videos) == 61
    assert all(len(splits) == 1 for splits in splits_of_identities(listing.videos).values())
    assert [v.target for v in listing.videos if (v.label, v.id) == (1, "07")] == ["07"]
    # what is added moves nobody else
    films(tmp_path, *(f"real/{n:02d}.mp4" for n in range(40, 60)))
    again = {v.path: v.split for v in index_root(tmp_path).videos}
    assert all(again[v.path] == v.split for v in listing.videos)


def test_images_of_a_class_are_videos_of_one_frame(tmp_path):
    films(tmp_path, *(f"test/{kind}/{n}.jpg" for kind in ("real", "fake") for n in range(2)))
    listing = index_root(tmp_path)
    assert rows(listing.videos) == [
        (
            label,
            "test",
            ("real", "fake")[label],
            n,
            *(("0", "1")[int(n)] if label else "", ""),
        )
        for label in (0, 1)
        for n in "01"
    ]
    assert listing.left_out == {}
    assert listing.videos[0].frames == (listing.videos[0].path,)


# ---------------------------------------------------------------------- DeepfakeBench


def bench(root, name, content, there=True):
    """A file of the bench, and the folders of its frames."""
    texts(root, **{name: content})
    for labels in content.values():
        for level in labels.values():
            for videos in level.values():
                for entry in videos.values():
                    for file in entry.get("frames") or [] if there else []:
                        films(root, file.replace("\\", "/"))


def entry(folder, label="x"):
    return {"label": label, "frames": [f"{folder}\\{n:03d}.png" for n in range(2)]}


def test_deepfakebench_without_compressions(tmp_path):
    test = {"id0_0000": entry("Celeb-DF-v1\\Celeb-real\\frames\\id0_0000")}
    fake = {"id0_id1_0000": entry("Celeb-DF-v1\\Celeb-synthesis\\frames\\id0_id1_0000"), "id5_id6_0000": {"label": "x"}}
    content = {
        "Celeb-DF-v1": {
            "CelebDFv1_real": {"train": {}, "val": test, "test": test},
            "CelebDFv1_fake": {"train": {}, "val": fake, "test": fake},
        }
    }
    bench(tmp_path, "Celeb-DF-v1.json", content)
    for root in (tmp_path, tmp_path / "Celeb-DF-v1.json"):
        listing = index_root(root, "deepfakebench")
        assert rows(listing.videos) == [
            (0, "test", "real", "id0_0000", "", ""),
            (1, "test", "Celeb-synthesis", "id0_id1_0000", "id0", "id1"),
        ]
        assert len(only(listing, "a second time")) == 2
        assert only(listing, "no frames in the file") == [
            f"Celeb-DF-v1 CelebDFv1_fake {s} id5_id6_0000" for s in ("val", "test")
        ]


def test_df40_and_frames_elsewhere(tmp_path):
    content = {
        "simswap_ff": {
            "simswap_Real": {"test": {"a": entry("DF40/a")}},
            "simswap_Fake": {"test": {"b": entry("DF40/b"), "c": entry("DF40/c")}},
        }
    }
    texts(tmp_path, **{"preprocessing/dataset_json/simswap_ff.json": content})
    frames(tmp_path, "datasets/rgb/DF40/a", "datasets/rgb/DF40/b")
    listing = index_root(tmp_path / "preprocessing/dataset_json")
    assert listing.layout == "deepfakebench"
    assert rows(listing.videos) == [(0, "test", "real", "a", "", ""), (1, "test", "simswap", "b", "", "")]
    assert only(listing, "not below") == ["simswap_ff simswap_Fake test c"]
    assert listing.videos[0].dataset == "simswap_ff"


@pytest.mark.parametrize("before", ["", "deepfakes_detection_datasets/", "/nowhere/datasets/"])
def test_paths_of_df40_begin_with_a_folder_of_their_authors(tmp_path, before):
    told = {"sadtalker_Real": {"train": {"071": entry(f"{before}DF40/original/071")}}}
    told["sadtalker_Fake"] = {"train": {"071_054": entry(f"{before}DF40/sadtalker/071_054")}}
    texts(tmp_path, **{"json/sadtalker_ff.json": {"sadtalker_ff": told}})
    frames(tmp_path, "DF40/original/071", "DF40/sadtalker/071_054")
    if before.startswith("/"):
        with pytest.raises(ValueError, match="have frames that are not below"):
            index_root(tmp_path / "json")
    else:
        listing = index_root(tmp_path / "json")
        assert rows(listing.videos) == [
            (0, "train", "real", "071", "", ""),
            (1, "train", "sadtalker", "071_054", "071", "054"),
        ]


def test_compressions_of_the_bench(miniature):
    folders, listed = (index_root(miniature, layout) for layout in ("auto", "deepfakebench"))
    assert folders.layout == "faceforensics"
    assert set(folders.videos) == set(listed.videos)


@pytest.mark.parametrize(
    ("label", "method"),
    [("FF-FH", "FaceShifter"), ("UADFV_Real", "real"), ("DFDC_Fake", "DFDC"), ("real", "real"), ("surreal", "surreal")],
)
def test_methods_by_labels_of_the_bench(label, method):
    assert method_of(label) == method


# ---------------------------------------------------------------------- all of them


def test_data_sets_side_by_side(tmp_path):
    faceforensics(tmp_path / "FF")
    celebdf(tmp_path / "x" / "Celeb-DF-v2")
    films(tmp_path, "DFDC/part/a.mp4", "DFDC/part/b.mp4", "stray.mp4")
    texts(tmp_path, **{"DFDC/part/metadata.json": {"a.mp4": {"label": "REAL"}, "b.mp4": {"label": "FAKE"}}})
    listing = index_root(tmp_path)
    assert listing.layout == "dfdc, faceforensics, celebdf"
    assert "FF/ as faceforensics by manipulated_sequences/" in listing.how
    assert {v.dataset for v in listing.videos} == {"FaceForensics++", "Celeb-DF-v2", "DFDC"}
    assert only(listing, "not part") == ["stray.mp4"]
    assert only(listing, "in List") == ["x/Celeb-DF-v2/Celeb-synthesis/id99_id98_0000"]


def test_a_video_of_two_layouts_is_one_row(miniature, tmp_path):
    copy = shutil.copytree(miniature, tmp_path / "FF")
    (tmp_path / "lists").mkdir()
    bench_file = json.loads((copy / "FaceForensics++.json").read_text().replace('"original_', '"FF/original_'))
    texts(tmp_path, **{"lists/reals.json": {"FaceForensics++": {"FF-real": bench_file["FaceForensics++"]["FF-real"]}}})
    listing = index_root(tmp_path)
    assert listing.layout == "faceforensics, deepfakebench"
    assert len(listing.videos) == 50
    assert len(only(listing, "by another layout")) == 10


def test_links_and_names(tmp_path):
    films(tmp_path, 'real/Ünï, "cödé"\n.mp4', "fake/b.mp4")
    (tmp_path / "fake" / "c.mp4").symlink_to(tmp_path / "fake" / "b.mp4")
    bad = os.fsencode(tmp_path / "fake") + b"/\xff.mp4"
    with open(bad, "wb") as file:
        file.write(b"film")
    listing = index_root(tmp_path)
    assert [v.id for v in listing.videos] == ["b", 'Ünï, "cödé"\n']
    assert only(listing, "link") == ["fake/c.mp4"]
    assert only(listing, "no Unicode") == ["fake/\udcff.mp4"]


def test_another_layout_is_an_error_that_lists_them(tmp_path):
    films(tmp_path, "real/a.mp4")
    with pytest.raises(ValueError, match=r"holds 1 videos, and has not the layout celebdf; the layouts are") as error:
        index_root(tmp_path, "celebdf")
    assert all(f"\n  {name}: " in str(error.value) for name in LAYOUTS)
    with pytest.raises(ValueError, match=r"the layout must be auto, faceforensics, .* got 'plane'"):
        index_root(tmp_path, "plane")
    with pytest.raises(FileNotFoundError, match="nowhere is not there: give the folder"):
        index_root(tmp_path / "nowhere")


def test_no_video_in_a_layout_says_why(tmp_path):
    texts(tmp_path, **{"metadata.json": {"a.mp4": {"label": "REAL"}}})
    with pytest.raises(ValueError, match=r"holds no video in the layout dfdc: 1 are in metadata\.json and not there"):
        index_root(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no video and no folder of images"):
        index_root(tmp_path / "empty")


@pytest.mark.parametrize("content", ["[", json.dumps([1]), json.dumps({"a": 1}), json.dumps({"a": {"b": [1]}})])
def test_files_of_other_forms_do_not_disturb(tmp_path, content):
    films(tmp_path, "real/a.mp4", "fake/b.mp4")
    texts(tmp_path, **{"notes.json": content})
    assert len(index_root(tmp_path).videos) == 2
