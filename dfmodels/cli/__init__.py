"""The command `dfmodels`: one module per subcommand, each with `add` (its arguments) and `run` (exit status)."""

import argparse
import os
import sys
from collections.abc import Sequence

from dfmodels.cli import convert, demo, info, models, score

COMMANDS = {"score": score, "demo": demo, "convert": convert, "list": models, "info": info}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; exit status 0 done, 1 some videos failed, 2 nothing could be done, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="dfmodels", description="Published deepfake detectors on fused operators.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        module.add(commands.add_parser(name, help=summary, description=summary))
    options = parser.parse_args(arguments)
    try:
        return COMMANDS[options.command].run(options)
    except KeyboardInterrupt:
        print("dfmodels: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader (head, less) has seen enough; keep the interpreter from flushing into the closed pipe at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        print(f"dfmodels {options.command}: {error}", file=sys.stderr)
        return 2
