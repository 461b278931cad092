"""What an engine says about itself, and what it is asked to run; free of protobuf."""

from dataclasses import dataclass, replace

from tokenizer_service.pixels import Pixels
from tokenizer_service.request import Sampling


@dataclass(frozen=True)
class EngineInfo:
    """The model that an engine serves.

    Attributes:
        model: Its name.
        architecture: The checkpoint's architecture.
        dtype: The type of the weights.
        quantization: The scheme of the weights, or "".
        context_length: The most tokens of prompt and answer together.
        vocab_size: The number of token ids.
        epoch: Changes with every start of the engine's core.
        has_vision: Whether sequences may carry images.
    """

    model: str
    architecture: str
    dtype: str
    quantization: str
    context_length: int
    vocab_size: int
    epoch: str
    has_vision: bool = False

    def is_same_model(self, other: "EngineInfo") -> bool:
        """Whether answers of the other may be gone on with here, as far as names and sizes tell."""
        return replace(self, epoch=other.epoch) == other


@dataclass(frozen=True)
class ImageSpan:
    """An image of a prompt: its pixels, its first placeholder, and how many it has."""

    pixels: Pixels
    start: int
    length: int


@dataclass(frozen=True)
class SequenceSpec:
    """One sequence to run; the fields are those of tandem.engine.v1.SequenceSpec.

    Attributes:
        first_token_deadline_s: When its first token must be there, on the loop's clock.
        may_overrun: Whether others may want it for longer than the call that starts it.
    """

    token_ids: tuple[int, ...]
    sampling: Sampling
    seed: int
    max_tokens: int
    min_tokens: int
    stop_token_ids: tuple[int, ...]
    ignore_eos: bool
    logprobs: int | None
    prompt_logprobs: int | None
    priority: int
    images: tuple[ImageSpan, ...] = ()
    first_token_deadline_s: float | None = None
    client: str = ""
    request_id: str = ""
    traceparent: str = ""
    may_overrun: bool = False
