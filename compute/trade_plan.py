"""Trades over several periods in one decision: how far this one goes, and what it plans beyond."""

import numpy as np

from compute.inputs import Inputs
from compute.kelly.multiperiod import TradePlan, aim_share, trade_plan
from compute.market import Floats
from compute.methods import Method


def plan_of(inputs: Inputs) -> TradePlan | None:
    """The plan of the parameters for the lines of a batch; None where none is asked for."""
    parameters = inputs.parameters
    if not parameters.plan_periods:
        return None
    return trade_plan(half_lives(inputs), parameters.trade_rate, parameters.plan_periods)


def first_rate(inputs: Inputs) -> float:
    """The part of the way that this decision trades."""
    if inputs.method is Method.MULTI_PERIOD:
        return 1.0  # its target is the step itself
    plan = plan_of(inputs)
    return inputs.parameters.trade_rate if plan is None else float(plan.rate[0])


def aims(inputs: Inputs) -> Floats:
    """What the decay of edges leaves of each line's aim, (n,); 1 for an edge that stays."""
    if inputs.method is Method.MULTI_PERIOD:
        return np.ones(len(inputs.index))
    plan = plan_of(inputs)
    if plan is not None:
        return plan.share[0]
    return aim_share(half_lives(inputs), inputs.parameters.trade_rate)


def half_lives(inputs: Inputs) -> Floats:
    """Periods in which each line's edge halves, (n,); infinite where it stays."""
    given = inputs.signals.edge_half_life_periods
    if given is None:
        return np.full(len(inputs.index), np.inf)
    return np.where(~inputs.active | (given == 0.0), np.inf, given)
