"""What each change of a portfolio does beside its own rows, in one statement.

It claims the id of the request that asks, raises the version of the portfolio and writes the
events that tell of it. One statement, because each is a round trip under the portfolio's lock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from storage.postgres.locks import Key
from storage.postgres.outbox import NewEvent, columns_of, insert_sql
from storage.postgres.requests import Request, RequestKey


@dataclass(frozen=True, slots=True)
class PortfolioUpdate:
    """A portfolio that is locked, and what is told of its change.

    The events are numbered on from `last_event`. `request_id` is that of the request that asks,
    None where nobody does. `equity` is to be the accepted one, None leaves it as it is.
    """

    key: Key
    last_event: int
    events: Sequence[NewEvent]
    request_id: UUID | None = None
    equity: float | None = None


_APPLY = f"""
    WITH claimed AS (
        INSERT INTO request (tenant_id, request_id, method, request_hash, request, response)
        SELECT * FROM
            unnest($1::text[], $2::uuid[], $3::text[], $4::bytea[], $5::bytea[], $6::bytea[])
        ON CONFLICT DO NOTHING RETURNING tenant_id, request_id
    ), moved AS (
        UPDATE portfolio AS p SET version = p.version + 1,
            event_sequence = p.event_sequence + m.n_events, update_time = clock_timestamp(),
            equity_accepted = coalesce(m.equity, p.equity_accepted)
        FROM unnest($7::text[], $8::text[], $9::uuid[], $10::int8[], $11::float8[])
            AS m (tenant_id, portfolio_id, request_id, n_events, equity)
        WHERE p.tenant_id = m.tenant_id AND p.portfolio_id = m.portfolio_id
            AND (m.request_id IS NULL
                OR (m.tenant_id, m.request_id) IN (SELECT tenant_id, request_id FROM claimed))
        RETURNING p.tenant_id, p.portfolio_id
    ), told AS (
        {insert_sql(first=12)}
        WHERE (e.tenant_id, e.portfolio_id) IN (SELECT tenant_id, portfolio_id FROM moved)
        ORDER BY e.number
    )
    SELECT tenant_id, request_id FROM claimed"""


async def apply(
    connection: asyncpg.Connection,
    moves: Sequence[PortfolioUpdate],
    requests: Sequence[tuple[str, Request]] = (),
) -> set[RequestKey]:
    """Make moves, at most one a portfolio; returns the keys of the requests that were claimed.

    Of a request whose id is taken nothing is written, and the moves that name it are not made.
    Waits for another transaction that is claiming the same id; in sorted order, so that two such
    batches can't wait for each other.
    """
    ordered = sorted(requests, key=lambda pair: (pair[0], pair[1].request_id.bytes))
    events = [
        (*move.key, number, event)
        for move in moves
        for number, event in enumerate(move.events, start=move.last_event + 1)
    ]
    rows = await connection.fetch(
        _APPLY,
        [tenant_id for tenant_id, _ in ordered],
        [request.request_id for _, request in ordered],
        [request.method for _, request in ordered],
        [request.request_hash for _, request in ordered],
        [request.request for _, request in ordered],
        [request.response for _, request in ordered],
        [move.key[0] for move in moves],
        [move.key[1] for move in moves],
        [move.request_id for move in moves],
        [len(move.events) for move in moves],
        [move.equity for move in moves],
        *columns_of(events),
    )
    return {(row["tenant_id"], row["request_id"]) for row in rows}
