"""What one step computes, and what came of it. No tensors."""

from dataclasses import dataclass, field

from engine_service.sequence import FinishReason, Logprobs, Sequence


@dataclass(frozen=True, slots=True)
class ImageWork:
    """An image whose features are to be computed before the step's prefill.

    Attributes:
        slot: Where its features go.
        pixels: uint8 values, [height, width, 3].
    """

    sha256: bytes
    slot: int
    pixels: bytes


@dataclass(frozen=True, slots=True)
class FeatureRun:
    """Tokens of a chunk that are features of an image.

    Attributes:
        begin: The first one's place in the chunk.
        end: The place behind the last one.
        row: The row of the embedding table for the first one; those of the others follow.
    """

    begin: int
    end: int
    row: int


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """Known tokens of one sequence to run through the model.

    Attributes:
        start: Index of the first token.
        length: Number of tokens.
        is_first: Whether the sequence has just been given its row and blocks.
        is_last: Whether a token is drawn after it.
        features: The tokens that are not looked up by their ids.
    """

    sequence: Sequence
    start: int
    length: int
    is_first: bool
    is_last: bool
    features: tuple[FeatureRun, ...] = ()


@dataclass(slots=True)
class Plan:
    """One step: prefill chunks, then one token for each decoding sequence.

    Attributes:
        grown: Those of `decodes` whose last block is new.
        images: What the chunks need of images that were not computed before.
    """

    step: int
    prefills: list[PrefillChunk]
    decodes: list[Sequence]
    grown: list[Sequence] = field(default_factory=list)
    images: list[ImageWork] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to compute."""
        return not self.prefills and not self.decodes

    def drawing(self) -> list[Sequence]:
        """The sequences for which a token is drawn: those that end their prefill, then the decodes."""
        return [chunk.sequence for chunk in self.prefills if chunk.is_last] + self.decodes


@dataclass(slots=True)
class Outcome:
    """What a step brought, in the order of `Plan.drawing()`.

    Attributes:
        tokens: One id for each drawing sequence.
        logprobs: For drawing sequences that asked, by their place in `tokens`.
        prompt_logprobs: For chunks of sequences that asked, by their place in `Plan.prefills`.
    """

    tokens: list[int]
    logprobs: dict[int, Logprobs] = field(default_factory=dict)
    prompt_logprobs: dict[int, Logprobs] = field(default_factory=dict)


@dataclass(frozen=True)
class Started:
    """A sequence's prompt is computed."""

    sequence: int
    num_cached: int
    queue_us: int
    prefill_us: int


@dataclass
class StepColumns:
    """What one step, or several merged, brought to one session.

    Attributes:
        step: The latest step.
        sequences: One entry for each token.
        tokens: As long as `sequences`.
        begun: Sequences that left the queue for the first time, and their tokens from the prefix cache.
        logprobs: By sequence, for tokens of this record.
        prompt_logprobs: By sequence, for those in `started`.
    """

    step: int
    sequences: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    begun: list[tuple[int, int]] = field(default_factory=list)
    started: list[Started] = field(default_factory=list)
    finished: list[tuple[int, FinishReason]] = field(default_factory=list)
    logprobs: dict[int, Logprobs] = field(default_factory=dict)
    prompt_logprobs: dict[int, Logprobs] = field(default_factory=dict)

    @property
    def num_values(self) -> int:
        """Tokens and log-probabilities: how large the message is that says all this."""
        columns = (*self.logprobs.values(), *self.prompt_logprobs.values())
        return len(self.tokens) + sum(len(each.logprobs) + len(each.candidate_tokens) for each in columns)

    def merge(self, later: "StepColumns") -> None:
        """Appends a later step of the same session."""
        self.step = later.step
        self.sequences += later.sequences
        self.tokens += later.tokens
        self.begun += later.begun
        self.started += later.started
        self.finished += later.finished
        self.prompt_logprobs |= later.prompt_logprobs
        for sequence, logprobs in later.logprobs.items():
            if sequence in self.logprobs:
                self.logprobs[sequence].extend(logprobs)
            else:
                self.logprobs[sequence] = logprobs


@dataclass(frozen=True)
class Load:
    """How busy the engine is; counts of sequences, blocks, and the prompt tokens of those that wait."""

    num_running: int
    num_waiting: int
    num_free_blocks: int
    num_blocks: int
    num_waiting_tokens: int = 0


@dataclass(frozen=True)
class Rates:
    """How fast the engine was lately; None while that is not known.

    Attributes:
        prefill_tokens_per_s: Prompt tokens computed in a second, in steps full of them.
        begun_per_s: Sequences that left the queue in a second while others stayed in it.
    """

    prefill_tokens_per_s: float | None = None
    begun_per_s: float | None = None


@dataclass(frozen=True)
class Counts:
    """What was done since the core's start, for metrics.

    Attributes:
        num_prompt_tokens: Of sequences that got their first token.
        num_cached_tokens: Those of them from the prefix cache.
        num_prefill_tokens: Computed in prefills.
        num_preemptions: Times that a sequence lost its blocks to another.
        num_images: Images whose features were computed.
    """

    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_prefill_tokens: int = 0
    num_preemptions: int = 0
    num_images: int = 0
