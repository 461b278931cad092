"""`tandem models`: what a service has."""

import argparse

from tandem.cli.flags import Commands, add_connection_flags, connection
from tandem.client import Client
from tandem.model import Model

_HEADER = ("NAME", "ARCHITECTURE", "CONTEXT", "VOCABULARY", "TYPE", "CHAT", "VISION")


def add_command(commands: Commands, default_target: str | None) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "models",
        help="list the models of a service",
        description="Lists the models of a service; context lengths and vocabularies are in tokens.",
    )
    add_connection_flags(parser, default_target)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    with Client(arguments.target, timeout=arguments.timeout, **connection(arguments)) as client:
        rows = [_HEADER, *(_row(model) for model in client.models())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _row(model: Model) -> tuple[str, ...]:
    return (
        model.name,
        model.architecture,
        str(model.context_length),
        str(model.vocab_size),
        f"{model.dtype} {model.quantization}".strip(),
        _yes_no(model.has_chat_template),
        _yes_no(model.has_vision),
    )


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"
