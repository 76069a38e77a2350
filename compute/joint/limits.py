"""The limits of a joint problem: rows, curved limits, and what is kept by cuts.

Limits of the book are measured as they are on the final lots: on scenarios or covariance as they
are stored, with mean 0 beside a covariance alone, whatever the signals expect (`book_guard.py`).
Where the problem is stated on such data it states them itself. Where its scenarios are others,
outcomes of bets, they are kept by cuts of the guard's own measures (`tail_cuts.py`).
"""

from dataclasses import replace
from math import exp, log
from typing import TypeVar

import numpy as np

from compute.inputs import Inputs
from compute.joint.box import Box
from compute.joint.cuts import RISK_BUDGET_ROW, linear_name
from compute.joint.margin import LineNeeds
from compute.joint.tail_cuts import Bounded, is_cut, normal_cap
from compute.limits.book_guard import LEVEL, BookGuard, Rule
from compute.limits.book_measures import RUIN, Measure, Measured
from compute.limits.policy import JointLimits, LimitKind, LinearLimit
from compute.limits.projection import NO_LIMIT
from compute.limits.risk_budget import risk_budget_bound
from compute.market import Floats, Integers, MissingInputError
from compute.optimize.implied_bounds import ENDLESS
from compute.optimize.problem import DrawdownRisk, Limits, Rows
from compute.waterfall.layout import Exposure

MARGIN_ROW = "cash"
_OF_TAILS = (LimitKind.VAR_MAX, LimitKind.CVAR_MAX)
ONE_VALUE = 1e-12
"""Ends of a row that are no further apart are one: they differ by the rounding of their sums."""
RUINED = 1e-6 * RUIN
"""A measure of a wealth floor beyond this says that a scenario takes all wealth."""

Bound = TypeVar("Bound")


def sides(inputs: Inputs, lines: Integers, everything: Integers, box: Box) -> Floats:
    """The side each variable can only be on, (v,), 1 or -1.

    That of the signal, or of what is held where one trade doesn't lead off it or it may stay.
    """
    sign = np.sign(inputs.limit_bounds.before[everything])
    own = np.where(inputs.signals.side[lines] > 0, 1.0, -1.0)
    is_long = (box.lower.weight >= 0.0) & (box.upper.weight > 0.0)
    is_short = (box.lower.weight < 0.0) & (box.upper.weight <= 0.0)
    sign[: len(lines)] = np.where(is_short, -1.0, np.where(is_long, 1.0, own))
    return sign


def book_limits(
    inputs: Inputs,
    lines: Integers,
    everything: Integers,
    sign: Floats,
    needs: LineNeeds | None,
    unmeasured: frozenset[LimitKind],
) -> Limits:
    """Groups, exposures, cash and the limits of the whole book but those of kinds `unmeasured`.

    sign: (v,), from `sides`.
    """
    limit_bounds, size = inputs.limit_bounds, len(everything)
    names, rows, low, high = [], [], [], []

    def add(name: str, row: Floats, least: float, most: float) -> None:
        # A row without a name in it holds already: margins of 0 need no cash.
        bounded = least > -ENDLESS or most < ENDLESS
        if (
            abs(most - least) <= ONE_VALUE
        ):  # the sum may not move: an interval has to have an inside
            least = most = 0.5 * (least + most)
        if bounded and (row.any() or not least <= 0.0 <= most):
            names.append(name)
            rows.append(row)
            low.append(least if least > -ENDLESS else -np.inf)
            high.append(most if most < ENDLESS else np.inf)

    labels = [*(f"group {name}" for name in limit_bounds.group_names), "portfolio", "shared"]
    for column, label in enumerate(labels):
        member, bound = limit_bounds.members[column][everything], limit_bounds.bounds[:, column]
        add(f"{label} gross", member * sign, -NO_LIMIT, float(bound[Exposure.GROSS_MAX]))
        net = float(bound[Exposure.NET_MIN]), float(bound[Exposure.NET_MAX])
        add(f"{label} net", member, *net)
    if needs is not None:
        slope, height = needs.tangents()
        bound = np.concatenate([slope, np.zeros(size - len(lines))])
        add(MARGIN_ROW, bound, -NO_LIMIT, needs.free - float(height.sum()))
    budget, volatility = inputs.parameters.risk_budget, limit_bounds.market.volatility
    if budget is not None and volatility is not None:
        most = risk_budget_bound(limit_bounds, volatility, budget)
        add(RISK_BUDGET_ROW, volatility[everything] * sign, -NO_LIMIT, most)
    joint = limit_bounds.limits.joint
    prices = [np.inf] * len(names)
    for number, row in enumerate(joint.linear):
        place = limit_bounds.market.index
        coefficients = np.zeros(len(limit_bounds.market.price))
        for name, value in row.coefficients.items():
            if name in place:
                coefficients[place[name]] = value
        count = len(names)
        ends = _ends(row, number, inputs.book_guard)
        add(linear_name(row.name), coefficients[everything], *ends)
        prices += [np.inf if row.soft_price is None else row.soft_price] * (len(names) - count)
    matrix = np.array(rows).reshape(-1, size)
    return replace(
        curved_limits(joint, unmeasured),
        rows=Rows(matrix, np.array(low), np.array(high), tuple(names), np.array(prices))
        if names
        else None,
        turnover_max=limit_bounds.limits.turnover_max,
    )


def _ends(limit: LinearLimit, number: int, guard: BookGuard | None) -> tuple[float, float]:
    """Least and most that the row of the limit at this place may be.

    A hard one holds whichever reserved trades fill, as the guard says; a soft one is as stated.
    """
    least = -NO_LIMIT if limit.lower is None else limit.lower
    most = NO_LIMIT if limit.upper is None else limit.upper
    for rule, room in zip(guard.rules, guard.room, strict=True) if guard else ():
        if rule.is_linear and rule.row == number:
            if rule.sign > 0.0:
                most = float(room)
            else:
                least = -float(room)
    return least, most


def hard_rows(rows: Rows | None) -> Rows | None:
    """The rows that have to hold."""
    if rows is None or rows.price is None:
        return rows
    kept = np.flatnonzero(np.isinf(rows.price))
    names = tuple(rows.names[place] for place in kept)
    return Rows(rows.matrix[kept], rows.row_min[kept], rows.row_max[kept], names)


def refuse_unmeasured(limits: Limits, *, has_scenarios: bool) -> None:
    """Raises `MissingInputError` for a limit on scenarios where there are none."""
    if has_scenarios:
        return
    for name, bound in (
        ("cvar_max", limits.cvar_max),
        ("cdar_max", limits.cdar_max),
        ("wealth_floor", limits.drawdown_risk),
    ):
        if bound is not None:
            raise MissingInputError(
                "MISSING_MATRIX",
                f"the limit {name} is measured on scenarios: give scenario_matrix_id",
            )


def curved_limits(joint: JointLimits, unmeasured: frozenset[LimitKind]) -> Limits:
    """Limits on the risk of the whole book, without rows, but those of kinds `unmeasured`."""
    risk = None
    if joint.wealth_floor is not None and joint.wealth_floor_probability is not None:
        risk = DrawdownRisk.from_probability(joint.wealth_floor, joint.wealth_floor_probability)

    def stated(kind: LimitKind, bound: Bound) -> Bound | None:
        return None if kind in unmeasured else bound

    return Limits(
        volatility_max=stated(
            LimitKind.VOLATILITY_MAX, normal_cap(joint.volatility_max, joint.tails)[0]
        ),
        var_max=stated(LimitKind.VAR_MAX, joint.var_max),
        var_tail=joint.var_level or LEVEL,
        cvar_max=stated(LimitKind.CVAR_MAX, joint.cvar_max),
        cvar_tail=joint.cvar_level or LEVEL,
        cdar_max=stated(LimitKind.CDAR_MAX, joint.cdar_max),
        cdar_tail=joint.cdar_level or LEVEL,
        drawdown_risk=stated(LimitKind.DRAWDOWN_RISK, risk),
    )


def unstated(inputs: Inputs) -> frozenset[LimitKind]:
    """The limits of the book that no problem states: a wealth floor held elsewhere than at 0."""
    return frozenset({LimitKind.DRAWDOWN_RISK}) if inputs.floor_held > 0.0 else frozenset()


def kept_by_cuts(
    inputs: Inputs, places: Integers, unmeasured: frozenset[LimitKind]
) -> list[Bounded]:
    """The limits of the book that the problem doesn't state, as the guard measures them.

    places: (v,), the instrument of each variable. unmeasured: kinds of limits on other scenarios
    than those of the problem.
    """
    guard, joint = inputs.book_guard, inputs.limit_bounds.limits.joint
    if guard is None:
        return []
    tails = {tail.name: tail for tail in joint.tails}
    least, out = LimitKind.VOLATILITY_MAX in unmeasured, []
    for rule in guard.rules:
        tail = tails.get(rule.name) if rule.kind in _OF_TAILS and rule.row >= 0 else None
        measure = of_variables(rule, places, len(inputs.limit_bounds.before))
        if tail is not None and (is_cut(tail) or least):
            out.append(Bounded.of_tail(tail, measure))
        elif rule.kind is LimitKind.DRAWDOWN_RISK and rule.kind in unmeasured:
            out.append(Bounded("drawdown_risk", rule.kind, rule.bound, _solvent(measure, inputs)))
        elif tail is None and rule.kind in unmeasured:
            out.append(Bounded(rule.kind.name.lower(), rule.kind, rule.bound, measure))
    return out


def of_variables(rule: Rule, places: Integers, size: int) -> Measure:
    """The measure of a rule over the market, of variables at `places` of its `size`."""

    def measure(weights: Floats) -> Measured:
        whole = np.zeros(size)
        np.add.at(whole, places, weights)
        value, slope = rule.measure(whole)
        return value, slope[places]

    return measure


def floor_power(joint: JointLimits) -> float:
    """The k of a wealth floor that there is: log E[W^-k] <= 0."""
    assert joint.wealth_floor is not None, "it is limited"
    assert joint.wealth_floor_probability is not None, "it is limited"
    return log(joint.wealth_floor_probability) / log(joint.wealth_floor)


def _solvent(measure: Measure, inputs: Inputs) -> Measure:
    """The measure of a wealth floor, whose cuts are such also where a scenario takes all wealth.

    p W^-k <= e^b in each scenario, b where the floor is held: no book inside has less than
    (p e^-b)^(1/k) of its wealth left.
    """
    joint, data = inputs.limit_bounds.limits.joint, inputs.returns.scenarios
    assert data is not None, "the guard measured them"
    power = floor_power(joint)
    probability = float(data.probability[data.probability > 0.0].min())
    least = (probability * exp(-inputs.floor_held)) ** (1.0 / power)

    def solvent(weights: Floats) -> Measured:
        value, slope = measure(weights)
        if value < RUINED:
            return value, slope
        return value / RUIN - 1.0 + least, slope / RUIN

    return solvent
