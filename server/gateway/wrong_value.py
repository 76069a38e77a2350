"""Where a JSON body is no message: a value of another type, or fields that exclude each other.

protobuf's parser says what it could not read, and not always where. So what it refuses is read
again in parts: field by field, and of a list the half that is refused, until one value is left.
"""

import json
from dataclasses import dataclass
from typing import Any, cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_OF_PROTOBUF = "google.protobuf."
_TEXT_MAX = 60

_NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32: "a whole number from -2147483648 to 2147483647",
    FieldDescriptor.CPPTYPE_INT64: "a whole number, or one in quotes",
    FieldDescriptor.CPPTYPE_UINT32: "a whole number from 0 to 4294967295",
    FieldDescriptor.CPPTYPE_UINT64: "a whole number from 0, or one in quotes",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number that a double can hold",
    FieldDescriptor.CPPTYPE_FLOAT: "a number that a float can hold",
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
}
_MESSAGES = {
    "google.protobuf.Timestamp": 'a time such as "2026-11-29T21:00:00Z"',
    "google.protobuf.Duration": 'seconds such as "3.5s"',
}


@dataclass(frozen=True)
class WrongValue:
    """path: of the field, as the contract names it. text: what is right instead."""

    path: str
    reason: str
    text: str


def wrong_value(body: Any, message: Message) -> WrongValue | None:
    """The first value in `body` that can't be one of its field; None where none is found."""
    return _in_message(body, cast("Descriptor", message.DESCRIPTOR), "")


def _in_message(body: Any, descriptor: Descriptor, path: str) -> WrongValue | None:
    if not isinstance(body, dict):
        return None
    for name, value in body.items():
        field = descriptor.fields_by_camelcase_name.get(name) or descriptor.fields_by_name.get(name)
        if field is None or _is_read({name: value}, descriptor):
            continue
        where = f"{path}.{field.name}" if path else field.name
        if not field.is_repeated:
            return _in_value(value, field, where)
        if not isinstance(value, list):
            return WrongValue(where, "BAD_FORMAT", f"is {_shown(value)}; it must be a list")
        place = _first_wrong(name, value, descriptor)
        return _in_value(value[place], field, f"{where}[{place}]")
    return _given_beside(body, descriptor, path)


def _given_beside(body: dict[str, Any], descriptor: Descriptor, path: str) -> WrongValue | None:
    """Fields of which only one may be given, where more of them are."""
    for choice in descriptor.oneofs:
        given = [
            field.name
            for field in choice.fields
            if any(body.get(name) is not None for name in (field.name, field.camelcase_name))
        ]
        if len(given) > 1:
            where = f"{path}.{given[1]}" if path else given[1]
            return WrongValue(where, "AMBIGUOUS", f"is given beside {given[0]}: give one of them")
    return None


def _in_value(value: Any, field: FieldDescriptor, path: str) -> WrongValue:
    own = field.message_type
    if own is not None and not own.full_name.startswith(_OF_PROTOBUF):
        text = f"is {_shown(value)}; it must be an object"
        return _in_message(value, own, path) or WrongValue(path, "BAD_FORMAT", text)
    if field.enum_type is not None:
        # The first of every enumeration stands for not said.
        names = ", ".join(known.name for known in field.enum_type.values[1:])
        text = f"is {_shown(value)}; it must be one of {names}"
        return WrongValue(path, "UNKNOWN_VALUE", text)
    right = _MESSAGES.get(own.full_name) if own is not None else _NUMBERS.get(field.cpp_type)
    if right is None:
        right = "bytes in base64" if field.type == FieldDescriptor.TYPE_BYTES else "text in quotes"
    return WrongValue(path, "BAD_FORMAT", f"is {_shown(value)}; it must be {right}")


def _first_wrong(name: str, values: list[Any], descriptor: Descriptor) -> int:
    """Place of the first entry that is not read; all of them together are not."""
    first, end = 0, len(values)
    while end - first > 1:
        middle = (first + end) // 2
        if _is_read({name: values[first:middle]}, descriptor):
            first = middle
        else:
            end = middle
    return first


def _is_read(body: dict[str, Any], descriptor: Descriptor) -> bool:
    try:
        json_format.ParseDict(body, GetMessageClass(descriptor)())
    except (json_format.ParseError, RecursionError):
        return False
    return True


def _shown(value: Any) -> str:
    if value in (float("inf"), -float("inf")):
        return "beyond what a double can hold"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]}..."
