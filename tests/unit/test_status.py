"""Errors to statuses and back, and what is said of bytes that are no message."""

import base64
import string
from urllib.parse import quote

import pytest
from hypothesis import given, strategies as st

from tandem.v1 import inference_pb2
from tandem_service import errors
from tandem_service.status import STATUS_CODES, from_status, to_status
from tandem_service.wire import parser

# gRPC's percent-encoding leaves these alone.
PRINTABLE = " " + string.punctuation.replace("%", "")
# Clients take 8 KiB; the keys, the other trailers and what proxies add need some of it.
METADATA_BYTES = 6200


@pytest.mark.parametrize("error_type", STATUS_CODES, ids=lambda each: each.__name__)
def test_an_error_survives_the_wire(error_type):
    violations = (errors.Violation("stop.max_tokens", "-1 is less than 1"), errors.Violation("n", "0"))
    info = errors.ErrorInfo("REASON", {"request_id": "mine"})
    error = error_type("what happened", violations=violations, retry_delay_s=1.5, info=info)
    found = from_status(to_status(error))
    assert type(found) is error_type
    assert (found.message, found.violations, found.retry_delay_s) == ("what happened", violations, 1.5)
    assert found.info == info


def test_every_error_has_a_status():
    defined = {each for each in vars(errors).values() if isinstance(each, type)}
    service_errors = {each for each in defined if issubclass(each, errors.ServiceError)}
    assert service_errors - {errors.ServiceError} == set(STATUS_CODES)


def test_invalid_says_all_violations():
    error = errors.invalid(errors.Violation("a", "is bad"), errors.Violation("b.c", "is worse"))
    assert error.message == "a: is bad; b.c: is worse"


def _metadata_bytes(error):
    """What grpc-message and the details take, encoded as gRPC does."""
    details = base64.b64encode(to_status(error).SerializeToString())
    return len(quote(error.message, safe=PRINTABLE)) + len(details)


def test_of_many_violations_the_first_that_fit_are_said_and_the_others_counted():
    sent = [errors.Violation(f"chat.messages[{i}].role", "is empty") for i in range(4096)]
    error = errors.invalid(*sent)
    num_said = len(error.violations)
    assert error.violations == tuple(sent[:num_said])
    assert error.message.startswith("chat.messages[0].role: is empty; chat.messages[1].role: is empty; ")
    assert error.message.endswith(f"[{num_said - 1}].role: is empty; and {4096 - num_said} more")
    one_more = errors.invalid(*sent[: num_said + 1])
    assert one_more.message.endswith("; and 1 more")
    assert 5000 < _metadata_bytes(error) < METADATA_BYTES


@pytest.mark.parametrize("letter", ["x", "%", "\n", "ä", "\N{GRINNING FACE}", "\ud800"])
def test_a_violation_with_long_texts_is_cut_and_said(letter):
    error = errors.invalid(errors.Violation("a." + letter * 10_000, "b " + letter * 10_000))
    (violation,) = error.violations
    assert violation.field.startswith("a.")
    assert violation.description.startswith("b ")
    assert violation.field.endswith("...")
    assert violation.description.endswith("...")
    assert error.message == f"{violation.field}: {violation.description}"
    assert _metadata_bytes(error) < METADATA_BYTES


# At most 200 and 700 bytes, which are not cut.
TEXTS = st.builds(errors.Violation, st.text(max_size=50), st.text(max_size=175))


@given(st.lists(TEXTS, min_size=1))
def test_any_violations_fit_and_the_first_is_among_them(sent):
    error = errors.invalid(*sent)
    assert error.violations[0] == sent[0]
    assert _metadata_bytes(error) < METADATA_BYTES


@pytest.mark.parametrize("make", [errors.unsupported, errors.not_found], ids=lambda each: each.__name__)
def test_other_errors_with_a_field_fit_too(make):
    assert _metadata_bytes(make("field", "ä" * 10_000)) < METADATA_BYTES


def _request():
    request = inference_pb2.GenerateRequest(model="@model", request_id="@id")
    request.chat.messages.add(role="user").content.add(text="fine")
    request.chat.messages.add(role="@role").content.add(text="@text")
    request.chat.tools.add().update({"name": "@tool"})
    request.stop.strings.extend(["fine", "@stop"])
    request.sampling.logit_bias[5] = 1.0
    return request.SerializeToString()


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (b"@model", "model"),
        (b"@id", "request_id"),
        (b"@role", "chat.messages[1].role"),
        (b"@text", "chat.messages[1].content[0].text"),
        (b"@stop", "stop.strings[1]"),
    ],
)
def test_text_that_is_no_utf8_is_found_by_its_path(text, field):
    found = parser(inference_pb2.GenerateRequest)(_request().replace(text, b"\xff" + text[1:]))
    assert isinstance(found, errors.InvalidRequestError)
    assert found.violations[0].field == field
    assert "UTF-8" in found.violations[0].description


@pytest.mark.parametrize(
    ("num_messages", "field"), [(19_998, "adapter"), (19_999, "")], ids=["at-bound", "one-above"]
)
def test_of_more_texts_than_are_searched_the_field_is_not_named(num_messages, field):
    # The chat itself is looked at, too.
    request = inference_pb2.GenerateRequest(chat={"messages": [{}] * num_messages}, adapter="@adapter")
    data = request.SerializeToString().replace(b"@adapter", b"\xffadapter")
    found = parser(inference_pb2.GenerateRequest)(data)
    assert isinstance(found, errors.InvalidRequestError)
    assert found.violations[0].field == field
    assert "UTF-8" in found.violations[0].description


def test_numbers_are_not_searched_for_texts():
    request = inference_pb2.GenerateRequest(token_ids={"ids": [1] * 100_000}, adapter="@adapter")
    data = request.SerializeToString().replace(b"@adapter", b"\xffadapter")
    found = parser(inference_pb2.GenerateRequest)(data)
    assert isinstance(found, errors.InvalidRequestError)
    assert found.violations[0].field == "adapter"


def test_a_whole_message_is_parsed():
    assert parser(inference_pb2.GenerateRequest)(_request()).model == "@model"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error_and_never_an_exception(data):
    found = parser(inference_pb2.GenerateRequest)(data)
    assert isinstance(found, inference_pb2.GenerateRequest | errors.InvalidRequestError)
