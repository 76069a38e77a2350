"""The risk budget: the sum of |weight| x annualised volatility that a portfolio may carry.

All that the portfolio holds counts, and what is reserved at its worst: it can't be spent again by
the next call. No credit is taken for diversification.
"""

import numpy as np

from compute.limits.bounds import LimitBounds
from compute.limits.projection import NO_LIMIT
from compute.market import Floats


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
