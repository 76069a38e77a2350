"""What a unit loses at its stop, with the worked example of another system and its defect."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.risk.stop import loss_at_stop

LONG, SHORT = np.array([1.0]), np.array([-1.0])


def test_fees_are_paid_on_notional():
    # Taking the commission off the risk money would allow 9,990 units and lose twice the budget.
    loss = loss_at_stop(np.array([100.0]), np.array([99.9]), 5e-4, LONG)
    np.testing.assert_allclose(loss, 0.1 + 5e-4 * 199.9, rtol=1e-12)
    np.testing.assert_allclose(1000.0 / loss, 5001.2503, rtol=5e-9)
    np.testing.assert_allclose(9990 * loss, 1997.5, rtol=5e-5)


def test_stop_on_the_wrong_side_limits_nothing():
    stops = np.array([101.0, 100.0, np.nan])
    assert np.isnan(loss_at_stop(np.full(3, 100.0), stops, 0.0, np.ones(3))).all()
    assert np.isnan(loss_at_stop(np.array([100.0]), np.array([99.0]), 0.0, SHORT)).all()


def test_a_short_position_is_stopped_above():
    np.testing.assert_allclose(loss_at_stop(np.array([100.0]), np.array([102.0]), 0.0, SHORT), 2.0)


@settings(deadline=None)
@given(
    st.floats(0.1, 1e4), st.floats(1e-4, 0.5), st.floats(0.0, 0.01), st.sampled_from([1.0, -1.0])
)
def test_the_loss_is_the_move_and_both_fees(entry, distance, fee, side):
    stop = entry * (1 - side * distance)
    loss = float(loss_at_stop(np.array([entry]), np.array([stop]), fee, np.array([side]))[0])
    assert loss == pytest.approx(abs(entry - stop) + fee * entry + fee * stop, rel=1e-10)
