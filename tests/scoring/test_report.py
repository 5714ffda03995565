"""The report of a run: one page, whole or said to be incomplete, that shows any name and runs none."""

import base64
import errno
import gc
import hashlib
import itertools
import os
import re
import subprocess
import weakref
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from dfmodels.detector import Origin
from dfmodels.scoring import report
from dfmodels.scoring.page import ENVIRONMENT, picture
from dfmodels.scoring.report import Report, render
from dfmodels.scoring.result import Moment
from dfmodels.video import LeftOut
from tests.scoring.scores import failed_score, gallery, make_score

RUN = {"command": "dfmodels score a.mp4 --report r.html", "settings": {"faces": "auto", "clips": "8"}}
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Elements of a page as (tag, attributes), and what a reader sees; fails where tags are not closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(set(names)) == len(names), (tag, names)
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def values(self, name):
        return [attributes[name] for _, attributes in self.elements if name in attributes]


def page(*scores, **run):
    return Page(render(scores, **(RUN | run)))


@pytest.fixture(scope="module")
def whole():
    return Page(render(gallery(), **RUN))


def test_it_stands_alone(whole):
    addresses = [*whole.values("src"), *whole.values("href"), *whole.values("srcset"), *whole.values("action")]
    assert addresses
    assert all(address.startswith(("data:image/webp;base64,", "#")) for address in addresses)
    assert not {"link", "iframe", "object", "embed", "form", "base", "video", "audio"} & {
        tag for tag, _ in whole.elements
    }
    (policy,) = (meta["content"] for meta in whole.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")
    (script,) = re.findall(r"<script>(.*?)</script>", render([], **RUN), re.DOTALL)
    digest = hashlib.sha256(script.encode()).digest()
    assert f"script-src 'sha256-{base64.b64encode(digest).decode()}'" in policy
    style = re.search(r"<style>(.*?)</style>", render([], **RUN), re.DOTALL)[1]
    assert not re.findall(r"@import|url\(|http", style + script)
    assert "&" not in style  # escaped, it would be no style


def test_links_lead_somewhere_and_names_are_unique(whole):
    names = whole.values("id")
    assert len(set(names)) == len(names)
    assert {link[1:] for link in whole.values("href")} <= set(names)
    assert set(whole.values("aria-labelledby")) <= set(names)
    for fill in whole.values("fill"):
        assert not fill.startswith("url(") or fill[5:-1] in names


def test_it_can_be_read_without_seeing_it(whole):
    assert all(image["alt"] for image in whole.all("img"))
    assert all(head["scope"] in ("col", "row") for head in whole.all("th"))
    levels = [int(tag[1]) for tag, _ in whole.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert whole.all("html")[0]["lang"] == "en"


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_text_stands_out_in_light_dark_and_print():
    style = ENVIRONMENT.get_template("page.css").render()
    themes = [
        dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r"\{([^{}]*--page:[^{}]*)\}", style)
    ]
    assert len(themes) == 4  # light, dark by the system, dark by the switch, print
    for theme in themes:
        for text, back in (
            *((text, back) for text in ("ink", "soft", "link") for back in ("page", "card", "faint")),
            *((name, f"{name}-back") for name in ("fake", "real", "failed", "note")),
            ("soft", "fake-back"),
        ):
            assert contrast(theme[text], theme[back]) >= 4.5, (text, back)
        for person in range(6):
            assert contrast(theme[f"p{person}"], theme["card"]) >= 3
            assert contrast(theme[f"p{person}"], theme["fake-back"]) >= 3


def test_every_video_is_a_row_and_a_section(whole):
    scores = gallery()
    for number, score in enumerate(scores, 1):
        assert f"video-{number}" in whole.values("id")
        assert score.path.name in whole.text
    assert "6 videos 3 fake 1 real 2 failed" in whole.text
    rows = [attributes for attributes in whole.values("data-value") if attributes]
    assert str(scores[0].probability) in rows


def test_it_says_what_a_verdict_rests_on(tmp_path):
    video = tmp_path / "interview.mp4"
    video.write_bytes(b"frames")
    score = make_score(video, people=2)
    text = page(score).text
    for fact in (
        "This page holds faces and names of files.",
        f"fake {score.probability:.3f}",
        f"{score.probability:.3f} on a scale from 0 (real) to 1 (fake), on average over 8 clips of person 1",
        "This is not the probability that the video is forged.",
        "About the weights: rendered talking heads of `dfmodels demo`; for trying the tool, not for judging videos",
        "Warning: Only 62 % of the frames read show a face",
        "2 people seen, 1 judged",
        "88 of 600 frames read, 55 (62 %) with a face",
        "left out 2 clips (no face was found)",
        "not judged",
        f"{hashlib.sha256(b'frames').hexdigest()} of the file",
        score.weights.sha256,
        "dfmodels 0.1.0",
        "centerface",
        "24.00 s, 600 frames",
        "dfmodels score a.mp4 --report r.html",
        "SIM, inconsistency inside a frame",
    ):
        assert fact in text, fact


def test_moments_show_the_frame_the_crops_and_the_maps():
    score = make_score(people=2)
    images = [image["alt"] for image in page(score).all("img")]
    frames = score.clips[score.most_suspicious[0].clip].frames
    assert images[0] == "Whole frame of moment A with a box around the face that was judged"
    for frame in frames:
        assert f"Face crop, frame {frame} at {frame / 25:.2f} s" in images
    assert len(images) == 4 * (1 + 8 * 3)


def test_a_failed_video_says_why_and_is_neither_real_nor_fake():
    text = page(failed_score("a.mp4", "a.mp4: no face; try another face detector")).text
    assert "a.mp4: no face; try another face detector" in text
    assert "Nothing could be judged, so this says neither real nor fake." in text
    assert "Moments" not in text
    out = tuple(LeftOut(i, i + 0.5, "no_face", None) for i in range(3))
    seen = page(failed_score(left_out=out, frames_read=30, duration=4.0, num_frames=100))
    assert "0.00-2.50 s: not judged, no face was found (3 clips)" in seen.text
    assert "30 of 100 frames read, 0 (0 %) with a face" in seen.text


HOSTILE = [
    '<script>alert("1")</script>.mp4',
    "\"><img src=x onerror='alert(1)'>.mp4",
    "' onmouseover=alert(1) x='.mp4",
    "</title></style></script><h1>.mp4",
    "{{ 7 * 7 }}{% raw %}.mp4",
    "&lt;b&gt;&amp;.mp4",
    "]]><!-- .mp4",
    "javascript:alert(1)",
    "line\nbreak\ttab\x01\x1b[31m.mp4",
    "not utf-8 \udcff\udc80.mp4",
    "right to left \u202egpj.exe \u2066.mp4",
    "漢字 שלום 🎬.mp4",
    "w" * 251 + ".mp4",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_odd_names_are_shown_and_do_nothing(name):
    def named(name):
        by = {"weights": Origin(name, "0" * 64, name), "detector": name, "faces": name, "version": name}
        score = make_score(name, people=1, clips=2, moments=1, warnings=(name,), **by)
        failed = failed_score(name, f"{name}: is no video", **by)
        return render([score, failed], command=name, settings={name: name})

    text = named(name)
    text.encode("utf-8")
    structure, expected = Page(text), Page(named("plain.mp4"))
    assert [(tag, list(attributes)) for tag, attributes in structure.elements] == [
        (tag, list(attributes)) for tag, attributes in expected.elements
    ]
    shown = " ".join(report.printable(name).split())
    assert structure.text.count(shown) >= 10
    allowed = re.compile(r"[\n\x20-\x7e\xa1-\U0010ffff]*")
    assert allowed.fullmatch(text)
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", text)


def test_a_page_that_comes_whole_or_not_at_all(tmp_path):
    path = tmp_path / "r.html"
    path.write_text("before")
    with Report(path, **RUN) as run:
        for score in gallery():
            run.add(score)
            assert os.listdir(tmp_path) == ["r.html"]  # what is written meanwhile has no name that could stay
        assert path.read_text() == "before"
    text = path.read_text(encoding="utf-8")
    written = re.compile(r"Written [-\d]+ [:\d]+ UTC")
    assert written.sub("", text) == written.sub("", render(gallery(), **RUN))
    assert "incomplete" not in Page(text).text
    assert os.listdir(tmp_path) == ["r.html"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyboardInterrupt(), "The run was broken off by hand"),
        (RuntimeError("GPU <lost>"), "The run ended with an error (GPU <lost>)"),
        (MemoryError(), "The run ended with an error (MemoryError)"),
    ],
)
def test_a_run_that_is_broken_off_leaves_a_page_that_says_so(tmp_path, error, said):
    def broken():
        with Report(tmp_path / "r.html", **RUN) as run:
            run.add(failed_score("first.mp4"))
            raise error

    with pytest.raises(type(error)):
        broken()
    text = Page((tmp_path / "r.html").read_text(encoding="utf-8")).text
    assert f"This report is incomplete. {said}; it holds the 1 video finished until then." in text
    assert "first.mp4" in text


def test_a_section_that_is_broken_off_is_not_in_the_page(tmp_path, monkeypatch):
    def broken():
        with Report(tmp_path / "r.html", **RUN) as run:
            run.add(failed_score("whole.mp4"))
            run.sections = Half(run.sections)
            run.add(failed_score("half.mp4"))

    with pytest.raises(KeyboardInterrupt):
        broken()
    text = Page((tmp_path / "r.html").read_text(encoding="utf-8")).text  # every element is closed
    assert "whole.mp4" in text
    assert "half.mp4" not in text


class Half:
    """A file that an interrupt comes to while it is written to."""

    def __init__(self, file):
        self.file = file

    def write(self, data):
        self.file.write(data[: len(data) // 2])
        raise KeyboardInterrupt

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self.file

    def __exit__(self, *error):
        self.file.close()


def test_a_run_without_videos(tmp_path):
    with Report(tmp_path / "r.html", **RUN):
        pass
    assert "0 videos" in Page((tmp_path / "r.html").read_text()).text


def test_places_that_cannot_be_written_to(tmp_path):
    for path, reason in ((tmp_path, "it is a folder"), (tmp_path / "none" / "r.html", "No such file or directory")):
        with pytest.raises(OSError, match=re.escape(f"{path} cannot be written: {reason}")), Report(path, **RUN):
            pytest.fail("the work began")


def test_a_full_disk_is_named_and_the_page_before_stays(tmp_path, monkeypatch):
    path = tmp_path / "r.html"
    path.write_text("before")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write():
        with Report(path, **RUN) as run:
            run.add(failed_score())
            monkeypatch.setattr(report, "_page", lambda *_: map(full, [1]))

    with pytest.raises(OSError, match=re.escape(f"{path} cannot be written: No space left on device")):
        write()
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["r.html"]


def test_a_disk_that_is_full_before_the_page_begins_is_named_too(tmp_path):
    path = tmp_path / "r.html"

    def write():
        with Report(path, **RUN) as run:
            run.sections.close()
            run.sections = open("/dev/full", "w+b")  # noqa: SIM115 the report closes it
            run.add(failed_score())

    with pytest.raises(OSError, match=re.escape(f"{path} cannot be written: No space left on device")):
        write()


def test_no_video_is_kept(tmp_path):
    with Report(tmp_path / "r.html", **RUN) as run:
        held = []
        for score in gallery():
            held.append(weakref.ref(score))
            run.add(score)
        del score
        gc.collect()
        assert [ref() for ref in held] == [None] * len(held)
        assert all(isinstance(value, str | int | float | None) for row in run.rows for value in row.values())


def test_pictures_that_compress_badly_stay_small():
    noise = np.random.default_rng(0)
    image = noise.integers(0, 256, (640, 640, 3), dtype=np.uint8)
    crops = noise.integers(0, 256, (16, 380, 380, 3), dtype=np.uint8)
    maps = {kind: noise.random((16, 380, 380), dtype=np.float32) for kind in ("SIM", "TIM")}
    score = make_score(length=16, moments=0)
    moments = tuple(Moment(i, image, (10, 10, 200, 200), crops, maps) for i in range(3))
    score = replace(score, most_suspicious=moments[:2], least_suspicious=moments[2])
    assert len(report.section(score, 1)) < report.SECTION_BYTES


def test_of_very_many_clips_the_page_stays_small():
    score = make_score(seconds=5 * 3600, clips=20_000, people=1, moments=1)
    text = report.section(score, 1)
    assert len(text) < report.SECTION_BYTES
    shown = Page(text).text
    assert f"List of the highest {report.LISTED} clips" in shown
    assert "drawn are the highest and the lowest of each three hundredth of the time" in shown


@pytest.mark.parametrize(("shape", "expected"), [((90, 160), (40, 22)), ((160, 90), (22, 40)), ((20, 30), (30, 20))])
def test_pictures_are_reduced_never_enlarged(shape, expected):
    cv2 = pytest.importorskip("cv2")
    address = picture(np.zeros((*shape, 3), np.uint8), 40)
    data = np.frombuffer(base64.b64decode(address.split(",")[1]), np.uint8)
    assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape[1::-1] == pytest.approx(expected, abs=1)


# ---------------------------------------------------------------------- SHA-256 of videos


def test_the_digest_of_a_folder_can_be_checked_by_hand(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for name in ("10.png", "9.png", "Z.png", "a b.png", "back\\slash.png", "line\nbreak.png", "é.png", "-n"):
        (folder / name).write_bytes(name.encode())
    (folder / "inner").mkdir()
    (folder / ".hidden").write_bytes(b"")
    listed = subprocess.run(
        "LC_ALL=C sha256sum -- * 2>/dev/null | sha256sum", shell=True, cwd=folder, capture_output=True, text=True
    )
    assert report.digest(folder) == (
        listed.stdout.split()[0],
        "of the list that `LC_ALL=C sha256sum -- *` prints in this folder",
    )


def test_videos_without_a_digest(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert report.digest(tmp_path / "pipe") == (None, report.NEITHER)  # reading it would wait for ever
    assert report.digest(tmp_path / "gone.mp4") == (None, "No such file or directory")
    assert report.digest(Path("null\0byte")) == (None, "embedded null byte")
    shown = page(failed_score(tmp_path / "gone.mp4")).text
    assert "SHA-256 of the video not known: No such file or directory" in shown
