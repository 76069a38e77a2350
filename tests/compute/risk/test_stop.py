"""Fixed risk to the stop, with the worked examples of other systems and their defects."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.risk.stop import loss_at_stop, quantity_for_risk, stake_for_risk


def test_fees_are_paid_on_notional():
    # Taking the commission off the risk money would allow 9,990 units and lose twice the budget.
    quantity = quantity_for_risk(1000.0, 100.0, 99.9, 5e-4)
    np.testing.assert_allclose(quantity, 1000 / (0.1 + 5e-4 * 199.9), rtol=1e-12)
    np.testing.assert_allclose(quantity, 5001.2503, rtol=5e-9)
    np.testing.assert_allclose(quantity_for_risk(1000.0, 100.0, 99.9), 10_000, rtol=1e-12)
    np.testing.assert_allclose(9990 * loss_at_stop(100.0, 99.9, 5e-4), 1997.5, rtol=5e-5)


def test_one_pip_stop_on_a_million():
    quantity = quantity_for_risk(1_000_000 * 0.001, 1.00100, 1.00000)
    np.testing.assert_allclose(quantity, 1_000_000, rtol=1e-12)


@pytest.mark.parametrize(("equity", "rate"), [(0.0, 0.001), (1_000_000.0, 0.0)])
def test_nothing_to_risk_is_no_position(equity, rate):
    assert float(quantity_for_risk(equity * rate, 1.001, 1.0)) == 0.0


def test_four_trades_on_ten_coins():
    # 10 coins, half of them available, 1 % of that at risk per trade; then one coin of profit.
    available = 5.0
    stakes = stake_for_risk(available, 0.01, np.array([0.02, 0.04]), available)
    np.testing.assert_allclose(stakes, [2.5, 1.25], rtol=1e-12)
    third = stake_for_risk(available, 0.01, 0.01, available - float(stakes.sum()))
    np.testing.assert_allclose(third, 1.25, rtol=1e-12)
    fourth = stake_for_risk(5.5, 0.01, 0.02, 5.5 - 1.25 - 1.25)
    np.testing.assert_allclose(fourth, 2.75, rtol=1e-12)


def test_stop_on_the_wrong_side_limits_nothing():
    stops = np.array([101.0, 100.0, np.nan])
    assert np.isnan(quantity_for_risk(1000.0, 100.0, stops)).all()
    assert np.isnan(quantity_for_risk(1000.0, 100.0, 99.0, side=-1.0))


def test_short_is_negative_and_stopped_above():
    np.testing.assert_allclose(quantity_for_risk(1000.0, 100.0, 102.0, side=-1.0), -500, rtol=1e-12)


@settings(deadline=None)
@given(
    st.floats(1.0, 1e6),
    st.floats(0.1, 1e4),
    st.floats(1e-4, 0.5),
    st.floats(0.0, 0.01),
    st.sampled_from([1.0, -1.0]),
)
def test_the_loss_at_the_stop_is_the_risk_money(money, entry, distance, fee, side):
    stop = entry * (1 - side * distance)
    quantity = float(quantity_for_risk(money, entry, stop, fee, side))
    loss = quantity * (entry - stop) + abs(quantity) * fee * (entry + stop)
    assert loss == pytest.approx(money, rel=1e-10)
