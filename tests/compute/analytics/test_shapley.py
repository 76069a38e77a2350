"""Shapley values against the mean over all orders, which defines them."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.analytics.shapley import shapley_values


def by_orders(values: np.ndarray) -> np.ndarray:
    """The mean over every order in which the causes may come."""
    causes = len(values).bit_length() - 1
    shares, orders = np.zeros((causes, values.shape[1])), list(permutations(range(causes)))
    for order in orders:
        subset = 0
        for cause in order:
            shares[cause] += values[subset | 1 << cause] - values[subset]
            subset |= 1 << cause
    return shares / len(orders)


@pytest.mark.parametrize("causes", [0, 1, 2, 3, 5])
def test_they_are_the_mean_over_all_orders(causes: int) -> None:
    values = np.random.default_rng(causes).standard_normal((1 << causes, 3))
    assert shapley_values(values) == pytest.approx(by_orders(values), abs=1e-12)


def test_a_glove_game() -> None:
    """Two left gloves and a right one: 1/6, 1/6 and 2/3 (Shapley and Shubik 1969)."""
    worth = [float(bool(s & 4) and bool(s & 3)) for s in range(8)]
    assert shapley_values(np.array(worth)[:, None])[:, 0] == pytest.approx([1 / 6, 1 / 6, 2 / 3])


@given(st.lists(st.integers(-(10**9), 10**9), min_size=16, max_size=16))
def test_whole_lots_add_up_to_the_difference(lots: list[int]) -> None:
    values = np.array(lots, dtype=float)[:, None]
    shares = shapley_values(values)
    assert shares.sum() == pytest.approx(lots[-1] - lots[0], abs=1e-12 * 10**10)
    assert shapley_values(values[::-1]) == pytest.approx(-shares, rel=1e-12)


def test_a_cause_without_effect_has_no_share() -> None:
    values = np.random.default_rng(1).standard_normal((4, 2))
    with_idle = np.concatenate([values, values])  # the third bit changes nothing
    shares = shapley_values(with_idle)
    assert (shares[2] == 0.0).all()
    assert shares[:2] == pytest.approx(shapley_values(values))


def test_a_missing_subset_is_an_error() -> None:
    with pytest.raises(ValueError, match="3 rows"):
        shapley_values(np.zeros((3, 1)))
