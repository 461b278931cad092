"""One call's reading of a request, which it starts or finds running."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

from tandem_service.errors import ServiceError
from tokenizer_service.events import Event
from tokenizer_service.request import Request
from tokenizer_service.request_registry import RequestRegistry
from tokenizer_service.running_request import RunningRequest
from tokenizer_service.transcript import Place


class Reader:
    """Writes a request's events as fast as its client reads them."""

    def __init__(
        self,
        registry: RequestRegistry,
        request: Request,
        deadline_s: float | None,
    ) -> None:
        """A reader that has not begun.

        Args:
            registry: Where requests run.
            request: As it was sent.
            deadline_s: When the call ends, on the loop's clock.
        """
        self._registry = registry
        self._request = request
        self._deadline_s = deadline_s
        self._running: RunningRequest | None = None
        self._is_cancelled = False
        self._has_mail = asyncio.Event()
        self._has_mail.set()
        self._places: list[Place] = []

    async def run(self, write: Callable[[Event], Awaitable[None]], may_write: asyncio.Lock) -> None:
        """Reads the request to its end.

        Args:
            write: Sends one event; waits while the client is slow.
            may_write: Guards the stream that other requests write to as well. What arrives while it is
                waited for is merged into the next events.

        Raises:
            ServiceError: The request failed, or was cancelled.
        """
        self._running = self._registry.attach(self._request, self._deadline_s)
        with self._running.read_by(self._has_mail):
            if self._is_cancelled:
                self._running.cancel()
            try:
                await self._read(self._running, write, may_write)
            except ServiceError as error:
                raise self._told(error) from None

    def trace(self, traceparent: str) -> None:
        """Makes the W3C trace context that of the request, if this reader starts it."""
        if traceparent != self._request.origin.traceparent:
            origin = dataclasses.replace(self._request.origin, traceparent=traceparent)
            self._request = dataclasses.replace(self._request, origin=origin)

    def cancel(self) -> None:
        """Ends the request, for all its readers; a write that is under way is not torn."""
        self._is_cancelled = True
        if self._running is not None:
            self._running.cancel()

    async def _read(
        self, running: RunningRequest, write: Callable[[Event], Awaitable[None]], may_write: asyncio.Lock
    ) -> None:
        generation = await running.generation()
        self._places = places = generation.places(self._request.resume.after_tokens)
        while not all(place.has_finished for place in places):
            await self._has_mail.wait()
            async with may_write:
                self._has_mail.clear()
                running.advance()
                failure = running.failure
                for event in generation.read(places):
                    await write(event)
            if failure is not None and not all(place.has_finished for place in places):
                raise failure

    def _told(self, error: ServiceError) -> ServiceError:
        """The error, with what the client needs to ask for the rest where there may be one."""
        if error.info is None:
            return error
        counts = [place.num_tokens for place in self._places] or [self._request.resume.after_tokens]
        request_id = self._request.origin.request_id
        return error.with_metadata(request_id=request_id, num_tokens=str(sum(counts)))
