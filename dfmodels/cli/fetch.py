"""Download a published model file: yunet, which finds faces; nothing else of dfmodels downloads anything."""

import argparse
import hashlib
import http.client
import os
import string
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import dfops
from dfmodels.cli.loading import check_path
from dfmodels.files import atomic_write, writable_folder
from dfmodels.progress import progress_bar
from dfmodels.video.faces import YUNET_FILE, YUNET_VARIABLE, yunet_cache

EXAMPLE = "dfmodels fetch yunet"
CHUNK = 1 << 16  # bytes
TIMEOUT = 30.0  # seconds


@dataclass(frozen=True)
class Published:
    """A file that somebody published, small enough to be held in memory."""

    url: str
    sha256: str
    size: int  # bytes


YUNET = Published(
    f"https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/{YUNET_FILE}",
    "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    232_589,
)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", choices=["yunet"], help="yunet: OpenCV's face detector, for --faces auto and yunet")
    parser.add_argument("--to", metavar="FILE", help="where it is written (default: the user's cache folder)")
    parser.add_argument(
        "--url", default=YUNET.url, help="a mirror of it; its SHA-256 is checked (default: %(default)s)"
    )
    parser.add_argument("--timeout", type=float, default=TIMEOUT, metavar="S", help="seconds to wait for an answer")


def run(options: argparse.Namespace) -> int:
    check_path("--to", options.to)
    if not 0 < options.timeout < 1e6:
        raise ValueError(f"--timeout must be a number of seconds above 0, got {options.timeout}")
    target = Path(options.to) if options.to else yunet_cache()
    if target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == YUNET.sha256:
        print(f"{target} is the published file already")
        return 0
    if options.to and target.exists():
        raise ValueError(f"--to must be a file that is not there yet, or the published one, got {target}")
    writable_folder("the folder of --to" if options.to else "the cache folder", target.parent)
    content = download(options.url, YUNET, options.timeout)
    try:
        with atomic_write(target) as partial:
            partial.write_bytes(content)
    except OSError as error:
        if error.errno is None:  # a sentence already
            raise
        raise OSError(f"{target} cannot be written: {error.strerror}") from error
    print(f"wrote {target}")
    named = os.environ.get(YUNET_VARIABLE)
    if named and Path(named).resolve() != target.resolve():
        print(f"{YUNET_VARIABLE} names another file, {named}, which is taken before this one")
    elif options.to and not named:
        print(f"--faces auto takes it if {YUNET_VARIABLE} names it, --faces yunet:{target} in any case")
    return 0


def download(url: str, published: Published, timeout: float) -> bytes:
    """The published file, from `url`.

    Raises:
        ValueError: no address of http or https.
        OSError: no answer, an answer that ends early, or another file; one sentence each.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError(f"--url must begin with https:// or http://, got {url!r}")
    address = urllib.parse.quote(url, safe=string.punctuation)
    content = bytearray()
    try:
        request = urllib.request.Request(address, headers={"User-Agent": f"dfmodels/{dfops.__version__}"})
        with (
            urllib.request.urlopen(request, timeout=timeout) as answer,
            progress_bar(total=published.size, desc=url.rsplit("/", 1)[-1], unit="B", unit_scale=True) as bar,
        ):
            announced = answer.length
            # one byte too many tells a larger file, however large
            while len(content) <= published.size and (piece := answer.read1(CHUNK)):
                content += piece
                bar.update(len(piece))
    except urllib.error.HTTPError as error:
        raise OSError(f"{url} answered {error.code} {one_line(error.reason)}") from error
    except TimeoutError as error:
        raise OSError(f"{url} gave no answer for {timeout:g} s") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise OSError(f"{url} gave no answer for {timeout:g} s") from error
        raise OSError(
            f"{url} cannot be read: {one_line(reason) or type(reason).__name__}; is there a network? --url takes a "
            "mirror, and `--faces yunet:FILE` a file that you have"
        ) from error
    if announced is not None and len(content) < min(announced, published.size):
        raise OSError(f"{url} ended early, after {len(content)} of {announced} bytes")
    found = hashlib.sha256(content).hexdigest()
    if found != published.sha256:
        size = f"{len(content)} bytes" if len(content) <= published.size else f"more than {published.size} bytes"
        raise OSError(
            f"{url} is not the published file: {size} with SHA-256 {found}, expected {published.size} bytes with "
            f"{published.sha256}"
        )
    return bytes(content)


def one_line(reason: object) -> str:
    return " ".join(str(reason).split())
