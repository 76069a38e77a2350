"""Requests that changed something, and their answers byte for byte: what makes a retry safe."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from storage.errors import Archived, NotFound, RequestIdReused

RequestKey = tuple[str, UUID]  # (tenant_id, request_id)


@dataclass(frozen=True, slots=True)
class Request:
    """A request and its answer. `request_hash` (SHA-256, 32 bytes) is of the content that counts.

    Two requests of one id are the same if method and hash are; `request` itself is not compared.
    archive: where request and answer are now, both empty here; None: here.
    """

    request_id: UUID
    method: str
    request_hash: bytes
    request: bytes
    response: bytes
    archive: str | None = None

    def answer_to(self, method: str, request_hash: bytes) -> bytes:
        """The stored response, if it is to this very request.

        Errors: `RequestIdReused`; `Archived` for this very request where its answer is.
        """
        if (method, request_hash) != (self.method, self.request_hash):
            raise RequestIdReused(str(self.request_id))
        if self.archive is not None:
            raise Archived("request", str(self.request_id), self.archive)
        return self.response


async def find(connection: asyncpg.Connection, tenant_id: str, request_id: UUID) -> Request | None:
    """The request of this id, None if none was committed."""
    return (await find_many(connection, [(tenant_id, request_id)])).get((tenant_id, request_id))


async def get(connection: asyncpg.Connection, tenant_id: str, request_id: UUID) -> Request:
    """Errors: `NotFound`."""
    request = await find(connection, tenant_id, request_id)
    if request is None:
        raise NotFound("request", str(request_id))
    return request


async def lock(connection: asyncpg.Connection, tenant_id: str, request_id: UUID) -> None:
    """Nobody else puts this request until the transaction ends."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"request/{tenant_id}/{request_id}"
    )


async def put(connection: asyncpg.Connection, tenant_id: str, made: Request) -> None:
    """Keep a request with its answer. Call it with the id locked, in the transaction of its work.

    Errors: `RequestIdReused` where it was put by a call that takes no such lock.
    """
    added = await connection.fetchval(
        """INSERT INTO request (tenant_id, request_id, method, request_hash, request, response)
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING request_id""",
        tenant_id,
        made.request_id,
        made.method,
        made.request_hash,
        made.request,
        made.response,
    )
    if added is None:
        raise RequestIdReused(str(made.request_id))


async def find_many(
    connection: asyncpg.Connection, keys: Collection[RequestKey]
) -> dict[RequestKey, Request]:
    """Those of the requests that were committed."""
    rows = await connection.fetch(
        """SELECT tenant_id, request_id, method, request_hash, request, response, archive
        FROM request
        WHERE (tenant_id, request_id) IN (SELECT * FROM unnest($1::text[], $2::uuid[]))""",
        [tenant_id for tenant_id, _ in keys],
        [request_id for _, request_id in keys],
    )
    return {
        (row["tenant_id"], row["request_id"]): Request(
            row["request_id"],
            row["method"],
            row["request_hash"],
            row["request"],
            row["response"],
            row["archive"],
        )
        for row in rows
    }
