"""Numbers outside the ranges of the contract, and times that are none, found by walking a message.

`compute.ranges` has the table. Signals are not walked: there a wrong number refuses its line, not
the request (`compute.signals.check`). Durations have rules of their own
(`parameters.duration_violations`), and so has what a time may be beside a time (`names`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from compute.ranges import RANGES
from compute.value_range import Range
from server.calls.errors import FieldViolation
from server.convert.columns import floats
from server.convert.names import NO_TIME, known_moment

WRONG_MAX = 10
"""Entries of one column that are told."""

TIME = Timestamp.DESCRIPTOR.full_name
NOT_WALKED = ("google.protobuf.", "positionsizing.v1.SignalBatch")

NUMBERS = {
    FieldDescriptor.CPPTYPE_DOUBLE,
    FieldDescriptor.CPPTYPE_FLOAT,
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
}


def number_violations(message: Message, path: str = "") -> Iterator[FieldViolation]:
    """Numbers and times of `message`, and of all messages in it, that are out of range, by path."""
    if isinstance(message, Timestamp):
        yield from _time_violations(message, path)
        return
    before = f"{path}." if path else ""
    for field in _plan(message.DESCRIPTOR):
        value = getattr(message, field.name)
        where = before + field.name
        if field.range is None:
            if field.is_repeated:
                for place, part in enumerate(value):
                    yield from number_violations(part, f"{where}[{place}]")
            elif message.HasField(field.name):
                yield from number_violations(value, where)
        elif field.is_repeated:
            if len(value):
                yield from column_violations(floats(value), field.range, where)
        elif not field.has_presence or message.HasField(field.name):
            yield from value_violations(value, field.range, where)


def value_violations(value: float, allowed: Range, path: str) -> Iterator[FieldViolation]:
    """One number."""
    if not np.isfinite(value):
        yield FieldViolation(path, "NOT_FINITE", f"is {value}; it must be a finite number")
    elif allowed.wrong(np.array([value])).any():
        text = f"is {value:.12g}; it must be {allowed.advice(value)}"
        yield FieldViolation(path, "OUT_OF_RANGE", text)


def column_violations(values: Any, allowed: Range, path: str) -> Iterator[FieldViolation]:
    """A column of numbers; the first that are wrong."""
    if allowed.holds(values):
        return
    for place in np.flatnonzero(allowed.wrong(values))[:WRONG_MAX]:
        yield from value_violations(float(values[place]), allowed, f"{path}[{place}]")


def _time_violations(value: Timestamp, path: str) -> Iterator[FieldViolation]:
    if known_moment(value) is None:
        yield FieldViolation(path, "OUT_OF_RANGE", NO_TIME)


@dataclass(frozen=True)
class _Field:
    name: str
    is_repeated: bool
    has_presence: bool
    range: Range | None
    """None for a message to walk into."""


@cache
def _plan(descriptor: Descriptor) -> tuple[_Field, ...]:
    """The fields of a message type to look at."""
    found = []
    for field in descriptor.fields:
        allowed = None
        if field.message_type is not None:
            named = field.message_type.full_name
            if named != TIME and named.startswith(NOT_WALKED):
                continue
        elif field.cpp_type in NUMBERS:
            allowed = RANGES.get(f"{descriptor.name}.{field.name}")
            if allowed is None:
                continue
        else:
            continue
        found.append(_Field(field.name, field.is_repeated, field.has_presence, allowed))
    return tuple(found)
