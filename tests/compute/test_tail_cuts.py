"""The best book inside a tail that is not convex: found by few books measured, and not lost by one.

The solver is HiGHS and the objective a mean: the optimum inside the cuts is a linear program.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from compute.joint.tail_cuts import bounded_tails, solve_within
from compute.limits.policy import TailLimit
from compute.market import Floats, MissingInputError
from compute.optimize.problem import Limits, Objective, ObjectiveKind, Problem, Solution, Status
from compute.risk.tail_method import TailKind, TailMethod

N, K = 4, 400
QUANTILE = TailKind.VALUE_AT_RISK


def largest_mean(problem: Problem) -> Solution:
    """As the joint solvers answer."""
    limits, mean = problem.limits, problem.mean
    assert mean is not None
    rows = limits.rows
    found = linprog(
        -mean,
        A_ub=None if rows is None else rows.matrix,
        b_ub=None if rows is None else rows.row_max,
        bounds=np.column_stack([limits.lower, limits.upper]),
    )
    if found.x is None:
        nothing = np.full(len(mean), np.nan)
        return Solution(Status.INFEASIBLE, nothing, np.nan, None, 0, 0.0)
    prices: Any = SimpleNamespace(row_max=-found.ineqlin.marginals)
    return Solution(Status.OPTIMAL, found.x, float(mean @ found.x), prices, 0, 0.0)


def problem(returns: Floats) -> Problem:
    return Problem(
        Objective(ObjectiveKind.MAX_RETURN),
        limits=Limits(lower=np.zeros(N), upper=np.full(N, 2.0)),
        scenarios=returns,
        mean=returns.mean(axis=0),
    )


def returns_of(seed: int) -> Floats:
    """Student t of five degrees, alike in pairs."""
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(0.6 * np.eye(N) + 0.4)
    mixed = np.sqrt(5.0 / rng.chisquare(5.0, K))[:, None]
    drawn: Floats = 0.01 * mixed * (rng.standard_normal((K, N)) @ root.T)
    return drawn + rng.uniform(5e-4, 2e-3, N)


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        (TailMethod.STUDENT, QUANTILE),
        (TailMethod.STUDENT, TailKind.EXPECTED_SHORTFALL),
        (TailMethod.FILTERED_HISTORICAL, TailKind.EXPECTED_SHORTFALL),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_the_book_found_is_as_good_as_any_that_many_starts_find(
    seed: int, method: TailMethod, kind: TailKind
) -> None:
    stated = problem(returns_of(seed))
    (tail,) = bounded_tails(stated, [TailLimit(kind, method, 0.02, 0.95)])
    found = solve_within(stated, [tail], largest_mean)
    assert found.solution.status is Status.OPTIMAL
    weights = found.solution.weights
    assert tail.measure(weights)[0] <= tail.bound * (1.0 + 1e-8)
    mean, rng = stated.mean, np.random.default_rng(seed)
    assert mean is not None

    def on_the_bound(way: Floats) -> float:
        """The mean of the book on this way that has the bound, or is in the box."""
        way = np.abs(way) + 1e-12
        size = min(tail.bound / tail.measure(way)[0], 2.0 / float(way.max()))
        return -float(mean @ way) * size

    best = max(
        -minimize(on_the_bound, start, method="Nelder-Mead", options={"maxiter": 400}).fun
        for start in rng.dirichlet(np.ones(N), 6)
    )
    # A search without slopes, of what is not convex: the answer is a local best, mostly the best.
    assert float(mean @ weights) >= 0.985 * best


def test_one_name_alone_that_has_no_expansion_does_not_cost_the_answer() -> None:
    """A jump that is one scenario of 400 of one name, of which little may be held."""
    rng = np.random.default_rng(5)
    returns = 1e-3 + 0.01 * rng.standard_t(12.0, (K, N))
    returns[7, 3] = -0.5
    stated = problem(returns)
    stated = Problem(
        stated.objective,
        limits=Limits(lower=np.zeros(N), upper=np.array([2.0, 2.0, 2.0, 0.01])),
        scenarios=returns,
        mean=stated.mean,
    )
    (tail,) = bounded_tails(stated, [TailLimit(QUANTILE, TailMethod.CORNISH_FISHER, 0.02, 0.95)])
    with pytest.raises(MissingInputError, match="outside the domain"):
        tail.measure(np.eye(1, N, 3)[0])
    found = solve_within(stated, [tail], largest_mean)
    assert found.solution.status is Status.OPTIMAL
    assert 0.999 * tail.bound <= tail.measure(found.solution.weights)[0] <= tail.bound * (1 + 1e-8)
