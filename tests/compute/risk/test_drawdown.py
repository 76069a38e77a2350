"""Drawdowns measured."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.risk.drawdown import drawdown_tail, drawdowns

PATH = np.array([0.05, -0.1, 0.02, -0.08, 0.12, -0.03])


def test_drawdown_path_table():
    expected = [0, 0.1, 0.082, 0.15544, 0.0540928, 0.08247002]
    np.testing.assert_allclose(drawdowns(PATH), expected, rtol=1e-7, atol=1e-15)


def test_a_loss_on_the_first_day_is_a_drawdown():
    np.testing.assert_allclose(drawdowns(np.array([-0.2, 0.25])), [0.2, 0.0], atol=1e-15)


@given(st.lists(st.floats(-1.5, 1.0), min_size=1, max_size=30), st.floats(0.0, 0.99))
def test_the_tail_of_drawdowns_is_that_of_the_path(returns: list[float], level: float) -> None:
    """The mean of the worst 1 - level, whole or in part; what falls below nothing is at 1."""
    path = np.array(returns)
    largest, mean = drawdown_tail(path, level)
    falls = np.sort(np.asarray(drawdowns(np.maximum(path, -1.0))))[::-1]
    room = (1.0 - level) * len(path)
    whole = min(int(room), len(path))
    part = falls[whole] * (room - whole) if whole < len(path) else 0.0
    assert largest == pytest.approx(falls[0], abs=1e-12)
    assert mean == pytest.approx((falls[:whole].sum() + part) / room, abs=1e-9)
    assert 0.0 <= mean <= largest + 1e-12 <= 1.0 + 2e-12
