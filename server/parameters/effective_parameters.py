"""EffectiveParametersChanged: rules that moved what a portfolio is sized with, by the clock.

The look and what it tells are one transaction. What moves and moves back between two looks is not
told; decisions say what they took by themselves (`SizingDecision.adjustments`).
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import asyncpg
import structlog

from compute.adapt.adjustment import AdjustmentSource
from compute.adapt.moves import Key, Move, after_moves, moves, smallest
from compute.market import MissingInputError, equity_of
from compute.parameters import EffectiveParameters
from server.calls.errors import Refusal
from server.convert.events import effective_parameters_changed
from server.parameters import adaptation
from server.portfolios.portfolio_state import PortfolioState
from server.portfolios.positions import positions
from server.portfolios.state import States
from storage.errors import NotFound
from storage.postgres import effective_parameters as storage
from storage.postgres import outbox, tenants
from storage.postgres.effective_parameters import Told
from storage.postgres.outbox import NewEvent
from storage.postgres.pool import Database

_log = structlog.get_logger(__name__)

INTERVAL_S = 10.0
"""Between two looks at a tenant, by whichever server."""
PORTFOLIOS_MAX = 1000
"""Portfolios and strategies that a look goes through, by id; what is beyond is not told."""
_DEADLINE_S = 30.0


async def equity_now(states: States, tenant_id: str, state: PortfolioState) -> float | None:
    """Equity at the newest of its universe; None where there is none that values the book."""
    with suppress(NotFound, MissingInputError):
        snapshot = await states.snapshot_of(tenant_id, state.portfolio.universe_id)
        prices = states.market(tenant_id, snapshot, state.portfolio.base_currency)
        return equity_of(prices, positions(state, prices))
    return None


class EffectiveParametersWatch:
    """Looks at what rules come to, and tells what has moved."""

    def __init__(
        self,
        database: Database,
        states: States,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._states = states
        self._clock = clock

    async def run_due(self) -> int:
        """Looks at the tenants that nobody has looked at since; how many events."""
        ids = await tenants.list_ids(self._database, deadline_s=_DEADLINE_S)
        return sum([await self._look_at_due(tenant_id) for tenant_id in ids])

    async def _look_at_due(self, tenant_id: str) -> int:
        # A little sooner: or else every second look would find that the first was just now.
        interval = timedelta(seconds=0.5 * INTERVAL_S)
        async with self._database.transaction(tenant_id, deadline_s=_DEADLINE_S) as connection:
            if not await storage.claim(connection, tenant_id, interval):
                return 0
        return await self.look(tenant_id)

    async def look(self, tenant_id: str) -> int:
        """Looks at the portfolios of a tenant that have rules; how many events."""
        async with self._database.connection(tenant_id, deadline_s=_DEADLINE_S) as connection:
            found = await storage.with_rules(
                connection, tenant_id, self._clock(), PORTFOLIOS_MAX + 1
            )
        if len(found) > PORTFOLIOS_MAX:
            _log.warning("more portfolios with rules than a look goes through", tenant=tenant_id)
        count = 0
        for portfolio_id, strategy_id in found[:PORTFOLIOS_MAX]:
            try:
                count += await self._look(tenant_id, portfolio_id, strategy_id)
            except NotFound:
                pass  # closed meanwhile
            except Refusal as error:  # stored by a newer release: a server of that looks too
                where = {"tenant": tenant_id, "portfolio": portfolio_id, "strategy": strategy_id}
                _log.warning("rules can't be looked at", error=str(error), **where)
        return count

    async def _look(self, tenant_id: str, portfolio_id: str, strategy_id: str) -> int:
        state = await self._states.portfolio(tenant_id, portfolio_id, strategy_id)
        now, equity = self._clock(), await equity_now(self._states, tenant_id, state)
        parameters = state.parameters
        ids = _instruments(parameters)
        found = adaptation.of_state(state, now, equity) + adaptation.of_lines(state, ids, now)
        async with self._database.transaction(tenant_id, deadline_s=_DEADLINE_S) as connection:
            key = (tenant_id, portfolio_id, strategy_id)
            told = await _told(connection, *key)
            moved = [
                item
                for item in moves(told, found, ids)
                # A floor that can't be looked at now stays as it was.
                if equity is not None
                or not parameters.has_floor
                or item.key[0] is not AdjustmentSource.DRAWDOWN_FLOOR
            ]
            if not moved:
                return 0
            after = after_moves(told, moved)
            rows = [Told(int(k[0]), k[1], k[2], value) for k, value in sorted(after.items())]
            await storage.put(connection, *key, rows)
            chosen = parameters.fraction_chosen
            fractions = chosen * smallest(told), chosen * smallest(after)
            event = _event(portfolio_id, strategy_id, fractions, moved, now)
            await outbox.append(connection, tenant_id, portfolio_id, [event])
        return 1


def _instruments(parameters: EffectiveParameters) -> list[str]:
    """Those that any rule names."""
    named = [row.instrument_ids for row in parameters.schedule.rows]
    named += [rule.instrument_ids for rule in parameters.condition_rules]
    return sorted({name for ids in named for name in ids})


async def _told(
    connection: asyncpg.Connection, tenant_id: str, portfolio_id: str, strategy_id: str
) -> dict[Key, float]:
    rows = await storage.told(connection, tenant_id, portfolio_id, strategy_id)
    return {
        (AdjustmentSource(row.source), row.name, row.instrument_id): row.multiplier for row in rows
    }


def _event(
    portfolio_id: str,
    strategy_id: str,
    fractions: tuple[float, float],
    moved: Sequence[Move],
    now: datetime,
) -> NewEvent:
    def build(sequence: int) -> bytes:
        return effective_parameters_changed(
            sequence, (portfolio_id, strategy_id), fractions, moved, now
        )

    return NewEvent("effective-parameters-changed", "EffectiveParametersChanged", build)
