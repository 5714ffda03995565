"""`dfmodels fetch`, against a server on the loopback."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dfmodels.cli import fetch, main
from dfmodels.video.faces import YUNET_FILE, yunet_cache

CONTENT = bytes(range(256)) * 600


class Server(ThreadingHTTPServer):
    """Serves CONTENT, and other answers by the path asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        kind = self.path.strip("/")
        if kind == "missing":
            self.send_error(404)
        elif kind in ("moved", "loop"):
            self.send_response(302)
            self.send_header("Location", "/file" if kind == "moved" else "/loop")
            self.end_headers()
        elif kind == "no-http":
            self.wfile.write(b"hello\r\n\r\n")
        elif kind == "silent":
            self.server.closing.wait(30)
        else:
            content = {"other": CONTENT[::-1], "pointer": b"version https://git-lfs", "large": CONTENT * 100}
            self.send_response(200)
            if kind != "unannounced":
                self.send_header("Content-Length", str(len(content.get(kind, CONTENT))))
            self.end_headers()
            half = CONTENT[: len(CONTENT) // 2]
            with contextlib.suppress(OSError):  # who asked may have gone
                self.wfile.write(half if kind in ("cut", "hang") else content.get(kind, CONTENT))
            if kind == "hang":
                self.wfile.flush()
                self.server.closing.wait(30)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A server whose /file is the published one; the cache folder is not there yet."""
    published = replace(fetch.YUNET, sha256=hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT))
    monkeypatch.setattr(fetch, "YUNET", published)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("DFMODELS_YUNET", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.closing.set()
        server.shutdown()


def test_what_is_published() -> None:
    assert fetch.YUNET.url.startswith("https://")
    assert fetch.YUNET.url.endswith(f"/{YUNET_FILE}")
    assert len(bytes.fromhex(fetch.YUNET.sha256)) == 32


@pytest.mark.parametrize("way", ["file", "moved", "unannounced"])
def test_the_cache_folder_gets_the_file(
    server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path, way: str
) -> None:
    target = tmp_path / "cache" / "dfmodels" / YUNET_FILE
    assert main(["fetch", "yunet", "--url", f"{server.url}/{way}"]) == 0
    assert target.read_bytes() == CONTENT
    assert yunet_cache() == target
    assert os.listdir(target.parent) == [YUNET_FILE]
    assert capsys.readouterr().out == f"wrote {target}\n"
    asked = len(server.asked)
    assert main(["fetch", "yunet", "--url", f"{server.url}/{way}"]) == 0
    assert len(server.asked) == asked
    assert capsys.readouterr().out == f"{target} is the published file already\n"
    target.write_bytes(CONTENT[:-1])
    assert main(["fetch", "yunet", "--url", f"{server.url}/{way}"]) == 0
    assert target.read_bytes() == CONTENT


def test_another_place(server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "folder" / "m.onnx"
    assert main(["fetch", "yunet", "--url", f"{server.url}/file", "--to", str(target)]) == 0
    assert target.read_bytes() == CONTENT
    assert f"--faces yunet:{target}" in capsys.readouterr().out
    assert not (tmp_path / "cache").exists()


def test_a_variable_that_names_another_file_is_said(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DFMODELS_YUNET", "/elsewhere.onnx")
    assert main(["fetch", "yunet", "--url", f"{server.url}/file"]) == 0
    assert "DFMODELS_YUNET names another file, /elsewhere.onnx" in capsys.readouterr().out
    assert yunet_cache().read_bytes() == CONTENT


ERRORS = {
    "missing": "/missing answered 404 Not Found",
    "loop": "/loop answered 302 The HTTP server returned a redirect error that would lead to an infinite loop.",
    "no-http": "/no-http cannot be read: hello",
    "cut": f"/cut ended early, after {len(CONTENT) // 2} of {len(CONTENT)} bytes",
    "other": f"/other is not the published file: {len(CONTENT)} bytes with SHA-256 ",
    "pointer": "/pointer is not the published file: 23 bytes with SHA-256 ",
    "large": f"/large is not the published file: more than {len(CONTENT)} bytes",
    "hang": "/hang gave no answer for 0.3 s",
    "silent": "/silent gave no answer for 0.3 s",
}


@pytest.mark.parametrize("kind", ERRORS)
def test_errors_are_one_sentence_and_leave_nothing(
    server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str
) -> None:
    assert main(["fetch", "yunet", "--url", f"{server.url}/{kind}", "--timeout", "0.3"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"dfmodels fetch: {server.url}{ERRORS[kind]}")
    assert err.count("\n") == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_no_network(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and does not listen
        address = f"http://127.0.0.1:{free.getsockname()[1]}/file"
        assert main(["fetch", "yunet", "--url", address]) == 2
    err = capsys.readouterr().err
    assert err.startswith(
        f"dfmodels fetch: {address} cannot be read: [Errno 111] Connection refused; is there a network?"
    )
    assert err.count("\n") == 1


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "ftp://host/m.onnx", "m.onnx", "http://[::1/m.onnx"])
def test_wrong_addresses(server: Server, capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert main(["fetch", "yunet", "--url", url]) == 2
    err = capsys.readouterr().err
    assert repr(url) in err or f"{url} cannot be read" in err
    assert err.count("\n") == 1


def test_a_full_disk_keeps_what_was_there(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = yunet_cache()
    target.parent.mkdir(parents=True)
    target.write_bytes(b"before")

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert main(["fetch", "yunet", "--url", f"{server.url}/file"]) == 2
    assert capsys.readouterr().err == f"dfmodels fetch: {target} cannot be written: No space left on device\n"
    assert target.read_bytes() == b"before"
    assert os.listdir(target.parent) == [target.name]


def test_where_nothing_can_be_written(server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    for target, message in (
        (tmp_path / "file" / "m.onnx", "the folder of --to must be a folder to write to"),
        (tmp_path / "file", "--to must be a file that is not there yet, or the published one"),
        (tmp_path, "--to must be a file that is not there yet, or the published one"),
        ("", "--to must be a path, got an empty one"),
    ):
        assert main(["fetch", "yunet", "--url", f"{server.url}/file", "--to", str(target)]) == 2
        assert message in capsys.readouterr().err
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert server.asked == []


def test_a_folder_without_rights(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed)  # root may write anywhere
    assert main(["fetch", "yunet", "--url", f"{server.url}/file", "--to", str(closed / "m.onnx")]) == 2
    assert f"{closed} does not allow it" in capsys.readouterr().err
    assert server.asked == []


@pytest.mark.parametrize("seconds", ["0", "-1", "nan"])
def test_timeouts(server: Server, capsys: pytest.CaptureFixture[str], seconds: str) -> None:
    assert main(["fetch", "yunet", "--timeout", seconds]) == 2
    assert "--timeout must be a number of seconds above 0" in capsys.readouterr().err
