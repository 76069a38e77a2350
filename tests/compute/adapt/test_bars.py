"""Variances from bars: reference numbers, what each takes for volatility, and no look-ahead."""

from dataclasses import replace
from math import log, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.adapt.bars import Bars, RangeEstimator, session_variance, yang_zhang
from compute.adapt.volatility import estimates, step
from compute.adapt.volatility_model import (
    GjrGarch,
    Prices,
    RangeModel,
    Row,
    VolatilityModel,
    VolatilityState,
)

OPEN = np.array([100.0, 101.5, 100.2, 102.8, 101.0])
HIGH = np.array([102.0, 103.0, 103.1, 103.5, 102.2])
LOW = np.array([99.0, 100.0, 99.8, 100.5, 99.7])
CLOSE = np.array([101.0, 100.5, 102.6, 101.2, 101.8])
BEFORE = 99.5
BARS = Bars(OPEN, HIGH, LOW)
GAP = np.log(OPEN / np.append(BEFORE, CLOSE[:-1]))
CHANGE = np.log(CLOSE / OPEN)
PLAIN = VolatilityModel(periods_per_year=1.0, band=0.0, observations_min=1)
PER_PERIOD = {
    RangeEstimator.PARKINSON: 3.103044514e-4,
    RangeEstimator.GARMAN_KLASS: 3.478453328e-4,
    RangeEstimator.ROGERS_SATCHELL: 3.412280000e-4,
}


def of(estimator: RangeEstimator, **given: bool) -> VolatilityModel:
    return replace(PLAIN, range=RangeModel(estimator, **given))


def after(
    rows: list[tuple[float, float, float, float]],
    model: VolatilityModel,
    before: float | None = BEFORE,
) -> list[VolatilityState]:
    """States after each bar (open, high, low, close) of one instrument."""
    states, state = [], VolatilityState()
    if before is not None:
        flat = Bars(*(np.array([x * before]) for x in (1.0, 1.01, 0.99)))
        state = step(state, Prices(0, ("A",), np.array([before]), flat), model)
    for bucket, row in enumerate(rows, 1):
        first, high, low, close = (np.array([x]) for x in row)
        state = step(state, Prices(bucket, ("A",), close, Bars(first, high, low)), model)
        states.append(state)
    return states


WEEK = list(zip(OPEN, HIGH, LOW, CLOSE, strict=True))


@pytest.mark.parametrize(("estimator", "expected"), PER_PERIOD.items())
def test_the_mean_of_a_week_d7_8(estimator: RangeEstimator, expected: float) -> None:
    assert session_variance(BARS, CLOSE, estimator).mean() == pytest.approx(expected, rel=1e-9)


def test_garman_klass_with_the_gap_and_yang_zhang_d7_8() -> None:
    session = session_variance(BARS, CLOSE, RangeEstimator.GARMAN_KLASS)
    assert (session + GAP**2).mean() == pytest.approx(3.610764174e-4, rel=1e-9)
    spread = (GAP.var(ddof=1), CHANGE.var(ddof=1))
    assert spread == pytest.approx((1.413728855e-5, 2.537274943e-4), rel=1e-9)
    rogers = session_variance(BARS, CLOSE, RangeEstimator.YANG_ZHANG).mean()
    found = yang_zhang(*map(np.array, (*spread, rogers)), np.array(5.0))
    assert found == pytest.approx(3.448898759e-4, rel=1e-9)


def test_states_come_to_the_same_where_weights_are_nearly_equal_d7_8() -> None:
    slow = {"half_life": 1e7}
    expected = {
        **{of(e, session_only=True): v for e, v in PER_PERIOD.items()},
        of(RangeEstimator.GARMAN_KLASS): 3.610764174e-4,
        of(RangeEstimator.YANG_ZHANG): 3.448898759e-4,
    }
    for model, variance in expected.items():
        model = replace(model, **slow)
        found = estimates(after(WEEK, model)[-1], model)[0] ** 2
        assert found == pytest.approx(variance, rel=1e-6), model.range


def test_exponential_weights_are_those_of_the_definition() -> None:
    model = replace(of(RangeEstimator.ROGERS_SATCHELL), half_life=2.0)
    weights = 0.5 ** (np.arange(5)[::-1] / 2.0)
    weights /= weights.sum()
    rogers = session_variance(BARS, CLOSE, RangeEstimator.ROGERS_SATCHELL)
    found = estimates(after(WEEK, model)[-1], model)[0] ** 2
    assert found == pytest.approx(weights @ (rogers + GAP**2), rel=1e-12)

    model = replace(of(RangeEstimator.YANG_ZHANG), half_life=2.0)
    spread = [(weights @ (x - weights @ x) ** 2) / (1.0 - weights @ weights) for x in (GAP, CHANGE)]
    expected = yang_zhang(
        *map(np.array, (*spread, weights @ rogers)), np.array(1.0 / (weights @ weights))
    )
    states = after(WEEK, model)
    assert estimates(states[-1], model)[0] ** 2 == pytest.approx(float(expected), rel=1e-12)
    assert np.isnan(estimates(states[0], model)[0])  # no variance of one gap
    assert states[0].in_use[0] == 0.0


def test_garch_takes_the_variance_of_bars_and_the_sign_of_the_return() -> None:
    garch = GjrGarch(alpha=0.02, beta=0.91, gamma=0.10, long_run_variance=1e-4)
    model = replace(of(RangeEstimator.PARKINSON), garch=garch)
    closes = np.append(BEFORE, CLOSE)
    news = session_variance(BARS, CLOSE, RangeEstimator.PARKINSON) + GAP**2
    h = 1e-4
    for square, change in zip(news, np.diff(np.log(closes)), strict=True):
        h = 0.02e-4 + (0.02 + 0.10 * (change < 0.0)) * square + 0.91 * h
    assert estimates(after(WEEK, model)[-1], model)[0] ** 2 == pytest.approx(h, rel=1e-12)


def test_what_a_drift_and_a_gap_do() -> None:
    drift = Bars(np.array([100.0]), np.array([105.0]), np.array([100.0]))
    at = {e: session_variance(drift, np.array([105.0]), e)[0] for e in RangeEstimator}
    assert at[RangeEstimator.ROGERS_SATCHELL] == 0.0
    assert at[RangeEstimator.PARKINSON] == pytest.approx(log(1.05) ** 2 / (4.0 * log(2.0)))
    assert at[RangeEstimator.GARMAN_KLASS] > 0.0
    opens = [100.0 * 1.05**k for k in range(1, 30)]
    rows = [(x, 1.001 * x, 0.999 * x, x) for x in opens]
    for estimator in PER_PERIOD:
        whole, session = of(estimator), of(estimator, session_only=True)
        scaled = of(estimator, session_only=True, scale_to_returns=True)
        told = [estimates(after(rows, m, 100.0)[-1], m)[0] for m in (whole, session, scaled)]
        assert told[0] == pytest.approx(log(1.05), rel=1e-3)
        assert told[1] < 0.05 * told[0]  # a size from it would be twenty times too large
        assert told[2] == pytest.approx(log(1.05), rel=1e-9)


def test_few_trades_make_ranges_small_and_scaling_mends_it() -> None:
    """Ranges of a walk of 10 steps a day: volatilities 18 % too small, which the returns tell."""
    rng = np.random.default_rng(11)
    walks = np.exp(np.cumsum(rng.normal(0.0, 0.02 / np.sqrt(10), (4000, 10)).ravel()))
    path = np.append(1.0, walks)
    days = [path[10 * k : 10 * k + 11] for k in range(4000)]
    rows = [(float(d[0]), float(d.max()), float(d.min()), float(d[-1])) for d in days]
    slow = {"half_life": 1000.0}
    raw = replace(of(RangeEstimator.PARKINSON), **slow)
    mended = replace(of(RangeEstimator.PARKINSON, scale_to_returns=True), **slow)
    assert estimates(after(rows, raw, 1.0)[-1], raw)[0] == pytest.approx(0.815 * 0.02, rel=0.03)
    assert estimates(after(rows, mended, 1.0)[-1], mended)[0] == pytest.approx(0.02, rel=0.05)


def test_bars_that_are_none_are_missing_and_two_periods_count_as_two() -> None:
    model = replace(of(RangeEstimator.GARMAN_KLASS), half_life=1.0)
    flat = (101.0, 101.0, 101.0, 101.0)
    for none in (
        flat,
        (0.0, 0.0, 0.0, 101.0),
        (nan, nan, nan, 101.0),
        (101.0, 102.0, 103.0, 101.0),
    ):
        states = after([WEEK[0], none, WEEK[2]], model)
        assert states[1].rows[Row.COUNT, 0] == 1
        assert estimates(states[1], model)[0] == estimates(states[0], model)[0]
        session = session_variance(BARS, CLOSE, RangeEstimator.GARMAN_KLASS)
        second = (session[2] + log(OPEN[2] / CLOSE[0]) ** 2) / 2.0
        expected = (0.25 * (session[0] + GAP[0] ** 2) + 0.5 * second) / 0.75
        assert estimates(states[2], model)[0] ** 2 == pytest.approx(expected, rel=1e-12)
    no_bars = step(VolatilityState(), Prices(0, ("A",), np.array([1.0])), model)
    assert no_bars.rows[Row.PERIOD, 0] == 0


MODELS = (
    of(RangeEstimator.PARKINSON),
    of(RangeEstimator.GARMAN_KLASS, scale_to_returns=True),
    of(RangeEstimator.YANG_ZHANG),
    replace(of(RangeEstimator.ROGERS_SATCHELL), garch=GjrGarch(0.05, 0.9, 0.05)),
)


@given(
    steps=st.lists(st.tuples(*[st.floats(-0.1, 0.1)] * 4), min_size=2, max_size=20),
    data=st.data(),
)
@pytest.mark.parametrize("model", MODELS)
def test_nothing_looks_ahead(
    model: VolatilityModel, steps: list[tuple[float, ...]], data: st.DataObject
) -> None:
    """The states of the past are the same bits whatever comes later: the prefix property."""
    rows, price = [], 100.0
    for gap, change, up, down in steps:
        first = price * (1.0 + gap)
        price = first * (1.0 + change)
        rows.append(
            (first, max(first, price) * (1 + abs(up)), min(first, price) * (1 - abs(down)), price)
        )
    cut = data.draw(st.integers(1, len(rows) - 1))
    whole = after(rows, model)
    for future in (nan, 1e9):
        other = after(rows[:cut] + [(future,) * 4] * (len(rows) - cut), model)
        for ours, theirs in zip(whole[:cut], other[:cut], strict=True):
            assert ours.rows.tobytes() == theirs.rows.tobytes()
    assert after(rows[:cut], model)[-1].rows.tobytes() == whole[cut - 1].rows.tobytes()
