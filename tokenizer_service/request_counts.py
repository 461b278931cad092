"""How many of each thing a request may carry, counted before anything is made of its message.

Two bytes of a message can become hundreds in Python, made on the event loop while all others wait.
"""

from collections.abc import Iterator

from tandem.v1 import inference_pb2
from tandem_service.errors import Violation, invalid
from tokenizer_service.model import Model
from tokenizer_service.validation import length_violations

# Far above what people send, and made into plain values within a few hundredths of a second. A chat of
# so many messages, with two parts each, hardly fits a context of 32k tokens; models are shown tens of
# tools, and choose badly among hundreds.
_MAX_MESSAGES = 4096
_MAX_PARTS = 8192
_MAX_TOOLS = 256


def check_counts(
    message: inference_pb2.GenerateRequest | inference_pb2.TokenizeRequest, model: Model
) -> None:
    """Counts everything that repeats in a request.

    Raises:
        InvalidRequestError: There is too much of something; all of that is named.
        UnavailableError: No engine has ever been there.
    """
    violations = list(_chat(message.chat)) if message.HasField("chat") else []
    if isinstance(message, inference_pb2.GenerateRequest):
        violations += _beside_the_chat(message, model)
    if violations:
        raise invalid(*violations)


def _chat(chat: inference_pb2.Chat) -> Iterator[Violation]:
    num_messages = len(chat.messages)
    if num_messages > _MAX_MESSAGES:
        yield Violation("chat.messages", f"{num_messages} messages; at most {_MAX_MESSAGES}")
    else:
        yield from _at_most("chat.messages", sum(len(m.content) for m in chat.messages), _MAX_PARTS, "parts")
    yield from _at_most("chat.tools", len(chat.tools), _MAX_TOOLS, "tools")


def _beside_the_chat(message: inference_pb2.GenerateRequest, model: Model) -> Iterator[Violation]:
    limits, stop = model.limits, message.stop
    yield from length_violations("token_ids", len(message.token_ids.ids), model.info.context_length)
    yield from _images(len(message.images), model)
    yield from _at_most(
        "sampling.logit_bias", len(message.sampling.logit_bias), limits.max_logit_bias, "entries"
    )
    yield from _at_most("stop.strings", len(stop.strings), limits.max_stop_strings, "strings")
    yield from _at_most("stop.token_ids", len(stop.token_ids), limits.max_stop_token_ids, "ids")


def _images(sent: int, model: Model) -> Iterator[Violation]:
    if sent and not model.has_vision:
        yield Violation("images", f"{sent} sent; model {model.name!r} takes no images")
    else:
        yield from _at_most("images", sent, model.limits.max_images, "images")


def _at_most(field: str, count: int, bound: int, things: str) -> Iterator[Violation]:
    if count > bound:
        yield Violation(field, f"{count} {things}; at most {bound}")
