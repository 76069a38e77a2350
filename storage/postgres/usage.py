"""What callers have asked for, by hour, of all servers on one database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import asyncpg


class Place(NamedTuple):
    """What is counted apart."""

    hour: datetime
    subject: str
    method: str


@dataclass(slots=True)
class Count:
    """refused_count: of the calls, those answered with an error. line_count: of the others.

    busy_seconds: from a call's arrival to its answer, of all calls.
    """

    call_count: int = 0
    refused_count: int = 0
    line_count: int = 0
    busy_seconds: float = 0.0

    def add(self, other: "Count") -> None:
        """Takes in what `other` has counted."""
        self.call_count += other.call_count
        self.refused_count += other.refused_count
        self.line_count += other.line_count
        self.busy_seconds += other.busy_seconds


class Dimension(StrEnum):
    """What a sum may be by, as SQL."""

    HOUR = "hour"
    DAY = "date_trunc('day', hour, 'UTC')"
    SUBJECT = "subject"
    METHOD = "method"


@dataclass(frozen=True, slots=True)
class Sum:
    """time: begin of the hour or day; it, subject and method None where the sum is over all."""

    time: datetime | None
    subject: str | None
    method: str | None
    count: Count


async def add(
    connection: asyncpg.Connection, tenant_id: str, counts: Mapping[Place, Count]
) -> None:
    """Add what was counted here."""
    ordered = sorted(counts)  # in one order, so that two servers can't deadlock
    found = [counts[place] for place in ordered]
    await connection.execute(
        """INSERT INTO usage_hour AS u (tenant_id, hour, subject, method,
            call_count, refused_count, line_count, busy_seconds)
        SELECT $1, * FROM unnest($2::timestamptz[], $3::text[], $4::text[],
            $5::int8[], $6::int8[], $7::int8[], $8::float8[])
        ON CONFLICT (tenant_id, hour, subject, method) DO UPDATE
        SET call_count = u.call_count + excluded.call_count,
            refused_count = u.refused_count + excluded.refused_count,
            line_count = u.line_count + excluded.line_count,
            busy_seconds = u.busy_seconds + excluded.busy_seconds""",
        tenant_id,
        [place.hour for place in ordered],
        [place.subject for place in ordered],
        [place.method for place in ordered],
        [count.call_count for count in found],
        [count.refused_count for count in found],
        [count.line_count for count in found],
        [count.busy_seconds for count in found],
    )


async def sums(
    connection: asyncpg.Connection,
    tenant_id: str,
    by: Sequence[Dimension],
    *,
    start: datetime | None,
    end: datetime | None,
    limit: int,
) -> list[Sum]:
    """Sums over hours from `start` on and before `end`, None without a bound; at most `limit`."""
    time = next((d.value for d in by if d in (Dimension.HOUR, Dimension.DAY)), "NULL::timestamptz")
    subject = "subject" if Dimension.SUBJECT in by else "NULL::text"
    method = "method" if Dimension.METHOD in by else "NULL::text"
    rows = await connection.fetch(
        f"""SELECT {time} AS time, {subject} AS subject, {method} AS method,
            sum(call_count)::int8 AS call_count, sum(refused_count)::int8 AS refused_count,
            sum(line_count)::int8 AS line_count, sum(busy_seconds) AS busy_seconds
        FROM usage_hour WHERE tenant_id = $1
            AND hour >= coalesce($2::timestamptz, '-infinity')
            AND hour < coalesce($3::timestamptz, 'infinity')
        GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LIMIT $4""",
        tenant_id,
        start,
        end,
        limit,
    )
    return [
        Sum(
            row["time"],
            row["subject"],
            row["method"],
            Count(*(row[name] for name in Count.__slots__)),
        )
        for row in rows
    ]


async def forget(connection: asyncpg.Connection, *, before: datetime) -> int:
    """Drop hours before a time; how many rows."""
    status = await connection.execute("DELETE FROM usage_hour WHERE hour < $1", before)
    return int(status.removeprefix("DELETE "))
