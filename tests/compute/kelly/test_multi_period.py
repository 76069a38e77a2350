"""Several assets over several periods, against the whole horizon solved at once."""

import numpy as np
import pytest
from scipy.optimize import minimize

from compute.kelly.multi_period import cost_of_rate, planned_weights
from compute.kelly.multiperiod import trade_plan


def problem(n: int, periods: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights held (n,), means (H, n) that fade, a covariance (n, n)."""
    rng = np.random.default_rng([13, seed])
    root = rng.standard_normal((n, 2 * n)) * rng.uniform(0.01, 0.05, n)[:, None]
    left = 2.0 ** (-1.0 / rng.uniform(0.5, 10.0, n))
    means = rng.normal(0.0, 0.01, n) * left ** np.arange(periods)[:, None]
    return rng.normal(0.0, 1.0, n), means, root @ root.T


def value(path: np.ndarray, held: np.ndarray, means, covariance, g: float, k: float) -> float:
    """What the plan is worth, term by term."""
    total, before = 0.0, held
    for weight, mean in zip(path, means, strict=True):
        trade = weight - before
        total += mean @ weight - g / 2 * weight @ covariance @ weight
        total -= g * k / 2 * np.diag(covariance) @ trade**2
        before = weight
    return total


def at_once(held, means, covariance, g: float, k: float) -> np.ndarray:
    """All H n weights from one linear system: the gradient of `value` is 0."""
    periods, n = means.shape
    moves = np.kron(np.eye(periods) - np.eye(periods, k=-1), np.eye(n))
    costs = g * k * np.kron(np.eye(periods), np.diag(np.diag(covariance)))
    system = g * np.kron(np.eye(periods), covariance) + moves.T @ costs @ moves
    right = means.ravel().copy()
    right[:n] += g * k * np.diag(covariance) * held
    return np.linalg.solve(system, right).reshape(periods, n)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("n", "periods", "rate"), [(1, 5, 0.4), (3, 1, 0.3), (4, 12, 0.1),
                                                    (6, 30, 0.8)])  # fmt: skip
def test_the_plan_solves_the_whole_horizon(n: int, periods: int, rate: float, seed: int) -> None:
    held, means, covariance = problem(n, periods, seed)
    g, k = 2.0, cost_of_rate(rate)
    path = planned_weights(held, means, covariance, g, k)
    np.testing.assert_allclose(path, at_once(held, means, covariance, g, k), rtol=1e-9, atol=1e-11)


def test_no_other_path_is_worth_more() -> None:
    """The same by a search that knows the value alone."""
    held, means, covariance = problem(3, 4, 7)
    g, k = 1.5, cost_of_rate(0.3)
    path = planned_weights(held, means, covariance, g, k)

    def loss(x: np.ndarray) -> float:
        return -1e3 * value(x.reshape(path.shape), held, means, covariance, g, k)

    found = minimize(loss, np.zeros(path.size), method="BFGS", options={"gtol": 1e-9})
    np.testing.assert_allclose(found.x.reshape(path.shape), path, atol=2e-5)
    assert -1e-3 * found.fun <= value(path, held, means, covariance, g, k) + 1e-15


def test_one_asset_is_the_plan_of_a_line() -> None:
    rate, periods, half_life = 0.4269641587, 6, 5.0
    left = 2.0 ** (-np.arange(periods) / half_life)
    line = trade_plan(np.array([half_life]), rate, periods)
    expected = line.path(np.array([0.5]), np.array([1.25]))
    path = planned_weights(
        np.array([0.5]), 0.05 * left[:, None], np.array([[0.04]]), 1.0, cost_of_rate(rate)
    )
    np.testing.assert_allclose(path, expected, rtol=1e-12)


def test_uncorrelated_assets_are_planned_each_by_itself() -> None:
    held, means, covariance = problem(4, 8, 3)
    covariance = np.diag(np.diag(covariance))
    path = planned_weights(held, means, covariance, 3.0, 2.0)
    for i in range(4):
        alone = planned_weights(held[[i]], means[:, [i]], covariance[[i]][:, [i]], 3.0, 2.0)
        np.testing.assert_allclose(path[:, [i]], alone, rtol=1e-10, atol=1e-14)


def test_without_costs_every_period_is_its_own_optimum() -> None:
    held, means, covariance = problem(5, 7, 1)
    path = planned_weights(held, means, covariance, 2.0, 0.0)
    np.testing.assert_allclose(path, np.linalg.solve(2.0 * covariance, means.T).T, rtol=1e-8)


def test_a_long_horizon_trades_as_the_endless_one() -> None:
    """Garleanu and Pedersen's stationary matrix, by its own Riccati equation, for edges that stay.

    A = C - C (C + g S + A)^-1 C with C = g k diag(S); the step is C-weighted towards S^-1 m / g.
    """
    held, _, covariance = problem(3, 1, 5)
    g, k = 2.0, cost_of_rate(0.3)
    cost, a = g * k * np.diag(np.diag(covariance)), np.zeros((3, 3))
    for _ in range(2000):
        a = cost - cost @ np.linalg.solve(cost + g * covariance + a, cost)
    mean = np.array([0.01, -0.005, 0.002])
    aim = np.linalg.solve(g * covariance, mean)
    endless = held + np.linalg.solve(cost + g * covariance + a, (g * covariance + a) @ (aim - held))
    path = planned_weights(held, np.tile(mean, (400, 1)), covariance, g, k)
    np.testing.assert_allclose(path[0], endless, rtol=1e-9)


def test_what_has_no_bound_is_refused() -> None:
    same = np.full((2, 2), 0.04)
    with pytest.raises(ValueError, match="singular"):
        planned_weights(np.zeros(2), np.ones((3, 2)), same, 1.0, 0.0)
    with pytest.raises(ValueError, match="no risk"):
        planned_weights(np.zeros(2), np.ones((3, 2)), np.diag([0.04, 0.0]), 1.0, 1.0)
