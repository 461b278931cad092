"""`tandem generate`: one answer to stdout."""

import argparse
import sys

from tandem.cli.answer import print_answer
from tandem.cli.flags import Commands, add_connection_flags, add_sampling_flags, sampling
from tandem.client import Client
from tandem.request import Message

_INTERRUPTED = 130


def add_command(commands: Commands, default_target: str | None) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "generate",
        help="continue a text, or answer a question with --chat",
        description="Continues a text as it stands, or answers it with --chat, and writes nothing but the "
        "answer to stdout.",
    )
    parser.add_argument("prompt", help="the text, or - to read it from stdin")
    parser.add_argument(
        "--chat", action="store_true", help="send the text as a user's message (default: as it stands)"
    )
    parser.add_argument("--system", metavar="TEXT", help="a system message; implies --chat (default: none)")
    add_connection_flags(parser, default_target)
    add_sampling_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    prompt = sys.stdin.read() if arguments.prompt == "-" else arguments.prompt
    options = sampling(arguments)
    with Client(arguments.target, generate_timeout=arguments.timeout) as client:
        if arguments.chat or arguments.system is not None:
            system = [] if arguments.system is None else [Message("system", arguments.system)]
            stream = client.stream_chat([*system, Message("user", prompt)], **options)
        else:
            stream = client.stream(prompt, **options)
        printed = print_answer(stream)
    return _INTERRUPTED if printed.is_cancelled else 0
