"""What a limit or a trading state applies to, and the version that changes with it."""

from dataclasses import dataclass
from enum import StrEnum

import asyncpg

from storage.errors import NotFound
from storage.postgres import changes, closing, tenant_lock
from storage.postgres.changes import Subject, SubjectKind


class ScopeKind(StrEnum):
    """Wider scopes first."""

    TENANT = "TENANT"
    GROUP = "GROUP"
    PORTFOLIO = "PORTFOLIO"
    STRATEGY = "STRATEGY"


@dataclass(frozen=True, slots=True)
class Scope:
    """`id` is empty for the tenant itself, else the id of the group, portfolio or strategy."""

    kind: ScopeKind
    id: str = ""

    def __post_init__(self) -> None:
        if (self.kind is ScopeKind.TENANT) != (self.id == ""):
            raise ValueError(f"a scope of kind {self.kind} with id {self.id!r}")


TENANT_SCOPE = Scope(ScopeKind.TENANT)

_BUMP = {
    ScopeKind.GROUP: """
        UPDATE portfolio_group SET version = version + 1
        WHERE tenant_id = $1 AND group_id = $2 RETURNING version""",
    ScopeKind.PORTFOLIO: """
        UPDATE portfolio SET version = version + 1
        WHERE tenant_id = $1 AND portfolio_id = $2 RETURNING version""",
}


def scopes_over(portfolio_id: str, group_id: str | None, strategy_id: str) -> list[Scope]:
    """The scopes whose limits and trading states apply to a portfolio, widest first."""
    scopes = [TENANT_SCOPE]
    if group_id is not None:
        scopes.append(Scope(ScopeKind.GROUP, group_id))
    scopes.append(Scope(ScopeKind.PORTFOLIO, portfolio_id))
    if strategy_id:
        scopes.append(Scope(ScopeKind.STRATEGY, strategy_id))
    return scopes


_LOCK = {
    ScopeKind.GROUP: """
        SELECT true FROM portfolio_group
        WHERE tenant_id = $1 AND group_id = $2 FOR NO KEY UPDATE""",
    ScopeKind.PORTFOLIO: """
        SELECT true FROM portfolio
        WHERE tenant_id = $1 AND portfolio_id = $2 FOR NO KEY UPDATE""",
}


async def lock(connection: asyncpg.Connection, tenant_id: str, scope: Scope) -> None:
    """Take the lock that `bump` takes, before what it changes is read. Errors: `NotFound`."""
    if scope.kind in (ScopeKind.TENANT, ScopeKind.STRATEGY):
        await tenant_lock.lock(connection, tenant_id)
    elif not await connection.fetchval(_LOCK[scope.kind], tenant_id, scope.id):
        raise NotFound(scope.kind.lower(), scope.id)


def subject_of(scope: Scope) -> Subject:
    """What a change of the scope is about."""
    return Subject(SubjectKind(scope.kind), scope.id)


async def bump(connection: asyncpg.Connection, tenant_id: str, scope: Scope) -> int:
    """Raise the version of what the scope names and return it; locks that row until commit.

    Every decision compares this version when it commits, so none computed before the change can be
    committed after it. A strategy crosses portfolios: its changes count on the tenant, see
    `changes.change`.

    Errors: `NotFound`, `FailedPrecondition` (a portfolio that is closed).
    """
    if scope.kind in (ScopeKind.TENANT, ScopeKind.STRATEGY):
        return await changes.change(connection, tenant_id, subject_of(scope))
    version = await connection.fetchval(_BUMP[scope.kind], tenant_id, scope.id)
    if version is None:
        raise NotFound(scope.kind.lower(), scope.id)
    if scope.kind is ScopeKind.PORTFOLIO:
        await closing.check_open(connection, tenant_id, scope.id)
    return int(version)
