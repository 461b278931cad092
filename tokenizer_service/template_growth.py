"""How much single operations of a template may make of little: what they would, before they do."""

import re
from collections.abc import Mapping, Sequence
from types import GeneratorType
from typing import Any

from jinja2.runtime import Macro
from jinja2.utils import Namespace

from tokenizer_service.template_budget import MAX_INT_BITS, Budget, BudgetError

UNSAFE_ATTRIBUTES = frozenset({"encode", "expandtabs", "to_bytes", "translate"})
"""Methods that make much of little and are of no use in a prompt."""
UNSAFE_FILTERS = ("pprint", "striptags", "urlize", "wordwrap")
"""Filters that take long for little, likewise."""

_NUMBER = re.compile(r"\d+")
_NESTED_FIELD = re.compile(r"\{[^{}]*\{")
_LONG_NUMBER_DIGITS = 9


def check_operation(budget: Budget, operator: str, left: Any, right: Any) -> None:
    """Raises BudgetError if a binary operation would make too much."""
    if operator == "%" and isinstance(left, str):
        budget.expect(_format_size(budget, left, right if isinstance(right, tuple) else (right,)))
    elif operator == "**" and isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * max(right, 0))
    elif operator == "*" and isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    elif operator == "*":
        for sequence, times in ((left, right), (right, left)):
            if isinstance(sequence, str | list | tuple) and isinstance(times, int):
                budget.expect(len(sequence) * times)


def check_call(budget: Budget, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raises BudgetError if a call would make too much."""
    if not isinstance(function, Macro):
        _refuse_namespaces([*args, *kwargs.values()])
    # The sandbox wraps `format`.
    method = getattr(function, "__wrapped__", function)
    text, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
    if not isinstance(text, str):
        return
    if name in ("center", "ljust", "rjust", "zfill") and args:
        budget.expect(_number(args[0]))
    elif name == "replace" and len(args) > 1:
        budget.expect(_replaced_size(text, args[0], args[1]))
    elif name == "join" and args:
        budget.expect(_joined_size(budget, args[0], text))
    elif name in ("format", "format_map"):
        budget.expect(_format_size(budget, text, (args, kwargs)))


def check_filter(
    budget: Budget, name: str, value: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """Raises BudgetError if a filter would make too much of `value`."""
    settings = [*args, *kwargs.values()]
    _refuse_namespaces([value, *settings])
    width = max((_number(each) for each in settings), default=0)
    if name in ("batch", "center", "slice"):
        budget.expect(width)
    elif name == "indent":
        budget.expect((str(value).count("\n") + 1) * width)
    elif name == "tojson":
        budget.expect(budget.text_size(value) * (1 + width * _depth(value)))
    elif name == "sum" and any(isinstance(each, list | tuple) for each in settings):
        raise BudgetError("it adds up lists, which takes the square of their number")
    elif name == "replace" and len(args) > 1:
        budget.expect(_replaced_size(str(value), args[0], args[1]))
    elif name == "join":
        budget.expect(_joined_size(budget, value, args[0] if args else kwargs.get("d", "")))
    elif name == "format":
        budget.expect(_format_size(budget, str(value), settings))


def listed(args: Sequence[Any]) -> tuple[Any, ...]:
    """Arguments of a join, whose parts are counted before they are joined."""
    return tuple(list(each) if isinstance(each, GeneratorType) else each for each in args)


def _check_bits(num_bits: int) -> None:
    if num_bits > MAX_INT_BITS:
        raise BudgetError(f"it makes a number of more than {MAX_INT_BITS} bits")


def _refuse_namespaces(values: Sequence[Any]) -> None:
    if any(isinstance(each, Namespace) for each in values):
        raise BudgetError("it gives a namespace to a function or a filter")


def _number(value: Any) -> int:
    """A setting as a width: a number, or a text that is repeated."""
    return len(value) if isinstance(value, str) else value if isinstance(value, int) else 0


def _replaced_size(text: str, old: Any, new: Any) -> int:
    return len(text) + text.count(str(old)) * len(str(new))


def _joined_size(budget: Budget, parts: Any, separator: Any) -> int:
    num_parts = len(parts) if isinstance(parts, str | Mapping | Sequence) else 0
    return budget.text_size(parts) + num_parts * budget.text_size(separator)


def _format_size(budget: Budget, text: str, values: Any) -> int:
    """The most that a format makes: each field as wide as the largest number in it, and all values."""
    numbers = _NUMBER.findall(text)
    if any(len(each) > _LONG_NUMBER_DIGITS for each in numbers):
        raise BudgetError("it formats with a width of many digits")
    width = max((int(each) for each in numbers), default=0)
    if "*" in text or _NESTED_FIELD.search(text):
        width = max(width, *(abs(each) for each in _flat(values) if isinstance(each, int)), 0)
    num_fields = text.count("%") + text.count("{")
    return len(text) + num_fields * (width + budget.text_size(values))


def _flat(values: Any) -> list[Any]:
    if isinstance(values, Mapping):
        return [each for value in values.values() for each in _flat(value)]
    if isinstance(values, list | tuple):
        return [each for value in values for each in _flat(value)]
    return [values]


def _depth(value: Any) -> int:
    """How deep lists and dictionaries stand in each other."""
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return 1 + max((_depth(each) for each in parts), default=0)
