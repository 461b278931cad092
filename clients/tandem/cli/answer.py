"""Printing an answer while it comes."""

import sys
from dataclasses import dataclass

from tandem.cli.speed import Stopwatch
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


def print_answer(stream: Stream) -> Printed:
    """Writes an answer to stdout as it comes, and ends its line. Ctrl-C cancels it.

    Raises:
        TandemError: The request failed.
    """
    stopwatch = Stopwatch()
    texts: list[str] = []
    is_cancelled = False
    try:
        with stream:
            for event in stream:
                if isinstance(event, Delta):
                    stopwatch.add(event)
                    texts.append(event.text)
                    print(event.text, end="", flush=True)
    except KeyboardInterrupt:
        is_cancelled = True
    finally:
        if texts and not texts[-1].endswith("\n"):
            print(flush=True)
    return Printed("".join(texts), is_cancelled, stopwatch.summary())


def note(text: str) -> None:
    """Says something beside the answer, on stderr, greyed on a terminal."""
    print(f"\033[2m{text}\033[0m" if sys.stderr.isatty() else text, file=sys.stderr, flush=True)
