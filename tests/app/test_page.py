"""The page of `dfmodels app` in a browser, from drop to report; `nox -s app` brings what it needs but Chromium."""

import base64
import importlib.util
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

import dfmodels
from tests.models.test_detectors import small
from tests.video.videos import cut, noise, write_video

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MISSING = [name for name in ("gradio", "playwright", "av") if importlib.util.find_spec(name) is None]
MISSING += [] if CHROMIUM else ["Chromium"]
if MISSING and not os.environ.get("DFMODELS_BROWSER"):
    pytest.skip(f"the page is not tested: {', '.join(MISSING)} is missing", allow_module_level=True)

FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NOTE = "rendered <heads>; not for judging videos"
PATIENCE = 30  # seconds
HOSTILE = "<img src=x onerror=alert(1)> {{1+1}} ${7*7} '\"é.mp4"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    detector = small("ddl")
    detector.trained = True
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    dfmodels.save(detector, path, data=NOTE)
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "noise.mp4", 20, noise)
    write_video(folder / "other.mp4", 30, noise)
    write_video(folder / "long.mp4", 60, noise)
    write_video(folder / "whole.mp4", 30, noise)
    shutil.copy(folder / "noise.mp4", folder / HOSTILE)
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("this is no video\n" * 50)
    (folder / "large.mp4").write_bytes(os.urandom(3 << 19))
    cut(folder / "whole.mp4", 0.6)  # cut_whole.mp4
    return folder


@contextmanager
def serving(folder, weights, *arguments):
    """The command in a process of its own; verdicts wait while `gate` exists, `left` lists what it keeps on disk."""
    place = folder / "tmp"
    place.mkdir()
    gate = folder / "gate"
    command = [sys.executable, "-m", "tests.app.gated", gate, "--weights", weights, "--faces", "none", "--port", "0"]
    process = subprocess.Popen(
        [*map(str, command), *arguments],
        env={**os.environ, "TMPDIR": str(place), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert select.select([process.stdout], [], [], PATIENCE)[0], "no address in time"
        url = process.stdout.readline().strip()
        assert url.startswith("http://"), process.stderr.read()

        def left():
            own = place.glob("dfmodels-app-*")
            return sorted(path.name for folder in own for path in folder.rglob("*") if not path.is_dir())

        yield SimpleNamespace(url=url, process=process, place=place, gate=gate, left=left)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def server(tmp_path_factory, weights):
    with serving(tmp_path_factory.mktemp("server"), weights, "--max-size", "1", "--max-minutes", "0.03") as server:
        yield server
        server.process.send_signal(signal.SIGINT)
        out, err = server.process.communicate(timeout=PATIENCE)
    assert server.process.returncode == 130
    assert out == ""
    assert err.splitlines() == ["open this address in a browser; Ctrl-C ends it", "dfmodels: interrupted"]
    assert list(server.place.glob("dfmodels-app-*")) == []


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=False, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, server):
    """Opens the page, each time as another user; in the end, no page may have asked anything of anyone else."""
    contexts, asked, wrong = [], [], []

    def open_page(**options):
        context = chromium.new_context(**options)
        contexts.append(context)
        context.on("request", lambda request: asked.append(request.url))
        context.on("weberror", lambda error: wrong.append(str(error.error)))
        page = context.new_page()
        page.on("console", lambda message: "Security Policy" in message.text and wrong.append(message.text))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.set_default_timeout(1000 * PATIENCE)
        page.goto(server.url)
        page.locator("#video input[type=file]").wait_for(state="attached")
        return page

    yield open_page
    server.gate.unlink(missing_ok=True)
    for context in contexts:
        context.close()
    assert asked
    assert [url for url in asked if not url.startswith((server.url, "data:", f"blob:{server.url}"))] == []
    assert wrong == []
    until(lambda: server.left() == [])


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "this did not come about in time"
        time.sleep(0.05)


def choose(page, path):
    page.locator("#video input[type=file]").set_input_files(str(path))


def drop(page, path):
    """As from a file manager."""
    data = page.evaluate_handle(
        """([name, content]) => {
          const transfer = new DataTransfer();
          const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
          transfer.items.add(new File([bytes], name, {type: "video/mp4"}));
          return transfer;
        }""",
        [path.name, base64.b64encode(path.read_bytes()).decode()],
    )
    page.locator("#video button:has(input[type=file]), #video button").first.dispatch_event(
        "drop", {"dataTransfer": data}
    )


def verdict(page, name):
    """The report about the video, once it is there."""
    page.locator(f"#state p:has-text({quoted(name)})").wait_for()
    page.locator(f"#report-frame[title={quoted('Report about ' + name)}]").wait_for()
    return page.frame_locator("#report-frame")


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def test_from_drop_to_report(open_page, videos, server):
    page = open_page()
    head = page.locator("h1 + p").locator("xpath=..").inner_text()
    for said in ("ddl, dfmodels", "small.safetensors (SHA-256 ", NOTE, "A verdict is no proof."):
        assert said in head
    assert "at most 1 MB and 0.03 minutes" in page.locator("#video").inner_text()
    drop(page, videos / "noise.mp4")
    report = verdict(page, "noise.mp4")
    assert re.search(r"noise\.mp4: (real|fake), fake probability 0\.\d{3}\.", page.locator("#state").inner_text())
    assert "noise.mp4" in report.locator("h2").all_text_contents()
    assert NOTE in report.locator("body").text_content()
    assert "dfmodels-app-" not in report.locator("body").inner_html()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download this report").click()
    assert download.value.suggested_filename == "noise.mp4.report.html"
    with open(download.value.path(), encoding="utf-8") as file:
        assert file.read() == page.locator("#report-frame").get_attribute("srcdoc")
    assert server.left() == []  # while the page is open
    assert [path.stat().st_mode & 0o777 for path in server.place.glob("dfmodels-app-*")] == [0o700]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("text.mp4", "text.mp4: this is not a video"),
        ("empty.mp4", "empty.mp4: the file is empty"),
        ("long.mp4", "long.mp4 lasts 2.40 s, and this page takes 0.03 minutes at most"),
        ("large.mp4", 'maximum allowed size of 1.0 Mb: "large.mp4"'),
    ],
)
def test_what_is_refused_is_said_and_the_next_video_is_judged(open_page, videos, server, name, said):
    page = open_page()
    choose(page, videos / name)
    page.get_by_role("status").get_by_text(said).wait_for()
    assert page.locator("#report-frame").count() == 0
    until(lambda: server.left() == [])
    choose(page, videos / "noise.mp4")
    verdict(page, "noise.mp4")


def test_a_video_that_ends_early(open_page, videos):
    page = open_page()
    choose(page, videos / "cut_whole.mp4")
    page.get_by_text(re.compile(r"cut_whole\.mp4: (.*ends|.*cut off|failed)")).first.wait_for()


def test_two_uploads_at_once(open_page, videos, server):
    first, second = open_page(), open_page()
    server.gate.touch()
    choose(first, videos / "noise.mp4")
    first.locator("#state").get_by_text("Looking for faces").wait_for()
    choose(second, videos / "other.mp4")
    second.locator("#state").get_by_text("queue: 1/1").wait_for()
    server.gate.unlink()
    verdict(first, "noise.mp4")
    verdict(second, "other.mp4")
    assert "other.mp4" not in first.locator("body").inner_text()
    assert "noise.mp4" not in second.locator("body").inner_text()


def test_the_history_leads_back(open_page, videos):
    page = open_page()
    for name in ("noise.mp4", "other.mp4"):
        choose(page, videos / name)
        verdict(page, name)
    choices = page.locator("#history label")
    assert [text.split(":")[0] for text in choices.all_inner_texts()] == ["1. noise.mp4", "2. other.mp4"]
    choices.first.click()
    page.locator('#report-frame[title="Report about noise.mp4"]').wait_for()


def test_a_closed_page_leaves_nothing(open_page, videos, server):
    running, waiting = open_page(), open_page()
    server.gate.touch()
    choose(running, videos / "noise.mp4")
    running.locator("#state").get_by_text("Looking for faces").wait_for()
    choose(waiting, videos / "other.mp4")
    waiting.locator("#state").get_by_text("queue").wait_for()
    assert {"noise.mp4", "other.mp4"} == set(server.left())
    waiting.close()
    until(lambda: set(server.left()) <= {"noise.mp4", "other.mp4"} and server.left().count("other.mp4") < 2)
    running.close()
    until(lambda: "noise.mp4" not in server.left())
    server.gate.unlink()


def test_names_are_shown_and_never_run(open_page, videos):
    page = open_page()
    choose(page, videos / HOSTILE)
    report = verdict(page, HOSTILE)
    assert HOSTILE in page.locator("#state").inner_text()
    assert HOSTILE in page.locator("#history").inner_text()
    assert HOSTILE in report.locator("h2").all_text_contents()
    assert page.locator("img[src=x]").count() == report.locator("img[src=x]").count() == 0


def test_a_browser_loads_nothing_from_elsewhere(chromium, server):
    page = chromium.new_page()
    page.goto(server.url)
    other = server.url.replace("127.0.0.1", "localhost")
    for loads in (
        f"fetch({other!r})",
        f"import({other!r} + 'x.js')",
        f"new Promise((yes, no) => Object.assign(new Image(), {{onload: yes, onerror: no, src: {other!r}}}))",
    ):
        with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
            assert page.evaluate(f"{loads}.then(() => 'loaded', () => 'refused')") == "refused"
    page.close()


def test_pages_from_elsewhere_are_refused(chromium, server):
    request = chromium.new_context().request
    assert request.get(server.url, headers={"Host": "attacker.example"}).status == 400
    video = {"files": {"name": "video.mp4", "mimeType": "video/mp4", "buffer": b"video"}}
    for origin in ("http://attacker.example", "null", server.url.replace("127.0.0.1", "localhost").rstrip("/")):
        assert request.post(f"{server.url}gradio_api/upload", headers={"Origin": origin}, multipart=video).status == 403
    assert server.left() == []


def test_the_size_is_limited_whatever_a_browser_does(chromium, server):
    request = chromium.new_context().request
    video = {"files": {"name": "video.mp4", "mimeType": "video/mp4", "buffer": bytes(3 << 19)}}
    assert request.post(f"{server.url}gradio_api/upload", multipart=video).status == 413
    assert server.left() == []


def test_nothing_but_uploads_is_taken_whatever_a_request_says(chromium, tmp_path, weights, videos):
    meta = {"_type": "gradio.FileData"}
    with serving(tmp_path, weights) as server:
        request, api = chromium.new_context().request, f"{server.url}gradio_api"
        entries = request.get(f"{server.url}config").json()["dependencies"]
        functions = {entry["api_name"]: entry["id"] for entry in entries}

        def answer(name, *data):
            asked = {"fn_index": functions[name], "data": data, "session_hash": "somebody"}
            request.post(f"{api}/queue/join", data=asked)
            return request.get(f"{api}/queue/data?session_hash=somebody").text()

        answer("enter")
        for path in (str(videos / "noise.mp4"), f"{server.url}config"):  # a video of this machine, and a link
            assert "not one of this page" in answer("take", {"path": path, "meta": meta})
            said = answer("show", {"path": path, "meta": meta})
            assert "not in the list of choices" in said
            assert str(server.place) not in said
            assert server.left() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_on_any_width(open_page, videos, scheme):
    page = open_page(color_scheme=scheme, viewport={"width": 400, "height": 800})
    choose(page, videos / "noise.mp4")
    report = verdict(page, "noise.mp4")
    brightness = "body => getComputedStyle(body).backgroundColor.match(/[0-9.]+/g).slice(0, 3).map(Number)"
    for body in (page.locator("body"), report.locator("body")):
        values = body.evaluate(brightness)
        assert max(values) < 80 if scheme == "dark" else min(values) > 200, values
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_a_keyboard_is_enough(open_page, videos):
    page = open_page()
    chosen = []
    page.on("filechooser", lambda chooser: chosen.append(chooser))

    def ask():
        # the page is drawn before it listens to keys, and draws the button anew then, which takes the focus from it
        page.evaluate("document.activeElement.blur(); getSelection().setPosition(document.body, 0)")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_timeout(500)
        return chosen

    until(ask)
    chosen[0].set_files(videos / "noise.mp4")
    verdict(page, "noise.mp4")
    page.locator("#history input").focus()
    page.keyboard.press("Tab")
    with page.expect_download():
        page.keyboard.press("Enter")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_end_leaves_nothing(chromium, tmp_path, weights, videos, number, status):
    with serving(tmp_path, weights, "--host", "0.0.0.0") as server:
        server.gate.touch()
        page = chromium.new_page()
        page.goto(server.url.replace("0.0.0.0", "127.0.0.1"))
        choose(page, videos / "noise.mp4")
        page.locator("#state").get_by_text("Looking for faces").wait_for()
        assert "noise.mp4" in server.left()
        server.process.send_signal(number)
        out, err = server.process.communicate(timeout=PATIENCE)
        page.close()
    assert server.process.returncode == status
    assert "Traceback" not in err
    assert "whoever can reach 0.0.0.0 can use this page" in err
    assert list(server.place.glob("dfmodels-app-*")) == []
