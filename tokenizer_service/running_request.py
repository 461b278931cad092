"""One request from its start to its last event."""

import asyncio
from collections.abc import Awaitable, Callable

from tandem_service.errors import RequestCancelledError
from tokenizer_service import intake
from tokenizer_service.events import Event
from tokenizer_service.model import Model
from tokenizer_service.request import Request


class RunningRequest:
    """Writes a request's events as fast as its client reads them."""

    def __init__(self, model: Model, deadline_s: float | None) -> None:
        """`deadline_s` is on the loop's clock."""
        self._model = model
        self._deadline_s = deadline_s
        self._has_mail = asyncio.Event()
        self._is_cancelled = False

    async def run(
        self, request: Request, write: Callable[[Event], Awaitable[None]], may_write: asyncio.Lock
    ) -> None:
        """Runs the request.

        Args:
            request: As it was sent.
            write: Sends one event; waits while the client is slow.
            may_write: Guards the stream that other requests write to as well. What arrives while it is
                waited for is merged into the next events.

        Raises:
            ServiceError: The request failed, or was cancelled.
        """
        generation = await intake.start(request, self._model, self._deadline_s, self._has_mail.set)
        try:
            while not generation.is_finished:
                await self._has_mail.wait()
                async with may_write:
                    self._has_mail.clear()
                    self._raise_if_cancelled()
                    for event in generation.drain():
                        await write(event)
        finally:
            generation.close()

    def cancel(self) -> None:
        """Ends the request between two writes: one that is under way must not be torn."""
        self._is_cancelled = True
        self._has_mail.set()

    def _raise_if_cancelled(self) -> None:
        if self._is_cancelled:
            raise RequestCancelledError("the client cancelled the request")
