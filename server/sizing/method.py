"""Which engine a request asks for, what that needs, and whether it takes long."""

from compute.methods import Engine
from compute.parameters import EffectiveParameters, Shrinkage
from server.convert.market import Snapshot
from server.portfolios.portfolio_state import PortfolioState
from server.sizing.assembly import is_gathered
from server.sizing.request import SizingRequest

SHORT_LINES, SHORT_MARKET = 1024, 20_000
"""Closed forms of up to so many lines are short, and the first look at so large a market is."""
SHORT_FEATURES = 16
"""What models say of so many features is."""


def is_joint_request(request: SizingRequest, parameters: EffectiveParameters) -> bool:
    """Whether a request asks for an optimum, by itself or by the parameters in force."""
    return request.method_with(parameters).engine is Engine.OPTIMIZER


def needs_default(request: SizingRequest, parameters: EffectiveParameters) -> bool:
    """Whether the covariance of the parameters' universe is used by a request that names none."""
    if parameters.covariance_universe is None:
        return False
    return not (is_joint_request(request, parameters) and request.scenario_matrix_id)


def is_short(request: SizingRequest, state: PortfolioState, snapshot: Snapshot) -> bool:
    """Whether a request takes less than a millisecond: few lines whose edge is simply given."""
    parameters = state.parameters
    return (
        request.n_lines <= SHORT_LINES
        and request.signals.history_outcome is None
        and request.signals.holding_periods is None
        and parameters.no_trade_region is None
        and len(request.features) <= SHORT_FEATURES
        and not request.scenario_matrix_id
        and not request.covariance_matrix_id
        and not request.include_sensitivities
        and parameters.confidence_shrinkage is not Shrinkage.BAKER_MCHALE_NUMERIC
        and (snapshot.n_instruments <= SHORT_MARKET or is_gathered(state, snapshot.snapshot_id))
        and request.method_with(parameters).engine is Engine.STAKES
    )
