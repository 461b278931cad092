"""`tandem token`: makes tokens for a service's token file."""

import argparse
import hashlib
import json
import secrets
import sys

from tandem.cli.flags import Commands

_ABOUT = (
    "Makes a fresh token. Writes the token to stderr, once, since it is kept nowhere, and to stdout the "
    "entry for the file of --tokens, which holds the token's hash: tandem token NAME >> tokens.toml"
)


def add_command(commands: Commands, default_target: str | None) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("token", help="make a token for a service's token file", description=_ABOUT)
    parser.add_argument("name", help="whose token it is")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    # What is printable is valid in TOML and can be written as UTF-8; half a surrogate pair is neither.
    if not arguments.name or not arguments.name.isprintable():
        raise ValueError(f"name={arguments.name!r}: must be a printable text that is not empty")
    # 256 random bits: a plain hash of them cannot be searched, as that of a password can.
    token = f"tandem_{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(token.encode()).hexdigest()
    print(f"the token of {arguments.name}, shown only now:\n{token}", file=sys.stderr, flush=True)
    # A JSON string is a TOML string too.
    print(f'[[token]]\nname = {json.dumps(arguments.name, ensure_ascii=False)}\nsha256 = "{digest}"\n')
    return 0
