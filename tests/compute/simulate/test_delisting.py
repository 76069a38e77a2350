"""Instruments that leave the market while they are held: by hand, and in both modes alike."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from compute.limits.policy import Limits
from compute.parameters import EffectiveParameters, Shrinkage
from compute.shapes import KernelRegistry
from compute.simulate.account import TradingCosts
from compute.simulate.backtest import Backtest, run
from compute.simulate.delisting import ENDED_SESSIONS, Delisting, ended
from compute.simulate.estimates import Estimates
from compute.simulate.fast_settings import run_fast
from compute.simulate.history import HistoryError, PriceHistory
from compute.simulate.setting import FillAt, Setting
from compute.simulate.strategies import GivenSignals, MeanReturn
from tests.compute.simulate.test_fast import NAMES, history, one_signal, random_setting

DAYS = tuple(f"2024-01-{day:02}" for day in range(1, 9))
GONE = 4
"""The session without a price of A."""


def two_names(price: float, **more: Any) -> PriceHistory:
    """A at 10 with its end at `price`, B at 100 throughout."""
    close = np.tile([10.0, 100.0], (len(DAYS), 1))
    close[GONE:, 0] = np.nan
    return PriceHistory(DAYS, ("A", "B"), close, delistings=(Delisting(GONE, 0, price),), **more)


def walks_that_end() -> PriceHistory:
    """Walks with gaps, dividends and splits; one name loses two fifths at its end, one all."""
    past = history(actions=True)
    assert past.open is not None
    close, opened = past.close.copy(), past.open.copy()
    ends = (Delisting(22, 1, float(close[21, 1]) * 0.6), Delisting(33, 3, 0.0))
    for item in ends:
        close[item.session :, item.instrument] = opened[item.session :, item.instrument] = np.nan
    return replace(past, close=close, open=opened, delistings=ends)


def held(side: float, **changes: Any) -> Setting:
    """A tenth of the equity in A, decided in session 1 and at the close of its end."""
    said = one_signal(side, win_probability=[0.9])
    setting = Setting(
        GivenSignals({DAYS[1]: said, DAYS[GONE + 1]: said}),
        EffectiveParameters(kelly_fraction=1.0, confidence_shrinkage=Shrinkage.NONE),
        Limits(weight_max=0.1, allow_short=True),
        cash=10_000.0,
        costs=TradingCosts(commission_fixed=1.0, commission_rate=0.001, slippage_rate=0.01),
    )
    return replace(setting, **changes)


def both(past: PriceHistory, setting: Setting, kernels: KernelRegistry) -> list[Backtest]:
    return [run(past, setting, kernels), *run_fast(past, [setting], units=True)]


@pytest.mark.parametrize(
    ("side", "price", "cash"),
    [
        # 100 units at 10.10 and 1 + 0.1 % of 1,010 in fees; then 100 times the price, without fees.
        (1.0, 7.0, 10_000.0 - 1_010.0 - 2.01 + 700.0),
        (1.0, 0.0, 10_000.0 - 1_010.0 - 2.01),
        (1.0, 12.5, 10_000.0 - 1_010.0 - 2.01 + 1_250.0),
        (-1.0, 7.0, 10_000.0 + 990.0 - 1.99 - 700.0),
        (-1.0, 12.5, 10_000.0 + 990.0 - 1.99 - 1_250.0),
    ],
)
def test_what_is_held_is_closed_at_the_delisting_price_to_the_cent(
    kernels: KernelRegistry, side: float, price: float, cash: float
) -> None:
    for found in both(two_names(price), held(side), kernels):
        assert found.units is not None
        assert list(found.units[:, 0]) == [0.0, 0.0, *[side * 100.0] * 2, *[0.0] * 4]
        np.testing.assert_allclose(found.cash[GONE:], cash, atol=1e-9)
        np.testing.assert_allclose(found.equity[GONE:], cash, atol=1e-9)
        assert found.equity[GONE - 1] == pytest.approx(found.cash[GONE - 1] + side * 1_000.0)
        account = found.account
        assert account.delistings == pytest.approx(side * 100.0 * price, abs=1e-9)
        assert (account.delisted, found.trades) == (1, 1)


def test_dividends_and_splits_of_the_last_day_come_first(kernels: KernelRegistry) -> None:
    split, dividend = np.ones((len(DAYS), 2)), np.zeros((len(DAYS), 2))
    split[GONE, 0], dividend[GONE, 0] = 2.0, 0.3
    past = two_names(4.0, split=split, dividend=dividend)
    assert past.total_return[GONE, 0] == pytest.approx((2.0 * 4.0 + 0.3) / 10.0 - 1.0)
    for found in both(past, held(1.0), kernels):
        assert found.account.dividends == pytest.approx(30.0)
        assert found.account.delistings == pytest.approx(200.0 * 4.0)


def test_the_growth_of_the_sizes_has_the_last_return_in_it(kernels: KernelRegistry) -> None:
    setting = held(1.0, costs=TradingCosts(), fill_at=FillAt.SAME_CLOSE)
    found = run(two_names(7.0), setting, kernels)
    assert found.stage_growth is not None
    assert found.stage_growth[-1] == pytest.approx(np.log(0.97), abs=1e-12)
    assert found.equity[-1] == pytest.approx(9_700.0)


def test_a_short_of_what_is_delisted_dear_can_ruin(kernels: KernelRegistry) -> None:
    for found in both(two_names(130.0), held(-1.0), kernels):
        assert found.ruined == GONE
        assert (found.equity[GONE:] == 0.0).all()


def test_signals_of_what_is_gone_are_refused_and_others_have_its_room(
    kernels: KernelRegistry,
) -> None:
    """A signal of A after its end takes nothing of the gross limit that B shares with it."""
    said = one_signal(1.0, win_probability=[0.9])
    columns = {
        name: None if value is None else np.tile(value, 2)
        for name, value in vars(said.signals).items()
    }
    pair = replace(said, instrument=np.array([0, 1]), signals=type(said.signals)(**columns))
    setting = held(
        1.0,
        strategy=GivenSignals({DAYS[GONE + 1]: pair}),
        limits=Limits(weight_max=0.5, leverage_max=0.5),
        costs=TradingCosts(),
    )
    exact, fast = both(two_names(7.0), setting, kernels)
    for found in (exact, fast):
        assert found.units is not None
        assert list(found.units[-1]) == [0.0, 50.0]
    assert exact.refused_lines == {"UNKNOWN_INSTRUMENT": 1}


def test_a_signal_before_the_first_price_is_no_signal_of_another_instrument(
    kernels: KernelRegistry,
) -> None:
    """B begins in session 2; told of in session 1, it was sized at the price of C."""
    close = np.tile([10.0, 20.0, 3_000.0], (len(DAYS), 1))
    close[:2, 1] = np.nan
    past = PriceHistory(DAYS, ("A", "B", "C"), close)
    said = replace(one_signal(1.0, win_probability=[0.9]), instrument=np.array([1]))
    setting = held(1.0, strategy=GivenSignals({DAYS[1]: said}))
    exact, fast = both(past, setting, kernels)
    for found in (exact, fast):
        assert found.units is not None
        assert not found.units.any()
    assert exact.refused_lines == {"UNKNOWN_INSTRUMENT": 1}


def test_random_settings_agree_in_both_modes_with_names_that_end(kernels: KernelRegistry) -> None:
    past = walks_that_end()
    ends = past.delistings
    rng = np.random.default_rng(40)
    settings = [random_setting(rng) for _ in range(16)]
    within = delisted = 0
    for setting, quick in zip(settings, run_fast(past, settings, units=True), strict=True):
        exact = run(past, setting, kernels)
        assert exact.units is not None
        assert quick.units is not None
        for item in ends:
            assert not exact.units[item.session :, item.instrument].any()
            assert not quick.units[item.session :, item.instrument].any()
        lots = np.abs(quick.units - exact.units) / setting.lot_size
        within += bool(lots.max() <= 1.0 + 1e-6)
        assert quick.equity == pytest.approx(exact.equity, rel=3e-3)
        assert quick.account.delisted == exact.account.delisted
        delisted += exact.account.delisted
    assert delisted > 10
    assert within >= 0.75 * len(settings)


def test_the_end_is_not_known_before_it_comes(kernels: KernelRegistry) -> None:
    past = walks_that_end()
    setting = Setting(
        MeanReturn(sessions=5), EffectiveParameters(), Limits(weight_max=0.3, allow_short=True)
    )
    whole = run(past, setting, kernels)
    assert whole.account.delisted > 0
    for end in (past.delistings[0].session, past.delistings[0].session + 1, 30):
        short = run(past.until(end), setting, kernels)
        np.testing.assert_array_equal(short.equity, whole.equity[:end])
    assert past.until(past.delistings[0].session).delistings == ()


def test_what_is_gone_is_in_no_estimate() -> None:
    past = history()
    close = past.close.copy()
    close[40:, 2] = np.nan
    ends = (Delisting(40, 2, 1.0),)
    cut = PriceHistory(past.dates, NAMES, close, delistings=ends)
    estimates = Estimates(sessions=20)
    before, after = (estimates.at(cut, t).covariance for t in (39, 41))
    assert before is not None
    assert after is not None
    assert NAMES[2] in before.instrument_ids
    assert NAMES[2] not in after.instrument_ids


@pytest.mark.parametrize(
    ("delistings", "reason", "words"),
    [
        ([Delisting(3, 0, 7.0)], "CONTRADICTORY", "has a close on 2024-01-04"),
        ([Delisting(0, 0, 7.0)], "CONTRADICTORY", "no close before"),
        ([Delisting(4, 0, 7.0), Delisting(5, 0, 7.0)], "DUPLICATE", "given twice"),
        ([Delisting(4, 0, -1.0)], "OUT_OF_RANGE", ">= 0"),
        ([Delisting(4, 0, np.nan)], "OUT_OF_RANGE", ">= 0"),
    ],
)
def test_delistings_that_contradict_the_prices_are_refused(
    delistings: list[Delisting], reason: str, words: str
) -> None:
    with pytest.raises(HistoryError, match=words) as error:
        replace(two_names(7.0), delistings=tuple(delistings))
    assert error.value.reason == reason


def test_prices_that_end_are_told_from_gaps() -> None:
    close = np.ones((12, 4))
    close[12 - ENDED_SESSIONS :, 0] = np.nan
    close[13 - ENDED_SESSIONS :, 1] = np.nan
    close[2:11, 2] = np.nan
    close[:, 3] = np.nan
    assert ended(close) == [(0, 12 - ENDED_SESSIONS)]
