"""Events for webhooks: what waits for each, and what has become of it.

Events are queued by the trigger `queue_for_webhooks` of the outbox. Within a webhook, those of one
portfolio are delivered in the order of `position`; one that fails holds back its portfolio's later
ones.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from storage.errors import FailedPrecondition, NotFound
from storage.postgres.webhooks import get

_EVENT = """e.event_id, e.topic, e.portfolio_id, e.portfolio_sequence, e.type, e.schema_version,
    e.payload, e.trace_id, e.create_time"""


@dataclass(frozen=True, slots=True)
class Target:
    """What a sender has to know of an enabled webhook. `secrets`: each of them signs."""

    tenant_id: str
    webhook_id: str
    url: str
    attempts_max: int
    secrets: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class QueuedEvent:
    """An event that waits, with the number of its failures so far."""

    event_id: UUID
    topic: str
    portfolio_id: str
    portfolio_sequence: int
    type: str
    schema_version: int
    payload: bytes
    trace_id: str
    create_time: datetime
    attempts: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """What has become of an event."""

    event_id: UUID
    type: str
    topic: str
    portfolio_id: str
    portfolio_sequence: int
    state: str
    attempts: int
    last_status: int
    last_error: str
    create_time: datetime
    attempt_time: datetime | None
    retry_time: datetime | None
    position: int


async def deliveries(
    connection: asyncpg.Connection,
    tenant_id: str,
    webhook_id: str,
    *,
    state: str | None,
    before: int | None,
    limit: int,
) -> list[Delivery]:
    """The newest first, those before a position. Errors: `NotFound`."""
    await get(connection, tenant_id, webhook_id)
    rows = await connection.fetch(
        """SELECT d.event_id, e.type, e.topic, d.portfolio_id, e.portfolio_sequence, d.state,
            d.attempts, d.last_status, d.last_error, e.create_time, d.attempt_time, d.retry_time,
            d.position
        FROM webhook_delivery AS d JOIN webhook_event AS e USING (tenant_id, event_id)
        WHERE d.tenant_id = $1 AND d.webhook_id = $2 AND ($3::text IS NULL OR d.state = $3)
            AND ($4::int8 IS NULL OR d.position < $4)
        ORDER BY d.position DESC LIMIT $5""",
        tenant_id,
        webhook_id,
        state,
        before,
        limit,
    )
    return [Delivery(**row) for row in rows]


async def redeliver(
    connection: asyncpg.Connection,
    tenant_id: str,
    webhook_id: str,
    *,
    event_ids: Sequence[UUID] = (),
    since: datetime | None = None,
) -> int:
    """Queues events again: those named, or all since then; how many.

    Errors: `NotFound` (the webhook, or the first event that it has not), `FailedPrecondition`.
    """
    hook = await get(connection, tenant_id, webhook_id)
    if hook.disable_time is not None:
        raise FailedPrecondition("webhook", webhook_id, "is disabled", "WEBHOOK_DISABLED")
    rows = await connection.fetch(
        """UPDATE webhook_delivery AS d
        SET state = 'PENDING', attempts = 0, last_status = 0, last_error = '', retry_time = NULL
        FROM webhook_event AS e
        WHERE d.tenant_id = $1 AND d.webhook_id = $2
            AND (e.tenant_id, e.event_id) = (d.tenant_id, d.event_id)
            AND (d.event_id = ANY ($3::uuid[]) OR e.create_time >= $4)
        RETURNING d.event_id""",
        tenant_id,
        webhook_id,
        list(event_ids),
        since,
    )
    found = {row["event_id"] for row in rows}
    for event_id in event_ids:
        if event_id not in found:
            raise NotFound("webhook event", str(event_id))
    return len(rows)


async def due(connection: asyncpg.Connection) -> list[tuple[str, str]]:
    """Tenant and id of each enabled webhook, of all tenants, for which something waits."""
    rows = await connection.fetch(
        """SELECT tenant_id, webhook_id FROM webhook AS w
        WHERE disable_time IS NULL AND EXISTS (
            SELECT FROM webhook_delivery AS d WHERE d.state = 'PENDING'
            AND (d.tenant_id, d.webhook_id) = (w.tenant_id, w.webhook_id))"""
    )
    return [(row["tenant_id"], row["webhook_id"]) for row in rows]


async def target(connection: asyncpg.Connection, tenant_id: str, webhook_id: str) -> Target | None:
    """What a sender has to know of a webhook; None where it is not there or disabled."""
    row = await connection.fetchrow(
        """SELECT url, attempts_max, secret,
            CASE WHEN overlap_until > clock_timestamp() THEN secret_before END AS secret_before
        FROM webhook WHERE tenant_id = $1 AND webhook_id = $2 AND disable_time IS NULL""",
        tenant_id,
        webhook_id,
    )
    if row is None:
        return None
    secrets = (row[name] for name in ("secret", "secret_before") if row[name] is not None)
    return Target(tenant_id, webhook_id, row["url"], row["attempts_max"], tuple(secrets))


async def waiting(connection: asyncpg.Connection, target: Target) -> Collection[str]:
    """Portfolios whose oldest event has failed and is not to be tried yet."""
    rows = await connection.fetch(
        """SELECT DISTINCT portfolio_id FROM webhook_delivery
        WHERE tenant_id = $1 AND webhook_id = $2 AND state = 'PENDING' AND attempts > 0
            AND retry_time > clock_timestamp()""",
        target.tenant_id,
        target.webhook_id,
    )
    return [row["portfolio_id"] for row in rows]


async def oldest(
    connection: asyncpg.Connection, target: Target, *, limit: int, but: Collection[str]
) -> list[QueuedEvent]:
    """What waits longest, without the portfolios in `but`; each portfolio's in order."""
    rows = await connection.fetch(
        f"""SELECT {_EVENT}, d.attempts
        FROM webhook_delivery AS d JOIN webhook_event AS e USING (tenant_id, event_id)
        WHERE d.tenant_id = $1 AND d.webhook_id = $2 AND d.state = 'PENDING'
            AND d.portfolio_id <> ALL ($3::text[])
        ORDER BY d.position LIMIT $4""",
        target.tenant_id,
        target.webhook_id,
        list(but),
        limit,
    )
    return [QueuedEvent(**row) for row in rows]


async def note(
    connection: asyncpg.Connection,
    target: Target,
    event_id: UUID,
    *,
    status: int,
    error: str,
    retry_s: float | None,
) -> None:
    """What came of a post; `retry_s` None: it was delivered."""
    await connection.execute(
        """UPDATE webhook_delivery SET attempts = attempts + 1, last_status = $4, last_error = $5,
            attempt_time = clock_timestamp(),
            retry_time = clock_timestamp() + make_interval(secs => $6),
            state = CASE WHEN $6::float8 IS NULL THEN 'DELIVERED' ELSE 'PENDING' END
        WHERE tenant_id = $1 AND webhook_id = $2 AND event_id = $3""",
        target.tenant_id,
        target.webhook_id,
        event_id,
        status,
        error,
        retry_s,
    )


async def summary(connection: asyncpg.Connection) -> tuple[int, float]:
    """How many webhooks are enabled, and for how many seconds the oldest of their events waits."""
    row = await connection.fetchrow(
        """SELECT count(*) AS n,
            extract(epoch FROM clock_timestamp() - min(head.create_time))::float8 AS age_s
        FROM webhook AS w LEFT JOIN LATERAL (
            SELECT e.create_time FROM webhook_delivery AS d
            JOIN webhook_event AS e USING (tenant_id, event_id)
            WHERE (d.tenant_id, d.webhook_id) = (w.tenant_id, w.webhook_id) AND d.state = 'PENDING'
            ORDER BY d.position LIMIT 1
        ) AS head ON true WHERE w.disable_time IS NULL"""
    )
    return row["n"], max(0.0, row["age_s"] or 0.0)


async def forget(connection: asyncpg.Connection, *, before: datetime) -> None:
    """Drops events of before then with their deliveries, whatever has become of them."""
    await connection.execute("DELETE FROM webhook_event WHERE create_time < $1", before)
