"""Edges of a batch multiplied by k in [0, 1], whatever they come from.

bet:        p' = p0 + k (p - p0),  p0 = a / (a + b), the win probability of no edge
moments:    m' = r + k (m - r)
scenarios:  x' = x - s (1 - k) (s E[x] - r),  s the side: the same change of the mean
"""

from dataclasses import replace
from typing import Any

import numpy as np

from compute.market import Floats
from compute.signals import Signals
from compute.waterfall.edge_inputs import Scenarios


def multiplied(signals: Signals, rate: float, m: Floats) -> Signals:
    """The signals with m times their edge, (n,), and as much of its standard error.

    Kelly's stake is linear in the edge and its shrinkage a function of error over edge, so before
    costs the stake is multiplied by m; with scenarios nearly so. A confidence is relative already.
    """
    changes: dict[str, Any] = {"history_multiplier": m}
    for name in ("win_probability_error", "expected_return_error"):
        if (error := getattr(signals, name)) is not None:
            changes[name] = m * error
    return replace(scaled_edges(signals, rate, m), **changes)


def scaled_edges(signals: Signals, rate: float, k: float | Floats) -> Signals:
    """The signals with k times their edge. `rate`: risk-free, per period.

    Histories are left: their bet is estimated first (`edge_inputs.py`). Refused lines may hold
    anything.
    """
    if np.all(k == 1.0):
        return signals
    changes: dict[str, Any] = {}
    if signals.expected_return is not None:
        changes["expected_return"] = rate + k * (signals.expected_return - rate)
    if signals.win_probability is not None and signals.payoff is not None:
        loss = 1.0 if signals.loss_fraction is None else signals.loss_fraction
        total = loss + signals.payoff
        fair = loss / np.where(total == 0.0, 1.0, total)
        changes["win_probability"] = fair + k * (signals.win_probability - fair)
    return replace(signals, **changes)


def scaled_scenarios(
    scenarios: Scenarios, side: Floats, rate: float, k: float | Floats
) -> Scenarios:
    """The lines' scenarios with k times their mean over the rate; side: (n,), of +1 and -1."""
    if np.all(k == 1.0):
        return scenarios
    change = scaled_mean_change(scenarios.returns @ scenarios.probability, side, rate, k)
    return replace(scenarios, returns=scenarios.returns + change[:, None])


def scaled_mean_change(mean: Floats, side: Floats, rate: float, k: Floats | float) -> Floats:
    """What to add to returns of these means, (n,), for k times the excess on their side."""
    change: Floats = -side * (1.0 - k) * (side * mean - rate)
    return change
