"""Features of instruments by when they were true and when they became known; never changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg
import numpy as np
from numpy.typing import NDArray

from storage.errors import AlreadyExists, NotFound
from storage.postgres.rows import missing_reference

_SET = "feature_set_id, features, feature_version, age_max_s, schema_hash, author, create_time"


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """Names that are made together; `age_max_s`: None where any age will do."""

    feature_set_id: str
    features: tuple[str, ...]
    feature_version: str
    age_max_s: float | None
    schema_hash: str
    author: str
    create_time: datetime


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """Values of an instrument in the order of its set."""

    instrument_id: str
    as_of_time: datetime
    known_time: datetime
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """Many rows as columns; times in nanoseconds since 1970, (n,); values (n, k)."""

    instrument_ids: tuple[str, ...]
    as_of: NDArray[np.int64]
    known: NDArray[np.int64]
    values: NDArray[np.float64]


async def put_set(
    connection: asyncpg.Connection,
    tenant_id: str,
    feature_set_id: str,
    *,
    features: Sequence[str],
    feature_version: str,
    age_max_s: float | None,
    schema_hash: str,
    author: str,
) -> FeatureSet:
    """Declare a set, or find it declared so. Errors: `AlreadyExists` (another of that id),
    `NotFound` (the tenant)."""
    with missing_reference(tenant=tenant_id):
        await connection.execute(
            """INSERT INTO feature_set
                (tenant_id, feature_set_id, features, feature_version, age_max_s, schema_hash,
                author)
            VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING""",
            tenant_id,
            feature_set_id,
            list(features),
            feature_version,
            age_max_s,
            schema_hash,
            author,
        )
    found = await get_set(connection, tenant_id, feature_set_id)
    if (found.schema_hash, found.age_max_s) != (schema_hash, age_max_s):
        raise AlreadyExists("feature set", feature_set_id)
    return found


async def get_set(
    connection: asyncpg.Connection, tenant_id: str, feature_set_id: str
) -> FeatureSet:
    """Errors: `NotFound`."""
    row = await connection.fetchrow(
        f"SELECT {_SET} FROM feature_set WHERE tenant_id = $1 AND feature_set_id = $2",
        tenant_id,
        feature_set_id,
    )
    if row is None:
        raise NotFound("feature set", feature_set_id)
    return _set(row)


async def sets(connection: asyncpg.Connection, tenant_id: str, limit: int) -> list[FeatureSet]:
    """By id."""
    rows = await connection.fetch(
        f"""SELECT {_SET} FROM feature_set WHERE tenant_id = $1
        ORDER BY feature_set_id LIMIT $2""",
        tenant_id,
        limit,
    )
    return [_set(row) for row in rows]


async def add(
    connection: asyncpg.Connection,
    tenant_id: str,
    feature_set_id: str,
    rows: Sequence[FeatureRow],
) -> tuple[int, int | None]:
    """How many rows were new, and the place of the first that is stored with other values, or None.

    Call it in a transaction, and roll back where there is one.
    """
    columns = (
        [row.instrument_id for row in rows],
        [row.as_of_time for row in rows],
        [row.known_time for row in rows],
    )
    width = len(rows[0].values)
    added = await connection.fetch(
        """INSERT INTO feature_row
            (tenant_id, feature_set_id, instrument_id, as_of_time, known_time, feature_values)
        SELECT $1, $2, r.name, r.as_of_time, r.known_time,
            ($6::float8[])[(r.place - 1) * $7 + 1 : r.place * $7]
        FROM unnest($3::text[], $4::timestamptz[], $5::timestamptz[]) WITH ORDINALITY
            AS r (name, as_of_time, known_time, place)
        ON CONFLICT DO NOTHING RETURNING 1""",
        tenant_id,
        feature_set_id,
        *columns,
        [value for row in rows for value in row.values],
        width,
    )
    if len(added) == len(rows):
        return len(rows), None
    stored = await connection.fetch(
        """SELECT r.place, s.feature_values FROM
            unnest($3::text[], $4::timestamptz[], $5::timestamptz[]) WITH ORDINALITY
                AS r (name, as_of_time, known_time, place)
            JOIN feature_row AS s ON s.tenant_id = $1 AND s.feature_set_id = $2
                AND s.instrument_id = r.name AND s.as_of_time = r.as_of_time
                AND s.known_time = r.known_time ORDER BY r.place""",
        tenant_id,
        feature_set_id,
        *columns,
    )
    other = (
        row["place"] - 1
        for row in stored
        if tuple(row["feature_values"]) != rows[row["place"] - 1].values
    )
    return len(added), next(other, None)


async def known_before(
    connection: asyncpg.Connection,
    tenant_id: str,
    feature_set_id: str,
    instrument_ids: Sequence[str],
    moment: datetime,
) -> list[FeatureRow | None]:
    """What was known of each instrument before the moment: of that the latest as_of_time, and of
    these the latest known_time. The same rule as `compute.learn.asof`, in the index."""
    rows = await connection.fetch(
        """SELECT r.instrument_id, r.as_of_time, r.known_time, r.feature_values
        FROM unnest($3::text[]) WITH ORDINALITY AS i (wanted, place)
        LEFT JOIN LATERAL (
            SELECT instrument_id, as_of_time, known_time, feature_values FROM feature_row
            WHERE tenant_id = $1 AND feature_set_id = $2 AND instrument_id = i.wanted
                AND known_time < $4
            ORDER BY as_of_time DESC, known_time DESC LIMIT 1
        ) AS r ON true ORDER BY i.place""",
        tenant_id,
        feature_set_id,
        list(instrument_ids),
        moment,
    )
    return [
        None
        if row["instrument_id"] is None
        else FeatureRow(
            row["instrument_id"],
            row["as_of_time"],
            row["known_time"],
            tuple(row["feature_values"]),
        )
        for row in rows
    ]


async def all_before(
    connection: asyncpg.Connection,
    tenant_id: str,
    feature_set_id: str,
    instrument_ids: Sequence[str],
    moment: datetime,
    limit: int,
) -> FeatureTable:
    """All rows of the instruments known before the moment, in no order; at most `limit` of them."""
    rows = await connection.fetch(
        """SELECT instrument_id,
            (extract(epoch FROM as_of_time) * 1000000)::int8 AS as_of,
            (extract(epoch FROM known_time) * 1000000)::int8 AS known, feature_values
        FROM feature_row WHERE tenant_id = $1 AND feature_set_id = $2
            AND instrument_id = ANY ($3::text[]) AND known_time < $4 LIMIT $5""",
        tenant_id,
        feature_set_id,
        list(instrument_ids),
        moment,
        limit,
    )
    return FeatureTable(
        tuple(row["instrument_id"] for row in rows),
        np.array([row["as_of"] for row in rows], dtype=np.int64) * 1000,
        np.array([row["known"] for row in rows], dtype=np.int64) * 1000,
        np.array([row["feature_values"] for row in rows], dtype=np.float64),
    )


def _set(row: asyncpg.Record) -> FeatureSet:
    return FeatureSet(**{**row, "features": tuple(row["features"])})
