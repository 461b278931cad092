"""What a service says about its models and about the tokens of a text."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds on a request.

    Attributes:
        max_n: Answers to one prompt.
        max_stop_strings: Stop strings of one request.
        max_stop_string_chars: Characters of one stop string.
        max_stop_token_ids: Stop token ids of one request.
        max_logprobs: Candidates of one log-probability entry.
        max_logit_bias: Entries of logit_bias.
        max_request_bytes: Bytes of one request message.
    """

    max_n: int
    max_stop_strings: int
    max_stop_string_chars: int
    max_stop_token_ids: int
    max_logprobs: int
    max_logit_bias: int
    max_request_bytes: int


@dataclass(frozen=True, slots=True)
class SamplingDefaults:
    """What a model uses where a request says nothing; None is the neutral value. See `Request`."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] = field(default_factory=dict)
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """One model and its limits.

    Attributes:
        name: The name for `Request.model`.
        architecture: The checkpoint's architecture, for example LlamaForCausalLM.
        context_length: The most tokens of prompt and answer together.
        vocab_size: The number of token ids.
        has_vision: Whether requests may carry images.
        has_chat_template: Whether chats can be rendered.
        dtype: The type of the weights, for example bfloat16.
        quantization: The quantization scheme of the weights; empty if there is none.
        limits: The bounds on a request.
        default_sampling: What is used where a request says nothing.
    """

    name: str
    architecture: str
    context_length: int
    vocab_size: int
    has_vision: bool
    has_chat_template: bool
    dtype: str
    quantization: str
    limits: Limits
    default_sampling: SamplingDefaults


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a text. Its length is their number.

    Attributes:
        token_ids: The token ids.
        tokens: The exact bytes of each token.
        text: The text that was tokenized: what was given, or what the template made of the chat.
        context_length: The model's context length in tokens, to compare with.
    """

    token_ids: tuple[int, ...]
    tokens: tuple[bytes, ...]
    text: str
    context_length: int

    def __len__(self) -> int:
        return len(self.token_ids)
