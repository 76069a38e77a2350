"""Seals: each says which records a period had, by a digest of their digests.

They are in the chain of changes (migration 0036). `server/maintenance/seals.py` makes and verifies
them.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg

_COLUMNS = "sequence, start_time, end_time, records, digest"


@dataclass(frozen=True, slots=True)
class Seal:
    """Of the records from `start_time` on and before `end_time`; digest: 32 bytes."""

    sequence: int
    start_time: datetime
    end_time: datetime
    records: int
    digest: bytes


_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
NONE = Seal(0, _LONG_AGO, _LONG_AGO, 0, bytes(32))
"""Before the first."""


async def last(connection: asyncpg.Connection, tenant_id: str) -> Seal:
    """The newest seal, `NONE` before the first."""
    row = await connection.fetchrow(
        f"""SELECT {_COLUMNS} FROM record_seal WHERE tenant_id = $1
        ORDER BY sequence DESC LIMIT 1""",
        tenant_id,
    )
    return NONE if row is None else Seal(**row)


async def after(connection: asyncpg.Connection, tenant_id: str, sequence: int) -> Seal | None:
    """The next seal after a number."""
    row = await connection.fetchrow(
        f"""SELECT {_COLUMNS} FROM record_seal WHERE tenant_id = $1 AND sequence > $2
        ORDER BY sequence LIMIT 1""",
        tenant_id,
        sequence,
    )
    return None if row is None else Seal(**row)


async def put(connection: asyncpg.Connection, tenant_id: str, seal: Seal) -> None:
    """Adds a seal; where another server was first, its one stays."""
    await connection.execute(
        f"""INSERT INTO record_seal (tenant_id, {_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT DO NOTHING""",
        tenant_id,
        seal.sequence,
        seal.start_time,
        seal.end_time,
        seal.records,
        seal.digest,
    )
