"""Messages changed at random, and the codes with which a service may refuse them."""

import math
import random
import struct
from uuid import uuid4

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from tests.server.support.service_client import INSTRUMENTS

DOUBLES = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1e-308, 5e-324, 1e308, -1e308, 1e-9, 1e9, 1e15,
           float("nan"), float("inf"), float("-inf"))  # fmt: skip
INTEGERS = (0, 1, 2, 3, 4, 5, 7, 99, -1, -(2**31), 2**31 - 1)
WIDE = (*INTEGERS, 2**53, 2**62, -(2**63), 2**63 - 1)
TEXTS = (
    "",
    "I0",
    "I1",
    "x",
    "a b",
    "é",
    "\x00",
    "%s",
    "'; --",
    "y" * 300,
    "A",
    "USD",
    str(uuid4()),
)
EXPECTED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.ALREADY_EXISTS,
}


def any_value(rng: random.Random, field: FieldDescriptor) -> object:
    """A value of the field's type, from the edges of what it can hold."""
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rng.choice(TEXTS).encode()
    kinds = {
        FieldDescriptor.CPPTYPE_DOUBLE: DOUBLES,
        FieldDescriptor.CPPTYPE_INT32: INTEGERS,
        FieldDescriptor.CPPTYPE_INT64: WIDE,
        FieldDescriptor.CPPTYPE_ENUM: INTEGERS,
        FieldDescriptor.CPPTYPE_BOOL: (True, False),
        FieldDescriptor.CPPTYPE_STRING: TEXTS,
    }
    return rng.choice(kinds[field.cpp_type])


def mutate(rng: random.Random, message: Message) -> None:
    """Changes one field, somewhere in the message."""
    if not message.DESCRIPTOR.fields:
        return  # a request that says nothing
    field = rng.choice(message.DESCRIPTOR.fields)
    if field.message_type is not None:
        child = getattr(message, field.name)
        if not field.is_repeated:
            child.SetInParent()
            mutate(rng, child)
        elif len(child) and rng.random() < 0.7:
            mutate(rng, rng.choice(child))
        else:
            mutate(rng, child.add())
        return
    if not field.is_repeated:
        if rng.random() < 0.2:
            message.ClearField(field.name)
        else:
            setattr(message, field.name, any_value(rng, field))
        return
    column = getattr(message, field.name)
    match rng.randrange(4):
        case 0 if len(column):
            column[rng.randrange(len(column))] = any_value(rng, field)
        case 1 if len(column):
            del column[rng.randrange(len(column))]
        case 2:
            column.append(any_value(rng, field))
        case _:
            size = rng.choice((0, 1, len(INSTRUMENTS[:4])))
            message.ClearField(field.name)
            getattr(message, field.name).extend(any_value(rng, field) for _ in range(size))


def scrambled(rng: random.Random, message: Message) -> Message:
    """The message with bytes changed on the wire, if it still is one."""
    data = bytearray(message.SerializeToString())
    for _ in range(rng.randrange(1, 4)):
        if not data:
            break
        place = rng.randrange(len(data))
        data[place : place + 1] = struct.pack("B", rng.randrange(256)) * rng.randrange(3)
    try:
        return type(message).FromString(bytes(data))
    except DecodeError:
        return message


INFINITE = {
    **dict.fromkeys(("expected_growth", "marginal_growth", "growth"), -math.inf),
    **dict.fromkeys(("growth_volatility", "doubling_periods"), math.inf),
}
"""What the contract says of numbers where an outcome takes all wealth, or wealth doesn't grow."""


def infinite(message: Message) -> list[str]:
    """Paths of numbers in an answer that are none."""
    found = []
    for field, value in message.ListFields():
        if field.message_type is not None:
            parts = value if field.is_repeated else [value]
            found += [f"{field.name}.{path}" for part in parts for path in infinite(part)]
        elif field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
            column = value if field.is_repeated else [value]
            may = INFINITE.get(field.name, 0.0)
            found += [
                field.name for number in column if not (math.isfinite(number) or number == may)
            ]
    return found
