"""Keys of programs, by their hash, and blocked callers."""

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from storage.errors import NotFound
from storage.postgres.rows import Strings, missing_reference

_KEY = """tenant_id, key_id, hash, subject, scopes, portfolios, expire_time, create_time, author,
    revoke_time"""
_BLOCK = "tenant_id, subject, until, author, reason, create_time"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key: `hash` is the SHA-256 of all of it. `revoke_time` None: not revoked."""

    tenant_id: str
    key_id: str
    hash: bytes
    subject: str
    scopes: Strings
    portfolios: Strings
    expire_time: datetime
    create_time: datetime
    author: str
    revoke_time: datetime | None


@dataclass(frozen=True, slots=True)
class Block:
    """Until when a subject of a tenant is not let in, and who decided so."""

    tenant_id: str
    subject: str
    until: datetime
    author: str
    reason: str
    create_time: datetime


async def create_key(
    connection: asyncpg.Connection,
    tenant_id: str,
    key_id: str,
    *,
    hash: bytes,
    subject: str,
    scopes: Strings,
    portfolios: Strings,
    expire_time: datetime,
    author: str,
) -> ApiKey:
    """A new key. Errors: `NotFound` (the tenant)."""
    with missing_reference(tenant=tenant_id):
        row = await connection.fetchrow(
            f"""INSERT INTO api_key (tenant_id, key_id, hash, subject, scopes, portfolios,
                expire_time, author)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING {_KEY}""",
            tenant_id,
            key_id,
            hash,
            subject,
            list(scopes),
            list(portfolios),
            expire_time,
            author,
        )
    return _key(row)


async def revoke_key(connection: asyncpg.Connection, tenant_id: str, key_id: str) -> ApiKey:
    """The key, revoked; one that was keeps its time. Errors: `NotFound`."""
    row = await connection.fetchrow(
        f"""UPDATE api_key SET revoke_time = coalesce(revoke_time, now())
        WHERE tenant_id = $1 AND key_id = $2 RETURNING {_KEY}""",
        tenant_id,
        key_id,
    )
    if row is None:
        raise NotFound("api key", key_id)
    return _key(row)


async def list_keys(connection: asyncpg.Connection, tenant_id: str) -> list[ApiKey]:
    """All keys of a tenant, the newest first."""
    rows = await connection.fetch(
        f"SELECT {_KEY} FROM api_key WHERE tenant_id = $1 ORDER BY create_time DESC, key_id",
        tenant_id,
    )
    return [_key(row) for row in rows]


async def block(
    connection: asyncpg.Connection,
    tenant_id: str,
    subject: str,
    *,
    until: datetime,
    author: str,
    reason: str,
) -> None:
    """Lets a subject in no more until then; an earlier block of it is replaced.

    A time that has passed ends a block. Errors: `NotFound` (the tenant).
    """
    with missing_reference(tenant=tenant_id):
        await connection.execute(
            """INSERT INTO identity_block (tenant_id, subject, until, author, reason)
            VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tenant_id, subject) DO UPDATE
            SET until = $3, author = $4, reason = $5, create_time = now()""",
            tenant_id,
            subject,
            until,
            author,
            reason,
        )


async def valid_keys(connection: asyncpg.Connection) -> list[ApiKey]:
    """The keys of all tenants that are neither revoked nor expired."""
    rows = await connection.fetch(
        f"SELECT {_KEY} FROM api_key WHERE revoke_time IS NULL AND expire_time > now()"
    )
    return [_key(row) for row in rows]


async def blocks(connection: asyncpg.Connection) -> list[Block]:
    """The blocks of all tenants that have not ended."""
    rows = await connection.fetch(f"SELECT {_BLOCK} FROM identity_block WHERE until > now()")
    return [Block(**row) for row in rows]


async def tenant_ids(connection: asyncpg.Connection) -> frozenset[str]:
    """All tenants."""
    rows = await connection.fetch("SELECT tenant_id FROM tenant")
    return frozenset(row["tenant_id"] for row in rows)


def _key(row: asyncpg.Record) -> ApiKey:
    lists = {name: tuple(row[name]) for name in ("scopes", "portfolios")}
    return ApiKey(**{**dict(row), **lists})
