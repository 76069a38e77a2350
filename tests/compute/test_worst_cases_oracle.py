"""The worst cases of edges against solvers that know nothing of them."""

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import linprog, minimize_scalar
from scipy.stats import norm

from compute.parameters import Robust, RobustSet
from compute.waterfall.robust import mean_shift, worst_chance, worst_scenarios

X = np.array([[-0.25, -0.1, -0.02, 0.0, 0.05, 0.15, 0.3]])
P = np.array([0.05, 0.1, 0.2, 0.1, 0.25, 0.2, 0.1])


def worst_growth(f: float, robust: Robust) -> float:
    """min over the set of sum pi log(1 + f x), by a linear program."""
    growth, k = np.log1p(f * X[0]), len(P)
    r = robust.radius
    ones = np.ones((1, k))
    if robust.kind is RobustSet.BOX:
        bounds = [(max(p - r, 0.0), p + r) for p in P]
        return float(linprog(growth, A_eq=ones, b_eq=[1.0], bounds=bounds).fun)
    if robust.kind is RobustSet.TOTAL_VARIATION:
        # pi = P + up - down, sum up = sum down <= r
        c = np.concatenate([growth, -growth])
        bounds = [(0.0, 1.0)] * k + [(0.0, p) for p in P]
        a_eq = np.concatenate([np.ones(k), -np.ones(k)])[None]
        a_ub = np.concatenate([np.ones(k), np.zeros(k)])[None]
        made = linprog(c, A_ub=a_ub, b_ub=[r], A_eq=a_eq, b_eq=[0.0], bounds=bounds)
        return float(made.fun + growth @ P)
    # A plan T (i, j) of mass from i to j that costs |x_i - x_j|.
    distance = np.abs(X[0][:, None] - X[0][None, :]).ravel()
    rows = np.kron(np.eye(k), np.ones((1, k)))
    made = linprog(
        np.tile(growth, k), A_ub=distance[None], b_ub=[r], A_eq=rows, b_eq=P, bounds=(0.0, None)
    )
    return float(made.fun)


@pytest.mark.parametrize("kind", [RobustSet.BOX, RobustSet.TOTAL_VARIATION, RobustSet.WASSERSTEIN])
@pytest.mark.parametrize("radius", [0.0, 0.004, 0.02, 0.07, 0.3])
def test_the_worst_distribution_is_that_of_a_linear_program(kind: RobustSet, radius: float) -> None:
    robust = Robust(kind, radius)
    x, weight = worst_scenarios(X, P, robust)
    assert weight.sum() == pytest.approx(1.0)
    assert (weight >= 0.0).all()
    for f in (0.1, 1.0, 3.0):
        assert np.log1p(f * x[0]) @ weight[0] == pytest.approx(worst_growth(f, robust), abs=1e-9)


@pytest.mark.parametrize("radius", [0.001, 0.02, 0.2])
def test_the_worst_chance_within_a_divergence(radius: float) -> None:
    for p in (0.05, 0.6, 0.97):
        q = cp.Variable(2, nonneg=True)
        given = np.array([p, 1 - p])
        limits = [cp.sum(cp.rel_entr(q, given)) <= radius, cp.sum(q) == 1]
        cp.Problem(cp.Minimize(q[0]), limits).solve(solver=cp.CLARABEL)
        found = worst_chance(np.array([p]), np.array([2.0]), Robust(RobustSet.KL, radius))
        assert found[0] == pytest.approx(float(q.value[0]), abs=1e-6)


def test_worst_normal_distributions() -> None:
    s = np.array([0.2])
    shift = mean_shift(s, Robust(RobustSet.TOTAL_VARIATION, 0.1))[0]
    # Total variation of two normals is twice the mass between them.
    crossing = minimize_scalar(
        lambda d: (2 * norm.cdf(d / (2 * 0.2)) - 1 - 0.1) ** 2, bounds=(0, 1), method="bounded"
    )
    assert shift == pytest.approx(crossing.x, abs=1e-4)
    assert mean_shift(s, Robust(RobustSet.KL, 0.02))[0] == pytest.approx(0.2 * 0.2)
    assert mean_shift(s, Robust(RobustSet.ELLIPSOID, 0.3))[0] == pytest.approx(0.06)
    assert mean_shift(s, Robust(RobustSet.TOTAL_VARIATION, 1.0))[0] == np.inf


@pytest.mark.parametrize("kind", list(RobustSet))
def test_certain_bets_and_padding(kind: RobustSet) -> None:
    sure = worst_chance(np.array([1.0, 0.0]), np.full(2, 2.0), Robust(kind, 0.01))
    assert (sure <= [1.0, 0.0]).all()
    x = np.array([[0.1, 5.0, -0.1, -7.0]])
    p = np.array([0.6, 0.0, 0.4, 0.0])
    _, weight = worst_scenarios(x, p, Robust(kind, 0.05))
    assert weight[0, [1, 3]].tolist() == [0.0, 0.0]
