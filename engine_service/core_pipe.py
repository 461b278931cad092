"""The pipe between the server and the core: pickled messages, each behind its length."""

import pickle
import select
import socket
import struct
from collections.abc import Iterator
from typing import Any

from engine_service.core_messages import Command, Report
from tandem_service.busy_poll import busy_poll

_LENGTH = struct.Struct("!Q")
# The system may hold less than a message for a reader, and the server needs a moment to hand on the rest.
_REST_S = 0.002
READ_BYTES = 1 << 20
"""What a reader takes at once, into a buffer that is made once: a new one is new pages for each message.
The pipe is asked to hold as much, so that an image goes through it whole."""


def framed(message: object) -> bytes:
    """A message as it goes over the pipe."""
    data = pickle.dumps(message, protocol=5)
    return _LENGTH.pack(len(data)) + data


class FrameReader:
    """Takes bytes as they arrive, and gives the messages that are whole."""

    def __init__(self) -> None:
        self._data = bytearray()

    @property
    def is_amid(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._data)

    def feed(self, data: bytes | memoryview) -> Iterator[Any]:
        """The messages that end in `data`; they must all be taken."""
        self._data += data
        while len(self._data) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._data)[0]
            if len(self._data) < end:
                return
            with memoryview(self._data)[_LENGTH.size : end] as body:
                message = pickle.loads(body)
            del self._data[:end]
            yield message


class CoreEnd:
    """The core's end, for a loop that waits only where it has nothing else to do."""

    def __init__(self, connection: socket.socket, busy_s: float = 0.0) -> None:
        """Takes over one end of a stream; a poll is busy for up to `busy_s` seconds."""
        self._connection = connection
        self._busy_s = busy_s
        # Both are kept, since the loop asks at every step.
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._readable = select.poll()
        self._readable.register(connection, select.POLLIN)
        self._reader = FrameReader()

    def poll(self, timeout_s: float) -> bool:
        """Waits until something can be received, and says whether it can; a moment at least for a rest."""
        if self._reader.is_amid:
            timeout_s = max(timeout_s, _REST_S)
        return busy_poll(self._wait, timeout_s, self._busy_s)

    def recv(self) -> list[Command]:
        """The commands that are there; perhaps none, where one is too long to have come whole.

        Raises:
            EOFError: The server is gone.
        """
        num_bytes = self._connection.recv_into(self._buffer)
        if not num_bytes:
            raise EOFError
        frames = self._reader.feed(self._buffer[:num_bytes])
        return [command for commands in frames for command in commands]

    def send(self, report: Report) -> None:
        """Sends a report; waits while the server does not read.

        Raises:
            BrokenPipeError: The server is gone.
        """
        self._connection.sendall(framed(report))

    def _wait(self, timeout_s: float | None) -> bool:
        return bool(self._readable.poll(None if timeout_s is None else timeout_s * 1000))
