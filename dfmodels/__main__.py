"""The command `dfmodels`, also as `python -m dfmodels`; it hears Ctrl-C while it begins too."""

import os
import signal
import sys
from types import FrameType


def main() -> int:
    """Run the command line; exit status as of `dfmodels.cli.main`."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # not where it was switched off
        signal.signal(signal.SIGINT, _interrupted)
    from dfmodels.cli import main as run  # with torch, which takes seconds

    signal.signal(signal.SIGINT, before)
    return run()


def _interrupted(number: int, frame: FrameType | None) -> None:
    # an exception would pass through the modules at hand, some of which make another of it
    print("dfmodels: interrupted", file=sys.stderr, flush=True)
    os._exit(128 + number)


if __name__ == "__main__":  # a process that loads samples imports this too
    sys.exit(main())
