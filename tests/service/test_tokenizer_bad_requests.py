"""Bad input to the tokenizer service: each case with its status and the field it names."""

import asyncio

import grpc
import pytest

from support.scripted_engine import CONTEXT_LENGTH
from support.small_tokenizers import byte_level, write_model_dir
from support.tokenizer_fixture import VOCAB_SIZE, encode, failure_of_call, failure_of_error, serving
from tandem.v1 import inference_pb2

INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNSERVED = grpc.StatusCode.UNIMPLEMENTED
NAN = float("nan")
INFINITY = float("inf")
WORD = "dog"


def chat(*messages, **fields):
    return {"messages": [{"role": role, "content": parts} for role, *parts in messages], **fields}


def ids(count):
    return {"ids": encode(WORD)[:1] * count}


CASES = {
    "no-input": ({}, INVALID, "prompt", "must be set"),
    "empty-prompt": ({"prompt": ""}, INVALID, "prompt", "is empty"),
    "no-token-ids": ({"token_ids": {}}, INVALID, "token_ids", "is empty"),
    "too-long-by-one": (
        {"token_ids": ids(CONTEXT_LENGTH)},
        INVALID,
        "token_ids",
        f"at most {CONTEXT_LENGTH - 1}",
    ),
    "too-long-text": ({"prompt": WORD * 20_000}, INVALID, "prompt", f"at most {CONTEXT_LENGTH - 1}"),
    "max-tokens-over-by-one": (
        {"token_ids": ids(6), "stop": {"max_tokens": CONTEXT_LENGTH - 5}},
        INVALID,
        "stop.max_tokens",
        f"at most {CONTEXT_LENGTH - 6}",
    ),
    "max-tokens-negative": ({"stop": {"max_tokens": -1}}, INVALID, "stop.max_tokens", "-1 is below 1"),
    "max-tokens-zero": ({"stop": {"max_tokens": 0}}, INVALID, "stop.max_tokens", "0 is below 1"),
    "min-above-max": (
        {"stop": {"max_tokens": 2, "min_tokens": 3}},
        INVALID,
        "stop.min_tokens",
        "3 is above stop.max_tokens 2",
    ),
    "top-p-zero": ({"sampling": {"top_p": 0}}, INVALID, "sampling.top_p", "0 is not in (0, 1]"),
    "top-p-above": ({"sampling": {"top_p": 1.5}}, INVALID, "sampling.top_p", "1.5 is not in (0, 1]"),
    "temperature-nan": ({"sampling": {"temperature": NAN}}, INVALID, "sampling.temperature", "nan"),
    "temperature-negative": ({"sampling": {"temperature": -1}}, INVALID, "sampling.temperature", "[0, 100]"),
    "top-k-negative": ({"sampling": {"top_k": -1}}, INVALID, "sampling.top_k", "-1 is below 0"),
    "min-p-above": ({"sampling": {"min_p": 1.5}}, INVALID, "sampling.min_p", "[0, 1]"),
    "repetition-zero": (
        {"sampling": {"repetition_penalty": 0}},
        INVALID,
        "sampling.repetition_penalty",
        "(0, 10]",
    ),
    "presence-above": (
        {"sampling": {"presence_penalty": 3}},
        INVALID,
        "sampling.presence_penalty",
        "[-2, 2]",
    ),
    "bias-beyond-vocabulary": (
        {"sampling": {"logit_bias": {VOCAB_SIZE: 1.0}}},
        INVALID,
        f"sampling.logit_bias[{VOCAB_SIZE}]",
        f"vocabulary size {VOCAB_SIZE}",
    ),
    "bias-above": (
        {"sampling": {"logit_bias": {1: 101.0}}},
        INVALID,
        "sampling.logit_bias[1]",
        "[-100, 100]",
    ),
    "too-many-biases": (
        {"sampling": {"logit_bias": dict.fromkeys(range(301), 1.0)}},
        INVALID,
        "sampling.logit_bias",
        "at most 300",
    ),
    "unknown-model": (
        {"model": "large"},
        INVALID,
        "model",
        "'large' is not served; the only model is 'small'",
    ),
    "10001-stop-strings": (
        {"stop": {"strings": ["x"] * 10_001}},
        INVALID,
        "stop.strings",
        "10001 strings; at most 64",
    ),
    "empty-stop-string": ({"stop": {"strings": ["x", ""]}}, INVALID, "stop.strings[1]", "0 characters"),
    "long-stop-string": ({"stop": {"strings": ["x" * 257]}}, INVALID, "stop.strings[0]", "1 to 256"),
    "stop-id-beyond-vocabulary": (
        {"stop": {"token_ids": [1, VOCAB_SIZE]}},
        INVALID,
        "stop.token_ids[1]",
        f"vocabulary size {VOCAB_SIZE}",
    ),
    "too-many-stop-ids": ({"stop": {"token_ids": [1] * 65}}, INVALID, "stop.token_ids", "at most 64"),
    "token-beyond-vocabulary": (
        {"token_ids": {"ids": [1, VOCAB_SIZE]}},
        INVALID,
        "token_ids.ids[1]",
        f"vocabulary size {VOCAB_SIZE}",
    ),
    "no-answers": ({"n": 0}, INVALID, "n", "[1, 64]"),
    "too-many-answers": ({"n": 65}, INVALID, "n", "[1, 64]"),
    "logprobs-above": ({"output": {"logprobs": 21}}, INVALID, "output.logprobs", "[0, 20]"),
    "prompt-logprobs-negative": (
        {"output": {"prompt_logprobs": -1}},
        INVALID,
        "output.prompt_logprobs",
        "[0, 20]",
    ),
    "priority-above": ({"priority": 101}, INVALID, "priority", "[-100, 100]"),
    "long-request-id": ({"request_id": "x" * 257}, INVALID, "request_id", "1 to 256"),
    "empty-request-id": ({"request_id": ""}, INVALID, "request_id", "1 to 256"),
    "image-for-a-text-model": ({"images": [{"data": b"PNG"}]}, INVALID, "images", "takes no images"),
    "image-in-a-message": (
        {"chat": chat(("user", {"text": "see"}, {"image": {"data": b"PNG"}}))},
        INVALID,
        "chat.messages[0].content[1].image",
        "takes no images",
    ),
    "no-messages": ({"chat": {}}, INVALID, "chat.messages", "at least 1"),
    "no-role": ({"chat": chat(("", {"text": "hi"}))}, INVALID, "chat.messages[0].role", "is empty"),
    "refused-by-the-template": ({"chat": chat(("tool", {"text": "hi"}))}, INVALID, "chat", "no tools here"),
    "reserved-variable": (
        {"chat": chat(("user", {"text": "hi"}), template_variables={"chat_template": "x"})},
        INVALID,
        "chat.template_variables.chat_template",
        "reserved",
    ),
    "nan-in-a-variable": (
        {"chat": chat(("user", {"text": "hi"}), template_variables={"x": NAN})},
        INVALID,
        "chat.template_variables.x",
        "nan is not a finite number",
    ),
    "infinity-deep-in-a-tool": (
        {"chat": chat(("user", {"text": "hi"}), tools=[{}, {"a": {"b": [1, {"c": -INFINITY}]}}])},
        INVALID,
        "chat.tools[1].a.b[1].c",
        "-inf is not a finite number",
    ),
    "too-many-messages": (
        {"chat": {"messages": [{}] * 4097}},
        INVALID,
        "chat.messages",
        "4097 messages; at most 4096",
    ),
    "too-many-parts": (
        {"chat": chat(*[("user", *[{}] * 4097)] * 2)},
        INVALID,
        "chat.messages",
        "8194 parts; at most 8192",
    ),
    "too-many-tools": (
        {"chat": chat(("user", {"text": "hi"}), tools=[{}] * 257)},
        INVALID,
        "chat.tools",
        "257 tools; at most 256",
    ),
    "too-many-values-in-tools": (
        {"chat": chat(("user", {"text": "hi"}), tools=[{"a": [None] * 16_384}] * 2)},
        INVALID,
        "chat.tools",
        "at most 32768",
    ),
    "too-many-variables": (
        {"chat": chat(("user", {"text": "hi"}), template_variables={f"x{i}": i for i in range(32_769)})},
        INVALID,
        "chat.template_variables",
        "at most 32768",
    ),
    "adapter": ({"adapter": "mine"}, UNSERVED, "adapter", "does not serve"),
    "response-format": ({"response_format": {"regex": "a"}}, UNSERVED, "response_format", "does not serve"),
    "first-token-timeout-zero": (
        {"first_token_timeout": {}},
        INVALID,
        "first_token_timeout",
        "0 s is not in [0.001 s, 86400 s]",
    ),
    "first-token-timeout-negative": (
        {"first_token_timeout": {"seconds": -1, "nanos": -500_000_000}},
        INVALID,
        "first_token_timeout",
        "-1.5 s is not in",
    ),
    "first-token-timeout-below-a-millisecond": (
        {"first_token_timeout": {"nanos": 999_999}},
        INVALID,
        "first_token_timeout",
        "0.000999999 s is not in",
    ),
    "first-token-timeout-absurd": (
        {"first_token_timeout": {"seconds": 2**63 - 1}},
        INVALID,
        "first_token_timeout",
        "9.22337e+18 s is not in",
    ),
    "resume-nameless": ({"resume": {"after_tokens": 1}}, INVALID, "request_id", "resume needs one"),
    "linger-negative": (
        {"request_id": "a", "resume": {"linger": {"seconds": -1}}},
        INVALID,
        "resume.linger",
        "-1 is not in",
    ),
    "linger-too-long": (
        {"request_id": "a", "resume": {"linger": {"seconds": 301}}},
        INVALID,
        "resume.linger",
        "[0, 300.0]",
    ),
}
TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'tool' %}{{ raise_exception('no tools here') }}"
    "{% endif %}{{ message.content }}{% endfor %}"
)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return write_model_dir(tmp_path_factory.mktemp("small"), byte_level(), TEMPLATE)


async def never(link, submit):
    raise AssertionError("a bad request must not reach the engine")


@pytest.mark.parametrize(("fields", "code", "field", "said"), CASES.values(), ids=CASES)
def test_a_bad_field_is_named_with_its_bound(model_dir, fields, code, field, said):
    if not {"chat", "token_ids", "prompt"} & set(fields) and said != "must be set":
        fields = {"prompt": WORD, **fields}

    async def main():
        async with serving(model_dir, never) as found:
            return await failure_of_call(found.stub.Generate(inference_pb2.GenerateRequest(**fields)))

    found_code, error = asyncio.run(main())
    assert found_code == code
    assert [each.field for each in error.violations] == [field]
    assert said in error.violations[0].description
    assert said in error.message


def test_all_bad_fields_are_named_at_once(model_dir):
    request = inference_pb2.GenerateRequest(
        prompt=WORD, model="large", n=0, sampling={"top_p": 2}, stop={"max_tokens": -1}
    )

    async def main():
        async with serving(model_dir, never) as found:
            return await failure_of_call(found.stub.Generate(request))

    _, error = asyncio.run(main())
    assert [each.field for each in error.violations] == ["model", "sampling.top_p", "stop.max_tokens", "n"]


@pytest.mark.parametrize(
    ("fields", "first"),
    [
        ({"chat": chat(*[("",)] * 4096)}, "chat.messages[0].role"),
        ({"prompt": WORD, "stop": {"strings": ["x" * 257] * 64}, "n": 0}, "stop.strings[0]"),
    ],
    ids=["4096-roles", "64-stop-strings-and-one-more"],
)
def test_of_many_bad_fields_the_first_are_named_and_all_are_counted(model_dir, fields, first):
    async def main():
        async with serving(model_dir, never) as found:
            call = found.stub.Generate(inference_pb2.GenerateRequest(**fields))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            return caught.value

    error = asyncio.run(main())
    code, named = failure_of_error(error)
    num_fields = len(fields["chat"]["messages"]) if "chat" in fields else 65
    assert (code, named.violations[0].field) == (INVALID, first)
    assert error.details() == named.message
    assert named.message.endswith(f"; and {num_fields - len(named.violations)} more")


def test_text_that_is_not_utf8_is_named(model_dir):
    data = inference_pb2.GenerateRequest(prompt="????").SerializeToString().replace(b"????", b"a\xff\xfeb")

    async def main():
        async with serving(model_dir, never) as found:
            call = found.channel.unary_stream("/tandem.v1.Inference/Generate")(data)
            return await failure_of_call(call)

    code, error = asyncio.run(main())
    assert code == INVALID
    assert [each.field for each in error.violations] == ["prompt"]


def test_a_message_over_the_size_limit_is_refused_with_both_sizes(model_dir):
    async def main():
        async with serving(model_dir, never, max_request_bytes=10_000) as found:
            request = inference_pb2.GenerateRequest(prompt="x" * 10_000)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await found.stub.Generate(request).read()
            return caught.value

    error = asyncio.run(main())
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "10000" in error.details()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "prompt"),
        ({"prompt": "a", "model": "large"}, "model"),
        ({"chat": {}}, "chat.messages"),
        ({"chat": {"template_variables": {"x": NAN}}}, "chat.template_variables.x"),
        ({"chat": {"messages": [{}] * 4097}}, "chat.messages"),
    ],
    ids=["no-input", "unknown-model", "no-messages", "nan-in-a-variable", "too-many-messages"],
)
def test_tokenize_names_bad_fields(model_dir, fields, field):
    async def main():
        async with serving(model_dir, never) as found:
            return await failure_of_call(found.stub.Tokenize(inference_pb2.TokenizeRequest(**fields)))

    code, error = asyncio.run(main())
    assert (code, [each.field for each in error.violations]) == (INVALID, [field])


def test_detokenize_names_ids_beyond_the_vocabulary(model_dir):
    async def main():
        async with serving(model_dir, never) as found:
            request = inference_pb2.DetokenizeRequest(token_ids=[0, VOCAB_SIZE])
            return await failure_of_call(found.stub.Detokenize(request))

    code, error = asyncio.run(main())
    assert (code, error.violations[0].field) == (INVALID, "token_ids[1]")


def test_before_the_first_engine_requests_are_refused_for_now(model_dir):
    async def main():
        async with serving(model_dir, never, with_engine=False) as found:
            return await failure_of_call(found.stub.Generate(inference_pb2.GenerateRequest(prompt=WORD)))

    code, error = asyncio.run(main())
    assert code == grpc.StatusCode.UNAVAILABLE
    assert error.retry_delay_s
