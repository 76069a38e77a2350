"""Pools and mixtures against published numbers and their own guarantees."""

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from compute.kelly.classic import kelly_fraction
from compute.learn.pools import (
    log_pool,
    log_wealth,
    mixture,
    regret,
    stacked_weights,
    wealth_weights,
)
from compute.learn.scores import log_losses

P = np.array([[0.6], [0.7], [0.55]])


def test_the_log_pool_of_three() -> None:
    assert log_pool(P, np.array([0.5, 0.3, 0.2]))[0] == pytest.approx(0.6217672433, abs=5e-11)


def test_a_mixture_has_the_mean_wealth_of_its_members() -> None:
    wealth = np.log([[1.01, 0.99, 1.02, 0.98, 1.03], [1.02, 0.97, 1.03, 0.96, 1.05], [1.0] * 5])
    total, mixed = wealth.sum(axis=1), 1.0
    for day in range(5):
        mixed *= wealth_weights(wealth[:, :day].sum(axis=1)) @ np.exp(wealth[:, day])
    assert mixed == pytest.approx(1.0189065657, abs=5e-11)
    assert mixed == pytest.approx(np.exp(total).mean(), rel=1e-14)
    assert regret(total) == pytest.approx(0.0103286593, abs=5e-11)


@given(st.lists(st.floats(-50.0, 50.0), min_size=1, max_size=12))
def test_regret_is_at_most_ln_n(totals: list[float]) -> None:
    assert -1e-12 <= regret(np.array(totals)) <= log(len(totals)) + 1e-12


def test_the_stake_of_the_mixture_is_the_mean_stake() -> None:
    weights, payoff, loss = np.array([0.5, 0.3, 0.2]), np.full(1, 1.5), np.ones(1)
    p = np.array([[0.6], [0.3], [0.5]])  # the second is below break-even and stakes nothing
    stakes = np.maximum(np.asarray(kelly_fraction(p, payoff[None], loss[None])), 0.0)
    mixed = kelly_fraction(mixture(p, weights, loss / (loss + payoff)), payoff, loss)
    assert float(mixed[0]) == pytest.approx(float(weights @ stakes[:, 0]), abs=1e-15)


def test_stacking_finds_the_best_weights() -> None:
    random = np.random.default_rng(4)
    truth = random.normal(size=5000)
    won = (random.random(5000) < expit(truth)).astype(float)
    p = expit(np.stack([truth + random.normal(size=5000), truth, random.normal(size=5000)]))
    weights = stacked_weights(p, won)
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert weights[1] > 0.9
    best = log_losses(log_pool(p, weights), won).mean()
    for other in random.dirichlet(np.ones(3), 200):
        assert log_losses(log_pool(p, other), won).mean() >= best - 1e-9


def test_wealth_of_half_kelly_on_even_money() -> None:
    p, ones = np.array([[0.6, 0.4, 0.6]]), np.ones(3)
    start = np.array([1, 2, 2])
    found = log_wealth(p, np.array([1.0, 1.0, 0.0]), ones, ones, start)
    assert found[0] == pytest.approx([log(1.1), log(0.95)], abs=1e-15)
