"""Floors of a what-if, held against the equity that its variation comes to."""

from dataclasses import replace

import numpy as np

from compute.adapt.adjustment import (
    Adjustment,
    AdjustmentSource,
    floored,
    fraction_multiplier,
)
from compute.adapt.edge import multiplied, scaled_scenarios
from compute.adapt.line_rules import rule_multipliers
from compute.inputs import Inputs
from compute.market import Floats
from server.sizing.prepared_request import PreparedRequest


def with_floors(
    problem: PreparedRequest, changed: Inputs, size: float, mark: float
) -> tuple[Inputs, tuple[Adjustment, ...]]:
    """The varied inputs under what the floors come to at their equity, and all adjustments.

    problem: before the variation. size: what cash and holdings are multiplied by; the high-water
    mark is too, as by a payment, while a fall of prices leaves it. mark: before; 0 where there is
    none yet.
    """
    adjustments, parameters = problem.context.adjustments, changed.parameters
    before, equity = problem.inputs.limit_bounds.equity, changed.limit_bounds.equity
    if not parameters.has_floor or equity == before:
        return changed, adjustments
    highest = max(size * max(before, mark), equity)
    others = [item for item in adjustments if item.source is not AdjustmentSource.DRAWDOWN_FLOOR]
    found = (*others, *floored(parameters, equity, highest))
    parameters = replace(parameters, fraction_multiplier=fraction_multiplier(found))
    changed = replace(changed, parameters=parameters)
    old, new = rule_multipliers(adjustments), rule_multipliers(found)
    if old is None or new is None:
        return changed, found
    return _lines_again(changed, old, new), found


def _lines_again(changed: Inputs, old: Floats, new: Floats) -> Inputs:
    """Rules for some lines take off only what the Kelly fraction has not lost already."""
    factor = np.where(old > 0.0, new / np.where(old > 0.0, old, 1.0), 1.0)
    rate, signals = changed.parameters.risk_free_rate, changed.signals
    scenarios = changed.scenarios
    if scenarios is not None:
        scenarios = scaled_scenarios(scenarios, signals.side, rate, factor)
    taken = 1.0 if signals.history_multiplier is None else signals.history_multiplier
    signals = replace(multiplied(signals, rate, factor), history_multiplier=taken * factor)
    return replace(changed, signals=signals, scenarios=scenarios)
