"""The stream to the engine: one for each worker, all sequences on it, reconnecting."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from tandem.engine.v1 import engine_pb2, engine_pb2_grpc
from tandem_service.errors import RETRY_DELAY_S, MismatchError, ServiceError, UnavailableError
from tandem_service.model_dir import Fingerprint
from tandem_service.status import from_status
from tokenizer_service.bell import Bell
from tokenizer_service.engine_conversion import (
    PROTOCOL_VERSION,
    deliver,
    from_info,
    to_hello,
    to_spec,
    to_timeout_ms,
)
from tokenizer_service.engine_images import EngineImages, image_sender
from tokenizer_service.engine_info import EngineInfo, SequenceSpec
from tokenizer_service.engine_sequence import EngineSequence
from tokenizer_service.pixels import Pixels

log = logging.getLogger("tandem.tokenizer")

_MIN_BACKOFF_S = 0.1
_MAX_BACKOFF_S = 5.0
# Keeps one message of submits at a few hundred kilobytes, so that it does not delay cancels.
_MAX_IDS_PER_MESSAGE = 65_536
_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Otherwise a ping waits a minute for its answer, whatever the keepalive's timeout is.
    ("grpc.http2.ping_timeout_ms", 10_000),
    # This file does the waiting between attempts; gRPC's own would be shared between channels.
    ("grpc.use_local_subchannel_pool", 1),
]


@dataclass(frozen=True)
class _Submission:
    """What is needed to submit a sequence, again if need be; the deadline is on the loop's clock."""

    spec: engine_pb2.SequenceSpec
    images: tuple[Pixels, ...]
    deadline_s: float | None


class EngineSession:
    """Submits sequences and fills their mailboxes.

    Attributes:
        info: What the engine last said about itself; None before the first connection.
        is_connected: Whether sequences can be submitted.
    """

    def __init__(
        self,
        address: str,
        fingerprint: Fingerprint,
        timeout_s: float,
        on_connection: Callable[[bool], None],
    ) -> None:
        """`on_connection` hears of every change; `timeout_s` bounds how long sequences wait for one."""
        self.info: EngineInfo | None = None
        self.is_connected = False
        self._address = address
        self._fingerprint = fingerprint
        self._timeout_s = timeout_s
        self._on_connection = on_connection
        self._last_number = 0
        self._sequences: dict[int, EngineSequence] = {}
        self._submissions: dict[int, _Submission] = {}
        self._submits: list[int] = []
        self._cancels: list[int] = []
        self._stops: list[engine_pb2.StopAt] = []
        self._has_commands = asyncio.Event()
        self._images: EngineImages | None = None
        self._image_tasks: set[asyncio.Task[None]] = set()
        self._bell = Bell()
        self._give_up_timer: asyncio.TimerHandle | None = None

    def submit(
        self, spec: SequenceSpec, deadline_s: float | None, on_mail: Callable[[], None]
    ) -> EngineSequence:
        """Starts a sequence.

        Args:
            spec: What to run.
            deadline_s: When nobody wants the answer any more, on the loop's clock.
            on_mail: Called when something has arrived; must be cheap.

        Raises:
            UnavailableError: There is no engine.
        """
        if not self.is_connected:
            raise self._unavailable("the engine is not there")
        self._last_number = number = (self._last_number + 1) % 2**32
        sequence = EngineSequence(number, on_mail, self._stop_at, self._cancel)
        self._sequences[number] = sequence
        images = tuple(each.pixels for each in spec.images)
        self._submissions[number] = _Submission(to_spec(spec), images, deadline_s)
        self._submit(number)
        return sequence

    async def run(self) -> None:
        """Keeps the session up. Never returns.

        Raises:
            MismatchError: The engine's model does not belong to the tokenizer.
        """
        backoff_s = _MIN_BACKOFF_S
        is_silent = False
        while True:
            was_connected, reason = await self._connect()
            if was_connected:
                backoff_s, is_silent = _MIN_BACKOFF_S, False
            if not is_silent:
                log.warning("engine %s: %s; trying again until it is there", self._address, reason)
                is_silent = True
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)

    async def _connect(self) -> tuple[bool, str]:
        """One connection from its first word to its end: whether it came to be, and why it ended."""
        try:
            async with grpc.aio.insecure_channel(self._address, _CHANNEL_OPTIONS) as channel:
                stub = engine_pb2_grpc.EngineStub(channel)
                call = stub.Session()
                await self._greet(call)
                image_timeout_s = max(self._timeout_s, 1.0)
                self._images = EngineImages(image_sender(stub, image_timeout_s), image_timeout_s)
                await self._exchange(call)
            reason = "the engine ended the session"
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.FAILED_PRECONDITION:
                raise MismatchError(f"engine {self._address}: {error.details()}") from None
            reason = f"{error.code().name}: {error.details()}"
        except (TimeoutError, asyncio.InvalidStateError) as error:
            reason = f"no answer: {error}"
        finally:
            was_connected = self.is_connected
            self._lose()
        return was_connected, reason

    async def _greet(self, call: Any) -> None:
        async with asyncio.timeout(max(self._timeout_s, 1.0)):
            await call.write(to_hello(self._fingerprint))
            frame = await call.read()
        if frame is grpc.aio.EOF or not frame.HasField("hello"):
            raise asyncio.InvalidStateError("the first frame is no hello")
        if frame.hello.protocol_version != PROTOCOL_VERSION:
            version = frame.hello.protocol_version
            raise MismatchError(f"engine {self._address}: protocol {version} is not {PROTOCOL_VERSION}")
        self.info = from_info(frame.hello.info)

    async def _exchange(self, call: Any) -> None:
        """Writes commands and reads frames until the stream ends."""
        self._resubmit()
        writer = asyncio.create_task(self._write_commands(call))
        try:
            while (frame := await call.read()) is not grpc.aio.EOF:
                self._take(frame)
        finally:
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await writer

    async def _write_commands(self, call: Any) -> None:
        """Everything that waits goes into one message; more gathers while it is written."""
        while True:
            await self._has_commands.wait()
            await call.write(self._next_commands())

    def _next_commands(self) -> engine_pb2.SessionRequest:
        request = engine_pb2.SessionRequest(cancels=self._cancels, stops=self._stops)
        self._cancels, self._stops = [], []
        num_ids = num_taken = 0
        now_s = asyncio.get_running_loop().time()
        for number in self._submits:
            if num_ids > _MAX_IDS_PER_MESSAGE:
                break
            num_taken += 1
            submission = self._submissions.get(number)
            if submission is not None:
                submit = request.submits.add(sequence=number, spec=submission.spec)
                if submission.deadline_s is not None:
                    submit.spec.timeout_ms = to_timeout_ms(submission.deadline_s - now_s)
                num_ids += len(submission.spec.token_ids)
        del self._submits[:num_taken]
        if not self._submits:
            self._has_commands.clear()
        return request

    def _take(self, frame: engine_pb2.SessionResponse) -> None:
        kind = frame.WhichOneof("frame")
        if kind == "step":
            self._bell.ring_for(deliver(frame.step, self._sequences))
            for number in frame.step.finished_sequences:
                self._forget(number)
        elif kind == "rejected":
            sequence = self._sequences.get(frame.rejected.sequence)
            self._forget(frame.rejected.sequence)
            if sequence is not None:
                sequence.fail(from_status(frame.rejected.status))
        elif kind == "need_image":
            self._send_again(frame.need_image.sha256)

    def _submit(self, number: int) -> None:
        """Submits a sequence as soon as the engine has its images."""
        images = self._submissions[number].images
        if not images:
            self._submits.append(number)
            self._has_commands.set()
        else:
            self._run_with_images(self._submit_after(number, images))

    async def _submit_after(self, number: int, images: tuple[Pixels, ...]) -> None:
        if await self._send_images(images, [number]) and number in self._submissions:
            self._submits.append(number)
            self._has_commands.set()

    def _send_again(self, sha256: bytes) -> None:
        """The engine lacks an image for sequences that it has."""
        found = {
            number: image
            for number, submission in self._submissions.items()
            for image in submission.images
            if image.sha256 == sha256
        }
        if found and self._images is not None:
            self._images.forget(sha256)
            self._run_with_images(self._send_images(list(found.values())[:1], list(found)))

    async def _send_images(self, images: Sequence[Pixels], numbers: Sequence[int]) -> bool:
        """Sends what the engine lacks; if it takes it not, the sequences fail."""
        assert self._images is not None
        try:
            await self._images.send(images)
        except ServiceError as error:
            for number in numbers:
                sequence = self._sequences.get(number)
                if self._forget(number):
                    self._cancels.append(number)
                    self._has_commands.set()
                if sequence is not None:
                    sequence.fail(error)
            return False
        return True

    def _run_with_images(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._image_tasks.add(task)
        task.add_done_callback(self._image_tasks.discard)

    def _stop_at(self, number: int, num_tokens: int) -> None:
        if self._forget(number):
            self._stops.append(engine_pb2.StopAt(sequence=number, num_tokens=num_tokens))
            self._has_commands.set()

    def _cancel(self, number: int) -> None:
        if self._forget(number):
            self._cancels.append(number)
            self._has_commands.set()

    def _forget(self, number: int) -> bool:
        """Frames for this sequence are surplus from now on; whether it ran."""
        self._submissions.pop(number, None)
        return self._sequences.pop(number, None) is not None

    def _resubmit(self) -> None:
        """The connection is up: what waited for it is submitted."""
        if self._give_up_timer is not None:
            self._give_up_timer.cancel()
        self._submits, self._cancels, self._stops = [], [], []
        for number in self._sequences:
            self._submit(number)
        self.is_connected = True
        log.info("engine %s: connected, epoch %s", self._address, self.info.epoch if self.info else "")
        self._on_connection(True)

    def _lose(self) -> None:
        """The connection is down: sequences that have shown nothing wait for the next one."""
        if not self.is_connected:
            return
        self.is_connected = False
        self._end_images()
        self._on_connection(False)
        for number, sequence in list(self._sequences.items()):
            if sequence.was_read:
                self._forget(number)
                sequence.fail(self._unavailable("the engine went away during the answer"))
            else:
                sequence.forget()
        loop = asyncio.get_running_loop()
        self._give_up_timer = loop.call_later(self._timeout_s, self._give_up)

    def _end_images(self) -> None:
        if self._images is not None:
            self._images.close()
        for task in self._image_tasks:
            task.cancel()

    def _give_up(self) -> None:
        for number, sequence in list(self._sequences.items()):
            self._forget(number)
            sequence.fail(self._unavailable(f"the engine was away for {self._timeout_s:g} s"))

    def _unavailable(self, reason: str) -> UnavailableError:
        return UnavailableError(reason, retry_delay_s=RETRY_DELAY_S)
