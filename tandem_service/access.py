"""Who calls: bearer tokens held against a token file, and the caller of the running call."""

import contextlib
import contextvars
import hmac
from collections.abc import Iterator, Sequence

from tandem_service.client_quotas import Client
from tandem_service.errors import UnauthenticatedError
from tandem_service.token_file import TokenEntry, hash_token, read_token_file
from tandem_service.watched_files import Watched

_KEY = "authorization"
_SCHEME = "bearer "

Metadata = Sequence[tuple[str, str | bytes]]

_caller: contextvars.ContextVar[Client | None] = contextvars.ContextVar("caller", default=None)


def bearer(token: str) -> Metadata:
    """The metadata of a call that shows a token."""
    return ((_KEY, f"Bearer {token}"),)


def caller() -> Client | None:
    """Who made the running call, or the call that started this task; None where there is no token file."""
    return _caller.get()


def client_name() -> str:
    """The name of the caller's token; empty where there is no token file."""
    client = caller()
    return "" if client is None else client.name


@contextlib.contextmanager
def counted_request() -> Iterator[None]:
    """Counts one request against the caller's quotas.

    Raises:
        OverloadedError: A quota is used up.
    """
    client = caller()
    with contextlib.nullcontext() if client is None else client.running_request():
        yield


def count_tokens(num_tokens: int) -> None:
    """Counts tokens of a prompt or an answer against the caller's quotas."""
    client = caller()
    if client is not None:
        client.use_tokens(num_tokens)


class TokenGate:
    """Lets in whoever shows a token of the file, which is read again when it has changed."""

    def __init__(self, path: str) -> None:
        """Reads the file.

        Raises:
            ValueError: It cannot be used.
        """
        self._path = path
        self._entries: list[TokenEntry] = []
        self._clients: dict[str, Client] = {}
        self._file = Watched(f"tokens={path!r}", [path], self._read)
        self._take(self._file.newest)

    def admit(self, metadata: Metadata) -> None:
        """Makes the caller that of the running call.

        Raises:
            UnauthenticatedError: The metadata shows no token, or one that is not in the file.
        """
        entries = self._file.renewed()
        if entries is not None:
            self._take(entries)
        entry = self._entry_of(_shown_token(metadata))
        if entry is None:
            raise UnauthenticatedError("a valid token is needed, as metadata authorization: Bearer TOKEN")
        _caller.set(self._clients[entry.name])

    def _entry_of(self, token: str) -> TokenEntry | None:
        """All entries are compared, each in constant time, so that the time says nothing about any."""
        shown = hash_token(token)
        found = [entry for entry in self._entries if hmac.compare_digest(entry.sha256, shown)]
        return found[0] if found and token else None

    def _read(self) -> list[TokenEntry]:
        """A file that has lost all its tokens is being written, or was lost itself."""
        entries = read_token_file(self._path)
        if self._entries and not entries:
            raise ValueError(f"tokens={self._path!r}: holds no token any more")
        return entries

    def _take(self, entries: list[TokenEntry]) -> None:
        """A client whose quotas have not changed keeps what it has used."""
        clients = {}
        for entry in entries:
            known = self._clients.get(entry.name)
            kept = known is not None and known.quotas == entry.quotas
            clients[entry.name] = known if known is not None and kept else Client(entry.name, entry.quotas)
        self._entries, self._clients = entries, clients


def _shown_token(metadata: Metadata) -> str:
    """The token of a call, empty if it shows none."""
    for key, value in metadata:
        if key == _KEY and isinstance(value, str) and value.lower().startswith(_SCHEME):
            return value[len(_SCHEME) :]
    return ""
