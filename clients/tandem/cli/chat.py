"""`tandem chat`: a conversation at the terminal, or line by line from a pipe."""

import argparse
import contextlib
import sys
from collections.abc import Iterator

from tandem.cli.answer import note, print_answer
from tandem.cli.failure import explain
from tandem.cli.flags import (
    Commands,
    add_connection_flags,
    add_image_flag,
    add_sampling_flags,
    connection,
    sampling,
)
from tandem.cli.picture import read_pictures
from tandem.client import Client
from tandem.errors import InvalidRequestError, TandemError
from tandem.request import Image, Message

_HELP = """\
/reset        forget the conversation, keep the system message
/system TEXT  set the system message and forget the conversation; without TEXT, remove it
/image PATH   show the model a picture with the next question
/help         show this
/quit         leave; so does Ctrl-D
Ctrl-C        cancel the answer that is being written"""


def add_command(commands: Commands, default_target: str | None) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "chat",
        help="talk to a model",
        description="Talks to a model. Reads lines from stdin, writes answers to stdout and their speed to "
        "stderr; /help lists what else a line may say.",
    )
    parser.add_argument("--system", metavar="TEXT", help="the system message (default: none)")
    add_image_flag(parser, "shown with the first question")
    add_connection_flags(parser, default_target)
    add_sampling_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    is_interactive = sys.stdin.isatty()
    with Client(arguments.target, generate_timeout=arguments.timeout, **connection(arguments)) as client:
        chat = _Chat(client, arguments)
        lines = typed_lines() if is_interactive else piped_lines()
        for line in lines:
            if line == "/quit":
                break
            try:
                chat.take(line)
            except TandemError as error:
                if not is_interactive:
                    raise
                note(explain(error, arguments))
            except KeyboardInterrupt:
                # Just before or after an answer.
                if not is_interactive:
                    raise
    return 0


def typed_lines() -> Iterator[str]:
    """Lines of a terminal, with editing and a history where Python has them; ends with Ctrl-D."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 (being imported is all it takes)
    note("/help for help, Ctrl-D to leave")
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
            continue
        if line:
            yield line


def piped_lines() -> Iterator[str]:
    """Lines of a pipe or a file."""
    for line in sys.stdin:
        if line.strip():
            yield line.strip()


class _Chat:
    """A conversation so far."""

    def __init__(self, client: Client, arguments: argparse.Namespace) -> None:
        self._client = client
        self._options = sampling(arguments)
        self._system: str | None = arguments.system
        self._turns: list[Message] = []
        self._pictures: list[Image] = read_pictures(arguments.image)

    def take(self, line: str) -> None:
        """Does what a line says: a command, or a question to answer."""
        command, _, rest = line.partition(" ")
        if command == "/reset":
            self._reset(self._system)
        elif command == "/system":
            self._reset(rest.strip() or None)
        elif command == "/image":
            self._add_picture(rest.strip())
        elif command == "/help":
            note(_HELP)
        elif command.startswith("/"):
            note(f"{command} is not a command; /help lists them")
        else:
            self._answer(line)

    def _reset(self, system: str | None) -> None:
        self._system = system
        self._turns = []
        self._pictures = []
        note("new conversation" if system is None else f"new conversation, system message: {system}")

    def _add_picture(self, path: str) -> None:
        try:
            self._pictures += read_pictures([path])
        except ValueError as error:
            note(str(error))

    def _answer(self, question: str) -> None:
        system = [] if self._system is None else [Message("system", self._system)]
        turns = [*self._turns, Message("user", [*self._pictures, question])]
        try:
            printed = print_answer(lambda: self._client.stream_chat([*system, *turns], **self._options))
        except InvalidRequestError:
            # Else a picture that is refused would be sent with every further question.
            self._pictures = []
            raise
        # A question without any answer is as if it had not been asked.
        if printed.text:
            self._turns = [*turns, Message("assistant", printed.text)]
            self._pictures = []
        note(f"[{printed.summary}{', cancelled' if printed.is_cancelled else ''}]")
