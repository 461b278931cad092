"""Why the bytes of a request could not be parsed: the field whose text is not UTF-8."""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.message import DecodeError, Message

from tandem_service.errors import InvalidRequestError, Violation, invalid

MessageType = TypeVar("MessageType", bound=Message)


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
    path, value = _find_invalid_text(raw, descriptor, "") or ("", b"")
    return Violation(path, f"is not valid UTF-8: {value[:32]!r}")


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


def _find_invalid_text(raw: Message, declared: Descriptor, prefix: str) -> tuple[str, bytes] | None:
    """Path and value of the first string field of `declared` whose bytes in `raw` are not UTF-8."""
    for twin, value in raw.ListFields():
        field = declared.fields_by_name[twin.name]
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        values = [value] if not field.is_repeated or is_map else list(value)
        for index, each in enumerate(values):
            path = f"{prefix}{field.name}" + (f"[{index}]" if field.is_repeated else "")
            if field.type == FieldDescriptor.TYPE_STRING:
                if not _is_utf8(each):
                    return path, each
            elif field.type == FieldDescriptor.TYPE_MESSAGE and not is_map:
                assert field.message_type is not None
                found = _find_invalid_text(each, field.message_type, path + ".")
                if found:
                    return found
    return None


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
