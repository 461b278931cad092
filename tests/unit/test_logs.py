"""What a log line looks like, and that nobody's text can make one."""

import json
import logging

import pytest

from tandem_service.logs import JsonFormatter, TextFormatter, fields

FORGED = "a\n2026-01-01 00:00:00,000 INFO tandem: forged\r\x1b[2Jb\u2028c"


def _record(message, *arguments, exc_info=None, **values):
    record = logging.LogRecord("tandem", logging.INFO, "file", 1, message, arguments, exc_info)
    record.__dict__.update(fields(**values))
    return record


def test_text_has_the_fields_behind_the_message_and_leaves_out_what_is_not_known():
    line = TextFormatter().format(_record("request %s", "ended", tokens=3, ttft_ms=1.5, client=None))
    assert line.endswith(" INFO tandem: request ended tokens=3 ttft_ms=1.5")


def test_json_has_the_fields_beside_the_message():
    line = JsonFormatter().format(_record("request %s", "ended", tokens=3, client=None))
    values = json.loads(line)
    assert values.pop("time").endswith("+00:00")
    assert values == {
        "level": "INFO",
        "logger": "tandem",
        "message": "request ended",
        "tokens": 3,
        "client": None,
    }


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
@pytest.mark.parametrize("place", ["message", "field"])
def test_a_newline_in_an_id_does_not_begin_a_line(formatter, place):
    record = _record("id %s", FORGED) if place == "message" else _record("id", request_id=FORGED)
    line = formatter.format(record)
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    if isinstance(formatter, JsonFormatter):
        values = json.loads(line)
        assert FORGED in (values["message"].removeprefix("id "), values.get("request_id"))


def test_a_field_cannot_forge_another():
    line = TextFormatter().format(_record("ended", request_id='x outcome=OK y="1"', outcome="CANCELLED"))
    assert line.endswith(r'request_id="x outcome=OK y=\"1\"" outcome=CANCELLED')


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_a_traceback_cannot_forge_a_line_either(formatter):
    try:
        raise ValueError(FORGED)
    except ValueError as error:
        text = formatter.format(_record("failed", exc_info=(type(error), error, error.__traceback__)))
    lines = text.splitlines()
    assert "ValueError: a" in text
    assert [line for line in lines if line.startswith("2026-01-01")] == []
    assert all(line.startswith("  ") for line in lines[1:])
