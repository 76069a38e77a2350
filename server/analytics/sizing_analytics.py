"""SizingAnalyzed: decisions that have got their outcome, analyzed as `AnalyzeDecisions` does.

A decision has its outcome when a later one of the same portfolio and strategy was made on another
snapshot. How far decisions are analyzed is stored, so that each is in one event, and in the
transaction of the event. What can't be analyzed (a snapshot or price is gone) is left out.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta

import structlog
from positionsizing.v1 import analytics_service_pb2 as pb

from compute.market import MissingInputError
from server.analytics import edge_gone
from server.analytics.decision_analysis import DecisionAnalysis, market_of
from server.auth.identity import Identity
from server.calls.errors import Refusal
from server.calls.request_context import Call
from server.convert.events import sizing_analyzed
from server.convert.names import timestamp
from server.portfolios.state import States
from storage.errors import NotFound, StorageError
from storage.postgres import (
    decisions,
    edge_evidence,
    outbox,
    portfolios,
    tenant_lock,
    tenants,
)
from storage.postgres.decisions import DecisionFilter, RecordedDecision
from storage.postgres.edge_evidence import StoredEvidence
from storage.postgres.outbox import NewEvent
from storage.postgres.pool import Database

_log = structlog.get_logger(__name__)

INTERVAL_S = 60.0
"""Between two looks at a tenant, by whichever server."""
DECISIONS_MAX = 500
"""Decisions of an event; more are several events."""
PORTFOLIOS_MAX = 1000
"""Portfolios and strategies of a look; those that wait for the longest come first."""
AUTHOR = "service:sizing-analytics"
_DEADLINE_S = 60.0


@dataclass(frozen=True)
class Period:
    """Decisions with their outcome: the last is valued at `end_id`; the next was made at `end`."""

    rows: Sequence[RecordedDecision]
    end: datetime
    end_id: str


def closed_period(
    rows: Sequence[RecordedDecision], limit: int, cut: datetime | None = None
) -> Period | None:
    """The decisions whose outcome is known, of decisions oldest first; None for none.

    cut: a period lies before or after it.

    So many as `limit` that are all on one snapshot are a period too: all but the last one were
    superseded.
    """
    if not rows:
        return None
    names = [market_of(row) for row in rows]
    last = len(rows) - 1
    while last > 0 and names[last - 1] == names[-1]:
        last -= 1
    if last == 0 and len(rows) > limit:
        last = len(rows) - 1
    if cut is not None:
        before = sum(row.create_time < cut for row in rows[:last])
        last = before or last
    end = rows[last].create_time
    inside = [row for row in rows[:last] if row.create_time < end]
    return Period(inside, end, names[last]) if inside else None


class SizingAnalytics:
    """Analyzes what is new, again and again."""

    def __init__(self, database: Database, states: States) -> None:
        self._database = database
        self._states = states
        self._analysis = DecisionAnalysis(database, states)

    async def run_due(self) -> int:
        """Looks at the tenants that nobody has looked at since; how many events."""
        ids = await tenants.list_ids(self._database, deadline_s=_DEADLINE_S)
        # A little sooner: or else every second look would find that the first was just now.
        interval = timedelta(seconds=0.5 * INTERVAL_S)
        return sum([await self.look(tenant_id, interval) for tenant_id in ids])

    async def look(self, tenant_id: str, interval: timedelta = timedelta(0)) -> int:
        """Looks at a tenant, unless another server has within the interval; how many events."""
        async with self._database.transaction(tenant_id, deadline_s=_DEADLINE_S) as connection:
            if not await edge_evidence.claim(connection, tenant_id, interval):
                return 0
            found = await edge_evidence.due(connection, tenant_id, PORTFOLIOS_MAX)
        count, failures = 0, list[Exception]()
        for item in found:
            try:
                count += await self._catch_up(tenant_id, item)
            except StorageError:
                raise
            except Exception as error:  # the others don't wait for it
                failures.append(error)
        if failures:
            raise ExceptionGroup(f"decisions of {len(failures)} were not analyzed", failures)
        return count

    async def _catch_up(self, tenant_id: str, seen: StoredEvidence) -> int:
        """Analyzes one period after the other; how many events."""
        count = 0
        now: StoredEvidence | None = seen
        while now is not None:
            call = self._call(tenant_id)
            found = await self._next(call, now)
            if found is None:
                break
            seen, period = found
            analysis = await self._analyzed(call, seen, period)
            now = await self._tell(call, seen, period, analysis)
            count += now is not None and analysis is not None
        return count

    def _call(self, tenant_id: str) -> Call:
        identity = Identity(tenant_id, AUTHOR, frozenset())
        return Call(identity, time.monotonic() + _DEADLINE_S)

    async def _next(self, call: Call, seen: StoredEvidence) -> tuple[StoredEvidence, Period] | None:
        """The next period, and what it adds to; None where there is none yet, which is stored."""
        where = DecisionFilter(
            portfolio_id=seen.portfolio_id,
            strategy_id=seen.strategy_id,
            start_time=seen.next_time,
        )
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            rows = await decisions.recorded(
                connection, call.tenant_id, where, limit=DECISIONS_MAX + 1
            )
            resume = await edge_gone.resume_time(connection, call.tenant_id, seen)
            period = closed_period(rows, DECISIONS_MAX, resume)
            if period is None:
                await edge_evidence.rest(connection, call.tenant_id, seen)
                return None
        if resume is not None and period.rows[0].create_time >= resume:
            seen = edge_gone.resumed(seen)
        return seen, period

    async def _analyzed(
        self, call: Call, seen: StoredEvidence, period: Period
    ) -> pb.AnalyzeDecisionsResponse | None:
        """What `AnalyzeDecisions` says of a period; None where it can't be asked."""
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            portfolio = await portfolios.get(connection, call.tenant_id, seen.portfolio_id)
        try:
            return await self._analysis.analyzed(call, portfolio, period.rows, period.end_id)
        except (Refusal, NotFound, MissingInputError) as error:
            if isinstance(error, Refusal) and error.reason == "DEADLINE":
                raise
            _log.warning(
                "decisions are not analyzed",
                portfolio=seen.portfolio_id,
                strategy=seen.strategy_id,
                start=period.rows[0].create_time,
                end=period.end,
                error=str(error),
            )
            return None

    async def _tell(
        self,
        call: Call,
        seen: StoredEvidence,
        period: Period,
        analysis: pb.AnalyzeDecisionsResponse | None,
    ) -> StoredEvidence | None:
        """Stores how far it is, with the event; None where another server has been faster."""
        now = replace(seen, next_time=period.end)
        events = list[NewEvent]()
        if analysis is not None:
            now = now if now.reduced else _counted(now, period, analysis)
            events.append(_event(now, period, analysis))
        if edge_gone.evidence_of(now).is_gone:
            return await self._act(call, seen, now, events)
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            stored = await edge_evidence.advance(connection, call.tenant_id, seen, now)
            if stored is not None:
                await outbox.append(connection, call.tenant_id, seen.portfolio_id, events)
        return stored

    async def _act(
        self, call: Call, seen: StoredEvidence, now: StoredEvidence, events: Sequence[NewEvent]
    ) -> StoredEvidence | None:
        """The same where the edge is gone; no decision can be committed meanwhile."""
        key = (call.tenant_id, now.portfolio_id)
        action = (await self._states.portfolio(*key, now.strategy_id)).parameters.edge_gone_action
        async with tenant_lock.exclusively(
            self._database, call.tenant_id, deadline_s=call.left_s
        ) as connection:
            reduced = await edge_gone.scope_to_reduce(connection, call.tenant_id, now, action)
            after = edge_gone.after_alert(now, reduced)
            stored = await edge_evidence.advance(connection, call.tenant_id, seen, after)
            if stored is None:
                return None
            await outbox.append(connection, *key, events)
            await edge_gone.act(connection, call, now, reduced)
        self._states.changed(call.tenant_id)
        return stored


def _counted(
    seen: StoredEvidence, period: Period, analysis: pb.AnalyzeDecisionsResponse
) -> StoredEvidence:
    """With the bets of a period."""
    bets = analysis.bet_forecast
    e_values = (bets.e_value_gone, bets.e_value_edge) if bets.bets else (1.0, 1.0)
    found = edge_gone.evidence_of(seen).with_period(analysis.decisions, bets.bets, *e_values)
    return replace(seen, begin_time=seen.begin_time or period.rows[0].create_time, **asdict(found))


def _event(now: StoredEvidence, period: Period, analysis: pb.AnalyzeDecisionsResponse) -> NewEvent:
    request = pb.AnalyzeDecisionsRequest(
        portfolio_id=now.portfolio_id,
        strategy_id=now.strategy_id,
        without_strategy=not now.strategy_id,
        create_time_from=timestamp(period.rows[0].create_time),
        create_time_to=timestamp(period.end),
        end_market_snapshot_id=period.end_id,
    )
    so_far = None if now.begin_time is None else (now.begin_time, edge_gone.evidence_of(now))
    now_time = datetime.now(UTC)

    def build(sequence: int) -> bytes:
        return sizing_analyzed(sequence, request, analysis, so_far, now_time)

    return NewEvent("sizing-analytics", "SizingAnalyzed", build)
