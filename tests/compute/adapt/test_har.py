"""HAR: the published regression on real bars, an independent recursion, and no look-ahead."""

from dataclasses import replace
from math import exp, log, nan

import numpy as np
import pytest
from arch.data import sp500
from arch.univariate import HARX
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from compute.adapt.bars import Bars, RangeEstimator, session_variance
from compute.adapt.fit_har import fit_har, har_variances
from compute.adapt.har import MONTH, Har
from compute.adapt.volatility import estimates, step
from compute.adapt.volatility_model import (
    Prices,
    RangeModel,
    Row,
    VolatilityModel,
    VolatilityState,
)
from compute.market import Floats

Bar = tuple[float, float, float, float]
LEVEL = Har(0.15, 0.4, 0.3, 2e-5)
LOGS = Har(0.14, 0.46, 0.32, -0.7, logarithmic=True, residual_variance=0.6)


@pytest.fixture(scope="module")
def index() -> list[Bar]:
    """Bars of the S&P 500, 1999 to 2018."""
    return list(sp500.load()[["Open", "High", "Low", "Close"]].itertuples(index=False, name=None))


def of(har: Har, **given: bool) -> VolatilityModel:
    return VolatilityModel(
        periods_per_year=1.0,
        band=0.0,
        observations_min=1,
        har=har,
        range=RangeModel(RangeEstimator.GARMAN_KLASS, **given),
    )


def after(rows: list[Bar], model: VolatilityModel) -> list[VolatilityState]:
    states, state = [], VolatilityState()
    for bucket, row in enumerate(rows):
        first, high, low, close = (np.array([x]) for x in row)
        state = step(state, Prices(bucket, ("A",), close, Bars(first, high, low)), model)
        states.append(state)
    return states


def garman_klass(rows: list[Bar], *, gaps: bool) -> Floats:
    """Of all bars but the first."""
    first, high, low, close = np.array(rows).T
    square = session_variance(Bars(first, high, low), close, RangeEstimator.GARMAN_KLASS)
    gap = np.log(first[1:] / close[:-1]) ** 2 if gaps else 0.0
    return square[1:] + gap


def drawn(count: int, seed: int = 3) -> list[Bar]:
    generator, rows, price = np.random.default_rng(seed), [], 50.0
    for deviation in np.exp(0.5 * generator.standard_normal(count)) * 0.01:
        walk = price * np.exp(np.cumsum(generator.normal(0.0, deviation / 4.0, 16)))
        rows.append((float(walk[0]), float(walk.max()), float(walk.min()), float(walk[-1])))
        price = float(walk[-1])
    return rows


def by_hand(x: list[float], har: Har, constant: float) -> float:
    """The next x, straight from the definition."""
    week, month = sum(x[-5:]) / 5.0, sum(x[-22:]) / 22.0
    return constant + har.daily * x[-1] + har.weekly * week + har.monthly * month


def test_d7_7_the_regression_on_real_bars(index: list[Bar]) -> None:
    first, high, low, close = np.array(index).T
    bars = Bars(first, high, low)
    variance = 1e4 * session_variance(bars, close, RangeEstimator.GARMAN_KLASS)
    for logarithmic, table, explained in (
        (False, (0.1093568865, 0.1089708608, 0.6006398475, 0.1664214412), 0.42348),
        (True, (-0.06278, 0.14041, 0.46538, 0.32646), 0.5513),
    ):
        found = fit_har(variance, logarithmic=logarithmic)
        own = found.model
        told = (own.constant, own.daily, own.weekly, own.monthly)
        assert told == pytest.approx(table, abs=5e-6 if logarithmic else 1e-10)
        x = np.log(variance) if logarithmic else variance
        theirs = HARX(x, lags=[1, 5, 22]).fit(disp="off").params.to_numpy()
        assert told == pytest.approx(theirs[:4], abs=1e-12)
        assert found.r_squared == pytest.approx(explained, abs=5e-5)
        assert own.persistence < 1.0
    assert own.residual_variance == pytest.approx(0.6544438925, abs=1e-9)


def test_the_state_forecasts_what_the_regression_says(index: list[Bar]) -> None:
    rows = index[:300]
    for gaps in (True, False):
        variance = garman_klass(rows, gaps=gaps)
        for logarithmic in (False, True):
            har = fit_har(variance, logarithmic=logarithmic).model
            model = of(har, session_only=not gaps)
            states = after(rows, model)
            said = np.array([estimates(state, model)[0] ** 2 for state in states])
            x = har.of(variance).tolist()
            assert np.isnan(said[:MONTH]).all()
            for t in range(MONTH, len(rows)):
                value = by_hand(x[:t], har, har.constant)
                value = exp(value + 0.5 * har.residual_variance) if logarithmic else value
                assert said[t] == pytest.approx(value, rel=1e-11)
            ahead = har_variances(variance, har)
            assert ahead[MONTH:] == pytest.approx(said[MONTH:-1], rel=1e-9)
            assert states[-1].rows.shape == states[0].rows.shape, "the same size for any history"


def test_without_a_constant_the_long_run_is_the_mean_so_far() -> None:
    rows = drawn(60)
    for har in (replace(LEVEL, constant=None), replace(LOGS, constant=None)):
        x = har.of(garman_klass(rows, gaps=True)).tolist()
        total = har.daily + har.weekly + har.monthly
        value = by_hand(x, har, (1.0 - total) * float(np.mean(x)))
        value = exp(value + 0.5 * har.residual_variance) if har.logarithmic else value
        model = of(har)
        assert estimates(after(rows, model)[-1], model)[0] ** 2 == pytest.approx(value, rel=1e-11)


def test_missing_bars_are_forecast_and_bars_over_several_periods_count_as_each() -> None:
    rows = drawn(40)
    gone = [(nan,) * 4] * 3
    for har in (LEVEL, LOGS):
        model = of(har)
        states = after([*rows, *gone], model)
        x = har.of(garman_klass(rows, gaps=True)).tolist()
        lags = har.lags
        response = lfilter([1.0], np.append(1.0, -lags), np.eye(1, 4)[0])
        for missed in range(4):
            value = by_hand(x, har, har.constant)
            spread = 0.5 * har.residual_variance * float(np.sum(response[: missed + 1] ** 2))
            told = exp(value + spread) if har.logarithmic else value
            found = estimates(states[39 + missed], model)[0] ** 2
            assert found == pytest.approx(told, rel=1e-11), missed
            x.append(value)
        back = after([*rows, *gone, rows[7]], model)[-1]
        first, high, low, close = rows[7]
        session = 0.5 * log(high / low) ** 2 - (2 * log(2) - 1) * log(close / first) ** 2
        each = (session + log(first / rows[-1][3]) ** 2) / 4.0
        x = [*x[:39], *[float(har.of(np.array(each)))] * 4]
        value = by_hand(x, har, har.constant)
        value = exp(value + 0.5 * har.residual_variance) if har.logarithmic else value
        assert estimates(back, model)[0] ** 2 == pytest.approx(value, rel=1e-11)
        assert back.rows[Row.COUNT, 0] == 40


def test_an_instrument_does_not_depend_on_those_beside_it() -> None:
    rows, model = drawn(45), of(LOGS)
    alone = after(rows, model)[-1]
    state = VolatilityState()
    for bucket, row in enumerate(rows):
        columns = [np.array([x, *[x * (1.0 + 0.1 * k) for k in range(1, 9)]]) for x in row]
        names = tuple("ABCDEFGHI")
        state = step(state, Prices(bucket, names, columns[3], Bars(*columns[:3])), model)
    assert state.rows[:, 0].tobytes() == alone.rows[:, 0].tobytes()


def test_least_squares_without_negative_coefficients() -> None:
    generator = np.random.default_rng(2)
    level = np.exp(lfilter([1.0], [1.0, -0.97], 0.2 * generator.standard_normal(400)))
    noise = np.exp(1.0 * generator.standard_normal(400))
    swinging = np.where(np.arange(400) % 2, 1.5, 0.5)
    found = fit_har(1e-4 * level * noise * swinging, logarithmic=False).model
    assert min(found.constant, found.daily, found.weekly, found.monthly) >= 0.0
    assert found.daily == 0.0, "every second period is high: the free coefficient is negative"
    with pytest.raises(ValueError, match="vary"):
        fit_har(np.full(200, 1e-4), logarithmic=True)


@given(data=st.data(), steps=st.integers(24, 50), seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("har", [LEVEL, LOGS, replace(LOGS, constant=None)])
def test_nothing_looks_ahead(har: Har, data: st.DataObject, steps: int, seed: int) -> None:
    """The states of the past are the same bits whatever comes later: the prefix property."""
    rows, model = drawn(steps, seed), of(har)
    cut = data.draw(st.integers(1, steps - 1))
    whole = after(rows, model)
    for future in (nan, 1e9):
        other = after(rows[:cut] + [(future,) * 4] * (steps - cut), model)
        for ours, theirs in zip(whole[:cut], other[:cut], strict=True):
            assert ours.rows.tobytes() == theirs.rows.tobytes()
    variance = garman_klass(rows, gaps=True)
    known = replace(har, constant=-0.7)
    for future in (nan, 1e9):
        changed = np.where(np.arange(len(variance)) < cut, variance, future)
        with np.errstate(all="ignore"):
            one = har_variances(changed, known)[: cut + 1]
        assert one.tobytes() == har_variances(variance, known)[: cut + 1].tobytes()
