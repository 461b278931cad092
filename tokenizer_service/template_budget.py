"""What one rendering of a chat template may use: time, and characters that it makes."""

import contextlib
import contextvars
import time
from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import TemplateRuntimeError
from jinja2.utils import Namespace

MAX_CHARS = 32 * 1024 * 1024
"""Characters, and places of lists, that one rendering may make. What it drops counts too, so at up to 4 bytes
a character (8 a place) this bounds the memory."""
MAX_INT_BITS = 4096
"""Larger numbers are of no use in a prompt, and take long to compute and to write."""

_budget: contextvars.ContextVar["Budget | None"] = contextvars.ContextVar("template_budget", default=None)


class BudgetError(TemplateRuntimeError):
    """The template uses more than it may."""


class Budget:
    """What is left for one rendering. Every method raises BudgetError where that is not enough."""

    def __init__(self, timeout_s: float) -> None:
        """Time runs from now."""
        self._timeout_s = timeout_s
        self._end_s = time.monotonic() + timeout_s
        self._chars_left = MAX_CHARS

    def check_time(self) -> None:
        """To be called at every turn of a loop and at every call."""
        if time.monotonic() > self._end_s:
            raise BudgetError(f"it takes longer than template_timeout_s={self._timeout_s:g}")

    def expect(self, num_chars: int) -> None:
        """Something of about this size is going to be made in one step."""
        if num_chars > self._chars_left:
            raise _too_much()

    def take(self, num_chars: int) -> None:
        """Something of this size was made."""
        self.expect(num_chars)
        self._chars_left -= num_chars

    def take_value(self, value: Any) -> None:
        """Something was made. Of a list or a dictionary its own places count, and its text must not be
        too long, however often it has the same parts.
        """
        if isinstance(value, str):
            self.take(len(value))
        elif isinstance(value, list | tuple | dict):
            self.take(len(value))
            self.text_size(value)
        elif isinstance(value, int) and value.bit_length() > MAX_INT_BITS:
            raise BudgetError(f"it makes a number of more than {MAX_INT_BITS} bits")

    def text_size(self, value: Any) -> int:
        """About how many characters the text of a value has."""
        size, pending = 0, [value]
        while pending:
            self.check_time()
            each = pending.pop()
            if isinstance(each, Namespace):
                # It may hold itself, and no prompt has use for its text.
                raise BudgetError("it makes a text or a list of a namespace")
            if isinstance(each, Mapping):
                pending += each.keys()
                pending += each.values()
            elif isinstance(each, list | tuple):
                pending += each
            size += len(each) if isinstance(each, str) else 1
            if size > MAX_CHARS:
                raise _too_much()
        return size


@contextlib.contextmanager
def limited(timeout_s: float) -> Iterator[None]:
    """Bounds the templates that this thread renders inside the context."""
    token = _budget.set(Budget(timeout_s))
    try:
        yield
    finally:
        _budget.reset(token)


def current_budget() -> Budget | None:
    """That of this thread's rendering; None outside of `limited`."""
    return _budget.get()


def _too_much() -> BudgetError:
    return BudgetError(f"it makes more than {MAX_CHARS} characters")
