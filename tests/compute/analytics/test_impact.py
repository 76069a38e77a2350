"""The coefficient of the square-root law against statsmodels."""

import numpy as np
import pytest
import statsmodels.api as sm

from compute.analytics.impact import TRADES_MIN, impact


def test_the_coefficient_and_its_error_are_those_of_least_squares() -> None:
    rng = np.random.default_rng(4)
    participation = rng.uniform(1e-4, 0.2, 60)
    slippage = 0.8 * np.sqrt(participation) + rng.normal(0.0, 0.3, 60) * participation**0.2
    oracle = sm.OLS(slippage, np.sqrt(participation)).fit(cov_type="HC3")
    found = impact(slippage, participation)
    assert found is not None
    assert found.coefficient == pytest.approx(oracle.params[0], rel=1e-12)
    assert found.error == pytest.approx(oracle.bse[0], rel=1e-12)
    assert found.trades == 60


def test_too_few_trades_say_nothing() -> None:
    few = np.full(TRADES_MIN - 1, 0.1)
    assert impact(few, few) is None


def test_fills_at_the_prices_of_their_decisions_say_nothing() -> None:
    assert impact(np.zeros(60), np.full(60, 0.1)) is None


def test_errors_cover_the_coefficient_where_few_trades_say_most() -> None:
    """Sizes over four powers of ten: 1.96 errors held it in 79 of 100 samples by White's error."""
    rng, planted, inside = np.random.default_rng(8), 0.7, 0
    samples = 1000
    for _ in range(samples):
        participation = np.exp(rng.normal(-6.0, 2.0, 50))
        noise = 1.0 + 0.5 * rng.standard_normal(50)
        found = impact(planted * np.sqrt(participation) * noise, participation)
        assert found is not None
        inside += bool(abs(found.coefficient - planted) <= 1.96 * found.error)
    assert inside >= 0.85 * samples
