"""What repeats in a request, at its bound and one above."""

from types import SimpleNamespace

import pytest

from tandem.v1 import inference_pb2
from tandem_service.errors import InvalidRequestError
from tokenizer_service.config import TokenizerServiceConfig, limits_of
from tokenizer_service.request_conversion import from_request
from tokenizer_service.request_counts import check_counts

MODEL = SimpleNamespace(
    name="small",
    limits=limits_of(TokenizerServiceConfig(max_images=3)),
    info=SimpleNamespace(context_length=10),
    has_vision=True,
)
TOO_MANY = {
    "messages": (
        4096,
        lambda n: {"chat": {"messages": [{}] * n}},
        "chat.messages: {} messages; at most 4096",
    ),
    "parts": (
        8192,
        lambda n: {"chat": {"messages": [{"content": [{}] * (n - 5)}, {"content": [{}] * 5}]}},
        "chat.messages: {} parts; at most 8192",
    ),
    "tools": (256, lambda n: {"chat": {"tools": [{}] * n}}, "chat.tools: {} tools; at most 256"),
    "token-ids": (
        9,
        lambda n: {"token_ids": {"ids": [1] * n}},
        "token_ids: has {} tokens; at most 9 fit the context length 10 with 1 token of answer",
    ),
    "images": (3, lambda n: {"images": [{}] * n}, "images: {} images; at most 3"),
    "biases": (
        300,
        lambda n: {"sampling": {"logit_bias": dict.fromkeys(range(n), 1.0)}},
        "sampling.logit_bias: {} entries; at most 300",
    ),
    "stop-strings": (64, lambda n: {"stop": {"strings": ["x"] * n}}, "stop.strings: {} strings; at most 64"),
    "stop-ids": (64, lambda n: {"stop": {"token_ids": [1] * n}}, "stop.token_ids: {} ids; at most 64"),
}


@pytest.mark.parametrize(("bound", "fields", "said"), TOO_MANY.values(), ids=TOO_MANY)
def test_the_bound_is_allowed_and_one_more_is_named_with_it(bound, fields, said):
    check_counts(inference_pb2.GenerateRequest(**fields(bound)), MODEL)
    with pytest.raises(InvalidRequestError) as caught:
        check_counts(inference_pb2.GenerateRequest(**fields(bound + 1)), MODEL)
    assert caught.value.message == said.format(bound + 1)


def test_all_that_is_too_much_is_named_at_once():
    message = inference_pb2.GenerateRequest(
        chat={"messages": [{}] * 5000, "tools": [{}] * 300}, stop={"token_ids": [1] * 65}
    )
    with pytest.raises(InvalidRequestError) as caught:
        check_counts(message, MODEL)
    assert [each.field for each in caught.value.violations] == [
        "chat.messages",
        "chat.tools",
        "stop.token_ids",
    ]


def test_a_chat_to_tokenize_has_the_same_bounds():
    with pytest.raises(InvalidRequestError, match=r"chat\.tools: 257 tools; at most 256"):
        check_counts(inference_pb2.TokenizeRequest(chat={"tools": [{}] * 257}), MODEL)


@pytest.mark.parametrize("field", ["tools", "template_variables"])
def test_the_values_of_a_chats_structs_are_counted_as_they_are_made(field):
    def message(num_values):
        values = {"list": [None] * (num_values - 1)}
        return inference_pb2.GenerateRequest(chat={field: [values] if field == "tools" else values})

    from_request(message(32_768))
    with pytest.raises(InvalidRequestError, match=f"chat.{field}: more than 32768 values"):
        from_request(message(32_769))
