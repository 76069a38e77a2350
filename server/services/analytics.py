"""AnalyticsService: what recorded decisions were worth."""

from datetime import datetime
from typing import Literal

from asyncpg import Connection
from positionsizing.v1 import analytics_service_pb2 as pb

from server.analytics import edge_gone
from server.analytics.attribution import benchmark_problem, factors_problem
from server.analytics.decision_analysis import DECISIONS_MAX, DecisionAnalysis
from server.analytics.strategy_comparison import Strategy, compared
from server.calls.errors import invalid, invalid_fields
from server.calls.long_work import in_thread
from server.calls.request_context import Call
from server.convert.names import checked_id, moment, optional_id, timestamp
from server.convert.ranges import number_violations
from server.portfolios.state import States
from storage.postgres import decisions, edge_evidence, portfolios, records
from storage.postgres.decisions import DecisionFilter
from storage.postgres.edge_evidence import StoredEvidence
from storage.postgres.pool import Database

Time = Literal["create_time_from", "create_time_to"]
TIMES: tuple[Time, Time] = ("create_time_from", "create_time_to")

PORTFOLIOS_MAX = 64
"""Are compared at once."""


class AnalyticsService:
    """See `protos/positionsizing/v1/analytics_service.proto`."""

    def __init__(self, database: Database, states: States) -> None:
        self._database = database
        self._analysis = DecisionAnalysis(database, states)

    async def analyze_decisions(
        self, call: Call, request: pb.AnalyzeDecisionsRequest
    ) -> pb.AnalyzeDecisionsResponse:
        """Growth by stage, forecasts and shortfall of a portfolio's decisions."""
        portfolio_id = checked_id(request.portfolio_id, "portfolio_id")
        benchmark, factors = _benchmark(request), _factors(request)
        where = DecisionFilter(
            portfolio_id=portfolio_id,
            strategy_id=_strategy(request),
            start_time=_optional(request, "create_time_from"),
            end_time=_optional(request, "create_time_to"),
        )
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            portfolio, rows = await _recorded(connection, call, portfolio_id, where, DECISIONS_MAX)
            watched = (
                await edge_evidence.of_portfolio(
                    connection, call.tenant_id, portfolio_id, where.strategy_id
                )
                if request.include_watched_edges
                else []
            )
        end_id = optional_id(request.end_market_snapshot_id, "end_market_snapshot_id")
        answer = await self._analysis.analyzed(call, portfolio, rows, end_id, benchmark, factors)
        answer.watched_edges.extend(map(_watched, watched))
        return answer

    async def compare_strategies(
        self, call: Call, request: pb.CompareStrategiesRequest
    ) -> pb.CompareStrategiesResponse:
        """Whether the best strategy of some portfolios sizes better, seeing how many there are."""
        names = _compared(request)
        start, end = (_optional(request, name) for name in TIMES)
        end_id = optional_id(request.end_market_snapshot_id, "end_market_snapshot_id")
        strategies, left = list[Strategy](), DECISIONS_MAX
        for name in names:
            where = DecisionFilter(portfolio_id=name, start_time=start, end_time=end)
            async with self._database.connection(
                call.tenant_id, deadline_s=call.left_s
            ) as connection:
                portfolio, rows = await _recorded(connection, call, name, where, left)
            left -= len(rows)
            strategies += await self._analysis.strategies(call, portfolio, rows, end_id)
        return await in_thread(call, lambda: compared(strategies))


async def _recorded(
    connection: Connection, call: Call, portfolio_id: str, where: DecisionFilter, most: int
) -> tuple[portfolios.Portfolio, list[decisions.RecordedDecision]]:
    """A portfolio and its decisions, oldest first. Raises `Refusal` for more than `most`."""
    portfolio = await portfolios.get(connection, call.tenant_id, portfolio_id)
    await records.check_here(
        connection, call.tenant_id, where.start_time, where.end_time, portfolio_id
    )
    rows = await decisions.recorded(connection, call.tenant_id, where, limit=most + 1)
    if len(rows) > most:
        text = f"the range has more than {DECISIONS_MAX} decisions; ask for less at once"
        raise invalid("create_time_from", "TOO_MANY", text)
    return portfolio, rows


def _compared(request: pb.CompareStrategiesRequest) -> list[str]:
    """The portfolios to be compared, checked."""
    paths = [f"portfolios[{place}].portfolio_id" for place in range(len(request.portfolios))]
    given = [item.portfolio_id for item in request.portfolios]
    if not 1 <= len(given) <= PORTFOLIOS_MAX:
        text = f"has {len(given)} entries; 1 to {PORTFOLIOS_MAX} are accepted"
        raise invalid("portfolios", "OUT_OF_RANGE", text)
    names = [checked_id(name, path) for name, path in zip(given, paths, strict=True)]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise invalid(paths[place], "DUPLICATE", f"{name!r} is given twice")
    return names


def _watched(stored: StoredEvidence) -> pb.WatchedEdge:
    found = edge_gone.evidence_of(stored)
    begun = None if stored.begin_time is None else timestamp(stored.begin_time)
    return pb.WatchedEdge(
        strategy_id=stored.strategy_id,
        create_time_from=begun,
        decisions=found.decisions,
        bets=found.bets,
        e_value_gone=found.e_value_gone,
        e_value_edge=found.e_value_edge,
        is_reduced=bool(stored.reduced),
    )


def _strategy(request: pb.AnalyzeDecisionsRequest) -> str | None:
    """Whose decisions are asked for: "" of no strategy, None of all."""
    strategy_id = optional_id(request.strategy_id, "strategy_id")
    if strategy_id and request.without_strategy:
        raise invalid("without_strategy", "NOT_APPLICABLE", "a strategy is named")
    return "" if request.without_strategy else strategy_id or None


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


def _optional(
    request: pb.AnalyzeDecisionsRequest | pb.CompareStrategiesRequest,
    name: Time,
) -> datetime | None:
    return moment(getattr(request, name), name) if request.HasField(name) else None
