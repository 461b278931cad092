"""The stream to the engine: made, greeted, kept up, and made again when it ends."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from typing import Any

import grpc

from tandem.engine.v1 import engine_pb2, engine_pb2_grpc
from tandem_service.access import Metadata
from tandem_service.errors import MismatchError
from tandem_service.model_dir import Fingerprint
from tokenizer_service.engine_channel import EngineChannels
from tokenizer_service.engine_commands import EngineCommands
from tokenizer_service.engine_conversion import PROTOCOL_VERSION, from_info, to_hello
from tokenizer_service.engine_images import EngineImages, image_sender
from tokenizer_service.engine_info import EngineInfo

log = logging.getLogger("tandem.tokenizer")

_MIN_BACKOFF_S = 0.1
_MAX_BACKOFF_S = 5.0


class EngineConnection:
    """Writes what waits in `commands` and passes frames on, through all ends of the stream."""

    def __init__(
        self,
        channels: EngineChannels,
        fingerprint: Fingerprint,
        timeout_s: float,
        commands: EngineCommands,
        on_up: Callable[[EngineInfo, EngineImages], None],
        on_frame: Callable[[engine_pb2.SessionResponse], None],
        on_down: Callable[[], None],
        on_absence: Callable[[], None],
    ) -> None:
        """A connection that `run` makes.

        Args:
            channels: The way to the engine.
            fingerprint: The tokenizer's.
            timeout_s: How long the engine may take for its greeting, or for an image; 1 at least.
            commands: What to write.
            on_up: Called when the stream is there, with what runs behind it and the way for images.
            on_frame: Called with each frame.
            on_down: Called when the stream is gone.
            on_absence: Called when it could not be made.
        """
        self._channels = channels
        self._address = channels.address
        self._fingerprint = fingerprint
        self._timeout_s = max(timeout_s, 1.0)
        self._commands = commands
        self._on_up = on_up
        self._on_frame = on_frame
        self._on_down = on_down
        self._on_absence = on_absence

    async def run(self) -> None:
        """Keeps the stream up. Never returns.

        Raises:
            MismatchError: The engine's model does not belong to the tokenizer.
        """
        backoff_s = _MIN_BACKOFF_S
        is_silent = False
        while True:
            was_up, reason = await self._connect()
            if was_up:
                backoff_s, is_silent = _MIN_BACKOFF_S, False
            else:
                self._on_absence()
            if not is_silent:
                log.warning("engine %s: %s; trying again until it is there", self._address, reason)
                is_silent = True
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)

    async def _connect(self) -> tuple[bool, str]:
        """One stream from its first word to its end: whether it came to be, and why it ended."""
        is_up = False
        try:
            metadata, channel = self._channels.metadata(), self._channels.open()
        except ValueError as error:
            return False, str(error)
        try:
            async with channel:
                stub = engine_pb2_grpc.EngineStub(channel)
                call = stub.Session(metadata=metadata)
                info = await self._greet(stub, call, metadata)
                log.info("engine %s: connected, epoch %s", self._address, info.epoch)
                is_up = True
                put = image_sender(stub, self._timeout_s, metadata)
                images = EngineImages(put, self._timeout_s)
                self._on_up(info, images)
                await self._exchange(call, images)
            reason = "the engine ended the session"
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.FAILED_PRECONDITION:
                raise MismatchError(f"engine {self._address}: {error.details()}") from None
            reason = f"{error.code().name}: {error.details()}"
        except (TimeoutError, asyncio.InvalidStateError) as error:
            reason = f"no answer: {error}"
        finally:
            if is_up:
                self._on_down()
        return is_up, reason

    async def _greet(self, stub: Any, call: Any, metadata: Metadata) -> EngineInfo:
        async with asyncio.timeout(self._timeout_s):
            try:
                await call.write(to_hello(self._fingerprint))
            except grpc.aio.AioRpcError:
                # A write into a stream that was refused fails without the reason; this call fails with it.
                await stub.GetEngineInfo(engine_pb2.GetEngineInfoRequest(), metadata=metadata)
                raise
            frame = await call.read()
        if frame is grpc.aio.EOF or not frame.HasField("hello"):
            raise asyncio.InvalidStateError("the first frame is no hello")
        if frame.hello.protocol_version != PROTOCOL_VERSION:
            version = frame.hello.protocol_version
            raise MismatchError(f"engine {self._address}: protocol {version} is not {PROTOCOL_VERSION}")
        return from_info(frame.hello.info)

    async def _exchange(self, call: Any, images: EngineImages) -> None:
        """Writes commands and reads frames until the stream ends."""
        writer = asyncio.create_task(self._write_commands(call, images))
        try:
            while (frame := await call.read()) is not grpc.aio.EOF:
                self._on_frame(frame)
        finally:
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await writer

    async def _write_commands(self, call: Any, images: EngineImages) -> None:
        while True:
            await call.write(await self._commands.next(images))
