"""The stream to the engine: one for each worker, all sequences on it, reconnecting."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from tandem.engine.v1 import engine_pb2, engine_pb2_grpc
from tandem_service.errors import RETRY_DELAY_S, MismatchError, UnavailableError
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
from tokenizer_service.engine_info import EngineInfo, SequenceSpec
from tokenizer_service.engine_sequence import EngineSequence

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
    # This file does the waiting between attempts; gRPC's own would be shared between channels.
    ("grpc.use_local_subchannel_pool", 1),
]


@dataclass(frozen=True)
class _Submission:
    """What is needed to submit a sequence, again if need be; the deadline is on the loop's clock."""

    spec: engine_pb2.SequenceSpec
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
        self._submissions[number] = _Submission(to_spec(spec), deadline_s)
        self._submits.append(number)
        self._has_commands.set()
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
                call = engine_pb2_grpc.EngineStub(channel).Session()
                await self._greet(call)
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
        self._submits = list(self._sequences)
        self._cancels, self._stops = [], []
        if self._submits:
            self._has_commands.set()
        self.is_connected = True
        log.info("engine %s: connected, epoch %s", self._address, self.info.epoch if self.info else "")
        self._on_connection(True)

    def _lose(self) -> None:
        """The connection is down: sequences that have shown nothing wait for the next one."""
        if not self.is_connected:
            return
        self.is_connected = False
        self._on_connection(False)
        for number, sequence in list(self._sequences.items()):
            if sequence.was_read:
                self._forget(number)
                sequence.fail(self._unavailable("the engine went away during the answer"))
            else:
                sequence.forget()
        loop = asyncio.get_running_loop()
        self._give_up_timer = loop.call_later(self._timeout_s, self._give_up)

    def _give_up(self) -> None:
        for number, sequence in list(self._sequences.items()):
            self._forget(number)
            sequence.fail(self._unavailable(f"the engine was away for {self._timeout_s:g} s"))

    def _unavailable(self, reason: str) -> UnavailableError:
        return UnavailableError(reason, retry_delay_s=RETRY_DELAY_S)
