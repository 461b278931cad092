"""The states that a service goes through, and the calls that it runs meanwhile."""

import asyncio
import contextlib
import contextvars
import enum
import logging
from collections.abc import Callable, Iterator
from typing import Any

from tandem_service.errors import RETRY_DELAY_S, UnavailableError

log = logging.getLogger("tandem")


class State(enum.IntEnum):
    """In the order in which a service goes through them; none comes twice."""

    SERVING = 0
    LAME_DUCK = 1
    """Health says NOT_SERVING, so that balancers look away; new calls are still taken."""
    DRAINING = 2
    """New calls are refused; running ones finish."""
    STOPPED = 3
    """Calls that still ran have been ended."""


_current: contextvars.ContextVar["Life | None"] = contextvars.ContextVar("life", default=None)


def has_stopped() -> bool:
    """Whether the service has ended the running call, or the one whose task started this one."""
    life = _current.get()
    return life is not None and life.state is State.STOPPED


class Life:
    """Where a service stands. Lives on the event loop.

    Attributes:
        state: Only goes forward.
    """

    def __init__(self, on_change: Callable[[State], None]) -> None:
        """A serving service; `on_change` hears of every further state."""
        self.state = State.SERVING
        self._on_change = on_change
        self._calls: set[asyncio.Task[Any]] = set()
        self._has_no_call = asyncio.Event()
        self._has_no_call.set()

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """What the current task does inside the context is a call.

        Raises:
            UnavailableError: On entry, the service drains; inside, its grace time is over.
        """
        if self.state >= State.DRAINING:
            raise UnavailableError("the service is about to stop", retry_delay_s=RETRY_DELAY_S)
        task = asyncio.current_task()
        assert task is not None
        _current.set(self)
        self._calls.add(task)
        self._has_no_call.clear()
        try:
            yield
        except asyncio.CancelledError:
            if self.state is not State.STOPPED:
                raise  # it was the client
            task.uncancel()
            message = "the service stopped before the call ended"
            raise UnavailableError(message, retry_delay_s=RETRY_DELAY_S) from None
        finally:
            self._calls.discard(task)
            if not self._calls:
                self._has_no_call.set()

    async def end(self, lame_duck_s: float, grace_s: float, drain: Callable[[], None]) -> None:
        """Goes through all states.

        Args:
            lame_duck_s: Seconds of LAME_DUCK.
            grace_s: The most seconds of DRAINING, which ends with the last call.
            drain: Called when DRAINING begins; calls without an end of their own end after it.
        """
        self._enter(State.LAME_DUCK)
        await asyncio.sleep(lame_duck_s)
        self._enter(State.DRAINING)
        drain()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._has_no_call.wait(), grace_s)
        self._enter(State.STOPPED)
        for task in self._calls:
            task.cancel()

    def _enter(self, state: State) -> None:
        assert state == self.state + 1, f"{self.state.name} is not followed by {state.name}"
        log.info("%s -> %s with %d running calls", self.state.name, state.name, len(self._calls))
        self.state = state
        self._on_change(state)
