"""Indexes: what is read and written, what is refused and with which words, and which rows are chosen."""

import os
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from dfmodels.data.index import (
    COLUMNS,
    Video,
    check_classes,
    index_hash,
    limit,
    load_videos,
    read_index,
    warn_of_shared_identities,
    where,
    write_index,
)
from tests.data.trees import faceforensics, films, frames, rows

HEADER = ",".join(COLUMNS)


@pytest.fixture
def folder(tmp_path):
    """Two films, and a writer of an index beside them."""
    films(tmp_path, "a.mp4", "b.mp4", "Ü ber/c.mp4")
    return tmp_path


def written(folder, text, encoding="utf-8"):
    path = folder / "videos.csv"
    path.write_bytes(text.encode(encoding))
    return path


def video(name, label=1, split="train", **columns):
    return Video(Path("/data", name), label, split, **{"method": "m" if label else "real", "id": name, **columns})


# ---------------------------------------------------------------------- reading and writing


def test_a_hand_written_index(folder):
    path = written(folder, f"path,label,split\na.mp4,0,train\n{folder}/b.mp4,1,val\n")
    assert read_index(path) == [
        Video(folder / "a.mp4", 0, "train", method="real", id="a"),
        Video(folder / "b.mp4", 1, "val", method="fake", id="b"),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_line_ends_marks_blank_lines_and_spaces(folder, end, encoding):
    text = f'split, label ,path,camera{end}{end}test , 1,Ü ber/c.mp4,"Kö,\nln"{end},,,{end}train,0,a.mp4,'
    first, second = read_index(written(folder, text, encoding))
    assert (first.path, first.label, first.split, first.extra) == (
        folder / "Ü ber/c.mp4",
        1,
        "test",
        {"camera": "Kö,\nln"},
    )
    assert (second.path, second.extra) == (folder / "a.mp4", {"camera": ""})


def test_what_is_written_is_read(tmp_path):
    films(tmp_path, 'in/x,"y"\n.mp4', "out/ä.mp4")
    frames(tmp_path, "in/v1.0")
    listed = [
        Video(tmp_path / 'in/x,"y"\n.mp4', 0, "test", "d", "real", 'x,"y"\n', extra={"camera": "1", "identity": "p"}),
        Video(tmp_path / "out/ä.mp4", 1, "val", "d", "m", "ä", "p", "q", "c40"),
        Video(tmp_path / "in/v1.0", 1, "val", "d", "m", "v1.0"),
    ]
    path = tmp_path / "in" / "videos.csv"
    write_index(path, listed)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == f"{HEADER},camera,identity"
    assert lines[1].startswith('"x,""y""')
    assert lines[4].startswith(f"{tmp_path}/out/ä.mp4,1,val,d,m,ä,p,q,c40,")
    again = read_index(path)
    assert [(v.path, v.split, v.id, v.target, v.compression) for v in again] == [
        (v.path, v.split, v.id, v.target, v.compression) for v in listed
    ]
    assert again[0] == listed[0]
    write_index(path, again)
    assert read_index(path) == again
    (tmp_path / "in").rename(tmp_path / "moved")  # with the index, what lies below it
    assert read_index(tmp_path / "moved" / "videos.csv")[2].path == tmp_path / "moved" / "v1.0"


def test_an_index_that_cannot_be_written_leaves_the_old_one(tmp_path):
    films(tmp_path, "a.mp4")
    path = tmp_path / "videos.csv"
    write_index(path, [Video(tmp_path / "a.mp4", 0, "train", method="real", id="a")])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="no Unicode"):
        write_index(path, [Video(tmp_path / "\udcff.mp4", 0, "train")])
    with pytest.raises(ValueError, match=r"videos\.csv: an index must hold a video, got none"):
        write_index(path, [])
    assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "videos.csv"]


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("path,lable,split", "the column 'lable' must be called 'label'; rename it"),
        ("Path,label,split", "the column 'Path' must be called 'path'; rename it"),
        ("path,label,split,metod", "the column 'metod' must be called 'method'; rename it"),
        ("path,label", f"no column 'split' among path, label; an index is a CSV file .* columns: {HEADER}"),
        ("path,label,split,label", "the column 'label' is there twice; rename or remove one"),
        ("path;label;split", "values are separated by semicolons; save the index with commas"),
        ("path\tlabel\tsplit", "values are separated by tabs; save the index with commas"),
        ("", "the file is empty; an index is a CSV file"),
    ],
)
def test_a_wrong_header(folder, header, message):
    path = written(folder, f"{header}\na.mp4,0,train\n" if header else "")
    with pytest.raises(ValueError, match=rf"videos\.csv, line 1: {message}"):
        read_index(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b.mp4,2,train,m", r"label must be 0 \(real\) or 1 \(fake\), got '2'; correct it"),
        ("b.mp4,fake,train,m", r"label must be 0 \(real\) or 1 \(fake\), got 'fake'; correct it"),
        ("b.mp4,1,validation,m", "split must be train, val or test, got 'validation'; correct it"),
        ("b.mp4,1,,m", "split must be train, val or test, got ''; correct it"),
        ("b.mp4,1,val,real", "method must name the manipulation, not 'real', where the label is 1, got 'real'"),
        ("b.mp4,0,val,Deepfakes", "method must be 'real' or empty where the label is 0, got 'Deepfakes'"),
        ("gone.mp4,1,val,m", "the path .*/gone.mp4 is not there; .* or make the index anew with `dfmodels index`"),
        (",1,val,m", "the path is empty; give a film or a folder of frames"),
        ("a.mp4,1,val,m", "the path .*/a.mp4 leads to the video of line 3; remove one of the lines"),
        ("link.mp4,1,val,m", "the path .*/link.mp4 leads to the video of line 3; remove one of the lines"),
        ("./x/../a.mp4,1,val,m", "the path .*/a.mp4 leads to the video of line 3"),
        (
            "b.mp4,1,val",
            "expected 4 values, one for each column of the header, got 3; quote a value that holds a comma",
        ),
        ("b.mp4,1,val,m,", "expected 4 values, one for each column of the header, got 5"),
        ("b.mp4,1,val,m\0", "no CSV: |NUL|got"),
        ('b.mp4,1,val,"m', "no CSV: unexpected end of data; quote values"),
    ],
)
def test_a_wrong_row(folder, row, message):
    (folder / "link.mp4").symlink_to(folder / "a.mp4")
    if row.endswith("\0"):
        row = "b\0.mp4,1,val,m"
        message = "(no CSV: line contains NUL|the path 'b.x00.mp4' holds a zero byte)"
    path = written(
        folder, f'path,label,split,method\n\na.mp4,0,train,real\n{folder}/Ü ber/c.mp4,1,test,"x\ny"\n{row}\n'
    )
    with pytest.raises(ValueError, match=rf"videos\.csv, line 6: {message}"):
        read_index(path)


def test_other_files(folder):
    with pytest.raises(ValueError, match=r"videos\.csv, line 2: the index is not UTF-8; save it as CSV in UTF-8"):
        read_index(written(folder, "path,label,split\nÜ ber/c.mp4,0,train\n", "latin-1"))
    with pytest.raises(ValueError, match=r"videos\.csv holds no row below its header; make an index with `dfmodels"):
        read_index(written(folder, "path,label,split\n"))
    with pytest.raises(OSError, match=r"nowhere\.csv: the index cannot be read: No such file"):
        read_index(folder / "nowhere.csv")
    with pytest.raises(OSError, match="the index cannot be read: Is a directory"):
        read_index(folder)


def test_shared_identities_are_named():
    listed = [
        video("071", 0, "train", dataset="FF"),
        video("071_054", 1, "test", target="071", source="054", dataset="FF"),
        video("054_071", 1, "val", target="054", source="071", dataset="FF"),
        video("071", 0, "test", dataset="other"),
        video("x", 0, "train", dataset="C", extra={"identity": "id0"}),
        video("y", 0, "test", dataset="C", extra={"identity": "id0"}),
    ]
    with pytest.warns(UserWarning, match="identities are in several splits") as caught:
        warn_of_shared_identities(listed)
    (message,) = [str(w.message) for w in caught]
    assert "train and val and test share 1 (FF 071)" in message
    assert "val and test share 1 (FF 054)" in message
    assert "train and test share 1 (C id0)" in message
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_shared_identities(listed[3:5])


def test_one_class():
    listed = [video("a", 0), video("b", 1, "val")]
    with pytest.raises(ValueError, match=r"v\.csv: the split 'train' holds no fake video \(label 1\); add some, or"):
        check_classes(listed, of="v.csv")
    check_classes([*listed, video("c")])


# ---------------------------------------------------------------------- choosing rows


def test_where():
    listed = [video("a", 0, compression="c23"), video("b", compression="c40", extra={"camera": "1"}), video("c")]
    assert where(listed, {}) == listed
    assert where(listed, {"compression": "c23"}) == listed[:1]
    assert where(listed, {"label": "1", "method": ["m", "real"]}) == listed[1:]
    assert where(listed, {"camera": "1"}) == listed[1:2]
    with pytest.raises(ValueError, match="no column 'metod' to choose by; did you mean 'method'"):
        where(listed, {"metod": "real"})
    with pytest.raises(ValueError, match="no video has compression 'c32'; did you mean 'c23'"):
        where(listed, {"compression": ["c40", "c32"]})


def test_limit_keeps_the_forgeries_of_a_person_together(tmp_path):
    pairs = [(f"{n:03d}", f"{n + 1:03d}") for n in range(0, 20, 2)]
    listed = load_videos(faceforensics(tmp_path, {"train": pairs, "test": [("100", "101")], "val": []}))
    some = [v for v in limit(listed, 4) if v.split == "train"]
    assert [v for v in listed if v in some] == some
    assert rows(some) == [
        *((0, "train", "real", f"00{n}", "", "") for n in range(4)),
        (1, "train", "Deepfakes", "000_001", "000", "001"),
        (1, "train", "Deepfakes", "001_000", "001", "000"),
        (1, "train", "FaceShifter", "000_001", "000", "001"),
        (1, "train", "FaceShifter", "001_000", "001", "000"),
    ]
    assert len(limit(listed, 1)) >= 4
    with pytest.raises(ValueError, match="at least 1 video a class and split, got 0"):
        limit(listed, 0)


def test_the_hash_follows_the_rows_and_not_their_place(tmp_path):
    listed = [video("a/a", 0), video("b/b")]
    moved = [replace(v, path=Path("/elsewhere") / v.path.relative_to("/data")) for v in listed]
    assert index_hash(listed) == index_hash(moved)
    others = [listed[::-1], listed[:1], [listed[0], replace(listed[1], split="val")], [*listed, video("c")]]
    others.append([listed[0], replace(listed[1], extra={"x": "1"})])
    assert len({index_hash(other) for other in [listed, *others]}) == 6
    assert index_hash([]) != index_hash(listed)


# ---------------------------------------------------------------------- sources


def test_an_index_and_its_root_give_the_same_videos(tmp_path):
    root = faceforensics(tmp_path / "FF")
    listed = load_videos(root)
    write_index(tmp_path / "videos.csv", listed)
    assert load_videos(tmp_path / "videos.csv") == listed
    assert load_videos(root, "faceforensics") == listed


def test_a_source_with_a_person_in_two_splits_warns(tmp_path):
    faceforensics(tmp_path, {"train": [("000", "001")], "test": [("001", "002")], "val": []})
    with pytest.warns(UserWarning, match=r"train and test share 1 \(FaceForensics\+\+ 001\)"):
        load_videos(tmp_path)


def test_a_source_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere is not there: give an index \(\.csv\) or the folder"):
        load_videos(tmp_path / "nowhere")
