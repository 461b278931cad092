"""Wrong messages of any protobuf type: valid ones changed at some fields, or in their bytes."""

from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import Message
from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]

MAX_DEPTH = 6
MAX_CHANGES = 4
MAX_EDITS = 6
# Words that mean something somewhere: placeholders, special tokens, template syntax, halves of characters.
WORDS = [
    "<image>",
    "</s>",
    "<|user|>",
    "{{ 7*7 }}",
    "{% for x in y %}",
    "東京",
    "e\u0301",
    "\u200d",
    "\0",
    " fox",
]

_INTEGERS = {
    Field.TYPE_INT32: (-(2**31), 2**31 - 1),
    Field.TYPE_SINT32: (-(2**31), 2**31 - 1),
    Field.TYPE_INT64: (-(2**63), 2**63 - 1),
    Field.TYPE_UINT32: (0, 2**32 - 1),
    Field.TYPE_UINT64: (0, 2**64 - 1),
    # Enumerations are open: any number may come.
    Field.TYPE_ENUM: (-(2**31), 2**31 - 1),
}


def mutated(seeds: Sequence[Message]) -> st.SearchStrategy[bytes]:
    """Serialized messages, each a seed with a few changes, of which some are in its bytes."""
    return st.sampled_from(seeds).flatmap(_changed) | st.sampled_from(seeds).flatmap(_edited)


@st.composite
def _changed(draw: Draw, seed: Message) -> bytes:
    message = type(seed)()
    message.CopyFrom(seed)
    for _ in range(draw(st.integers(0, MAX_CHANGES))):
        _change(draw, message, MAX_DEPTH)
    return message.SerializeToString()


def _change(draw: Draw, message: Any, depth: int) -> None:
    """Changes one field, of the message itself or of one below it."""
    fields = list(message.DESCRIPTOR.fields)
    if not fields:
        return
    field = draw(st.sampled_from(fields))
    kind = draw(st.sampled_from(("below", "below", "set", "clear")))
    if kind == "clear":
        message.ClearField(field.name)
    elif field.message_type and field.message_type.GetOptions().map_entry:
        _change_map(draw, getattr(message, field.name), field)
    elif field.is_repeated:
        _change_list(draw, getattr(message, field.name), field, depth)
    elif field.type != Field.TYPE_MESSAGE:
        setattr(message, field.name, draw(_value(field)))
    elif depth:
        below = getattr(message, field.name)
        below.SetInParent()
        _change(draw, below, depth - 1)


def _change_map(draw: Draw, entries: Any, field: Any) -> None:
    key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
    for _ in range(draw(st.sampled_from((1, 2, 301)))):
        if value.type == Field.TYPE_MESSAGE:
            _change(draw, entries[draw(_value(key))], 1)
        else:
            entries[draw(_value(key))] = draw(_value(value))


def _change_list(draw: Draw, items: Any, field: Any, depth: int) -> None:
    count = draw(st.sampled_from((1, 1, 2, 5, 70)))
    if field.type == Field.TYPE_MESSAGE:
        if items and draw(st.booleans()):
            _change(draw, draw(st.sampled_from(list(items))), depth - 1)
        elif depth:
            added = items.add()
            _change(draw, added, depth - 1)
            items.extend([added] * (count - 1))
    else:
        items.extend([draw(_value(field))] * count * draw(st.sampled_from((1, 1, 40))))


def _value(field: Any) -> st.SearchStrategy[Any]:
    if field.type in _INTEGERS:
        low, high = _INTEGERS[field.type]
        near = [each for each in (low, -1, 0, 1, 2, 400, high) if low <= each <= high]
        return st.sampled_from(near) | st.integers(low, high)
    if field.type == Field.TYPE_BOOL:
        return st.booleans()
    if field.type in (Field.TYPE_FLOAT, Field.TYPE_DOUBLE):
        return st.sampled_from((0.0, 1.0, -1.0, 0.5)) | st.floats(width=32)
    if field.type == Field.TYPE_BYTES:
        return st.binary(max_size=64) | st.binary(min_size=32, max_size=32)
    assert field.type == Field.TYPE_STRING, field.full_name
    text = st.text(max_size=20) | st.sampled_from(WORDS)
    return st.tuples(text, st.sampled_from((1, 1, 1, 30))).map(lambda pair: pair[0] * pair[1])


@st.composite
def _edited(draw: Draw, seed: Message) -> bytes:
    """The seed's bytes with some flipped, cut, repeated or put in."""
    data = bytearray(seed.SerializeToString())
    for _ in range(draw(st.integers(1, MAX_EDITS))):
        place = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 32))
        kind = draw(st.sampled_from(("flip", "cut", "repeat", "insert")))
        if kind == "insert":
            data[place:place] = draw(st.binary(max_size=32))
        elif kind == "repeat":
            data[place:place] = data[place : place + length] * draw(st.sampled_from((1, 2, 50)))
        elif kind == "cut":
            del data[place : place + length]
        elif place < len(data):
            data[place] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)
