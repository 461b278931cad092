"""`tandem demo`: both services, one question, one answer."""

import argparse
import signal
import sys

from tandem.cli.answer import print_answer
from tandem.cli.flags import Commands
from tandem.cli.services import ServiceError, Services, free_address
from tandem.client import Client
from tandem.request import Message

_QUESTION = "Tell me a story about a fox."


def add_command(commands: Commands, default_target: str | None) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "demo",
        help="start both services, ask one question, stop",
        description="Starts both services on free loopback ports, asks one question, and stops them.",
    )
    parser.add_argument(
        "--model", default="demo", metavar="MODEL", help="a directory, a hub id, or demo (default: demo)"
    )
    parser.add_argument(
        "--question", default=_QUESTION, metavar="TEXT", help=f"what to ask (default: {_QUESTION})"
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
    target = arguments.target = free_address()
    try:
        with Services(arguments.model, target, free_address()) as services:
            services.wait_until_serving(arguments.start_timeout)
            return _ask(target, arguments.question)
    except ServiceError as error:
        print(f"tandem: {error}", file=sys.stderr)
        return 1


def _ask(target: str, question: str) -> int:
    print(f"\n> {question}", flush=True)
    with Client(target, generate_timeout=60.0) as client:
        printed = print_answer(lambda: client.stream_chat([Message("user", question)], max_tokens=256))
    print(f"\n[{printed.summary}]", flush=True)
    return 0 if printed.text.strip() and not printed.is_cancelled else 1
