"""Flags that several commands share."""

import argparse
from pathlib import Path
from typing import Any, TypedDict

import grpc

from tandem.channel import DEFAULT_TARGET
from tandem.credentials import tls_credentials

Commands = Any
"""What `ArgumentParser.add_subparsers` returns; its type has no public name."""

# Field of Request, type, what it does, unit.
_SAMPLING: tuple[tuple[str, type, str, str], ...] = (
    ("max_tokens", int, "the most tokens to produce (default: what the context length leaves", "tokens"),
    ("min_tokens", int, "nothing ends the answer before this many tokens (default: 0", "tokens"),
    ("temperature", float, "divides the logits; 0 takes the most likely token (default: the model's", ""),
    ("top_p", float, "keeps the smallest set of tokens this likely (default: the model's", "probability"),
    ("top_k", int, "keeps this many of the most likely tokens; 0 keeps all (default: the model's", "tokens"),
    ("min_p", float, "drops tokens less likely than this times the likeliest (default: the model's", ""),
    ("repetition_penalty", float, "lowers tokens of prompt and output (default: the model's", "factor"),
    ("presence_penalty", float, "lowers tokens of the output once (default: the model's", "logits"),
    ("frequency_penalty", float, "lowers tokens of the output each time (default: the model's", "logits"),
    ("seed", int, "makes the draw repeatable (default: a new one each time", ""),
    ("first_token_timeout", float, "the longest wait for the first token (default: --timeout", "seconds"),
)


_TLS_FILES = (
    ("tls-ca", "PEM file of the roots of the service's certificate (default: none, plain text)"),
    ("tls-cert", "PEM file of the certificate to show the service (default: none)"),
    ("tls-key", "PEM file of that certificate's private key (default: none)"),
)


def add_connection_flags(
    parser: argparse.ArgumentParser, default_target: str | None, timeout_s: float = 600.0
) -> None:
    """Adds `--target`, `--timeout` and what the service may want to see.

    Args:
        parser: Of the command.
        default_target: The environment's target, if it has one.
        timeout_s: The default of `--timeout`.
    """
    parser.add_argument(
        "--target",
        default=default_target or DEFAULT_TARGET,
        metavar="ADDRESS",
        help="HOST:PORT or unix:PATH of the tokenizer service "
        f"(default: $TANDEM_TARGET, else {DEFAULT_TARGET})",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=timeout_s,
        metavar="SECONDS",
        help=f"the longest that an answer may take (default: {timeout_s:g}, in seconds)",
    )
    add_credential_flags(parser)


def add_credential_flags(parser: argparse.ArgumentParser) -> None:
    """Adds what the service may want to see, and its roots; `connection` reads them."""
    add_tls_flags(parser)
    parser.add_argument(
        "--token-file",
        metavar="PATH",
        help="file with the token to show the service (default: none, then $TANDEM_TOKEN)",
    )


def add_tls_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--tls-ca`, `--tls-cert` and `--tls-key`."""
    for name, text in _TLS_FILES:
        parser.add_argument(f"--{name}", metavar="PATH", help=text)


class Connection(TypedDict):
    """Keyword arguments of the client."""

    tls_ca: str | None
    tls_cert: str | None
    tls_key: str | None
    token: str | None


def connection(arguments: argparse.Namespace) -> Connection:
    """What the service may want to see.

    Raises:
        ValueError: The token's file cannot be read.
    """
    return Connection(
        tls_ca=arguments.tls_ca,
        tls_cert=arguments.tls_cert,
        tls_key=arguments.tls_key,
        token=_token(arguments),
    )


def credentials(arguments: argparse.Namespace) -> grpc.ChannelCredentials | None:
    """Those of the command's flags; None for plain text, and for a command without such flags."""
    files = vars(arguments)
    return tls_credentials(*(files.get(name) for name in ("tls_ca", "tls_cert", "tls_key")))


def _token(arguments: argparse.Namespace) -> str | None:
    path = arguments.token_file
    if path is None:
        # An empty variable is one that is not set.
        token: str | None = arguments.token or None
        return token
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise ValueError(f"token_file={path!r}: {error.strerror}") from None


def add_sampling_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the settings of a request."""
    parser.add_argument(
        "--model", metavar="NAME", help="a model that the service has (default: its only one)"
    )
    for name, kind, text, unit in _SAMPLING:
        parser.add_argument(
            "--" + name.replace("_", "-"),
            type=kind,
            metavar=(unit or "number").upper(),
            help=text + (f", in {unit})" if unit else ")"),
        )
    parser.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="ends the answer; repeatable (default: none)",
    )


def add_image_flag(parser: argparse.ArgumentParser, text: str) -> None:
    """Adds `--image`; `text` says what the pictures belong to."""
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="PATH",
        help=f"a picture: PNG, JPEG, WebP, GIF or BMP; {text}; repeatable (default: none)",
    )


def sampling(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given, as keyword arguments of the client."""
    names = ["model", "stop", *(name for name, *_ in _SAMPLING)]
    return {name: getattr(arguments, name) for name in names}
