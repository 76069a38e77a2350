"""Trading states: the kill switch. Any scope can be ACTIVE, REDUCING or HALTED.

One number orders all changes of a tenant's trading states and its decisions: the tenant's version.
Each change raises it, and each decision carries the one it was computed at. So a decision for what
a change applies to is older than the change if its number is lower.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import asyncpg

from storage.errors import VersionConflict
from storage.postgres import changes
from storage.postgres.scopes import Scope, ScopeKind, bump, subject_of


class TradingState(StrEnum):
    """What may be sized: anything, only what reduces a position, nothing."""

    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    HALTED = "HALTED"


_STRICTNESS = list(TradingState)


@dataclass(frozen=True, slots=True)
class TradingStateChange:
    """The state of one scope since `create_time`; `version` counts the changes from 1.

    `tenant_version` is the tenant's version after the change, 0 for changes before it was noted.
    """

    scope: Scope
    version: int
    state: TradingState
    author: str
    reason: str
    create_time: datetime
    tenant_version: int
    approver: str = ""
    """Empty where nobody had to approve."""


def is_looser(new: TradingState, old: TradingState) -> bool:
    """Whether a state lets more be sized than another."""
    return _STRICTNESS.index(new) < _STRICTNESS.index(old)


def strictest(states: Iterable[TradingState]) -> TradingState:
    """The state that holds where several scopes apply; ACTIVE for none."""
    return max(states, key=_STRICTNESS.index, default=TradingState.ACTIVE)


async def put(
    connection: asyncpg.Connection,
    tenant_id: str,
    scope: Scope,
    state: TradingState,
    *,
    author: str,
    reason: str,
    approver: str = "",
    expected_version: int | None = None,
) -> TradingStateChange:
    """Set the state of a scope. Call it in a transaction.

    Once committed no decision computed under the old state can be committed: it waits for those
    being committed now, and those that come later conflict (see `scopes.bump`). A halt of the firm
    or a strategy opens its transaction by `tenant_lock.exclusively`, so as not to wait for more.
    `expected_version` is the version being replaced, 0 for none; None replaces whatever is there.

    Errors: `NotFound` (what the scope names), `VersionConflict`.
    """
    # Also takes the locks that make the next line safe. What a group's or a portfolio's state
    # forbids is found by their own versions, so the tenant's is raised without its lock.
    if scope.kind in (ScopeKind.TENANT, ScopeKind.STRATEGY):
        tenant_version = await bump(connection, tenant_id, scope)
    else:
        tenant_version = await changes.raise_version(connection, tenant_id, subject_of(scope))
        await bump(connection, tenant_id, scope)
    now = await current(connection, tenant_id, [scope])
    version = now[0].version if now else 0
    if expected_version is not None and expected_version != version:
        id = f"{scope.kind}/{scope.id}"
        raise VersionConflict("trading state", id, expected_version, version)
    row = await connection.fetchrow(
        """INSERT INTO trading_state
            (tenant_id, scope_kind, scope_id, version, state, author, reason, tenant_version,
            approver)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING *""",
        tenant_id,
        scope.kind,
        scope.id,
        version + 1,
        state,
        author,
        reason,
        tenant_version,
        approver,
    )
    return _change(row)


async def current(
    connection: asyncpg.Connection, tenant_id: str, scopes: Sequence[Scope]
) -> list[TradingStateChange]:
    """The last change of each scope that ever had one, in the order of `scopes`."""
    rows = await connection.fetch(
        """SELECT t.* FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS s (kind, id, number)
        CROSS JOIN LATERAL (
            SELECT * FROM trading_state
            WHERE tenant_id = $1 AND scope_kind = s.kind AND scope_id = s.id
            ORDER BY version DESC LIMIT 1
        ) AS t ORDER BY s.number""",
        tenant_id,
        [scope.kind for scope in scopes],
        [scope.id for scope in scopes],
    )
    return [_change(row) for row in rows]


async def cause(
    connection: asyncpg.Connection, tenant_id: str, scopes: Sequence[Scope]
) -> TradingStateChange | None:
    """The change that the strictest state of the scopes comes from, the widest scope's of several.

    None where all are ACTIVE.
    """
    changes = await current(connection, tenant_id, scopes)
    state = strictest(change.state for change in changes)
    if state is TradingState.ACTIVE:
        return None
    return next(change for change in changes if change.state is state)


async def effective(
    connection: asyncpg.Connection, tenant_id: str, scopes: Sequence[Scope]
) -> TradingState:
    """The strictest state of the scopes; ACTIVE for those that were never set."""
    return strictest(change.state for change in await current(connection, tenant_id, scopes))


async def history(
    connection: asyncpg.Connection, tenant_id: str, scope: Scope, *, limit: int = 100
) -> list[TradingStateChange]:
    """The changes of a scope, newest first, at most `limit`."""
    rows = await connection.fetch(
        """SELECT * FROM trading_state
        WHERE tenant_id = $1 AND scope_kind = $2 AND scope_id = $3
        ORDER BY version DESC LIMIT $4""",
        tenant_id,
        scope.kind,
        scope.id,
        limit,
    )
    return [_change(row) for row in rows]


def _change(row: asyncpg.Record) -> TradingStateChange:
    return TradingStateChange(
        scope=Scope(ScopeKind(row["scope_kind"]), row["scope_id"]),
        version=row["version"],
        state=TradingState(row["state"]),
        author=row["author"],
        reason=row["reason"],
        create_time=row["create_time"],
        tenant_version=row["tenant_version"],
        approver=row["approver"],
    )
