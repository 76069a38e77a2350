"""LiquidityService: how liquid instruments were, and how fast to trade them."""

from positionsizing.v1 import liquidity_service_pb2 as pb

from compute.market import equity_of
from compute.risk.execution import kelly_aversion
from compute.risk.illiquidity import liquidity
from server.calls.errors import invalid, invalid_fields, precondition
from server.calls.long_work import in_thread
from server.calls.reading import check_bytes
from server.calls.request_context import Call
from server.convert import liquidity as convert
from server.convert.names import checked_id, optional_id
from server.convert.simulation import price_history
from server.portfolios.positions import positions
from server.portfolios.state import States

_NUMBER_BYTES = 9


class LiquidityService:
    """See `protos/positionsizing/v1/liquidity_service.proto`."""

    def __init__(self, states: States) -> None:
        self._states = states

    async def measure_liquidity(
        self, call: Call, request: pb.MeasureLiquidityRequest
    ) -> pb.MeasureLiquidityResponse:
        """Amihud's illiquidity and the value traded, of each instrument."""
        if found := list(convert.measure_violations(request)):
            raise invalid_fields(found)

        def work() -> pb.MeasureLiquidityResponse:
            history = price_history(request.prices)
            return convert.measured(history, liquidity(history))

        return await in_thread(call, work)

    async def plan_execution(
        self, call: Call, request: pb.PlanExecutionRequest
    ) -> pb.PlanExecutionResponse:
        """A schedule for each instrument, by itself or with the others."""
        portfolio_id = checked_id(request.portfolio_id, "portfolio_id")
        optional_id(request.market_snapshot_id, "market_snapshot_id")
        matrix_id = optional_id(request.covariance_matrix_id, "covariance_matrix_id")
        if found := list(convert.plan_violations(request)):
            raise invalid_fields(found)
        numbers = len(request.instrument_ids) * 2 * convert.periods_of(request)
        check_bytes(_NUMBER_BYTES * numbers, call.bytes_max, is_estimate=True)
        state = await self._states.portfolio(call.tenant_id, portfolio_id, "")
        snapshot = await self._states.snapshot_of(
            call.tenant_id, state.portfolio.universe_id, request.market_snapshot_id
        )
        prices = self._states.market(call.tenant_id, snapshot, state.portfolio.base_currency)
        covariance = None
        if matrix_id:
            stored = await self._states.matrix(call.tenant_id, matrix_id)
            covariance = convert.covariance_between(request, stored, prices)
        market = convert.traded(request, prices, covariance)
        if request.HasField("risk_aversion"):
            aversion = request.risk_aversion
        else:
            equity = equity_of(prices, positions(state, prices))
            if not equity > 0.0:
                text = f"the portfolio's equity is {equity:g}; give a risk_aversion"
                raise precondition("NO_EQUITY", text)
            fraction = state.parameters.fraction_chosen
            if not fraction > 0.0:
                raise invalid("risk_aversion", "MISSING", "the Kelly fraction is 0")
            aversion = kelly_aversion(equity, fraction)
        impact = state.parameters.impact_coefficient
        return await in_thread(call, lambda: convert.planned(request, market, aversion, impact))
