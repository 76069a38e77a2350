"""AnalyticsService: what recorded decisions were worth."""

from functools import partial
from uuid import UUID

from positionsizing.v1 import analytics_service_pb2 as pb
from positionsizing.v1 import sizing_service_pb2 as sizing

from compute.market import Market
from server import analysis, decision_inputs
from server.attribution import benchmark_problem, factors_problem
from server.convert.market import Snapshot
from server.convert.names import checked_id, moment, optional_id
from server.convert.ranges import number_violations
from server.convert.recorded import answer_of, asked_of
from server.errors import invalid, invalid_fields
from server.long_work import in_thread
from server.price_adjustment import Marks
from server.request_context import Call
from server.return_forecasts import read_scores
from server.state import States
from storage.postgres import corporate_actions, decisions, portfolios, records, settlements
from storage.postgres.corporate_actions import StoredAction
from storage.postgres.decisions import DecisionFilter, RecordedDecision
from storage.postgres.pool import Database

DECISIONS_MAX = 5_000


class AnalyticsService:
    """See `protos/positionsizing/v1/analytics_service.proto`."""

    def __init__(self, database: Database, states: States) -> None:
        self._database = database
        self._states = states

    async def analyze_decisions(
        self, call: Call, request: pb.AnalyzeDecisionsRequest
    ) -> pb.AnalyzeDecisionsResponse:
        """Growth by stage, forecasts and shortfall of a portfolio's decisions."""
        portfolio_id = checked_id(request.portfolio_id, "portfolio_id")
        benchmark, factors = _benchmark(request), _factors(request)
        where = DecisionFilter(
            portfolio_id=portfolio_id,
            strategy_id=optional_id(request.strategy_id, "strategy_id") or None,
            start_time=_optional(request, "create_time_from"),
            end_time=_optional(request, "create_time_to"),
        )
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            portfolio = await portfolios.get(connection, call.tenant_id, portfolio_id)
            await records.check_here(
                connection, call.tenant_id, where.start_time, where.end_time, portfolio_id
            )
            rows = await decisions.recorded(
                connection, call.tenant_id, where, limit=DECISIONS_MAX + 1
            )
            if len(rows) > DECISIONS_MAX:
                text = f"the range has more than {DECISIONS_MAX} decisions; ask for less at once"
                raise invalid("create_time_from", "TOO_MANY", text)
            reports = await settlements.reports(
                connection, call.tenant_id, [row.decision_id for row in rows]
            )
        end_id = optional_id(request.end_market_snapshot_id, "end_market_snapshot_id")
        decided = await in_thread(call, lambda: [_decided(row) for row in rows])
        end = await self._states.snapshot(call.tenant_id, end_id) if decided else None
        names = {item.snapshot_id for item in decided}
        markets = {name: await self._market(call, name, portfolio.base_currency) for name in names}
        if end is not None:
            markets[end.snapshot_id] = self._priced(call, end, portfolio.base_currency)
        fills: dict[UUID, list[sizing.SettleDecisionRequest]] = {}
        for decision_id, content in reports:
            report = sizing.SettleDecisionRequest.FromString(content)
            fills.setdefault(decision_id, []).append(report)
        end_name = "" if end is None else end.snapshot_id
        marks = Marks(markets, *await self._actions(call, set(markets)))
        found = await in_thread(call, lambda: analysis.valued(decided, marks, end_name))
        matrix = partial(self._states.matrix, call.tenant_id)
        scores = await read_scores(call, found.forecasts(), matrix)

        def analyzed() -> pb.AnalyzeDecisionsResponse:
            response = analysis.analyze(found, scores, benchmark, factors)
            analysis.add_shortfall(response, decided, marks, fills, end_name)
            return response

        return await in_thread(call, analyzed)

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


def _decided(row: RecordedDecision) -> analysis.Decided:
    """A recorded decision as messages."""
    asked = asked_of(row.method, row.request, row.portfolio_id)
    answered = answer_of(row.method, row.response, str(row.decision_id))
    snapshot_id, _ = decision_inputs.market_named(row.inputs)
    return analysis.Decided(
        row.decision_id, snapshot_id, asked.signals, answered, asked.scenario_matrix_id
    )


def _benchmark(request: pb.AnalyzeDecisionsRequest) -> pb.BenchmarkWeights | None:
    """The benchmark, checked; None where none is given."""
    if not request.HasField("benchmark"):
        return None
    if found := list(number_violations(request)):
        raise invalid_fields(found)
    if (wrong := benchmark_problem(request.benchmark)) is not None:
        raise invalid(*wrong)
    return request.benchmark


def _factors(request: pb.AnalyzeDecisionsRequest) -> pb.FactorExposures | None:
    """The exposures to factors, checked; None where none are given."""
    if not request.HasField("factors"):
        return None
    if found := list(number_violations(request)):
        raise invalid_fields(found)
    if (wrong := factors_problem(request.factors)) is not None:
        raise invalid(*wrong)
    return request.factors


def _optional(request: pb.AnalyzeDecisionsRequest, name: str):  # type: ignore[no-untyped-def]
    return moment(getattr(request, name), name) if request.HasField(name) else None  # type: ignore[arg-type]
