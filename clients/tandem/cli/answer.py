"""Printing an answer while it comes."""

import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from tandem.cli.speed import Stopwatch
from tandem.errors import RequestCancelledError
from tandem.result import Delta
from tandem.stream import Stream


@dataclass(frozen=True, slots=True)
class Printed:
    """What was printed.

    Attributes:
        text: The answer, or its beginning if it was cancelled.
        is_cancelled: Whether Ctrl-C ended it.
        summary: How fast it came.
    """

    text: str
    is_cancelled: bool
    summary: str


def print_answer(start: Callable[[], Stream]) -> Printed:
    """Writes an answer to stdout as it comes, and ends its line. Ctrl-C cancels it.

    Args:
        start: Sends the request.

    Raises:
        TandemError: The request failed.
    """
    stopwatch = Stopwatch()
    texts: list[str] = []
    with _Interruption() as interruption:
        try:
            for event in interruption.watch(start()):
                if isinstance(event, Delta):
                    stopwatch.add(event)
                    texts.append(event.text)
                    print(event.text, end="", flush=True)
        except RequestCancelledError:
            if not interruption.happened:
                raise
        finally:
            if texts and not texts[-1].endswith("\n"):
                print(flush=True)
    return Printed("".join(texts), interruption.happened, stopwatch.summary())


class _Interruption:
    """Makes Ctrl-C close a stream, inside its context.

    A KeyboardInterrupt must not reach gRPC: raised while gRPC waits, it may leave a lock of the channel
    taken, and every later call hangs (grpcio 1.85).

    Attributes:
        happened: Whether Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self.happened = False
        self._stream: Stream | None = None

    def __enter__(self) -> Self:
        self._previous = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGINT, self._previous)

    def watch(self, stream: Stream) -> Stream:
        """Closes this stream, if Ctrl-C was pressed before or will be."""
        self._stream = stream
        if self.happened:
            stream.close()
        return stream

    def _on_signal(self, *_: object) -> None:
        self.happened = True
        if self._stream is not None:
            # In a thread of its own, which may wait for what the interrupted code holds.
            threading.Thread(target=self._stream.close, daemon=True).start()


def note(text: str) -> None:
    """Says something beside the answer, on stderr, greyed on a terminal."""
    print(f"\033[2m{text}\033[0m" if sys.stderr.isatty() else text, file=sys.stderr, flush=True)
