"""Whole columns between protobuf and NumPy, without a Python object per number.

Reading uses the array interface of repeated fields. Writing uses that a packed repeated double is
on the wire a tag, a length and the raw little-endian numbers: one parse instead of n appends.
"""

from typing import Any

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_LENGTH_DELIMITED = 2


def floats(column: Any) -> Floats:
    """A repeated double as an owned array."""
    return np.array(column, dtype=np.float64)


def integers(column: Any) -> Integers:
    """A repeated integer or enum as an owned array."""
    return np.array(column, dtype=np.int64)


def optional_floats(column: Any) -> Floats | None:
    """The same, None where the column is empty."""
    return floats(column) if len(column) else None


def set_floats(message: Message, name: str, values: Floats) -> None:
    """Appends `values` to the packed repeated double field `name` of `message`."""
    number = message.DESCRIPTOR.fields_by_name[name].number
    raw = np.ascontiguousarray(values, dtype="<f8").tobytes()
    message.MergeFromString(_varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(raw)) + raw)


def set_small(message: Message, name: str, values: Integers) -> None:
    """Appends `values` to the packed repeated enum or integer field `name` of `message`.

    Numbers below 128 are one byte each on the wire; if all are, they go in one parse too.
    """
    if len(values) and values.min() >= 0 and values.max() < 0x80:
        number = message.DESCRIPTOR.fields_by_name[name].number
        raw = values.astype(np.uint8).tobytes()
        message.MergeFromString(_varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(raw)) + raw)
    else:
        getattr(message, name).extend(values.tolist())


def submessage(number: int, encoded: bytes) -> bytes:
    """An encoded message as the field `number` of another, on the wire.

    A decision goes into its answer and its event without being copied or encoded again.
    """
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(encoded)) + encoded


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
