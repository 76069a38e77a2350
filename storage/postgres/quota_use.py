"""Lines that callers have asked for, of all servers on one database."""

from collections.abc import Mapping
from datetime import datetime

import asyncpg

Caller = tuple[str, str]
"""Tenant and subject."""


async def add(connection: asyncpg.Connection, lines: Mapping[Caller, int]) -> dict[Caller, int]:
    """Add lines that were asked for here; what all servers have added by now, by caller."""
    ordered = sorted(lines)  # in one order, so that two servers can't deadlock
    rows = await connection.fetch(
        """INSERT INTO quota_use AS u (tenant_id, subject, lines)
        SELECT * FROM unnest($1::text[], $2::text[], $3::int8[])
        ON CONFLICT (tenant_id, subject) DO UPDATE
        SET lines = u.lines + excluded.lines, update_time = clock_timestamp()
        RETURNING tenant_id, subject, lines""",
        [tenant_id for tenant_id, _ in ordered],
        [subject for _, subject in ordered],
        [lines[caller] for caller in ordered],
    )
    return {(row["tenant_id"], row["subject"]): row["lines"] for row in rows}


async def forget(connection: asyncpg.Connection, *, before: datetime) -> int:
    """Drop callers who have asked for nothing since; how many."""
    status = await connection.execute("DELETE FROM quota_use WHERE update_time < $1", before)
    return int(status.removeprefix("DELETE "))
