"""The plan of a decision: what later ones would do if nothing else changes.

The first period is the decision itself. The next ones are sized as it was, through every rule and
limit and to whole lots, from what the one before leaves: at today's prices and equity, with edges
that have faded as they are said to, and a period less to go. An optimum of several lines fades line
by line and is not solved anew: that is exact where all fade alike. Periods beyond `steps_of` follow
from there by the plan alone, before limits and lots.
"""

from dataclasses import dataclass, replace

import numpy as np

from compute.adapt.edge import multiplied, scaled_scenarios
from compute.algorithm import with_sizes
from compute.inputs import Inputs
from compute.limits.binding import Binding
from compute.limits.bounds import LimitBounds, prepare
from compute.market import Floats, Integers, filled
from compute.methods import Method
from compute.multi_period import multi_period_path, multi_period_weights
from compute.shapes import KernelRegistry
from compute.waterfall.layout import Stage
from compute.waterfall.pipeline import Sizing, run_pipeline
from compute.waterfall.trade_plan import plan_of

STEPS_MAX, LINES_MAX = 20, 2000
"""Periods that are sized inside the limits, and lines of all of them together but the first."""


@dataclass(frozen=True)
class PlannedPeriod:
    """What is held at the end of a period.

    weight: signed, (n,). lots, binding: where it was sized inside the limits, else None.
    """

    weight: Floats
    lots: Integers | None = None
    binding: Binding | None = None


def steps_of(n_lines: int, periods: int) -> int:
    """How many of the periods are sized inside the limits; at least the first."""
    return max(1, min(periods, STEPS_MAX, 1 + LINES_MAX // max(n_lines, 1)))


def planned_periods(sizing: Sizing, kernels: KernelRegistry) -> list[PlannedPeriod]:
    """The periods of the plan that a decision begins; none where no plan was asked for."""
    plan, step = plan_of(sizing.inputs), sizing
    if plan is None:
        return []
    out = [PlannedPeriod(step.weight, step.lots, step.binding)]
    steps = steps_of(len(step.weight), len(plan.rate))
    for number in range(1, steps):
        inputs = replace(sizing.inputs, limit_bounds=_filled(step))
        step = run_pipeline([_later(inputs, number, plan.left**number)], kernels)[0]
        out.append(PlannedPeriod(step.weight, step.lots, step.binding))
    if sizing.inputs.method is Method.MULTI_PERIOD:
        rest = (
            multi_period_path(sizing.inputs, step.weight, steps) if steps < len(plan.rate) else ()
        )
    else:
        wanted = plan.left * step.stages[Stage.JOINT_OPTIMUM]
        rest = plan.path(step.weight, wanted, first=steps)
    active = sizing.inputs.active
    return out + [PlannedPeriod(np.where(active, weight, step.weight)) for weight in rest]


def _filled(step: Sizing) -> LimitBounds:
    """The bounds of the book that a period leaves."""
    bounds, index = step.inputs.limit_bounds, step.inputs.index
    trades = bounds.market.lot_size[index] * step.trade_lots
    held = filled(bounds.market, bounds.positions, index, trades)
    return prepare(bounds.market, held, bounds.limits, bounds.shared, earlier=bounds)


def _later(inputs: Inputs, number: int, left: Floats) -> Inputs:
    """The inputs of period `number`, counted from 0, of edges of which `left` is left, (n,)."""
    parameters = inputs.parameters
    inputs = replace(
        inputs,
        parameters=replace(parameters, plan_periods=parameters.plan_periods - number),
        placeless=None,
    )
    if inputs.target is not None and inputs.method is not Method.MULTI_PERIOD:
        none = np.zeros(len(left), dtype=np.int64)
        return replace(
            inputs,
            target=left * inputs.target,
            # What bound the optimum of the first period is not what binds this one.
            target_binding=Binding(none, none - 1, np.zeros(len(left)), left * inputs.target),
            target_marginal=None,
            lot_search=None,
        )
    rate, signals = parameters.risk_free_rate, inputs.signals
    faded = multiplied(signals, rate, left)
    if signals.history_multiplier is not None:
        faded = replace(faded, history_multiplier=left * signals.history_multiplier)
    scenarios = inputs.scenarios
    if scenarios is not None:
        scenarios = scaled_scenarios(scenarios, signals.side, rate, left)
    inputs = replace(inputs, signals=faded, scenarios=scenarios)
    if inputs.method is Method.MULTI_PERIOD:  # planned anew, from what is held by then
        return with_sizes(inputs, multi_period_weights(inputs))
    return inputs
