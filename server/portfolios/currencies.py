"""Money in the limits of several portfolios names its currency, where theirs differ.

Looked at when limits are stored and when a portfolio is created, inside the transaction.
"""

import asyncpg
from positionsizing.v1 import limits_pb2, portfolio_service_pb2

from compute.money.currency import has_money
from server.calls.errors import FieldViolation
from server.convert import limits as limits_convert
from server.convert.currencies import currency_violations
from storage.postgres import limits, portfolios
from storage.postgres.scopes import TENANT_SCOPE, Scope, ScopeKind


async def unnamed(
    connection: asyncpg.Connection,
    tenant_id: str,
    scope: Scope,
    bounds: limits_pb2.Limits,
    shared: portfolio_service_pb2.SharedLimits,
) -> list[FieldViolation]:
    """Amounts of money that would be read in a currency each, by field path."""
    if shared.currency and (wrong := list(currency_violations(shared.currency, "shared.currency"))):
        return wrong
    paths = _paths(bounds, shared) if scope.kind is not ScopeKind.PORTFOLIO else []
    if not paths:
        return []
    group_id = scope.id if scope.kind is ScopeKind.GROUP else None
    found = await portfolios.base_currencies(connection, tenant_id, group_id)
    if len(found) < 2:
        return []
    text = f"must be given: the portfolios it applies to are in {', '.join(sorted(found))}"
    return [FieldViolation(path, "MISSING", text) for path in paths]


async def newly_unnamed(
    connection: asyncpg.Connection, tenant_id: str, group_id: str, base_currency: str
) -> list[FieldViolation]:
    """Stored limits that a portfolio in another base currency would read as its own money."""
    scopes = [TENANT_SCOPE, *([Scope(ScopeKind.GROUP, group_id)] if group_id else [])]
    for stored in await limits.current(connection, tenant_id, scopes):
        bounds = limits_convert.parse_limits(stored.document.get("limits", {}))
        shared = limits_convert.parse_shared(stored.document.get("shared", {}))
        if not _paths(bounds, shared):
            continue
        of_group = group_id if stored.scope.kind is ScopeKind.GROUP else None
        others = await portfolios.base_currencies(connection, tenant_id, of_group)
        if others - {base_currency}:
            owner = f"group {group_id!r}" if of_group else "firm"
            text = (
                f"is {base_currency}, where others are in {', '.join(sorted(others))} and the "
                f"limits of the {owner} name no currency for their money: set it with SetLimits"
            )
            return [FieldViolation("portfolio.base_currency", "CURRENCY_NOT_NAMED", text)]
    return []


def _paths(bounds: limits_pb2.Limits, shared: portfolio_service_pb2.SharedLimits) -> list[str]:
    """Paths of the currencies that are not named."""
    paths = []
    if has_money(limits_convert.limits(bounds)) and not bounds.currency:
        paths.append("limits.currency")
    amounts = ("gross_notional_max", "instrument_notional_max")
    if not shared.currency and any(shared.HasField(name) for name in amounts):  # type: ignore[arg-type]
        paths.append("shared.currency")
    return paths
