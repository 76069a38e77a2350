"""The largest Sharpe ratio by one number, the risk aversion, where the direct iteration got lost.

The book w(g) that maximises mean'w - costs - g/2 w'Sw runs along the efficient frontier as g
falls. A ray from cash touches the frontier where mean'w - costs = g w'Sw: there the ratio is
largest. Left less right falls in g (it is the intercept of the frontier's tangent, N - sd N'(sd)
for a concave N), so one root is bracketed and found, each try being one convex program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
from scipy import sparse
from scipy.optimize import brentq

from compute.optimize.interior_point.canonicalize import Encoded
from compute.optimize.interior_point.recover import empty
from compute.optimize.limits import linear
from compute.optimize.linear_program import Builder, LpStatus, maximise
from compute.optimize.objectives import Blocks, Moments, costs
from compute.optimize.problem import (
    Array,
    Multipliers,
    ObjectiveKind,
    Problem,
    Solution,
    Status,
)

METHOD = "interior point along the frontier"
STEP, STEPS_MAX = 30.0, 12  # of the bracket, as factors of the risk aversion
NEAR = 1e-10  # share of the reward below which the intercept is none: the ratio misses its square
FLAT, MOVED = 1e-14, 1e-5  # of the largest eigenvalue; of the weights
CONSTANT = 1e-14  # of the mean: the volatility of a history that never moves, by rounding
TAKEN = 1e-7  # of the largest weight, above which a name is held
ROUNDED = 2.0  # times the most negative eigenvalue: what is lost in rounding of the entries

Maximiser = Callable[[Problem, Blocks], Solution]


def along_frontier(encoded: Encoded, best: Maximiser) -> Solution:
    """The optimum of a Sharpe problem, `best` solving it for other blocks.

    UNBOUNDED where a book without risk has a positive mean, NONPOSITIVE_MEAN where none has one,
    NOT_CONVERGED where `best` does not answer.
    """
    problem, blocks = encoded.problem, encoded.blocks
    assert blocks.quad is not None
    quad = blocks.quad
    if rewarded_without_risk(problem, blocks):
        return empty(problem, Status.UNBOUNDED, METHOD)
    richest = best(problem, Blocks(blocks.linear))
    if richest.status is Status.OPTIMAL:
        if richest.objective <= 1e-12 * float(np.max(np.abs(blocks.linear))):
            return _failed(problem, Status.NONPOSITIVE_MEAN, richest)
        first = richest.objective / max(float(richest.weights @ quad @ richest.weights), 1e-300)
    else:
        first = float(np.max(np.abs(blocks.linear))) / float(np.max(np.diagonal(quad)))
    tried: dict[float, Solution] = {}

    def intercept(level: float) -> float:
        found = best(problem, Blocks(blocks.linear, np.exp(level) * quad))
        tried[level] = found
        if found.status is not Status.OPTIMAL:
            raise ArithmeticError(found.status.name)
        reward = float(blocks.linear @ found.weights - costs(problem, found.weights))
        carried = float(np.exp(level)) * float(found.weights @ quad @ found.weights)
        size = abs(reward) + carried
        apart = (reward - carried) / size if size > 0.0 else -1.0
        return 0.0 if abs(apart) <= NEAR else apart

    try:
        level = _root(intercept, float(np.log(first)))
    except ArithmeticError:
        return _failed(problem, Status.NOT_CONVERGED, list(tried.values())[-1])
    if level is None or _riskless(_risky(quad, blocks.linear), tried[level].weights):
        return _failed(problem, Status.UNBOUNDED, list(tried.values())[-1])
    if not float(tried[level].weights @ quad @ tried[level].weights) > 0.0:
        return _failed(problem, Status.NOT_CONVERGED, tried[level])  # no covariance: not PSD
    return _as_ratio(tried[level], problem, blocks, quad)


def without_size(problem: Problem) -> Problem | None:
    """The problem without impact costs where any book may be had in any smaller size; else None.

    From no holdings mean, linear costs and risk go with the size k of a book and impact with
    k^(3/2): the smaller the better, and without impact the ratio is what it rises to.
    """
    impact, limits = problem.costs.impact, problem.limits
    if problem.objective.kind is not ObjectiveKind.MAX_SHARPE or impact is None:
        return None
    held = problem.holdings is not None and problem.holdings.any()
    allowed = linear(problem)
    least = (allowed.lower <= 0.0).all() and (allowed.row_min <= 0.0).all()
    most = (allowed.upper >= 0.0).all() and (allowed.row_max >= 0.0).all()
    caps = limits.var_max, limits.cvar_max, limits.cdar_max
    below = any(cap is not None and cap < 0.0 for cap in caps)
    if held or below or not (impact.any() and least and most):
        return None
    return replace(problem, costs=replace(problem.costs, impact=None))


def vanishing(problem: Problem, limit: Solution) -> bool:
    """True if the answer to the problem without size takes a book that has impact."""
    if limit.status is not Status.OPTIMAL or problem.costs.impact is None:
        return False
    size = np.abs(limit.weights)
    return bool((problem.costs.impact[size > TAKEN * size.max()] > 0.0).any())


def _root(intercept: Callable[[float], float], level: float) -> float | None:
    """Where the intercept is zero; None if it never falls that far."""
    here, step = intercept(level), float(np.log(STEP))
    if here == 0.0:
        return level
    for _ in range(STEPS_MAX):
        after = level + (step if here > 0.0 else -step)
        there = intercept(after)
        if there == 0.0 or (there > 0.0) != (here > 0.0):
            found: float = after if there == 0.0 else brentq(intercept, level, after, xtol=1e-13)
            return found
        level, here = after, there
    return None


def rewarded_without_risk(problem: Problem, blocks: Blocks) -> bool:
    """True if a feasible book on which the covariance shows no risk has a positive mean.

    Then the ratio has no largest value. A linear program finds the best such book; what a limit on
    drawdown risk leaves of them is not asked.
    """
    assert blocks.quad is not None
    risky, n = _risky(blocks.quad, blocks.linear), problem.size
    if risky.shape[1] == n or problem.limits.drawdown_risk is not None:
        return False
    builder = _linear_limits(problem, blocks.linear)
    if risky.shape[1]:
        builder.rows("risk", {"weights": risky.T}, 0.0, 0.0)
    if (loss := problem.limits.var_max) is not None:
        mean = Moments(problem).mean()
        builder.rows("var", {"weights": mean[None, :]}, -loss, np.inf)
    found = maximise(builder.build())
    if found.status is not LpStatus.OPTIMAL:
        return found.status is LpStatus.UNBOUNDED
    weights = found.point[builder.column_slice("weights")]
    reward = float(blocks.linear @ weights) - costs(problem, weights)
    return bool(reward > NEAR * float(np.abs(blocks.linear).max()))


def _linear_limits(problem: Problem, reward: Array) -> Builder:
    """Reward less linear costs and soft prices over the linear limits, as a linear program."""
    builder, limits, n = Builder(), linear(problem), problem.size
    eye = sparse.identity(n, format="coo")
    unit = float(np.abs(reward).max()) or 1.0
    held = np.zeros(n) if problem.holdings is None else problem.holdings
    cost = problem.costs.linear
    builder.columns("weights", n, limits.lower, limits.upper, reward / unit)
    sums = (("trade", held, limits.turnover, cost), ("size", np.zeros(n), limits.gross, None))
    for name, centre, most, rate in sums:
        if most is None and rate is None:
            continue
        builder.columns(name, n, 0.0, np.inf, 0.0 if rate is None else -rate / unit)
        builder.rows(f"{name} up", {"weights": eye, name: -eye}, -np.inf, centre)
        builder.rows(f"{name} down", {"weights": -eye, name: -eye}, -np.inf, -centre)
        if most is not None:
            builder.rows(f"{name} sum", {name: np.ones((1, n))}, -np.inf, float(most))
    soft = np.isfinite(limits.price)
    blocks: dict[str, object] = {"weights": limits.rows}
    if soft.any():
        give = sparse.coo_array(np.eye(len(soft))[:, soft])
        for name, sign in (("over", -1.0), ("under", 1.0)):
            builder.columns(name, int(soft.sum()), 0.0, np.inf, -limits.price[soft] / unit)
            blocks[name] = sign * give
    builder.rows("rows", blocks, limits.row_min, limits.row_max)
    return builder


def _risky(quad: Array, mean: Array) -> Array:
    """Directions [n, r] along which a covariance shows risk, of length one.

    A negative eigenvalue says how far its entries are off, and a history that never moves shows
    the rounding of its mean: variance below that is no evidence.
    """
    values, vectors = np.linalg.eigh(quad)
    constant = (CONSTANT * float(np.abs(mean).max())) ** 2
    risky: Array = vectors[:, values > max(FLAT * values[-1], -ROUNDED * values[0], constant)]
    return risky


def _riskless(risky: Array, weights: Array) -> bool:
    """True if all but `MOVED` of the weights lies where the covariance shows no risk at all."""
    return bool(np.linalg.norm(weights @ risky) <= MOVED * np.linalg.norm(weights))


def _as_ratio(found: Solution, problem: Problem, blocks: Blocks, quad: Array) -> Solution:
    """The answer for a risk aversion as that for the ratio: its prices over the volatility."""
    risk = float(np.sqrt(found.weights @ quad @ found.weights))
    given = found.multipliers
    assert given is not None
    prices = {
        field.name: getattr(given, field.name) / (1.0 if field.name.endswith("slope") else risk)
        for field in fields(Multipliers)
    }
    reward = float(blocks.linear @ found.weights - costs(problem, found.weights))
    return replace(found, objective=reward / risk, multipliers=Multipliers(**prices), method=METHOD)


def _failed(problem: Problem, status: Status, found: Solution) -> Solution:
    residual, iterations = found.residual, found.iterations
    return replace(empty(problem, status, METHOD), residual=residual, iterations=iterations)
