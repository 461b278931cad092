"""A sequence: the engine's state for one stream of tokens."""

from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from engine_service.image_ref import ImageRef
from engine_service.sampling_params import SamplingParams

SequenceKey = tuple[int, int]  # session, and the number that the session's client chose


class FinishReason(IntEnum):
    """Why a sequence ended; the values are those of tandem.v1.FinishReason."""

    LENGTH = 1
    EOS = 2
    STOP_TOKEN = 3
    STOP_STRING = 4
    CANCELLED = 5
    DEADLINE = 6
    ERROR = 7


class State(Enum):
    """Where a sequence is."""

    LACKING = "lacking"  # waits for an image
    WAITING = "waiting"
    PREFILLING = "prefilling"
    DECODING = "decoding"
    FINISHED = "finished"


@dataclass(frozen=True)
class SequenceSpec:
    """What a client asked for.

    Attributes:
        token_ids: The prompt, at least one id.
        max_tokens: The most tokens to produce, at least 1.
        min_tokens: No end-of-sequence or stop token is drawn before this many.
        stop_token_ids: Ids that end the sequence.
        ignore_eos: Whether end-of-sequence tokens are ordinary tokens.
        logprobs: Candidates of each output token's log-probability entry; None for no entries.
        prompt_logprobs: The same for the prompt.
        priority: Higher runs first.
        timeout_s: Seconds until nobody wants the answer; None for no deadline.
        first_token_timeout_s: Seconds until nobody wants the answer unless its first token is there.
        images: What placeholders in the prompt stand for, in order, without overlaps.
        client: On whose behalf it runs.
        output_token_ids: The first tokens of the output, which an earlier run has brought; fewer than
            max_tokens. The sequence goes on behind them as after a preemption.
        request_id: The request that it belongs to, for logs; empty for none.
        traceparent: The request's W3C trace context, or empty.
        may_overrun: Whether timeout_s is for its admission only.
    """

    token_ids: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParams = SamplingParams()
    min_tokens: int = 0
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    priority: int = 0
    timeout_s: float | None = None
    first_token_timeout_s: float | None = None
    images: tuple[ImageRef, ...] = ()
    output_token_ids: tuple[int, ...] = ()
    client: str = ""
    request_id: str = ""
    traceparent: str = ""
    may_overrun: bool = False

    @property
    def first_token_limit_s(self) -> float | None:
        """Seconds within which the first token is of use to whoever asked; None without a bound."""
        return _sooner(self.timeout_s, self.first_token_timeout_s)


@dataclass
class Logprobs:
    """Log-probabilities of consecutive tokens of one sequence.

    Attributes:
        logprobs: One for each token.
        num_candidates: Candidates of each token, k.
        candidate_tokens: k ids for each token, most likely first, flat.
        candidate_logprobs: As long as candidate_tokens.
    """

    num_candidates: int
    logprobs: list[float] = field(default_factory=list)
    candidate_tokens: list[int] = field(default_factory=list)
    candidate_logprobs: list[float] = field(default_factory=list)

    def extend(self, other: "Logprobs") -> None:
        """Appends later tokens with the same number of candidates."""
        assert other.num_candidates == self.num_candidates
        self.logprobs += other.logprobs
        self.candidate_tokens += other.candidate_tokens
        self.candidate_logprobs += other.candidate_logprobs

    def behind(self, num_tokens: int) -> "Logprobs":
        """Those of the tokens behind the first `num_tokens`."""
        num_flat = num_tokens * self.num_candidates
        return Logprobs(
            self.num_candidates,
            self.logprobs[num_tokens:],
            self.candidate_tokens[num_flat:],
            self.candidate_logprobs[num_flat:],
        )


class Sequence:
    """One stream of tokens and what the engine holds for it.

    Attributes:
        tokens: The prompt and the output tokens that are known: from an earlier run, or read back.
        num_computed: Tokens whose keys and values are in the cache once all launched steps are done.
        num_in_flight: Output tokens of launched steps that have not been read back.
        num_cached: Prompt tokens that came from the prefix cache when it last began.
        num_registered: Leading blocks that the prefix cache knows.
        blocks: The block table.
        digests: Content addresses of leading blocks, as far as they were needed.
        pinned: Images whose features its prefill needs.
        row: The row in the device's state table; -1 without one.
        order: Sorts sequences by priority, then arrival.
        first_token_deadline_s: When it ends without a first token.
        deadline_s: When it ends with what it has.
    """

    __slots__ = (
        "arrival_s",
        "blocks",
        "deadline_s",
        "digests",
        "first_step_s",
        "first_token_deadline_s",
        "is_started",
        "key",
        "num_cached",
        "num_computed",
        "num_in_flight",
        "num_prompt",
        "num_registered",
        "order",
        "pinned",
        "prompt_logprobs",
        "row",
        "spec",
        "state",
        "stop_reasons",
        "token_limit",
        "tokens",
    )

    def __init__(
        self, key: SequenceKey, spec: SequenceSpec, arrival: int, now_s: float, eos_ids: Items[int]
    ) -> None:
        """A waiting sequence; `arrival` counts sequences, `now_s` is the scheduler's clock."""
        self.key = key
        self.spec = spec
        self.state = State.WAITING
        self.tokens = [*spec.token_ids, *spec.output_token_ids]
        self.num_prompt = len(spec.token_ids)
        self.token_limit = self.num_prompt + spec.max_tokens
        self.stop_reasons = _stop_reasons(spec, eos_ids)
        self.num_computed = 0
        self.num_in_flight = 0
        self.num_cached = 0
        self.num_registered = 0
        self.digests: list[bytes] = []
        self.blocks: list[int] = []
        self.pinned: list[ImageRef] = []
        self.row = -1
        self.order = (-spec.priority, arrival)
        self.arrival_s = now_s
        timeout_s = None if spec.may_overrun else spec.timeout_s
        self.deadline_s = None if timeout_s is None else now_s + timeout_s
        limit_s = _sooner(timeout_s, spec.first_token_timeout_s)
        self.first_token_deadline_s = None if limit_s is None else now_s + limit_s
        self.first_step_s: float | None = None
        self.is_started = False
        self.prompt_logprobs = None if spec.prompt_logprobs is None else Logprobs(spec.prompt_logprobs)

    @property
    def num_output(self) -> int:
        """Output tokens that are known."""
        return len(self.tokens) - self.num_prompt

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Whether the prompt's log-probabilities are still to be delivered."""
        return self.prompt_logprobs is not None and not self.is_started

    def finish_reason(self, token: int) -> FinishReason | None:
        """Why the sequence ends with its newest token, if it does."""
        if token in self.stop_reasons and self.num_output > self.spec.min_tokens:
            return self.stop_reasons[token]
        return FinishReason.LENGTH if len(self.tokens) >= self.token_limit else None


def _sooner(first: float | None, second: float | None) -> float | None:
    return min((each for each in (first, second) if each is not None), default=None)


def _stop_reasons(spec: SequenceSpec, eos_ids: Items[int]) -> dict[int, FinishReason]:
    reasons = dict.fromkeys(spec.stop_token_ids, FinishReason.STOP_TOKEN)
    if not spec.ignore_eos:
        reasons |= dict.fromkeys(eos_ids, FinishReason.EOS)
    return reasons
