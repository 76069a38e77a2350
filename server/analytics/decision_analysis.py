"""What recorded decisions were worth: reads all that `analysis.py` needs, and has it worked out."""

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from positionsizing.v1 import analytics_service_pb2 as pb
from positionsizing.v1 import sizing_service_pb2 as sizing

from compute.market import Market
from server.analytics import analysis, settled
from server.analytics.return_forecasts import read_scores
from server.analytics.strategy_comparison import Strategy, strategies_of
from server.calls.long_work import in_thread
from server.calls.request_context import Call
from server.convert.market import Snapshot
from server.convert.recorded import answer_of, asked_of
from server.market.price_adjustment import Marks
from server.portfolios.state import States
from server.sizing import decision_inputs
from storage.postgres import corporate_actions, settlements
from storage.postgres.corporate_actions import StoredAction
from storage.postgres.decisions import RecordedDecision
from storage.postgres.pool import Database
from storage.postgres.portfolios import Portfolio

DECISIONS_MAX = 5_000
"""So many are analyzed at once."""


class DecisionAnalysis:
    """`AnalyzeDecisions` of decisions that have been read."""

    def __init__(self, database: Database, states: States) -> None:
        self._database = database
        self._states = states

    async def analyzed(
        self,
        call: Call,
        portfolio: Portfolio,
        rows: Sequence[RecordedDecision],
        end_id: str,
        benchmark: pb.BenchmarkWeights | None = None,
        factors: pb.FactorExposures | None = None,
    ) -> pb.AnalyzeDecisionsResponse:
        """Growth by stage, forecasts and shortfall of decisions of a portfolio, oldest first.

        end_id: snapshot at which the last is valued, "": the newest of the portfolio's universe.
        benchmark, factors: checked before.

        Errors: `Refusal` where a price is missing, `NotFound`.
        """
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            reports = await settlements.reports(
                connection, call.tenant_id, [row.decision_id for row in rows]
            )
        decided = await in_thread(call, lambda: [decided_of(row) for row in rows])
        marks, end_name = await self.marks(call, portfolio, decided, end_id)
        fills: dict[UUID, list[settled.Reported]] = {}
        for decision_id, content, time in reports:
            report = sizing.SettleDecisionRequest.FromString(content)
            fills.setdefault(decision_id, []).append(settled.Reported(report.fills, time))
        found = await in_thread(call, lambda: analysis.valued(decided, marks, end_name))
        matrix = partial(self._states.matrix, call.tenant_id)
        scores = await read_scores(call, found.forecasts(), matrix)

        def analyzed() -> pb.AnalyzeDecisionsResponse:
            response = analysis.analyze(found, scores, benchmark, factors)
            settled.add_shortfall(response, decided, marks, fills, end_name)
            return response

        return await in_thread(call, analyzed)

    async def strategies(
        self, call: Call, portfolio: Portfolio, rows: Sequence[RecordedDecision], end_id: str
    ) -> list[Strategy]:
        """Every strategy of recorded decisions of a portfolio, oldest first; see `analyzed`."""
        decided = await in_thread(call, lambda: [decided_of(row) for row in rows])
        marks, end = await self.marks(call, portfolio, decided, end_id)
        found = strategies_of(portfolio.portfolio_id, decided, marks, end)
        return await in_thread(call, lambda: list(found))

    async def marks(
        self, call: Call, portfolio: Portfolio, decided: Sequence[analysis.Decided], end_id: str
    ) -> tuple[Marks, str]:
        """What decisions of a portfolio are valued by, and the snapshot of the last, "": none.

        end_id: see `analyzed`.
        """
        currency, end = portfolio.base_currency, None
        if decided:
            newest = (call.tenant_id, portfolio.universe_id, end_id)
            end = await self._states.snapshot_of(*newest)
        names = {item.snapshot_id for item in decided}
        markets = {name: await self._market(call, name, currency) for name in names}
        if end is not None:
            markets[end.snapshot_id] = self._priced(call, end, currency)
        marks = Marks(markets, *await self._actions(call, set(markets)))
        return marks, "" if end is None else end.snapshot_id

    async def _actions(
        self, call: Call, names: set[str]
    ) -> tuple[dict[str, Snapshot], list[StoredAction]]:
        """The snapshots, and the corporate actions since the first of them."""
        found = [await self._states.snapshot(call.tenant_id, name) for name in names]
        if not found:
            return {}, []
        since = min(item.as_of_time for item in found)
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            actions = await corporate_actions.after(connection, call.tenant_id, since)
        return {item.snapshot_id: item for item in found}, actions

    async def _market(self, call: Call, snapshot_id: str, currency: str) -> Market:
        snapshot = await self._states.snapshot(call.tenant_id, snapshot_id)
        return self._priced(call, snapshot, currency)

    def _priced(self, call: Call, snapshot: Snapshot, currency: str) -> Market:
        return self._states.market(call.tenant_id, snapshot, currency)


def decided_of(row: RecordedDecision) -> analysis.Decided:
    """A recorded decision as messages."""
    asked = asked_of(row.method, row.request, row.portfolio_id)
    answered = answer_of(row.method, row.response, str(row.decision_id))
    return analysis.Decided(
        row.decision_id,
        market_of(row),
        asked.signals,
        answered,
        asked.scenario_matrix_id,
        asked.strategy_id,
    )


def market_of(row: RecordedDecision) -> str:
    """The snapshot that a decision was made on."""
    snapshot_id, _ = decision_inputs.market_named(row.inputs)
    return snapshot_id
