"""Utilities of constant risk aversion whose size says nothing: beyond doubles, or next to zero.

At a millionth of full Kelly wealth of 0.999 has a utility of -e^1000. Its logarithm is the
certainty equivalent, which has the same optimum where nothing else counts:

    maximise  U(w) - costs    and    maximise  log S(w) / (1 - rho) - k costs

have one optimum where k = 1 / (f S) there, as the slope of U is f S times that of the other;
S = sum_t p_t W_t^(1 - rho) over the wealth that cash makes 1, and f = (1 + cash)^(1 - rho). More
is traded at a smaller k, and more growth makes 1 / S larger: the k sought is a single one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from itertools import product
from typing import Any

import numpy as np
from scipy.optimize import brentq

from compute.optimize.interior_point.canonicalize import Encoded, encode
from compute.optimize.interior_point.output import Answer
from compute.optimize.interior_point.recover import accepted, multipliers_of, snapped
from compute.optimize.interior_point.scaling import unit_of_utility
from compute.optimize.limits import box
from compute.optimize.objectives import Moments, blocks, evaluate
from compute.optimize.problem import (
    Array,
    Costs,
    Multipliers,
    Objective,
    ObjectiveKind,
    Problem,
    Solution,
    Status,
)
from compute.optimize.tail_lp.solve import solve_tail

METHOD = "interior point, utility in logarithms"
AVERSE = 100.0  # risk aversion from which on utilities may be beyond doubles
FAR = 3.0  # of log(f S), 0 of cash alone: from here on a utility is far from its usual size
NO_COST = -60.0  # log k below which costs are less than rounding of the growth
EARNED = 10.0  # of the largest return, what no weight earns while a tenth of wealth is left
EXACT = 1e-12  # of log k
BEYOND = 700.0  # exponents of doubles
AS_IT_IS = -1.0  # of `Data.crra`: no logarithms, from first weights
LARGEST = 600.0  # those of prices, which are summed and multiplied yet

Run = Callable[[Encoded], Answer]


def is_plain(encoded: Encoded) -> bool:
    """Whether the objective is such a utility alone, of an aversion that can take it so far."""
    blocks = encoded.blocks
    if blocks.crra is None or blocks.growth or blocks.quad is not None or blocks.linear.any():
        return False
    return blocks.crra[1] >= AVERSE and encoded.levels is None


def level(problem: Problem, weights: Array) -> float:
    """log(f S) at weights [n]; inf where a scenario takes all wealth."""
    rho, moments = problem.objective.risk_aversion, Moments(problem)
    idle = float(problem.objective_rates @ weights)
    wealth = 1.0 + problem.cash_return + moments.scenarios() @ weights - idle
    if not np.all(wealth > 0.0):
        return math.inf
    exponent = (1.0 - rho) * np.log(wealth)
    top = float(exponent.max())
    return top + math.log(float(moments.probability() @ np.exp(exponent - top)))


def is_far(encoded: Encoded, found: Solution) -> bool:
    """Whether the answer's utility is so far from its usual size that its errors are too."""
    if not is_plain(encoded) or found.status is not Status.OPTIMAL:
        return False
    return not abs(level(encoded.problem, found.weights)) <= FAR


def in_logarithms(encoded: Encoded, run: Run) -> Solution | None:
    """The optimum by certainty equivalents; None where there is none."""
    problem, first = encoded.problem, _least_loss(encoded)
    if first is None:
        return None
    best = _best(encoded, 0.0, [first], run)
    if best is None or not _is_dear(problem):
        return best
    most = _log_of_no_trade(encoded)
    high = min(-level(problem, best.weights), most)
    if high < NO_COST:
        return best
    starts = [first, *_as_held(problem)]
    solved = _Solved(lambda k: _best(encoded, math.exp(min(k, BEYOND)), starts, run), problem)
    try:
        least = high + solved.missed(high)
        if not least < high:  # nothing that costs is traded at a larger factor either
            return solved.at[high]
        solved.missed(least)
        root = float(brentq(solved.missed, least, high, xtol=EXACT, rtol=1e-15, maxiter=80))
        solved.missed(root)
        return solved.at[root]
    except (ArithmeticError, ValueError, RuntimeError):
        near = solved.between()
        return None if near is None else _as_it_is(encoded, near, run) or near


class _Solved:
    """The optima by log k, and by how much each misses that k is 1 / (f S) there."""

    def __init__(self, solve: Callable[[float], Solution | None], problem: Problem) -> None:
        self._solve, self._problem = solve, problem
        self.at: dict[float, Solution] = {}
        self._missed: dict[float, float] = {}

    def missed(self, logarithm: float) -> float:
        """Raises ArithmeticError where there is no optimum."""
        answer = self._solve(logarithm)
        if answer is None:
            raise ArithmeticError("the iteration stopped before its tolerances were met")
        self.at[logarithm] = answer
        self._missed[logarithm] = -level(self._problem, answer.weights) - logarithm
        return self._missed[logarithm]

    def between(self) -> Solution | None:
        """The best of the weights between the optima on both sides of the k sought.

        One scenario alone may decide S by hundreds of powers of e. Its logarithm is as good as
        linear there: costs outweigh all of it or none, the optimum leaps at a k, and near that the
        iteration loses its way. The utility itself is curved, and S is worth 1 / (f k) on the leap.
        """
        low = max((k for k, miss in self._missed.items() if miss > 0.0), default=None)
        high = min((k for k, miss in self._missed.items() if miss <= 0.0), default=None)
        if low is None or high is None:
            return None
        return _best_between(self._problem, self.at[low], self.at[high])


def _best_between(problem: Problem, low: Solution, high: Solution) -> Solution | None:
    """The best weights on the way from one solution to another: where its slope changes sign."""
    way = high.weights - low.weights
    compiled = blocks(problem.objective, Moments(problem))

    def slope(part: float) -> float:
        return _slope(problem, low.weights + part * way, way)

    if not slope(0.0) > 0.0 > slope(1.0):
        return None
    part = float(brentq(lambda x: math.copysign(1.0, slope(x)), 0.0, 1.0, xtol=1e-16, rtol=1e-15))
    weights = low.weights + part * way
    value = float(evaluate(problem, compiled, weights))
    return replace(low, weights=weights, objective=value) if math.isfinite(value) else None


def _as_it_is(encoded: Encoded, near: Solution, run: Run) -> Solution | None:
    """The optimum of the utility as it is, from weights near by; None where that is not found.

    The objective is counted in what wealth is worth there.
    """
    problem, crra = encoded.problem, encoded.blocks.crra
    assert encoded.data.returns is not None, "its wealth"
    assert crra is not None, "of such a utility"
    finer = crra[0] * math.exp(-level(problem, near.weights))
    slope = float(np.abs(encoded.data.returns).max(initial=0.0)) / float(encoded.unit)
    stated = encode(
        problem,
        encoded.blocks,
        unit=unit_of_utility(crra[1], slope),
        finer=finer,
        first=near.weights,
        execution=encoded.execution,
    )
    plain: dict[str, Any] = {"crra": np.array([*crra, AS_IT_IS])}
    stated = replace(stated, data=stated.data._replace(**plain))
    answer = run(stated)
    if not float(answer.error) <= accepted(stated):
        return None
    weights = snapped(stated, answer)
    value = float(evaluate(problem, encoded.blocks, weights))
    prices = multipliers_of(stated, answer, weights)
    steps, residual = int(answer.iterations), float(answer.error)
    return Solution(Status.OPTIMAL, weights, value, prices, steps, residual, method=METHOD)


def _slope(problem: Problem, weights: Array, way: Array) -> float:
    """The slope of utility, costs and soft rows along a way, over what S makes of a return."""
    rho, moments = problem.objective.risk_aversion, Moments(problem)
    excess = moments.scenarios() - problem.objective_rates
    wealth = 1.0 + problem.cash_return + excess @ weights
    if not np.all(wealth > 0.0):
        return math.nan
    exponent = -rho * np.log(wealth)
    size = max(float(exponent.max()), 0.0)
    earned = float((moments.probability() * np.exp(exponent - size)) @ (excess @ way))
    trade = weights - (0.0 if problem.holdings is None else problem.holdings)
    paid, costs, rows = np.zeros_like(way), problem.costs, problem.limits.rows
    if costs.linear is not None:
        paid = paid + costs.linear * np.sign(trade)
    if costs.impact is not None:
        paid = paid + 1.5 * costs.impact * np.sqrt(np.abs(trade)) * np.sign(trade)
    if rows is not None and rows.price is not None:
        value, price = rows.matrix @ weights, np.where(np.isinf(rows.price), 0.0, rows.price)
        beyond = 1.0 * (value > rows.row_max) - 1.0 * (value < rows.row_min)
        paid = paid + (price * beyond) @ rows.matrix
    return earned - math.exp(-size) * float(paid @ way)


def _as_held(problem: Problem) -> list[Array]:
    """What is held as near as the box lets it be, where most that costs is left undone; or none."""
    held = np.clip(0.0 if problem.holdings is None else problem.holdings, *box(problem))
    return [held] if math.isfinite(level(problem, held)) else []


def _log_of_no_trade(encoded: Encoded) -> float:
    """The logarithm of a factor at which each cost is more than its weight can earn."""
    cost, returns = encoded.data.cost, encoded.data.returns
    assert returns is not None, "its wealth"
    if cost is None:
        return BEYOND
    slope = float(np.abs(returns).max(initial=0.0))
    return math.log(EARNED * max(slope, 1e-300) / float(cost[cost > 0.0].min()))


def _is_dear(problem: Problem) -> bool:
    """Whether anything is taken off the utility."""
    costs, rows = problem.costs, problem.limits.rows
    soft = rows is not None and rows.price is not None and bool(np.isfinite(rows.price).any())
    return soft or any(c is not None and bool(c.any()) for c in (costs.linear, costs.impact))


def _least_loss(encoded: Encoded) -> Array | None:
    """The weights that lose least where they lose most, inside the linear limits.

    No growth is more certain than that of the worst scenario there by more than log(1 / its
    chance) / (rho - 1): near by, no scenario is so much worse that it hides all others.
    """
    problem = encoded.problem
    odds = Moments(problem).probability()
    least = float(np.min(odds[odds > 0.0]))
    linear = replace(problem.limits, volatility_max=None, var_max=None, drawdown_risk=None)
    worst = replace(
        problem,
        objective=Objective(ObjectiveKind.MIN_CVAR, tail=1.0 - 0.5 * least),
        limits=linear,
        costs=Costs(),
        scenarios=Moments(problem).scenarios() - problem.objective_rates,
    )
    found = solve_tail(worst, execution=encoded.execution)
    return found.weights if found.status is Status.OPTIMAL else None


def _best(encoded: Encoded, factor: float, starts: Sequence[Array], run: Run) -> Solution | None:
    """The most certain growth with what costs take of it times `factor`: from each of the starts,
    in two units.
    """
    problem = _priced(encoded.problem, factor)
    assert encoded.data.returns is not None, "its wealth"
    rho, own = problem.objective.risk_aversion, float(encoded.unit)
    slope = float(np.abs(encoded.data.returns).max(initial=0.0)) / own
    for first, unit in product(starts, (unit_of_utility(rho, slope), own)):
        stated = encode(
            problem, encoded.blocks, unit=unit, first=first, execution=encoded.execution
        )
        answer = run(stated)
        if float(answer.error) <= accepted(stated):
            return _read(encoded, stated, answer)
    return None


def _priced(problem: Problem, factor: float) -> Problem:
    """The problem with costs and soft prices times a factor."""
    costs, rows = problem.costs, problem.limits.rows
    linear, impact = (
        None if c is None or factor == 0.0 else c * factor for c in (costs.linear, costs.impact)
    )
    limits = problem.limits
    if rows is not None and rows.price is not None:
        limits = replace(limits, rows=replace(rows, price=rows.price * max(factor, 1e-300)))
    return replace(problem, costs=Costs(linear=linear, impact=impact), limits=limits)


def _read(encoded: Encoded, stated: Encoded, answer: Answer) -> Solution:
    """The solution of `encoded`; its prices are to each other as they should be where they are
    beyond doubles.
    """
    weights = snapped(stated, answer)
    scale = math.exp(min(level(encoded.problem, weights), LARGEST))
    given = multipliers_of(stated, answer, weights)
    prices = replace(
        given,
        **{
            field.name: getattr(given, field.name) * scale
            for field in fields(Multipliers)
            if field.name not in ("trade_slope", "gross_slope")
        },
    )
    with np.errstate(invalid="ignore", over="ignore"):
        value = float(evaluate(encoded.problem, encoded.blocks, weights))
    return Solution(
        Status.OPTIMAL,
        weights,
        value if math.isfinite(value) else -math.inf,
        prices,
        int(answer.iterations),
        float(answer.error),
        method=METHOD,
    )
