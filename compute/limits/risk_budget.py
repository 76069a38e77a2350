"""The risk budget: the sum of |weight| x annualised volatility that a portfolio may carry.

All that the portfolio holds counts, and what is reserved at its worst: it can't be spent again by
the next call. No credit is taken for diversification.
"""

from typing import TYPE_CHECKING

import numpy as np

from compute.limits.bounds import LimitBounds
from compute.limits.projection import NO_LIMIT
from compute.market import Floats

if TYPE_CHECKING:
    from compute.inputs import Inputs


def risk_budget_bound(limit_bounds: LimitBounds, volatility: Floats, budget: float) -> float:
    """Largest sum over all instruments of |weight| x volatility once everything is filled.

    The budget less what pending trades may still use of it, not below what is used and allowed.
    """
    unit, positions = limit_bounds.unit_weight, limit_bounds.positions
    high = np.abs(limit_bounds.before + unit * positions.open_sell)
    low = np.abs(limit_bounds.before - unit * positions.open_buy)
    used = float(volatility @ np.abs(limit_bounds.before))
    pending = float(volatility @ np.maximum(high, low)) - used
    return max(budget - pending, min(budget, used))


def risk_budget_left(
    limit_bounds: LimitBounds, volatility: Floats | None, budget: float | None, own: Floats
) -> float:
    """What a batch may use. own: weights (m,) that it holds already and sizes anew, 0 elsewhere."""
    if budget is None or volatility is None:
        return NO_LIMIT
    others = float(volatility @ (np.abs(limit_bounds.before) - np.abs(own)))
    return max(risk_budget_bound(limit_bounds, volatility, budget) - others, 0.0)


def risk_budget_of_batch(inputs: "Inputs") -> float:
    """What the rest of the portfolio leaves of the risk budget to the lines of a batch."""
    limit_bounds = inputs.limit_bounds
    own = np.zeros(len(limit_bounds.before))
    mine = inputs.index[inputs.active]
    own[mine] = limit_bounds.before[mine]
    budget = inputs.parameters.risk_budget
    return risk_budget_left(limit_bounds, limit_bounds.market.volatility, budget, own)
