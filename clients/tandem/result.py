"""What comes back for a request: the events of a stream, and the completion that they add up to."""

from dataclasses import dataclass
from enum import StrEnum

from tandem.errors import TandemError


class FinishReason(StrEnum):
    """Why an answer ended."""

    UNSPECIFIED = "unspecified"
    LENGTH = "length"
    EOS = "eos"
    STOP_TOKEN = "stop_token"
    STOP_STRING = "stop_string"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the most likely tokens at some place.

    Attributes:
        token_id: Its id.
        token: Its exact bytes; they may be a part of a character.
        logprob: Natural logarithm of its probability.
    """

    token_id: int
    token: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The log-probability of one token, before temperature and penalties.

    Attributes:
        token_id: Its id.
        token: Its exact bytes; they may be a part of a character.
        logprob: Natural logarithm of its probability; None for the first token of a prompt.
        candidates: The most likely tokens at its place, most likely first.
    """

    token_id: int
    token: bytes
    logprob: float | None
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer: of its prompt, how many of those were cached, and of the answer."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Where an answer's time went, in milliseconds, as the engine measured it.

    Attributes:
        queue_ms: From acceptance to the first step.
        prefill_ms: From the first step to the first token.
        decode_ms: From the first token to the last.
    """

    queue_ms: float = 0.0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Started:
    """A request was taken up; comes once for each answer, before its first delta.

    Attributes:
        request_id: The request.
        index: Which of the n answers.
        prompt_tokens: Tokens of the prompt.
        cached_tokens: How many of them came from the prefix cache.
        prompt: The prompt's text, if `echo` asked for it.
        prompt_token_ids: The prompt's token ids, if `echo` asked for them.
        prompt_logprobs: One entry for each prompt token, if `prompt_logprobs` asked for them.
    """

    request_id: str
    index: int
    prompt_tokens: int
    cached_tokens: int
    prompt: str = ""
    prompt_token_ids: tuple[int, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """More of one answer. Text and ids belong together.

    Attributes:
        request_id: The request.
        index: Which of the n answers.
        text: Text to append.
        token_ids: The ids behind the text, if `return_token_ids` asked for them.
        logprobs: One entry for each of those tokens, if `logprobs` asked for them.
        num_tokens: How many tokens the text stands for.
    """

    request_id: str
    index: int
    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    num_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """One answer is complete.

    Attributes:
        request_id: The request.
        index: Which of the n answers.
        reason: Why it ended.
        stop_string: The stop string that ended it, or None.
        stop_token_id: The token that ended it, or None.
        usage: Tokens that it used.
        timings: Where its time went.
    """

    request_id: str
    index: int
    reason: FinishReason
    stop_string: str | None = None
    stop_token_id: int | None = None
    usage: Usage = Usage()
    timings: Timings = Timings()


Event = Started | Delta | Finished


@dataclass(frozen=True, slots=True)
class Answer:
    """One of the n answers to a request.

    Attributes:
        index: Which of the n answers.
        text: Its text.
        finish_reason: Why it ended.
        stop_string: The stop string that ended it, or None.
        stop_token_id: The token that ended it, or None.
        token_ids: Its token ids, if `return_token_ids` asked for them.
        logprobs: One entry for each token, if `logprobs` asked for them.
        usage: Tokens that it used.
        timings: Where its time went.
    """

    index: int
    text: str
    finish_reason: FinishReason
    stop_string: str | None = None
    stop_token_id: int | None = None
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    usage: Usage = Usage()
    timings: Timings = Timings()


@dataclass(frozen=True, slots=True)
class Completion:
    """Everything that came back for one request.

    Attributes:
        request_id: The request.
        answers: The n answers, by index.
        prompt: The prompt's text, if `echo` asked for it.
        prompt_token_ids: The prompt's token ids, if `echo` asked for them.
        prompt_logprobs: One entry for each prompt token, if `prompt_logprobs` asked for them.
    """

    request_id: str
    answers: tuple[Answer, ...]
    prompt: str = ""
    prompt_token_ids: tuple[int, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()

    @property
    def text(self) -> str:
        """The first answer's text."""
        return self.answers[0].text

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The first answer's token ids."""
        return self.answers[0].token_ids

    @property
    def finish_reason(self) -> FinishReason:
        """Why the first answer ended."""
        return self.answers[0].finish_reason

    @property
    def usage(self) -> Usage:
        """Tokens that the first answer used."""
        return self.answers[0].usage


@dataclass(frozen=True, slots=True)
class Result:
    """How one request of `generate_many` ended. Exactly one of `completion` and `error` is set.

    Attributes:
        index: The request's place among those that were given, from 0.
        request_id: The request.
        completion: What came back, or None.
        error: Why nothing came back, or None.
    """

    index: int
    request_id: str
    completion: Completion | None = None
    error: TandemError | None = None

    def unwrap(self) -> Completion:
        """The completion.

        Raises:
            TandemError: The request failed.
        """
        if self.completion is None:
            assert self.error is not None
            raise self.error
        return self.completion
