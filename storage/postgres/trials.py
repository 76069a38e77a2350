"""Settings that were tried on past prices, and how often locked sessions were looked at.

An experiment is a name: all that is counted under it is one search for the best. Call `lock` first
where what is read decides what is told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import uuid4

import asyncpg


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting over one span. sharpe: a session, None where it is not defined."""

    trial_hash: bytes
    first_date: date
    last_date: date
    sharpe: float | None


@dataclass(frozen=True, slots=True)
class StoredTrial:
    """A trial, and who tried it first."""

    trial: Trial
    method: str
    author: str
    create_time: datetime


@dataclass(frozen=True, slots=True)
class LockedOpening:
    """Who looked at locked sessions, and when."""

    first_date: date
    last_date: date
    author: str
    create_time: datetime


async def lock(connection: asyncpg.Connection, tenant_id: str, experiment: str) -> None:
    """Nobody else counts in an experiment until the transaction ends."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"trial/{tenant_id}/{experiment}"
    )


async def add(
    connection: asyncpg.Connection,
    tenant_id: str,
    experiment: str,
    trials: Sequence[Trial],
    *,
    method: str,
    author: str,
) -> None:
    """Stores those that are not there yet."""
    await connection.execute(
        """INSERT INTO trial (tenant_id, experiment, trial_hash, first_date, last_date, sharpe,
            method, author)
        SELECT $1, $2, t.*, $7, $8
        FROM unnest($3::bytea[], $4::date[], $5::date[], $6::float8[]) AS t
        ON CONFLICT DO NOTHING""",
        tenant_id,
        experiment,
        [trial.trial_hash for trial in trials],
        [trial.first_date for trial in trials],
        [trial.last_date for trial in trials],
        [trial.sharpe for trial in trials],
        method,
        author,
    )


async def totals(
    connection: asyncpg.Connection, tenant_id: str, experiment: str
) -> tuple[int, float | None]:
    """How many there are, and the standard deviation of their Sharpe ratios; None below two.

    Summed by size: the same trials give the same digits, whichever was stored first.
    """
    row = await connection.fetchrow(
        """SELECT count(*), stddev_samp(sharpe ORDER BY sharpe) FROM trial
        WHERE tenant_id = $1 AND experiment = $2""",
        tenant_id,
        experiment,
    )
    return row[0], row[1]


async def within(
    connection: asyncpg.Connection,
    tenant_id: str,
    experiment: str,
    first_date: date,
    last_date: date,
) -> int:
    """How many share sessions with a span."""
    found: int = await connection.fetchval(
        """SELECT count(*) FROM trial
        WHERE tenant_id = $1 AND experiment = $2 AND first_date <= $4 AND last_date >= $3""",
        tenant_id,
        experiment,
        first_date,
        last_date,
    )
    return found


async def newest(
    connection: asyncpg.Connection, tenant_id: str, experiment: str, limit: int
) -> list[StoredTrial]:
    """The newest trials of an experiment."""
    rows = await connection.fetch(
        """SELECT trial_hash, first_date, last_date, sharpe, method, author, create_time FROM trial
        WHERE tenant_id = $1 AND experiment = $2
        ORDER BY create_time DESC, trial_hash LIMIT $3""",
        tenant_id,
        experiment,
        limit,
    )
    return [StoredTrial(Trial(*tuple(row)[:4]), *tuple(row)[4:]) for row in rows]


async def open_locked(
    connection: asyncpg.Connection,
    tenant_id: str,
    experiment: str,
    first_date: date,
    last_date: date,
    *,
    author: str,
) -> None:
    """Records that locked sessions are looked at."""
    await connection.execute(
        """INSERT INTO locked_opening (tenant_id, opening_id, experiment, first_date, last_date,
            author) VALUES ($1, $2, $3, $4, $5, $6)""",
        tenant_id,
        uuid4(),
        experiment,
        first_date,
        last_date,
        author,
    )


async def openings(
    connection: asyncpg.Connection,
    tenant_id: str,
    experiment: str,
    first_date: date = date.min,
    last_date: date = date.max,
) -> list[LockedOpening]:
    """Openings of an experiment that share sessions with a span, the newest first."""
    rows = await connection.fetch(
        """SELECT first_date, last_date, author, create_time FROM locked_opening
        WHERE tenant_id = $1 AND experiment = $2 AND first_date <= $4 AND last_date >= $3
        ORDER BY create_time DESC, opening_id""",
        tenant_id,
        experiment,
        first_date,
        last_date,
    )
    return [LockedOpening(*row) for row in rows]
