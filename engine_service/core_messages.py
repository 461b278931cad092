"""What the server process and the core process say to each other over their pipe."""

from dataclasses import dataclass

from engine_service.plan import Load, StepColumns
from engine_service.sequence import SequenceKey, SequenceSpec


@dataclass(frozen=True, slots=True)
class Submit:
    """To the core: run a sequence under a new key."""

    key: SequenceKey
    spec: SequenceSpec


@dataclass(frozen=True, slots=True)
class End:
    """To the core: cancel a sequence; its client expects nothing more."""

    key: SequenceKey


@dataclass(frozen=True, slots=True)
class EndSession:
    """To the core: cancel all sequences of a session."""

    session: int


@dataclass(frozen=True, slots=True)
class Shutdown:
    """To the core: leave the loop."""


Command = Submit | End | EndSession | Shutdown


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """To the server: the model is loaded, and this is what runs.

    Attributes:
        dtype: Type of the weights in memory.
        eos_token_ids: Ascending.
        tokenizer_sha256: Empty where the model directory has no tokenizer.json.
        epoch: Differs for every start of the core.
    """

    model: str
    architecture: str
    dtype: str
    device: str
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    tokenizer_sha256: bytes
    context_length: int
    kv_block_size: int
    num_blocks: int
    epoch: str


@dataclass(frozen=True, slots=True)
class StartFailed:
    """To the server: the model cannot be served; one line says why."""

    reason: str


@dataclass(frozen=True, slots=True)
class StepRecord:
    """To the server: what one step brought, by session, and the load after it."""

    columns: dict[int, StepColumns]
    load: Load


Report = EngineInfo | StartFailed | StepRecord
