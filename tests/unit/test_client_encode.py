"""From keyword arguments to messages."""

import dataclasses
import typing
from typing import Any

import pytest
from google.protobuf import json_format

import tandem
from tandem import encode
from tandem.request import ChatOptions, MessageLike
from tandem.v1 import common_pb2, inference_pb2


def message_of(**options: Any) -> dict[str, Any]:
    """A request for the prompt "x", as a dictionary of the fields that are present."""
    message = encode.generate_request(tandem.Request(prompt="x", **options))
    fields: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    assert fields.pop("prompt") == "x"
    return fields


def test_nothing_given_is_nothing_sent() -> None:
    assert message_of() == {}


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"request_id": "r", "model": "m", "adapter": "a", "n": 2, "priority": -1}, None),
        ({"temperature": 0.0, "top_p": 0.5, "top_k": 0, "min_p": 0.25, "seed": 0}, "sampling"),
        ({"repetition_penalty": 1.5, "presence_penalty": -2.0, "frequency_penalty": 0.0}, "sampling"),
        ({"max_tokens": 0, "min_tokens": 3, "ignore_eos": False, "include_stop": True}, "stop"),
        ({"logprobs": 0, "prompt_logprobs": 20, "echo": False, "special_tokens": True}, "output"),
    ],
    ids=["top", "sampling", "penalties", "stop", "output"],
)
def test_settings_are_sent_as_they_are(options: dict[str, Any], fields: str | None) -> None:
    expected = {name: str(value) if name == "seed" else value for name, value in options.items()}
    assert message_of(**options) == (expected if fields is None else {fields: expected})


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"stop": "end"}, {"stop": {"strings": ["end"]}}),
        (
            {"stop": ["a", "b"], "stop_token_ids": [1, 2]},
            {"stop": {"strings": ["a", "b"], "token_ids": [1, 2]}},
        ),
        ({"return_token_ids": False}, {"output": {"token_ids": False}}),
        ({"logit_bias": {5: -1.5}}, {"sampling": {"logit_bias": {"5": -1.5}}}),
        ({"first_token_timeout": 1.5}, {"first_token_timeout": "1.500s"}),
        ({"images": [tandem.Image(sha256=b"\0")]}, {"images": [{"sha256": "AA=="}]}),
        (
            {"response_format": tandem.ResponseFormat(choice=["a"])},
            {"response_format": {"choice": {"options": ["a"]}}},
        ),
        ({"response_format": tandem.ResponseFormat(regex="a+")}, {"response_format": {"regex": "a+"}}),
    ],
    ids=lambda value: next(iter(value)),
)
def test_settings_with_another_name_or_shape(options: dict[str, Any], fields: dict[str, Any]) -> None:
    assert message_of(**options) == fields


def test_the_largest_seed() -> None:
    message = encode.generate_request(tandem.Request(prompt="x", seed=2**64 - 1))
    assert message.sampling.seed == 2**64 - 1


def test_empty_inputs_are_inputs() -> None:
    """So that the service can say which field is empty."""
    requests = [tandem.Request(prompt=""), tandem.Request(token_ids=[]), tandem.Request(messages=[])]
    kinds = [encode.generate_request(each).WhichOneof("input") for each in requests]
    assert kinds == ["prompt", "token_ids", "chat"]


def test_a_chat_with_everything() -> None:
    messages: list[MessageLike] = [
        {"role": "user", "content": ["a", tandem.Image(data=b"p")]},
        tandem.Message("assistant", "b"),
    ]
    request = tandem.Request(
        messages=messages,
        add_generation_prompt=False,
        continue_final_message=True,
        tools=[{"name": "f", "parameters": {"x": [1, None]}}],
        template_variables={"enable_thinking": False},
    )
    chat = encode.generate_request(request).chat
    image = inference_pb2.ContentPart(image=common_pb2.Image(data=b"p"))
    text = inference_pb2.ContentPart
    assert list(chat.messages) == [
        inference_pb2.ChatMessage(role="user", content=[text(text="a"), image]),
        inference_pb2.ChatMessage(role="assistant", content=[text(text="b")]),
    ]
    assert (chat.add_generation_prompt, chat.continue_final_message) == (False, True)
    assert json_format.MessageToDict(chat.tools[0]) == {"name": "f", "parameters": {"x": [1.0, None]}}
    assert json_format.MessageToDict(chat.template_variables) == {"enable_thinking": False}


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"seed": 2**64}, ValueError, "seed=18446744073709551616"),
        ({"max_tokens": 2**31}, ValueError, "max_tokens=2147483648"),
        ({"stop_token_ids": [-1]}, ValueError, r"stop_token_ids=\[-1\]"),
        ({"temperature": "hot"}, TypeError, "temperature='hot'"),
        ({"max_tokens": 1.5}, TypeError, r"max_tokens=1.5"),
        ({"logit_bias": {"a": 1.0}}, TypeError, "logit_bias="),
        ({"stop": [1]}, TypeError, r"stop=\[1\]"),
        ({"first_token_timeout": float("nan")}, ValueError, "first_token_timeout=nan"),
        ({"first_token_timeout": float("inf")}, ValueError, "first_token_timeout=inf"),
        ({"first_token_timeout": 1e300}, ValueError, "first_token_timeout=1e\\+300"),
        ({"first_token_timeout": "soon"}, TypeError, "first_token_timeout='soon'"),
        ({"messages": [{"role": "user"}]}, ValueError, "role and content"),
        ({"messages": "What is it?"}, TypeError, "messages: 'W' is neither"),
        ({"messages": {"role": "user", "content": "a"}}, TypeError, "messages: 'role' is neither"),
        ({"messages": [{"role": "assistant", "content": None}]}, TypeError, "messages: content=None"),
        ({"images": [b"a picture"]}, TypeError, r"images=\[b'a picture'\]"),
        ({"images": tandem.Image(sha256=bytes(32))}, TypeError, r"images=Image\("),
        ({"messages": [tandem.Message("user", [b"x"])]}, TypeError, "b'x'"),  # type: ignore[list-item]
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_value_that_does_not_fit_is_named(
    options: dict[str, Any], kind: type[Exception], said: str
) -> None:
    prompt: dict[str, Any] = {} if "messages" in options else {"prompt": "x"}
    with pytest.raises(kind, match=said):
        encode.generate_request(tandem.Request(**prompt, **options))


@pytest.mark.parametrize(
    "inputs",
    [{}, {"prompt": "", "token_ids": []}, {"prompt": "x", "messages": []}],
    ids=["none", "two", "two-again"],
)
def test_a_request_has_exactly_one_input(inputs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="exactly one of prompt, messages and token_ids"):
        tandem.Request(**inputs)


def test_an_image_and_a_format_have_exactly_one_source() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        tandem.Image()
    with pytest.raises(ValueError, match="exactly one"):
        tandem.Image(data=b"a", sha256=b"b")
    with pytest.raises(ValueError, match="exactly one"):
        tandem.ResponseFormat()
    with pytest.raises(ValueError, match="exactly one"):
        tandem.ResponseFormat(regex="a", grammar="b")


def test_keyword_arguments_and_requests_have_the_same_settings() -> None:
    inputs = {"prompt", "messages", "token_ids"}
    fields = {field.name for field in dataclasses.fields(tandem.Request)} - inputs
    assert set(typing.get_type_hints(ChatOptions)) == fields


def test_tokenize_takes_exactly_one_input() -> None:
    for text, messages in ((None, None), ("x", [])):
        with pytest.raises(ValueError, match="exactly one of text and messages"):
            encode.tokenize_request(text, messages, None, None, {})
    message = encode.tokenize_request("", None, "m", False, {})
    assert message == inference_pb2.TokenizeRequest(prompt="", model="m", add_special_tokens=False)
    chat = encode.tokenize_request(None, [tandem.Message("user", "a")], None, None, {"tools": [{"a": 1}]})
    assert len(chat.chat.tools) == 1
