"""A peer that speaks just enough HTTP/2 to be watched by a server: it makes no calls."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Self

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADER_BYTES = 9
_SETTINGS, _PING, _GOAWAY = 4, 6, 7
_ACK = 1


class Http2Peer:
    """One connection.

    Attributes:
        num_pings: Pings that came.
        was_sent_away: Whether the server said that it takes no more calls.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers_pings: bool
    ) -> None:
        self.num_pings = 0
        self.was_sent_away = False
        self._reader = reader
        self._writer = writer
        self._answers_pings = answers_pings

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, address: str, *, answers_pings: bool) -> AsyncIterator[Self]:
        """Connects to `HOST:PORT`."""
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        peer = cls(reader, writer, answers_pings=answers_pings)
        peer._write(_SETTINGS)
        try:
            yield peer
        finally:
            writer.close()

    async def read_until_closed(self) -> None:
        """Takes in what the server sends, until it closes the connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
            while True:
                header = await self._reader.readexactly(_HEADER_BYTES)
                body = await self._reader.readexactly(int.from_bytes(header[:3]))
                self._take(header[3], header[4], body)

    def _take(self, kind: int, flags: int, body: bytes) -> None:
        if kind == _GOAWAY:
            self.was_sent_away = True
        elif kind == _SETTINGS and not flags & _ACK:
            self._write(_SETTINGS, _ACK)
        elif kind == _PING:
            self.num_pings += 1
            if self._answers_pings:
                self._write(_PING, _ACK, body)

    def _write(self, kind: int, flags: int = 0, body: bytes = b"") -> None:
        is_first = kind == _SETTINGS and not flags
        stream = bytes(4)
        frame = len(body).to_bytes(3) + bytes([kind, flags]) + stream + body
        self._writer.write(_PREFACE + frame if is_first else frame)
