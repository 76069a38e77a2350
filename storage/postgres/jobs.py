"""Jobs: long work that is kept until it is done, whoever works on it.

A server claims a job for a while and says again and again that it lives (`beat`). Where it doesn't,
the next one claims it, up to `ATTEMPTS_MAX` times; a claim that was lost changes nothing any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from storage.errors import AlreadyExists, NotFound
from storage.postgres.rows import missing_reference

ATTEMPTS_MAX = 3
_COLUMNS = """tenant_id, job_id, method, about, author, state, progress, attempts, create_time,
    start_time, end_time, cancel_time, failure"""


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job but for its request and answer. failure: JSON of a failed one, None of others."""

    tenant_id: str
    job_id: str
    method: str
    about: str
    author: str
    state: str
    progress: float | None
    attempts: int
    create_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    cancel_time: datetime | None
    failure: str | None

    @property
    def is_over(self) -> bool:
        """Whether nothing of it will change any more."""
        return self.end_time is not None


@dataclass(frozen=True, slots=True)
class Beat:
    """What a worker learns when it says that it lives."""

    is_mine: bool
    is_cancelled: bool


async def add(
    connection: asyncpg.Connection,
    tenant_id: str,
    job_id: str,
    *,
    method: str,
    request: bytes,
    about: str,
    author: str,
) -> StoredJob:
    """Queues a job; one of the same id and work is answered as it is.

    Errors: `AlreadyExists` (of other work), `NotFound` (the tenant).
    """
    with missing_reference(tenant=tenant_id):
        await connection.execute(
            """INSERT INTO job (tenant_id, job_id, method, request, about, author)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING""",
            tenant_id,
            job_id,
            method,
            request,
            about,
            author,
        )
    same = await connection.fetchval(
        """SELECT (method, sha256(request)) = ($3, sha256($4)) FROM job
        WHERE tenant_id = $1 AND job_id = $2""",
        tenant_id,
        job_id,
        method,
        request,
    )
    if not same:
        raise AlreadyExists("job", job_id)
    return await get(connection, tenant_id, job_id)


async def get(connection: asyncpg.Connection, tenant_id: str, job_id: str) -> StoredJob:
    """Errors: `NotFound`."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM job WHERE tenant_id = $1 AND job_id = $2", tenant_id, job_id
    )
    if row is None:
        raise NotFound("job", job_id)
    return StoredJob(**row)


async def answer(connection: asyncpg.Connection, tenant_id: str, job_id: str) -> bytes:
    """What came of a job that has succeeded, else nothing."""
    found = await connection.fetchval(
        "SELECT answer FROM job WHERE tenant_id = $1 AND job_id = $2", tenant_id, job_id
    )
    return found or b""


async def of_tenant(
    connection: asyncpg.Connection, tenant_id: str, states: Sequence[str], limit: int
) -> list[StoredJob]:
    """The newest first; states: empty for all."""
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS} FROM job
        WHERE tenant_id = $1 AND (cardinality($2::text[]) = 0 OR state = ANY ($2))
        ORDER BY create_time DESC, job_id LIMIT $3""",
        tenant_id,
        list(states),
        limit,
    )
    return [StoredJob(**row) for row in rows]


async def n_open(connection: asyncpg.Connection, tenant_id: str) -> int:
    """Jobs of a tenant that are not over."""
    found: int = await connection.fetchval(
        "SELECT count(*) FROM job WHERE tenant_id = $1 AND end_time IS NULL", tenant_id
    )
    return found


async def cancel(connection: asyncpg.Connection, tenant_id: str, job_id: str) -> StoredJob:
    """Ends a queued job, and asks for the end of one that runs. Errors: `NotFound`."""
    await connection.execute(
        """UPDATE job SET cancel_time = coalesce(cancel_time, clock_timestamp()),
            state = CASE state WHEN 'QUEUED' THEN 'CANCELLED' ELSE state END,
            end_time = CASE state WHEN 'QUEUED' THEN clock_timestamp() END
        WHERE tenant_id = $1 AND job_id = $2 AND end_time IS NULL""",
        tenant_id,
        job_id,
    )
    return await get(connection, tenant_id, job_id)


async def resume(connection: asyncpg.Connection, tenant_id: str, job_id: str) -> StoredJob:
    """Queues a job again that was cancelled or has failed; one that runs is not to be ended.

    Errors: `NotFound`.
    """
    await connection.execute(
        """UPDATE job SET cancel_time = NULL
        WHERE tenant_id = $1 AND job_id = $2 AND end_time IS NULL""",
        tenant_id,
        job_id,
    )
    await connection.execute(
        """UPDATE job SET state = 'QUEUED', cancel_time = NULL, end_time = NULL, start_time = NULL,
            failure = NULL, progress = NULL, claim_id = NULL, claim_time = NULL, attempts = 0
        WHERE tenant_id = $1 AND job_id = $2 AND state IN ('CANCELLED', 'FAILED')""",
        tenant_id,
        job_id,
    )
    return await get(connection, tenant_id, job_id)


_OPEN = """state = 'QUEUED' OR (state = 'RUNNING' AND claim_time <= $1)"""


async def tenants_waiting(connection: asyncpg.Connection, now: datetime) -> list[str]:
    """Tenants with a job that nobody works on, that of the oldest first."""
    rows = await connection.fetch(
        f"SELECT tenant_id FROM job WHERE {_OPEN} GROUP BY tenant_id ORDER BY min(create_time)", now
    )
    return [row["tenant_id"] for row in rows]


async def claim(
    connection: asyncpg.Connection,
    tenant_id: str,
    claim_id: UUID,
    *,
    now: datetime,
    until: datetime,
    failure: str,
) -> tuple[StoredJob, bytes] | None:
    """The oldest job that nobody works on, with its request; nobody else gets it `until`.

    Those begun too often have failed, with `failure`; those to be cancelled are. Call it in a
    transaction.
    """
    await connection.execute(
        f"""UPDATE job SET end_time = $1, claim_id = NULL,
            state = CASE WHEN cancel_time IS NULL THEN 'FAILED' ELSE 'CANCELLED' END,
            failure = CASE WHEN cancel_time IS NULL THEN $3 END
        WHERE tenant_id = $2 AND ({_OPEN}) AND (attempts >= $4 OR cancel_time IS NOT NULL)""",
        now,
        tenant_id,
        failure,
        ATTEMPTS_MAX,
    )
    row = await connection.fetchrow(
        f"""UPDATE job SET state = 'RUNNING', claim_id = $3, claim_time = $4, start_time = $1,
            attempts = attempts + 1, progress = NULL
        WHERE (tenant_id, job_id) = (
            SELECT tenant_id, job_id FROM job WHERE tenant_id = $2 AND ({_OPEN})
            ORDER BY create_time, job_id LIMIT 1 FOR UPDATE SKIP LOCKED
        ) RETURNING {_COLUMNS}, request""",
        now,
        tenant_id,
        claim_id,
        until,
    )
    if row is None:
        return None
    values = dict(row)
    request = values.pop("request")
    return StoredJob(**values), request


async def beat(
    connection: asyncpg.Connection,
    job: StoredJob,
    claim_id: UUID,
    *,
    until: datetime,
    progress: float | None,
) -> Beat:
    """Says that the job is worked on, and how far it is."""
    row = await connection.fetchrow(
        """UPDATE job SET claim_time = $4, progress = coalesce($5, progress)
        WHERE tenant_id = $1 AND job_id = $2 AND claim_id = $3 AND state = 'RUNNING'
        RETURNING cancel_time""",
        job.tenant_id,
        job.job_id,
        claim_id,
        until,
        progress,
    )
    return Beat(row is not None, row is not None and row["cancel_time"] is not None)


async def finish(
    connection: asyncpg.Connection,
    job: StoredJob,
    claim_id: UUID,
    state: str,
    *,
    answer: bytes | None = None,
    failure: str | None = None,
) -> bool:
    """The job is over; False where somebody else has claimed it meanwhile.

    CANCELLED: queued again where it was resumed since its worker was told to end.
    """
    found = await connection.fetchval(
        """UPDATE job SET answer = $5, failure = $6, claim_id = NULL,
            state = CASE WHEN is_wanted THEN 'QUEUED' ELSE $4 END,
            end_time = CASE WHEN NOT is_wanted THEN clock_timestamp() END,
            progress = CASE $4 WHEN 'SUCCEEDED' THEN 1.0 ELSE progress END
        FROM (SELECT $4 = 'CANCELLED' AND cancel_time IS NULL AS is_wanted FROM job
            WHERE tenant_id = $1 AND job_id = $2 FOR UPDATE) AS now
        WHERE tenant_id = $1 AND job_id = $2 AND claim_id = $3 AND state = 'RUNNING'
        RETURNING job_id""",
        job.tenant_id,
        job.job_id,
        claim_id,
        state,
        answer,
        failure,
    )
    return found is not None


async def is_claimed(connection: asyncpg.Connection, job: StoredJob, claim_id: UUID) -> bool:
    """Whether the claim still holds, and will until the end of the transaction."""
    found = await connection.fetchval(
        """SELECT true FROM job
        WHERE tenant_id = $1 AND job_id = $2 AND claim_id = $3 AND state = 'RUNNING' FOR UPDATE""",
        job.tenant_id,
        job.job_id,
        claim_id,
    )
    return found is not None


async def give_back(
    connection: asyncpg.Connection, job: StoredJob, claim_id: UUID, *, counts: bool
) -> None:
    """Queues a claimed job again; counts: whether the attempt is one of `ATTEMPTS_MAX`."""
    await connection.execute(
        """UPDATE job SET state = 'QUEUED', claim_id = NULL, claim_time = NULL, progress = NULL,
            attempts = attempts - CASE WHEN $4 THEN 0 ELSE 1 END
        WHERE tenant_id = $1 AND job_id = $2 AND claim_id = $3 AND state = 'RUNNING'""",
        job.tenant_id,
        job.job_id,
        claim_id,
        counts,
    )


async def forget(connection: asyncpg.Connection, *, before: datetime) -> None:
    """Drops jobs that were over by then, of all tenants."""
    await connection.execute("DELETE FROM job WHERE end_time < $1", before)
