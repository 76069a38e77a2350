"""Rows encoded by us and read by PostgreSQL are the rows that were meant."""

import math
from datetime import UTC, datetime, timedelta, timezone
from uuid import uuid4

import asyncpg
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import InvalidContent
from storage.identifiers import uuid7
from storage.postgres import binary

INT64 = np.iinfo(np.int64)


async def test_every_kind_of_column_survives(connection: asyncpg.Connection) -> None:
    await connection.execute(
        """CREATE TEMPORARY TABLE everything (t text, u uuid, i int8, z timestamptz, j jsonb,
            b bytea, f float8[], l int8[], s int2[], a text[])"""
    )
    columns = ("t", "u", "i", "z", "j", "b", "f", "l", "s", "a")
    time = datetime(2026, 3, 1, 23, 59, 59, 999_999, timezone(timedelta(hours=-5)))
    specials = np.array([0.1, -0.0, math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308])
    full = (
        "Ünï😀", uuid4(), INT64.min, time, {"a": [1, 0.1]}, bytes(range(256)), specials,
        np.array([INT64.min, 0, INT64.max]), np.array([-(2**15), 2**15 - 1]), ("a", "", "ß"),
    )  # fmt: skip
    none = np.array([], dtype=np.int64)
    empty = (
        "", uuid4(), 0, time, {}, b"", none.astype(np.float64), none, none, ()
    )  # fmt: skip
    rows = [_encoded(full), _encoded(empty)]
    await binary.copy_in(connection, "everything", columns, rows)
    for row, sent in zip(
        await connection.fetch("SELECT * FROM everything"), [full, empty], strict=True
    ):
        assert (row["t"], row["u"], row["i"], row["z"], row["b"]) == (*sent[:4], sent[5])
        assert np.array(row["f"], dtype=float).tobytes() == sent[6].tobytes(), "bit for bit"
        assert (row["l"], row["s"], row["a"]) == (list(sent[7]), list(sent[8]), list(sent[9]))
    assert await connection.fetchval("SELECT j ->> 'a' FROM everything LIMIT 1") == "[1, 0.1]"


def _encoded(row: tuple) -> list[bytes]:  # type: ignore[type-arg]
    t, u, i, z, j, b, f, l, s, a = row  # noqa: E741
    return [
        binary.text(t), binary.uuid(u), binary.int8(i), binary.timestamptz(z), binary.jsonb(j), b,
        binary.float8_array(f), binary.int8_array(l), binary.int2_array(s), binary.text_array(a),
    ]  # fmt: skip


@given(st.integers(-(2**40), 2**40))
def test_only_what_fits_in_16_bits_is_encoded_as_int2(value: int) -> None:
    values = np.array([0, value])
    if -(2**15) <= value < 2**15:
        assert binary.int2_array(values)[-2:] == value.to_bytes(2, "big", signed=True)
    else:
        with pytest.raises(InvalidContent):
            binary.int2_array(values)


def test_identifiers_sort_by_time_and_are_version_7() -> None:
    before = datetime.now(UTC)
    ids = [uuid7() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert {(id.version, id.variant) for id in ids} == {(7, "specified in RFC 4122")}
    milliseconds = [id.int >> 80 for id in ids]
    assert milliseconds == sorted(milliseconds)
    assert abs(milliseconds[0] / 1000 - before.timestamp()) < 60
