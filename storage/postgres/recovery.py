"""What a database that was restored to an earlier time takes in again.

`server/maintenance/recover.py` says what that is.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from uuid import UUID

import asyncpg

from storage.postgres import decisions, locks, requests
from storage.postgres.decisions import Decision
from storage.postgres.requests import Request
from storage.postgres.reservations import NewReservation

PARTLY_LOST = " (partly lost)"
"""What the method of a request is called whose answer is not whole: it is refused, not repeated."""
_OTHERS = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
    AND application_name LIKE 'position-sizing%'"""


async def n_servers(connection: asyncpg.Connection) -> int:
    """How many sessions servers of this service have on the database."""
    return int(await connection.fetchval(_OTHERS))


@contextlib.asynccontextmanager
async def attempt(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """What fails inside is undone, and nothing else of the transaction."""
    await connection.execute("SAVEPOINT attempt")
    try:
        yield
    except BaseException:
        await connection.execute("ROLLBACK TO SAVEPOINT attempt")
        raise
    finally:
        await connection.execute("RELEASE SAVEPOINT attempt")


async def sequences(connection: asyncpg.Connection, tenant_id: str) -> dict[str, int]:
    """Number of the last event of each portfolio, and under '' of the tenant's own stream."""
    rows = await connection.fetch(
        """SELECT portfolio_id, event_sequence FROM portfolio WHERE tenant_id = $1
        UNION ALL SELECT '', event_sequence FROM tenant_stream WHERE tenant_id = $1""",
        tenant_id,
    )
    return {row["portfolio_id"]: row["event_sequence"] for row in rows}


async def go_on(connection: asyncpg.Connection, tenant_id: str, numbers: Mapping[str, int]) -> None:
    """Streams go on after these numbers at least; '' is the tenant's own."""
    await connection.execute(
        """UPDATE portfolio AS p SET event_sequence = greatest(p.event_sequence, n.number)
        FROM unnest($2::text[], $3::int8[]) AS n (portfolio_id, number)
        WHERE p.tenant_id = $1 AND p.portfolio_id = n.portfolio_id""",
        tenant_id,
        list(numbers),
        list(numbers.values()),
    )
    await connection.execute(
        """UPDATE tenant_stream SET event_sequence = greatest(event_sequence, $2)
        WHERE tenant_id = $1""",
        tenant_id,
        numbers.get("", 0),
    )


async def put_request(connection: asyncpg.Connection, tenant_id: str, made: Request) -> None:
    """Keep a request with its answer. Errors: `RequestIdReused`."""
    await requests.put(connection, tenant_id, made)


async def enter(
    connection: asyncpg.Connection,
    tenant_id: str,
    decision: Decision,
    reservation: NewReservation | None,
    *,
    version: int,
    equity: float,
) -> None:
    """Enter a decision whose request is there, as it was committed; no event is written.

    version: of the portfolio after it; another than now in any case.
    """
    sequence = decision.portfolio_sequence
    await decisions.insert_many(connection, [(tenant_id, decision, sequence, reservation)])
    group_id = await connection.fetchval(
        """UPDATE portfolio SET equity_accepted = $3, version = greatest(version + 1, $4),
            update_time = clock_timestamp()
        WHERE tenant_id = $1 AND portfolio_id = $2 RETURNING group_id""",
        tenant_id,
        decision.portfolio_id,
        equity,
        version,
    )
    if group_id is not None:
        await locks.bump_groups(connection, [(tenant_id, group_id)])


async def version_at_least(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str, version: int
) -> None:
    """A portfolio's version is this or a later one."""
    await connection.execute(
        """UPDATE portfolio SET version = greatest(version, $3)
        WHERE tenant_id = $1 AND portfolio_id = $2""",
        tenant_id,
        portfolio_id,
        version,
    )


async def raise_version(connection: asyncpg.Connection, tenant_id: str, portfolio_id: str) -> None:
    """A portfolio has changed once more."""
    await connection.execute(
        "UPDATE portfolio SET version = version + 1 WHERE tenant_id = $1 AND portfolio_id = $2",
        tenant_id,
        portfolio_id,
    )


async def tenant_version_at_least(
    connection: asyncpg.Connection, tenant_id: str, version: int
) -> None:
    """A tenant's version, which orders decisions and trading states, is this or a later one."""
    await connection.execute(
        "UPDATE tenant SET version = greatest(version, $2) WHERE tenant_id = $1", tenant_id, version
    )


async def expire(connection: asyncpg.Connection, tenant_id: str, decision_id: UUID) -> bool:
    """End a reservation that is open; False where there is none."""
    ended = await connection.fetchval(
        """WITH ended AS (
            UPDATE reservation SET state = 'EXPIRED', update_time = clock_timestamp()
            WHERE tenant_id = $1 AND decision_id = $2 AND state = 'OPEN' RETURNING portfolio_id
        ) UPDATE portfolio SET version = version + 1
        WHERE tenant_id = $1 AND portfolio_id IN (SELECT portfolio_id FROM ended) RETURNING true""",
        tenant_id,
        decision_id,
    )
    return bool(ended)


def gaps(numbers: Sequence[int], last: int) -> list[tuple[int, int]]:
    """The spans that are missing between `last` and the highest of the numbers."""
    found = []
    for number in sorted(set(numbers)):
        if number > last + 1:
            found.append((last + 1, number - 1))
        last = max(last, number)
    return found
