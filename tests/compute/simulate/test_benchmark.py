"""What is held without deciding anything, and returns by calendar month and year."""

from dataclasses import replace

import numpy as np
import pytest

from compute.simulate.benchmark import buy_and_hold
from compute.simulate.calendar_returns import YEAR, calendar_returns
from compute.simulate.delisting import Delisting
from compute.simulate.history import PriceHistory
from tests.compute.simulate.test_backtest import closes
from tests.compute.simulate.test_fast import history

__all__ = ["closes"]


def test_equal_money_in_twenty_names_ends_where_other_engines_end(closes: PriceHistory) -> None:
    """1667977.322085 of a million, as vectorbt and bt have it to the last digit."""
    assert 1e6 * buy_and_hold(closes)[-1] == pytest.approx(1667977.322085, abs=1e-6)


def test_one_instrument_is_its_price_with_dividends_kept_in_it() -> None:
    past = history()
    dividend, split = np.zeros_like(past.close), np.ones_like(past.close)
    dividend[20, 1], split[25, 1] = 2.0, 2.0
    past = replace(past, dividend=dividend, split=split)
    close = past.close[:, 1]
    kept = (1.0 + 2.0 / close[20]) * 2.0
    found = buy_and_hold(past, "I1")
    assert found[0] == 1.0
    assert found[-1] == pytest.approx(close[-1] / close[0] * kept, rel=1e-12)


def test_what_begins_later_is_not_bought_and_what_is_delisted_stays_as_cash() -> None:
    close = np.array(
        [[10.0, 4.0, np.nan], [11.0, 5.0, 7.0], [12.0, np.nan, 70.0], [15.0, np.nan, 1]]
    )
    days = tuple(f"2024-01-0{i}" for i in range(1, 5))
    past = PriceHistory(days, ("A", "B", "C"), close, delistings=(Delisting(2, 1, 2.0),))
    np.testing.assert_allclose(
        buy_and_hold(past), [1.0, (1.1 + 1.25) / 2, (1.2 + 0.5) / 2, (1.5 + 0.5) / 2]
    )
    with pytest.raises(ValueError, match="'D' is not in the history"):
        buy_and_hold(past, "D")
    with pytest.raises(ValueError, match="'C' has no close in the first session"):
        buy_and_hold(past, "C")


def test_months_and_years_multiply_to_the_whole_and_say_why_they_have_no_value() -> None:
    days = (
        "2022-11-30", "2022-12-01", "2022-12-30", "2023-01-03", "2023-01-31", "2023-03-01",
        "2023-03-31",
    )  # fmt: skip
    equity = np.array([100.0, 110.0, 99.0, 90.0, 108.0, 54.0, 0.0])
    found = {(item.year, item.month): item for item in calendar_returns(days, equity)}
    assert len(found) == 2 * 13
    known = {place: item.value for place, item in found.items() if item.value is not None}
    assert known == pytest.approx(
        {
            (2022, 12): 99.0 / 100.0 - 1.0,
            (2022, YEAR): 99.0 / 100.0 - 1.0,
            (2023, 1): 108.0 / 99.0 - 1.0,
            (2023, 3): -1.0,
            (2023, YEAR): -1.0,
        },
        rel=1e-12,
    )
    reasons = {place: item.reason for place, item in found.items() if item.value is None}
    assert reasons[2022, 11] == "FIRST_SESSION"
    assert reasons[2023, 2] == reasons[2022, 10] == "NO_SESSION"
    later = (*days, "2023-04-03")
    ruined = calendar_returns(later, np.append(equity, 0.0))
    assert next(item.reason for item in ruined if (item.year, item.month) == (2023, 4)) == "RUINED"


def test_months_of_a_year_multiply_to_the_year(closes: PriceHistory) -> None:
    wealth = buy_and_hold(closes)
    found = calendar_returns(closes.dates, wealth)
    months = [item.value for item in found if item.month != YEAR and item.value is not None]
    assert np.prod(1.0 + np.array(months)) == pytest.approx(wealth[-1], rel=1e-12)
    years = [item.value for item in found if item.month == YEAR and item.value is not None]
    assert np.prod(1.0 + np.array(years)) == pytest.approx(wealth[-1], rel=1e-12)
