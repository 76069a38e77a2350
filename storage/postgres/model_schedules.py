"""Schedules of models: what is trained when, by whom it is worked on, and the versions it has."""

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from storage.errors import AlreadyExists, NotFound
from storage.postgres import audit, models
from storage.postgres.models import StoredModel
from storage.postgres.rows import missing_reference

_COLUMNS = """s.tenant_id, s.schedule_id, s.universe_id, s.document, s.author, s.update_time,
    s.train_time, s.trained_parts, s.scored_parts, s.failure, s.warned_model_id"""


@dataclass(frozen=True, slots=True)
class StoredSchedule:
    """A schedule; `document` in the caller's encoding. *_parts: parts of the history that the last
    version was trained on, and that versions were scored on."""

    tenant_id: str
    schedule_id: str
    universe_id: str
    document: bytes
    author: str
    update_time: datetime
    train_time: datetime
    trained_parts: int
    scored_parts: int
    failure: str
    warned_model_id: str


async def put(
    connection: asyncpg.Connection,
    tenant_id: str,
    schedule_id: str,
    *,
    universe_id: str,
    document: bytes,
    author: str,
    train_time: datetime,
) -> StoredSchedule:
    """A schedule in the place of an earlier one. Call it in a transaction.

    Trained next at `train_time`, with the closes there are then. Errors: `AlreadyExists` (a model
    of that id), `NotFound` (the tenant).
    """
    await lock(connection, tenant_id, schedule_id)
    taken = "SELECT EXISTS (SELECT FROM model WHERE tenant_id = $1 AND model_id = $2)"
    if await connection.fetchval(taken, tenant_id, schedule_id):
        raise AlreadyExists("model", schedule_id)
    with missing_reference(tenant=tenant_id):
        await connection.execute(
            """INSERT INTO model_schedule
                (tenant_id, schedule_id, universe_id, document, author, train_time)
            VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT (tenant_id, schedule_id) DO UPDATE SET universe_id = EXCLUDED.universe_id,
                document = EXCLUDED.document, author = EXCLUDED.author,
                train_time = EXCLUDED.train_time, update_time = clock_timestamp(),
                trained_parts = 0, scored_parts = 0, failure = '', claim_time = NULL""",
            tenant_id,
            schedule_id,
            universe_id,
            document,
            author,
            train_time,
        )
    return await get(connection, tenant_id, schedule_id)


async def get(connection: asyncpg.Connection, tenant_id: str, schedule_id: str) -> StoredSchedule:
    """Errors: `NotFound`."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM model_schedule AS s WHERE tenant_id = $1 AND schedule_id = $2",
        tenant_id,
        schedule_id,
    )
    if row is None:
        raise NotFound("model schedule", schedule_id)
    return StoredSchedule(**row)


async def of_tenant(
    connection: asyncpg.Connection, tenant_id: str, limit: int
) -> list[StoredSchedule]:
    """By id."""
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS} FROM model_schedule AS s
        WHERE tenant_id = $1 ORDER BY schedule_id LIMIT $2""",
        tenant_id,
        limit,
    )
    return [StoredSchedule(**row) for row in rows]


async def remove(
    connection: asyncpg.Connection, tenant_id: str, schedule_id: str, *, author: str
) -> None:
    """Call it in a transaction. Errors: `NotFound`."""
    await audit.name_author(connection, author)
    gone = await connection.fetchval(
        """DELETE FROM model_schedule WHERE tenant_id = $1 AND schedule_id = $2
        RETURNING schedule_id""",
        tenant_id,
        schedule_id,
    )
    if gone is None:
        raise NotFound("model schedule", schedule_id)


async def lock(connection: asyncpg.Connection, tenant_id: str, schedule_id: str) -> None:
    """Nobody else moves versions of the schedule until the transaction ends."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"model/{tenant_id}/{schedule_id}"
    )


async def lock_model(connection: asyncpg.Connection, tenant_id: str, model_id: str) -> StoredModel:
    """A model that nobody else moves or scores until the transaction ends, nor its other versions.

    Errors: `NotFound`.
    """
    found = await models.get(connection, tenant_id, model_id)
    if found.schedule_id:  # always first, so that nobody waits for each other
        await lock(connection, tenant_id, found.schedule_id)
    return await models.lock(connection, tenant_id, model_id)


_DUE = """FROM model_schedule AS d CROSS JOIN LATERAL (
        SELECT count(*) AS parts FROM history_part AS part
        WHERE (part.tenant_id, part.universe_id) = (d.tenant_id, d.universe_id)
    ) AS history
    WHERE coalesce(claim_time, '-infinity') <= $1 AND (train_time <= $1 OR scored_parts < parts)"""


async def tenants_due(connection: asyncpg.Connection, now: datetime) -> list[str]:
    """The tenants with schedules to be trained or scored."""
    rows = await connection.fetch(f"SELECT DISTINCT tenant_id {_DUE}", now)
    return [row["tenant_id"] for row in rows]


async def claim_due(
    connection: asyncpg.Connection, tenant_id: str, now: datetime, until: datetime
) -> tuple[StoredSchedule, int] | None:
    """One to be trained or scored, and how many parts its history has; nobody else gets it `until`.

    Trained when its time has come, scored when the history has moved.
    """
    row = await connection.fetchrow(
        f"""WITH due AS (
            SELECT d.tenant_id, d.schedule_id, parts {_DUE} AND d.tenant_id = $3
            ORDER BY claim_time NULLS FIRST LIMIT 1 FOR UPDATE OF d SKIP LOCKED
        )
        UPDATE model_schedule AS s SET claim_time = $2 FROM due
        WHERE (s.tenant_id, s.schedule_id) = (due.tenant_id, due.schedule_id)
        RETURNING {_COLUMNS}, due.parts""",
        now,
        until,
        tenant_id,
    )
    if row is None:
        return None
    fields = dict(row)
    parts = fields.pop("parts")
    return StoredSchedule(**fields), parts


async def done(
    connection: asyncpg.Connection,
    schedule: StoredSchedule,
    *,
    now: datetime,
    train_time: datetime,
    trained_parts: int,
    scored_parts: int,
    failure: str,
) -> None:
    """What came of it. A schedule that was set anew meanwhile begins anew."""
    await connection.execute(
        """UPDATE model_schedule SET claim_time = $3, train_time = $4, trained_parts = $5,
            scored_parts = $6, failure = $7
        WHERE tenant_id = $1 AND schedule_id = $2 AND update_time = $8""",
        schedule.tenant_id,
        schedule.schedule_id,
        now,
        train_time,
        trained_parts,
        scored_parts,
        failure,
        schedule.update_time,
    )


async def warned(connection: asyncpg.Connection, schedule: StoredSchedule, model_id: str) -> bool:
    """Notes that a version's lost edge is told; False where it was before."""
    changed = await connection.fetchval(
        """UPDATE model_schedule SET warned_model_id = $3
        WHERE tenant_id = $1 AND schedule_id = $2 AND warned_model_id <> $3
        RETURNING schedule_id""",
        schedule.tenant_id,
        schedule.schedule_id,
        model_id,
    )
    return changed is not None


async def versions(
    connection: asyncpg.Connection, tenant_id: str, schedule_id: str
) -> list[StoredModel]:
    """The versions that are not retired, the newest first."""
    rows = await connection.fetch(
        f"""SELECT * FROM (SELECT {models.MODEL} FROM model AS m
            WHERE tenant_id = $1 AND schedule_id = $2) AS found
        WHERE stage <> 'RETIRED' ORDER BY create_time DESC, model_id DESC""",
        tenant_id,
        schedule_id,
    )
    return [StoredModel(**row) for row in rows]


async def newest(connection: asyncpg.Connection, tenant_id: str, schedule_id: str) -> str:
    """Id of the version trained last; empty where there is none."""
    found: str | None = await connection.fetchval(
        """SELECT model_id FROM model WHERE tenant_id = $1 AND schedule_id = $2
        ORDER BY create_time DESC, model_id DESC LIMIT 1""",
        tenant_id,
        schedule_id,
    )
    return found or ""


async def current(connection: asyncpg.Connection, tenant_id: str, name: str) -> tuple[str, str]:
    """The model that a name stands for, and its stage: of a schedule its live version, or no model
    and no stage where none is live. Errors: `NotFound`."""
    try:
        return name, await models.stage_of(connection, tenant_id, name)
    except NotFound:
        is_schedule = await connection.fetchval(
            """SELECT EXISTS (SELECT FROM model_schedule
            WHERE tenant_id = $1 AND schedule_id = $2)""",
            tenant_id,
            name,
        )
        if not is_schedule:
            raise
    for version in await versions(connection, tenant_id, name):
        if version.stage == "LIVE":
            return version.model_id, version.stage
    return "", ""


async def was_live(connection: asyncpg.Connection, tenant_id: str, model_id: str) -> bool:
    """Whether a model has ever been live."""
    return bool(
        await connection.fetchval(
            """SELECT EXISTS (SELECT FROM model_stage
            WHERE tenant_id = $1 AND model_id = $2 AND stage = 'LIVE')""",
            tenant_id,
            model_id,
        )
    )
