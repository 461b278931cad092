"""`tandem demo`: both services with each model that ships, questions, answers."""

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator

from tandem.cli.demo_pictures import show_pictures
from tandem.cli.demo_question import DemoError, ask
from tandem.cli.flags import Commands
from tandem.cli.services import ServiceError, Services, free_address
from tandem.client import Client

_QUESTION = "Tell me a story about a fox."
_TEXT_MODEL, _PICTURE_MODEL = "demo", "demo-pictures"


def add_command(commands: Commands, default_target: str | None) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "demo",
        help="start both services, ask a model that writes and one that sees, stop",
        description="Starts both services on free loopback ports, once for each model that ships: asks the "
        "one a question, shows the other a picture, and the same with two shapes swapped, and stops them.",
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="ask only this one, and show no picture: a directory, a hub id, or demo "
        "(default: the two models that ship)",
    )
    parser.add_argument(
        "--question", default=_QUESTION, metavar="TEXT", help=f"what to ask (default: {_QUESTION})"
    )
    parser.add_argument(
        "--out",
        metavar="DIRECTORY",
        help="where the pictures are saved (default: a new directory for temporary files)",
    )
    parser.add_argument(
        "--start-timeout",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="how long loading may take (default: 120, in seconds)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if arguments.model:
            _ask_one(arguments)
        else:
            _ask_both(arguments)
    except (ServiceError, DemoError) as error:
        print(f"tandem: {error}", file=sys.stderr)
        return 1
    return 0


def _ask_one(arguments: argparse.Namespace) -> None:
    with _served(arguments.model, arguments) as client:
        _ask_for_text(client, arguments.question)


def _ask_both(arguments: argparse.Namespace) -> None:
    with _served(_TEXT_MODEL, arguments) as client:
        print("\nA model that writes, as `tandem serve` runs it:", flush=True)
        _ask_for_text(client, arguments.question)
    with _served(_PICTURE_MODEL, arguments) as client:
        print(f"\nA model that sees, as `tandem serve --model {_PICTURE_MODEL}` runs it:", flush=True)
        show_pictures(client, arguments.out)


def _ask_for_text(client: Client, question: str) -> None:
    print(f"\n[{ask(client, question).summary}]", flush=True)


@contextlib.contextmanager
def _served(model: str, arguments: argparse.Namespace) -> Iterator[Client]:
    """A client of services with this model, which run as long as the context."""
    target = arguments.target = free_address()
    quiet = ["--log-level=error"]
    with (
        Services(model, target, free_address(), tokenizer_flags=quiet, engine_flags=quiet) as services,
        Client(target, generate_timeout=60.0) as client,
    ):
        services.wait_until_serving(arguments.start_timeout)
        yield client
