"""Rows in PostgreSQL's binary COPY format, arrays straight from NumPy.

The driver encodes an array element by element, about half a microsecond each, which for the columns
of a thousand-line decision is most of the cost of recording it; this is a hundred times faster.

Formats: "COPY", section "Binary Format", in PostgreSQL's manual; an array is its number of
dimensions, a flag for nulls, the type of its elements, length and lower bound of each dimension,
then each element with its length; everything is big-endian.
"""

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray

from storage.errors import InvalidContent
from storage.postgres.rows import Document, Floats, Integers, Strings, to_json

_INT2, _INT8, _TEXT, _FLOAT8 = 21, 20, 25, 701  # type ids, fixed in PostgreSQL's catalog
_CELL = {
    type_id: np.dtype([("size", ">i4"), ("value", kind)])
    for type_id, kind in ((_INT2, ">i2"), (_INT8, ">i8"), (_FLOAT8, ">f8"))
}
"""An element of an array with its length before it."""
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_NULL = struct.pack(">i", -1)
_TRAILER = struct.pack(">h", -1)


async def copy_in(
    connection: asyncpg.Connection,
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[bytes | None]],
) -> None:
    """Insert rows whose values are encoded by the functions below, in the order of `columns`.

    None is NULL.
    """
    n_columns = struct.pack(">h", len(columns))
    data = bytearray(_HEADER)
    for row in rows:
        data += n_columns
        for value in row:
            if value is None:
                data += _NULL
            else:
                data += len(value).to_bytes(4, "big")
                data += value
    data += _TRAILER
    await connection.copy_to_table(table, source=data, columns=columns, format="binary")


def text(value: str) -> bytes:
    """A text column."""
    return value.encode()


def uuid(value: UUID) -> bytes:
    """A uuid column."""
    return value.bytes


def int8(value: int) -> bytes:
    """An int8 column. Errors: `struct.error` beyond 64 bits."""
    return struct.pack(">q", value)


def timestamptz(value: datetime) -> bytes:
    """A timestamptz column; the time must have a zone."""
    return int8((value - _EPOCH) // timedelta(microseconds=1))


def jsonb(value: Document) -> bytes:
    """A jsonb column."""
    return b"\x01" + to_json(value).encode()


def float8_array(values: Floats) -> bytes:
    """A float8[] column, bit for bit."""
    return _array(values, _FLOAT8)


def int8_array(values: Integers) -> bytes:
    """An int8[] column."""
    return _array(values, _INT8)


def int2_array(values: Integers) -> bytes:
    """An int2[] column. Errors: `InvalidContent` if a value needs more than 16 bits."""
    if values.size and not (values.min() >= -(2**15) and values.max() < 2**15):
        raise InvalidContent("a value is out of the range of int2")
    return _array(values, _INT2)


@lru_cache(maxsize=64)
def text_array(values: Strings) -> bytes:
    """A text[] column; kept for the next time, because the same instruments come again."""
    encoded = [value.encode() for value in values]
    parts = [part for value in encoded for part in (len(value).to_bytes(4, "big"), value)]
    return _array_header(len(values), _TEXT) + b"".join(parts)


def _array(values: NDArray[np.float64] | NDArray[np.int64], element: int) -> bytes:
    cell = _CELL[element]
    cells = np.empty(len(values), cell)
    cells["size"] = cell["value"].itemsize
    cells["value"] = values
    return _array_header(len(values), element) + cells.tobytes()


def _array_header(n: int, element: int) -> bytes:
    if n == 0:  # PostgreSQL writes an empty array without any dimension
        return struct.pack(">iii", 0, 0, element)
    return struct.pack(">iiiii", 1, 0, element, n, 1)
