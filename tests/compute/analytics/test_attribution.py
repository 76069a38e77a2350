"""Attribution against published numbers, and its sums."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.analytics.attribution import attribution


def test_bacons_example_in_one_period() -> None:
    """Bacon 2008: weights .4, .3, .3 against .4, .2, .4; 8.3 % against 6.4 %."""
    weight, benchmark = np.array([[0.4, 0.3, 0.3]]), np.array([[0.4, 0.2, 0.4]])
    moved, reference = np.array([[0.20, -0.05, 0.06]]), np.array([[0.10, -0.04, 0.08]])
    found = attribution(weight, weight * moved, benchmark, benchmark * reference)
    assert found is not None
    assert found.portfolio == pytest.approx(0.083, abs=1e-15)
    assert found.benchmark == pytest.approx(0.064, abs=1e-15)
    np.testing.assert_allclose(found.allocation, [0.0, -0.0104, -0.0016], atol=1e-15)
    np.testing.assert_allclose(found.selection, [0.04, -0.003, -0.006], atol=1e-15)


def test_linked_periods_weigh_by_carino() -> None:
    """8.3, -2 and 5 % against 6.4, -1 and 3 %: together 2.94462 %."""
    portfolio, benchmark = (
        np.array([[0.083], [-0.02], [0.05]]),
        np.array([[0.064], [-0.01], [0.03]]),
    )
    ones = np.ones((3, 1))
    found = attribution(ones, portfolio, ones, benchmark)
    assert found is not None
    assert found.allocation[0] == pytest.approx(0.0, abs=1e-15)
    assert found.selection[0] == pytest.approx(0.0294462, abs=5e-8)
    factors = np.array([1.0243566809, 1.1163732335, 1.0573577699])
    assert found.selection[0] == pytest.approx(factors @ (portfolio - benchmark)[:, 0], abs=1e-11)


returns = st.floats(-0.2, 0.3)


@given(
    st.lists(st.tuples(st.lists(returns, min_size=6, max_size=6)), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_effects_add_up_to_the_difference_of_compounded_returns(
    moved: list[tuple[list[float]]], seed: int
) -> None:
    """Long and short weights, groups that the benchmark does not hold, and equal returns too."""
    rng, n = np.random.default_rng(seed), len(moved)
    table = np.array([row[0] for row in moved])
    weight = rng.uniform(-0.3, 0.5, (n, 3))
    weight[:, 2] = 1.0 - weight[:, :2].sum(axis=1)
    benchmark = np.zeros((n, 3))
    benchmark[:, 0] = rng.uniform(0.0, 1.0, n)
    benchmark[:, 2] = 1.0 - benchmark[:, 0]
    found = attribution(weight, weight * table[:, :3], benchmark, benchmark * table[:, 3:])
    assert found is not None
    effects = found.allocation.sum() + found.selection.sum()
    assert effects == pytest.approx(found.portfolio - found.benchmark, abs=1e-12)


def test_a_period_that_loses_everything_has_no_attribution() -> None:
    one = np.ones((1, 1))
    assert attribution(one, -one, one, 0.1 * one) is None
    assert attribution(np.ones((0, 1)), np.ones((0, 1)), np.ones((0, 1)), np.ones((0, 1))) is None
