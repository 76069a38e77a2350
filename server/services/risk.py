"""RiskService: what a book may lose, before and after, and whether forecasts were right."""

import numpy as np
from positionsizing.v1 import market_service_pb2
from positionsizing.v1 import risk_service_pb2 as pb

from compute.history import Gaps, Table
from compute.risk.scenarios import shock_loss
from server.calls.errors import FieldViolation, Refusal, invalid, invalid_fields
from server.calls.long_work import in_thread
from server.calls.request_context import Call, first_delivery
from server.convert import risk as convert
from server.convert.names import (
    checked_id,
    name,
    optional_id,
    optional_moment,
    page_size,
    page_start,
    page_token,
    timestamp,
)
from server.convert.ranges import number_violations
from server.portfolios.books import Books, books
from server.portfolios.state import States
from server.risk import risk_backtest
from server.risk.histories import Span, lent_by, read
from server.risk.risk_report import Basis, basis_of, reported
from server.risk.stress import shocks_of
from storage.postgres import stress
from storage.postgres.pool import Database

SCENARIOS_MAX = 1000


class RiskService:
    """See `protos/positionsizing/v1/risk_service.proto`."""

    def __init__(self, database: Database, states: States) -> None:
        self._database = database
        self._states = states

    async def report_risk(self, call: Call, request: pb.ReportRiskRequest) -> pb.ReportRiskResponse:
        """Every measure of the books that the history allows."""
        found = _violations(request)
        if found:
            raise invalid_fields(found)
        both = await self._books(call, request)
        basis = await self._basis(call, request, both)
        response = await in_thread(call, lambda: reported(request, both, basis))
        await self._add_stress(call, request, both, basis, response)
        return response

    async def _books(self, call: Call, request: pb.ReportRiskRequest) -> Books:
        if not request.portfolio_id:
            return books(None, None, request.proposed)
        state = await self._states.portfolio(call.tenant_id, request.portfolio_id, "")
        snapshot = await self._states.snapshot_of(
            call.tenant_id, state.portfolio.universe_id, request.market_snapshot_id
        )
        prices = self._states.market(call.tenant_id, snapshot, state.portfolio.base_currency)
        return books(state, prices, request.proposed)

    async def _basis(self, call: Call, request: pb.ReportRiskRequest, both: Books) -> Basis:
        """The history of the whole universe, and the covariance."""
        span = _span(request)
        history = await read(self._database, call, request.universe_id, span)
        covariance = None
        if request.covariance_matrix_id:
            covariance = await self._states.matrix(call.tenant_id, request.covariance_matrix_id)
            if covariance.kind != market_service_pb2.MATRIX_KIND_COVARIANCE:
                text = "names a matrix of another kind; a covariance is needed"
                raise invalid("covariance_matrix_id", "WRONG_KIND", text)
        gaps = Gaps(request.gap_policy or Gaps.REFUSE)
        return await in_thread(
            call, lambda: basis_of(history, both.instrument_ids, gaps, covariance, request.views)
        )

    async def _add_stress(
        self,
        call: Call,
        request: pb.ReportRiskRequest,
        both: Books,
        basis: Basis,
        response: pb.ReportRiskResponse,
    ) -> None:
        lend = lent_by(self._database, call)
        async with lend() as connection:
            rows = await stress.list_in_force(connection, call.tenant_id, limit=SCENARIOS_MAX)
        known = {row.scenario_id: row for row in rows}
        for place, scenario_id in enumerate(request.scenario_ids):
            if scenario_id not in known:
                text = f"{scenario_id!r} is no stress scenario in force"
                raise invalid(f"scenario_ids[{place}]", "NOT_FOUND", text)
        whole = Table(basis.instrument_ids, np.zeros(0, dtype=np.int64), basis.covariance)
        for scenario_id in request.scenario_ids or known:
            out = response.stress_losses.add(scenario_id=scenario_id)
            try:
                stored = known[scenario_id]
                shocks = await shocks_of(lend, call, stored, both.instrument_ids, whole)
            except Refusal as refusal:
                out.refused = refusal.message
                continue
            out.returns.extend(shocks.tolist())
            for book, side in ((both.before, "loss_before"), (both.after, "loss_after")):
                if book is not None:
                    setattr(out, side, shock_loss(book, shocks))

    async def put_stress_scenario(
        self, call: Call, request: pb.PutStressScenarioRequest
    ) -> pb.PutStressScenarioResponse:
        """Stores a scenario; the same one again is no new version."""
        scenario = request.scenario
        found = list(number_violations(request))
        if found := found or list(convert.scenario_violations(scenario, "scenario")):
            raise invalid_fields(found)
        if scenario.WhichOneof("event") == "window":
            start = optional_moment(scenario.window, "start_time", "scenario.window.")
            end = optional_moment(scenario.window, "end_time", "scenario.window.")
            if start is not None and end is not None and start >= end:
                text = "must be before end_time"
                raise invalid("scenario.window.start_time", "OUT_OF_RANGE", text)
        async with self._database.transaction(call.tenant_id, deadline_s=call.left_s) as connection:
            await first_delivery(connection, call)
            stored = await stress.put(
                connection,
                call.tenant_id,
                scenario.scenario_id,
                author=call.author,
                retired=scenario.retired,
                payload=scenario.SerializeToString(deterministic=True),
            )
        return pb.PutStressScenarioResponse(
            scenario_id=stored.scenario_id,
            version=stored.version,
            create_time=timestamp(stored.create_time),
        )

    async def list_stress_scenarios(
        self, call: Call, request: pb.ListStressScenariosRequest
    ) -> pb.ListStressScenariosResponse:
        """Scenarios in force, by id."""
        size = page_size(request.page_size)
        start = page_start(request, name)
        async with self._database.connection(call.tenant_id, deadline_s=call.left_s) as connection:
            rows = await stress.list_in_force(
                connection, call.tenant_id, after="" if start is None else start[0], limit=size + 1
            )
        response = pb.ListStressScenariosResponse(
            scenarios=[pb.StressScenario.FromString(row.payload) for row in rows[:size]]
        )
        if len(rows) > size:
            response.next_page_token = page_token(request, rows[size - 1].scenario_id)
        return response

    async def backtest_risk(
        self, call: Call, request: pb.BacktestRiskRequest
    ) -> pb.BacktestRiskResponse:
        """Tests recorded forecasts, or those of a book made again."""
        found = list(
            convert.range_violations(request, ("level", "betting_fraction", "null_degrees"))
        )
        if request.WhichOneof("source") == "rolling":
            found += risk_backtest.rolling_violations(request.rolling)
        elif request.WhichOneof("source") == "recorded":
            found += convert.recorded_violations(request.recorded, "recorded")
        else:
            found.append(FieldViolation("recorded", "MISSING", "say what is to be tested"))
        if found:
            raise invalid_fields(found)
        if request.WhichOneof("source") == "recorded":
            return risk_backtest.of_recorded(request)
        rolling = request.rolling
        history = await read(
            self._database,
            call,
            rolling.universe_id,
            _span(rolling),
            tuple(rolling.book.instrument_ids),
            "rolling.book.",
        )
        return await in_thread(call, lambda: risk_backtest.of_rolling(request, history))


def _span(message: pb.ReportRiskRequest | pb.RollingForecasts) -> Span:
    return Span(
        optional_moment(message, "start_time", ""),
        optional_moment(message, "as_of_time", ""),
        optional_moment(message, "known_time", ""),
    )


def _violations(request: pb.ReportRiskRequest) -> list[FieldViolation]:
    """What is wrong with a request by itself. Raises `Refusal` for ids."""
    checked_id(request.universe_id, "universe_id")
    for field in ("portfolio_id", "market_snapshot_id", "covariance_matrix_id"):
        optional_id(getattr(request, field), field)
    numbers = (
        *("level", "ellipsoid_distance", "reverse_loss", "participation_rate"),
        *("tail_fraction", "student_degrees", "spectral_aversion"),
    )
    found = list(convert.range_violations(request, numbers))
    if request.HasField("participation_rate") and not request.portfolio_id:
        text = "needs a portfolio, whose equity and market say how much is to be sold"
        found.append(FieldViolation("participation_rate", "NOT_APPLICABLE", text))
    found += convert.view_violations(request.views, "views")
    if request.HasField("proposed"):
        found += convert.book_violations(request.proposed, "proposed")
    elif not request.portfolio_id:
        found.append(FieldViolation("proposed", "MISSING", "name a portfolio, or propose a book"))
    if request.gap_policy not in (0, Gaps.REFUSE, Gaps.COMPLETE, Gaps.CARRY_FORWARD):
        text = "must be REFUSE, COMPLETE or CARRY_FORWARD"
        found.append(FieldViolation("gap_policy", "NOT_APPLICABLE", text))
    return found
