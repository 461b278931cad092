"""Errors to statuses and back, and what is said of bytes that are no message."""

import pytest
from hypothesis import given, strategies as st

from tandem.v1 import inference_pb2
from tandem_service import errors
from tandem_service.status import STATUS_CODES, from_status, to_status
from tandem_service.wire import parser


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


def test_a_whole_message_is_parsed():
    assert parser(inference_pb2.GenerateRequest)(_request()).model == "@model"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error_and_never_an_exception(data):
    found = parser(inference_pb2.GenerateRequest)(data)
    assert isinstance(found, inference_pb2.GenerateRequest | errors.InvalidRequestError)
