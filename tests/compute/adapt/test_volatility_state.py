"""Volatility states: published numbers, an independent recursion, and nothing that looks ahead."""

from dataclasses import replace
from math import exp, log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.adapt.volatility import FORGOTTEN_AFTER, bucket_of, estimates, long_run, step
from compute.adapt.volatility_model import GjrGarch, Prices, Row, VolatilityModel, VolatilityState

MODEL = VolatilityModel(periods_per_year=1.0, band=0.0, observations_min=1)
RETURNS = (0.01, -0.02, 0.015, -0.005, 0.03)


def after(
    prices: list[list[float]], model: VolatilityModel, buckets: list[int] | None = None
) -> list[VolatilityState]:
    """The states after each row of prices of the instruments A, B, ..."""
    states, state = [], VolatilityState()
    for place, row in enumerate(prices):
        names = tuple("ABCDEFGH"[: len(row)])
        bucket = place if buckets is None else buckets[place]
        state = step(state, Prices(bucket, names, np.array(row)), model)
        states.append(state)
    return states


def path(returns: tuple[float, ...]) -> list[list[float]]:
    return [[100.0 * exp(total)] for total in np.cumsum((0.0, *returns))]


@pytest.mark.parametrize("decay", [0.94, 0.97, 0.99])
def test_ewma_d7_2(decay: float) -> None:
    half_life = log(0.5) / log(decay)
    assert {0.94: 11.2023, 0.97: 22.7566, 0.99: 68.9676}[decay] == pytest.approx(
        half_life, abs=5e-5
    )
    model = replace(MODEL, half_life=half_life)
    weights = [(1 - decay) * decay**k for k in range(len(RETURNS))]
    weighted = sum(w * r**2 for w, r in zip(weights, reversed(RETURNS), strict=True))
    expected = sqrt(weighted / (1 - decay ** len(RETURNS)))
    assert estimates(after(path(RETURNS), model)[-1], model)[0] == pytest.approx(
        expected, rel=1e-12
    )


def test_garch_d7_3_and_gjr_d7_4() -> None:
    garch = GjrGarch(alpha=0.08, beta=0.90, long_run_variance=1e-4)
    gjr = GjrGarch(alpha=0.02, beta=0.91, gamma=0.10, long_run_variance=1e-4)
    for model, expected in (
        (replace(MODEL, garch=garch), (1.0, 1.24, 1.316, 1.2244, 1.84196)),
        (replace(MODEL, garch=gjr), (0.95, 1.3645, 1.306695, 1.23909245, 1.3275741295)),
    ):
        found = [estimates(s, model)[0] ** 2 * 1e4 for s in after(path(RETURNS), model)[1:]]
        assert found == pytest.approx(expected, rel=1e-10)


def test_garch_goes_to_its_long_run_while_prices_are_missing_d7_3() -> None:
    garch = GjrGarch(alpha=0.08, beta=0.90, long_run_variance=1e-4)
    model = replace(MODEL, garch=garch)
    rows = [[p, 1.0] for (p,) in path(RETURNS)] + [[np.nan, 1.0]] * 4
    state = after(rows, model)[-1]
    assert estimates(state, model)[0] ** 2 == pytest.approx(1.7765971e-4, rel=1e-7)
    assert long_run(state, model)[0] == pytest.approx(0.01)


def test_a_return_over_missing_prices_is_spread_over_them() -> None:
    model = replace(MODEL, half_life=1.0)
    steady = after([[100.0, 1.0], [101.0, 1.0], [np.nan, 1.0], [np.nan, 1.0]], model)
    assert estimates(steady[-1], model)[0] == estimates(steady[1], model)[0]
    last = step(steady[-1], Prices(9, ("A", "B"), np.array([104.0, 1.0])), model)
    r = log(104 / 101) ** 2 / 3
    expected = sqrt((0.5 * 0.5 * log(1.01) ** 2 + 0.5 * r) / 0.75)
    assert estimates(last, model)[0] == pytest.approx(expected, rel=1e-12)
    assert last.rows[Row.COUNT, 0] == 2


def test_a_weekend_is_one_period_and_two_feeds_share_one() -> None:
    daily = replace(MODEL, half_life=1.0)
    state = after([[100.0], [101.0]], daily, buckets=[4, 7])[-1]
    assert estimates(state, daily)[0] == pytest.approx(log(1.01))
    one = step(state, Prices(8, ("A",), np.array([102.0])), daily)
    both = step(one, Prices(8, ("Z",), np.array([5.0])), daily)
    assert both.instrument_ids == ("A", "Z")
    assert both.periods == one.periods
    next_day = step(both, Prices(9, ("Z",), np.array([5.1])), daily)
    assert estimates(next_day, daily)[1] == pytest.approx(log(5.1 / 5.0))


def test_doubled_and_late_observations_move_nothing() -> None:
    states = after([[100.0], [101.0], [103.0]], MODEL)
    again = step(states[-1], Prices(2, ("A",), np.array([250.0])), MODEL)
    assert np.array_equal(again.rows, states[-1].rows)
    late = step(states[-1], Prices(1, ("A",), np.array([250.0])), MODEL)
    assert np.array_equal(late.rows, states[-1].rows)
    assert late.late == 1


def test_the_band_holds_a_volatility_until_it_is_off_by_more() -> None:
    model = VolatilityModel(half_life=2.0, band=0.2, observations_min=2)
    used = 0.0
    rng = np.random.default_rng(3)
    for state in after(path(tuple(rng.normal(0.0, 0.01, 200))), model):
        estimate = estimates(state, model)[0]
        if state.rows[Row.COUNT, 0] < 2:
            assert state.in_use[0] == 0.0
            continue
        if used == 0.0 or abs(estimate / used - 1.0) > 0.2:
            used = estimate
        assert state.in_use[0] == used
        assert abs(estimate / used - 1.0) <= 0.2 * (1 + 1e-12)


def test_bad_prices_are_missing_and_old_instruments_are_forgotten() -> None:
    state = after([[100.0, 5.0], [101.0, 0.0], [102.0, -3.0]], MODEL)[-1]
    assert state.rows[Row.COUNT].tolist() == [2, 0]
    assert np.isnan(estimates(state, MODEL)[1])
    for place in range(FORGOTTEN_AFTER + 2):
        state = step(state, Prices(10 + place, ("A",), np.array([102.0])), MODEL)
    assert state.instrument_ids == ("A",)


MODELS = (
    replace(MODEL, band=0.1, observations_min=3),
    VolatilityModel(garch=GjrGarch(0.05, 0.9, 0.05), band=0.1, observations_min=3),
    VolatilityModel(garch=GjrGarch(0.05, 0.8, 0.2, 2e-4), band=0.0, observations_min=3),
)


@given(
    prices=st.lists(
        st.lists(st.one_of(st.floats(1.0, 1e4), st.just(np.nan)), min_size=3, max_size=3),
        min_size=2,
        max_size=25,
    ),
    data=st.data(),
)
@pytest.mark.parametrize("model", MODELS)
def test_nothing_looks_ahead(
    model: VolatilityModel, prices: list[list[float]], data: st.DataObject
) -> None:
    """The states of the past are the same bits whatever comes later: the prefix property."""
    cut = data.draw(st.integers(1, len(prices) - 1))
    whole = after(prices, model)
    for future in (np.nan, 1e9):
        other = after(prices[:cut] + [[future] * 3] * (len(prices) - cut), model)
        for ours, theirs in zip(whole[:cut], other[:cut], strict=True):
            assert ours.rows.tobytes() == theirs.rows.tobytes()
            assert (ours.bucket, ours.periods) == (theirs.bucket, theirs.periods)
    assert after(prices[:cut], model)[-1].rows.tobytes() == whole[cut - 1].rows.tobytes()


def test_periods_are_counted_in_utc() -> None:
    assert bucket_of(86400.0 * 3 - 1, VolatilityModel()) == 2
    assert bucket_of(86400.0 * 3, VolatilityModel()) == 3
