"""Observations of market conditions: added in the order of their times, never changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from storage.errors import FailedPrecondition
from storage.postgres.changes import Subject, SubjectKind
from storage.postgres.rows import missing_reference

_COLUMNS = "condition_id, as_of_time, value, category, scope_kind, scope_id"

Key = tuple[str, str, str]
"""A condition, and the kind and id of what it is observed of; both empty: of the firm."""


def subject_of(key: Key) -> Subject:
    """What an observation changes."""
    return Subject(SubjectKind.CONDITION, "/".join(key))


@dataclass(frozen=True, slots=True)
class StoredCondition:
    """One observation: a number, or a category where `value` is None.

    scope_kind: PORTFOLIO, STRATEGY, INSTRUMENT, or empty: of the firm.
    """

    condition_id: str
    as_of_time: datetime
    value: float | None
    category: str
    scope_kind: str = ""
    scope_id: str = ""

    @property
    def key(self) -> Key:
        """What it is an observation of."""
        return self.condition_id, self.scope_kind, self.scope_id


async def put(connection: asyncpg.Connection, tenant_id: str, seen: StoredCondition) -> bool:
    """Add an observation; False where it is there already. Call it in a transaction.

    Errors: `FailedPrecondition` (OUT_OF_ORDER), `NotFound` (the tenant).
    """
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
        f"condition/{tenant_id}/{'/'.join(seen.key)}",
    )
    stored = await _at(connection, tenant_id, seen.key, seen.as_of_time)
    if stored == seen:
        return False
    newest = (await newest_of(connection, tenant_id, [seen.key], 1)).get(seen.key, [])
    if newest and newest[-1].as_of_time >= seen.as_of_time:
        why = f"its newest observation is of {newest[-1].as_of_time:%Y-%m-%dT%H:%M:%S.%fZ}"
        raise FailedPrecondition("condition", seen.condition_id, why, "OUT_OF_ORDER")
    with missing_reference(tenant=tenant_id):
        await connection.execute(
            f"""INSERT INTO condition_observation (tenant_id, {_COLUMNS})
            VALUES ($1, $2, $3, $4, $5, $6, $7)""",
            tenant_id,
            seen.condition_id,
            seen.as_of_time,
            seen.value,
            seen.category,
            seen.scope_kind,
            seen.scope_id,
        )
    return True


async def _at(
    connection: asyncpg.Connection, tenant_id: str, key: Key, time: datetime
) -> StoredCondition | None:
    row = await connection.fetchrow(
        f"""SELECT {_COLUMNS} FROM condition_observation
        WHERE tenant_id = $1 AND condition_id = $2 AND scope_kind = $3 AND scope_id = $4
          AND as_of_time = $5""",
        tenant_id,
        *key,
        time,
    )
    return None if row is None else StoredCondition(**row)


async def newest_of(
    connection: asyncpg.Connection, tenant_id: str, keys: Sequence[Key], limit: int
) -> dict[Key, list[StoredCondition]]:
    """The newest observations of each condition, at most `limit` each, in the order of time."""
    rows = await connection.fetch(
        f"""SELECT o.* FROM unnest($2::text[], $3::text[], $4::text[]) AS k (wanted, kind, id)
        CROSS JOIN LATERAL (
            SELECT {_COLUMNS} FROM condition_observation
            WHERE tenant_id = $1 AND condition_id = k.wanted
              AND scope_kind = k.kind AND scope_id = k.id
            ORDER BY as_of_time DESC LIMIT $5
        ) AS o ORDER BY o.condition_id, o.scope_kind, o.scope_id, o.as_of_time""",
        tenant_id,
        *(list(column) for column in zip(*keys, strict=True)),
        limit,
    )
    found: dict[Key, list[StoredCondition]] = {}
    for row in rows:
        seen = StoredCondition(**row)
        found.setdefault(seen.key, []).append(seen)
    return found


@dataclass(frozen=True, slots=True)
class Undecided:
    """A condition whose observations from `time` on lie between two thresholds, low < high."""

    key: Key
    time: datetime
    low: float
    high: float


async def decided_before(
    connection: asyncpg.Connection,
    tenant_id: str,
    wanted: Sequence[Undecided],
    limit: int,
    look_back: int,
) -> tuple[list[tuple[StoredCondition, datetime]], list[tuple[Key, datetime]]]:
    """Of each the newest number before its time that isn't between its thresholds, with `limit` - 1
    observations before it and when each was stored; together in the order of their times. Also
    those of which none of the `look_back` before is such a number, with the time of what came
    before these."""
    own = """tenant_id = $1 AND condition_id = k.wanted
              AND scope_kind = k.kind AND scope_id = k.id"""
    keys = [list(column) for column in zip(*(item.key for item in wanted), strict=True)]
    spans = zip(*((item.time, item.low, item.high) for item in wanted), strict=True)
    found = await connection.fetch(
        f"""SELECT first.first, newest.decided FROM unnest($2::text[], $3::text[], $4::text[],
            $5::timestamptz[], $6::float8[], $7::float8[])
            WITH ORDINALITY AS k (wanted, kind, id, time, low, high, place)
        LEFT JOIN LATERAL (
            SELECT as_of_time AS first FROM condition_observation
            WHERE {own} AND as_of_time < k.time ORDER BY as_of_time DESC OFFSET $8 LIMIT 1
        ) AS first ON true
        LEFT JOIN LATERAL (
            SELECT as_of_time AS decided FROM condition_observation
            WHERE {own} AND as_of_time < k.time
              AND as_of_time > coalesce(first.first, '-infinity')
              AND (value <= k.low OR value >= k.high)
            ORDER BY as_of_time DESC LIMIT 1
        ) AS newest ON true ORDER BY k.place""",
        tenant_id,
        *keys,
        *(list(column) for column in spans),
        look_back,
    )
    rows = await connection.fetch(
        f"""SELECT DISTINCT o.* FROM unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[])
            AS k (wanted, kind, id, decided)
        CROSS JOIN LATERAL (
            SELECT {_COLUMNS}, create_time FROM condition_observation
            WHERE {own} AND as_of_time <= k.decided ORDER BY as_of_time DESC LIMIT $6
        ) AS o ORDER BY o.as_of_time""",
        tenant_id,
        *keys,
        [row["decided"] for row in found],
        limit,
    )
    unknown = [
        (item.key, row["first"])
        for item, row in zip(wanted, found, strict=True)
        if row["decided"] is None and row["first"] is not None
    ]
    return [_with_time(row) for row in rows], unknown


async def until(
    connection: asyncpg.Connection,
    tenant_id: str,
    keys: Sequence[Key],
    start: datetime,
    end: datetime,
    before: int,
    limit: int,
) -> list[tuple[StoredCondition, datetime]]:
    """Observations from `start` to `end` with when each was stored, in the order of their times.

    Of each condition with the newest `before` of them from before `start`; at most `limit` in all.
    """
    rows = await connection.fetch(
        f"""SELECT o.* FROM unnest($2::text[], $3::text[], $4::text[]) AS k (wanted, kind, id)
        CROSS JOIN LATERAL (
            SELECT {_COLUMNS}, create_time FROM condition_observation
            WHERE tenant_id = $1 AND condition_id = k.wanted
              AND scope_kind = k.kind AND scope_id = k.id
              AND as_of_time >= $5 AND as_of_time <= $6
            UNION ALL (
                SELECT {_COLUMNS}, create_time FROM condition_observation
                WHERE tenant_id = $1 AND condition_id = k.wanted
                  AND scope_kind = k.kind AND scope_id = k.id AND as_of_time < $5
                ORDER BY as_of_time DESC LIMIT $7
            )
        ) AS o ORDER BY o.as_of_time LIMIT $8""",
        tenant_id,
        *(list(column) for column in zip(*keys, strict=True)),
        start,
        end,
        before,
        limit,
    )
    return [_with_time(row) for row in rows]


def _with_time(row: asyncpg.Record) -> tuple[StoredCondition, datetime]:
    return StoredCondition(**{n: row[n] for n in _COLUMNS.split(", ")}), row["create_time"]


async def newest(
    connection: asyncpg.Connection, tenant_id: str, limit: int
) -> list[StoredCondition]:
    """The newest observation of each condition, by id."""
    rows = await connection.fetch(
        f"""SELECT DISTINCT ON (condition_id, scope_kind, scope_id) {_COLUMNS}
        FROM condition_observation WHERE tenant_id = $1
        ORDER BY condition_id, scope_kind, scope_id, as_of_time DESC LIMIT $2""",
        tenant_id,
        limit,
    )
    return [StoredCondition(**row) for row in rows]
