"""A client's request, as it was sent and as it is run; free of protobuf."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Image:
    """A picture: its file, or the hash of a file that was sent before; `field` is its path in the request."""

    field: str
    data: bytes | None = None
    sha256: bytes | None = None


@dataclass(frozen=True)
class ChatMessage:
    """One turn: who speaks, and the texts and images that it says, in order."""

    role: str
    parts: tuple[str | Image, ...]

    @property
    def text(self) -> str:
        """The texts without the images."""
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def images(self) -> tuple[Image, ...]:
        """The images without the texts."""
        return tuple(part for part in self.parts if isinstance(part, Image))


@dataclass(frozen=True)
class Chat:
    """A conversation for the chat template; None where the client left a field out."""

    messages: tuple[ChatMessage, ...]
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    tools: tuple[dict[str, Any], ...] = ()
    template_variables: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_continued(self) -> bool:
        """Whether the answer goes on where the last message ends."""
        return bool(self.continue_final_message)


Input = str | Chat | tuple[int, ...]
"""A prompt's text, a conversation, or token ids."""


@dataclass(frozen=True)
class SamplingFields:
    """Sampling as it was sent; None where it was left out."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None


@dataclass(frozen=True)
class Sampling:
    """Sampling with every default filled in; the values here are the neutral ones."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Stop:
    """When an answer ends; `max_tokens` is None where it was left out."""

    max_tokens: int | None = None
    min_tokens: int = 0
    strings: tuple[str, ...] = ()
    token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    include_stop: bool = False


@dataclass(frozen=True)
class Output:
    """What the events carry besides text."""

    logprobs: int | None = None
    prompt_logprobs: int | None = None
    token_ids: bool = False
    echo: bool = False
    special_tokens: bool = False


@dataclass(frozen=True)
class Origin:
    """Where a request comes from.

    Attributes:
        client: Who called.
        request_id: The request's id, chosen by either side.
        traceparent: The W3C trace context for the engine's part, or empty.
    """

    client: str = ""
    request_id: str = ""
    traceparent: str = ""


@dataclass(frozen=True)
class Resume:
    """How a request outlives its calls.

    Attributes:
        after_tokens: How many tokens of each answer the client has.
        linger_s: How long the request runs on, and its answers are kept, while nobody reads them.
    """

    after_tokens: int = 0
    linger_s: float = 0.0


@dataclass(frozen=True)
class Request:
    """A request as it was sent.

    Attributes:
        request_id: Chosen by the caller, or None.
        model: The model's name, or None for the only one.
        input: What to continue or answer; None if nothing was set.
        images: Images beside the input.
        sampling: How tokens are drawn.
        stop: When the answer ends.
        output: What the events carry.
        n: How many answers.
        priority: Higher runs first.
        first_token_timeout_s: Seconds within which the first token must be there, or None.
        origin: Where it comes from.
        resume: How it outlives its calls.
        body_sha256: Tells the fields other than `resume` from those of another request with this
            request_id; empty without one.
        unserved: Names of set fields that this service does not serve.
    """

    request_id: str | None = None
    model: str | None = None
    input: Input | None = None
    images: tuple[Image, ...] = ()
    sampling: SamplingFields = field(default_factory=SamplingFields)
    stop: Stop = field(default_factory=Stop)
    output: Output = field(default_factory=Output)
    n: int = 1
    priority: int = 0
    first_token_timeout_s: float | None = None
    origin: Origin = Origin()
    resume: Resume = Resume()
    body_sha256: bytes = b""
    unserved: tuple[str, ...] = ()

    @property
    def all_images(self) -> tuple[Image, ...]:
        """The images of the chat's messages, else those beside the input."""
        if isinstance(self.input, Chat):
            return tuple(image for message in self.input.messages for image in message.images)
        return self.images


def input_field(value: Input) -> str:
    """The name of the request's field that holds this input."""
    if isinstance(value, str):
        return "prompt"
    return "chat" if isinstance(value, Chat) else "token_ids"
