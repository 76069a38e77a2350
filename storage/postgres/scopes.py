"""What a limit or a trading state applies to, and the version that changes with it."""

from dataclasses import dataclass
from enum import StrEnum

import asyncpg

from storage.errors import NotFound
from storage.postgres import tenant_lock


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
    ScopeKind.TENANT: """
        UPDATE tenant SET version = version + 1 WHERE tenant_id = $1 RETURNING version""",
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


async def bump(connection: asyncpg.Connection, tenant_id: str, scope: Scope) -> int:
    """Raise the version of what the scope names and return it; locks that row until commit.

    Every decision compares this version when it commits, so none computed before the change can be
    committed after it. A strategy crosses portfolios: its changes count on the tenant, whose lock
    is taken first: waits for the decisions that are being committed, and no others.

    Errors: `NotFound`.
    """
    if scope.kind in (ScopeKind.TENANT, ScopeKind.STRATEGY):
        await tenant_lock.lock(connection, tenant_id)
        return await bump_tenant(connection, tenant_id)
    version = await connection.fetchval(_BUMP[scope.kind], tenant_id, scope.id)
    if version is None:
        raise NotFound(scope.kind.lower(), scope.id)
    return int(version)


async def bump_tenant(connection: asyncpg.Connection, tenant_id: str) -> int:
    """Raise the tenant's version alone. Errors: `NotFound`."""
    version = await connection.fetchval(_BUMP[ScopeKind.TENANT], tenant_id)
    if version is None:
        raise NotFound("tenant", tenant_id)
    return int(version)
