"""What the server process and the core process say to each other over their pipe.

These classes have no slots: with them pickle takes about twice as long.
"""

from dataclasses import dataclass, field

from engine_service.plan import Counts, Load, Rates, StepColumns
from engine_service.sequence import SequenceKey, SequenceSpec


@dataclass(frozen=True)
class Submit:
    """To the core: run a sequence under a new key."""

    key: SequenceKey
    spec: SequenceSpec


@dataclass(frozen=True)
class End:
    """To the core: cancel a sequence; its client expects nothing more."""

    key: SequenceKey


@dataclass(frozen=True)
class EndSession:
    """To the core: cancel all sequences of a session."""

    session: int


@dataclass(frozen=True)
class PutImage:
    """To the core: the pixels of an image, uint8 values of [height, width, 3]."""

    sha256: bytes
    pixels: bytes


@dataclass(frozen=True)
class Shutdown:
    """To the core: leave the loop."""


Command = Submit | End | EndSession | PutImage | Shutdown


@dataclass(frozen=True)
class VisionInfo:
    """What sequences with images must keep to.

    Attributes:
        image_size: Rows and columns of an image.
        num_features: Placeholders of an image.
        image_token_id: Their id.
        max_images: The most different images of a sequence.
    """

    image_size: int
    num_features: int
    image_token_id: int
    max_images: int


@dataclass(frozen=True)
class EngineInfo:
    """To the server: the model is loaded, and this is what runs.

    Attributes:
        dtype: Type of the weights in memory.
        eos_token_ids: Ascending.
        tokenizer_sha256: Empty where the model directory has no tokenizer.json.
        epoch: Differs for every start of the core.
        vision: None for a model of text only.
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
    vision: VisionInfo | None = None


@dataclass(frozen=True)
class StartFailed:
    """To the server: the model cannot be served; one line says why."""

    reason: str


@dataclass(frozen=True)
class Telemetry:
    """What nobody waits for, and what would cost as much as the rest of a record if each had it.

    Attributes:
        rates: How fast the core was lately.
        counts: What was done since the core's start.
        step_seconds: How long each step since the last telemetry took.
    """

    rates: Rates
    counts: Counts
    step_seconds: list[float]


@dataclass(frozen=True)
class StepRecord:
    """To the server: what one step brought, by session, and the load after it.

    Attributes:
        needed_images: By session, those that its sequences wait for since this step.
        gone_images: Those that the core no longer has.
        begun: Sequences that left the queue, some of them not for the first time.
        telemetry: Now and then, and always in the last record before the core has nothing to do.
    """

    columns: dict[int, StepColumns]
    load: Load
    needed_images: dict[int, list[bytes]] = field(default_factory=dict)
    gone_images: list[bytes] = field(default_factory=list)
    begun: list[SequenceKey] = field(default_factory=list)
    telemetry: Telemetry | None = None


Report = EngineInfo | StartFailed | StepRecord
