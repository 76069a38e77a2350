"""Backtests whose end is known: against closed forms, by hand, and against the future replaced."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from compute.limits.policy import LimitKind, Limits
from compute.parameters import EffectiveParameters, Shrinkage
from compute.shapes import KernelRegistry
from compute.signals import Signals
from compute.simulate.account import TradingCosts
from compute.simulate.backtest import Backtest, run
from compute.simulate.history import HistoryError, PriceHistory
from compute.simulate.setting import FillAt, Setting
from compute.simulate.strategies import GivenSignals, MeanReturn, SessionSignals
from compute.waterfall.layout import Source

PRICES = Path(__file__).parents[3] / "examples" / "prices.csv"
FULL = EffectiveParameters(kelly_fraction=1.0, confidence_shrinkage=Shrinkage.NONE)


@dataclass(frozen=True)
class ConstantEdge:
    """The same expected return and volatility a session for every instrument that has a price."""

    expected_return: float
    volatility: float

    def __call__(self, history: PriceHistory, session: int) -> SessionSignals:
        known = np.flatnonzero(~np.isnan(history.close[session]))
        each = np.ones(len(known))
        signals = Signals(
            side=each,
            source=np.full(len(known), int(Source.RETURN_VOLATILITY)),
            expected_return=self.expected_return * each,
            volatility=self.volatility * each,
        )
        return SessionSignals(known, signals)


@pytest.fixture(scope="module")
def closes() -> PriceHistory:
    with PRICES.open() as file:
        rows = list(csv.reader(file))
    table = np.array([[float(cell) for cell in row[1:]] for row in rows[1:]])
    return PriceHistory(tuple(row[0] for row in rows[1:]), tuple(rows[0][1:]), table)


def equal_weights(**changes: object) -> Setting:
    """Each of 20 names at a twentieth, by a limit that every edge is beyond."""
    setting = Setting(
        strategy=ConstantEdge(0.5, 0.1),
        parameters=FULL,
        limits=Limits(weight_max=0.05),
        fill_at=FillAt.SAME_CLOSE,
        lot_size=1e-6,
    )
    return replace(setting, **changes)  # type: ignore[arg-type]


def test_buy_and_hold_ends_at_the_ratio_of_prices(
    closes: PriceHistory, kernels: KernelRegistry
) -> None:
    found = run(closes, equal_weights(rebalance_sessions=10_000), kernels)
    assert found.equity[-1] == pytest.approx(1667977.322085, rel=1e-8)
    assert found.decisions == 1


def test_a_daily_constant_mix_ends_where_other_engines_end(
    closes: PriceHistory, kernels: KernelRegistry
) -> None:
    found = run(closes, equal_weights(), kernels)
    # Sales do not pay for purchases of the same decision, so single sessions lag by a trade.
    assert found.equity[-1] == pytest.approx(1718979.490401, rel=2e-3)


def test_costs_of_rebalancing_are_what_they_add_up_to(
    closes: PriceHistory, kernels: KernelRegistry
) -> None:
    found = run(closes, equal_weights(costs=TradingCosts(commission_fixed=1.0)), kernels)
    free = run(closes, equal_weights(), kernels)
    assert found.account.commission == found.trades > 0
    assert found.equity[-1] < free.equity[-1] - found.account.commission / 2


def pumping(kernels: KernelRegistry, order: np.ndarray) -> Backtest:
    """A price that doubles or halves, half of the wealth in it at each step."""
    price = np.concatenate([[100.0], 100.0 * np.cumprod(np.where(order > 0, 2.0, 0.5))])
    dates = tuple(str(np.datetime64("2024-01-01") + day) for day in range(len(price)))
    history = PriceHistory(dates, ("A",), price[:, None])
    # An even bet that doubles or halves has the Kelly fraction one half.
    bet = Signals(
        side=np.ones(1),
        source=np.full(1, int(Source.WIN_LOSS)),
        win_probability=np.array([0.5]),
        payoff=np.array([1.0]),
        loss_fraction=np.array([0.5]),
    )
    said = SessionSignals(np.zeros(1, dtype=np.int64), bet)
    setting = Setting(
        strategy=GivenSignals(dict.fromkeys(dates, said)),
        parameters=FULL,
        limits=Limits(weight_max=1.0),
        fill_at=FillAt.SAME_CLOSE,
        lot_size=1e-9,
    )
    return run(history, setting, kernels)


def test_volatility_pumping_ends_the_same_whatever_the_order(kernels: KernelRegistry) -> None:
    ends = []
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(np.repeat([1, -1], 8))
        ends.append(pumping(kernels, order).equity[-1] / 1e6)
    np.testing.assert_allclose(ends, 1.125**8, rtol=1e-8)


def test_stages_add_up_to_the_growth_of_the_account_without_costs(kernels: KernelRegistry) -> None:
    found = pumping(kernels, np.repeat([1, -1], 8))
    growth = np.log(found.equity[-1] / found.equity[0])
    assert found.stage_growth[-1] == pytest.approx(growth, abs=1e-8)


def test_nothing_of_later_sessions_is_known(closes: PriceHistory, kernels: KernelRegistry) -> None:
    setting = Setting(
        strategy=MeanReturn(sessions=60),
        parameters=EffectiveParameters(),
        limits=Limits(weight_max=0.1, leverage_max=1.0, allow_short=True, allow_flip=True),
        costs=TradingCosts(commission_rate=0.0005),
    )
    end = 120
    whole = run(_until(closes, 180), setting, kernels)
    for future in (np.nan, 1e9):
        changed = np.array(closes.close[:180])
        changed[end:] = future
        other = run(replace(_until(closes, 180), close=changed), setting, kernels)
        np.testing.assert_array_equal(other.equity[:end], whole.equity[:end])
    short = run(_until(closes, end), setting, kernels)
    np.testing.assert_array_equal(short.equity, whole.equity[:end])


def test_limits_hold_at_every_session_of_a_real_history(
    closes: PriceHistory, kernels: KernelRegistry
) -> None:
    setting = Setting(
        strategy=MeanReturn(sessions=40),
        parameters=FULL,
        limits=Limits(weight_max=0.1, leverage_max=0.5, allow_short=True),
        fill_at=FillAt.SAME_CLOSE,
    )
    found = run(_until(closes, 200), setting, kernels)
    assert found.decisions > 100
    # Filled at the prices decided on, the book is inside; then prices move until the next close.
    moved = np.abs(closes.total_return[:200]).max(axis=1)
    assert (found.gross_weight <= 0.5 * (1.0 + moved) / (1.0 - 0.5 * moved) + 1e-9).all()
    assert found.bindings[LimitKind.LEVERAGE_MAX] > 0


def test_a_missing_price_freezes_the_line(kernels: KernelRegistry) -> None:
    price = np.full((8, 2), 100.0)
    price[3:6, 1] = np.nan
    price[6:, 1] = 110.0
    dates = tuple(f"2024-01-{day:02}" for day in range(1, 9))
    history = PriceHistory(dates, ("A", "B"), price)
    setting = equal_weights(limits=Limits(weight_max=0.4), lot_size=1.0)
    found = run(history, setting, kernels)
    np.testing.assert_allclose(found.equity[:6], 1e6)
    assert found.equity[6] == pytest.approx(1e6 + 0.4e6 * 0.1)


def test_an_open_dearer_than_the_close_is_not_bought_on_credit(kernels: KernelRegistry) -> None:
    close = np.array([[100.0], [150.0], [150.0]])
    opens = np.array([[100.0], [150.0], [150.0]])
    history = PriceHistory(("2024-01-01", "2024-01-02", "2024-01-03"), ("A",), close, opens)
    setting = equal_weights(
        limits=Limits(weight_max=1.0), fill_at=FillAt.NEXT_OPEN, lot_size=1.0, cash=1000.0
    )
    found = run(history, setting, kernels)
    assert found.scaled_fills >= 1
    assert (found.cash >= 0.0).all()
    assert found.account.units[0] == 6.0


@pytest.mark.parametrize(
    ("dates", "close", "reason"),
    [
        (("2024-01-02", "2024-01-01"), [[1.0], [1.0]], "NOT_SORTED"),
        (("2024-01-01", "2024-01-01"), [[1.0], [1.0]], "DUPLICATE"),
        (("2024-01-01", "2024-01-02"), [[1.0], [0.0]], "OUT_OF_RANGE"),
        (("2024-01-01", "2024-01-02"), [[1.0], [np.inf]], "OUT_OF_RANGE"),
        (("2024-01-01",), [[1.0], [1.0]], "LENGTH_MISMATCH"),
        ((), np.zeros((0, 1)), "MISSING"),
    ],
)
def test_a_history_that_is_wrong_is_refused(
    dates: tuple[str, ...], close: list[list[float]], reason: str
) -> None:
    with pytest.raises(HistoryError) as error:
        PriceHistory(dates, ("A",), np.array(close))
    assert error.value.reason == reason


def _until(history: PriceHistory, end: int) -> PriceHistory:
    return PriceHistory(history.dates[:end], history.instrument_ids, history.close[:end])
