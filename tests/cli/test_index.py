"""`dfmodels index`: files, the table of counts, what is said, and what is refused."""

import pytest

from dfmodels.cli import main
from dfmodels.data.index import COLUMNS, read_index
from tests.data.trees import faceforensics, films


@pytest.fixture
def root(tmp_path):
    return faceforensics(tmp_path / "FF", compressions=("c23", "c40"))


def index(capsys, *arguments):
    status = main(["index", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return status, out, err


def test_rows_and_counts(capsys, root, tmp_path):
    films(root, "stray.mp4")
    status, out, err = index(capsys, root, "--layout", "auto", "-o", tmp_path / "videos.csv")
    assert status == 0
    assert [line.split() for line in out.splitlines()] == [
        ["dataset", "method", "compression", "train", "val", "test", "all"],
        *(
            ["FaceForensics++", method, compression, "2", "2", "2", "6"]
            for method in ("real", "Deepfakes", "FaceShifter")
            for compression in ("c23", "c40")
        ),
        ["all", "12", "12", "12", "36"],
    ]
    assert "FF: layout faceforensics, recognised by manipulated_sequences/ and original_sequences/; splits by" in err
    assert "left out: 1 are not part of the layout: stray.mp4" in err
    assert f"36 rows in {tmp_path / 'videos.csv'}" in err
    assert len(read_index(tmp_path / "videos.csv")) == 36


def test_rows_are_chosen(capsys, root, tmp_path):
    out = tmp_path / "videos.csv"
    chosen = ["--where", "method=real,Deepfakes,compression=c23", "--where", "split=test", "--limit", "1"]
    assert index(capsys, root, "-o", out, *chosen)[0] == 0
    assert [(v.method, v.id, v.split) for v in read_index(out)] == [
        ("Deepfakes", "004_005", "test"),
        ("real", "004", "test"),
    ]


def test_without_a_file_only_the_table_is_shown(capsys, root, tmp_path):
    status, out, _ = index(capsys, "-q", root)
    assert (status, len(out.splitlines())) == (0, 8)
    assert [path.name for path in tmp_path.iterdir()] == ["FF"]


def test_an_index_replaces_its_own_files_only(capsys, root, tmp_path):
    out = tmp_path / "videos.csv"
    assert index(capsys, root, "-o", out)[0] == 0
    assert index(capsys, root, "-o", out)[0] == 0
    for text in ("notes\n", '"', f"{','.join(COLUMNS)},mine\n"):
        out.write_text(text)
        status, _, err = index(capsys, root, "-o", out)
        assert (status, out.read_text()) == (2, text)
        assert f"-o {out} is there and not written by this command; remove it or give another file" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not there: give the folder of a data set"),
        ([""], "ROOT must be a path, got an empty one"),
        (["."], "holds no video and no folder of images"),
        (["FF", "--layout", "celebdf"], "and has not the layout celebdf; the layouts are"),
        (["FF", "--where", "metod=real"], "no column 'metod' to choose by; did you mean 'method'?"),
        (["FF", "--where", "split=dev"], "no video has split 'dev'"),
        (["FF", "--where", "real"], "--where must be COLUMN=VALUE,..., got 'real'"),
        (["FF", "--limit", "0"], "at least 1 video a class and split, got 0"),
        (["FF", "--where", "split=test", "--where", "id=000"], "no video"),
        (["FF", "-o", "videos.txt"], "-o must end in .csv, got 'videos.txt'"),
        (["FF", "-o", "gone/videos.csv"], "-o must be in a folder that is there, gone is not; make it first"),
        (["FF", "-o", "folder.csv"], "-o must be a file, folder.csv is a folder"),
    ],
)
def test_what_is_refused(capsys, root, tmp_path, monkeypatch, arguments, message):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty" if arguments == ["."] else tmp_path)
    status, out, err = index(capsys, *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["FF", "empty", "folder.csv"]


def test_one_class_and_shared_people_are_warned_of(capsys, tmp_path):
    films(tmp_path, "train/real/a.mp4", "test/real/a.mp4")
    status, _, err = index(capsys, tmp_path)
    assert status == 0
    assert "warning: all videos are real; training asks for both classes" in err
    assert f"train and test share 1 ({tmp_path.name} a)" in err


def test_a_broken_file_of_a_data_set(capsys, root):
    (root / "splits" / "val.json").write_text("[[")
    status, _, err = index(capsys, root)
    assert status == 2
    assert "splits/val.json: no JSON: " in err
