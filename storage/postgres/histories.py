"""Histories of prices or returns: parts of a universe, added and never changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from storage.errors import FailedPrecondition
from storage.postgres.rows import missing_reference

_PART = "sequence, kind, known_time, first_time, last_time, payload"


@dataclass(frozen=True, slots=True)
class HistoryPart:
    """Observations of some instruments, in the caller's encoding, and since when they were known.

    `sequence` rises with the order of arrival.
    """

    sequence: int
    kind: str
    known_time: datetime
    first_time: datetime
    last_time: datetime
    payload: bytes


@dataclass(frozen=True, slots=True)
class HistorySummary:
    """A row of a list of universes."""

    universe_id: str
    kind: str
    n_parts: int
    n_instruments: int
    first_time: datetime
    last_time: datetime
    known_time: datetime


async def put_part(
    connection: asyncpg.Connection,
    tenant_id: str,
    universe_id: str,
    *,
    kind: str,
    known_time: datetime | None,
    first_time: datetime,
    last_time: datetime,
    instrument_id: Sequence[str],
    digest: bytes,
    payload: bytes,
) -> HistoryPart:
    """Add a part, or find the one of the same digest. Call it in a transaction.

    known_time: None for now. Errors: `FailedPrecondition` where the universe is of another kind,
    `NotFound` (the tenant).
    """
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
        f"history/{tenant_id}/{universe_id}",
    )
    stored = await connection.fetchrow(
        f"""SELECT {_PART} FROM history_part
        WHERE tenant_id = $1 AND universe_id = $2 AND digest = $3""",
        tenant_id,
        universe_id,
        digest,
    )
    if stored is not None:
        return HistoryPart(**stored)
    other = await connection.fetchval(
        """SELECT kind FROM history_part
        WHERE tenant_id = $1 AND universe_id = $2 AND kind <> $3 LIMIT 1""",
        tenant_id,
        universe_id,
        kind,
    )
    if other is not None:
        why = f"holds {other.lower()}, not {kind.lower()}"
        raise FailedPrecondition("history", universe_id, why, "OTHER_HISTORY_KIND")
    with missing_reference(tenant=tenant_id):
        row = await connection.fetchrow(
            f"""INSERT INTO history_part (tenant_id, universe_id, kind, known_time, first_time,
                last_time, instrument_id, digest, payload)
            VALUES ($1, $2, $3, coalesce($4, clock_timestamp()), $5, $6, $7, $8, $9)
            RETURNING {_PART}""",
            tenant_id,
            universe_id,
            kind,
            known_time,
            first_time,
            last_time,
            instrument_id,
            digest,
            payload,
        )
    return HistoryPart(**row)


async def parts(
    connection: asyncpg.Connection,
    tenant_id: str,
    universe_id: str,
    *,
    start_time: datetime | None = None,
    as_of_time: datetime | None = None,
    known_time: datetime | None = None,
    sequence_max: int | None = None,
) -> list[HistoryPart]:
    """The parts that reach into a span of time and were known by then, the later ones last.

    sequence_max: of the last part that had arrived; None for all.
    """
    rows = await connection.fetch(
        f"""SELECT {_PART} FROM history_part
        WHERE tenant_id = $1 AND universe_id = $2
            AND last_time >= coalesce($3, '-infinity'::timestamptz)
            AND first_time <= coalesce($4, 'infinity'::timestamptz)
            AND known_time <= coalesce($5, 'infinity'::timestamptz)
            AND sequence <= coalesce($6, sequence)
        ORDER BY known_time, sequence""",
        tenant_id,
        universe_id,
        start_time,
        as_of_time,
        known_time,
        sequence_max,
    )
    return [HistoryPart(**row) for row in rows]


async def list_universes(
    connection: asyncpg.Connection, tenant_id: str, *, after: str = "", limit: int = 100
) -> list[HistorySummary]:
    """Universes by name, those after `after`."""
    rows = await connection.fetch(
        """SELECT universe_id, min(kind) AS kind, count(*) AS n_parts,
            (SELECT count(DISTINCT name) FROM history_part AS inner_part, unnest(instrument_id) name
             WHERE inner_part.tenant_id = $1 AND inner_part.universe_id = part.universe_id)
                AS n_instruments,
            min(first_time) AS first_time, max(last_time) AS last_time,
            max(known_time) AS known_time
        FROM history_part AS part WHERE tenant_id = $1 AND universe_id > $2
        GROUP BY universe_id ORDER BY universe_id LIMIT $3""",
        tenant_id,
        after,
        limit,
    )
    return [HistorySummary(**row) for row in rows]
