"""One client's sequences, and the frames that wait for it."""

import asyncio
from dataclasses import dataclass, field

from engine_service.plan import StepColumns
from engine_service.sequence import SequenceSpec
from tandem_service.errors import ServiceError, Violation, invalid

# Steps merge up to about this many, half a megabyte: to make a message takes the event loop's time.
_MAX_VALUES = 65_536
# Sequence numbers are of 32 bits, and 0 comes after the last one.
_NUM_NUMBERS = 2**32


@dataclass(slots=True)
class Frames:
    """What waits for the client: as few merged steps as may be, however slowly it reads."""

    columns: list[StepColumns] = field(default_factory=list)
    rejected: list[tuple[int, ServiceError]] = field(default_factory=list)
    needed_images: list[bytes] = field(default_factory=list)
    error: ServiceError | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not (self.columns or self.rejected or self.needed_images or self.error)


class ClientSession:
    """The server's side of one stream. Lives on the event loop.

    Attributes:
        number: The session's part of its sequences' keys.
        running: Sequences that the core has and has not reported as finished.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.running: dict[int, SequenceSpec] = {}
        self._last_number: int | None = None
        self._frames = Frames()
        self._num_values = 0  # of the step that the next one may be merged into
        self._arrived = asyncio.Event()
        self._is_closing = False

    @property
    def is_done(self) -> bool:
        """Whether no more frames will come: the client sends nothing more, and nothing runs or waits."""
        return self._is_closing and not self.running and self._frames.is_empty

    def take_number(self, number: int) -> None:
        """The client calls its next sequence so.

        Raises:
            InvalidRequestError: It does not come after the number before. What the core still says of an
                ended sequence would be taken for that of a new one with its number.
        """
        last = self._last_number
        if last is not None and not 0 < (number - last) % _NUM_NUMBERS < _NUM_NUMBERS // 2:
            raise invalid(
                Violation("sequence", f"{number} does not come after {last}, the last on this stream")
            )
        self._last_number = number

    def add_columns(self, columns: StepColumns) -> None:
        """Takes in what a step brought; surplus tokens of sequences that the client ended go along."""
        for number, _ in columns.finished:
            self.running.pop(number, None)
        num_values = columns.num_values
        if self._frames.columns and self._num_values + num_values <= _MAX_VALUES:
            self._frames.columns[-1].merge(columns)
            self._num_values += num_values
        else:
            self._frames.columns.append(columns)
            self._num_values = num_values
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
