"""The `tandem` command."""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

from tandem.cli import bench, chat, demo, generate, health, models, serve, token, top
from tandem.cli.failure import explain
from tandem.errors import TandemError

_COMMANDS = (serve, chat, generate, models, health, top, token, demo, bench)

_EXIT_FAILED = 1
_EXIT_USAGE = 2
_EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: The command line without the program's name; by default the process's own.

    Returns:
        The exit status: 0, 1 after a failure (one line on stderr says which), 2 for wrong usage, 130
        after Ctrl-C.
    """
    try:
        try:
            return _run(arguments)
        finally:
            # Else Python would do it at exit, where a failure is a complaint of its own and status 120.
            if sys.stdout is not None:
                sys.stdout.flush()
    except OSError as error:
        return _fail_to_write(error)


def _run(arguments: Sequence[str] | None) -> int:
    parser = _parser(os.environ.get("TANDEM_TARGET"))
    # Not a flag: command lines are there for everybody to read.
    parser.set_defaults(token=os.environ.get("TANDEM_TOKEN"))
    parsed = parser.parse_args(arguments)
    try:
        status: int = parsed.run(parsed)
        return status
    except TandemError as error:
        return _fail(explain(error, parsed), _EXIT_FAILED)
    except ValueError as error:
        return _fail(str(error), _EXIT_USAGE)
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED


def _parser(default_target: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tandem", description="Serves language models, and talks to them.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_command(commands, default_target)
    return parser


def _fail(message: str, status: int) -> int:
    print(f"tandem: {message}", file=sys.stderr)
    return status


def _fail_to_write(error: OSError) -> int:
    """Says why, except to a reader that has left, and forgets what could not be written."""
    if not isinstance(error, BrokenPipeError):
        with contextlib.suppress(OSError):
            _fail(str(error), _EXIT_FAILED)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return _EXIT_FAILED
