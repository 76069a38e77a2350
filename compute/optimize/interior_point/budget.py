"""Risk budgeting as a `Problem`: the closed convex form, or a constrained one where limits cut in.

Without limits that bind, the weights are those of `risk_budget` scaled to the budget. With them the
budgets cannot all be met; the answer then is the portfolio of Richard and Roncalli (2019),

    minimise  1/2 w'Sw - lambda b'log w   inside the limits,   lambda = v'Sv,

v being the unconstrained one. It equals v wherever v is allowed, and its multipliers are those of
this function. `objective` says how far the budgets are missed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compute.optimize.execution import JUST_IN_TIME, Execution, JointShapes, Programs
from compute.optimize.interior_point.canonicalize import ASSETS
from compute.optimize.interior_point.risk_budget import run_spinu, run_spinu_batch, spinu
from compute.optimize.limits import box
from compute.optimize.objectives import Blocks, Moments, budget_error, shares
from compute.optimize.problem import Array, Limits, Multipliers, Problem, Solution, Status
from compute.shapes import Kernel, NotCompiledError, padded

KERNEL = "joint/budget"
METHOD = "Newton on the logarithmic barrier"
CONVERGED = 1e-7
DECREMENT = 1e-4  # of Newton's method, above which it has no minimum to go to
ROUNDING = 1e-24  # share of the largest variance that a constant history shows by rounding


def unconstrained(
    problem: Problem, covariance: Array, execution: Execution = JUST_IN_TIME
) -> tuple[Array, Array]:
    """Risk-budget weights scaled to the budget, and the iterations taken.

    ValueError where an asset has no variance, or a long book has none: no share of the risk.
    """
    n = problem.size
    variance = np.diagonal(covariance, axis1=-2, axis2=-1)
    if not np.all(variance > ROUNDING * variance.max(axis=-1, keepdims=True, initial=0.0)):
        raise ValueError("risk budgeting needs a positive variance for every asset")
    answer = _spinu(covariance, shares(problem.objective, n), execution.programs)
    if not np.all(answer[..., -2] <= DECREMENT):
        raise ValueError("covariance: long positions cancel all risk, so none can share it")
    weights = answer[..., :n]
    return weights * (_target(problem.limits) / weights.sum(axis=-1, keepdims=True)), answer[
        ..., -1
    ]


def _spinu(covariance: Array, budgets: Array, programs: Programs | None) -> Array:
    """The kernel's answer, padded by names without a budget; that of every problem of a stack."""
    n = budgets.shape[-1]
    width = next((size for size in ASSETS if size >= n), n)
    if programs is not None:
        width = next((size for size in programs.shapes.assets if size >= n), 0)
        if not width:
            most = programs.shapes.assets[-1]
            raise NotCompiledError(f"{n} instruments are more than the {most} this server takes")
    matrix, own = padded(covariance, width, width), padded(budgets, width)
    own = np.broadcast_to(own, matrix.shape[:-1])
    if programs is not None:
        each = zip(matrix, own, strict=True)
        return np.stack([programs.registry.run(KERNEL, *one) for one in each])
    if len(matrix) == 1:
        return np.asarray(run_spinu(matrix[0], own[0]))[None]
    return np.asarray(run_spinu_batch(matrix, own))


def kernel(shapes: JointShapes) -> Kernel:
    """The closed convex form for every number of names."""
    return Kernel(KERNEL, spinu, tuple(((n, n), (n,)) for n in shapes.assets))


def _target(limits: Limits) -> Array:
    """The sum of weights aimed at, f64[1]: the largest allowed, else the smallest, else 1."""
    target = np.ones(())
    for bound in (limits.budget_min, limits.budget_max):
        if bound is not None:
            aimed = np.asarray(bound, np.float64)
            target = np.where(np.isfinite(aimed) & (aimed > 0.0), aimed, target)
    return target[..., None]


def allowed(problem: Problem, weights: Array) -> NDArray[np.bool_]:
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
        return np.zeros(weights.shape[:-1], bool)
    lower, upper = box(problem)
    floor = -np.inf if limits.budget_min is None else np.asarray(limits.budget_min) - 1e-15
    boxed = ((weights >= lower) & (weights <= upper)).all(axis=-1)
    return np.asarray(boxed & (weights.sum(axis=-1) >= floor))


def closed_form(problem: Problem, execution: Execution = JUST_IN_TIME) -> Solution | Blocks:
    """The solution if the limits allow it, else the blocks of the constrained problem."""
    (answer,), blocks = closed_forms(problem, 1, execution)
    if answer is not None:
        return answer
    assert blocks.quad is not None
    assert blocks.barrier is not None
    return Blocks(blocks.linear, blocks.quad[0], barrier=blocks.barrier[0])


def closed_forms(
    problem: Problem, batch: int, execution: Execution = JUST_IN_TIME
) -> tuple[list[Solution | None], Blocks]:
    """Of every problem of a stack the solution, None where its limits do not allow it; and blocks.

    The blocks are those of the constrained problems, with a leading axis.
    """
    n = problem.size
    covariance = np.broadcast_to(Moments(problem).covariance(), (batch, n, n))
    weights, iterations = unconstrained(problem, covariance, execution)
    miss = np.asarray(budget_error(problem.objective, covariance, weights))
    met = allowed(problem, weights) & (miss < CONVERGED)
    each = zip(weights, miss.tolist(), iterations.astype(int).tolist(), met, strict=True)
    none = _no_prices(problem)
    found = [
        Solution(Status.OPTIMAL, book, error, none, steps, error, method=METHOD) if is_met else None
        for book, error, steps, is_met in each
    ]
    level = np.vecdot(weights, np.matvec(covariance, weights))[..., None]
    return found, Blocks(np.zeros(n), covariance, barrier=level * shares(problem.objective, n))


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
