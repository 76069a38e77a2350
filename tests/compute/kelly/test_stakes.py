"""Multiples of Kelly against SciPy, mpmath, simulation, and the tables of Thorp."""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from compute.kelly.stakes import Asset, Bet, Floor, Stakes, kernels, stakes_of
from compute.shapes import KernelRegistry

MULTIPLES = np.array([0.25, 0.5, 0.7, 1.0])
LEVELS = np.array([0.5, 0.7])
KERNELS = KernelRegistry(kernels())
KERNELS.compile(threads=1)


def test_an_asset_has_the_table_of_thorp() -> None:
    found = stakes_of(Asset(0.08, 0.2, 0.02), MULTIPLES, LEVELS, KERNELS)
    assert found.kelly == pytest.approx(1.5, rel=1e-14)
    expected = [[1 / 128, 0.7**7], [0.125, 0.343], [0.5 ** (13 / 7), 0.7 ** (13 / 7)], [0.5, 0.7]]
    np.testing.assert_allclose(found.ever_below, expected, rtol=1e-12)
    np.testing.assert_allclose(
        found.doubles_before_halving, [128 / 129, 8 / 9, 0.7836853153, 2 / 3], rtol=1e-9
    )
    share = MULTIPLES * (2.0 - MULTIPLES)
    np.testing.assert_allclose(found.growth, 0.02 + share * 0.045, rtol=1e-12)
    assert found.zero_growth == pytest.approx(3.0)
    assert (found.interval, found.growth_lost, found.standard_error) == (None, None, None)


def test_what_is_estimated_has_an_error() -> None:
    found = stakes_of(Asset(0.08, 0.2, 0.02, periods=10.0), MULTIPLES, LEVELS, KERNELS)
    assert found.standard_error == pytest.approx(1.58113883)
    assert found.interval == pytest.approx((1.5 - 3.0989750, 1.5 + 3.0989750), abs=1e-6)
    assert found.growth_lost == pytest.approx(0.05)
    bet = stakes_of(Bet(0.6, 1.0, outcomes=50.0), MULTIPLES, LEVELS, KERNELS)
    ends = stats.beta(31, 21).ppf([0.025, 0.975])
    assert bet.interval == pytest.approx(tuple(2.0 * ends - 1.0), abs=1e-9)
    assert bet.standard_error == pytest.approx(2.0 * np.sqrt(0.6 * 0.4 / 50.0))
    # E of g(f*) - g(f) for f off by the error: by simulation of the win rate.
    rates = np.random.default_rng(1).binomial(50, 0.6, 200_000) / 50.0
    stake = 2.0 * rates - 1.0
    lost = 0.0201355 - (0.6 * np.log1p(stake) + 0.4 * np.log1p(-stake))[np.abs(stake) < 1].mean()
    assert bet.growth_lost == pytest.approx(lost, rel=0.05)


@given(st.floats(0.51, 0.95), st.floats(0.2, 5.0), st.floats(0.1, 1.0), st.floats(0.05, 1.9))
def test_the_exponent_of_a_bet_is_its_root(p: float, b: float, a: float, c: float) -> None:
    found = stakes_of(Bet(p, b, a), np.array([c]), np.array([0.5]), KERNELS)
    if not len(found.stake) or c * found.kelly * a >= 1.0:
        return
    f, growth = mp.mpf(float(found.stake[0])), float(found.growth[0])
    if growth <= 1e-9:
        assert growth > -1e-9 or found.ever_below[0, 0] == 1.0
        return
    theta = -mp.log(mp.mpf(float(found.ever_below[0, 0]))) / mp.log(2)
    moment = p * (1 + b * f) ** -theta + (1 - mp.mpf(p)) * (1 - a * f) ** -theta
    assert abs(float(moment) - 1.0) < 1e-9 * max(1.0, float(theta))
    if c <= 1.0:
        assert found.ever_below[0, 0] <= 0.5 + 1e-12, "at full Kelly E 1/W = 1"


def test_falls_of_a_bet_are_at_most_what_is_said() -> None:
    found = stakes_of(Bet(0.6, 1.0), np.array([0.5, 1.0]), np.array([0.5]), KERNELS)
    rng = np.random.default_rng(2)
    wins = rng.random((4000, 3000)) < 0.6
    for stake, bound in zip(found.stake, found.ever_below[:, 0], strict=True):
        paths = np.cumsum(np.where(wins, np.log1p(stake), np.log1p(-stake)), axis=1)
        fell = (paths.min(axis=1) <= np.log(0.5)).mean()
        assert fell <= bound + 0.02
        assert fell >= 0.6 * bound


@pytest.mark.parametrize(("mean", "deviation"), [(0.01, 0.05), (0.03, 0.07), (0.0007, 0.011)])
def test_twice_kelly_neither_grows_nor_ever_doubles(mean: float, deviation: float) -> None:
    """In doubles r + f (m - r) - s^2 f^2 / 2 is not 0 there, and 1e17 periods would double."""
    found = stakes_of(Asset(mean, deviation), np.array([2.0]), LEVELS, KERNELS)
    assert found.growth[0] == 0.0
    assert np.isinf(found.doubling_periods[0])


def test_a_floor_is_kept_by_its_multiple() -> None:
    asset = stakes_of(Asset(0.06, 0.2), MULTIPLES, LEVELS, KERNELS, Floor(0.5, 0.125))
    assert asset.floor_multiple == pytest.approx(0.5)
    bet = stakes_of(Bet(0.6, 1.0), MULTIPLES, LEVELS, KERNELS, Floor(0.5, 0.125))
    assert bet.floor_multiple is not None
    kept = stakes_of(Bet(0.6, 1.0), np.array([bet.floor_multiple]), np.array([0.5]), KERNELS)
    assert kept.ever_below[0, 0] == pytest.approx(0.125, rel=1e-9)


def test_edges_of_what_there_is() -> None:
    none = stakes_of(Bet(0.4, 1.0, outcomes=10.0), MULTIPLES, LEVELS, KERNELS, Floor(0.5, 0.1))
    assert none.kelly == pytest.approx(-0.2)
    assert (len(none.stake), none.zero_growth, none.floor_multiple) == (0, 0.0, None)
    sure = stakes_of(Bet(1.0, 1.0), MULTIPLES, LEVELS, KERNELS)
    assert (sure.ever_below == 0.0).all()
    assert (sure.doubles_before_halving == 1.0).all()
    assert sure.floor_multiple is None
    ruin: Stakes = stakes_of(Bet(0.6, 1.0), np.array([5.0]), LEVELS, KERNELS)
    assert ruin.stake[0] == 1.0
    assert np.isneginf(ruin.growth[0])
    assert (ruin.ever_below == 1.0).all()
    assert ruin.doubles_before_halving[0] == pytest.approx(0.6)  # the first bet decides
    slow = stakes_of(Bet(0.9, 0.2), np.array([2.5]), LEVELS, KERNELS)
    assert np.isneginf(slow.growth[0])
    assert slow.doubles_before_halving[0] == pytest.approx(0.9**4)  # 1.2^3 < 2 < 1.2^4
    short = stakes_of(Asset(-0.04, 0.2), MULTIPLES, LEVELS, KERNELS)
    assert short.kelly == pytest.approx(-1.0)
    assert (short.stake < 0.0).all()
    assert (short.growth > 0.0).all()
    flat = stakes_of(Asset(0.02, 0.2, 0.02), MULTIPLES, LEVELS, KERNELS)
    assert len(flat.stake) == 0
