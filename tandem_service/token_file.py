"""The file of bearer tokens: who may call, and how much."""

import hashlib
import tomllib
from dataclasses import dataclass, fields
from typing import Any

from tandem_service.watched_files import read_file


@dataclass(frozen=True)
class Quotas:
    """What one client may use of one process; None does not bound.

    Attributes:
        concurrent_requests: Requests that run at once.
        requests_per_minute: Requests that begin.
        tokens_per_minute: Tokens of prompts and answers together.
    """

    concurrent_requests: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True)
class TokenEntry:
    """One token.

    Attributes:
        name: The client's name, in errors and for its share of the queue.
        sha256: SHA-256 of the token.
        quotas: What the client may use.
    """

    name: str
    sha256: bytes
    quotas: Quotas


def hash_token(token: str | bytes) -> bytes:
    """SHA-256 of a token, which is all that is kept of it."""
    return hashlib.sha256(token.encode() if isinstance(token, str) else token).digest()


def read_token_file(path: str) -> list[TokenEntry]:
    """The entries of a token file.

    Raises:
        ValueError: It cannot be read, or says something else than it should.
    """
    where = f"tokens={path!r}"
    try:
        content = tomllib.loads(read_file("tokens", path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{where}: not TOML: {error}") from None
    tables = content.pop("token", [])
    if content or not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise ValueError(f"{where}: must hold [[token]] tables and nothing else")
    entries = [_entry(table, f"{where}: token {index}") for index, table in enumerate(tables, 1)]
    for values, what in (
        ([each.name for each in entries], "name"),
        ([each.sha256 for each in entries], "sha256"),
    ):
        if len(set(values)) != len(values):
            raise ValueError(f"{where}: two tokens have the same {what}")
    return entries


def _entry(table: dict[str, Any], where: str) -> TokenEntry:
    known = [field.name for field in fields(Quotas)]
    if strangers := set(table) - {"name", "sha256", *known}:
        raise ValueError(f"{where}: unknown field {sorted(strangers)[0]!r}")
    name = table.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError(f"{where}: name={name!r} must be a text that is not empty")
    quotas = {key: _bound(table[key], f"{where}: {key}") for key in known if key in table}
    return TokenEntry(name, _sha256(table.get("sha256"), where), Quotas(**quotas))


def _sha256(value: Any, where: str) -> bytes:
    try:
        digest = bytes.fromhex(value)
    except (TypeError, ValueError):
        digest = b""
    if len(digest) != hashlib.sha256().digest_size:
        # The value is not shown: it may be a token that somebody put into the wrong place.
        raise ValueError(f"{where}: sha256 must be 64 hexadecimal digits")
    return digest


def _bound(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{where}={value!r} must be a whole number of at least 1")
    return value
