"""What a caller asks for: messages, images, and one request with all its settings."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict


@dataclass(frozen=True, slots=True)
class Image:
    """A picture, by its file's bytes or by the hash of bytes that the service has seen before.

    Attributes:
        data: A PNG, JPEG, WebP, GIF or BMP file.
        sha256: The SHA-256 of such a file, 32 bytes.
    """

    data: bytes | None = None
    sha256: bytes | None = None

    def __post_init__(self) -> None:
        if (self.data is None) == (self.sha256 is None):
            raise ValueError("Image: set exactly one of data and sha256")

    def by_hash(self) -> "Image":
        """The same picture without its bytes, for a service that has seen them.

        The service raises `NotFoundError` if it has not, or has forgotten them.
        """
        return self if self.data is None else Image(sha256=hashlib.sha256(self.data).digest())


def image(source: str | os.PathLike[str] | bytes) -> Image:
    """A picture from a file: its path, or its bytes.

    Args:
        source: A PNG, JPEG, WebP, GIF or BMP file. The service decodes it and says what is wrong with it.

    Raises:
        OSError: The file cannot be read.
    """
    return Image(data=source if isinstance(source, bytes) else Path(source).read_bytes())


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat.

    Attributes:
        role: Who speaks: `system`, `user`, `assistant` or another role that the template knows.
        content: Text, or its parts in order: texts and images.
    """

    role: str
    content: str | Sequence[str | Image]


MessageLike = Message | Mapping[str, Any]
"""A `Message`, or a dictionary with the keys `role` and `content`."""


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """The shape that an answer must have. Exactly one attribute is set.

    Attributes:
        json_schema: A JSON Schema document, as text.
        regex: A regular expression that the whole answer matches.
        grammar: A grammar in EBNF that the whole answer derives from.
        choice: The allowed answers.
    """

    json_schema: str | None = None
    regex: str | None = None
    grammar: str | None = None
    choice: Sequence[str] | None = None

    def __post_init__(self) -> None:
        values = (self.json_schema, self.regex, self.grammar, self.choice)
        if sum(value is not None for value in values) != 1:
            raise ValueError("ResponseFormat: set exactly one of json_schema, regex, grammar and choice")


class TemplateOptions(TypedDict, total=False):
    """Settings of the chat template; `Request` says what each means."""

    add_generation_prompt: bool | None
    continue_final_message: bool | None
    tools: Sequence[Mapping[str, Any]]
    template_variables: Mapping[str, Any] | None


class Options(TypedDict, total=False):
    """Settings of a request as keyword arguments; `Request` says what each means."""

    model: str | None
    request_id: str | None
    images: Sequence[Image]
    max_tokens: int | None
    min_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    logit_bias: Mapping[int, float] | None
    seed: int | None
    stop: str | Sequence[str]
    stop_token_ids: Sequence[int]
    ignore_eos: bool | None
    include_stop: bool | None
    n: int | None
    logprobs: int | None
    prompt_logprobs: int | None
    return_token_ids: bool | None
    echo: bool | None
    special_tokens: bool | None
    response_format: ResponseFormat | None
    adapter: str | None
    priority: int | None
    first_token_timeout: float | None
    linger: float | None
    traceparent: str | None


class ChatOptions(Options, TemplateOptions):
    """Settings of a request whose input is a chat."""


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt, and what to do with it. A setting that is None or empty takes the model's default.

    Exactly one of `prompt`, `messages` and `token_ids` is set. The service checks the bounds; what
    they are, `Client.models` says.

    Attributes:
        prompt: Text, continued as it stands.
        messages: A chat, oldest turn first, rendered with the model's chat template.
        token_ids: Token ids, continued as they stand.
        model: A name from `Client.models`; needed only where there are several.
        request_id: Unique among the caller's running requests; chosen for you if absent.
        images: The images of the placeholders in `prompt` or `token_ids`, in order; a chat's images are
            parts of its messages.
        max_tokens: The most tokens to produce, at least 1. Default: what the context length leaves.
        min_tokens: Nothing ends the answer before this many tokens.
        temperature: Divides the logits, in [0, 100]; 0 takes the most likely token.
        top_p: Keeps the smallest set of tokens whose probability reaches this, in (0, 1].
        top_k: Keeps this many of the most likely tokens; 0 keeps all.
        min_p: Drops tokens less likely than this times the most likely one, in [0, 1].
        repetition_penalty: Lowers tokens of the prompt and the output, in (0, 10]; 1 does nothing.
        presence_penalty: Subtracted once from the logit of tokens in the output, in [-2, 2].
        frequency_penalty: Subtracted for each time a token is in the output, in [-2, 2].
        logit_bias: Added to the logits, by token id; values in [-100, 100].
        seed: Makes the draw repeatable; in [0, 2**64).
        stop: A string, or strings, at which the answer ends.
        stop_token_ids: Token ids at which the answer ends.
        ignore_eos: Whether end-of-sequence tokens are ordinary tokens.
        include_stop: Whether the text keeps the stop string that ended it.
        n: How many answers to draw.
        logprobs: Log-probability of each output token and of this many candidates, in [0, 20].
        prompt_logprobs: The same for the prompt's tokens.
        return_token_ids: Whether answers carry their token ids.
        echo: Whether the prompt's text and token ids come back.
        special_tokens: Whether special tokens appear in the text.
        response_format: The shape that the answer must have.
        adapter: The name of a loaded adapter.
        priority: Requests with a higher one run first, in [-100, 100].
        first_token_timeout: Seconds within which the first token must be there.
        linger: Seconds that the request runs on, and its answer is kept, while nobody reads it. Where it
            is set, `generate`, `stream` and their chat forms reconnect when an answer breaks off, and go
            on with it; a request without a seed gets one, so that a worker which has never heard of it
            draws the same answer. Leaving a stream then ends the request only after this time.
        traceparent: The W3C trace context of the caller's span, for services that trace; one stream of
            many requests takes none.
        add_generation_prompt: Whether the template opens an assistant turn. Default true.
        continue_final_message: Whether the answer continues the last message. Default false.
        tools: Function definitions for templates that show them to the model.
        template_variables: Further variables for the template.
    """

    prompt: str | None = None
    messages: Sequence[MessageLike] | None = None
    token_ids: Sequence[int] | None = None
    model: str | None = None
    request_id: str | None = None
    images: Sequence[Image] = ()
    max_tokens: int | None = None
    min_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[int, float] | None = None
    seed: int | None = None
    stop: str | Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    ignore_eos: bool | None = None
    include_stop: bool | None = None
    n: int | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    return_token_ids: bool | None = None
    echo: bool | None = None
    special_tokens: bool | None = None
    response_format: ResponseFormat | None = None
    adapter: str | None = None
    priority: int | None = None
    first_token_timeout: float | None = None
    linger: float | None = None
    traceparent: str | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    template_variables: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        inputs = (self.prompt, self.messages, self.token_ids)
        if sum(value is not None for value in inputs) != 1:
            raise ValueError("a request needs exactly one of prompt, messages and token_ids")
