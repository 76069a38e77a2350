"""An independent answer to any sizing problem: cvxpy models for Clarabel, or HiGHS where linear.

Weights are modelled in units of their largest bound and utility in units of `size`, so that the
solvers' absolute tolerances mean something. Nothing here is shared with the joint solver.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import cvxpy as cp
import numpy as np

from benchmarks.draw import counted_in
from compute.optimize.problem import Array, Objective, ObjectiveKind, Problem
from compute.optimize.proof.evaluation import tail_limits
from compute.optimize.proof.problem_numbers import ProblemData

Kind = ObjectiveKind
TIGHT = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11, "max_iter": 400}
# Clarabel now and then stalls at one scaling of an objective and not at others.
SCALINGS = (1.0, 10.0, 0.1)
EXACT = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


def best_weights(problem: Problem, size: float, ratio: float | None = None) -> Array | None:
    """The weights an independent solver finds best, or None where it gives up.

    size: of the objective. ratio: for MAX_SHARPE, the Sharpe ratio S to be beaten; maximised is
    then mean'w - costs - S volatility(w), which is positive exactly where S can be beaten.
    """
    unit = _largest(problem)
    facts = ProblemData(counted_in(problem, 1.0 / unit))
    weights = cp.Variable(facts.size)
    value, conditions = _utility(facts, problem.objective, weights, ratio)
    value, rows = _rows(facts, weights, value - _costs(facts, weights))
    conditions += _limits(facts, weights) + rows
    rough = None
    for counted in SCALINGS:
        model = cp.Problem(cp.Maximize(value / (counted * size)), conditions)
        if _solved(model, linear=_linear(problem)):
            found = np.asarray(unit * np.clip(weights.value, facts.lower, facts.upper))
            if model.status == cp.OPTIMAL:
                return found
            rough = found if rough is None else rough
    return rough


def _solved(model: cp.Problem, linear: bool) -> bool:
    """Whether a solver found an optimum, be it with a warning about its accuracy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if linear:
                model.solve(solver=cp.HIGHS, highs_options=EXACT)
            else:
                model.solve(solver=cp.CLARABEL, **TIGHT)
        except (cp.SolverError, ValueError):
            return False
    return model.status in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE)


def riskless_mean(problem: Problem) -> float:
    """The largest mean less costs of a book without any risk; -inf where there is no such book.

    Variance within rounding is none: that of a covariance (twice its most negative eigenvalue), or
    that of a constant history (1e-14 of its mean, squared).
    """
    facts = ProblemData(problem)
    weights = cp.Variable(facts.size)
    gain = facts.excess @ weights
    unit = float(np.sqrt(np.diagonal(facts.covariance).max())) or 1.0
    noise = max(-2.0 * float(np.linalg.eigvalsh(facts.covariance)[0]), 0.0)
    noise = max(noise, (1e-14 * float(np.abs(facts.mean).max())) ** 2)
    riskless = [_deviation(facts, weights, noise) / unit == 0.0]
    size = float(np.abs(facts.mean).max()) or 1.0
    value = (gain - _costs(facts, weights)) / size
    model = cp.Problem(
        cp.Maximize(value), _limits(facts, weights) + _rows(facts, weights, 0.0)[1] + riskless
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model.solve(solver=cp.CLARABEL)
        except (cp.SolverError, ValueError):
            return float("-inf")
    return size * float(model.value) if model.value is not None else float("-inf")


def survivable(problem: Problem) -> bool:
    """Whether some book within the limits keeps money in every scenario."""
    facts = ProblemData(problem)
    weights = cp.Variable(facts.size)
    linear = replace(problem.limits, volatility_max=None, var_max=None, drawdown_risk=None)
    sides = _limits(ProblemData(replace(problem, limits=linear)), weights)
    model = cp.Problem(cp.Maximize(cp.min(_wealth(facts, weights))), sides)
    model.solve(solver=cp.HIGHS)
    return model.value is None or float(model.value) > 1e-9


def _largest(problem: Problem) -> float:
    facts = ProblemData(problem)
    ends = np.abs(np.concatenate([facts.lower, facts.upper]))
    return float(ends[np.isfinite(ends)].max(initial=0.0)) or 1.0


def _linear(problem: Problem) -> bool:
    limits, objective = problem.limits, problem.objective
    curved = (limits.volatility_max, limits.var_max, limits.drawdown_risk, problem.costs.impact)
    tails = (Kind.MAX_RETURN, Kind.MIN_CVAR, Kind.MIN_CDAR, Kind.MIN_MAX_DRAWDOWN)
    return objective.kind in tails and all(part is None for part in curved)


def _deviation(facts: ProblemData, weights: Any, noise: float = 0.0) -> Any:
    """sqrt(w'Sw) as the norm of a square root of S, which keeps its digits.

    Eigenvalues up to `noise` count as zero.
    """
    values, vectors = np.linalg.eigh(facts.covariance)
    kept = values > max(1e-15 * values[-1], noise)
    root = vectors[:, kept] * np.sqrt(values[kept])
    return root.T @ weights


def _wealth(facts: ProblemData, weights: Any) -> Any:
    cash = facts.problem.cash_return
    return 1.0 + cash + (facts.scenarios - facts.problem.financing_rates) @ weights


def _utility(
    facts: ProblemData, objective: Objective, weights: Any, ratio: float | None
) -> tuple[Any, list[Any]]:
    """The objective, larger is better, and conditions it needs."""
    kind, aversion = objective.kind, objective.risk_aversion
    if kind is Kind.COMBINATION:
        total, conditions = 0.0, []
        for weight, term in objective.terms:
            value, more = _utility(facts, term, weights, None)
            total, conditions = total + weight * value, conditions + more
        return total, conditions
    if kind is Kind.LOG_GROWTH or (kind is Kind.CRRA and aversion == 1.0):
        return facts.probability @ cp.log(_wealth(facts, weights)), []
    if kind is Kind.CRRA:
        power = cp.power(_wealth(facts, weights), 1.0 - aversion) / (1.0 - aversion)
        return facts.probability @ power, []
    if kind in (Kind.MIN_CVAR, Kind.MIN_CDAR, Kind.MIN_MAX_DRAWDOWN):
        value, conditions = _tail(facts, kind, objective.tail, weights)
        return -value, conditions
    gain = facts.excess @ weights
    if kind is Kind.MAX_RETURN:
        return gain, []
    if kind is Kind.MAX_SHARPE:
        return gain - (ratio or 0.0) * cp.norm(_deviation(facts, weights)), []
    square = cp.sum_squares(_deviation(facts, weights))
    if kind is Kind.MIN_VARIANCE:
        return -square, []
    if kind is Kind.MEAN_VARIANCE:
        return gain - 0.5 * aversion * square, []
    if kind is Kind.QUADRATIC_GROWTH:
        root = np.sqrt(facts.probability)[:, None] * (
            facts.scenarios - facts.problem.financing_rates
        )
        return gain - 0.5 * cp.sum_squares(root @ weights), []
    raise ValueError(f"no oracle for {kind.name}")


def _second(facts: ProblemData, weights: Any) -> Any:
    return cp.multiply(np.sqrt(facts.probability), facts.scenarios @ weights)


def _tail(facts: ProblemData, kind: Kind, level: float, weights: Any) -> tuple[Any, list[Any]]:
    """The tail measure (Rockafellar and Uryasev) and the conditions that define it."""
    losses, conditions = -facts.scenarios @ weights, []
    if kind is not Kind.MIN_CVAR:
        peak = cp.Variable(len(facts.scenarios), nonneg=True)
        path = np.cumsum(facts.scenarios, axis=0) @ weights
        conditions += [peak >= path, peak[1:] >= peak[:-1]]
        losses = peak - path
    if kind is Kind.MIN_MAX_DRAWDOWN:
        return cp.max(losses), conditions
    worst = cp.Variable()
    beyond = facts.probability @ cp.pos(losses - worst) / (1.0 - level)
    return worst + beyond, conditions


def _costs(facts: ProblemData, weights: Any) -> Any:
    costs, traded, total = facts.problem.costs, cp.abs(weights - facts.holdings), 0.0
    if costs.linear is not None:
        total = total + costs.linear @ traded
    if costs.impact is not None:
        total = total + costs.impact @ cp.power(traded, 1.5)
    return total


def _limits(facts: ProblemData, weights: Any) -> list[Any]:
    limits, sides = facts.problem.limits, []
    low, high = np.isfinite(facts.lower), np.isfinite(facts.upper)
    sides += [weights[low] >= facts.lower[low]] if low.any() else []
    sides += [weights[high] <= facts.upper[high]] if high.any() else []
    if limits.budget_min is not None:
        sides.append(cp.sum(weights) >= limits.budget_min)
    if limits.budget_max is not None:
        sides.append(cp.sum(weights) <= limits.budget_max)
    if limits.gross_max is not None:
        sides.append(cp.norm1(weights) <= limits.gross_max)
    if limits.turnover_max is not None:
        sides.append(cp.norm1(weights - facts.holdings) <= limits.turnover_max)
    return sides + _risk(facts, weights)


def _risk(facts: ProblemData, weights: Any) -> list[Any]:
    """The risk limits, in units of a typical return."""
    limits, sides = facts.problem.limits, []
    unit = 1.0
    if facts.problem.scenarios is not None:
        unit = float(np.abs(facts.scenarios).mean()) or 1.0
    if limits.volatility_max is not None:
        risk = cp.norm(_deviation(facts, weights) / unit)
        sides.append(risk <= limits.volatility_max / unit)
    if limits.var_max is not None:
        quantile = NormalDist().inv_cdf(limits.var_tail)
        risk = quantile * cp.norm(_deviation(facts, weights) / unit)
        sides.append(risk - (facts.mean / unit) @ weights <= limits.var_max / unit)
    for _, kind, bound, level in tail_limits(facts.problem):
        value, conditions = _tail(facts, kind, level, weights / unit)
        sides += [*conditions, value <= bound / unit]
    risk_limit = limits.drawdown_risk
    if risk_limit is not None and risk_limit.quadratic:
        mean = facts.probability @ facts.scenarios
        square = cp.sum_squares(_second(facts, weights))
        sides.append(0.5 * (risk_limit.exponent + 1.0) * square <= mean @ weights)
    elif risk_limit is not None:
        # In units of the growth itself, so that the exponential cones are of size one.
        growth = cp.Variable(len(facts.scenarios))
        sides.append(cp.log(_wealth(facts, weights)) >= growth)
        sides.append(facts.probability @ cp.exp(-risk_limit.exponent * growth) <= 1.0)
    return sides


def _rows(facts: ProblemData, weights: Any, value: Any) -> tuple[Any, list[Any]]:
    """Named rows: hard ones as conditions, soft ones at their price."""
    rows, sides = facts.problem.limits.rows, []
    if rows is None:
        return value, sides
    price = np.full(len(rows.names), np.inf) if rows.price is None else rows.price
    for row, low, high, cost in zip(rows.matrix, rows.row_min, rows.row_max, price, strict=True):
        for bound, excess in ((low, low - row @ weights), (high, row @ weights - high)):
            if np.isfinite(bound) and np.isfinite(cost):
                value = value - cost * cp.pos(excess)
            elif np.isfinite(bound):
                sides.append(excess <= 0.0)
    return value, sides
