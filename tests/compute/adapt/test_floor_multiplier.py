"""The drawdown floor: Grossman and Zhou's multiplier, and a path that never falls through it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.adapt.adjustment import floor_multiplier, floored


@pytest.mark.parametrize(
    ("equity", "highest", "floor", "multiplier"),
    [
        (100.0, 100.0, 0.8, 0.2),  # 1 - a at the peak
        (90.0, 100.0, 0.8, 1.0 - 80.0 / 90.0),
        (80.0, 100.0, 0.8, 0.0),
        (70.0, 100.0, 0.8, 0.0),
        (0.0, 100.0, 0.8, 0.0),
        (-5.0, 100.0, 0.8, 0.0),
    ],
)
def test_the_part_of_equity_above_the_floor(
    equity: float, highest: float, floor: float, multiplier: float
) -> None:
    assert floor_multiplier(equity, highest, floor) == pytest.approx(multiplier, abs=1e-15)


def test_cppi_and_tipp_of_the_reference_paths_d7_16_and_d7_17() -> None:
    """The cushion 1 - F/W times m, with a fixed floor and with one that follows the peak."""
    for follows, wanted in (
        (False, [104.0, 94.4, 85.76, 87.6032, 79.695872]),
        (True, [104.0, 95.68, 88.192, 89.78944, 82.9364224]),
    ):
        wealth = highest = 100.0
        seen = []
        for change in (0.05, -0.10, -0.15, 0.08, -0.26):
            cushion = floor_multiplier(wealth, highest if follows else 100.0, 0.8)
            wealth *= 1.0 + min(1.0, 4.0 * cushion) * change
            highest = max(highest, wealth)
            seen.append(wealth)
        np.testing.assert_allclose(seen, wanted, rtol=1e-12)


@given(st.lists(st.floats(-0.99, 1.0), max_size=50), st.floats(0.05, 0.95))
def test_no_move_of_less_than_everything_breaks_the_floor_unlevered(
    moves: list[float], floor: float
) -> None:
    wealth = highest = 1.0
    for move in moves:
        wealth *= 1.0 + floor_multiplier(wealth, highest, floor) * move
        highest = max(highest, wealth)
        assert wealth >= floor * highest * (1.0 - 1e-12) or move > 0.0


def test_the_lock_is_said() -> None:
    assert "RebaseHighWaterMark" in floored(80.0, 100.0, 0.8).explanation
    assert "RebaseHighWaterMark" not in floored(81.0, 100.0, 0.8).explanation
