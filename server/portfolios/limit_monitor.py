"""LimitBreached: which limits a portfolio is newly beyond, told in the transaction that finds it.

Looked for in two places: each recorded decision looks at the book it starts from, and what changes
a book or its limits (fills, holdings, limits) looks at what it leaves, at the newest prices. The
limits are those of firm, group and portfolio; those of a strategy or a request bind decisions.
Limits on clusters, on losses in stress scenarios and on risk are looked at with what those of the
book itself are (`book_at_rest.py`).
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime

import asyncpg
import numpy as np

from compute.limits.bounds import LimitBounds
from compute.limits.breaches import Breach, breaches, linear_breaches
from compute.limits.guard import Guard
from compute.limits.risk_at_rest import risk_breaches
from compute.limits.stress_limits import StressEvent
from compute.market import Market, MissingInputError, Positions, filled
from compute.money.currency import in_base
from server.calls.request_context import Call
from server.convert.events import limit_breached
from server.portfolios.book_at_rest import (
    NOTHING_AT_REST,
    BookAtRest,
    RestData,
    book_at_rest,
    matrix_at_rest,
    names_of,
)
from server.portfolios.portfolio_state import PortfolioState, load_state
from server.portfolios.positions import positions, shared_use
from server.portfolios.state import States
from server.portfolios.valuation import NewestMarkets
from server.risk.histories import Lend
from server.risk.stress import read_events, scenarios_of
from storage.postgres import breaches as storage
from storage.postgres import locks, outbox
from storage.postgres.breaches import BreachChange
from storage.postgres.outbox import NewEvent
from storage.postgres.pool import Database
from storage.postgres.scopes import Scope, ScopeKind

PORTFOLIOS_MAX = 64
"""A change of limits looks at all portfolios it applies to if they are no more than these; else
each is looked at with its next decision, fill or state. It holds up decisions meanwhile."""


@dataclass(frozen=True)
class Finding:
    """What has changed since the last look, and the events that tell."""

    change: BreachChange
    events: tuple[NewEvent, ...]


@dataclass(frozen=True)
class FoundBreach:
    """A limit that a book is beyond. members: of a cluster. begin_time: when it was told, if so.

    only_reserved: what is held keeps it, and so does the book with all that is reserved filled.
    """

    breach: Breach
    members: tuple[str, ...]
    begin_time: datetime | None
    only_reserved: bool


@dataclass(frozen=True)
class LimitCheck:
    """What a book is beyond at the prices of a snapshot; unknown: what was not looked at."""

    found: tuple[FoundBreach, ...]
    snapshot_id: str
    unknown: tuple[str, ...]


def find(
    state: PortfolioState,
    market: Market,
    snapshot_id: str,
    *,
    found_by: str,
    now: datetime,
    trace_id: str,
    of_decision: LimitBounds | None = None,
    at_rest: BookAtRest = NOTHING_AT_REST,
) -> Finding:
    """Compares the breaches of a state with those known. `of_decision`: of one on that state.

    at_rest: of its book. What is known of a limit that could not be looked at stays. Raises
    `MissingInputError` where the market has no price for what is held.
    """
    if state.book_limits is None:
        return Finding(BreachChange(ended=tuple(sorted(state.breaches))), ())
    found = {
        (int(breach.kind), at_rest.key_of(breach.name)): breach
        for breach in beyond(state, market, at_rest, of_decision)
    }
    limits = state.book_limits
    change = BreachChange(
        tuple(key for key in found if key not in state.breaches),
        tuple(
            key
            for key in sorted(state.breaches)
            if key not in found and not at_rest.is_untold(key, limits)
        ),
    )

    settled = settled_keys(state, market, at_rest) if change.begun else set()

    def event(breach: Breach) -> NewEvent:
        portfolio_id, members = state.portfolio.portfolio_id, at_rest.members_of(breach.name)

        def build(sequence: int) -> bytes:
            told = sequence, portfolio_id, breach, snapshot_id, found_by, now, members
            return limit_breached(*told, only_reserved=breach.key not in settled)

        return NewEvent("limit-breached", "LimitBreached", build, trace_id=trace_id)

    return Finding(change, tuple(event(found[key]) for key in change.begun))


def beyond(
    state: PortfolioState,
    market: Market,
    at_rest: BookAtRest = NOTHING_AT_REST,
    of_decision: LimitBounds | None = None,
    book: Positions | None = None,
) -> list[Breach]:
    """The limits of the book that it is beyond; none where none are stored.

    book: to look at in place of the state's own.
    Raises `MissingInputError` where the market has no price for what is held.
    """
    if state.book_limits is None:
        return []
    limits = at_rest.limits(in_base(state.book_limits, market.rates))
    if of_decision is None or of_decision.limits is not limits or state.shared:
        book = positions(state, market) if book is None else book
        guard = Guard(market, book, limits, shared_use(state, market))
        found = breaches(guard)
    else:
        guard, found = of_decision.guard, of_decision.breaches
    return [*found, *linear_breaches(guard), *risk_breaches(guard, at_rest.risk)]


def settled_keys(
    state: PortfolioState, market: Market, at_rest: BookAtRest
) -> set[tuple[int, str]]:
    """Keys of what a book is beyond without what is reserved, or with all of it filled.

    What it is beyond apart from these, open reservations alone are the reason of.
    """
    book = positions(state, market)
    nothing = np.zeros_like(book.held)
    ends = (
        replace(book, open_buy=nothing, open_sell=nothing),
        filled(market, book, np.empty(0, dtype=np.int64), np.empty(0)),
    )
    return {breach.key for end in ends for breach in beyond(state, market, at_rest, book=end)}


class BreachWatch:
    """Looks at portfolios after a change, inside the transaction that makes it."""

    def __init__(self, states: States) -> None:
        self._states = states

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
        found_by: str,
    ) -> None:
        """Tells what locked portfolios are newly beyond, where their markets have the prices."""
        newest, loaded = NewestMarkets(self._states, call.tenant_id), []
        for portfolio_id in portfolio_ids:
            state = await load_state(connection, call.tenant_id, portfolio_id, "")
            loaded.append(
                await self._states.with_others_priced(
                    call.tenant_id, state, lambda universe_id: newest.of(connection, universe_id)
                )
            )
        events, unread = await _scenarios(lambda: nullcontext(connection), call, loaded)
        for portfolio_id, state in zip(portfolio_ids, loaded, strict=True):
            currency = state.portfolio.base_currency
            snapshot = await newest.of(connection, state.portfolio.universe_id)
            if snapshot is None:
                continue
            now = datetime.now(tz=state.portfolio.as_of_time.tzinfo)
            matrix = await matrix_at_rest(self._states, call.tenant_id, state, connection)
            periods = state.book_parameters.periods_per_year
            data = RestData(matrix, events, unread, periods)
            try:
                market = self._states.market(call.tenant_id, snapshot, currency)
                book = positions(state, market)
                at_rest = book_at_rest(state.book_limits, market, book, data)
                finding = find(
                    state,
                    market,
                    snapshot.snapshot_id,
                    found_by=found_by,
                    now=now,
                    trace_id=call.trace_id,
                    at_rest=at_rest,
                )
            except MissingInputError:
                continue
            if finding.change:
                await storage.apply(connection, [(call.tenant_id, portfolio_id, finding.change)])
                await outbox.append(connection, call.tenant_id, portfolio_id, finding.events)


async def check(
    database: Database, states: States, call: Call, portfolio_id: str, snapshot_id: str
) -> LimitCheck:
    """What the book of a portfolio is beyond at a snapshot, "": the newest of its universe.

    Nothing is told or recorded.

    Errors: `NotFound`; `MissingInputError` where a price is missing.
    """
    async with database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
        state = await load_state(connection, call.tenant_id, portfolio_id, "")
        begun = await storage.begin_times(connection, call.tenant_id, portfolio_id)
        matrix = await matrix_at_rest(states, call.tenant_id, state, connection)
        scenarios = await _scenarios(lambda: nullcontext(connection), call, [state])
    state = await states.with_others_priced(call.tenant_id, state)
    universe_id = state.portfolio.universe_id
    snapshot = await states.snapshot_of(call.tenant_id, universe_id, snapshot_id)
    market = states.market(call.tenant_id, snapshot, state.portfolio.base_currency)
    book = positions(state, market)
    data = RestData(matrix, *scenarios, state.book_parameters.periods_per_year)
    at_rest = book_at_rest(state.book_limits, market, book, data)
    settled = settled_keys(state, market, at_rest)
    found = tuple(
        FoundBreach(
            breach,
            at_rest.members_of(breach.name),
            begun.get((int(breach.kind), at_rest.key_of(breach.name))),
            only_reserved=breach.key not in settled,
        )
        for breach in beyond(state, market, at_rest)
    )
    return LimitCheck(found, snapshot.snapshot_id, at_rest.unknown)


async def _scenarios(
    lend: Lend, call: Call, states: Sequence[PortfolioState]
) -> tuple[tuple[StressEvent, ...], dict[str, str]]:
    """The scenarios that limits of books name, and why others can't be read, by their id."""
    unread: dict[str, str] = {}
    wanted = scenarios_of(*(state.book_limits for state in states))
    events = await read_events(lend, call, wanted, names_of(states), unread)
    return events, unread
