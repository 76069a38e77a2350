"""Risk budgeting as a `Problem`: the closed convex form, or a constrained one where limits cut in.

Without limits that bind, the weights are those of `risk_budget` scaled to the budget. With them the
budgets cannot all be met; the answer then is the portfolio of Richard and Roncalli (2019),

    minimise  1/2 w'Sw - lambda b'log w   inside the limits,   lambda = v'Sv,

v being the unconstrained one. It equals v wherever v is allowed, and its multipliers are those of
this function. `objective` says how far the budgets are missed.
"""

from __future__ import annotations

import numpy as np

from compute.optimize.ahead import JointShapes, compiled_programs
from compute.optimize.limits import box
from compute.optimize.objectives import Blocks, Moments, budget_error, shares
from compute.optimize.problem import Array, Limits, Multipliers, Problem, Solution, Status
from compute.optimize.solver.encode import ASSETS, bucket
from compute.optimize.solver.risk_budget import run_spinu, spinu
from compute.shapes import Kernel, NotCompiledError

KERNEL = "joint/budget"
METHOD = "Newton on the logarithmic barrier"
CONVERGED = 1e-7
DECREMENT = 1e-4  # of Newton's method, above which it has no minimum to go to
ROUNDING = 1e-24  # share of the largest variance that a constant history shows by rounding


def unconstrained(problem: Problem, covariance: Array) -> tuple[Array, int]:
    """Risk-budget weights scaled to the budget, and the iterations taken.

    ValueError where an asset has no variance, or a long book has none: no share of the risk.
    """
    n = problem.size
    variance = np.diagonal(covariance)
    if not np.all(variance > ROUNDING * variance.max(initial=0.0)):
        raise ValueError("risk budgeting needs a positive variance for every asset")
    answer = _spinu(covariance, shares(problem.objective, n))
    if not answer[-2] <= DECREMENT:
        raise ValueError("covariance: long positions cancel all risk, so none can share it")
    weights: Array = answer[:n] * (_target(problem.limits) / answer[:n].sum())
    return weights, int(answer[-1])


def _spinu(covariance: Array, budgets: Array) -> Array:
    """The kernel's answer, padded by names without a budget."""
    n, programs = len(budgets), compiled_programs()
    width = bucket(n, ASSETS)
    if programs is not None:
        width = next((size for size in programs.shapes.assets if size >= n), 0)
        if not width:
            most = programs.shapes.assets[-1]
            raise NotCompiledError(f"{n} instruments are more than the {most} this server takes")
    matrix, padded = np.zeros((width, width)), np.zeros(width)
    matrix[:n, :n], padded[:n] = covariance, budgets
    if programs is not None:
        return programs.registry.run(KERNEL, matrix, padded)
    return np.asarray(run_spinu(matrix, padded))


def kernel(shapes: JointShapes) -> Kernel:
    """The closed convex form for every number of names."""
    return Kernel(KERNEL, spinu, tuple(((n, n), (n,)) for n in shapes.assets))


def _target(limits: Limits) -> float:
    """The sum of weights aimed at: the largest allowed, else the smallest, else 1."""
    for bound in (limits.budget_max, limits.budget_min):
        if bound is not None and np.isfinite(bound) and bound > 0.0:
            return bound
    return 1.0


def allowed(problem: Problem, weights: Array) -> bool:
    """True if only a box and a budget are set, without costs, and `weights` are inside."""
    limits, costs = problem.limits, problem.costs
    others = (
        limits.rows,
        limits.gross_max,
        limits.turnover_max,
        limits.volatility_max,
        limits.var_max,
        limits.drawdown_risk,
        costs.linear,
        costs.impact,
    )
    if any(other is not None for other in others):
        return False
    lower, upper = box(problem)
    floor = limits.budget_min if limits.budget_min is not None else -np.inf
    return bool(np.all((weights >= lower) & (weights <= upper)) and weights.sum() >= floor - 1e-15)


def closed_form(problem: Problem) -> Solution | Blocks:
    """The solution if the limits allow it, else the blocks of the constrained problem."""
    covariance = Moments(problem).covariance()
    weights, iterations = unconstrained(problem, covariance)
    miss = budget_error(problem.objective, covariance, weights)
    if allowed(problem, weights) and miss < CONVERGED:
        return Solution(
            Status.OPTIMAL, weights, miss, _no_prices(problem), iterations, miss, method=METHOD
        )
    level = float(weights @ covariance @ weights)
    n = problem.size
    return Blocks(np.zeros(n), covariance, barrier=level * shares(problem.objective, n))


def _no_prices(problem: Problem) -> Multipliers:
    """No limit costs anything: risk shares do not depend on the scale of the weights."""
    zero = np.zeros(problem.size)
    none = np.zeros(0)
    return Multipliers(
        lower=zero,
        upper=zero,
        budget_min=0.0,
        budget_max=0.0,
        row_min=none,
        row_max=none,
        gross_max=0.0,
        turnover_max=0.0,
        trade_max=zero,
        volatility_max=0.0,
        var_max=0.0,
        cvar_max=0.0,
        cdar_max=0.0,
        drawdown_max=0.0,
        drawdown_risk=0.0,
        trade_slope=zero,
        gross_slope=zero,
    )
