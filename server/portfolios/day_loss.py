"""The largest loss of a day: looked at with marks, fills, books and decisions, and acted on.

    before(...)   what a change starts from: a new day begins at it
    after(...)    what it leaves: where more is lost than allowed, trading is reduced

A look is a transaction of its own, so that what it finds never undoes the change. Whoever dies
between the two leaves the rest to the next look. A day begins at the equity of what is held then,
at the last prices from before its midnight; where these don't value it, at the newest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import asyncpg
from positionsizing.v1 import portfolio_service_pb2 as pb

from compute.money.day_loss import TradingDay, day_at, start_of
from compute.money.text import money
from server.calls.request_context import Call
from server.convert.market import Snapshot
from server.observability.alerts import WARNING, alert
from server.portfolios.portfolio_state import PortfolioState, load_state
from server.portfolios.state import States
from server.portfolios.told import set_state_and_tell
from server.portfolios.valuation import NewestMarkets, equity_at, known_equity
from storage.errors import NotFound
from storage.postgres import market as market_storage
from storage.postgres import (
    outbox,
    tenant_lock,
    trading_days,
    trading_state,
)
from storage.postgres.pool import Database
from storage.postgres.scopes import Scope, ScopeKind
from storage.postgres.trading_days import StoredDay
from storage.postgres.trading_state import TradingState

AUTHOR = "service:day_loss_max"
"""Who reduces trading, and lets it go on, by itself."""
PORTFOLIOS_MAX = 256
"""A new snapshot is looked at by so many portfolios; the others follow with what comes next."""


@dataclass(frozen=True)
class _Look:
    """A portfolio with its day, as it is now. day: with what was seen; equity: at the newest."""

    state: PortfolioState
    day: TradingDay
    pass_time: datetime | None
    equity: float
    own: trading_state.TradingStateChange | None
    is_new: bool

    @property
    def passes(self) -> bool:
        """Whether trading is to be reduced."""
        bound = self.state.book_limits.day_loss_max if self.state.book_limits else None
        return (
            bound is not None
            and self.state.trading_state is TradingState.ACTIVE
            and self.day.passes(self.equity, bound)
        )

    @property
    def resumes(self) -> bool:
        """Whether a new day lifts what this module did on an earlier one."""
        limits, own = self.state.book_limits, self.own
        return (
            self.is_new
            and own is not None
            and (own.author, own.state) == (AUTHOR, TradingState.REDUCING)
            and (limits is None or bool(limits.day_loss_resumes))
        )


class DayLossMonitor:
    """Looks at portfolios that a limit on the loss of a day applies to; others cost one query."""

    def __init__(self, database: Database, states: States) -> None:
        self._database = database
        self._states = states

    async def before(self, call: Call, portfolio_ids: Sequence[str]) -> list[str]:
        """Begins their day, where it is a new one; those that `after` has to look at."""
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            ids = await trading_days.limited(
                connection, call.tenant_id, PORTFOLIOS_MAX, portfolio_ids=portfolio_ids
            )
        await self.after(call, ids)
        return ids

    async def marked(self, call: Call, universe_id: str) -> None:
        """Looks at all portfolios of a universe after a new snapshot of it."""
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            ids = await trading_days.limited(
                connection, call.tenant_id, PORTFOLIOS_MAX, universe_id=universe_id
            )
        await self.after(call, ids)

    async def after(self, call: Call, portfolio_ids: Sequence[str]) -> None:
        """Looks at portfolios under such a limit, and reduces trading where it is passed."""
        if not portfolio_ids:
            return
        self._states.changed(call.tenant_id)
        newest = NewestMarkets(self._states, call.tenant_id)
        for portfolio_id in portfolio_ids:
            async with self._database.transaction(
                call.tenant_id, deadline_s=call.left_s
            ) as connection:
                look = await self._look(connection, call, portfolio_id, newest)
                if look is None:
                    continue
                if not (look.passes or look.resumes):
                    await _keep(connection, call, portfolio_id, look)
                    continue
            await self._act(call, portfolio_id, newest)

    async def checked(
        self, call: Call, state: PortfolioState, strategy_id: str, *, is_recorded: bool
    ) -> PortfolioState:
        """The state that a decision is to be computed on, after a look at its day.

        What is not recorded looks without writing: it is computed as if trading were reduced.
        """
        limits = state.book_limits
        if limits is None or limits.day_loss_max is None:
            return state
        newest = await self._states.newest(call.tenant_id, state.portfolio.universe_id)
        if newest is None:
            return state
        jumped = await self._states.price_jumps.instruments(
            call.tenant_id, state.tenant_version, newest, state.portfolio.base_currency
        )
        equity = equity_at(self._states, call.tenant_id, state, newest, jumped)
        if equity is None:
            return state
        portfolio_id = state.portfolio.portfolio_id
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            stored = await trading_days.get(connection, call.tenant_id, portfolio_id)
        today = day_at(datetime.now(UTC), state.portfolio.time_zone)
        is_today = stored is not None and stored.day == today
        if stored is not None and is_today:
            day = _day(stored)
            is_active = state.trading_state is TradingState.ACTIVE
            if not (is_active and day.passes(equity, limits.day_loss_max)):
                return state
            if not is_recorded:
                return replace(state, trading_state=TradingState.REDUCING, derived={})
        elif not is_recorded:
            return state
        await self.after(call, [portfolio_id])
        return await self._states.portfolio(call.tenant_id, portfolio_id, strategy_id)

    async def _act(self, call: Call, portfolio_id: str, newest: NewestMarkets) -> None:
        """Looks again while no decision can be committed, and changes the trading state."""
        async with tenant_lock.exclusively(
            self._database, call.tenant_id, deadline_s=call.left_s
        ) as connection:
            look = await self._look(connection, call, portfolio_id, newest)
            if look is None:
                return
            now, scope = datetime.now(UTC), Scope(ScopeKind.PORTFOLIO, portfolio_id)
            if look.passes:
                bound = look.state.book_limits.day_loss_max if look.state.book_limits else 0.0
                lost = (look.day.equity_reference - look.equity) / look.day.equity_start
                reason = (
                    f"lost {lost:.2%} of the equity {money(look.day.equity_start)} at the start "
                    f"of {look.day.day}; day_loss_max allows {bound:.2%}"
                )
                await set_state_and_tell(
                    connection, call, scope, TradingState.REDUCING, author=AUTHOR, reason=reason
                )
                day = replace(look.day, equity_reference=look.equity, equity_last=look.equity)
                look = replace(look, day=day, pass_time=now)
                text = f"trading of {portfolio_id} is reduced: {reason}"
                subject = f"portfolio:{portfolio_id}"
                told = alert(WARNING, "DAY_LOSS_MAX", text, subject, call.trace_id)
                await outbox.append(connection, call.tenant_id, "", [told])
            elif look.resumes:
                reason = f"a new trading day, {look.day.day}"
                await set_state_and_tell(
                    connection, call, scope, TradingState.ACTIVE, author=AUTHOR, reason=reason
                )
            await _keep(connection, call, portfolio_id, look)
        self._states.changed(call.tenant_id)

    async def _look(
        self,
        connection: asyncpg.Connection,
        call: Call,
        portfolio_id: str,
        newest: NewestMarkets,
    ) -> _Look | None:
        """None where there is no such limit, or no accepted price for what is held."""
        state = await load_state(connection, call.tenant_id, portfolio_id, "")
        if state.book_limits is None or state.book_limits.day_loss_max is None:
            return None
        market = await newest.of(connection, state.portfolio.universe_id)
        if market is None:
            return None
        equity = await known_equity(connection, self._states, call.tenant_id, state, market)
        if equity is None:
            return None
        scope = Scope(ScopeKind.PORTFOLIO, portfolio_id)
        own = await trading_state.current(connection, call.tenant_id, [scope])
        today = day_at(datetime.now(UTC), state.portfolio.time_zone)
        stored = await trading_days.get(connection, call.tenant_id, portfolio_id)
        is_new = stored is None or stored.day != today
        if stored is None or is_new:
            day = TradingDay.opened(today, await self._at_start(connection, call, state, equity))
            pass_time = None
        else:
            day, pass_time = _day(stored), stored.pass_time
        restricted = state.trading_state is not TradingState.ACTIVE
        day = day.seen(equity, is_restricted=restricted and not is_new)
        return _Look(state, day, pass_time, equity, own[0] if own else None, is_new)

    async def _at_start(
        self, connection: asyncpg.Connection, call: Call, state: PortfolioState, now: float
    ) -> float:
        """Equity of what is held at the last prices from before the day; else `now`."""
        zone = state.portfolio.time_zone
        begin = start_of(day_at(datetime.now(UTC), zone), zone) - timedelta(microseconds=1)
        try:
            stored = await market_storage.latest_snapshot(
                connection, call.tenant_id, state.portfolio.universe_id, time=begin
            )
        except NotFound:
            return now
        snapshot = Snapshot.of(stored.payload)
        equity = await known_equity(connection, self._states, call.tenant_id, state, snapshot)
        return now if equity is None else equity


def _day(stored: StoredDay) -> TradingDay:
    return TradingDay(stored.day, stored.equity_start, stored.equity_reference, stored.equity_last)


async def _keep(connection: asyncpg.Connection, call: Call, portfolio_id: str, look: _Look) -> None:
    day = look.day
    equities = (day.equity_start, day.equity_reference, day.equity_last)
    stored = StoredDay(day.day, *equities, look.pass_time)
    await trading_days.put(connection, call.tenant_id, portfolio_id, stored)


async def tell_day(
    connection: asyncpg.Connection, tenant_id: str, response: pb.GetPortfolioResponse
) -> None:
    """Writes the day into the answer to GetPortfolio."""
    stored = await trading_days.get(connection, tenant_id, response.portfolio.portfolio_id)
    if stored is None:
        return
    message = response.trading_day
    message.day, message.equity_start = stored.day.isoformat(), stored.equity_start
    message.equity_last, message.loss = stored.equity_last, _day(stored).loss
    if stored.pass_time is not None:
        message.pass_time.FromDatetime(stored.pass_time)
