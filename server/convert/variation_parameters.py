"""What a what-if does with each parameter: the one place that says it, for all there are.

A parameter that is only looked at while sizing is laid over the arrays of the base. One that
decides what is read, or what is made of it, has the request prepared again under it. One that moves
nothing a what-if answers, or that it can't look at, is refused rather than passed over.
"""

from collections.abc import Iterator
from enum import Enum

from positionsizing.v1 import parameter_service_pb2 as pb

from compute.parameters import PARAMETERS
from server.calls.errors import FieldViolation
from server.convert import parameters as parameters_convert


class Reach(Enum):
    """How far a parameter reaches."""

    SIZED = "looked at while sizing"
    PREPARED = "looked at before"
    NOT_APPLICABLE = "not looked at"


REACH = {
    "method": Reach.PREPARED,
    "kelly_fraction": Reach.SIZED,
    "drawdown_tolerance": Reach.SIZED,
    "confidence_shrinkage": Reach.SIZED,
    "risk_free_rate": Reach.PREPARED,  # an aged edge falls back to it
    "cost_rate": Reach.SIZED,
    "impact_coefficient": Reach.SIZED,
    "no_trade_region": Reach.SIZED,
    "trade_rate": Reach.SIZED,
    "plan_periods": Reach.SIZED,
    "robust": Reach.SIZED,
    "volatility_target": Reach.SIZED,
    "stop_risk_max": Reach.SIZED,
    "risk_budget": Reach.SIZED,
    "interval_probability": Reach.SIZED,
    "prior_wins": Reach.SIZED,
    "prior_losses": Reach.SIZED,
    "reservation_ttl_s": Reach.NOT_APPLICABLE,  # nothing is reserved
    "market_age_max_s": Reach.PREPARED,
    "portfolio_age_max_s": Reach.PREPARED,
    "joint_objective": Reach.SIZED,
    "lot_choice": Reach.SIZED,
    "matrix_age_max_s": Reach.PREPARED,
    "periods_per_year": Reach.PREPARED,  # a covariance is made of a correlation by it
    "fill_deviation_max": Reach.NOT_APPLICABLE,  # nothing is filled
    "covariance_universe": Reach.PREPARED,
    "correlation_penalty": Reach.SIZED,
    "schedule": Reach.PREPARED,
    "edge_half_life_s": Reach.PREPARED,
    "edge_model_id": Reach.NOT_APPLICABLE,  # the base's models have been asked
    "size_model_id": Reach.NOT_APPLICABLE,
    "drawdown_floor": Reach.PREPARED,
    "drawdown_multiplier": Reach.PREPARED,
    "equity_floor": Reach.PREPARED,
    "condition_rules": Reach.PREPARED,
    "algorithm": Reach.SIZED,
    "volatility_model": Reach.PREPARED,
    "price_jump_max": Reach.NOT_APPLICABLE,  # looked at when a snapshot is stored
    "equity_jump_max": Reach.PREPARED,
    "edge_gone_action": Reach.NOT_APPLICABLE,  # looked at when outcomes are known
}
"""By name in `EffectiveParameters`."""

_CONTRACT_NAME = {p.name: p.contract_name for p in PARAMETERS}


def reaches_back(message: pb.SizingParameters) -> bool:
    """Whether the request has to be prepared again under these parameters."""
    return any(REACH[name] is Reach.PREPARED for name in parameters_convert.parameters(message))


def not_applicable(message: pb.SizingParameters, path: str) -> Iterator[FieldViolation]:
    """The parameters that a what-if doesn't look at; the message has been checked."""
    for name in parameters_convert.parameters(message):
        if REACH[name] is Reach.NOT_APPLICABLE:
            text = "changes nothing that a what-if answers"
            yield FieldViolation(f"{path}.{_CONTRACT_NAME[name]}", "NOT_APPLICABLE", text)
