"""google.protobuf.Struct to plain values, as chat templates read them."""

import math
from typing import Any

from google.protobuf.struct_pb2 import Struct, Value

from tandem_service.errors import Violation, invalid

# The steps to a value. They are joined only for an error: a long name would be copied for each value below.
_Path = tuple[str, ...]


def plain(struct: Struct, field: str) -> dict[str, Any]:
    """The values of a struct. Whole numbers become integers: templates print 3 and 3.0 differently.

    Args:
        struct: It knows floats only.
        field: Its path in the request.

    Raises:
        InvalidRequestError: A number is NaN or infinite, which JSON, and so a template, cannot say.
    """
    return _struct(struct, (field,))


def _struct(struct: Struct, path: _Path) -> dict[str, Any]:
    return {name: _value(value, (*path, f".{name}")) for name, value in struct.fields.items()}


def _value(value: Value, path: _Path) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return _struct(value.struct_value, path)
    if kind == "list_value":
        return [_value(each, (*path, f"[{i}]")) for i, each in enumerate(value.list_value.values)]
    if kind == "number_value":
        return _number(value.number_value, path)
    return None if kind is None or kind == "null_value" else getattr(value, kind)


def _number(number: float, path: _Path) -> float:
    if not math.isfinite(number):
        raise invalid(Violation("".join(path), f"{number} is not a finite number"))
    return int(number) if number.is_integer() else number
