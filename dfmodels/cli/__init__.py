"""The command `dfmodels`: one module per subcommand, each with `EXAMPLE`, `add` (its arguments) and `run` (status)."""

import argparse
import logging
import os
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import dfmodels
import dfops
from dfmodels.cli import app, compare, convert, demo, evaluate, fetch, index, info, models, prepare, score, train
from dfmodels.files import printable

COMMANDS = {
    "score": score,
    "app": app,
    "index": index,
    "prepare": prepare,
    "train": train,
    "evaluate": evaluate,
    "compare": compare,
    "demo": demo,
    "convert": convert,
    "fetch": fetch,
    "list": models,
    "info": info,
}
LOG = logging.getLogger(dfmodels.__name__)


def make_parser() -> argparse.ArgumentParser:
    """The whole command line; -q and -v are taken before the command and behind it."""
    parser = argparse.ArgumentParser(prog="dfmodels", description="Published deepfake detectors on fused operators.")
    parser.add_argument("--version", action="version", version=f"dfmodels {dfops.__version__}")
    parser.set_defaults(level=logging.INFO)
    _add_verbosity(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example: {module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,  # wraps no command line
        )
        module.add(command)
        _add_verbosity(command)
    return parser


def _add_verbosity(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    # a subcommand that sets a default would undo what was said before it
    for flags, level, text in (
        (("-q", "--quiet"), logging.WARNING, "no progress bars and no notes, only results, warnings and errors"),
        (("-v", "--verbose"), logging.DEBUG, "say what is decided on the way, and where an error was raised"),
    ):
        group.add_argument(
            *flags, dest="level", action="store_const", const=level, default=argparse.SUPPRESS, help=text
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        Exit status: 0 done, 1 some videos failed, 2 nothing could be done, 130 interrupted, 143 ended by SIGTERM.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    with _messages(), _terminable() as terminated:
        options = make_parser().parse_args(arguments)
        options.typed = shlex.join(["dfmodels", *arguments])
        LOG.setLevel(options.level)
        try:
            status = COMMANDS[options.command].run(options)
            if sys.stdout is not None:
                sys.stdout.flush()
            return status
        except KeyboardInterrupt:
            if terminated:
                return _ended(terminated)
            LOG.error("dfmodels: interrupted")
            return 128 + signal.SIGINT
        except BrokenPipeError:
            _drop_output()  # the reader (head, less) has seen enough
            return 0
        except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
            if terminated:  # and a worker too, whose end was the error
                return _ended(terminated)
            LOG.error("dfmodels %s: %s", options.command, error, exc_info=options.level <= logging.DEBUG)
            try:
                if sys.stdout is not None:
                    sys.stdout.flush()
            except OSError:  # what the error says already
                _drop_output()
            return 2


@contextmanager
def _terminable() -> Iterator[list[str]]:
    """SIGTERM ends the block as Ctrl-C does, so that workers end and what is half written goes.

    Yields:
        Its name once it has arrived. Sent again, it ends the process at once.
    """
    arrived: list[str] = []

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # workers may end of it too, which is no news
        arrived.append(signal.Signals(number).name)
        raise KeyboardInterrupt(*arrived)

    if threading.current_thread() is not threading.main_thread():  # which alone hears signals
        yield arrived
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield arrived
    finally:
        signal.signal(signal.SIGTERM, before)


def _ended(terminated: Sequence[str]) -> int:
    LOG.error("dfmodels: ended by %s", *terminated)
    return 128 + signal.SIGTERM


def _drop_output() -> None:
    """Keep the interpreter from writing at its exit what could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _messages() -> Iterator[None]:
    """Notes and warnings go to the error stream, one line each: the output holds results alone."""
    notes = logging.StreamHandler()
    notes.setFormatter(_Shown())
    LOG.addHandler(notes)
    before = LOG.level
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            yield
    finally:
        LOG.removeHandler(notes)
        LOG.setLevel(before)


class _Shown(logging.Formatter):
    """Escapes in the place of control characters: the name of a file may hold some, which would act on a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object, **__: object
) -> None:
    LOG.warning("warning: %s", message)
    LOG.debug("%s of %s:%d", category.__name__, filename, lineno)
