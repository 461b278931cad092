"""Why the bytes of a request could not be parsed: the field whose text is not UTF-8."""

import itertools
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.message import DecodeError, Message

from tandem_service.errors import InvalidRequestError, Violation, invalid

MessageType = TypeVar("MessageType", bound=Message)

# Texts and messages that are searched, within hundredths of a second, while all other calls wait.
_MAX_LOOKED_AT = 20_000


def parser(message_type: type[MessageType]) -> Callable[[bytes], MessageType | InvalidRequestError]:
    """A deserializer that returns what is wrong with a message that cannot be parsed.

    gRPC would end such a call with INTERNAL and no word about the reason.
    """

    def parse(data: bytes) -> MessageType | InvalidRequestError:
        try:
            return message_type.FromString(data)
        except DecodeError:
            return invalid(_violation(message_type, data))

    return parse


def _violation(message_type: type[Message], data: bytes) -> Violation:
    descriptor: Any = message_type.DESCRIPTOR  # the stubs know two classes, which are one at run time
    try:
        raw = _bytes_twin(descriptor.file, descriptor.full_name).FromString(data)
    except DecodeError:
        return Violation("", f"{len(data)} bytes are not a {descriptor.full_name} message")
    for path, value in itertools.islice(_texts(raw, descriptor, ""), _MAX_LOOKED_AT):
        if not _is_utf8(value):
            return Violation(path, f"is not valid UTF-8: {value[:32]!r}")
    return Violation("", "a text is not valid UTF-8")


@cache
def _bytes_twin(file: FileDescriptor, full_name: str) -> type[Message]:
    """The message type `full_name` with every string field declared as bytes."""
    pool = descriptor_pool.DescriptorPool()
    _add_file(pool, file, set())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(full_name))


def _add_file(pool: descriptor_pool.DescriptorPool, file: FileDescriptor, done: set[str]) -> None:
    if file.name in done:
        return
    done.add(file.name)
    for dependency in file.dependencies:
        _add_file(pool, dependency, done)
    proto = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(proto)
    for message in proto.message_type:
        _strings_to_bytes(message)
    pool.Add(proto)


def _strings_to_bytes(message: descriptor_pb2.DescriptorProto) -> None:
    for field in message.field:
        if field.type == descriptor_pb2.FieldDescriptorProto.TYPE_STRING and not message.options.map_entry:
            field.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
    for nested in message.nested_type:
        _strings_to_bytes(nested)


def _texts(raw: Message, declared: Descriptor, prefix: str) -> Iterator[tuple[str, bytes]]:
    """Path and bytes in `raw` of each string field of `declared`; messages below come too, without bytes."""
    for twin, value in raw.ListFields():
        field = declared.fields_by_name[twin.name]
        is_text = field.type == FieldDescriptor.TYPE_STRING
        below = field.message_type
        if not is_text and (below is None or below.GetOptions().map_entry):
            continue
        for index, each in enumerate(value if field.is_repeated else [value]):
            path = f"{prefix}{field.name}" + (f"[{index}]" if field.is_repeated else "")
            yield path, each if is_text else b""
            if below is not None:
                yield from _texts(each, below, path + ".")


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
