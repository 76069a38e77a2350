"""Volatility models, versioned, and the state that market snapshots move.

Whoever stores a snapshot holds `share` of the tenant's models until it commits; whoever changes a
model holds them alone. So a new state has seen every snapshot, each once.
"""

from dataclasses import dataclass, fields
from datetime import datetime

import asyncpg

from storage.errors import NotFound
from storage.postgres.rows import Document, Strings, from_json, missing_reference, to_json

_STATE = """model_id, model_version, version, start_time, as_of_time, snapshot_id, bucket, periods,
    late, instrument_id, payload"""
_ENTRY = """m.document, m.author, m.reason, m.create_time, s.model_id, s.model_version, s.version,
    s.start_time, s.as_of_time, s.snapshot_id, s.bucket, s.periods, s.late, s.instrument_id,
    s.payload"""
_JOINED = """volatility_state AS s JOIN volatility_model AS m ON m.tenant_id = s.tenant_id
    AND m.model_id = s.model_id AND m.version = s.model_version"""


@dataclass(frozen=True, slots=True)
class StoredState:
    """The state of a model; `payload` in the caller's encoding, over `instrument_id`."""

    model_id: str
    model_version: int
    version: int
    start_time: datetime | None
    as_of_time: datetime | None
    snapshot_id: str
    bucket: int
    periods: int
    late: int
    instrument_id: Strings
    payload: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """A model in its newest version, with its state."""

    document: Document
    author: str
    reason: str
    create_time: datetime
    state: StoredState


async def share(connection: asyncpg.Connection, tenant_id: str) -> None:
    """Keep the tenant's models as they are until the transaction ends."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))", f"volatility/{tenant_id}"
    )


async def hold(connection: asyncpg.Connection, tenant_id: str) -> None:
    """Wait for all that `share` the tenant's models, and keep others out until the end."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"volatility/{tenant_id}"
    )


async def put_model(
    connection: asyncpg.Connection,
    tenant_id: str,
    model_id: str,
    document: Document,
    *,
    author: str,
    reason: str,
) -> tuple[int, datetime]:
    """Add a version of a model while it is held: its number and time. Errors: `NotFound`."""
    with missing_reference(tenant=tenant_id):
        row = await connection.fetchrow(
            """INSERT INTO volatility_model (tenant_id, model_id, version, document, author, reason)
            SELECT $1, $2, coalesce(max(version), 0) + 1, $3, $4, $5
            FROM volatility_model WHERE tenant_id = $1 AND model_id = $2
            RETURNING version, create_time""",
            tenant_id,
            model_id,
            to_json(document),
            author,
            reason,
        )
    return int(row["version"]), row["create_time"]


async def put_state(connection: asyncpg.Connection, tenant_id: str, state: StoredState) -> None:
    """Take the place of a model's state."""
    await connection.execute(
        f"""INSERT INTO volatility_state (tenant_id, {_STATE})
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        ON CONFLICT (tenant_id, model_id) DO UPDATE SET model_version = excluded.model_version,
            version = excluded.version, start_time = excluded.start_time,
            as_of_time = excluded.as_of_time, snapshot_id = excluded.snapshot_id,
            bucket = excluded.bucket, periods = excluded.periods, late = excluded.late,
            instrument_id = excluded.instrument_id, payload = excluded.payload""",
        tenant_id,
        *(getattr(state, item.name) for item in fields(state)),
    )


async def entries(
    connection: asyncpg.Connection, tenant_id: str, *, for_update: bool = False, limit: int = 1000
) -> list[Entry]:
    """All models with their states, by id; for_update: nobody else moves them until the end."""
    rows = await connection.fetch(
        f"""SELECT {_ENTRY} FROM {_JOINED} WHERE s.tenant_id = $1 ORDER BY s.model_id LIMIT $2
        {"FOR UPDATE OF s" if for_update else ""}""",
        tenant_id,
        limit,
    )
    return [_entry(row) for row in rows]


async def heads(connection: asyncpg.Connection, tenant_id: str) -> list[tuple[Document, int]]:
    """All models in their newest versions, by id, with the newest period of their states."""
    rows = await connection.fetch(
        f"SELECT m.document, s.bucket FROM {_JOINED} WHERE s.tenant_id = $1 ORDER BY s.model_id",
        tenant_id,
    )
    return [(from_json(row["document"]), int(row["bucket"])) for row in rows]


async def entry(connection: asyncpg.Connection, tenant_id: str, model_id: str) -> Entry:
    """One model with its state. Errors: `NotFound`."""
    row = await connection.fetchrow(
        f"SELECT {_ENTRY} FROM {_JOINED} WHERE s.tenant_id = $1 AND s.model_id = $2",
        tenant_id,
        model_id,
    )
    if row is None:
        raise NotFound("volatility model", model_id)
    return _entry(row)


def _entry(row: asyncpg.Record) -> Entry:
    state = {item.name: row[item.name] for item in fields(StoredState)}
    head = (from_json(row["document"]), row["author"], row["reason"], row["create_time"])
    return Entry(*head, StoredState(**{**state, "instrument_id": tuple(state["instrument_id"])}))
