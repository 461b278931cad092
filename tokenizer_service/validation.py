"""The bounds on a request's fields. Every violation is reported, in the order of the fields."""

import math
from collections.abc import Iterator, Sequence

from tandem_service.errors import Violation, invalid, unsupported
from tokenizer_service.config import Limits
from tokenizer_service.engine_info import EngineInfo
from tokenizer_service.request import (
    Chat,
    Image,
    Input,
    Output,
    Request,
    Resume,
    SamplingFields,
    Stop,
    input_field,
)

_SHA256_BYTES = 32
_MIN_FIRST_TOKEN_TIMEOUT_S, _MAX_FIRST_TOKEN_TIMEOUT_S = 0.001, 86_400


def check_request(
    request: Request, model: str, limits: Limits, info: EngineInfo, *, has_vision: bool = False
) -> None:
    """Checks everything that can be checked before the prompt is encoded, but for `check_counts`.

    Raises:
        InvalidRequestError: Fields are wrong; all of them are named.
        UnsupportedError: A set field is not served.
    """
    violations = [
        *_request_id(request.request_id, limits),
        *model_violations(request.model, model),
        *_input(request.input, model, info.vocab_size, has_vision),
        *_images(request, model, limits, has_vision),
        *sampling_violations(request.sampling, info.vocab_size),
        *_stop(request.stop, limits, info.vocab_size),
        *_output(request.output, limits),
        *_between("n", request.n, 1, limits.max_n),
        *_between("priority", request.priority, -100, 100),
        *_first_token_timeout(request.first_token_timeout_s),
        *resume_violations(request, limits),
    ]
    if violations:
        raise invalid(*violations)
    for field in request.unserved:
        raise unsupported(field, "this service does not serve it")


def check_lengths(value: Input, num_tokens: int, stop: Stop, context_length: int) -> int:
    """Checks the prompt's length and gives the most tokens that the answer may have.

    Raises:
        InvalidRequestError: The prompt is empty or too long, or max_tokens does not fit behind it.
    """
    field = input_field(value)
    if num_tokens == 0:
        raise invalid(Violation(field, "has no tokens; at least 1 is needed"))
    if too_long := list(length_violations(field, num_tokens, context_length)):
        raise invalid(*too_long)
    room = context_length - num_tokens
    if stop.max_tokens is not None and stop.max_tokens > room:
        bound = f"at most {room} are left by {num_tokens} prompt tokens of context length {context_length}"
        raise invalid(Violation("stop.max_tokens", f"{stop.max_tokens}; {bound}"))
    return room if stop.max_tokens is None else stop.max_tokens


def length_violations(field: str, num_tokens: int, context_length: int) -> Iterator[Violation]:
    """Whether a prompt leaves no room for an answer."""
    if num_tokens > context_length - 1:
        bound = f"at most {context_length - 1} fit the context length {context_length}"
        yield Violation(field, f"has {num_tokens} tokens; {bound} with 1 token of answer")


def model_violations(sent: str | None, model: str) -> list[Violation]:
    """Whether the request names another model than the one that is served."""
    if not sent or sent == model:
        return []
    return [Violation("model", f"{_shown(sent)} is not served; the only model is {model!r}")]


def chat_violations(chat: Chat, model: str, *, has_vision: bool = False) -> Iterator[Violation]:
    """What is wrong with a conversation before its template sees it."""
    if not chat.messages:
        yield Violation("chat.messages", "is empty; at least 1 message is needed")
    for i, message in enumerate(chat.messages):
        if not message.role:
            yield Violation(f"chat.messages[{i}].role", "is empty")
        for image in message.images:
            yield from _image(image, model, has_vision)
    if chat.add_generation_prompt and chat.continue_final_message:
        yield Violation(
            "chat.continue_final_message", "true excludes add_generation_prompt: true; set one of them"
        )


def token_id_violations(field: str, ids: Sequence[int], vocab_size: int) -> Iterator[Violation]:
    """The first id that is not in the vocabulary."""
    if max(ids, default=0) < vocab_size:
        return
    for i, token in enumerate(ids):
        if token >= vocab_size:
            yield Violation(f"{field}[{i}]", f"{token} is not below the vocabulary size {vocab_size}")
            return


def resume_violations(request: Request, limits: Limits) -> Iterator[Violation]:
    """What is wrong with how a request outlives its calls, also where it attaches to a running one."""
    yield from _between("resume.linger", request.resume.linger_s, 0, limits.max_linger_s)
    if request.request_id is None and request.resume != Resume():
        yield Violation("request_id", "is not set; resume needs one")


def sampling_violations(sampling: SamplingFields, vocab_size: int) -> list[Violation]:
    """What is wrong with sampling fields; those left out are right."""
    return [
        *_between("sampling.temperature", sampling.temperature, 0, 100),
        *_above_zero("sampling.top_p", sampling.top_p, 1),
        *_at_least("sampling.top_k", sampling.top_k, 0),
        *_between("sampling.min_p", sampling.min_p, 0, 1),
        *_above_zero("sampling.repetition_penalty", sampling.repetition_penalty, 10),
        *_between("sampling.presence_penalty", sampling.presence_penalty, -2, 2),
        *_between("sampling.frequency_penalty", sampling.frequency_penalty, -2, 2),
        *_logit_bias(sampling, vocab_size),
    ]


def _request_id(request_id: str | None, limits: Limits) -> Iterator[Violation]:
    bound = limits.max_request_id_chars
    if request_id is not None and not 1 <= len(request_id) <= bound:
        yield Violation("request_id", f"has {len(request_id)} characters; must have 1 to {bound}")


def _input(value: Input | None, model: str, vocab_size: int, has_vision: bool) -> Iterator[Violation]:
    if value is None:
        yield Violation("prompt", "one of prompt, chat, token_ids must be set")
    elif isinstance(value, Chat):
        yield from chat_violations(value, model, has_vision=has_vision)
    elif not value:
        yield Violation(input_field(value), "is empty")
    elif not isinstance(value, str):
        yield from token_id_violations("token_ids.ids", value, vocab_size)


def _images(request: Request, model: str, limits: Limits, has_vision: bool) -> Iterator[Violation]:
    sent = len(request.images)
    if sent and isinstance(request.input, Chat):
        yield Violation("images", f"{sent} sent beside a chat, whose images are parts of its messages")
    elif has_vision and len(request.all_images) > limits.max_images:
        count = len(request.all_images)
        yield Violation("chat.messages", f"{count} images; at most {limits.max_images}")
    else:
        for image in request.images:
            yield from _image(image, model, has_vision)


def _image(image: Image, model: str, has_vision: bool) -> Iterator[Violation]:
    if not has_vision:
        yield Violation(image.field, f"model {model!r} takes no images")
    elif image.data is None and image.sha256 is None:
        yield Violation(image.field, "one of data, sha256 must be set")
    elif image.sha256 is not None and len(image.sha256) != _SHA256_BYTES:
        yield Violation(f"{image.field}.sha256", f"has {len(image.sha256)} bytes; must have {_SHA256_BYTES}")


def _logit_bias(sampling: SamplingFields, vocab_size: int) -> Iterator[Violation]:
    for token, bias in sampling.logit_bias.items():
        field = f"sampling.logit_bias[{token}]"
        if not 0 <= token < vocab_size:
            yield Violation(field, f"the key is not a token id below the vocabulary size {vocab_size}")
        yield from _between(field, bias, -100, 100)


def _stop(stop: Stop, limits: Limits, vocab_size: int) -> Iterator[Violation]:
    yield from _at_least("stop.max_tokens", stop.max_tokens, 1)
    yield from _at_least("stop.min_tokens", stop.min_tokens, 0)
    if stop.max_tokens is not None and stop.min_tokens > stop.max_tokens >= 1:
        yield Violation("stop.min_tokens", f"{stop.min_tokens} is above stop.max_tokens {stop.max_tokens}")
    yield from _stop_strings(stop.strings, limits)
    yield from token_id_violations("stop.token_ids", stop.token_ids, vocab_size)


def _stop_strings(strings: Sequence[str], limits: Limits) -> Iterator[Violation]:
    for i, string in enumerate(strings):
        if not 1 <= len(string) <= limits.max_stop_string_chars:
            bound = f"must have 1 to {limits.max_stop_string_chars}"
            yield Violation(f"stop.strings[{i}]", f"has {len(string)} characters; {bound}")


def _output(output: Output, limits: Limits) -> Iterator[Violation]:
    yield from _between("output.logprobs", output.logprobs, 0, limits.max_logprobs)
    yield from _between("output.prompt_logprobs", output.prompt_logprobs, 0, limits.max_logprobs)


def _first_token_timeout(timeout_s: float | None) -> Iterator[Violation]:
    low, high = _MIN_FIRST_TOKEN_TIMEOUT_S, _MAX_FIRST_TOKEN_TIMEOUT_S
    if timeout_s is not None and not low <= timeout_s <= high:
        yield Violation("first_token_timeout", f"{timeout_s:g} s is not in [{low:g} s, {high:g} s]")


def _between(field: str, value: float | None, low: float, high: float) -> Iterator[Violation]:
    """Not a number is never in between."""
    if value is not None and not low <= value <= high:
        yield Violation(field, f"{_number(value)} is not in [{low}, {high}]")


def _above_zero(field: str, value: float | None, high: float) -> Iterator[Violation]:
    if value is not None and not 0 < value <= high:
        yield Violation(field, f"{_number(value)} is not in (0, {high}]")


def _at_least(field: str, value: int | None, low: int) -> Iterator[Violation]:
    if value is not None and value < low:
        yield Violation(field, f"{value} is below {low}")


def _number(value: float) -> str:
    return f"{value:g}" if math.isfinite(value) else str(value)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
