"""Protobuf of the public contract to plain requests."""

import hashlib
from typing import Any

from google.protobuf.message import Message

from tandem.v1 import common_pb2, inference_pb2
from tokenizer_service.request import (
    Chat,
    ChatMessage,
    Image,
    Input,
    Origin,
    Output,
    Request,
    Resume,
    SamplingFields,
    Stop,
)
from tokenizer_service.struct_conversion import StructReader

_UNSERVED = ("response_format", "adapter")
_UNKNOWN = Origin()
_SCALAR_SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
)


def from_request(message: inference_pb2.GenerateRequest, origin: Origin = _UNKNOWN) -> Request:
    """A request as it was sent; nothing is checked but what has no plain value.

    Args:
        message: What `check_counts` has let pass.
        origin: Where it comes from.

    Raises:
        InvalidRequestError: The chat's tools or template variables have a number that is not finite, or
            too many values.
    """
    return Request(
        request_id=_optional(message, "request_id"),
        model=_optional(message, "model"),
        input=from_input(message),
        images=tuple(_image(each, f"images[{i}]") for i, each in enumerate(message.images)),
        # Few requests have all of these, and to ask an empty one for its fields costs as much as a full one.
        sampling=_sampling(message.sampling) if message.HasField("sampling") else SamplingFields(),
        stop=_stop(message.stop) if message.HasField("stop") else Stop(),
        output=_output(message.output) if message.HasField("output") else Output(),
        n=message.n if message.HasField("n") else 1,
        priority=message.priority,
        first_token_timeout_s=_first_token_timeout_s(message),
        origin=origin,
        resume=_resume(message.resume) if message.HasField("resume") else Resume(),
        body_sha256=_body_sha256(message) if message.request_id else b"",
        unserved=tuple(name for name in _UNSERVED if message.HasField(name)),
    )


def from_input(message: inference_pb2.GenerateRequest | inference_pb2.TokenizeRequest) -> Input | None:
    """The input that is set, or None.

    Raises:
        InvalidRequestError: The chat's tools or template variables have a number that is not finite, or
            too many values.
    """
    kind = message.WhichOneof("input")
    if kind == "prompt":
        return message.prompt
    if kind == "chat":
        return _chat(message.chat)
    if kind == "token_ids" and isinstance(message, inference_pb2.GenerateRequest):
        # The slice is taken at once; to iterate over the field costs a call for each id.
        return tuple(message.token_ids.ids[:])
    return None


def _first_token_timeout_s(message: inference_pb2.GenerateRequest) -> float | None:
    if not message.HasField("first_token_timeout"):
        return None
    return message.first_token_timeout.seconds + message.first_token_timeout.nanos / 1e9


def _body_sha256(message: inference_pb2.GenerateRequest) -> bytes:
    body = inference_pb2.GenerateRequest()
    body.CopyFrom(message)
    body.ClearField("resume")
    return hashlib.sha256(body.SerializeToString(deterministic=True)).digest()


def _optional(message: Message, name: str) -> Any:
    return getattr(message, name) if message.HasField(name) else None


def _chat(chat: inference_pb2.Chat) -> Chat:
    tools = StructReader("chat.tools")
    return Chat(
        messages=tuple(_chat_message(each, f"chat.messages[{i}]") for i, each in enumerate(chat.messages)),
        add_generation_prompt=_optional(chat, "add_generation_prompt"),
        continue_final_message=_optional(chat, "continue_final_message"),
        tools=tuple(tools.read(each, f"[{i}]") for i, each in enumerate(chat.tools)),
        template_variables=StructReader("chat.template_variables").read(chat.template_variables),
    )


def _chat_message(message: inference_pb2.ChatMessage, field: str) -> ChatMessage:
    parts = (
        _image(part.image, f"{field}.content[{i}].image") if part.HasField("image") else part.text
        for i, part in enumerate(message.content)
    )
    return ChatMessage(role=message.role, parts=tuple(parts))


def _image(image: common_pb2.Image, field: str) -> Image:
    return Image(field, data=_optional(image, "data"), sha256=_optional(image, "sha256"))


def _sampling(sampling: common_pb2.Sampling) -> SamplingFields:
    scalars = {name: _optional(sampling, name) for name in _SCALAR_SAMPLING}
    return SamplingFields(**scalars, logit_bias=dict(sampling.logit_bias))


def _stop(stop: inference_pb2.Stop) -> Stop:
    return Stop(
        max_tokens=_optional(stop, "max_tokens"),
        min_tokens=stop.min_tokens,
        strings=tuple(stop.strings),
        token_ids=tuple(stop.token_ids),
        ignore_eos=stop.ignore_eos,
        include_stop=stop.include_stop,
    )


def _resume(resume: inference_pb2.Resume) -> Resume:
    return Resume(resume.after_tokens, resume.linger.ToNanoseconds() / 1e9)


def _output(output: inference_pb2.Output) -> Output:
    return Output(
        logprobs=_optional(output, "logprobs"),
        prompt_logprobs=_optional(output, "prompt_logprobs"),
        token_ids=output.token_ids,
        echo=output.echo,
        special_tokens=output.special_tokens,
    )
