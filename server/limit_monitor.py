"""LimitBreached: which limits a portfolio is newly beyond, told in the transaction that finds it.

Looked for in two places: each recorded decision looks at the book it starts from, and what changes
a book or its limits (fills, holdings, limits) looks at what it leaves, at the newest prices. The
limits are those of firm, group and portfolio; those of a strategy or a request bind decisions.
"""

from dataclasses import dataclass
from datetime import datetime

import asyncpg
from positionsizing.v1 import events_pb2, market_service_pb2, types_pb2

from compute.currency import in_base
from compute.limits.breaches import Breach, breaches
from compute.limits.guard import Guard
from compute.market import Market, MissingInputError
from server.convert.names import timestamp
from server.portfolio_state import PortfolioState, load_state, positions, shared_use
from server.request_context import Call
from server.state import States
from storage.errors import NotFound
from storage.postgres import breaches as storage
from storage.postgres import locks, outbox
from storage.postgres.breaches import BreachChange
from storage.postgres.outbox import NewEvent
from storage.postgres.scopes import Scope, ScopeKind

PORTFOLIOS_MAX = 64
"""A change of limits looks at all portfolios it applies to if they are no more than these; else
each is looked at with its next decision, fill or state. It holds up decisions meanwhile."""


@dataclass(frozen=True)
class Finding:
    """What has changed since the last look, and the events that tell."""

    change: BreachChange
    events: tuple[NewEvent, ...]


def find(
    state: PortfolioState,
    market: Market,
    snapshot_id: str,
    *,
    found_by: str,
    now: datetime,
    trace_id: str,
    guard: Guard | None = None,
) -> Finding:
    """Compares the breaches of a state with those known. `guard`: of a decision on that state.

    Raises `MissingInputError` where the market has no price for what is held.
    """
    if state.book_limits is None:
        return Finding(BreachChange(ended=tuple(sorted(state.breaches))), ())
    limits = in_base(state.book_limits, market.rates)
    if guard is None or guard.limits is not limits or state.shared:
        guard = Guard(market, positions(state, market), limits, shared_use(state, market))
    found = {breach.key: breach for breach in breaches(guard)}
    change = BreachChange(
        tuple(key for key in found if key not in state.breaches),
        tuple(key for key in sorted(state.breaches) if key not in found),
    )
    portfolio_id = state.portfolio.portfolio_id
    events = tuple(
        _event(portfolio_id, found[key], snapshot_id, found_by, now, trace_id)
        for key in change.begun
    )
    return Finding(change, events)


class BreachWatch:
    """Looks at portfolios after a change, inside the transaction that makes it."""

    def __init__(self, states: States) -> None:
        self._states = states

    async def snapshot(self, call: Call) -> market_service_pb2.MarketSnapshot | None:
        """The newest market, None where there is none. Ask before the transaction begins."""
        try:
            return await self._states.snapshot(call.tenant_id, "")
        except NotFound:
            return None

    async def affected(self, connection: asyncpg.Connection, call: Call, scope: Scope) -> list[str]:
        """The portfolios a change of a scope's limits is looked at with, locked."""
        if scope.kind is ScopeKind.PORTFOLIO:
            return [scope.id]
        if scope.kind is ScopeKind.STRATEGY:
            return []
        group_id = scope.id if scope.kind is ScopeKind.GROUP else None
        ids = await storage.portfolios_with_positions(
            connection, call.tenant_id, group_id, PORTFOLIOS_MAX + 1
        )
        if len(ids) > PORTFOLIOS_MAX:
            return []
        await locks.lock_portfolios(connection, [(call.tenant_id, id) for id in ids])
        return ids

    async def look(
        self,
        connection: asyncpg.Connection,
        call: Call,
        portfolio_ids: list[str],
        snapshot: market_service_pb2.MarketSnapshot | None,
        found_by: str,
    ) -> None:
        """Tells what locked portfolios are newly beyond, where the market has their prices."""
        if snapshot is None:
            return
        for portfolio_id in portfolio_ids:
            state = await load_state(connection, call.tenant_id, portfolio_id, "")
            currency = state.portfolio.base_currency
            now = datetime.now(tz=state.portfolio.as_of_time.tzinfo)
            try:
                market = self._states.market(call.tenant_id, snapshot, currency)
                finding = find(
                    state,
                    market,
                    snapshot.snapshot_id,
                    found_by=found_by,
                    now=now,
                    trace_id=call.trace_id,
                )
            except MissingInputError:
                continue
            if finding.change:
                await storage.apply(connection, [(call.tenant_id, portfolio_id, finding.change)])
                await outbox.append(connection, call.tenant_id, portfolio_id, finding.events)


def _event(
    portfolio_id: str,
    breach: Breach,
    snapshot_id: str,
    found_by: str,
    now: datetime,
    trace_id: str,
) -> NewEvent:
    def build(sequence: int) -> bytes:
        event = events_pb2.LimitBreached(
            portfolio_sequence=sequence,
            portfolio_id=portfolio_id,
            limit=breach.name,
            kind=types_pb2.LimitKind.ValueType(int(breach.kind)),
            bound=breach.bound,
            value=breach.value,
            detect_time=timestamp(now),
            market_snapshot_id=snapshot_id,
            found_by=found_by,
        )
        return event.SerializeToString()

    return NewEvent("limit-breached", "LimitBreached", build, trace_id=trace_id)
