"""Outcomes of bets drawn together, and stakes on them, against SciPy on every combination."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import minimize, nnls

from compute.joint.outcomes import COMBINED_MAX, Bets, _fitted, drawn_together, outcomes
from compute.market import Floats
from compute.optimize import solve
from compute.optimize.problem import Limits, Objective, ObjectiveKind, Problem

AVERSION = 2.0
"""Half Kelly."""
FIRM = 1e4
"""Weight of every margin against the start."""


def dozen(m: int) -> Bets:
    return Bets(0.53 + 0.01 * (np.arange(m) % 10), np.ones(m), np.ones(m))


def alike(m: int, rho: float) -> Floats:
    out: Floats = np.full((m, m), rho) + (1.0 - rho) * np.eye(m)
    return out


def stakes(returns: Floats, probability: Floats) -> Floats:
    """The optimum by the interior point."""
    m = returns.shape[1]
    objective = Objective(ObjectiveKind.CRRA, risk_aversion=AVERSION)
    limits = Limits(lower=np.zeros(m), upper=np.full(m, np.inf))
    found = solve(
        Problem(objective, scenarios=returns, scenario_probability=probability, limits=limits)
    )
    assert found.weights is not None
    return np.asarray(found.weights)


def every(bets: Bets, correlation: Floats) -> tuple[Floats, Floats]:
    """All combinations of outcomes with their probabilities, however many."""
    m = len(bets.win)
    if np.array_equal(correlation, np.eye(m)):
        wins = (np.arange(1 << m)[:, None] >> np.arange(m)) & 1
        chance = np.prod(np.where(wins > 0, bets.win, 1.0 - bets.win), axis=1)
        return np.where(wins > 0, bets.gain, -bets.loss), chance
    made = drawn_together(bets, correlation, 0, 1 << m)
    return outcomes(bets, made), made.probability


def certain(returns: Floats, probability: Floats, weights: Floats) -> float:
    """The sure return that is worth as much, at risk aversion 2."""
    return float(1.0 / (probability @ (1.0 / (1.0 + returns @ weights))) - 1.0)


def best_of_scipy(returns: Floats, probability: Floats) -> Floats:
    m = returns.shape[1]

    def loss(weights: Floats) -> tuple[float, Floats]:
        wealth = np.maximum(1.0 + returns @ weights, 1e-9)
        return float(probability @ (1.0 / wealth)), -((probability / wealth**2) @ returns)

    found = minimize(
        loss,
        np.full(m, 0.01),
        jac=True,
        bounds=[(0.0, None)] * m,
        method="L-BFGS-B",
        options={"maxiter": 5000, "ftol": 1e-16, "gtol": 1e-10},
    )
    return np.asarray(found.x)


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 12), st.booleans())
def test_the_nearest_probabilities_are_those_of_nnls(
    seed: int, size: int, rows: int, can_be_met: bool
) -> None:
    rng = np.random.default_rng(seed)
    margins = np.vstack([np.ones(size), rng.random((min(rows, size - 1), size)) < 0.5])
    start = rng.dirichlet(np.ones(size))
    wanted = margins @ rng.dirichlet(np.full(size, 0.3))
    if not can_be_met:
        wanted[1:] = np.clip(wanted[1:] + 0.3 * rng.normal(size=len(wanted) - 1), 0.0, 1.0)
    found = _fitted(margins, wanted, start, np.full(len(wanted), FIRM))
    stacked = np.vstack([FIRM * margins, np.eye(size)])
    expected = nnls(stacked, np.concatenate([FIRM * wanted, start]), maxiter=50 * size)[0]
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-6)
    if can_be_met:
        np.testing.assert_allclose(margins @ found, wanted, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("m", [10, 11, 12])
def test_a_dozen_correlated_bets_have_their_chances_and_correlations(m: int) -> None:
    bets, rho = dozen(m), 0.3
    made = drawn_together(bets, alike(m, rho), 0, 4096)
    assert len(made.wins) == 1 << m
    assert made.attained
    assert not made.is_sample
    centred = made.wins - bets.win
    np.testing.assert_allclose(made.probability @ made.wins, bets.win, rtol=0.0, atol=1e-9)
    found = (centred.T * made.probability) @ centred
    size = np.sqrt(bets.win * (1.0 - bets.win))
    np.testing.assert_allclose(found / np.outer(size, size), alike(m, rho), rtol=0.0, atol=1e-8)


@pytest.mark.parametrize("rho", [0.0, 0.3])
def test_stakes_of_twelve_and_thirteen_bets_agree(rho: float) -> None:
    """Of twelve they are those of SciPy; of thirteen, sampled, they grow almost as fast."""
    own = []
    for m in (12, 13):
        bets, correlation = dozen(m), alike(m, rho)
        made = drawn_together(bets, correlation, 0, 4096)
        assert made.is_sample == (m > COMBINED_MAX)
        found = stakes(outcomes(bets, made), made.probability)
        if made.is_sample and rho:
            own.append(found)
            continue  # nobody can say what the best is
        returns, chance = every(bets, correlation)
        best = best_of_scipy(returns, chance)
        if not made.is_sample:
            np.testing.assert_allclose(found, best, rtol=0.0, atol=2e-5)
        assert certain(returns, chance, found) >= 0.985 * certain(returns, chance, best)
        own.append(found)
    np.testing.assert_allclose(own[1][:12], own[0], rtol=0.0, atol=0.02)


@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 4, 6, 8, 13, 20, 40]))
@example(186, 40)  # rare outcomes that always come together in the sample, and not alike
@example(23, 40)
@example(49, 13)
def test_chances_are_exact_whatever_the_correlations(seed: int, m: int) -> None:
    """Also where no bets with these chances have these correlations, and of what hardly comes."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(m, int(rng.integers(1, m + 1))))
    covariance = factors @ factors.T + 0.1 * np.eye(m)
    deviation = np.sqrt(np.diag(covariance))
    chance = rng.uniform(0.05, 0.95, m)
    rare = rng.random(m) < 0.2
    chance[rare] = rng.choice([1e-4, 3e-4, 1.0 - 1e-4], m)[rare]
    bets = Bets(chance, np.ones(m), np.ones(m))
    made = drawn_together(bets, covariance / np.outer(deviation, deviation), 0, 1024)
    assert made.is_sample == (m > 10)
    assert made.probability.min() >= 0.0
    assert made.probability.sum() == pytest.approx(1.0, abs=1e-9)
    np.testing.assert_allclose(made.probability @ made.wins, chance, rtol=0.0, atol=1e-9)


def test_correlations_that_cannot_be_had_are_the_nearest() -> None:
    """Three even bets, each against each at -0.8: none can be less than -1/3."""
    bets, rho = Bets(np.full(3, 0.5), np.ones(3), np.ones(3)), -0.8
    made = drawn_together(bets, alike(3, rho), 0, 256)
    assert not made.attained
    np.testing.assert_allclose(made.probability @ made.wins, bets.win, rtol=0.0, atol=1e-12)
    centred = 2.0 * (made.wins - 0.5)
    np.testing.assert_allclose(
        (centred.T * made.probability) @ centred, alike(3, -1.0 / 3.0), rtol=0.0, atol=1e-6
    )


def test_stakes_on_a_sample_grow_as_fast_as_the_best() -> None:
    """Twenty independent bets: E log W = int (e^-t - E e^-tW) / t dt is exact, as a product."""
    rng = np.random.default_rng(5)
    m = 20
    win = rng.uniform(0.4, 0.6, m)
    bets = Bets(win, (1.0 - win) / win * rng.uniform(1.0, 1.3, m), np.ones(m))
    made = drawn_together(bets, np.eye(m), 0, 1024)
    assert made.is_sample
    logs = np.linspace(-14.0, 6.0, 1200)
    times = np.exp(logs)

    def growth(weights: Floats) -> float:
        won = np.exp(-np.outer(times, weights * (bets.gain + bets.loss)))
        worth = np.log(win * won + 1.0 - win).sum(axis=1) - times * (1.0 - weights @ bets.loss)
        return float((np.exp(-times) - np.exp(worth)).sum() * (logs[1] - logs[0]))

    def loss(weights: Floats) -> float:
        return -growth(weights)

    cash = {"type": "ineq", "fun": lambda weights: 0.999 - weights.sum()}
    best = minimize(
        loss, np.full(m, 0.02), bounds=[(0.0, 1.0)] * m, constraints=[cash], method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 300},
    )  # fmt: skip
    problem = Problem(
        Objective(ObjectiveKind.LOG_GROWTH),
        scenarios=outcomes(bets, made),
        scenario_probability=made.probability,
        limits=Limits(lower=np.zeros(m), upper=np.full(m, np.inf), budget_max=1.0),
    )
    found = solve(problem).weights
    assert found is not None
    assert growth(found) >= 0.995 * -best.fun
