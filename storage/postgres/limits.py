"""Limits: documents with an append-only history, one for each scope that has any."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from storage.errors import VersionConflict
from storage.postgres.rows import Document, from_json, to_json
from storage.postgres.scopes import Scope, ScopeKind, bump

_COLUMNS = "scope_kind, scope_id, version, document, author, approver, reason, create_time"


@dataclass(frozen=True, slots=True)
class LimitSet:
    """The limits of one scope at one version, counted from 1. `document` is the caller's form."""

    scope: Scope
    version: int
    document: Document
    author: str
    reason: str
    create_time: datetime
    approver: str = ""
    """Empty where nobody had to approve."""


async def put(
    connection: asyncpg.Connection,
    tenant_id: str,
    scope: Scope,
    document: Document,
    *,
    author: str,
    reason: str,
    approver: str = "",
    expected_version: int | None = None,
) -> LimitSet:
    """Replace the limits of a scope, keeping the old ones as history. Call it in a transaction.

    `expected_version` is the version being replaced, 0 for none; None replaces whatever is there.
    No decision computed under the old limits can be committed afterwards (see `scopes.bump`).

    Errors: `NotFound` (what the scope names), `VersionConflict`.
    """
    await bump(connection, tenant_id, scope)  # also takes the lock that makes the next line safe
    current = await current_version(connection, tenant_id, scope)
    if expected_version is not None and expected_version != current:
        raise VersionConflict("limits", f"{scope.kind}/{scope.id}", expected_version, current)
    row = await connection.fetchrow(
        f"""INSERT INTO limit_set
            (tenant_id, scope_kind, scope_id, version, document, author, reason, approver)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING {_COLUMNS}""",
        tenant_id,
        scope.kind,
        scope.id,
        current + 1,
        to_json(document),
        author,
        reason,
        approver,
    )
    return _limit_set(row)


async def current_version(connection: asyncpg.Connection, tenant_id: str, scope: Scope) -> int:
    """The version in force, 0 if the scope has no limits."""
    version = await connection.fetchval(
        """SELECT max(version) FROM limit_set
        WHERE tenant_id = $1 AND scope_kind = $2 AND scope_id = $3""",
        tenant_id,
        scope.kind,
        scope.id,
    )
    return int(version or 0)


async def current(
    connection: asyncpg.Connection, tenant_id: str, scopes: Sequence[Scope]
) -> list[LimitSet]:
    """The limits in force of each scope that has any, in the order of `scopes`."""
    rows = await connection.fetch(
        f"""SELECT l.* FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS s (kind, id, number)
        CROSS JOIN LATERAL (
            SELECT {_COLUMNS} FROM limit_set
            WHERE tenant_id = $1 AND scope_kind = s.kind AND scope_id = s.id
            ORDER BY version DESC LIMIT 1
        ) AS l ORDER BY s.number""",
        tenant_id,
        [scope.kind for scope in scopes],
        [scope.id for scope in scopes],
    )
    return [_limit_set(row) for row in rows]


async def history(
    connection: asyncpg.Connection,
    tenant_id: str,
    scope: Scope,
    *,
    before_version: int | None = None,
    limit: int = 100,
) -> list[LimitSet]:
    """All versions of a scope, newest first, those before `before_version`, at most `limit`."""
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS} FROM limit_set
        WHERE tenant_id = $1 AND scope_kind = $2 AND scope_id = $3
            AND ($4::int8 IS NULL OR version < $4)
        ORDER BY version DESC LIMIT $5""",
        tenant_id,
        scope.kind,
        scope.id,
        before_version,
        limit,
    )
    return [_limit_set(row) for row in rows]


def _limit_set(row: asyncpg.Record) -> LimitSet:
    return LimitSet(
        scope=Scope(ScopeKind(row["scope_kind"]), row["scope_id"]),
        version=row["version"],
        document=from_json(row["document"]),
        author=row["author"],
        reason=row["reason"],
        create_time=row["create_time"],
        approver=row["approver"],
    )
