"""The frontier in closed form, convex and monotone, with an independent solver handed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest

from compute.optimize import solve_batch
from compute.optimize.frontier import trace
from compute.optimize.problem import Limits, Objective, ObjectiveKind, Problem, Solution, Status

Kind = ObjectiveKind
COVARIANCE = np.array([[0.04, 0.006, 0], [0.006, 0.09, 0.01], [0, 0.01, 0.0225]])
MEAN = np.array([0.05, 0.08, 0.03])


def _clarabel(problems: Sequence[Problem]) -> list[Solution]:
    return [_solve(problem) for problem in problems]


def _solve(problem: Problem) -> Solution:
    w, limits = cp.Variable(3), problem.limits
    held = [w >= limits.lower, w <= limits.upper, cp.sum(w) == limits.budget_max]
    if limits.rows is not None:
        held.append(limits.rows.matrix @ w >= limits.rows.row_min)
    risk = cp.quad_form(w, cp.psd_wrap(COVARIANCE))
    goal = MEAN @ w if problem.objective.kind is Kind.MAX_RETURN else -risk
    model = cp.Problem(cp.Maximize(goal), held)
    model.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    if w.value is None:
        return Solution(Status.INFEASIBLE, np.full(3, np.nan), np.nan, None, 0, 0.0)
    return Solution(Status.OPTIMAL, w.value, float(goal.value), None, 0, 0.0)


def _book(upper: float = 1.0, budget: float = 1.0) -> Problem:
    limits = Limits(
        lower=np.zeros(3), upper=np.full(3, upper), budget_min=budget, budget_max=budget
    )
    return Problem(Objective(Kind.MIN_VARIANCE), limits, mean=MEAN, covariance=COVARIANCE)


def test_ends_and_shape() -> None:
    found = trace(_book(), 9, _clarabel)
    inverse = np.linalg.solve(COVARIANCE, np.ones(3))
    np.testing.assert_allclose(found.weights[0], inverse / inverse.sum(), atol=1e-7)
    np.testing.assert_allclose(found.weights[-1], [0, 1, 0], atol=1e-6)
    assert found.risk[0] == pytest.approx(1.0 / np.sqrt(inverse.sum()), rel=1e-9)
    assert np.all(np.diff(found.mean) > 0)
    assert np.all(np.diff(found.risk) > 0)
    # Risk is convex in return: every inner point lies below its neighbours' chord.
    assert np.all(np.diff(np.diff(found.risk) / np.diff(found.mean)) > -1e-6)


def test_no_random_portfolio_is_above_the_frontier() -> None:
    found = trace(_book(), 25, _clarabel)
    books = np.random.default_rng(0).dirichlet(np.ones(3), 2000)
    risk = np.sqrt(np.einsum("ij,jk,ik->i", books, COVARIANCE, books))
    returns = books @ MEAN
    above = returns >= found.mean[0]
    # The frontier is convex, so its chords lie above it: leave room for their bend.
    best = np.interp(returns[above], found.mean, found.risk)
    assert np.all(risk[above] >= best - 1e-3)


def test_conflicting_limits_and_wrong_objectives_are_refused() -> None:
    with pytest.raises(ArithmeticError, match="No weights"):
        trace(_book(upper=0.2), 3, _clarabel)
    with pytest.raises(ValueError, match="not a risk"):
        trace(Problem(Objective(Kind.MAX_RETURN), mean=MEAN), 3, _clarabel)
    with pytest.raises(ValueError, match="two points"):
        trace(_book(), 1, _clarabel)


def test_a_combination_of_risks_is_a_risk_and_weighs_them() -> None:
    returns = np.random.default_rng(2).multivariate_normal(MEAN / 50, COVARIANCE / 50, 80)
    terms = (0.7, Objective(Kind.MIN_CVAR, tail=0.9)), (2.0, Objective(Kind.MIN_VARIANCE))
    problem = replace(_book(), objective=Objective(Kind.COMBINATION, terms=terms), covariance=None)
    problem = replace(problem, mean=None, scenarios=returns)
    found = trace(problem, 6, solve_batch)
    for weights, risk in zip(found.weights, found.risk, strict=True):
        losses = np.sort(-returns @ weights)[::-1]
        weighed = 0.7 * losses[:8].mean() + 2.0 * np.var(returns @ weights, ddof=1)
        assert risk == pytest.approx(weighed, rel=1e-9)
    assert np.all(np.diff(found.mean) > 0.0)
    # The slope of a convex frontier is its price.
    slopes = np.diff(found.risk) / np.diff(found.mean)
    assert np.all(found.price[:-1] - 1e-6 <= slopes)
    assert np.all(slopes <= found.price[1:] + 1e-6)
    growth = Objective(Kind.COMBINATION, terms=(*terms, (1.0, Objective(Kind.MAX_RETURN))))
    with pytest.raises(ValueError, match="not a risk"):
        trace(replace(problem, objective=growth), 3, solve_batch)
