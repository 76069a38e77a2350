"""Prices and rates of market snapshots that are not accepted, each with the last one that was."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import asyncpg


class JumpKind(StrEnum):
    """Price of an instrument or of its underlying as quoted, or exchange rate of a pair."""

    PRICE = "PRICE"
    UNDERLYING = "UNDERLYING"
    RATE = "RATE"


@dataclass(frozen=True, slots=True)
class PriceJump:
    """`name`: the instrument, or the pair as EUR/USD; `accepted_time`: of its snapshot."""

    kind: JumpKind
    name: str
    accepted: float
    accepted_time: datetime


@dataclass(frozen=True, slots=True)
class EarlierSnapshot:
    """A snapshot before another one, in the caller's encoding."""

    snapshot_id: str
    as_of_time: datetime
    payload: bytes


async def snapshot_before(
    connection: asyncpg.Connection, tenant_id: str, universe_id: str, time: datetime, back: int
) -> EarlierSnapshot | None:
    """The universe's latest snapshot up to `time`, or one `back` before it; None: there is none."""
    row = await connection.fetchrow(
        """SELECT snapshot_id, as_of_time, payload FROM market_snapshot
        WHERE tenant_id = $1 AND universe_id = $2 AND as_of_time <= $3
        ORDER BY as_of_time DESC, sequence DESC OFFSET $4 LIMIT 1""",
        tenant_id,
        universe_id,
        time,
        back,
    )
    return None if row is None else EarlierSnapshot(**row)


async def put(
    connection: asyncpg.Connection, tenant_id: str, snapshot_id: str, jumps: Sequence[PriceJump]
) -> None:
    """Store what is not accepted of a snapshot."""
    if jumps:
        await connection.execute(
            """INSERT INTO price_jump (tenant_id, snapshot_id, kind, name, accepted, accepted_time)
            SELECT $1, $2, *
            FROM unnest($3::text[], $4::text[], $5::float8[], $6::timestamptz[])""",
            tenant_id,
            snapshot_id,
            [jump.kind for jump in jumps],
            [jump.name for jump in jumps],
            [jump.accepted for jump in jumps],
            [jump.accepted_time for jump in jumps],
        )


async def of_snapshot(
    connection: asyncpg.Connection, tenant_id: str, snapshot_id: str
) -> list[PriceJump]:
    """What is not accepted of a snapshot, prices first, by name."""
    rows = await connection.fetch(
        """SELECT kind, name, accepted, accepted_time FROM price_jump
        WHERE tenant_id = $1 AND snapshot_id = $2 ORDER BY kind, name""",
        tenant_id,
        snapshot_id,
    )
    return [PriceJump(JumpKind(row["kind"]), *list(row)[1:]) for row in rows]


async def accept(
    connection: asyncpg.Connection,
    tenant_id: str,
    snapshot_id: str,
    names: Sequence[str] | None = None,
) -> bool:
    """Accept the prices and rates of a snapshot, or the named ones; whether there was one."""
    done = await connection.execute(
        """DELETE FROM price_jump WHERE tenant_id = $1 AND snapshot_id = $2
            AND ($3::text[] IS NULL OR name = ANY ($3))""",
        tenant_id,
        snapshot_id,
        names,
    )
    return str(done) != "DELETE 0"
