"""Changes of limits, parameters and trading states that a restored database doesn't have.

Their events tell them whole, with author, approver and reason. Each is entered as the version that
it was, so that decisions that name one find it; where the versions before it are not there it is
left to be done by hand.
"""

from collections.abc import Collection

import asyncpg

from server.convert.told_changes import ToldLimits, ToldParameters, ToldState, change_of
from storage.postgres import limits, parameters, recovery, trading_state
from storage.postgres.scopes import ScopeKind

CHANGES = {"LimitsChanged", "ParametersChanged", "TradingStateChanged"}
CLOSED = "closed"
"""How the reason begins for which a portfolio that is closed is halted."""


async def enter(
    connection: asyncpg.Connection,
    tenant_id: str,
    kind: str,
    payload: bytes,
    closings: Collection[str] = (),
) -> str:
    """Enters a change that an event of one of `CHANGES` tells; why it isn't all, or ''.

    closings: portfolios whose end an event of its own tells.

    Errors: `VersionConflict` where it doesn't follow what is there, `NotFound`.
    """
    match change_of(kind, payload):
        case ToldLimits() as told:
            await limits.put(
                connection,
                tenant_id,
                told.scope,
                dict(told.document),
                author=told.change.author,
                approver=told.change.approver,
                reason=told.change.reason,
                expected_version=told.change.version - 1,
            )
        case ToldParameters() as told:
            await parameters.put(
                connection,
                tenant_id,
                dict(told.document),
                portfolio_id=told.portfolio_id,
                strategy_id=told.strategy_id,
                effective_time=told.effective_time,
                author=told.change.author,
                approver=told.change.approver,
                reason=told.change.reason,
                expected_version=told.change.version - 1,
            )
        case ToldState() as told:
            return await _enter_state(connection, tenant_id, told, closings)
    return ""


async def _enter_state(
    connection: asyncpg.Connection, tenant_id: str, told: ToldState, closings: Collection[str]
) -> str:
    await trading_state.put(
        connection,
        tenant_id,
        told.scope,
        told.state,
        author=told.change.author,
        approver=told.change.approver,
        reason=told.change.reason,
        expected_version=told.change.version - 1,
    )
    await recovery.tenant_version_at_least(connection, tenant_id, told.tenant_version)
    is_closed = told.change.reason.partition(":")[0] == CLOSED
    if told.scope.kind is ScopeKind.PORTFOLIO and is_closed and told.scope.id not in closings:
        return "the portfolio is halted again, but was closed: close it"
    return ""
