"""Returns and volatility by factor: by hand, against NumPy's own covariance, and exact sums."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.analytics.factor_attribution import factor_attribution


def test_one_period_is_exposure_times_return() -> None:
    """Exposures .8 and -.2 to factors of 5 % and 10 %: .04 - .02, beside .01 and -.005."""
    found = factor_attribution(
        np.array([[0.8, -0.2]]), np.array([[0.05, 0.10]]), np.array([0.01]), np.array([-0.005])
    )
    assert found is not None
    np.testing.assert_allclose(found.effect, [0.04, -0.02, 0.01, -0.005], atol=1e-15)
    assert found.portfolio == pytest.approx(0.025, abs=1e-15)
    assert found.volatility is None
    np.testing.assert_allclose(found.exposure, [0.8, -0.2])


def test_two_periods_are_linked_by_carino() -> None:
    """Returns of 10 % and -5 %, all of one factor, compound to 4.5 %; the links are by hand."""
    move = np.array([[0.10], [-0.05]])
    found = factor_attribution(np.ones((2, 1)), move, np.array([0.0, 0.02]), np.array([0.0, -0.02]))
    assert found is not None
    link = np.array([np.log(1.1) / 0.1, np.log(0.95) / -0.05]) / (np.log(1.045) / 0.045)
    expected = [link @ move[:, 0], 0.02 * link[1], -0.02 * link[1]]
    np.testing.assert_allclose(found.effect, expected, rtol=1e-13)
    assert found.effect.sum() == pytest.approx(0.045, abs=1e-15)


@given(st.integers(0, 2**32 - 1), st.integers(3, 40), st.integers(1, 5))
def test_effects_and_risks_add_up(seed: int, periods: int, factors: int) -> None:
    rng = np.random.default_rng(seed)
    exposure = rng.normal(0.0, 1.0, (periods, factors))
    move = rng.normal(0.0, 0.02, (periods, factors))
    specific, other = rng.normal(0.0, 0.01, (2, periods))
    found = factor_attribution(exposure, move, specific, other)
    assert found is not None
    parts = np.column_stack([exposure * move, specific, other])
    total = parts.sum(axis=1)
    assert found.portfolio == pytest.approx(np.prod(1.0 + total) - 1.0, abs=1e-12)
    assert found.effect.sum() == pytest.approx(found.portfolio, abs=1e-12)
    assert found.volatility is not None
    assert found.risk is not None
    assert found.deviation is not None
    assert found.correlation is not None
    assert found.risk.sum() == pytest.approx(found.volatility, rel=1e-9)
    everything = np.corrcoef(np.column_stack([parts, total]).T)
    np.testing.assert_allclose(found.correlation, everything[-1, :-1], atol=1e-9)
    np.testing.assert_allclose(found.deviation * found.correlation, found.risk, atol=1e-12)


def test_what_never_moves_has_no_risk_and_what_is_lost_no_logarithm() -> None:
    move = np.array([[0.01], [-0.02], [0.03]])
    nothing = np.zeros(3)
    found = factor_attribution(np.ones((3, 1)), move, nothing, nothing)
    assert found is not None
    assert found.risk is not None
    np.testing.assert_allclose(found.risk[1:], 0.0)
    assert found.risk[0] == pytest.approx(move.std(ddof=1))
    assert factor_attribution(np.ones((1, 1)), -np.ones((1, 1)), nothing[:1], nothing[:1]) is None
    assert factor_attribution(np.ones((0, 1)), np.ones((0, 1)), nothing[:0], nothing[:0]) is None
