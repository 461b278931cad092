"""One sequence in the engine, seen from here: what has arrived and nobody has read yet."""

from collections.abc import Callable
from dataclasses import dataclass

from tandem_service.errors import ServiceError
from tokenizer_service.events import FinishReason


@dataclass(frozen=True, slots=True)
class LogprobRow:
    """The log-probability of one token, and (id, log-probability) of the most likely ones."""

    logprob: float
    candidates: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class SequenceStart:
    """The engine has computed the prompt.

    Attributes:
        cached_tokens: Prompt tokens from the prefix cache.
        queue_us: Microseconds of waiting.
        prefill_us: Microseconds from the first step to the first token.
        prompt_logprobs: One row for each of the last prompt tokens, as far as the engine gave them.
    """

    cached_tokens: int
    queue_us: int
    prefill_us: int
    prompt_logprobs: list[LogprobRow]


@dataclass(frozen=True, slots=True)
class Mail:
    """What came since the last look; with an `error` nothing more comes.

    Attributes:
        cached_tokens: Prompt tokens from the prefix cache; None until the engine has begun.
    """

    cached_tokens: int | None
    start: SequenceStart | None
    tokens: list[int]
    logprobs: list[LogprobRow]
    finish_reason: FinishReason | None
    error: ServiceError | None


class EngineSequence:
    """Fills while its request is busy elsewhere; emptied in one go.

    Attributes:
        number: The engine knows the sequence by it.
        on_mail: Called after something arrived.
        has_started: Whether its start has arrived.
        was_read: Whether anything of it may have reached the client.
        tokens: Those that nobody has taken; whoever adds some calls `touch` and `on_mail` afterwards.
        logprobs: One row for each of them, where asked for.
    """

    def __init__(
        self,
        number: int,
        on_mail: Callable[[], None],
        stop_at: Callable[[int, int], None],
        cancel: Callable[[int], None],
    ) -> None:
        """`stop_at` takes the number and how many tokens to keep; `cancel` takes the number."""
        self.number = number
        self.on_mail = on_mail
        self.has_started = False
        self.was_read = False
        self.tokens: list[int] = []
        self._stop_at = stop_at
        self._cancel = cancel
        self._taken: list[int] = []
        self._first_token_s: float | None = None
        self._finish_s: float | None = None
        self.logprobs: list[LogprobRow] = []
        self._cached_tokens: int | None = None
        self._start: SequenceStart | None = None
        self._finish_reason: FinishReason | None = None
        self._error: ServiceError | None = None

    @property
    def output(self) -> list[int]:
        """All tokens that have arrived."""
        return self._taken + self.tokens

    @property
    def num_tokens(self) -> int:
        """How many tokens have arrived."""
        return len(self._taken) + len(self.tokens)

    def forget(self) -> None:
        """Drops what has arrived and nobody has taken; the sequence starts again."""
        assert not self.was_read
        self.tokens, self.logprobs, self._start, self._cached_tokens = [], [], None, None
        self.has_started = False
        self._first_token_s = None

    def begin(self, cached_tokens: int) -> None:
        """The prompt is being computed, but for what is in the prefix cache; before the start this counts."""
        if not self.has_started:
            self._cached_tokens = cached_tokens

    def start(self, start: SequenceStart) -> None:
        """The prompt is computed; only the first time counts."""
        if not self.has_started:
            self._start = start
            self.has_started = True

    def touch(self, now_s: float) -> None:
        """Something arrived."""
        if self._first_token_s is None and self.tokens:
            self._first_token_s = now_s

    def finish(self, reason: FinishReason, now_s: float) -> None:
        """Nothing more will come."""
        self._finish_reason = reason
        self._finish_s = now_s

    def fail(self, error: ServiceError) -> None:
        """The sequence is lost."""
        self._error = error
        self.on_mail()

    def take(self) -> Mail:
        """Empties the mailbox."""
        mail = Mail(
            self._cached_tokens, self._start, self.tokens, self.logprobs, self._finish_reason, self._error
        )
        self._taken += self.tokens
        self.tokens, self.logprobs, self._finish_reason = [], [], None
        self._start = self._cached_tokens = None
        self.was_read = self.was_read or self.has_started
        return mail

    def decode_s(self, now_s: float) -> float:
        """Seconds from the first token to the end of the sequence, or until now."""
        end_s = now_s if self._finish_s is None else self._finish_s
        return end_s - (end_s if self._first_token_s is None else self._first_token_s)

    def stop_at(self, num_tokens: int) -> None:
        """Ends the sequence; the answer keeps this many tokens."""
        self._stop_at(self.number, num_tokens)

    def cancel(self) -> None:
        """Ends the sequence; does nothing if it has ended."""
        self._cancel(self.number)
