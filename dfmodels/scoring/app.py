"""A page on this machine that judges the videos dropped on it, as `dfmodels score` does, for people without a terminal.

`Desk` takes videos and judges them and knows nothing of how that looks; `make_page` draws it with gradio; `run` answers
browsers, and lets no page load anything from elsewhere.
"""

import errno
import ipaddress
import logging
import os
import shutil
import socket
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from types import FrameType
from typing import Any

from markupsafe import Markup, escape

from dfmodels.detector import Detector
from dfmodels.files import printable
from dfmodels.optional import require
from dfmodels.scoring.formats import SHOWN_HASH
from dfmodels.scoring.report import render
from dfmodels.scoring.result import VideoScore
from dfmodels.scoring.video import score_video
from dfmodels.scoring.words import LIMITS, duration_text, probability_text
from dfmodels.video import FaceDetector, VideoError, video_info
from dfops import __version__

LOG = logging.getLogger(__name__)
STALE = 300.0  # seconds without a byte after which an upload that no page speaks of is deleted
SWEEP = 30.0  # seconds between looks at them
LAST_JOB = 30.0  # seconds that the video being judged has to notice that the program ends
LONGEST_NAME = 200  # bytes
KEPT = 50  # reports a page, the newest
LOOPBACK = ["localhost", "127.0.0.1", "[::1]"]
UNNAMED = "video"


class RefusedError(ValueError):
    """A video that is not judged; the message is a sentence for people."""


class ClosedError(BaseException):
    """The page that asked for a verdict is closed, or the program ends; no `Exception`, which would be of the video."""


@dataclass(frozen=True)
class Job:
    """A video that waits.

    Attributes:
        path: the video, the only file in its folder.
        upload: where the browser's upload lies, another name of the same file.
    """

    path: Path
    upload: Path

    @property
    def name(self) -> str:
        return printable(self.path.name)

    def discard(self) -> None:
        """Delete the video under both names."""
        # another page may have uploaded the same video meanwhile, which then lies at the same place
        with suppress(FileNotFoundError):
            if self.upload.samefile(self.path):
                self.upload.unlink()
        shutil.rmtree(self.path.parent, ignore_errors=True)

    def without_folder(self, text: str) -> str:
        """`text` with the name of the video where it says the path, of which nobody but this program has anything."""
        return text.replace(f"{self.path.parent}{os.sep}", "")


@dataclass(frozen=True)
class Entry:
    """A judged video in the history of a page.

    Attributes:
        name: of the file as it was called before the upload, printable.
        line: what the history says of it.
        report: the page of `dfmodels.scoring.report` about it.
    """

    name: str
    line: str
    report: str


@dataclass(eq=False)
class Session:
    """One open page: its videos in the order in which they came, and what became of the earlier ones."""

    waiting: deque[Job] = field(default_factory=deque)
    history: list[Entry] = field(default_factory=list)
    closed: bool = False


class Desk:
    """Takes the videos of all open pages and judges them one after the other.

    A video lies below `folder` until it is judged, its page is closed or the program ends. Reports stay in memory, for
    the page that asked for them, until it is closed.

    Args:
        model: a trained detector.
        folder: private; whoever receives uploads puts them into the folder `uploads` in it.
        faces: face detector.
        max_minutes: longest video that is taken.
        command: what judges a video of this name on a command line.
        settings: further facts that its report tells.
        **options: of `score_video`.
    """

    def __init__(
        self,
        model: Detector,
        folder: Path,
        *,
        faces: FaceDetector,
        max_minutes: float,
        command: Callable[[str], str],
        settings: Mapping[str, str],
        **options: Any,
    ) -> None:
        self.model, self.faces, self.max_minutes, self.options = model, faces, max_minutes, options
        self.command, self.settings = command, settings
        self.uploads, self.videos = folder / "uploads", folder / "videos"
        self.uploads.mkdir()
        self.videos.mkdir()
        self.sessions: dict[str, Session] = {}
        self.turn = threading.Lock()
        self.ending = False

    def enter(self, key: str) -> None:
        """A page was opened."""
        self.sessions[key] = Session()

    def leave(self, key: str) -> None:
        """A page was closed: nothing of it stays."""
        session = self.sessions.pop(key, None)
        if session is not None:
            session.closed = True
            while session.waiting:
                session.waiting.popleft().discard()

    def take(self, key: str, upload: Path, name: str) -> Job:
        """Let an uploaded video wait for its turn.

        Args:
            key: of the page.
            upload: where it lies.
            name: what it was called.

        Raises:
            RefusedError: it is not judged, and why.
        """
        # who uploads says where that lies, and may say anything
        if Path(os.path.realpath(self.uploads)) not in Path(os.path.realpath(upload)).parents:
            raise RefusedError("The upload is not one of this page: drop the video again.")
        job = Job(Path(mkdtemp(dir=self.videos)) / file_name(name), upload)
        try:
            try:
                os.link(upload, job.path)
            except OSError as error:
                raise RefusedError(f"{job.name} did not arrive ({error.strerror}): drop it again.") from error
            session = self.sessions.get(key)
            if session is None:
                raise RefusedError("This page lost touch with dfmodels app: reload it, then drop the video again.")
            try:
                info = video_info(job.path)
            except VideoError as error:
                raise RefusedError(printable(job.without_folder(str(error)))) from error
            if info.duration > 60 * self.max_minutes:
                raise RefusedError(
                    f"{job.name} lasts {duration_text(info.duration)}, and this page takes {self.max_minutes:g} "
                    "minutes at most: cut out the part in question, or start dfmodels app with a larger --max-minutes."
                )
        except BaseException:
            job.discard()
            raise
        session.waiting.append(job)
        return job

    def judge(self, key: str, progress: Callable[[int, int], object]) -> Entry | None:
        """Judge the video of a page that waits longest; None where there is none, or the page was closed meanwhile.

        Args:
            key: of the page.
            progress: as for `score_video`.

        Raises:
            RefusedError: something failed that is not the video's fault, such as memory.
        """
        with self.turn:
            session = self.sessions.get(key)
            if session is None or not session.waiting:
                return None
            job = session.waiting.popleft()

            def watched(done: int, total: int) -> None:
                if session.closed or self.ending:
                    raise ClosedError
                progress(done, total)

            try:
                score = score_video(
                    self.model, job.path, faces=self.faces, progress=watched, keep_moments=True, **self.options
                )
                report = render([score], command=self.command(job.path.name), settings=self.settings)
            except ClosedError:
                return None
            except Exception as error:
                LOG.error("dfmodels app: %s: %s", job.name, error, exc_info=LOG.isEnabledFor(logging.DEBUG))
                raise RefusedError(f"{job.name} could not be judged: {printable(str(error))}") from error
            finally:
                job.discard()
            entry = Entry(job.name, history_line(job.name, score), job.without_folder(report))
            session.history.append(entry)
            del session.history[:-KEPT]
            return entry

    def history(self, key: str) -> list[Entry]:
        """What was judged for a page, in order of time."""
        session = self.sessions.get(key)
        return [] if session is None else list(session.history)

    def sweep(self, age: float = STALE) -> None:
        """Delete uploads that got no byte for `age` seconds: they broke off, or their page was closed."""
        before = time.time() - age
        for path in sorted(self.uploads.rglob("*"), reverse=True):  # what is in a folder before the folder
            with suppress(OSError):
                status = path.lstat()
                if status.st_mtime < before:
                    # a file with a second name is a video that waits; a folder with something in it stays
                    if path.is_dir():
                        path.rmdir()
                    elif status.st_nlink == 1:
                        path.unlink()

    def close(self) -> None:
        """End: no video is judged any more, and that which is stops at its next frame."""
        self.ending = True
        for key in list(self.sessions):
            self.leave(key)
        if self.turn.acquire(timeout=LAST_JOB):
            self.turn.release()


def file_name(name: str) -> str:
    """What a file of a browser may be called here: one part of a path, short, with its end."""
    name = name.replace("\0", "").replace("/", "_").encode(errors="replace").decode()
    while len(name.encode()) > LONGEST_NAME:
        middle = len(name) // 2
        name = name[: middle - 1] + name[middle + 1 :]
    return UNNAMED if name in ("", ".", "..") else name


def history_line(name: str, score: VideoScore) -> str:
    """A judged video in a few words."""
    if score.probability is None:
        return f"{name}: failed"
    return f"{name}: {score.verdict}, fake probability {probability_text(score.probability)}"


# ---------------------------------------------------------------------- the page


def about_model(desk: Desk) -> Markup:
    """By what the page judges, and what a verdict is worth."""
    model, origin = desk.model, desk.model.origin
    file = Path(origin.file).name if origin.file else "trained in this process"
    digest = f" (SHA-256 {origin.sha256[:SHOWN_HASH]})" if origin.sha256 else ""
    note = Markup('<p class="note"><strong>These weights:</strong> {}</p>').format(printable(origin.note))
    faces = "not looked for: the frames are taken for face crops" if desk.faces.name == "none" else desk.faces.name
    return (
        Markup(
            "<h1>Deepfake detection</h1>"
            "<p>Drop a video; what comes back is a report that says how much the faces in it resemble forgeries, and "
            "when and where. Everything is computed by the machine that this page comes from: nothing is sent "
            "elsewhere, and a video is deleted as soon as it is judged.</p>"
            '<dl class="by"><dt>Detector</dt><dd>{}, dfmodels {}</dd><dt>Weights</dt><dd>{}{}</dd>'
            "<dt>Faces found by</dt><dd>{}</dd></dl>"
        ).format(model.name, __version__, printable(file), digest, printable(faces))
        + (note if origin.note else Markup())
        + Markup('<p class="note"><strong>A verdict is no proof.</strong> {}</p>').format(LIMITS)
    )


def framed(entry: Entry) -> Markup:
    """A report inside the page, where it can reach nothing around it."""
    return Markup(
        '<iframe id="report-frame" title="Report about {}" sandbox="allow-scripts allow-modals" data-name="{}" '
        'srcdoc="{}"></iframe>'
    ).format(entry.name, f"{entry.name}.report.html", entry.report)


# the report is in the page already: nothing has to be written on this machine for the sake of the download
DOWNLOAD = """() => {
  const frame = document.getElementById("report-frame");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([frame.getAttribute("srcdoc")], {type: "text/html"}));
  link.download = frame.dataset.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}"""

CSS = """
.by { display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px; margin: 10px 0; }
.by dt { opacity: 0.75; }
.by dd { margin: 0; overflow-wrap: anywhere; }
.note { border-left: 4px solid var(--border-color-primary); padding: 2px 12px; margin: 10px 0; }
#report, #report > * { padding: 0; }
#state { min-height: 64px; overflow-wrap: anywhere; }
#report-frame { width: 100%; height: 85vh; min-height: 480px; resize: vertical; background: transparent;
  border: 1px solid var(--border-color-primary); border-radius: 6px; }
"""


def make_page(desk: Desk, max_bytes: int) -> Any:
    """The page as gradio's Blocks; one video is judged at a time, and the others are told their place in the queue."""
    import gradio as gr

    def enter(request: gr.Request) -> None:
        desk.enter(request.session_hash)

    def leave(request: gr.Request) -> None:
        desk.leave(request.session_hash)

    def take(upload: Any, request: gr.Request) -> None:
        if upload:
            with refusals():
                desk.take(request.session_hash, Path(upload["path"]), upload.get("orig_name") or UNNAMED)

    def judge(request: gr.Request, progress: Any = gr.Progress()) -> Any:  # noqa: B008 it is how gradio hands it over
        def show(done: int, total: int) -> None:
            progress((done, total), desc="Looking for faces and judging them", unit="frames")

        with refusals():
            entry = desk.judge(request.session_hash, show)
        if entry is None:
            return [gr.skip()] * 4
        history = desk.history(request.session_hash)
        choices = [(f"{number}. {each.line}", number) for number, each in enumerate(history, 1)]
        said = Markup('<p role="status">{}. Its report is below.</p>').format(entry.line)
        return said, gr.Radio(choices=choices, value=len(choices), visible=True), gr.Button(visible=True), framed(entry)

    def show(number: Any, request: gr.Request) -> Any:
        history = desk.history(request.session_hash)
        return framed(history[number - 1]) if number in range(1, len(history) + 1) else gr.skip()

    @contextmanager
    def refusals() -> Iterator[None]:
        try:
            yield
        except RefusedError as error:
            raise gr.Error(escape(str(error)), title="Not judged", duration=None, print_exception=False) from error

    inner = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
    with gr.Blocks(title="Deepfake detection", analytics_enabled=False) as page:
        gr.HTML(about_model(desk))
        video = gr.File(
            label=f"Video, at most {max_bytes / 2**20:g} MB and {desk.max_minutes:g} minutes",
            height=160,
            elem_id="video",
        )
        state = gr.HTML(elem_id="state")
        history = gr.Radio([], label="Videos judged since this page was opened", visible=False, elem_id="history")
        download = gr.Button("Download this report", visible=False, elem_id="download")
        report = gr.HTML(elem_id="report")

        page.load(enter, **inner)
        page.unload(leave)
        # raw, or gradio would leave an empty file for each; what it says is checked by the desk
        taken = video.upload(take, video, preprocess=False, trigger_mode="multiple", **inner)
        for ended in (taken.success, taken.failure):
            ended(lambda: None, outputs=video, **inner)
        taken.success(
            judge,
            outputs=[state, history, download, report],
            show_progress_on=state,
            trigger_mode="multiple",
            concurrency_limit=1,
            api_visibility="private",
        )
        history.input(show, history, report, **inner)
        download.click(None, js=DOWNLOAD)
    return page


# ---------------------------------------------------------------------- the server


def run(
    make_desk: Callable[[Path], Desk], *, host: str, port: int, max_bytes: int, ready: Callable[[str], object]
) -> None:
    """Serve the page until Ctrl-C, which arrives as KeyboardInterrupt.

    Args:
        make_desk: from a private folder, which is deleted in the end.
        host: name or address to be reached by.
        port: 0 for any that is free.
        max_bytes: largest video that is taken.
        ready: called with the address of the page.

    Raises:
        OSError: the address cannot be had.
        ImportError: gradio is missing.
    """
    with listening(host, port) as listener, TemporaryDirectory(prefix="dfmodels-app-") as name:
        folder = Path(name)
        os.environ.update(QUIET, GRADIO_TEMP_DIR=str(folder / "uploads"))
        require("gradio", "the page")
        import gradio as gr
        import uvicorn
        from fastapi import FastAPI
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        desk = make_desk(folder)
        # Of a mounted page gradio copies any file of this machine, and whatever a link leads to, to where pages can get
        # at it, if a request names that in the place of an upload. What was uploaded lies where it shall already.
        if not hasattr(gr.blocks.Block, "async_move_resource_to_block_cache"):
            raise ImportError(f"the page is not safe with gradio {gr.__version__}: install 'gradio>=6.31,<7'")
        gr.blocks.Block.async_move_resource_to_block_cache = _as_it_is
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)  # those load scripts from elsewhere
        address = listener.getsockname()
        if ipaddress.ip_address(address[0]).is_loopback:
            # or a page from elsewhere could reach this one under a name of its own
            app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, address[0]])
        else:
            LOG.warning(
                "warning: whoever can reach %s can use this page, without a password and unencrypted; --host 127.0.0.1 "
                "keeps it to this machine",
                host,
            )
        app.add_middleware(OnlyFromHere)
        fonts = gr.themes.Font("system-ui"), gr.themes.Font("sans-serif")
        gr.mount_gradio_app(
            app,
            make_page(desk, max_bytes),
            path="/",
            server_name=host,
            server_port=address[1],
            footer_links=[],
            run_history=False,
            max_file_size=max_bytes,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            theme=gr.themes.Default(
                primary_hue="blue", font=fonts, font_mono=(gr.themes.Font("ui-monospace"), gr.themes.Font("monospace"))
            ),
            css=CSS,
        )

        class Server(uvicorn.Server):
            def handle_exit(self, sig: int, frame: FrameType | None) -> None:
                desk.ending = True
                # connections are cut off now, each of which it would tell with a traceback
                logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
                super().handle_exit(sig, frame)

        server = Server(
            uvicorn.Config(app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=1)
        )
        ended = threading.Event()
        threading.Thread(target=_sweeping, args=(desk, ended), daemon=True).start()
        try:
            ready(f"http://{f'[{host}]' if ':' in host else host}:{address[1]}/")
            server.run(sockets=[listener])
        finally:
            ended.set()
            desk.close()


async def _as_it_is(block: Any, path: str | Path | None) -> str | None:
    return None if path is None else str(path)


def _sweeping(desk: Desk, ended: threading.Event) -> None:
    while not ended.wait(SWEEP):
        desk.sweep()


# gradio and what it imports ask others for news, tell them what they do, or keep what was done, unless told not to
QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that is bound to `host` and `port`; OSError says why there is none."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise OSError(f"--host {host}: no address is known for it ({error})") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise OSError(
                    f"--port {port} is in use on {host}, perhaps by another dfmodels app: give another one, or 0 for "
                    "any that is free"
                ) from error
            if error.errno == errno.EACCES:
                raise OSError(f"--port {port}: this user may not use it; those from 1024 on are free to all") from error
            raise OSError(f"--host {host} is no address of this machine ({error.strerror})") from error
        yield listener
    finally:
        listener.close()


class OnlyFromHere:
    """ASGI middleware: browsers load nothing from elsewhere for the page, and pages from elsewhere cannot use it."""

    HEADERS = (
        (
            b"content-security-policy",
            b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'none'; form-action 'none'",
        ),
        (b"referrer-policy", b"no-referrer"),
        (b"x-content-type-options", b"nosniff"),
        (b"cross-origin-resource-policy", b"same-origin"),
    )

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self.HEADERS]
            await send(message)

        headers = dict(scope.get("headers", ()))
        origin = headers.get(b"origin")
        if scope["type"] == "http" and origin is not None and origin.partition(b"://")[2] != headers.get(b"host"):
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body"})
        else:
            await self.app(scope, receive, guarded)
