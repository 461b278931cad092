"""The results of many requests on one stream, for an event loop."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self

import grpc

from tandem import status
from tandem.async_stream import raise_unless_cancelling
from tandem.collect import Batch
from tandem.errors import TandemError, UnavailableError
from tandem.request import Request
from tandem.result import Result

# What grpc.aio says in place of the status where a write met the end of the stream.
_LOST_STATUS = "Internal error from Core"

AnyIterable = Iterable[str | Request] | AsyncIterable[str | Request]


class AsyncResults:
    """Results in the order in which requests end: an async iterable, once, and a context manager.

    Leaving the loop over it, leaving the context, cancelling the task and `close` cancel all requests
    that still run.
    """

    def __init__(
        self,
        requests: AnyIterable,
        call: Any,
        max_running: int,
        probe: Callable[[], Awaitable[object]],
    ) -> None:
        """Made by `AsyncClient.generate_many`.

        Args:
            requests: What to run.
            call: The gRPC call.
            max_running: The most requests that run at once, at least 1.
            probe: Another call to the service, which fails for what every call fails for.
        """
        if max_running < 1:
            raise ValueError(f"max_running={max_running}: must be at least 1")
        self._batch = Batch()
        self._places = asyncio.Semaphore(max_running)
        self._call = call
        self._probe = probe
        self._request_error: BaseException | None = None
        self._writer = asyncio.create_task(self._write(requests))

    async def __aiter__(self) -> AsyncIterator[Result]:
        """Yields a result for each request as it ends.

        Raises:
            TandemError: The stream as a whole failed; results that were yielded stay valid.
        """
        try:
            async for response in self._call:
                result = self._batch.take(response)
                if result is not None:
                    self._places.release()
                    yield result
            self._batch.check_complete()
        except grpc.RpcError as rpc_error:
            raise await self._error_of(rpc_error) from None
        except asyncio.CancelledError:
            if self._request_error is not None:
                raise self._request_error from None
            raise_unless_cancelling()
            raise
        finally:
            self.close()

    def close(self) -> None:
        """Cancels all requests that still run. To be called in the client's event loop."""
        self._writer.cancel()
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

    async def _error_of(self, rpc_error: Any) -> TandemError:
        if rpc_error.details() != _LOST_STATUS:
            return status.from_rpc_error(rpc_error)
        try:
            await self._probe()
        except TandemError as error:
            return error
        return UnavailableError("the service ended the stream", status=grpc.StatusCode.UNAVAILABLE)

    async def _write(self, requests: AnyIterable) -> None:
        try:
            async for request in _each(requests):
                await self._places.acquire()
                if self._call.done():
                    return  # The reader is told why.
                await self._call.write(self._batch.add(request))
            await self._call.done_writing()
        except grpc.RpcError:
            pass  # The reader gets the same error.
        except Exception as error:
            self._request_error = error
            self._call.cancel()


async def _each(requests: AnyIterable) -> AsyncIterator[str | Request]:
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request
