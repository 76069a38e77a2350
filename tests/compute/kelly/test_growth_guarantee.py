"""K9.5: the worst case is attained, a semidefinite program agrees, and the best stake is that of a
search."""

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from compute.kelly.growth_guarantee import Guarantee, guaranteed_growth, guaranteed_stake

CASES = [
    (0.01, 0.05, Guarantee(2, 0.05)),
    (0.05, 0.2, Guarantee(3, 0.1)),
    (-0.02, 0.1, Guarantee(3, 0.3)),
    (0.2, 0.4, Guarantee(2, 0.5)),
]


def test_the_reference_number_k9_5() -> None:
    found = float(guaranteed_growth(0.01, 0.05, Guarantee(120, 0.05)))
    assert found == pytest.approx(-0.0347361884, abs=5e-11)


@pytest.mark.parametrize(("mean", "deviation", "guarantee"), CASES)
def test_a_distribution_attains_it(mean: float, deviation: float, guarantee: Guarantee) -> None:
    """Atoms of the returns of two or three periods with these moments and that growth."""
    n, e = int(guarantee.periods), guarantee.probability
    along = np.ones(n) / np.sqrt(n)
    centre = (1.0 - mean) * np.sqrt(n)
    shift = deviation * np.sqrt((1.0 - e) / e)
    across = np.linalg.svd(along[None])[2][1:] * np.sqrt((n - 1) / e) * deviation
    bad = [(centre + shift) * along + s * row for row in across for s in (1.0, -1.0)]
    good = (centre - shift * e / (1.0 - e)) * along
    atoms = 1.0 - np.array([*bad, good])
    weight = np.array([e / len(bad)] * len(bad) + [1.0 - e])
    np.testing.assert_allclose(weight @ atoms, mean, atol=1e-12)
    spread = (weight * (atoms - mean).T) @ (atoms - mean)
    np.testing.assert_allclose(spread, deviation**2 * np.eye(n), atol=1e-12)
    growth = (atoms - atoms**2 / 2).mean(axis=1)
    kept = float(guaranteed_growth(mean, deviation, guarantee))
    np.testing.assert_allclose(growth[:-1], kept, atol=1e-12)
    assert growth[-1] > kept


@pytest.mark.parametrize(("mean", "deviation", "guarantee"), CASES)
def test_no_distribution_is_worse(mean: float, deviation: float, guarantee: Guarantee) -> None:
    """The largest P(|z|^2 >= R^2) by duality and the S-lemma, as a semidefinite program."""
    n = int(guarantee.periods)
    radius2 = n * (1.0 - 2.0 * float(guaranteed_growth(mean, deviation, guarantee)))
    first = np.full(n, 1.0 - mean)
    moments = np.block(
        [
            [deviation**2 * np.eye(n) + np.outer(first, first), first[:, None]],
            [first[None], np.ones((1, 1))],
        ]
    )
    quadratic, price = cp.Variable((n + 1, n + 1), PSD=True), cp.Variable(nonneg=True)
    outside = np.diag([1.0] * n + [-radius2])
    one = np.zeros((n + 1, n + 1))
    one[n, n] = 1.0
    problem = cp.Problem(
        cp.Minimize(cp.trace(quadratic @ moments)), [quadratic - one - price * outside >> 0]
    )
    assert problem.solve(solver=cp.CLARABEL) == pytest.approx(guarantee.probability, abs=1e-6)


@pytest.mark.parametrize("guarantee", [Guarantee(12, 0.1), Guarantee(120, 0.05), Guarantee(1, 0.5)])
@pytest.mark.parametrize("rate", [0.0, 0.01])
def test_the_best_stake_is_that_of_a_search(guarantee: Guarantee, rate: float) -> None:
    for d, s in ((0.1, 0.15), (0.05, 0.1), (0.3, 0.2), (0.2, 0.01)):
        last = (1.0 - rate) / (d + s * guarantee.edge_of_domain)
        searched = minimize_scalar(
            lambda f, d=d, s=s: -float(guaranteed_growth(rate + f * d, f * s, guarantee)),
            bounds=(0.0, last * (1 - 1e-12)),
            method="bounded",
            options={"xatol": 1e-12},
        )
        found = float(guaranteed_stake(d, s, rate, guarantee))
        assert found == pytest.approx(searched.x, abs=2e-6 * max(1.0, last))


def test_weak_edges_stake_nothing_and_long_times_a_variance_over_the_chance() -> None:
    assert guaranteed_stake(0.01, 0.05, 0.0, Guarantee(120, 0.05)) == 0.0
    d, s, e = 0.01, 0.05, 0.2
    limit = d / (d * d + s * s / e)
    assert guaranteed_stake(d, s, 0.0, Guarantee(1e12, e)) == pytest.approx(limit, rel=1e-4)


def test_outside_its_domain_it_says_nothing() -> None:
    guarantee = Guarantee(4, 0.2)
    edge = 1.0 - 0.1 * guarantee.edge_of_domain
    found = guaranteed_growth([edge - 1e-9, edge + 1e-9], 0.1, guarantee)
    assert np.isnan(found).tolist() == [False, True]


def test_a_book_is_best_where_a_cone_program_is() -> None:
    """Along a line of books the closed form is the optimum that cvxpy finds for one asset."""
    guarantee, d, s = Guarantee(36, 0.1), 0.04, 0.06
    f = cp.Variable(nonneg=True)
    short = 1.0 - d * f + guarantee.kappa * s * f
    growth = 0.5 - 0.5 * cp.square(short) - 0.5 * guarantee.tau * cp.square(s * f)
    cp.Problem(cp.Maximize(growth)).solve(solver=cp.CLARABEL)
    assert guaranteed_stake(d, s, 0.0, guarantee) == pytest.approx(float(f.value), abs=1e-6)
