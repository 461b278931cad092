"""Which pixels the engine has, and the sending of those that it lacks."""

import asyncio
import contextlib
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc

from tandem_service.access import Metadata
from tandem_service.errors import (
    RETRY_DELAY_S,
    InternalError,
    OverloadedError,
    ServiceError,
    UnavailableError,
)
from tokenizer_service.engine_conversion import to_put_image
from tokenizer_service.pixels import Pixels

Put = Callable[[Pixels], Awaitable[None]]

# An image is 339 kB at 336 x 336; this many are under way at once, each in a message of its own.
_MAX_SENDING = 8
# Hashes that are remembered; one that was forgotten costs sending its image again.
_MAX_KNOWN = 65_536
_MIN_BACKOFF_S = 0.05
_MAX_BACKOFF_S = 1.0


class EngineImages:
    """The images of one connection; what another connection sent is sent again."""

    def __init__(self, put: Put, timeout_s: float) -> None:
        """`put` sends one image; where the engine is not there it is called again, for `timeout_s`."""
        self._put = put
        self._timeout_s = timeout_s
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._sending: dict[bytes, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(_MAX_SENDING)

    def unsent(self, images: Iterable[Pixels]) -> Pixels | None:
        """The first of these that the engine was not sent, or has asked for since; None without one."""
        return next((image for image in images if not self._was_sent(image.sha256)), None)

    def add(self, sha256: bytes) -> None:
        """An image goes to the engine on the session's stream."""
        self._known[sha256] = None
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)

    async def send(self, image: Pixels) -> None:
        """Sends an image by itself, in answer to the engine's asking for it; it is under way once.

        Raises:
            ServiceError: The engine does not take it.
        """
        # Others may wait for the same image: the end of one waiter must not end the sending.
        await asyncio.shield(self._task(image))

    def forget(self, sha256: bytes) -> None:
        """The engine has lost an image."""
        self._known.pop(sha256, None)

    def close(self) -> None:
        """The connection is gone."""
        for task in self._sending.values():
            task.cancel()

    def _task(self, image: Pixels) -> "asyncio.Task[None]":
        task = self._sending.get(image.sha256)
        if task is None:
            task = self._sending[image.sha256] = asyncio.create_task(self._send(image))
            task.add_done_callback(lambda done: self._sent(image.sha256, done))
        return task

    def _was_sent(self, sha256: bytes) -> bool:
        return sha256 in self._known or sha256 in self._sending

    def _sent(self, sha256: bytes, task: "asyncio.Task[None]") -> None:
        del self._sending[sha256]
        if not task.cancelled() and task.exception() is None:
            self.add(sha256)

    async def _send(self, image: Pixels) -> None:
        backoff_s = _MIN_BACKOFF_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_s), self._places:
                while True:
                    try:
                        return await self._put(image)
                    except UnavailableError:
                        await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
                        backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)
        raise UnavailableError(
            f"the engine took no image for {self._timeout_s:g} s", retry_delay_s=RETRY_DELAY_S
        )


def image_sender(stub: Any, timeout_s: float, metadata: Metadata) -> Put:
    """What sends one image by `stub`, an engine's; its failures are told in terms of the client's request."""

    async def put(pixels: Pixels) -> None:
        try:
            await stub.PutImage(to_put_image(pixels), timeout=timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise _put_error(error) from None

    return put


def _put_error(error: grpc.aio.AioRpcError) -> ServiceError:
    code, details = error.code(), error.details()
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return UnavailableError(f"the engine took no image: {details}", retry_delay_s=RETRY_DELAY_S)
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
        return OverloadedError(f"the engine has no room for an image: {details}", retry_delay_s=RETRY_DELAY_S)
    return InternalError(f"the engine refuses an image: {code.name}: {details}")
