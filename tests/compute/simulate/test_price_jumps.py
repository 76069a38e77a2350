"""Which moves of a price look like a split that nobody announced."""

import numpy as np
import pytest

from compute.simulate.history import PriceHistory
from compute.simulate.price_jumps import Jump, jumps

DAYS = ("2024-03-01", "2024-03-04", "2024-03-05", "2024-03-06")


def history(*closes: float, **columns: tuple[float, ...]) -> PriceHistory:
    """One name."""
    made = {name: np.array(values)[:, None] for name, values in columns.items()}
    return PriceHistory(DAYS[: len(closes)], ("A",), np.array(closes)[:, None], **made)


@pytest.mark.parametrize(
    ("before", "after", "is_jump"),
    [
        (100.0, 50.0, True),  # two for one
        (100.0, 54.0, True),  # two for one, and 8 % up
        (50.0, 100.0, True),  # one for two
        (100.0, 1000.0, True),
        (100.0, 55.1, False),
        (55.1, 100.0, False),
        (100.0, 70.0, False),
    ],
)
def test_what_is_near_half_or_double_is_a_jump(before: float, after: float, is_jump: bool) -> None:
    found = jumps(history(before, before, after))
    assert found == ([Jump(2, 0, after, 1, before)] if is_jump else [])


def test_what_was_announced_is_none_but_where_prices_were_adjusted_already() -> None:
    assert not jumps(history(100.0, 50.0, split=(1.0, 2.0)))
    assert not jumps(history(100.0, 40.0, dividend=(0.0, 60.0)))
    adjusted = jumps(history(50.0, 50.0, split=(1.0, 2.0)))
    assert adjusted == [Jump(1, 0, 50.0, 0, 50.0)]


def test_across_sessions_without_a_price_the_last_one_counts() -> None:
    nan = np.nan
    assert jumps(history(100.0, nan, nan, 50.0)) == [Jump(3, 0, 50.0, 0, 100.0)]
    assert not jumps(history(100.0, nan, nan, 50.0, split=(1.0, 1.0, 2.0, 1.0)))
    assert not jumps(history(nan, nan, 50.0, 50.0))


def test_opens_in_other_units_than_closes_are_jumps_on_their_session() -> None:
    closes = (100.0, 101.0, 102.0)
    assert jumps(history(*closes, open=(100.0, 50.0, np.nan))) == [Jump(1, 0, 101.0, 1, 50.0)]
