"""What becomes of the videos that a page hands over, without the page."""

import logging
import re
import threading

import pytest

import dfmodels
from dfmodels.scoring import app
from dfmodels.scoring.app import Desk, RefusedError, file_name
from dfmodels.video import face_detector
from tests.models.test_detectors import small
from tests.video.videos import cut, noise, write_sound, write_video

pytest.importorskip("av")
NOTE = "rendered heads; not for judging videos"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    detector = small("ddl")
    detector.trained = True
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    dfmodels.save(detector, path, data=NOTE)
    return dfmodels.load(path)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "noise.mp4", 20, noise).read_bytes()


@pytest.fixture
def desk(model, tmp_path):
    folder = tmp_path / "private"
    folder.mkdir()
    desk = Desk(
        model,
        folder,
        faces=face_detector("none"),
        max_minutes=0.02,
        command=lambda name: f"dfmodels score -- {name}",
        settings={"faces": "none"},
    )
    desk.enter("one")
    desk.enter("two")
    return desk


def upload(desk, content, name="noise.mp4", place="hash"):
    path = desk.uploads / place / name
    path.parent.mkdir(exist_ok=True)
    arriving = path.with_suffix(".part")
    arriving.write_bytes(content)
    return arriving.rename(path)


def files(desk):
    return sorted(path.name for path in desk.uploads.parent.rglob("*") if not path.is_dir())


def ignore(done, total):
    pass


def test_a_video_gets_a_report_and_is_deleted(desk, video):
    seen = []
    desk.take("one", upload(desk, video), "my <b>holiday.mp4")
    entry = desk.judge("one", lambda done, total: seen.append((done, total)))
    assert files(desk) == []
    assert seen[-1][0] == seen[-1][1] > 0
    assert entry.name == "my <b>holiday.mp4"
    assert re.search(r"fake probability 0\.\d{3}$", entry.line)
    assert "my &lt;b&gt;holiday.mp4" in entry.report
    assert "<b>holiday" not in entry.report
    assert NOTE in entry.report
    assert "dfmodels score -- my" in entry.report
    assert str(desk.videos) not in entry.report
    assert desk.history("one") == [entry]
    assert desk.history("two") == []
    assert desk.judge("one", ignore) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "clip.mp4: the file is empty"),
        (b"this is no video\n" * 50, "clip.mp4: this is not a video"),
        (lambda video, folder: write_sound(folder / "sound.m4a").read_bytes(), "no video"),
        (
            lambda video, folder: write_video(folder / "long.mp4", 60, noise).read_bytes(),
            "clip.mp4 lasts 2.40 s, and this page takes 0.02 minutes at most",
        ),
        (lambda video, folder: None, "clip.mp4 did not arrive"),
    ],
)
def test_what_cannot_be_judged_is_refused_and_deleted(desk, video, tmp_path, content, said):
    content = content(video, tmp_path) if callable(content) else content
    path = upload(desk, content or b"", "clip.mp4")
    if content is None:
        path.unlink()
    with pytest.raises(RefusedError) as refusal:
        desk.take("one", path, "clip.mp4")
    assert said in str(refusal.value)
    assert str(desk.videos) not in str(refusal.value)
    assert files(desk) == []
    desk.take("one", upload(desk, video), "noise.mp4")
    assert desk.judge("one", ignore) is not None


def test_a_video_that_ends_early_is_called_failed(desk, tmp_path):
    content = cut(write_video(tmp_path / "whole.mp4", 30, noise), 0.6).read_bytes()
    try:
        desk.take("one", upload(desk, content), "cut.mp4")
        said = desk.judge("one", ignore).report
    except RefusedError as refusal:
        said = str(refusal)
    assert "cut.mp4" in said
    assert "cut off" in said or "ends" in said
    assert files(desk) == []


def test_files_that_are_no_uploads_are_left_alone(desk, video, tmp_path):
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(video)
    link = desk.uploads / "link.mp4"
    link.symlink_to(secret)
    for path in (secret, desk.uploads / ".." / ".." / "secret.mp4", link, desk.uploads):
        with pytest.raises(RefusedError, match="not one of this page"):
            desk.take("one", path, "secret.mp4")
    assert secret.read_bytes() == video
    assert list(desk.videos.iterdir()) == []


def test_two_pages_may_bring_the_same_video_at_once(desk, video):
    path = upload(desk, video)
    assert upload(desk, video) == path  # the second upload takes the place of the first
    desk.take("one", path, "a.mp4")
    desk.take("two", path, "b.mp4")
    assert desk.judge("one", ignore).name == "a.mp4"
    assert desk.judge("two", ignore).name == "b.mp4"
    assert files(desk) == []
    desk.take("one", upload(desk, video), "a.mp4")
    path = upload(desk, video)  # arrives after the first was taken, and is taken after the first was judged
    desk.judge("one", ignore)
    desk.take("two", path, "b.mp4")
    assert desk.judge("two", ignore).name == "b.mp4"
    assert files(desk) == []


def test_videos_of_a_page_are_judged_in_order(desk, video):
    for name in ("first.mp4", "second.mp4"):
        desk.take("one", upload(desk, video, name), name)
    assert [desk.judge("one", ignore).name for _ in range(2)] == ["first.mp4", "second.mp4"]


def test_one_video_is_judged_at_a_time(desk, video, monkeypatch):
    running, most = [], []

    def slow(*arguments, **options):
        running.append(1)
        most.append(len(running))
        threading.Event().wait(0.05)
        running.pop()
        return original(*arguments, **options)

    original = app.score_video
    monkeypatch.setattr(app, "score_video", slow)
    for key in ("one", "two"):
        desk.take(key, upload(desk, video, f"{key}.mp4"), f"{key}.mp4")
    threads = [threading.Thread(target=desk.judge, args=(key, ignore)) for key in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1]
    assert len(desk.history("one")) == len(desk.history("two")) == 1


def test_a_closed_page_leaves_nothing(desk, video):
    for name in ("running.mp4", "waiting.mp4"):
        desk.take("one", upload(desk, video, name), name)
    assert desk.judge("one", lambda done, total: desk.leave("one")) is None
    assert files(desk) == []
    assert desk.history("one") == []
    with pytest.raises(RefusedError, match="reload"):
        desk.take("one", upload(desk, video), "late.mp4")
    assert files(desk) == []
    desk.leave("one")  # twice does no harm


def test_the_end_stops_what_is_judged(desk, video):
    desk.take("one", upload(desk, video), "running.mp4")
    desk.take("two", upload(desk, video), "waiting.mp4")
    begun, go = threading.Event(), threading.Event()

    def progress(done, total):
        begun.set()
        go.wait(10)

    results = []
    thread = threading.Thread(target=lambda: results.append(desk.judge("one", progress)))
    thread.start()
    assert begun.wait(10)
    desk.ending = True
    go.set()
    desk.close()
    thread.join(10)
    assert results == [None]
    assert files(desk) == []


def test_an_error_while_judging_costs_one_video(desk, video, monkeypatch, caplog):
    desk.take("one", upload(desk, video), "bad\nname.mp4")
    with monkeypatch.context() as patch:
        patch.setattr(app, "score_video", lambda *arguments, **options: 1 / 0)
        caplog.set_level(logging.DEBUG, "dfmodels")
        with pytest.raises(RefusedError, match=r"bad\\nname.mp4 could not be judged: division by zero"):
            desk.judge("one", ignore)
    assert "ZeroDivisionError" in caplog.text
    assert files(desk) == []
    desk.take("one", upload(desk, video), "good.mp4")
    assert desk.judge("one", ignore).name == "good.mp4"


def test_uploads_that_broke_off_are_swept(desk, video):
    upload(desk, b"begun", "broken off.mp4")
    desk.take("one", upload(desk, video), "waiting.mp4")
    desk.sweep()
    assert "broken off.mp4" in files(desk)
    desk.sweep(age=-1)
    assert files(desk) == ["noise.mp4", "waiting.mp4"]
    assert desk.judge("one", ignore) is not None
    assert files(desk) == []
    desk.sweep(age=-1)
    assert list(desk.uploads.iterdir()) == []


def test_the_history_is_bounded(desk, video, monkeypatch):
    monkeypatch.setattr(app, "KEPT", 2)
    for name in ("1.mp4", "2.mp4", "3.mp4"):
        desk.take("one", upload(desk, video), name)
        desk.judge("one", ignore)
    assert [entry.name for entry in desk.history("one")] == ["2.mp4", "3.mp4"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("clip.mp4", "clip.mp4"),
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("a\0b.mp4", "ab.mp4"),
        ("\ud800.mp4", "?.mp4"),
        ("", "video"),
        ("..", "video"),
    ],
)
def test_names_become_names_of_files(given, kept, tmp_path):
    assert file_name(given) == kept
    (tmp_path / file_name(given)).touch()


def test_long_names_keep_their_ends(tmp_path):
    name = file_name("ы" * 500 + ".mp4")
    assert name.endswith("ы.mp4")
    assert len(name.encode()) <= app.LONGEST_NAME
    (tmp_path / name).touch()
