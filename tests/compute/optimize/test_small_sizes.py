"""Answers of tiny sizes, or beside huge ones: exact where their optimum is known, and proven."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest

from compute.optimize import solve
from compute.optimize.execution import Execution
from compute.optimize.problem import (
    Array,
    Costs,
    Limits,
    Objective,
    ObjectiveKind,
    Problem,
    Rows,
    Status,
)
from compute.optimize.proof.certificate import certify

Kind = ObjectiveKind


def rows_of(matrix: list[list[float]], most: list[float]) -> Rows:
    names = tuple(f"row {i}" for i in range(len(most)))
    return Rows(np.array(matrix), np.full(len(most), -np.inf), np.array(most), names)


@pytest.mark.parametrize("room", [3e-12, 4e-11])
def test_what_is_left_beside_a_position_that_stays_is_used(ahead: Execution, room: float) -> None:
    held = 0.3 - room
    limits = Limits(
        lower=np.array([0.0, 0.0, held]),
        upper=np.array([2.0, 1e-3, held]),
        rows=rows_of([[1.0, 1.0, 1.0]], [0.3]),
    )
    mean = np.array([2e-4, 1e-3, 0.0])
    problem = Problem(Objective(Kind.MAX_RETURN), limits=limits, mean=mean)
    found = solve(problem, execution=ahead)
    assert found.status is Status.OPTIMAL
    np.testing.assert_allclose(found.weights[:2], [0.0, 0.3 - held], rtol=1e-3, atol=1e-20)
    assert certify(problem, found).is_optimal


def test_a_position_that_may_not_stay_goes_however_small_it_is(ahead: Execution) -> None:
    limits = Limits(lower=np.zeros(2), upper=np.ones(2))
    problem = Problem(
        Objective(Kind.MIN_VARIANCE),
        limits=limits,
        covariance=np.diag([1e-4, 4e-4]),
        holdings=np.array([-5e-12, 0.1]),
        costs=Costs(linear=np.array([0.03, 0.0])),
    )
    found = solve(problem, execution=ahead)
    np.testing.assert_array_equal(found.weights, [0.0, 0.0])
    assert certify(problem, found).is_optimal


def test_a_variance_that_can_be_zero_is(ahead: Execution) -> None:
    """The last two cancel each other's risk; the others would only add some."""
    part = np.array([[0.0, 0.0, 1e-2, 2e-2]])
    covariance = np.diag([3e-4, 1e-4, 0.0, 0.0]) + part.T @ part
    limits = Limits(
        lower=np.array([0.0, 0.0, -1.0, 0.0]),
        upper=np.ones(4),
        rows=rows_of([[0.4, 0.1, 0.0, -2.0]], [-0.1]),
    )
    problem = Problem(Objective(Kind.MIN_VARIANCE), limits=limits, covariance=covariance)
    found = solve(problem, execution=ahead)
    np.testing.assert_array_equal(found.weights[:2], [0.0, 0.0])
    assert found.weights[3] >= 0.05 * (1.0 - 1e-9)
    assert certify(problem, found).is_optimal


def exact_least_variance(covariance: Array, support: list[int], cut: list[int]) -> mp.mpf:
    """The least w'Sw with sum w = 1 over a support, others at nothing; of its KKT conditions."""
    mp.mp.dps = 40
    size = len(support)
    matrix = mp.zeros(size + 1)
    for a, i in enumerate(support):
        for b, j in enumerate(support):
            matrix[a, b] = 2 * mp.mpf(float(covariance[i, j]))
        matrix[a, size] = matrix[size, a] = 1
    right = mp.zeros(size + 1, 1)
    right[size] = 1
    found = mp.lu_solve(matrix, right)
    weights = dict(zip(support, found[:size], strict=True))
    assert all(x > 0 for x in weights.values())
    slopes = {
        i: 2 * sum(mp.mpf(float(covariance[i, j])) * w for j, w in weights.items()) for i in cut
    }
    assert all(slope >= -found[size] for slope in slopes.values())
    return sum(
        a * b * mp.mpf(float(covariance[i, j]))
        for i, a in weights.items()
        for j, b in weights.items()
    )


@pytest.mark.parametrize("seed", range(8))
def test_least_variance_of_deviations_a_thousand_times_apart(ahead: Execution, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 9))
    deviation = np.where(rng.random(n) < 0.5, 2e-5, 2e-2)
    deviation[0], deviation[-1] = 2e-5, 2e-2
    root = rng.standard_normal((n, n))
    covariance = root @ root.T + 0.3 * n * np.eye(n)
    own = deviation / np.sqrt(np.diagonal(covariance))
    covariance = covariance * np.outer(own, own)
    limits = Limits(lower=np.zeros(n), upper=np.ones(n), budget_min=1.0, budget_max=1.0)
    problem = Problem(Objective(Kind.MIN_VARIANCE), covariance=covariance, limits=limits)
    found = solve(problem, execution=ahead)
    assert certify(problem, found).is_optimal
    support = np.flatnonzero(found.weights > 1e-12).tolist()
    cut = sorted(set(range(n)) - set(support))
    least = exact_least_variance(covariance, support, cut)
    assert abs(found.objective / float(least) - 1.0) <= 1e-8


def test_gains_of_a_million_beside_ordinary_ones(ahead: Execution) -> None:
    """CRRA: the weights where 40 digits say that no slope is left."""
    returns = np.array([[1e6, 0.01], [-1.0, -0.012], [1e6, 0.003], [-1.0, 0.008], [-0.9, -0.02]])
    problem = Problem(
        Objective(Kind.CRRA, risk_aversion=2.0),
        limits=Limits(lower=np.array([0.0, -100.0]), upper=np.array([1000.0, 100.0])),
        scenarios=returns,
    )
    found = solve(problem, execution=ahead)
    assert certify(problem, found).is_optimal
    mp.mp.dps = 40

    def slopes(*weights: mp.mpf) -> list[mp.mpf]:
        rows = [[mp.mpf(float(x)) for x in row] for row in returns]
        wealth = [1 + sum(w * x for w, x in zip(weights, row, strict=True)) for row in rows]
        return [sum(w**-2 * row[i] for w, row in zip(wealth, rows, strict=True)) for i in range(2)]

    start = [mp.mpf(float(x)) for x in found.weights]
    exact = [float(x) for x in mp.findroot(slopes, start, tol=mp.mpf(10) ** -25)]
    np.testing.assert_allclose(found.weights, exact, rtol=1e-4)


def test_curvature_proves_what_is_beside_positions_that_may_not_move(ahead: Execution) -> None:
    """Two scenarios bend two instruments; what can't be traded would leave them flat."""
    returns = np.array([[0.0085, -0.0618, 0.022, 0.0022], [-0.0164, -0.0219, 0.0174, -0.0301]])
    views = np.array([0.0049, 0.0452, -0.0276, 0.0234])
    problem = Problem(
        Objective(Kind.CRRA, risk_aversion=1e6),
        limits=Limits(lower=np.zeros(4), upper=np.array([0.0, 0.1, 0.0, 0.1])),
        scenarios=returns,
        views=views,
        costs=Costs(linear=np.array([5e-4, 1.6e-3, 2.5e-3, 7e-3])),
        holdings=np.zeros(4),
    )
    found = solve(problem, execution=ahead)
    assert (found.weights[[1, 3]] > 0.0).all()
    assert certify(problem, found).is_optimal
