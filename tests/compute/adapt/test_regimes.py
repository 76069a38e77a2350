"""The Hamilton filter: reference numbers, an independent sum over all paths, and no look-ahead."""

from dataclasses import replace
from itertools import pairwise, product
from math import exp, log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from compute.adapt.regimes import FLOOR, RegimeSwitching, ahead, filtered, log_density, mixture
from compute.adapt.volatility import estimates, long_run, regime_probabilities, step
from compute.adapt.volatility_model import Prices, VolatilityModel, VolatilityState
from compute.market import Floats

TWO = RegimeSwitching((0.0006, -0.0010), (0.008, 0.020), ((0.98, 0.02), (0.05, 0.95)))
RETURNS = (0.004, -0.012, -0.031, 0.018, -0.025, 0.002)
FILTERED = (0.1451052571, 0.1789411707, 0.9864334162, 0.9759629498, 0.9976116991, 0.8793623891)
PREDICTED = (0.1549478891, 0.1864152887, 0.9373830771, 0.9276455433, 0.9477788801, 0.8378070218)
MODEL = VolatilityModel(periods_per_year=1.0, band=0.0, observations_min=1, regimes=TWO)
THREE = RegimeSwitching(
    (0.001, 0.0, -0.002),
    (0.005, 0.01, 0.03),
    ((0.9, 0.08, 0.02), (0.05, 0.9, 0.05), (0.01, 0.09, 0.9)),
    degrees_of_freedom=5.0,
)


def run(returns: tuple[float, ...], model: RegimeSwitching) -> list[tuple[Floats, Floats, Floats]]:
    """Filtered and next predicted probabilities, and ln density, of each return."""
    predicted, out = model.stationary[:, None], []
    for x in returns:
        found, likelihood = filtered(predicted, np.array([x]), model)
        predicted = ahead(found, np.array([1]), model)
        out.append((found, predicted, likelihood))
    return out


def test_published_recursion_d7_1() -> None:
    assert TWO.stationary == pytest.approx([5 / 7, 2 / 7], rel=1e-12)
    found = run(RETURNS, TWO)
    assert [f[1, 0] for f, _, _ in found] == pytest.approx(FILTERED, abs=5e-11)
    assert [p[1, 0] for _, p, _ in found] == pytest.approx(PREDICTED, abs=5e-11)
    assert sum(x[0] for _, _, x in found) == pytest.approx(14.297829737950, abs=5e-12)
    mean, variance = mixture(found[-1][1], TWO)
    assert mean[0] == pytest.approx(-0.0007404912, abs=5e-11)
    assert sqrt(variance[0]) == pytest.approx(0.0185970704, abs=5e-11)


def test_kelly_of_the_mixture_is_no_mean_of_fractions_d7_1() -> None:
    probability = np.array([[0.9], [0.1]])
    mean, variance = mixture(probability, TWO)
    assert (mean[0], variance[0]) == pytest.approx((0.00044, 9.78304e-05), rel=1e-9)
    assert mean[0] / variance[0] == pytest.approx(4.4976, abs=5e-5)
    own = np.array(TWO.mean) / np.array(TWO.deviation) ** 2
    assert own @ probability[:, 0] == pytest.approx(8.19, abs=5e-3)  # nearly twice as much


@pytest.mark.parametrize("model", [TWO, THREE])
def test_the_filter_is_the_sum_over_all_paths(model: RegimeSwitching) -> None:
    k, t = len(model.mean), len(RETURNS)
    matrix, joint = np.array(model.transition), np.zeros(len(model.mean))
    for path in product(range(k), repeat=t):
        chance = model.stationary[path[0]]
        for before, now in pairwise(path):
            chance *= matrix[before, now]
        for regime, x in zip(path, RETURNS, strict=True):
            z = (x - model.mean[regime]) / model.deviation[regime]
            if model.degrees_of_freedom is None:
                density = stats.norm.pdf(z)
            else:
                v = model.degrees_of_freedom
                density = stats.t.pdf(z * sqrt(v / (v - 2.0)), v) * sqrt(v / (v - 2.0))
            chance *= density / model.deviation[regime]
        joint[path[-1]] += chance
    found = run(RETURNS, model)
    assert found[-1][0][:, 0] == pytest.approx(joint / joint.sum(), rel=1e-9)
    assert sum(x[0] for _, _, x in found) == pytest.approx(log(joint.sum()), rel=1e-9)


def test_one_outlier_does_not_lock_the_filter() -> None:
    shocked = run((0.9, *[0.001] * 60), TWO)
    assert shocked[0][0][0, 0] >= FLOOR / 2.0
    assert shocked[-1][0][1, 0] < 0.05
    assert np.isfinite(log_density(np.array([1e3]), TWO)).all()


def after(prices: list[float], model: VolatilityModel) -> list[VolatilityState]:
    states, state = [], VolatilityState()
    for bucket, price in enumerate(prices):
        state = step(state, Prices(bucket, ("A", "B"), np.array([price, 1.0 + bucket])), model)
        states.append(state)
    return states


def path(returns: tuple[float, ...]) -> list[float]:
    return [100.0 * exp(total) for total in np.cumsum((0.0, *returns))]


def test_states_hold_what_is_predicted_for_the_next_period_d7_1() -> None:
    states = after(path(RETURNS), MODEL)
    told = [regime_probabilities(s, TWO)[-1, 0] for s in states]
    assert told[0] == 0.0
    assert told[1:] == pytest.approx(PREDICTED, abs=1e-9)
    assert estimates(states[-1], MODEL)[0] == pytest.approx(0.0185970704, abs=1e-10)
    assert np.isnan(estimates(states[0], MODEL)[0])
    mean, variance = mixture(TWO.stationary[:, None], TWO)
    assert long_run(states[-1], MODEL)[0] == pytest.approx(sqrt(variance[0]), rel=1e-12)
    assert mean[0] == pytest.approx((5 * 0.0006 - 2 * 0.0010) / 7)


def test_missing_prices_are_steps_of_prediction() -> None:
    states = after([*path(RETURNS), np.nan, np.nan, 100.0], MODEL)
    last, two_missed = (regime_probabilities(s, TWO)[:, 0] for s in (states[6], states[8]))
    twice = np.linalg.matrix_power(np.array(TWO.transition).T, 2) @ last
    assert two_missed == pytest.approx(twice, rel=1e-12)
    _, variance = mixture(twice[:, None], TWO)
    assert estimates(states[8], MODEL)[0] ** 2 == pytest.approx(variance[0], rel=1e-12)
    # the return over three periods has three times the means and the variances
    three = [log(100.0 / path(RETURNS)[-1]), 3.0 * np.array(TWO.mean)]
    density = stats.norm.pdf(three[0], three[1], np.array(TWO.deviation) * sqrt(3.0))
    expected = twice * density / (twice @ density)
    found = regime_probabilities(states[9], TWO)[:, 0]
    assert found == pytest.approx(np.array(TWO.transition).T @ expected, rel=1e-9)


@given(
    returns=st.lists(st.one_of(st.floats(-0.3, 0.3), st.just(np.nan)), min_size=3, max_size=20),
    data=st.data(),
)
@pytest.mark.parametrize("regimes", [TWO, THREE])
def test_nothing_looks_ahead(
    regimes: RegimeSwitching, returns: list[float], data: st.DataObject
) -> None:
    """The states of the past are the same bits whatever comes later: the prefix property."""
    model = replace(MODEL, regimes=regimes)
    prices = [100.0 * exp(x) if np.isfinite(x) else np.nan for x in returns]
    cut = data.draw(st.integers(1, len(prices) - 1))
    whole = after(prices, model)
    for future in (np.nan, 1e9):
        other = after(prices[:cut] + [future] * (len(prices) - cut), model)
        for ours, theirs in zip(whole[:cut], other[:cut], strict=True):
            assert ours.rows.tobytes() == theirs.rows.tobytes()
            ours_told, theirs_told = (regime_probabilities(s, regimes) for s in (ours, theirs))
            assert ours_told.tobytes() == theirs_told.tobytes()
    for state in whole:
        told = regime_probabilities(state, regimes)[:, 0].sum()
        assert told == pytest.approx(1.0, abs=1e-9) or told == 0.0
