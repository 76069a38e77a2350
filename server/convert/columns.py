"""Whole columns between protobuf and NumPy, without a Python object per number.

Reading uses the array interface of repeated fields. Writing uses that a packed repeated double is
on the wire a tag, a length and the raw little-endian numbers, and that messages are merged by
joining them: a decision is put together from its columns and never copied number by number.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Piece = bytes | memoryview

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


def upper_triangle(values: Floats) -> Floats:
    """The upper triangle of a square matrix (n, n) with its diagonal, row by row, (n(n+1)/2,)."""
    return values[~np.tri(len(values), k=-1, dtype=bool)]


def symmetric(triangle: Floats, n: int) -> Floats:
    """The symmetric matrix (n, n) of an upper triangle that was laid out row by row."""
    values, begin = np.empty((n, n)), 0
    for row in range(n):  # a third of the time of places in arrays of their own
        end = begin + n - row
        values[row, row:] = values[row:, row] = triangle[begin:end]
        begin = end
    return values


def set_floats(message: Message, name: str, values: Floats) -> None:
    """Appends `values` to the packed repeated double field `name` of `message`."""
    message.MergeFromString(b"".join(encoder(message.DESCRIPTOR).floats(name, values)))


@cache
def encoder(descriptor: Descriptor) -> "Encoder":
    """The encoder of a message type, made once."""
    return Encoder(descriptor)


class Encoder:
    """Encodes the columns of one message type; the pieces, joined, are the message on the wire.

    Pieces point into the columns, so that each number is copied once, when all are joined.
    """

    def __init__(self, descriptor: Descriptor) -> None:
        self._tags = {
            field.name: _varint(field.number << 3 | _LENGTH_DELIMITED)
            for field in descriptor.fields
        }

    def floats(self, name: str, values: Floats) -> list[Piece]:
        """A packed repeated double."""
        return self._packed(name, np.asarray(values, dtype="<f8"))

    def fixed(self, name: str, values: Integers) -> list[Piece]:
        """A packed repeated sfixed64."""
        return self._packed(name, np.asarray(values, dtype="<i8"))

    def small(self, name: str, values: Integers) -> list[Piece]:
        """A packed repeated enum or int32 of values from 0 to 127, one byte each."""
        return self._packed(name, values.astype(np.uint8))

    def message(self, name: str, pieces: Sequence[Piece]) -> list[Piece]:
        """A message from its encoded pieces."""
        return [self._tags[name] + _varint(sum(map(len, pieces))), *pieces]

    def _packed(self, name: str, values: NDArray[Any]) -> list[Piece]:
        raw = np.ascontiguousarray(values).view(np.uint8).data
        return [self._tags[name] + _varint(values.nbytes), raw]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
