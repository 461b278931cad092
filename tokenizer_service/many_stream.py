"""Many requests on one stream; one that fails leaves the others alone."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from tandem_service.errors import (
    RETRY_DELAY_S,
    DuplicateRequestError,
    OverloadedError,
    ServiceError,
    UnavailableError,
    Violation,
    invalid,
)
from tandem_service.interceptor import failure_of
from tokenizer_service.events import Event
from tokenizer_service.reader import Reader
from tokenizer_service.request import Request
from tokenizer_service.request_record import RequestRecord
from tokenizer_service.request_registry import RequestRegistry
from tokenizer_service.slots import Slots

Write = Callable[[str, Event | ServiceError], Awaitable[None]]

_METHOD = "GenerateMany"


class ManyStream:
    """The running requests of one GenerateMany call."""

    def __init__(
        self,
        registry: RequestRegistry,
        all_slots: Slots,
        capacity: int,
        deadline_s: float | None,
        write: Write,
        record: Callable[[str], RequestRecord],
    ) -> None:
        """An open stream.

        Args:
            registry: Where requests run.
            all_slots: Bounds the worker.
            capacity: Bounds this stream.
            deadline_s: When the call ends, on the loop's clock.
            write: Sends an event, or the failure that ends a request, by its id.
            record: Watches the request with this id.
        """
        self._registry = registry
        self._all_slots = all_slots
        self._capacity = capacity
        self._deadline_s = deadline_s
        self._write = write
        self._record = record
        self._is_ending = False
        self._may_write = asyncio.Lock()
        self._readers: dict[str, Reader] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, request_id: str, to_request: Callable[[], Request]) -> None:
        """Starts a request, or attaches to it; what is wrong with it becomes its failure.

        An id is in use once on a stream: two readers' events could not be told apart.

        Args:
            request_id: The request's id.
            to_request: Makes the request of what was sent; whatever it raises fails this request alone.
        """
        failure = await failure_of(self._begin(request_id, to_request), _METHOD)
        if failure is not None:
            with contextlib.suppress(ServiceError), self._record(request_id):
                raise failure
            await self._send(request_id, failure)

    def cancel(self, request_id: str) -> None:
        """Cancels a request of this stream, also one with linger; one that has ended is left alone."""
        if request_id in self._readers:
            self._readers[request_id].cancel()

    async def drain(self) -> None:
        """Waits until all requests have ended, and refuses more."""
        self._is_ending = True
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self, reading: asyncio.Task[None]) -> None:
        """Leaves all requests and the reading of more, without a word.

        Never within a write: gRPC would refuse the status that ends the call, and the client would wait.
        """
        async with self._may_write:
            for task in (reading, *self._tasks):
                task.cancel()

    async def _begin(self, request_id: str, to_request: Callable[[], Request]) -> None:
        if failure := self._refusal(request_id):
            raise failure
        reader = Reader(self._registry, to_request(), self._deadline_s)
        self._readers[request_id] = reader
        task = asyncio.create_task(self._serve(reader, request_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refusal(self, request_id: str) -> ServiceError | None:
        if not request_id:
            return invalid(Violation("request_id", "is empty; requests of GenerateMany need one"))
        if request_id in self._readers:
            return DuplicateRequestError(f"request_id: {request_id!r} is running on this stream")
        if self._is_ending:
            return UnavailableError("this worker is shutting down", retry_delay_s=RETRY_DELAY_S)
        if len(self._readers) >= self._capacity:
            bound = f"max_requests_per_stream={self._capacity}"
            message = f"this stream runs {len(self._readers)} requests, at most {bound}"
            return OverloadedError(message, retry_delay_s=RETRY_DELAY_S)
        return None

    async def _serve(self, reader: Reader, request_id: str) -> None:
        try:
            failure = await failure_of(self._run(reader, request_id), _METHOD)
        finally:
            del self._readers[request_id]
        if failure is not None:
            await self._send(request_id, failure)

    async def _run(self, reader: Reader, request_id: str) -> None:
        with self._record(request_id) as record:

            async def write(event: Event) -> None:
                record.add(event)
                await self._write(request_id, event)

            reader.trace(record.traceparent)
            with self._all_slots.taken():
                await reader.run(write, self._may_write)

    async def _send(self, request_id: str, failure: ServiceError) -> None:
        async with self._may_write:
            await self._write(request_id, failure)
