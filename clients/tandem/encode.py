"""From a request to the messages that carry it."""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message as Proto

from tandem.request import Image, Message, MessageLike, Request, ResponseFormat
from tandem.v1 import common_pb2, inference_pb2

_TOP = ("request_id", "model", "adapter", "n", "priority")
_SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
)
_STOP = ("max_tokens", "min_tokens", "ignore_eos", "include_stop")
_OUTPUT = ("logprobs", "prompt_logprobs", "echo", "special_tokens")


def generate_request(request: Request) -> inference_pb2.GenerateRequest:
    """The message for one request.

    Raises:
        ValueError, TypeError: A value does not fit its field's type; the error names the field.
    """
    message = inference_pb2.GenerateRequest()
    _set_input(message, request)
    _set_all(message, request, _TOP)
    _set_images(message, request.images)
    _set_sampling(message, request)
    _set_stop(message, request)
    _set_output(message, request)
    if request.response_format is not None:
        message.response_format.CopyFrom(_response_format(request.response_format))
    if request.first_token_timeout is not None:
        _set_duration(message.first_token_timeout, "first_token_timeout", request.first_token_timeout)
    if request.linger is not None:
        _set_duration(message.resume.linger, "linger", request.linger)
    return message


def metadata(request: Request) -> tuple[tuple[str, str], ...]:
    """What goes beside the message."""
    return () if request.traceparent is None else (("traceparent", request.traceparent),)


def many_request(request: Request) -> inference_pb2.GenerateManyRequest:
    """The command that starts a request on a GenerateMany stream."""
    return inference_pb2.GenerateManyRequest(generate=generate_request(request))


def tokenize_request(
    text: str | None,
    messages: Sequence[MessageLike] | None,
    model: str | None,
    add_special_tokens: bool | None,
    template: Mapping[str, Any],
) -> inference_pb2.TokenizeRequest:
    """The message for `tokenize`.

    Raises:
        ValueError: Both or neither of text and messages are given.
    """
    if (text is None) == (messages is None):
        raise ValueError("tokenize needs exactly one of text and messages")
    message = inference_pb2.TokenizeRequest()
    _set_given(message, model=model, add_special_tokens=add_special_tokens)
    if text is not None:
        _assign(message, "prompt", "text", text)
    else:
        message.chat.CopyFrom(_chat(Request(messages=messages, **template)))
    return message


def detokenize_request(
    token_ids: Sequence[int], model: str | None, special_tokens: bool | None
) -> inference_pb2.DetokenizeRequest:
    """The message for `detokenize`."""
    message = inference_pb2.DetokenizeRequest()
    _set_given(message, model=model, token_ids=token_ids, special_tokens=special_tokens)
    return message


def _set_input(message: inference_pb2.GenerateRequest, request: Request) -> None:
    if request.prompt is not None:
        _assign(message, "prompt", "prompt", request.prompt)
    elif request.messages is not None:
        message.chat.CopyFrom(_chat(request))
    else:
        message.token_ids.SetInParent()
        _assign(message.token_ids, "ids", "token_ids", request.token_ids)


def _set_sampling(message: inference_pb2.GenerateRequest, request: Request) -> None:
    _set_all(message.sampling, request, _SAMPLING)
    if request.logit_bias:
        _assign(message.sampling, "logit_bias", "logit_bias", request.logit_bias)


def _set_stop(message: inference_pb2.GenerateRequest, request: Request) -> None:
    _set_all(message.stop, request, _STOP)
    if request.stop:
        strings = [request.stop] if isinstance(request.stop, str) else request.stop
        _assign(message.stop, "strings", "stop", strings)
    if request.stop_token_ids:
        _assign(message.stop, "token_ids", "stop_token_ids", request.stop_token_ids)


def _set_output(message: inference_pb2.GenerateRequest, request: Request) -> None:
    _set_all(message.output, request, _OUTPUT)
    if request.return_token_ids is not None:
        _assign(message.output, "token_ids", "return_token_ids", request.return_token_ids)


def _set_duration(duration: Duration, name: str, seconds: float) -> None:
    try:
        duration.FromNanoseconds(round(seconds * 1e9))
    except (TypeError, ValueError, OverflowError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}={seconds!r}: is no number of seconds ({error})") from None


def _set_all(message: Proto, request: Request, names: Sequence[str]) -> None:
    _set_given(message, **{name: getattr(request, name) for name in names})


def _set_given(message: Proto, **values: Any) -> None:
    for name, value in values.items():
        if value is not None:
            _assign(message, name, name, value)


def _assign(message: Proto, field: str, argument: str, value: Any) -> None:
    """Sets a field; protobuf's own errors do not say which one was wrong."""
    try:
        if isinstance(value, Mapping):
            getattr(message, field).update(value)
        elif isinstance(value, (str, bytes, int, float)):
            setattr(message, field, value)
        else:
            getattr(message, field).extend(value)
    except (TypeError, ValueError, AttributeError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{argument}={value!r}: does not fit the field's type ({error})") from None


def _chat(request: Request) -> inference_pb2.Chat:
    assert request.messages is not None
    chat = inference_pb2.Chat(messages=[_message(each) for each in request.messages])
    _set_all(chat, request, ("add_generation_prompt", "continue_final_message"))
    for tool in request.tools:
        chat.tools.add().update(dict(tool))
    if request.template_variables is not None:
        chat.template_variables.update(dict(request.template_variables))
    return chat


def _message(message: MessageLike) -> inference_pb2.ChatMessage:
    if isinstance(message, Mapping):
        if set(message) != {"role", "content"}:
            raise ValueError(f"messages: a message has the keys role and content, not {sorted(message)}")
        message = Message(message["role"], message["content"])
    if not isinstance(message, Message):
        raise TypeError(
            f"messages: {reprlib.repr(message)} is neither a mapping of role and content nor a tandem.Message"
        )
    if not isinstance(message.content, Sequence):
        raise TypeError(f"messages: content={reprlib.repr(message.content)} is neither text nor a list")
    parts = [message.content] if isinstance(message.content, str) else message.content
    return inference_pb2.ChatMessage(role=message.role, content=[_part(part) for part in parts])


def _part(part: str | Image) -> inference_pb2.ContentPart:
    if isinstance(part, Image):
        return inference_pb2.ContentPart(image=_image(part))
    if isinstance(part, str):
        return inference_pb2.ContentPart(text=part)
    raise TypeError(f"messages: a part of a message's content is text or an Image, not {reprlib.repr(part)}")


def _set_images(message: inference_pb2.GenerateRequest, images: Sequence[Image]) -> None:
    if not isinstance(images, Sequence) or not all(isinstance(each, Image) for each in images):
        raise TypeError(f"images={reprlib.repr(images)}: is no list of Images; tandem.image() makes them")
    message.images.extend(_image(each) for each in images)


def _image(image: Image) -> common_pb2.Image:
    return common_pb2.Image(data=image.data, sha256=image.sha256)


def _response_format(response_format: ResponseFormat) -> common_pb2.ResponseFormat:
    choice = None
    if response_format.choice is not None:
        choice = common_pb2.Choice(options=response_format.choice)
    return common_pb2.ResponseFormat(
        json_schema=response_format.json_schema,
        regex=response_format.regex,
        grammar=response_format.grammar,
        choice=choice,
    )
