"""Files that are complete or not there, folders for them, and their names on a line of text."""

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A file to write in place of `path`, which it becomes when the block ends; an error leaves `path` as it was.

    The file lies in the folder of `path` (of its target where that is a link), under a name of its own, and has the
    permissions that the user's umask gives. It is on the disk before the old file goes.

    Raises:
        OSError: the folder does not exist or cannot be written to, `path` is no regular file, or the disk is full.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise OSError(f"{path} cannot be written: it is {'a folder' if path.is_dir() else 'not a regular file'}")
    partial = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}.part")
    try:
        descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} cannot be written: the folder {path.parent} does not exist") from error
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror}") from error
    mode = os.fstat(descriptor).st_mode & 0o777
    os.close(descriptor)
    try:
        yield partial
        os.chmod(partial, mode)  # a writer may have put a private file in its place
        flush(partial)
        os.replace(partial, path)
        with suppress(OSError):  # not every file system can flush a folder
            flush(path.parent)
    except OSError as error:
        if error.strerror is None or error.filename not in (None, str(partial)):
            raise
        raise OSError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def writable_folder(name: str, folder: Path) -> Path:
    """`folder`, made if it is not there; ValueError that calls it `name` where nothing could be written to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{name} must be a folder to write to, {folder} cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"{name} must be a folder to write to, {folder} does not allow it")
    return folder


def printable(text: str) -> str:
    """Text of one line: escapes in the place of line breaks, control characters and what is no Unicode."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def sha256(path: str | Path) -> str:
    """SHA-256 of the bytes of a file, in hexadecimal; OSError where it cannot be read."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def flush(path: Path) -> None:
    """Wait until a file, or the list of files of a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
