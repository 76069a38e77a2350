"""The correlation penalty against the exact optimum, and what it never does."""

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from compute.correlation.penalty import (
    CorrelationPenalty,
    Gram,
    penalty_factors,
    proportional,
    quadratic,
)

BOTH = [CorrelationPenalty.PROPORTIONAL, CorrelationPenalty.QUADRATIC]


def equicorrelated(n: int, rho: float) -> np.ndarray:
    return (1 - rho) * np.eye(n) + rho


def of_returns(covariance: np.ndarray) -> Gram:
    """G of long returns: their correlation."""
    n = len(covariance)
    return Gram(covariance, np.ones(n), np.zeros(n))


def dense(gram: Gram) -> np.ndarray:
    return gram.block(np.arange(len(gram.side)))


def even_bets(m: float, rho: float, penalty: CorrelationPenalty) -> np.ndarray:
    """Stakes of two even-money bets of edge m; a = b = 1, so the scale is 1."""
    ratio = np.full(2, m / np.sqrt(1 - m * m))
    gram = Gram(equicorrelated(2, rho), np.ones(2), ratio)
    stake = np.full(2, m)
    return stake * penalty_factors(stake, np.ones(2), gram, np.zeros(2), penalty)


@pytest.mark.parametrize("penalty", BOTH)
@pytest.mark.parametrize(
    ("m", "rho", "each"),
    [(0.02, 0, 0.0199920032), (0.2, 0, 0.1923076923), (0.2, 0.5, 0.1315789474)],
)
def test_two_bets_k4(m: float, rho: float, each: float, penalty: CorrelationPenalty) -> None:
    assert even_bets(m, rho, penalty) == pytest.approx([each, each], abs=5e-10)


@pytest.mark.parametrize("penalty", BOTH)
def test_one_bet_split_in_two_k44(penalty: CorrelationPenalty) -> None:
    """Only the sum is determined; the split is even to what the ridge leaves of a double."""
    found = even_bets(0.2, 1.0, penalty)
    assert found.sum() == pytest.approx(0.2, abs=5e-10)
    assert found == pytest.approx([0.1, 0.1], abs=1e-7)


@pytest.mark.parametrize("penalty", BOTH)
def test_a_hedge_makes_no_stake_larger_k45(penalty: CorrelationPenalty) -> None:
    """K4.5: at -0.5 the optimum is 0.357 each. The penalty leaves 0.2: it only takes."""
    assert even_bets(0.2, -0.5, penalty) == pytest.approx([0.2, 0.2], abs=1e-12)


@pytest.mark.parametrize("penalty", BOTH)
@pytest.mark.parametrize(("n", "rho", "factor"), [(4, 0.38, 0.46729), (10, 0.3, 0.27027)])
def test_alike_returns(n: int, rho: float, factor: float, penalty: CorrelationPenalty) -> None:
    stake, scale = np.full(n, 2.5), np.full(n, 0.2)
    gram = of_returns(equicorrelated(n, rho))
    found = penalty_factors(stake, scale, gram, np.zeros(n), penalty)
    assert found == pytest.approx(np.full(n, factor), abs=5e-6)


@pytest.mark.parametrize("penalty", BOTH)
def test_nearly_the_same_name_twice_is_one_name(penalty: CorrelationPenalty) -> None:
    stake, scale = np.array([0.5, 0.5, 0.3]), np.array([0.02, 0.02, 0.01])
    gram = np.eye(3)
    gram[0, 1] = gram[1, 0] = 0.9999
    found = stake * penalty_factors(stake, scale, of_returns(gram), np.zeros(3), penalty)
    assert found[:2].sum() == pytest.approx(0.5, rel=1e-4)
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    assert found[2] == pytest.approx(0.3, rel=1e-12)


def test_unequal_returns_are_kelly_of_the_book() -> None:
    """Where no bound binds: S^-1 m."""
    covariance = np.array([[0.04, 0.006, 0], [0.006, 0.09, 0.01], [0, 0.01, 0.0225]])
    mean = np.array([0.05, 0.08, 0.03])
    deviation = np.sqrt(np.diag(covariance))
    stake = mean / np.diag(covariance)
    gram = of_returns(covariance)
    kelly = np.linalg.solve(covariance, mean)
    factors = penalty_factors(stake, deviation, gram, np.zeros(3), CorrelationPenalty.QUADRATIC)
    np.testing.assert_allclose(stake * factors, kelly, rtol=1e-7)  # K5.2
    np.testing.assert_allclose(kelly, [1.14516341, 0.69891062, 1.02270639], atol=5e-9)


@given(st.integers(0, 100_000), st.integers(1, 12), st.booleans())
@settings(deadline=None, max_examples=60)
def test_the_optimum_of_cvxpy(seed: int, n: int, holds: bool) -> None:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, n + 1)) + rng.normal() * rng.normal(size=(1, n + 1))
    gram = root @ root.T
    deviation = np.sqrt(np.diag(gram))
    gram = gram / np.outer(deviation, deviation)
    upper = rng.uniform(0, 0.1, n) * (rng.random(n) < 0.9)
    held = rng.normal(size=n) * 0.02 * holds
    found = quadratic(upper, of_returns(gram), held)
    assert (found >= 0).all()
    assert (found <= upper + 1e-15).all()
    t = cp.Variable(n)
    value = (upper - held) @ t - 0.5 * cp.quad_form(t, cp.psd_wrap(gram))
    problem = cp.Problem(cp.Maximize(value), [t >= 0, t <= upper])
    problem.solve(solver=cp.CLARABEL)
    ours = (upper - held) @ found - 0.5 * found @ gram @ found
    assert ours >= problem.value - 1e-8
    # The conditions of an optimum, to rounding, of what the ridge leaves.
    slope = (1 - 1e-9) * gram @ found + 1e-9 * found - (upper - held)
    moved = np.clip(found - slope, 0.0, upper) - found
    assert np.abs(moved).max() <= 2e-12 * max(upper.max(), 1e-3)


@given(st.integers(0, 100_000), st.integers(1, 20))
@settings(deadline=None, max_examples=60)
def test_no_stake_grows_and_order_does_not_matter(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, 3))
    gram = root @ root.T + 0.1 * np.eye(n)
    deviation = np.sqrt(np.diag(gram))
    gram /= np.outer(deviation, deviation)
    stake, scale, held = rng.uniform(0, 3, n), rng.uniform(0.01, 0.5, n), rng.normal(size=n) * 0.1
    order = rng.permutation(n)
    for penalty in CorrelationPenalty:
        factors = penalty_factors(stake, scale, of_returns(gram), held, penalty)
        assert ((factors >= 0) & (factors <= 1)).all()
        again = penalty_factors(
            *(stake[order], scale[order], of_returns(gram[np.ix_(order, order)])),
            *(held[order], penalty),
        )
        np.testing.assert_allclose(again, factors[order], atol=1e-7)
        larger = penalty_factors(7.0 * stake, scale, of_returns(gram), 7.0 * held, penalty)
        np.testing.assert_allclose(larger, factors, atol=1e-7)
    nothing = np.zeros(n)
    alone = penalty_factors(stake, scale, of_returns(np.eye(n)), nothing, BOTH[1])
    np.testing.assert_allclose(alone, 1.0, atol=1e-8)


def test_what_is_held_leaves_less_room() -> None:
    gram, stake = of_returns(np.eye(1)), np.array([0.5])
    for shrink in (proportional, quadratic):
        assert shrink(stake, gram, np.array([0.2]))[0] < 0.5
        assert shrink(stake, gram, np.array([-0.2]))[0] == pytest.approx(0.5), "a hedge"
    assert quadratic(stake, gram, np.array([0.2]))[0] == pytest.approx(0.3)
    assert quadratic(stake, gram, np.array([0.6]))[0] == 0.0


def test_exact_growth_of_unlike_bets_is_nearly_reached() -> None:
    """Two unlike bets, exact growth by their four joint outcomes: the second order is close."""
    p, b, a = np.array([0.56, 0.6]), np.array([1.1, 0.8]), np.array([1.0, 0.9])
    rho, q = 0.6, 1 - p
    cross = rho * np.sqrt(p[0] * q[0] * p[1] * q[1])
    both = p[0] * p[1] + cross
    odds = np.array([both, p[0] - both, p[1] - both, 1 - p[0] - p[1] + both])
    win = np.array([[1, 1], [1, 0], [0, 1], [0, 0]])
    outcomes = np.where(win, b, -a)

    def growth(s: np.ndarray) -> float:
        return float(odds @ np.log1p(outcomes @ s))

    stake = p / a - q / b
    mean, deviation = p * b - q * a, np.sqrt(p * q) * (a + b)
    gram = Gram(equicorrelated(2, rho), np.ones(2), mean / deviation)
    factors = penalty_factors(
        stake, np.sqrt(a * b), gram, np.zeros(2), CorrelationPenalty.QUADRATIC
    )
    best = minimize(lambda s: -growth(s), stake / 2, bounds=[(0, f) for f in stake])
    assert growth(stake * factors) > growth(stake)
    lost = -best.fun - growth(stake * factors)
    assert lost < 0.05 * (-best.fun - growth(stake))


@pytest.mark.parametrize("n", [1, 7, 64, 65, 150])
def test_gram_is_by_its_definition(n: int) -> None:
    rng = np.random.default_rng(n)
    root = rng.normal(size=(n, 4))
    covariance = root @ root.T + np.diag(rng.uniform(0.1, 1.0, n))
    flat = rng.random(n) < 0.1  # instruments without variance
    covariance[flat] = 0.0
    covariance[:, flat] = 0.0
    side, ratio = rng.choice([-1.0, 1.0], n), rng.normal(size=n) * (rng.random(n) < 0.5)
    deviation = np.where(flat, 1.0, np.sqrt(np.diag(covariance)))
    correlation = covariance / np.outer(deviation, deviation) * np.outer(side, side)
    scale = np.sqrt(1 + ratio**2)
    wanted = (correlation + np.outer(ratio, ratio)) / np.outer(scale, scale)
    np.fill_diagonal(wanted, 1.0)
    gram, vector = Gram(covariance, side, ratio), rng.normal(size=n)
    np.testing.assert_allclose(dense(gram), wanted, atol=1e-14)
    np.testing.assert_allclose(gram.dot(vector), wanted @ vector, atol=1e-12)
    np.testing.assert_allclose(gram.overlap(vector), np.maximum(wanted, 0) @ vector, atol=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_hundreds_of_lines_are_solved_to_rounding(rho: float) -> None:
    rng, n = np.random.default_rng(5), 300
    returns = np.sqrt(rho) * rng.normal(size=(200, 1)) + np.sqrt(1 - rho) * rng.normal(
        size=(200, n)
    )
    gram = np.corrcoef(returns.T)
    upper, held = rng.uniform(1e-4, 1.0, n), 0.1 * rng.normal(size=n)
    found = quadratic(upper, of_returns(gram), held)
    slope = (1 - 1e-9) * gram @ found + 1e-9 * found - (upper - held)
    assert np.abs(np.clip(found - slope, 0.0, upper) - found).max() <= 2e-12
