"""google.protobuf.Struct to plain values, as chat templates read them."""

import math
from typing import Any

from google.protobuf.struct_pb2 import Struct, Value

from tandem_service.errors import Violation, invalid

# The steps to a value. They are joined only for an error: a long name would be copied for each value below.
_Path = tuple[str, ...]
# Made on the event loop within a tenth of a second; 256 tools may have 128 values each.
_MAX_VALUES = 32_768


class StructReader:
    """Makes plain values of the structs of one field, which may have 32,768 values together.

    Whole numbers become integers, since a struct knows floats only and templates print 3 and 3.0 differently.
    """

    def __init__(self, field: str) -> None:
        """`field` is the structs' path in the request."""
        self._field = field
        self._num_values = 0

    def read(self, struct: Struct, step: str = "") -> dict[str, Any]:
        """The values of a struct; `step` leads to it from the field, for example `[2]`.

        Raises:
            InvalidRequestError: A number is NaN or infinite, which JSON, and so a template, cannot say; or
                the structs have too many values.
        """
        return self._struct(struct, (self._field + step,))

    def _struct(self, struct: Struct, path: _Path) -> dict[str, Any]:
        return {name: self._value(value, (*path, f".{name}")) for name, value in struct.fields.items()}

    def _value(self, value: Value, path: _Path) -> Any:
        self._count()
        kind = value.WhichOneof("kind")
        if kind == "struct_value":
            return self._struct(value.struct_value, path)
        if kind == "list_value":
            return [self._value(each, (*path, f"[{i}]")) for i, each in enumerate(value.list_value.values)]
        if kind == "number_value":
            return _number(value.number_value, path)
        return None if kind is None or kind == "null_value" else getattr(value, kind)

    def _count(self) -> None:
        self._num_values += 1
        if self._num_values > _MAX_VALUES:
            raise invalid(Violation(self._field, f"more than {_MAX_VALUES} values; at most {_MAX_VALUES}"))


def _number(number: float, path: _Path) -> float:
    if not math.isfinite(number):
        raise invalid(Violation("".join(path), f"{number} is not a finite number"))
    return int(number) if number.is_integer() else number
