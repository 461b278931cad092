"""`tandem generate`: one answer to stdout."""

import argparse
import sys

from tandem.cli.answer import print_answer
from tandem.cli.flags import (
    Commands,
    add_connection_flags,
    add_image_flag,
    add_sampling_flags,
    connection,
    sampling,
)
from tandem.cli.picture import read_picture
from tandem.client import Client
from tandem.request import Image, Message
from tandem.stream import Stream

_INTERRUPTED = 130
_PLACEHOLDER = "<image>"


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
    add_image_flag(parser, f"stands for an {_PLACEHOLDER} in the text, else implies --chat")
    add_connection_flags(parser, default_target)
    add_sampling_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    prompt = sys.stdin.read() if arguments.prompt == "-" else arguments.prompt
    pictures = [read_picture(path) for path in arguments.image]
    with Client(arguments.target, generate_timeout=arguments.timeout, **connection(arguments)) as client:
        printed = print_answer(lambda: _start(client, prompt, pictures, arguments))
    return _INTERRUPTED if printed.is_cancelled else 0


def _start(client: Client, prompt: str, pictures: list[Image], arguments: argparse.Namespace) -> Stream:
    options = sampling(arguments)
    is_plain = not pictures or _PLACEHOLDER in prompt
    if is_plain and not arguments.chat and arguments.system is None:
        return client.stream(prompt, images=pictures, **options)
    system = [] if arguments.system is None else [Message("system", arguments.system)]
    return client.stream_chat([*system, Message("user", [*pictures, prompt])], **options)
