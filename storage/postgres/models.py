"""Learned models: documents that never change, with the stages they come to and their scores."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from storage.errors import AlreadyExists, FailedPrecondition, NotFound
from storage.postgres.rows import missing_reference

MODEL = """m.model_id, m.author, m.create_time, m.document, m.hash, m.details, m.details_hash,
    m.schedule_id,
    (SELECT stage FROM model_stage AS s WHERE (s.tenant_id, s.model_id) = (m.tenant_id, m.model_id)
     ORDER BY sequence DESC LIMIT 1) AS stage"""
"""Columns of a `StoredModel` of the table `m`."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model where it is now; `details` in the caller's encoding.

    hash, details_hash: SHA-256 of document and details, as they were when they were stored.
    """

    model_id: str
    author: str
    create_time: datetime
    document: str
    hash: bytes
    details: bytes
    details_hash: bytes
    schedule_id: str
    stage: str


@dataclass(frozen=True, slots=True)
class StageChange:
    """A stage that a model came to."""

    stage: str
    author: str
    reason: str
    create_time: datetime


async def put(
    connection: asyncpg.Connection,
    tenant_id: str,
    model_id: str,
    *,
    author: str,
    document: str,
    digest: bytes,
    details: bytes,
    schedule_id: str = "",
) -> StoredModel:
    """Add a candidate, a version of a schedule or not. Call it in a transaction.

    Errors: `AlreadyExists`, `NotFound` (tenant).
    """
    with missing_reference(tenant=tenant_id):
        added = await connection.fetchval(
            """INSERT INTO model
                (tenant_id, model_id, author, document, hash, details, schedule_id)
            VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING model_id""",
            tenant_id,
            model_id,
            author,
            document,
            digest,
            details,
            schedule_id,
        )
    if added is None:
        raise AlreadyExists("model", model_id)
    await move(connection, tenant_id, model_id, "CANDIDATE", author=author, reason="trained")
    return await get(connection, tenant_id, model_id)


async def get(connection: asyncpg.Connection, tenant_id: str, model_id: str) -> StoredModel:
    """Errors: `NotFound`."""
    row = await connection.fetchrow(
        f"SELECT {MODEL} FROM model AS m WHERE tenant_id = $1 AND model_id = $2",
        tenant_id,
        model_id,
    )
    if row is None:
        raise NotFound("model", model_id)
    return StoredModel(**row)


async def lock(connection: asyncpg.Connection, tenant_id: str, model_id: str) -> StoredModel:
    """The same, and nobody else moves or scores it until the transaction ends."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"model/{tenant_id}/{model_id}"
    )
    return await get(connection, tenant_id, model_id)


async def list_page(
    connection: asyncpg.Connection, tenant_id: str, *, stage: str | None, after: str, limit: int
) -> list[StoredModel]:
    """Models by id, those after `after`; of one stage, or of any."""
    rows = await connection.fetch(
        f"""SELECT * FROM (SELECT {MODEL} FROM model AS m
            WHERE tenant_id = $1 AND model_id > $2) AS found
        WHERE stage = coalesce($3, stage) ORDER BY model_id LIMIT $4""",
        tenant_id,
        after,
        stage,
        limit,
    )
    return [StoredModel(**row) for row in rows]


async def stage_of(connection: asyncpg.Connection, tenant_id: str, model_id: str) -> str:
    """Where a model is now. Errors: `NotFound`."""
    stage: str | None = await connection.fetchval(
        """SELECT stage FROM model_stage WHERE tenant_id = $1 AND model_id = $2
        ORDER BY sequence DESC LIMIT 1""",
        tenant_id,
        model_id,
    )
    if stage is None:
        raise NotFound("model", model_id)
    return stage


async def move(
    connection: asyncpg.Connection,
    tenant_id: str,
    model_id: str,
    stage: str,
    *,
    author: str,
    reason: str,
) -> StageChange:
    """Add a stage after those before. Call it with the model locked."""
    row = await connection.fetchrow(
        """INSERT INTO model_stage (tenant_id, model_id, sequence, stage, author, reason)
        SELECT $1, $2, count(*) + 1, $3, $4, $5 FROM model_stage
        WHERE tenant_id = $1 AND model_id = $2
        RETURNING stage, author, reason, create_time""",
        tenant_id,
        model_id,
        stage,
        author,
        reason,
    )
    return StageChange(**row)


async def stages(
    connection: asyncpg.Connection, tenant_id: str, model_id: str
) -> list[StageChange]:
    """All stages of a model, the first first."""
    rows = await connection.fetch(
        """SELECT stage, author, reason, create_time FROM model_stage
        WHERE tenant_id = $1 AND model_id = $2 ORDER BY sequence""",
        tenant_id,
        model_id,
    )
    return [StageChange(**row) for row in rows]


async def add_score(
    connection: asyncpg.Connection,
    tenant_id: str,
    model_id: str,
    *,
    author: str,
    payload: bytes,
    is_unbounded: bool,
) -> None:
    """Add scored bets after those before. Call it with the model locked.

    is_unbounded: whether after them the intervals of the model have no bounds.
    """
    await connection.execute(
        """INSERT INTO model_score (tenant_id, model_id, sequence, author, payload, is_unbounded)
        SELECT $1, $2, count(*) + 1, $3, $4, $5 FROM model_score
        WHERE tenant_id = $1 AND model_id = $2""",
        tenant_id,
        model_id,
        author,
        payload,
        is_unbounded,
    )


async def is_unbounded(connection: asyncpg.Connection, tenant_id: str, model_id: str) -> bool:
    """Whether the intervals of a model have no bounds, by its last score."""
    return bool(
        await connection.fetchval(
            """SELECT is_unbounded FROM model_score WHERE tenant_id = $1 AND model_id = $2
            ORDER BY sequence DESC LIMIT 1""",
            tenant_id,
            model_id,
        )
    )


async def scores(connection: asyncpg.Connection, tenant_id: str, model_id: str) -> list[bytes]:
    """All scored bets of a model, the first first.

    Errors: `FailedPrecondition` (MODEL_CORRUPT) where they are not what was stored.
    """
    rows = await connection.fetch(
        """SELECT payload, payload_hash FROM model_score WHERE tenant_id = $1 AND model_id = $2
        ORDER BY sequence""",
        tenant_id,
        model_id,
    )
    for row in rows:
        if hashlib.sha256(row["payload"]).digest() != row["payload_hash"]:
            why = "bets that it was scored on are not what was stored"
            raise FailedPrecondition("model", model_id, why, "MODEL_CORRUPT")
    return [row["payload"] for row in rows]
