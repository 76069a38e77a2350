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
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
from scipy.optimize import brentq

from compute.optimize.interior_point.canonicalize import Encoded, encode
from compute.optimize.interior_point.output import Answer
from compute.optimize.interior_point.recover import accepted, multipliers_of, snapped
from compute.optimize.interior_point.scaling import unit_of_utility
from compute.optimize.objectives import Moments, evaluate
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
    best = _best(encoded, 0.0, first, run)
    if best is None or not _is_dear(problem):
        return best
    most = _log_of_no_trade(encoded)
    high = min(-level(problem, best.weights), most)
    if high < NO_COST:
        return best
    found: dict[float, Solution | None] = {}

    def missed(logarithm: float) -> float:
        found[logarithm] = answer = _best(encoded, math.exp(min(logarithm, BEYOND)), first, run)
        if answer is None:
            raise ArithmeticError("the iteration stopped before its tolerances were met")
        return -level(problem, answer.weights) - logarithm

    try:
        least = high + missed(high)
        if least < high:  # else nothing that costs is traded at a larger factor either
            missed(least)
            root = float(brentq(missed, least, high, xtol=EXACT, rtol=1e-15, maxiter=80))
            missed(root)
        else:
            root = high
    except (ArithmeticError, ValueError, RuntimeError):
        return None
    return found[root]


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


def _best(encoded: Encoded, factor: float, first: Array, run: Run) -> Solution | None:
    """The most certain growth with what costs take of it times `factor`, in two units."""
    problem = _priced(encoded.problem, factor)
    assert encoded.data.returns is not None, "its wealth"
    rho, unit = problem.objective.risk_aversion, float(encoded.unit)
    slope = float(np.abs(encoded.data.returns).max(initial=0.0)) / unit
    found, units = None, [unit_of_utility(rho, slope), unit]
    while units:
        unit = units.pop(0)
        stated = encode(
            problem, encoded.blocks, unit=unit, first=first, execution=encoded.execution
        )
        answer = run(stated)
        if not float(answer.error) <= accepted(stated):
            continue
        found = _read(encoded, stated, answer)
        units = []
    return found


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
