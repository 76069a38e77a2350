"""Secrets of webhooks, to be encrypted anew; `webhooks.py` writes those of new ones."""

from dataclasses import dataclass

import asyncpg


@dataclass(frozen=True, slots=True)
class StoredSecrets:
    """Of a webhook, as they are stored: the one that signs, and the one before, if any."""

    webhook_id: str
    secrets: tuple[bytes, bytes | None]


async def tenants(connection: asyncpg.Connection) -> list[str]:
    """The tenants that have webhooks, in a session of all tenants."""
    rows = await connection.fetch("SELECT DISTINCT tenant_id FROM webhook ORDER BY tenant_id")
    return [row["tenant_id"] for row in rows]


async def lock_all(connection: asyncpg.Connection, tenant_id: str) -> list[StoredSecrets]:
    """Those of a tenant, which nobody else changes until the transaction ends."""
    rows = await connection.fetch(
        """SELECT webhook_id, secret, secret_before FROM webhook WHERE tenant_id = $1
        ORDER BY webhook_id FOR UPDATE""",
        tenant_id,
    )
    return [StoredSecrets(row["webhook_id"], (row["secret"], row["secret_before"])) for row in rows]


async def put(
    connection: asyncpg.Connection,
    tenant_id: str,
    webhook_id: str,
    secret: bytes,
    before: bytes | None,
) -> None:
    """The same secrets in another encryption."""
    await connection.execute(
        """UPDATE webhook SET secret = $3, secret_before = $4
        WHERE tenant_id = $1 AND webhook_id = $2""",
        tenant_id,
        webhook_id,
        secret,
        before,
    )
