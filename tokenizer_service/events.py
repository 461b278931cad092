"""What a request's answers are made of, free of protobuf."""

import enum
from dataclasses import dataclass


class FinishReason(enum.IntEnum):
    """Why an answer ended; numbered as in tandem.v1.FinishReason."""

    LENGTH = 1
    EOS = 2
    STOP_TOKEN = 3
    STOP_STRING = 4
    CANCELLED = 5
    DEADLINE = 6
    ERROR = 7


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the most likely tokens at a place: id, exact bytes, natural log-probability."""

    token_id: int
    token: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token with its natural log-probability, None where nothing predicts it, and the likeliest ones."""

    token_id: int
    token: bytes
    logprob: float | None
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Started:
    """The prompt of answer `index` is being computed, or has been, if its log-probabilities are asked for."""

    index: int
    prompt_tokens: int
    cached_tokens: int
    prompt: str
    prompt_token_ids: tuple[int, ...]
    prompt_logprobs: tuple[TokenLogprob, ...]


@dataclass(frozen=True, slots=True)
class Delta:
    """More of answer `index`: the text of `num_tokens` tokens."""

    index: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...]
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Numbers of tokens."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds: accepted to first step, to first token, to last token."""

    queue_ms: float
    prefill_ms: float
    decode_ms: float


@dataclass(frozen=True, slots=True)
class Finished:
    """Answer `index` is complete.

    Attributes:
        matched_stop: The stop string, or the id of the last token.
        num_textless: How many of its tokens are in no delta: the one that ended it, where it has no text.
    """

    index: int
    reason: FinishReason
    matched_stop: str | int | None
    num_textless: int
    usage: Usage
    timings: Timings


Event = Started | Delta | Finished
