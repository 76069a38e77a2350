"""Market snapshots: written once, referred to by id, never changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from storage.errors import AlreadyExists, NotFound
from storage.postgres.rows import Strings, missing_reference

_SNAPSHOT = "snapshot_id, sequence, as_of_time, create_time, instrument_id, payload, universe_id"


@dataclass(frozen=True, slots=True)
class MarketSnapshot:
    """Prices and the like of `instrument_id`, in the caller's encoding, as of one time.

    `sequence` rises with the order of arrival. `universe_id`: "" for the one without a name.
    """

    snapshot_id: str
    sequence: int
    as_of_time: datetime
    create_time: datetime
    instrument_id: Strings
    payload: bytes
    universe_id: str


@dataclass(frozen=True, slots=True)
class SnapshotSummary:
    """A row of a list of snapshots."""

    snapshot_id: str
    sequence: int
    as_of_time: datetime
    n_instruments: int
    universe_id: str


async def put_snapshot(
    connection: asyncpg.Connection,
    tenant_id: str,
    snapshot_id: str,
    *,
    as_of_time: datetime,
    instrument_id: Sequence[str],
    payload: bytes,
    has_bars: bool = False,
    universe_id: str = "",
) -> MarketSnapshot:
    """Errors: `AlreadyExists`, `NotFound` (the tenant)."""
    with missing_reference(tenant=tenant_id):
        row = await connection.fetchrow(
            """INSERT INTO market_snapshot
                (tenant_id, snapshot_id, as_of_time, n_instruments, instrument_id, payload,
                    has_bars, universe_id)
            VALUES ($1, $2, $3, cardinality($4::text[]), $4, $5, $6, $7) ON CONFLICT DO NOTHING
            RETURNING sequence, create_time""",
            tenant_id,
            snapshot_id,
            as_of_time,
            instrument_id,
            payload,
            has_bars,
            universe_id,
        )
    if row is None:
        raise AlreadyExists("market snapshot", snapshot_id)
    return MarketSnapshot(
        snapshot_id,
        row["sequence"],
        as_of_time,
        row["create_time"],
        tuple(instrument_id),
        payload,
        universe_id,
    )


async def get_snapshot(
    connection: asyncpg.Connection, tenant_id: str, snapshot_id: str
) -> MarketSnapshot:
    """Errors: `NotFound`."""
    row = await connection.fetchrow(
        f"SELECT {_SNAPSHOT} FROM market_snapshot WHERE tenant_id = $1 AND snapshot_id = $2",
        tenant_id,
        snapshot_id,
    )
    if row is None:
        raise NotFound("market snapshot", snapshot_id)
    return _snapshot(row)


async def latest_snapshot(
    connection: asyncpg.Connection,
    tenant_id: str,
    universe_id: str,
    *,
    time: datetime | None = None,
) -> MarketSnapshot:
    """The universe's snapshot of the latest as-of time (the last to arrive of several), to `time`.

    Errors: `NotFound` if there is none.
    """
    row = await connection.fetchrow(
        f"""SELECT {_SNAPSHOT} FROM market_snapshot
        WHERE tenant_id = $1 AND universe_id = $2
            AND as_of_time <= coalesce($3, 'infinity'::timestamptz)
        ORDER BY as_of_time DESC, sequence DESC LIMIT 1""",
        tenant_id,
        universe_id,
        time,
    )
    if row is None:
        raise _none_of(universe_id, time)
    return _snapshot(row)


async def latest_id(connection: asyncpg.Connection, tenant_id: str, universe_id: str) -> str:
    """The id of `latest_snapshot`. Errors: `NotFound` if there is none."""
    found = await connection.fetchval(
        """SELECT snapshot_id FROM market_snapshot WHERE tenant_id = $1 AND universe_id = $2
        ORDER BY as_of_time DESC, sequence DESC LIMIT 1""",
        tenant_id,
        universe_id,
    )
    if found is None:
        raise _none_of(universe_id)
    return str(found)


async def latest_with(
    connection: asyncpg.Connection, tenant_id: str, instrument_id: str
) -> list[MarketSnapshot]:
    """`latest_snapshot` of each universe, by universe, of those that list an instrument."""
    rows = await connection.fetch(
        f"""WITH RECURSIVE universe (id) AS (  -- one look at the index for each of them
            (SELECT universe_id FROM market_snapshot WHERE tenant_id = $1
                ORDER BY universe_id LIMIT 1)
            UNION ALL
            SELECT (SELECT universe_id FROM market_snapshot
                WHERE tenant_id = $1 AND universe_id > id ORDER BY universe_id LIMIT 1)
            FROM universe WHERE id IS NOT NULL
        )
        SELECT newest.* FROM universe CROSS JOIN LATERAL (
            SELECT {_SNAPSHOT} FROM market_snapshot WHERE tenant_id = $1 AND universe_id = id
            ORDER BY as_of_time DESC, sequence DESC LIMIT 1
        ) AS newest WHERE $2 = ANY (newest.instrument_id) ORDER BY newest.universe_id""",
        tenant_id,
        instrument_id,
    )
    return [_snapshot(row) for row in rows]


async def sampled_ids(
    connection: asyncpg.Connection,
    tenant_id: str,
    universe_id: str,
    start: datetime,
    period_s: float,
    *,
    with_bars: bool = False,
    end: datetime | None = None,
) -> list[str]:
    """Of each period since 1970, UTC, and each list of instruments the first snapshot's id.

    Of a universe, as of `start` or later, and of `end` at the latest, in the order of their times,
    the first to arrive first. with_bars: of those that have them only.
    """
    rows = await connection.fetch(
        """SELECT snapshot_id FROM (
            SELECT DISTINCT ON (period, instruments) snapshot_id, as_of_time, sequence
            FROM (
                SELECT snapshot_id, as_of_time, sequence,
                    floor(extract(epoch FROM as_of_time)::float8 / $4::float8) AS period,
                    hash_array_extended(instrument_id, 0) AS instruments
                FROM market_snapshot
                WHERE tenant_id = $1 AND universe_id = $2 AND as_of_time >= $3
                    AND (has_bars OR NOT $5)
                    AND as_of_time <= coalesce($6, 'infinity'::timestamptz)
            ) AS s ORDER BY period, instruments, as_of_time, sequence
        ) AS first ORDER BY as_of_time, sequence""",
        tenant_id,
        universe_id,
        start,
        period_s,
        with_bars,
        end,
    )
    return [row["snapshot_id"] for row in rows]


async def latest_ids(
    connection: asyncpg.Connection,
    tenant_id: str,
    universe_id: str,
    times: Sequence[datetime],
    *,
    as_told: bool,
) -> list[str | None]:
    """The id of `latest_snapshot` up to each time, None where there is none.

    as_told: of those that were stored by then.
    """
    rows = await connection.fetch(
        """SELECT s.snapshot_id FROM unnest($2::timestamptz[]) WITH ORDINALITY AS k (time, number)
        LEFT JOIN LATERAL (
            SELECT snapshot_id FROM market_snapshot
            WHERE tenant_id = $1 AND universe_id = $4 AND as_of_time <= k.time
                AND (create_time <= k.time OR NOT $3)
            ORDER BY as_of_time DESC, sequence DESC LIMIT 1
        ) AS s ON true ORDER BY k.number""",
        tenant_id,
        list(times),
        as_told,
        universe_id,
    )
    return [row["snapshot_id"] for row in rows]


async def snapshots_of(
    connection: asyncpg.Connection, tenant_id: str, snapshot_ids: Sequence[str]
) -> list[MarketSnapshot]:
    """The snapshots of these ids, in the order of their times, the first to arrive first."""
    rows = await connection.fetch(
        f"""SELECT {_SNAPSHOT} FROM market_snapshot
        WHERE tenant_id = $1 AND snapshot_id = ANY ($2) ORDER BY as_of_time, sequence""",
        tenant_id,
        list(snapshot_ids),
    )
    return [_snapshot(row) for row in rows]


async def list_snapshots(
    connection: asyncpg.Connection,
    tenant_id: str,
    *,
    universe_id: str | None = None,
    before: tuple[datetime, int] | None = None,
    limit: int = 100,
) -> list[SnapshotSummary]:
    """Snapshots, the latest as-of time first (the last to arrive of several), as `latest_snapshot`.

    universe_id: None for all. before: the time and sequence of the last one of the page before.
    """
    time, sequence = before or (None, None)
    rows = await connection.fetch(
        """SELECT snapshot_id, sequence, as_of_time, n_instruments, universe_id
        FROM market_snapshot
        WHERE tenant_id = $1 AND ($2::timestamptz IS NULL OR (as_of_time, sequence) < ($2, $3))
            AND ($5::text IS NULL OR universe_id = $5)
        ORDER BY as_of_time DESC, sequence DESC LIMIT $4""",
        tenant_id,
        time,
        sequence,
        limit,
        universe_id,
    )
    return [SnapshotSummary(**row) for row in rows]


def _none_of(universe_id: str, time: datetime | None = None) -> NotFound:
    """There is no snapshot of a universe, up to a time."""
    of = f" of universe {universe_id}" if universe_id else ""
    when = "" if time is None else f" as of {time:%Y-%m-%dT%H:%M:%SZ} or before"
    return NotFound("market snapshot", f"latest{of}", f"no market snapshot{of} is stored{when}")


def _snapshot(row: asyncpg.Record) -> MarketSnapshot:
    return MarketSnapshot(**{**row, "instrument_id": tuple(row["instrument_id"])})
