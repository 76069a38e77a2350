"""Parts of a history laid over each other, and what is done about gaps."""

import numpy as np
import pytest

from compute.history import Gaps, HistoryGapError, Table, carried, overlaid, sample

NAN = np.nan


def table(names: str, times: list[int], rows: list[list[float]]) -> Table:
    return Table(tuple(names), np.array(times), np.array(rows, dtype=float))


def test_later_parts_count_over_earlier_ones_and_lack_nothing() -> None:
    first = table("ab", [1, 2, 3], [[1, 10], [2, 20], [3, 30]])
    fixed = table("bc", [2, 4], [[21, 5], [40, NAN]])
    whole = overlaid([first, fixed])
    assert whole.instrument_ids == ("a", "b", "c")
    assert whole.times.tolist() == [1, 2, 3, 4]
    expected = [[1, 10, NAN], [2, 21, 5], [3, 30, NAN], [NAN, 40, NAN]]
    np.testing.assert_array_equal(whole.values, expected)
    picked = overlaid([first, fixed], ["c", "a"])
    assert picked.times.tolist() == [1, 2, 3], "rows without a number are left out"
    with pytest.raises(KeyError, match="z"):
        overlaid([first], ["z"])


def test_each_policy_says_what_it_does_about_a_gap() -> None:
    prices = table("ab", [0, 1, 2, 3, 4], [[10, 5], [11, NAN], [12, 6], [12, 6], [15, 9]])
    with pytest.raises(HistoryGapError, match=r"2 returns are missing, the first of 'b'"):
        sample(prices, is_prices=True, gaps=Gaps.REFUSE)
    complete, times = sample(prices, is_prices=True, gaps=Gaps.COMPLETE)
    assert times.tolist() == [3, 4]
    np.testing.assert_allclose(complete, [[0.0, 0.0], [0.25, 0.5]])
    pairs, _ = sample(prices, is_prices=True, gaps=Gaps.PAIRWISE)
    assert np.isnan(pairs).tolist() == [[False, True], [False, True], [False] * 2, [False] * 2]
    moved, _ = sample(prices, is_prices=True, gaps=Gaps.CARRY_FORWARD)
    np.testing.assert_allclose(moved[:, 1], [0.0, 0.2, 0.0, 0.5])


def test_only_short_gaps_inside_a_history_are_carried() -> None:
    column = np.array([[NAN], [1.0], [NAN], [NAN], [2.0], *[[NAN]] * 6, [3.0], [NAN]])
    filled = carried(column)[:, 0]
    np.testing.assert_array_equal(filled, [NAN, 1, 1, 1, 2, *[NAN] * 6, 3, NAN])
    with pytest.raises(HistoryGapError):
        sample(
            table("a", list(range(13)), column.tolist()), is_prices=True, gaps=Gaps.CARRY_FORWARD
        )
    with pytest.raises(HistoryGapError, match="carried"):
        sample(table("a", [0, 1], [[0.1], [0.2]]), is_prices=False, gaps=Gaps.CARRY_FORWARD)


def test_nothing_left_is_told() -> None:
    apart = table("ab", [0, 1, 2, 3], [[0.1, NAN], [0.1, NAN], [NAN, 0.2], [0.1, 0.2]])
    with pytest.raises(HistoryGapError, match="1 periods"):
        sample(apart, is_prices=False, gaps=Gaps.COMPLETE)
