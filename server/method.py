"""Which engine a request asks for, what that needs, and whether it takes long."""

from positionsizing.v1 import market_service_pb2, sizing_service_pb2

from compute.methods import Engine, Method
from compute.parameters import EffectiveParameters, Shrinkage
from server.portfolio_state import PortfolioState
from server.prepared_request import is_gathered

SHORT_LINES, SHORT_MARKET = 1024, 20_000
"""Closed forms of up to so many lines are short, and the first look at so large a market is."""
SHORT_FEATURES = 16
"""What models say of so many features is."""


def method_of(
    request: sizing_service_pb2.SizePositionsRequest, parameters: EffectiveParameters
) -> Method:
    """The method of a request: its own, else that of the parameters in force."""
    return Method(request.method) if request.method else parameters.method


def is_joint_request(
    request: sizing_service_pb2.SizePositionsRequest, parameters: EffectiveParameters
) -> bool:
    """Whether a request asks for an optimum, by itself or by the parameters in force."""
    return method_of(request, parameters).engine is Engine.OPTIMIZER


def needs_default(
    request: sizing_service_pb2.SizePositionsRequest, parameters: EffectiveParameters
) -> bool:
    """Whether the covariance of the parameters' universe is used by a request that names none."""
    if parameters.covariance_universe is None:
        return False
    return not (is_joint_request(request, parameters) and request.scenario_matrix_id)


def is_short(
    request: sizing_service_pb2.SizePositionsRequest,
    state: PortfolioState,
    snapshot: market_service_pb2.MarketSnapshot,
) -> bool:
    """Whether a request takes less than a millisecond: few lines whose edge is simply given."""
    parameters = state.parameters
    return (
        len(request.signals.instrument_ids) <= SHORT_LINES
        and len(request.signals.history_outcome) == 0
        and len(request.signals.holding_periods) == 0
        and parameters.no_trade_region is None
        and len(request.signals.features) <= SHORT_FEATURES
        and not request.scenario_matrix_id
        and not request.covariance_matrix_id
        and not request.include_sensitivities
        and parameters.confidence_shrinkage is not Shrinkage.BAKER_MCHALE_NUMERIC
        and (len(snapshot.instrument_ids) <= SHORT_MARKET or is_gathered(state, snapshot))
        and method_of(request, parameters).engine is Engine.STAKES
    )
