"""Matrices that are estimated again when the history of their universe moves."""

from dataclasses import dataclass
from datetime import datetime

import asyncpg

_COLUMNS = """universe_id, kind, request, history_parts, matrix_id, failure, update_time"""


@dataclass(frozen=True, slots=True)
class MatrixRefresh:
    """How a matrix is estimated, and how far that has come.

    history_parts: that had been stored when it was looked at. failure: of the last
    attempt, empty where it went well.
    """

    universe_id: str
    kind: str
    request: bytes
    history_parts: int
    matrix_id: str
    failure: str
    update_time: datetime


async def put(
    connection: asyncpg.Connection,
    tenant_id: str,
    universe_id: str,
    kind: str,
    *,
    request: bytes,
    history_parts: int,
    matrix_id: str,
) -> None:
    """Estimate again from now on, in this way; in the place of an earlier way."""
    await connection.execute(
        """INSERT INTO matrix_refresh
            (tenant_id, universe_id, kind, request, history_parts, matrix_id)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (tenant_id, universe_id, kind) DO UPDATE SET request = EXCLUDED.request,
            history_parts = EXCLUDED.history_parts, matrix_id = EXCLUDED.matrix_id,
            failure = '', update_time = clock_timestamp()""",
        tenant_id,
        universe_id,
        kind,
        request,
        history_parts,
        matrix_id,
    )


async def history_parts(connection: asyncpg.Connection, tenant_id: str, universe_id: str) -> int:
    """Parts of the history that are stored; they are never taken away."""
    count: int = await connection.fetchval(
        "SELECT count(*) FROM history_part WHERE tenant_id = $1 AND universe_id = $2",
        tenant_id,
        universe_id,
    )
    return count


async def remove(
    connection: asyncpg.Connection, tenant_id: str, universe_id: str, kind: str
) -> None:
    """Estimate no more; no error where it wasn't."""
    await connection.execute(
        "DELETE FROM matrix_refresh WHERE tenant_id = $1 AND universe_id = $2 AND kind = $3",
        tenant_id,
        universe_id,
        kind,
    )


async def of_tenant(connection: asyncpg.Connection, tenant_id: str) -> list[MatrixRefresh]:
    """All of a tenant, by universe and kind."""
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS} FROM matrix_refresh WHERE tenant_id = $1
        ORDER BY universe_id, kind""",
        tenant_id,
    )
    return [MatrixRefresh(**row) for row in rows]


_DUE = """
        FROM matrix_refresh AS refresh
        CROSS JOIN LATERAL (
            SELECT count(*) AS parts_now FROM history_part AS part
            WHERE part.tenant_id = refresh.tenant_id AND part.universe_id = refresh.universe_id
        ) AS history
        WHERE parts_now > history_parts"""


async def tenants_due(connection: asyncpg.Connection) -> list[str]:
    """The tenants with matrices whose history has moved."""
    rows = await connection.fetch(f"SELECT DISTINCT tenant_id {_DUE}")
    return [row["tenant_id"] for row in rows]


async def claim_due(
    connection: asyncpg.Connection, tenant_id: str, work_s: float
) -> tuple[MatrixRefresh, int] | None:
    """One of a tenant whose history has moved, and how many parts the history has now.

    Its row is locked until the transaction ends, which may be idle for `work_s` meanwhile; those
    that others are at are passed over.
    """
    # An estimate of many names takes longer than a session may be idle in a transaction.
    timeout = f"{1000.0 * work_s:.0f}"
    await connection.execute(
        "SELECT set_config('idle_in_transaction_session_timeout', $1, true)", timeout
    )
    row = await connection.fetchrow(
        f"""SELECT {_COLUMNS}, parts_now {_DUE} AND refresh.tenant_id = $1
        ORDER BY update_time LIMIT 1 FOR UPDATE OF refresh SKIP LOCKED""",
        tenant_id,
    )
    if row is None:
        return None
    fields = dict(row)
    parts_now = fields.pop("parts_now")
    return MatrixRefresh(**fields), parts_now


async def done(
    connection: asyncpg.Connection,
    tenant_id: str,
    refresh: MatrixRefresh,
    *,
    history_parts: int,
    matrix_id: str,
    failure: str,
) -> None:
    """What came of it; of a failure the matrix of before stays the last."""
    await connection.execute(
        """UPDATE matrix_refresh SET history_parts = $4, matrix_id = $5, failure = $6,
            update_time = clock_timestamp()
        WHERE tenant_id = $1 AND universe_id = $2 AND kind = $3""",
        tenant_id,
        refresh.universe_id,
        refresh.kind,
        history_parts,
        matrix_id or refresh.matrix_id,
        failure,
    )
