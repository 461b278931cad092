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
from tandem.result import Completion, Delta, Event
from tandem.retry import Deadline, RetryPolicy


class AsyncStream:
    """The events of one request: an async iterable, once, and an async context manager.

    The request has been sent when this object exists. Leaving the loop over it, leaving the context,
    cancelling the task and `close` cancel what still runs.
    """

    def __init__(
        self,
        request: Request,
        start: Callable[[float | None], Any],
        timeout_s: float | None,
        policy: RetryPolicy,
    ) -> None:
        """`start` makes the gRPC call with a timeout in seconds; made by `AsyncClient.stream`."""
        self._request = request
        self._start = start
        self._deadline = Deadline(timeout_s)
        self._policy = policy
        self._is_closed = False
        self._call = start(timeout_s)

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yields Started, Delta and Finished events as they come.

        Raises:
            TandemError: The request failed.
        """
        try:
            async for response in self._responses():
                yield decode.event(response)
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

    async def _responses(self) -> AsyncIterator[Any]:
        for attempt in range(self._policy.retries + 1):
            has_answered = False
            try:
                async for response in self._call:
                    has_answered = True
                    yield response
                return
            except grpc.RpcError as rpc_error:
                error = status.from_rpc_error(rpc_error)
            except asyncio.CancelledError:
                raise_if_closed(self._is_closed)
                raise
            delay_s = None if has_answered else self._policy.delay_s(error, attempt, self._deadline)
            if delay_s is None:
                raise error
            await asyncio.sleep(delay_s)
            if self._is_closed:
                raise error
            self._call = self._start(self._deadline.remaining_s())


def raise_if_closed(is_closed: bool) -> None:
    """Called where grpc.aio raised CancelledError, as it does for a cancelled call and a cancelled task.

    Raises:
        RequestCancelledError: The call was cancelled, by closing its stream, and the task was not.
    """
    task = asyncio.current_task()
    if is_closed and (task is None or not task.cancelling()):
        raise RequestCancelledError("the stream was closed", status=grpc.StatusCode.CANCELLED) from None
