"""Which videos are meant by paths of files and folders."""

import logging
import os
import tempfile
from pathlib import Path

import pytest

from dfmodels.video.search import find_videos


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(folder, *given):
    return [os.path.relpath(path, folder) for path in find_videos([folder / path for path in given])]


def test_files_are_taken_as_they_are(tmp_path):
    touch(tmp_path, "notes.txt", ".hidden.mp4")
    given = ["notes.txt", ".hidden.mp4", "missing.mp4"]
    assert found(tmp_path, *given) == given
    assert find_videos([]) == []


def test_a_folder_is_searched_in_natural_order(tmp_path):
    touch(tmp_path, *(f"a/v{i}.mp4" for i in (10, 9, 1)), "a/B.MKV", "a/sub/c.Mov", "a/sub/deep/d.ts", "a/sub 2/e.avi")
    touch(tmp_path, "a/text.txt", "a/.hidden.mp4", "a/.trash/f.mp4", "a/sub/._c.mov")
    videos = ["a/B.MKV", "a/v1.mp4", "a/v9.mp4", "a/v10.mp4", "a/sub/c.Mov", "a/sub/deep/d.ts", "a/sub 2/e.avi"]
    assert found(tmp_path, "a") == videos
    os.chdir(tmp_path)
    assert find_videos(["a"])[0] == Path("a/B.MKV")  # as it was given


@pytest.fixture(autouse=True)
def _same_folder():
    before = os.getcwd()
    yield
    os.chdir(before)


def test_a_folder_of_images_is_a_video(tmp_path, caplog):
    touch(
        tmp_path, "frames/1.png", "frames/sub/video.mp4", "all/x/2.JPG", "all/y.mp4/3.bmp", "all/z/z.mp4", "all/z/4.png"
    )
    caplog.set_level(logging.INFO, "dfmodels")
    assert found(tmp_path, "frames") == ["frames"]
    assert "the folders in it are not searched" in caplog.text
    assert found(tmp_path, "all") == ["all/x", "all/y.mp4", "all/z/z.mp4"]
    assert found(tmp_path, "all/z") == ["all/z/z.mp4"]
    assert f"{tmp_path / 'all/z'} holds videos: the images beside them are left out" in caplog.text


def test_pictures_of_videos_are_no_frames(tmp_path):
    touch(tmp_path, "a/v.mp4", "a/plots/v.mp4.png", "a/plots/v.mp4-2.png")
    assert found(tmp_path, "a") == ["a/v.mp4"]


def test_links_lead_to_no_folder_twice(tmp_path):
    touch(tmp_path, "a/b/v.mp4")
    (tmp_path / "a/b/up").symlink_to(tmp_path / "a")
    (tmp_path / "a/itself").symlink_to("itself")
    (tmp_path / "a/again").symlink_to(tmp_path / "a/b")
    (tmp_path / "a/gone.mp4").symlink_to(tmp_path / "gone.mp4")
    (tmp_path / "a/w.mp4").symlink_to(tmp_path / "a/b/v.mp4")
    assert found(tmp_path, "a") == ["a/gone.mp4", "a/w.mp4"]  # w.mp4 is b/v.mp4


def test_each_video_once(tmp_path, caplog):
    touch(tmp_path, "a/1.mp4", "a/2.mp4", "3.mp4")
    os.link(tmp_path / "a/1.mp4", tmp_path / "a/1b.mp4")  # a file of its own, as far as anybody can tell
    caplog.set_level(logging.INFO, "dfmodels")
    assert found(tmp_path, "3.mp4", "a/2.mp4", "a", "a/../3.mp4") == ["3.mp4", "a/2.mp4", "a/1.mp4", "a/1b.mp4"]
    assert f"taken once: {tmp_path / 'a/2.mp4'} and 1 more" in caplog.text


def test_no_video_in_a_folder(tmp_path, caplog):
    touch(tmp_path, "a/text.txt", "v.mp4")
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match=r"no video in .*/a: looked there .*\.mp4.*\.png.*\nno video in .*/b: looked"):
        found(tmp_path, "a", "b", "a")
    assert found(tmp_path, "a", "v.mp4") == ["a", "v.mp4"]
    assert f"no video in {tmp_path / 'a'}" in caplog.text


def test_a_folder_without_rights_is_named():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        touch(Path(folder), "a/locked/v.mp4", "a/v.mp4")
        os.chmod(f"{folder}/a/locked", 0o000)
        user = os.geteuid()
        try:
            if user == 0:  # who may read everything
                os.seteuid(65534)
            assert found(Path(folder), "a") == ["a/v.mp4", "a/locked"]
            assert found(Path(folder), "a/locked") == ["a/locked"]
        finally:
            os.seteuid(user)
            os.chmod(f"{folder}/a/locked", 0o755)
