"""Webhooks: where events are posted to. What is posted is in `webhook_deliveries.py`."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from storage.errors import AlreadyExists, FailedPrecondition, NotFound
from storage.postgres import audit
from storage.postgres.rows import Strings, missing_reference

WEBHOOKS_MAX = 100
"""Of one tenant."""

_WEBHOOK = """w.tenant_id, w.webhook_id, w.url, w.topics, w.attempts_max, w.disable_time,
    w.disable_reason, w.author, w.changed_by, w.create_time,
    (SELECT count(*) FROM webhook_delivery AS d
    WHERE (d.tenant_id, d.webhook_id) = (w.tenant_id, w.webhook_id) AND d.state = 'PENDING'
    ) AS n_pending"""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook without its secrets. `disable_time` None: enabled."""

    tenant_id: str
    webhook_id: str
    url: str
    topics: Strings
    attempts_max: int
    disable_time: datetime | None
    disable_reason: str
    author: str
    changed_by: str
    create_time: datetime
    n_pending: int


async def create(
    connection: asyncpg.Connection,
    tenant_id: str,
    webhook_id: str,
    *,
    url: str,
    topics: Strings,
    attempts_max: int,
    secret: bytes,
    author: str,
) -> Webhook:
    """A new webhook. Call it in a transaction. `secret` as it is stored.

    Errors: `AlreadyExists`, `FailedPrecondition` (TOO_MANY), `NotFound` (the tenant).
    """
    with missing_reference(tenant=tenant_id):
        added = await connection.fetchval(
            """INSERT INTO webhook
                (tenant_id, webhook_id, url, topics, attempts_max, secret, author, changed_by)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $7) ON CONFLICT DO NOTHING RETURNING webhook_id""",
            tenant_id,
            webhook_id,
            url,
            list(topics),
            attempts_max,
            secret,
            author,
        )
    if added is None:
        raise AlreadyExists("webhook", webhook_id)
    count = await connection.fetchval(
        "SELECT count(*) FROM webhook WHERE tenant_id = $1", tenant_id
    )
    if count > WEBHOOKS_MAX:
        why = f"{WEBHOOKS_MAX} webhooks are registered already"
        raise FailedPrecondition("webhook", webhook_id, why, "TOO_MANY")
    return await get(connection, tenant_id, webhook_id)


async def get(connection: asyncpg.Connection, tenant_id: str, webhook_id: str) -> Webhook:
    """One webhook. Errors: `NotFound`."""
    row = await connection.fetchrow(
        f"SELECT {_WEBHOOK} FROM webhook AS w WHERE tenant_id = $1 AND webhook_id = $2",
        tenant_id,
        webhook_id,
    )
    if row is None:
        raise NotFound("webhook", webhook_id)
    return _webhook(row)


async def of_tenant(connection: asyncpg.Connection, tenant_id: str) -> list[Webhook]:
    """All of a tenant, by id."""
    rows = await connection.fetch(
        f"SELECT {_WEBHOOK} FROM webhook AS w WHERE tenant_id = $1 ORDER BY webhook_id", tenant_id
    )
    return [_webhook(row) for row in rows]


async def update(
    connection: asyncpg.Connection,
    tenant_id: str,
    webhook_id: str,
    *,
    url: str | None = None,
    topics: Strings | None = None,
    attempts_max: int | None = None,
    is_enabled: bool | None = None,
    disable_reason: str = "",
    author: str,
) -> Webhook:
    """Changes what is given. Enabling forgets failures. Errors: `NotFound`."""
    await connection.execute(
        """UPDATE webhook SET url = coalesce($3, url), topics = coalesce($4, topics),
            attempts_max = coalesce($5, attempts_max),
            disable_time = CASE WHEN $6 THEN NULL
                WHEN NOT $6 THEN coalesce(disable_time, clock_timestamp()) ELSE disable_time END,
            disable_reason = CASE WHEN $6 THEN '' WHEN NOT $6 AND disable_time IS NULL THEN $7
                ELSE disable_reason END,
            changed_by = $8
        WHERE tenant_id = $1 AND webhook_id = $2""",
        tenant_id,
        webhook_id,
        url,
        None if topics is None else list(topics),
        attempts_max,
        is_enabled,
        disable_reason,
        author,
    )
    if is_enabled:
        await connection.execute(
            """UPDATE webhook_delivery SET attempts = 0, retry_time = NULL
            WHERE tenant_id = $1 AND webhook_id = $2 AND state = 'PENDING' AND attempts > 0""",
            tenant_id,
            webhook_id,
        )
    return await get(connection, tenant_id, webhook_id)


async def rotate(
    connection: asyncpg.Connection,
    tenant_id: str,
    webhook_id: str,
    *,
    secret: bytes,
    overlap: timedelta,
    author: str,
) -> datetime:
    """A new secret, as it is stored; until when the one before signs as well.

    Errors: `NotFound`.
    """
    until: datetime | None = await connection.fetchval(
        """UPDATE webhook SET secret_before = secret, secret = $3,
            overlap_until = clock_timestamp() + $4, changed_by = $5
        WHERE tenant_id = $1 AND webhook_id = $2 RETURNING overlap_until""",
        tenant_id,
        webhook_id,
        secret,
        overlap,
        author,
    )
    if until is None:
        raise NotFound("webhook", webhook_id)
    return until


async def remove(
    connection: asyncpg.Connection, tenant_id: str, webhook_id: str, *, author: str
) -> None:
    """Removes a webhook with its deliveries. Call it in a transaction. Errors: `NotFound`."""
    await audit.name_author(connection, author)
    gone = await connection.fetchval(
        "DELETE FROM webhook WHERE tenant_id = $1 AND webhook_id = $2 RETURNING webhook_id",
        tenant_id,
        webhook_id,
    )
    if gone is None:
        raise NotFound("webhook", webhook_id)


def _webhook(row: asyncpg.Record) -> Webhook:
    return Webhook(**{**dict(row), "topics": tuple(row["topics"])})
