"""A week of an account by hand, to the millionth of a unit of money."""

import numpy as np
import pytest

from compute.simulate.account import Account, TradingCosts, corporate_actions, fill, night

COSTS = TradingCosts(
    commission_fixed=1.0,
    commission_rate=0.0005,
    slippage_rate=0.0002,
    credit_rate=0.03,
    debit_rate=0.06,
    borrow_rate=0.02,
)
# A and B: opens and closes of Monday to Friday.
OPEN = np.array([[100, 50], [102, 49], [104, 48.5], [51.5, 48], [52.5, 46.5]], dtype=float)
CLOSE = np.array([[101, 49.5], [103, 48], [102, 49], [52, 47], [51, 47.5]], dtype=float)
# Decided on Monday: A 400, B -300; on Wednesday: A 500, before the split of two for one.
TRADES = [(0, 0), (400, -300), (0, 0), (200, 0), (-1000, 300)]
DIVIDEND = {2: np.array([0.5, 0.0])}
SPLIT = {3: np.array([2.0, 1.0])}
CASH = [50004.166667, 23863.302666, 24063.266275, 13754.214421, 52260.057918]
EQUITY = [50004.166667, 50663.302666, 50163.266275, 51654.214421, 52260.057918]


def test_a_week_with_a_short_a_dividend_and_a_split_is_the_hand_ledger() -> None:
    account = Account(50_000.0, np.zeros(2))
    for day, trade in enumerate(TRADES):
        account = corporate_actions(
            account, DIVIDEND.get(day), SPLIT.get(day), CLOSE[max(day - 1, 0)]
        )
        account = fill(account, np.array(trade, dtype=float), OPEN[day], COSTS)
        account = night(account, CLOSE[day], COSTS)
        assert account.cash == pytest.approx(CASH[day], abs=5.1e-7)
        assert account.equity(CLOSE[day]) == pytest.approx(EQUITY[day], abs=5.1e-7)
    assert account.dividends == pytest.approx(200.0)
    assert account.interest == pytest.approx(10.032703, abs=5.1e-7)
    assert account.commission == pytest.approx(71.124785, abs=5.1e-7)
    assert account.slippage == pytest.approx(26.45, abs=5.1e-7)
    assert account.borrow == pytest.approx(2.40, abs=5.1e-7)


def test_the_parts_add_up_to_the_change_of_equity() -> None:
    generator = np.random.default_rng(3)
    account, price = Account(1e5, np.zeros(4)), generator.uniform(10, 100, 4)
    gained = 0.0
    for _ in range(40):
        trade = np.round(generator.normal(0.0, 50.0, 4))
        account = fill(account, trade, price, COSTS)
        account = night(account, price, COSTS)
        moved = price * generator.uniform(0.95, 1.05, 4)
        gained += float(account.units @ (moved - price))
        price = moved
    paid = account.interest - account.borrow - account.commission - account.slippage
    assert account.equity(price) == pytest.approx(1e5 + gained + paid, abs=1e-6)


def test_a_position_without_a_price_counts_nothing_and_breaks_nothing() -> None:
    account = Account(10.0, np.array([1.0, 0.0]))
    assert account.equity(np.array([5.0, np.nan])) == 15.0


def test_units_stay_whole_lots_however_often_they_trade() -> None:
    """Sums of thousandths are not whole thousandths: what they lack was no lot that may be sold."""
    rng, price, lots, account = (
        np.random.default_rng(2),
        np.array([50.0]),
        0,
        Account(1e6, np.zeros(1)),
    )
    for traded in rng.integers(-200, 200, 500):
        account = fill(account, np.array([traded * 0.001]), price, TradingCosts(), 0.001)
        lots += int(traded)
        assert account.units[0] == lots * 0.001
