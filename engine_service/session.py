"""One client's sequences, and the frames that wait for it."""

import asyncio
from dataclasses import dataclass, field

from engine_service.plan import StepColumns
from engine_service.sequence import SequenceSpec
from tandem_service.errors import ServiceError


@dataclass(slots=True)
class Frames:
    """What waits for the client: at most one merged step, however slowly it reads."""

    columns: StepColumns | None = None
    rejected: list[tuple[int, ServiceError]] = field(default_factory=list)
    needed_images: list[bytes] = field(default_factory=list)
    error: ServiceError | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        has_some = self.rejected or self.needed_images
        return self.columns is None and not has_some and self.error is None


class ClientSession:
    """The server's side of one stream. Lives on the event loop.

    Attributes:
        number: The session's part of its sequences' keys.
        running: Sequences that the core has and has not reported as finished.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.running: dict[int, SequenceSpec] = {}
        self._frames = Frames()
        self._arrived = asyncio.Event()
        self._is_closing = False

    @property
    def is_done(self) -> bool:
        """Whether no more frames will come: the client sends nothing more, and nothing runs or waits."""
        return self._is_closing and not self.running and self._frames.is_empty

    def add_columns(self, columns: StepColumns) -> None:
        """Takes in what a step brought; surplus tokens of sequences that the client ended go along."""
        for number, _ in columns.finished:
            self.running.pop(number, None)
        if self._frames.columns is None:
            self._frames.columns = columns
        else:
            self._frames.columns.merge(columns)
        self._arrived.set()

    def end(self, number: int) -> bool:
        """The client ends a sequence; whether it ran."""
        if self.running.pop(number, None) is None:
            return False
        self._arrived.set()  # it may have been the last
        return True

    def reject(self, sequence: int, error: ServiceError) -> None:
        """Tells the client that a sequence was not taken up."""
        self._frames.rejected.append((sequence, error))
        self._arrived.set()

    def need_images(self, images: list[bytes]) -> None:
        """Tells the client that sequences wait for images, by their SHA-256."""
        self._frames.needed_images += images
        self._arrived.set()

    def fail(self, error: ServiceError) -> None:
        """Ends the stream with an error, after what already waits; nothing runs any more."""
        self.running.clear()
        self._frames.error = error
        self._arrived.set()

    def close(self) -> None:
        """The client sends nothing more; the session ends with its last sequence."""
        self._is_closing = True
        self._arrived.set()

    async def take_frames(self) -> Frames:
        """Everything that waits; waits for something, or for the session's end."""
        await self._arrived.wait()
        self._arrived.clear()
        frames, self._frames = self._frames, Frames()
        return frames
