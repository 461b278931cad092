"""Logging of a service process: one record a line, to standard error, as text or as JSON.

What clients chose, such as a request's id, cannot forge a line: whatever does not print is escaped.
"""

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")

_PLAIN = re.compile(r"[\w.:/@+-]+", re.ASCII)


def set_up_logging(level: str = "info", format: str = "text") -> None:
    """Sends records of this level and above to standard error.

    Args:
        level: One of `LEVELS`.
        format: One of `FORMATS`.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def fields(**values: object) -> Mapping[str, Any]:
    """The `extra` of a log call that adds these fields to the record; None stands for what is not known."""
    return {"fields": values}


class TextFormatter(logging.Formatter):
    """Time, level, logger, message and `key=value` fields; the lines of a traceback are indented."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """See logging.Formatter."""
        words = [_escaped(super().formatMessage(record))]
        words += [f"{key}={_value(value)}" for key, value in _fields(record).items() if value is not None]
        return " ".join(words)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """See logging.Formatter."""
        return "\n".join("  " + _escaped(line) for line in super().formatException(ei).split("\n"))


class JsonFormatter(logging.Formatter):
    """One object a line: time (UTC), level, logger, message, the fields, and a traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        values: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            values["exception"] = self.formatException(record.exc_info)
        return json.dumps(values, default=str)


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(record, "fields", {})
    return found


def _value(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
