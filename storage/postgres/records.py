"""Decisions and settlements as records: each with the digest of all that it says.

The view `record` (migration 0036) says what a digest is of; `record_digest` computes it from the
columns, wherever they come from. Records that have gone into an archive keep their digests in
`archived_record`, so that a seal over a period can be recomputed for ever.
"""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from storage.errors import Archived
from storage.identifiers import uuid7

DECISION, SETTLEMENT = "DECISION", "SETTLEMENT"
COLUMNS = (
    *("kind", "record_id", "decision_id", "portfolio_id", "create_time", "content", "inputs"),
    *("request_id", "method", "request_hash", "request", "response"),
)
"""What a record says, and what its digest is of, in this order."""
Place = tuple[datetime, UUID]
"""(create_time, record_id): the order of records."""
LAST_ID = UUID(int=2**128 - 1)
"""No id is above: (time, LAST_ID) is after all records of that microsecond."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SELECTED = ", ".join(COLUMNS)


@dataclass(frozen=True, slots=True)
class Digest:
    """Of one record."""

    create_time: datetime
    record_id: UUID
    digest: bytes

    @property
    def place(self) -> Place:
        """In the order of records."""
        return self.create_time, self.record_id


@dataclass(frozen=True, slots=True)
class Held:
    """A decision in the database with the digests of it and of its settlements, by their ids.

    days: on which these records were made. is_open: it still reserves something.
    """

    create_time: datetime
    decision_id: UUID
    is_open: bool
    digests: Mapping[UUID, bytes]
    days: Mapping[UUID, date]


def record_digest(record: Mapping[str, Any]) -> bytes:
    """SHA-256 over `COLUMNS` in order, each with its length in bytes in front.

    Ids and times as text, the time in microseconds since 1970. 32 bytes.
    """
    digest = hashlib.sha256()
    for name in COLUMNS:
        value = record[name]
        if isinstance(value, datetime):
            value = (value - _EPOCH) // timedelta(microseconds=1)
        content = value if isinstance(value, bytes) else str(value).encode()
        digest.update(b"%d:" % len(content) + content)
    return digest.digest()


async def first_time(
    connection: asyncpg.Connection, tenant_id: str, since: datetime
) -> datetime | None:
    """Of the first record from then on, archived ones too; None: there is none."""
    found: datetime | None = await connection.fetchval(
        """SELECT least(
            (SELECT min(create_time) FROM decision WHERE tenant_id = $1 AND create_time >= $2),
            (SELECT min(create_time) FROM settlement WHERE tenant_id = $1 AND create_time >= $2),
            (SELECT min(create_time) FROM archived_record
                WHERE tenant_id = $1 AND create_time >= $2))""",
        tenant_id,
        since,
    )
    return found


async def digests(
    connection: asyncpg.Connection, tenant_id: str, after: Place, end: datetime, *, limit: int
) -> list[Digest]:
    """Of records after a place and before a time, archived ones too, in order; at most `limit`."""
    rows = await connection.fetch(
        """SELECT create_time, record_id, digest FROM (
            SELECT tenant_id, create_time, record_id, digest FROM record
            UNION ALL SELECT tenant_id, create_time, record_id, digest FROM archived_record
        ) AS every
        WHERE tenant_id = $1 AND (create_time, record_id) > ($2, $3) AND create_time < $4
        ORDER BY create_time, record_id LIMIT $5""",
        tenant_id,
        *after,
        end,
        limit,
    )
    return [Digest(**row) for row in rows]


async def page(
    connection: asyncpg.Connection, tenant_id: str, after: Place, end: datetime, *, limit: int
) -> list[tuple[Any, ...]]:
    """`COLUMNS` and the digest of records after a place and before a time, in order."""
    rows = await connection.fetch(
        f"""SELECT {_SELECTED}, digest FROM record
        WHERE tenant_id = $1 AND (create_time, record_id) > ($2, $3) AND create_time < $4
        ORDER BY create_time, record_id LIMIT $5""",
        tenant_id,
        *after,
        end,
        limit,
    )
    return [tuple(row) for row in rows]


async def held(
    connection: asyncpg.Connection, tenant_id: str, after: Place, end: datetime, *, limit: int
) -> list[Held]:
    """Decisions in the database after a place and before a time, in order; at most `limit`."""
    rows = await connection.fetch(
        """SELECT d.create_time AS decided, d.decision_id, d.is_open, r.record_id, r.create_time,
            r.digest
        FROM (
            SELECT d.create_time, d.decision_id, coalesce(r.state = 'OPEN', false) AS is_open
            FROM decision AS d LEFT JOIN reservation AS r USING (tenant_id, decision_id)
            WHERE d.tenant_id = $1 AND (d.create_time, d.decision_id) > ($2, $3)
                AND d.create_time < $4
            ORDER BY d.create_time, d.decision_id LIMIT $5
        ) AS d JOIN record AS r ON r.tenant_id = $1 AND r.decision_id = d.decision_id
        ORDER BY d.create_time, d.decision_id""",
        tenant_id,
        *after,
        end,
        limit,
    )
    found = []
    for decision_id, group in itertools.groupby(rows, key=lambda row: row["decision_id"]):
        made = list(group)
        found.append(
            Held(
                made[0]["decided"],
                decision_id,
                made[0]["is_open"],
                {row["record_id"]: row["digest"] for row in made},
                {row["record_id"]: row["create_time"].astimezone(UTC).date() for row in made},
            )
        )
    return found


async def remove(
    connection: asyncpg.Connection, tenant_id: str, told: Mapping[UUID, bytes], archive: str
) -> list[tuple[str, datetime]]:
    """Removes decisions with all that is about them, as the owner; kind and time of what has gone.

    told: digests of decisions and their settlements, as the archive has them. What differs by a
    byte, is open, or has a settlement that is not among them stays.
    """
    rows = await connection.fetch(
        "SELECT removed_kind, removed_time FROM archive_records($1, $2, $3, $4)",
        tenant_id,
        list(told),
        list(told.values()),
        archive,
    )
    return [(row["removed_kind"], row["removed_time"]) for row in rows]


async def note_removal(
    connection: asyncpg.Connection,
    tenant_id: str,
    day: date,
    kinds: Sequence[str],
    *,
    archive: str,
    author: str,
    reason: str,
) -> None:
    """Writes into the chain of changes how many records of a day were removed."""
    await connection.execute(
        """INSERT INTO retention (tenant_id, retention_id, day, decisions, settlements, archive,
            author, reason)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)""",
        tenant_id,
        uuid7(),
        day,
        kinds.count(DECISION),
        kinds.count(SETTLEMENT),
        archive,
        author,
        reason,
    )


async def days_removed(connection: asyncpg.Connection, tenant_id: str) -> dict[date, str]:
    """Days of which records were removed, each with the archive that has the last of them."""
    rows = await connection.fetch(
        """SELECT DISTINCT ON (day) day, archive FROM retention WHERE tenant_id = $1
        ORDER BY day, create_time DESC""",
        tenant_id,
    )
    return {row["day"]: row["archive"] for row in rows}


async def check_here(
    connection: asyncpg.Connection,
    tenant_id: str,
    start: datetime | None,
    end: datetime | None,
    portfolio_id: str,
) -> None:
    """Errors: `Archived` where a decision of the portfolio in that time is in an archive alone."""
    row = await connection.fetchrow(
        """SELECT decision_id, create_time, archive FROM archived_record
        WHERE tenant_id = $1 AND portfolio_id = $2 AND kind = 'DECISION'
            AND ($3::timestamptz IS NULL OR create_time >= $3)
            AND ($4::timestamptz IS NULL OR create_time < $4)
        ORDER BY create_time DESC LIMIT 1""",
        tenant_id,
        portfolio_id,
        start,
        end,
    )
    if row is not None:
        raise Archived("decision", str(row["decision_id"]), row["archive"], row["create_time"])


async def archived(
    connection: asyncpg.Connection, tenant_id: str, decision_id: UUID
) -> tuple[str, Archived] | None:
    """The portfolio of a decision that is in an archive alone, and the error that says so."""
    row = await connection.fetchrow(
        """SELECT portfolio_id, create_time, archive FROM archived_record
        WHERE tenant_id = $1 AND record_id = $2 AND kind = 'DECISION'""",
        tenant_id,
        decision_id,
    )
    if row is None:
        return None
    error = Archived("decision", str(decision_id), row["archive"], row["create_time"])
    return row["portfolio_id"], error
