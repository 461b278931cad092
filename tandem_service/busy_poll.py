"""Looking for work for a moment before sleeping: an idle CPU takes its time to wake."""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def busy_poll(poll: Callable[[float | None], Result], timeout_s: float | None, busy_s: float) -> Result:
    """Asks without waiting for up to `busy_s` seconds, and waits for the rest of a timeout.

    Args:
        poll: Waits for up to so many seconds, None is for ever; its result is true where something is there.
        timeout_s: The longest that all of this takes, or None.
        busy_s: The part of it in which this thread keeps its CPU.
    """
    start_s = now_s = time.monotonic()
    end_s = start_s + (busy_s if timeout_s is None else min(timeout_s, busy_s))
    while now_s < end_s:
        if found := poll(0.0):
            return found
        now_s = time.monotonic()
    return poll(None if timeout_s is None else max(0.0, timeout_s - (now_s - start_s)))


def run(main: Coroutine[Any, Any, Result], busy_s: float) -> Result:
    """Like asyncio.run, on an event loop that polls busily for `busy_s` seconds whenever it would wait."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(_Selector(busy_s))) as runner:
        return runner.run(main)


class _Selector(selectors.DefaultSelector):
    def __init__(self, busy_s: float) -> None:
        super().__init__()
        self._busy_s = busy_s

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return busy_poll(super().select, timeout, self._busy_s)
