"""A stated edge sized by forecast volatility: against the recursion by hand, and in both modes."""

from dataclasses import replace

import numpy as np
import pytest

from compute.limits.policy import Limits
from compute.parameters import EffectiveParameters, Shrinkage
from compute.shapes import KernelRegistry
from compute.simulate.backtest import run
from compute.simulate.fast_settings import run_fast
from compute.simulate.history import PriceHistory
from compute.simulate.setting import FillAt, Setting
from compute.simulate.volatility_forecast import VolatilityForecast, forecasts
from tests.compute.simulate.test_fast import NAMES, SESSIONS, history


def test_forecasts_are_the_weighted_squares_of_log_returns_with_dividends_and_splits() -> None:
    past, half_life = history(), 7.0
    rng = np.random.default_rng(2)
    dividend, split = np.zeros_like(past.close), np.ones_like(past.close)
    dividend[15, 0], split[25, 1] = 1.5, 3.0
    past = replace(past, dividend=dividend, split=split)
    found = forecasts(past, half_life, 4)
    decay = 0.5 ** (1.0 / half_life)
    for t in (4, 15, 25, int(rng.integers(26, SESSIONS))):
        for i in range(len(NAMES)):
            logs = []
            for k in range(1, t + 1):
                worth = past.close[k, i] * split[k, i] + dividend[k, i]
                logs.append(np.log(worth / past.close[k - 1, i]))
            weight = decay ** np.arange(t)[::-1]
            expected = np.sqrt(weight @ np.square(logs) / weight.sum())
            assert found[t, i] == pytest.approx(expected, rel=1e-12)
    assert not found[:4].any()


@pytest.mark.parametrize("future", [np.nan, 1e9])
def test_a_signal_is_the_same_whatever_comes_later(future: float) -> None:
    past = history(actions=True)
    rule = VolatilityForecast(0.0005, error=0.0001, half_life=5.0, sessions=6)
    for t in np.random.default_rng(5).integers(7, SESSIONS - 1, 6):
        close = past.close.copy()
        close[t + 1 :] = future
        changed = replace(past, close=close, dividend=None, split=None)
        whole = replace(past, dividend=None, split=None)
        told = [rule(item, int(t)) for item in (whole, changed, whole.until(int(t) + 1))]
        for other in told[1:]:
            assert told[0] is not None
            assert other is not None
            np.testing.assert_array_equal(other.instrument, told[0].instrument)
            np.testing.assert_array_equal(other.signals.volatility, told[0].signals.volatility)
            np.testing.assert_array_equal(
                other.signals.expected_return, told[0].signals.expected_return
            )


@pytest.mark.parametrize(
    ("premium", "is_sharpe"), [(2e-5, False), (-2e-5, False), (1e-3, True), (-1e-3, True)]
)
def test_the_full_size_is_the_premium_over_the_variance_or_the_ratio_over_the_deviation(
    kernels: KernelRegistry, premium: float, is_sharpe: bool
) -> None:
    past = PriceHistory(history().dates, NAMES, history().close)
    rule = VolatilityForecast(premium, is_sharpe=is_sharpe, half_life=10.0, sessions=20)
    setting = Setting(
        rule,
        EffectiveParameters(kelly_fraction=1.0, confidence_shrinkage=Shrinkage.NONE),
        Limits(allow_short=True, allow_flip=True, short_margin_rate=0.1),
        fill_at=FillAt.SAME_CLOSE,
        lot_size=1e-7,
    )
    found = run(past, setting, kernels)
    assert found.units is not None
    t = 30
    volatility = forecasts(past, 10.0, 20)[t]
    size = premium / volatility if is_sharpe else premium / volatility**2
    # Units held at the close of t + 1 are those decided and filled at the close of t.
    weight = found.units[t + 1] * past.close[t] / found.equity[t]
    np.testing.assert_allclose(weight, size, rtol=1e-5)
    assert found.decisions == SESSIONS - 1 - 20


def test_both_modes_agree_within_a_lot(kernels: KernelRegistry) -> None:
    past = history(actions=True)
    rng = np.random.default_rng(12)
    settings = [
        Setting(
            VolatilityForecast(
                float(rng.uniform(-0.001, 0.002)),
                error=float(rng.uniform(0.0, 0.0005)),
                half_life=float(rng.uniform(3.0, 20.0)),
                sessions=int(rng.integers(5, 15)),
            ),
            EffectiveParameters(kelly_fraction=float(rng.uniform(0.1, 1.0))),
            Limits(weight_max=0.3, leverage_max=1.0, allow_short=True),
        )
        for _ in range(6)
    ]
    traded = 0
    for setting, quick in zip(settings, run_fast(past, settings, units=True), strict=True):
        exact = run(past, setting, kernels)
        assert exact.units is not None
        assert quick.units is not None
        assert np.abs(quick.units - exact.units).max() <= 1.0 + 1e-6
        assert quick.decisions == exact.decisions
        traded += exact.trades
    assert traded > 50
