"""Floors: Grossman and Zhou, CPPI and TIPP, and a path that never falls through one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.adapt.adjustment import floor_multiplier, floored
from compute.parameters import EffectiveParameters


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
    assert floor_multiplier(equity, floor * highest) == pytest.approx(multiplier, abs=1e-15)


@pytest.mark.parametrize(
    ("chosen", "wanted"),
    [
        ({"equity_floor": 80.0}, [104.0, 94.4, 85.76, 87.6032, 79.695872]),
        ({"drawdown_floor": 0.8}, [104.0, 95.68, 88.192, 89.78944, 82.9364224]),
    ],
)
def test_cppi_and_tipp_of_the_reference_paths_d7_16_and_d7_17(
    chosen: dict[str, float], wanted: list[float]
) -> None:
    """The cushion 1 - F/W times 4, with a fixed floor and with one that follows the peak."""
    parameters = EffectiveParameters(drawdown_multiplier=4.0, **chosen)  # type: ignore[arg-type]
    wealth = highest = 100.0
    seen = []
    for change in (0.05, -0.10, -0.15, 0.08, -0.26):
        (found,) = floored(parameters, wealth, highest)
        wealth *= 1.0 + found.multiplier * change
        highest = max(highest, wealth)
        seen.append(wealth)
    np.testing.assert_allclose(seen, wanted, rtol=1e-12)


@given(st.lists(st.floats(-0.99, 1.0), max_size=50), st.floats(0.05, 0.95))
def test_no_move_of_less_than_everything_breaks_the_floor_unlevered(
    moves: list[float], floor: float
) -> None:
    wealth = highest = 1.0
    for move in moves:
        wealth *= 1.0 + floor_multiplier(wealth, floor * highest) * move
        highest = max(highest, wealth)
        assert wealth >= floor * highest * (1.0 - 1e-12) or move > 0.0


def test_the_lock_is_said() -> None:
    both = EffectiveParameters(drawdown_floor=0.8, equity_floor=75.0)
    moving, fixed = floored(both, 80.0, 100.0)
    assert "RebaseHighWaterMark" in moving.explanation
    assert fixed.multiplier == pytest.approx(5.0 / 80.0)
    assert "stay closed" not in fixed.explanation
    moving, fixed = floored(both, 75.0, 76.0)
    assert "RebaseHighWaterMark" not in moving.explanation
    assert fixed.multiplier == 0.0
    assert "set lower" in fixed.explanation


@pytest.mark.parametrize(
    ("equity", "floor", "text"),
    [
        (3_840_041.954, 3e6, "equity 3,840,041.95 over a floor of 3,000,000.00"),
        (1e6, 999_999.0, "equity 1,000,000.00 over a floor of 999,999.00"),
        (2_844_520.68, 3e6, "equity 2,844,520.68 is at the floor 3,000,000.00: positions stay "),
        (0.52, 0.4, "equity 0.52 over a floor of 0.4"),  # a portfolio in bitcoin
    ],
)
def test_money_is_told_to_the_hundredth(equity: float, floor: float, text: str) -> None:
    (found,) = floored(EffectiveParameters(equity_floor=floor), equity, equity)
    assert found.explanation.startswith(text)
