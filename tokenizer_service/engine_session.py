"""The sequences that the engine runs for one worker, through all lives of the engine."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from tandem.engine.v1 import engine_pb2
from tandem_service.errors import RETRY_DELAY_S, DeadlineError, ErrorInfo, ServiceError, UnavailableError
from tandem_service.model_dir import Fingerprint
from tandem_service.status import from_status
from tokenizer_service.bell import Bell
from tokenizer_service.engine_channel import EngineChannels
from tokenizer_service.engine_commands import EngineCommands
from tokenizer_service.engine_connection import EngineConnection
from tokenizer_service.engine_conversion import deliver
from tokenizer_service.engine_images import EngineImages
from tokenizer_service.engine_info import EngineInfo, SequenceSpec
from tokenizer_service.engine_sequence import EngineSequence
from tokenizer_service.pixels import Pixels
from tokenizer_service.submission import Submission

# A request that takes the engine down with it must not do so for ever.
_MAX_RESUBMISSIONS = 3
# A session may end for its age alone; the next one is there at once. Requests wait for it so long, and so
# long nobody hears that the engine is gone, unless a first try has shown it.
_RENEWAL_S, _SILENCE_S = 2.0, 1.0


class EngineSession:
    """Submits sequences and fills their mailboxes.

    When an engine is lost, its sequences wait for the next one and go on there behind the tokens that
    have arrived: greedy ones and those with a seed, which all have here, draw what they would have
    drawn. (On a GPU a context computed in one piece may round otherwise than one that grew token by
    token, so that a later token may differ.)

    Attributes:
        info: What the engine last said about itself; None before the first connection.
        is_connected: Whether sequences can be submitted.
    """

    def __init__(
        self,
        channels: EngineChannels,
        fingerprint: Fingerprint,
        timeout_s: float,
        on_connection: Callable[[bool], None],
    ) -> None:
        """`on_connection` hears of changes that last; `timeout_s` bounds how long sequences wait for one."""
        self.info: EngineInfo | None = None
        self.is_connected = False
        self._timeout_s = timeout_s
        self._on_connection = on_connection
        self._is_announced = False
        self._last_number = 0
        self._sequences: dict[int, EngineSequence] = {}
        self._submissions: dict[int, Submission] = {}
        self._commands = EngineCommands()
        self._connection = EngineConnection(
            channels,
            fingerprint,
            timeout_s,
            self._commands,
            on_up=self._resume,
            on_frame=self._take,
            on_down=self._lose,
            on_absence=self._admit_absence,
        )
        self._images: EngineImages | None = None
        self._image_tasks: set[asyncio.Task[None]] = set()
        self._bell = Bell()
        self._is_settled = asyncio.Event()
        self._is_settled.set()
        self._timers: list[asyncio.TimerHandle] = []

    async def settle(self, until_s: float | None) -> None:
        """Waits for the session that follows one which has just ended, if it comes soon.

        Args:
            until_s: When the wait ends at the latest, on the loop's clock; None if that does not matter.
        """
        if self.is_connected:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until_s):
                await self._is_settled.wait()

    def submit(
        self, spec: SequenceSpec, deadline_s: float | None, on_mail: Callable[[], None]
    ) -> EngineSequence:
        """Starts a sequence.

        Args:
            spec: What to run.
            deadline_s: When the call ends that starts it, on the loop's clock; None if that does not matter.
            on_mail: Called when something has arrived; must be cheap.

        Raises:
            UnavailableError: There is no engine.
        """
        if not self.is_connected:
            raise _lost("the engine is not there")
        self._last_number = number = (self._last_number + 1) % 2**32
        sequence = EngineSequence(number, on_mail, self._stop_at, self._cancel)
        submission = Submission(sequence, spec, deadline_s)
        self._sequences[number] = sequence
        self._submissions[number] = submission
        self._commands.submit(submission)
        return sequence

    async def run(self) -> None:
        """Keeps the session up. Never returns.

        Raises:
            MismatchError: The engine's model does not belong to the tokenizer.
        """
        await self._connection.run()

    def _take(self, frame: engine_pb2.SessionResponse) -> None:
        kind = frame.WhichOneof("frame")
        if kind == "step":
            self._bell.ring_for(deliver(frame.step, self._sequences))
            for number in frame.step.finished_sequences:
                self._forget(number)
        elif kind == "rejected":
            self._reject(frame.rejected.sequence, from_status(frame.rejected.status))
        elif kind == "need_image":
            self._send_again(frame.need_image.sha256)

    def _reject(self, number: int, error: ServiceError) -> None:
        sequence = self._sequences.get(number)
        if sequence is not None:
            self._fail(sequence, _lost(error.message) if sequence.has_started else error)

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
            task = asyncio.create_task(self._send_image(next(iter(found.values())), list(found)))
            self._image_tasks.add(task)
            task.add_done_callback(self._image_tasks.discard)

    async def _send_image(self, image: Pixels, numbers: Sequence[int]) -> None:
        """Sends an image; if the engine takes it not, the sequences fail."""
        assert self._images is not None
        try:
            await self._images.send(image)
        except ServiceError as error:
            for number in numbers:
                if number in self._sequences:
                    self._commands.cancel(number)
                    self._fail(self._sequences[number], error)

    def _stop_at(self, number: int, num_tokens: int) -> None:
        if self._forget(number):
            self._commands.stop_at(number, num_tokens)

    def _cancel(self, number: int) -> None:
        if self._forget(number):
            self._commands.cancel(number)

    def _fail(self, sequence: EngineSequence, error: ServiceError) -> None:
        self._forget(sequence.number)
        sequence.fail(error)

    def _forget(self, number: int) -> bool:
        """Frames for this sequence are surplus from now on; whether it ran."""
        self._submissions.pop(number, None)
        return self._sequences.pop(number, None) is not None

    def _resume(self, info: EngineInfo, images: EngineImages) -> None:
        """The connection is up: what waited for it is submitted."""
        for timer in self._timers:
            timer.cancel()
        is_same = self.info is None or info.is_same_model(self.info)
        self.info, self._images, self.is_connected = info, images, True
        self._is_settled.set()
        self._commands.clear()
        for submission in list(self._submissions.values()):
            self._resubmit(submission, is_same)
        self._is_announced = True
        self._on_connection(True)

    def _resubmit(self, submission: Submission, is_same_model: bool) -> None:
        sequence = submission.sequence
        submission.num_losses += 1
        if submission.num_losses > _MAX_RESUBMISSIONS:
            reason = f"the engine was lost {submission.num_losses} times while it ran this request"
            self._fail(sequence, _lost(reason))
        elif not is_same_model and sequence.was_read:
            self._fail(sequence, _lost("the engine came back with another model"))
        else:
            if not is_same_model:
                sequence.forget()
            self._commands.submit(submission)

    def _lose(self) -> None:
        """The connection is down: sequences wait for the next one."""
        self.is_connected = False
        self._end_images()
        loop = asyncio.get_running_loop()
        self._is_settled.clear()
        self._timers = [
            loop.call_later(_SILENCE_S, self._admit_absence),
            loop.call_later(_RENEWAL_S, self._is_settled.set),
            loop.call_later(self._timeout_s, self._give_up),
        ]
        # Only an engine that is there ends by itself what is late.
        for number, submission in self._submissions.items():
            if submission.first_token_deadline_s is not None:
                self._timers.append(loop.call_at(submission.first_token_deadline_s, self._end_late, number))

    def _admit_absence(self) -> None:
        if self._is_announced:
            self._is_announced = False
            self._on_connection(False)

    def _end_images(self) -> None:
        if self._images is not None:
            self._images.close()
        for task in self._image_tasks:
            task.cancel()

    def _give_up(self) -> None:
        for sequence in list(self._sequences.values()):
            self._fail(sequence, _lost(f"the engine was away for {self._timeout_s:g} s"))

    def _end_late(self, number: int) -> None:
        sequence = self._sequences.get(number)
        if sequence is not None:
            message = "the first_token_timeout passed while the engine was away"
            self._fail(sequence, DeadlineError(message))


def _lost(reason: str) -> UnavailableError:
    return UnavailableError(reason, retry_delay_s=RETRY_DELAY_S, info=ErrorInfo("ENGINE_LOST"))
