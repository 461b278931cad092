"""The events of one request, for an event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self

import grpc

from tandem import decode, status
from tandem.collect import Collector
from tandem.errors import RequestCancelledError
from tandem.request import Request
from tandem.result import Completion, Delta, Event, Started
from tandem.resumption import Resumption
from tandem.retry import Deadline, RetryPolicy


class AsyncStream:
    """The events of one request: an async iterable, once, and an async context manager.

    The request has been sent when this object exists. Leaving the loop over it, leaving the context,
    cancelling the task and `close` cancel what still runs; a request with `linger` ends only after that
    time.
    """

    def __init__(
        self,
        request: Request,
        start: Callable[[float | None, int], Any],
        timeout_s: float | None,
        policy: RetryPolicy,
    ) -> None:
        """Made by `AsyncClient.stream`; the arguments are those of `Stream`."""
        self._request = request
        self._resumption = Resumption(request)
        self._start = start
        self._deadline = Deadline(timeout_s)
        self._policy = policy
        self._is_closed = False
        self._call = start(timeout_s, 0)

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yields Started, Delta and Finished events as they come.

        Raises:
            TandemError: The request failed.
        """
        try:
            async for event in self._events():
                yield event
        finally:
            self.close()

    async def texts(self) -> AsyncIterator[str]:
        """Yields the text of each delta as it comes."""
        try:
            async for event in self:
                if isinstance(event, Delta):
                    yield event.text
        finally:
            self.close()

    async def completion(self) -> Completion:
        """Reads all events and adds them up.

        Raises:
            TandemError: The request failed.
        """
        collector = Collector(self._request)
        async for event in self:
            collector.add(event)
        return collector.completion()

    def close(self) -> None:
        """Cancels the request unless it has finished. To be called in the client's event loop."""
        self._is_closed = True
        self._call.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def _events(self) -> AsyncIterator[Event]:
        attempt = 0
        while True:
            has_news = False
            try:
                async for response in self._call:
                    event = self._resumption.new_part(decode.event(response))
                    if event is not None:
                        # That a request has started can be said of the next attempt too.
                        has_news = has_news or not isinstance(event, Started)
                        yield event
                return
            except grpc.RpcError as rpc_error:
                error = status.from_rpc_error(rpc_error)
            except asyncio.CancelledError:
                raise_unless_cancelling()
                raise
            if has_news:
                if not self._resumption.is_possible:
                    raise error
                attempt = 0
            delay_s = self._policy.delay_s(error, attempt, self._deadline)
            if delay_s is None:
                raise error
            await asyncio.sleep(delay_s)
            if self._is_closed:
                raise error
            attempt += 1
            self._call = self._start(self._deadline.remaining_s(), self._resumption.begin())


def raise_unless_cancelling() -> None:
    """Called where grpc.aio raised CancelledError, as it does for an ended call and a cancelled task.

    Raises:
        RequestCancelledError: The call was ended, by closing its stream or its client, and the task was
            not cancelled.
    """
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        raise closed() from None


def closed() -> RequestCancelledError:
    """The error of a call whose stream or client was closed while it ran."""
    return RequestCancelledError("the stream or its client was closed", status=grpc.StatusCode.CANCELLED)
