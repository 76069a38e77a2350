"""Trades over several periods in one decision: how far this one goes, and what it plans beyond."""

import numpy as np

from compute.inputs import Inputs
from compute.kelly.multiperiod import TradePlan, aim_share, trade_plan
from compute.market import Floats
from compute.methods import Method

LINE_BY_LINE = (
    "edges fade at different speeds, and the joint optimum is followed and planned line by line, "
    "which takes lines as uncorrelated from the next period on; the method MULTI_PERIOD plans them "
    "together"
)


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


def line_by_line_notes(inputs: Inputs) -> list[str]:
    """What to know of a joint optimum that is traded towards over several periods.

    It is followed line by line. That is the best of all lines together where edges fade alike, for
    then the optimum only gets smaller (`trade_plan`), and not where they don't.
    """
    parameters, lives = inputs.parameters, half_lives(inputs)[inputs.active]
    is_at_once = parameters.trade_rate == 1.0 and parameters.plan_periods <= 1
    if is_at_once or len(np.unique(lives)) < 2:
        return []
    return [LINE_BY_LINE]


def half_lives(inputs: Inputs) -> Floats:
    """Periods in which each line's edge halves, (n,); infinite where it stays."""
    given = inputs.signals.edge_half_life_periods
    if given is None:
        return np.full(len(inputs.index), np.inf)
    return np.where(~inputs.active | (given == 0.0), np.inf, given)
