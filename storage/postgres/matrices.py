"""Matrices of covariances, correlations and scenarios, each kept under its id as it was stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from storage.errors import NotFound
from storage.postgres.rows import Document, Strings, from_json, missing_reference, to_json

_COLUMNS = "matrix_id, version, kind, as_of_time, create_time, instrument_id, payload, document"


@dataclass(frozen=True, slots=True)
class MarketMatrix:
    """A correlation, factor or scenario matrix over `instrument_id`, in the caller's encoding."""

    matrix_id: str
    version: int
    kind: str
    as_of_time: datetime
    create_time: datetime
    instrument_id: Strings
    payload: bytes
    document: Document


async def put(
    connection: asyncpg.Connection,
    tenant_id: str,
    matrix_id: str,
    *,
    kind: str,
    as_of_time: datetime,
    instrument_id: Sequence[str],
    payload: bytes,
    document: Document,
    universe_id: str = "",
) -> MarketMatrix:
    """Add the next version of a matrix, counted from 1. Call it in a transaction.

    Errors: `NotFound` (the tenant).
    """
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"matrix/{tenant_id}/{matrix_id}"
    )
    with missing_reference(tenant=tenant_id):
        row = await connection.fetchrow(
            """INSERT INTO market_matrix (tenant_id, matrix_id, version, kind, as_of_time,
                instrument_id, payload, document, universe_id)
            SELECT $1, $2, coalesce(max(version), 0) + 1, $3, $4, $5, $6, $7, $8
            FROM market_matrix WHERE tenant_id = $1 AND matrix_id = $2
            RETURNING version, create_time""",
            tenant_id,
            matrix_id,
            kind,
            as_of_time,
            instrument_id,
            payload,
            to_json(document),
            universe_id,
        )
    return MarketMatrix(
        matrix_id=matrix_id,
        version=row["version"],
        kind=kind,
        as_of_time=as_of_time,
        create_time=row["create_time"],
        instrument_id=tuple(instrument_id),
        payload=payload,
        document=document,
    )


async def get(
    connection: asyncpg.Connection, tenant_id: str, matrix_id: str, *, version: int | None = None
) -> MarketMatrix:
    """The given version of a matrix, None for the newest. Errors: `NotFound`."""
    row = await connection.fetchrow(
        f"""SELECT {_COLUMNS} FROM market_matrix
        WHERE tenant_id = $1 AND matrix_id = $2 AND version = coalesce($3, version)
        ORDER BY version DESC LIMIT 1""",
        tenant_id,
        matrix_id,
        version,
    )
    if row is None:
        id = matrix_id if version is None else f"{matrix_id}@{version}"
        raise NotFound("matrix", id)
    columns = {**row, "document": from_json(row["document"])}
    return MarketMatrix(**{**columns, "instrument_id": tuple(row["instrument_id"])})


async def latest_id(
    connection: asyncpg.Connection,
    tenant_id: str,
    universe_id: str,
    kinds: Sequence[str],
    *,
    time: datetime | None = None,
) -> str:
    """Id of the universe's matrix of the latest as-of time among `kinds`, up to `time`.

    Of several of one time the last to arrive counts. Errors: `NotFound` if there is none.
    """
    row = await connection.fetchval(
        """SELECT matrix_id FROM market_matrix
        WHERE tenant_id = $1 AND universe_id = $2 AND kind = ANY ($3)
            AND as_of_time <= coalesce($4, 'infinity'::timestamptz)
        ORDER BY as_of_time DESC, create_time DESC LIMIT 1""",
        tenant_id,
        universe_id,
        kinds,
        time,
    )
    if row is None:
        raise NotFound("matrix of universe", universe_id)
    return str(row)
