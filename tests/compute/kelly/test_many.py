"""Many assets in continuous time, without limits."""

import jax
import mpmath
import numpy as np
import pytest

from compute.kelly.continuous import continuous_kelly_fraction
from compute.kelly.many import (
    many_growth_rate,
    many_kelly_fractions,
    maximum_sharpe_ratio,
    tangency_weights,
    volatility_capped_fractions,
)

mp = mpmath.mp.clone()
mp.dps = 50

MU3 = np.array([0.05, 0.08, 0.03])
COV3 = np.array([[0.04, 0.006, 0], [0.006, 0.09, 0.01], [0, 0.01, 0.0225]])
MU2, COV2 = np.array([0.06, 0.09]), np.array([[0.04, 0.018], [0.018, 0.09]])


def test_two_asset_table():
    f = many_kelly_fractions(MU2, COV2, 0.02)
    np.testing.assert_allclose(f, [5 / 7, 40 / 63], rtol=1e-12)
    np.testing.assert_allclose(many_growth_rate(f, MU2, COV2, 0.02), 0.0565079365, rtol=1e-9)
    weights = tangency_weights(MU2, COV2, 0.02)
    np.testing.assert_allclose(weights, [9 / 17, 8 / 17], rtol=1e-12)
    np.testing.assert_allclose(maximum_sharpe_ratio(MU2, COV2, 0.02), 0.2702144945, rtol=1e-9)


def test_three_asset_table_matches_fifty_digits():
    covariance = mp.matrix(
        [["0.04", "0.006", "0"], ["0.006", "0.09", "0.01"], ["0", "0.01", "0.0225"]]
    )
    mu = mp.matrix(["0.05", "0.08", "0.03"])
    f = mp.lu_solve(covariance, mu)
    squared = (mu.T * f)[0]
    computed = many_kelly_fractions(MU3, COV3)
    np.testing.assert_allclose(computed, [float(x) for x in f], rtol=1e-12)
    np.testing.assert_allclose(computed, [1.14516341, 0.69891062, 1.02270639], rtol=5e-9)
    growth = many_growth_rate(computed, MU3, COV3)
    np.testing.assert_allclose(growth, float(squared / 2), rtol=1e-12)
    np.testing.assert_allclose(growth, 0.0719261058, rtol=1e-9)
    ratio = maximum_sharpe_ratio(MU3, COV3)
    np.testing.assert_allclose(ratio, float(mp.sqrt(squared)), rtol=1e-12)
    np.testing.assert_allclose(ratio, 0.3792785409, rtol=1e-9)


def test_gradient_is_the_inverse_covariance():
    gradient = jax.jacobian(many_kelly_fractions)(MU3, COV3)
    np.testing.assert_allclose(gradient, np.linalg.inv(COV3), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(gradient[0], [25.26578291, -1.77188607, 0.78750492], rtol=5e-9)


@pytest.mark.parametrize(
    ("cap", "scale", "dual"),
    [(0.2, 0.5273169411, 0.4481963522), (0.1, 0.2636584705, 1.3963927044), (0.5, 1.0, 0.0)],
)
def test_volatility_cap_table(cap, scale, dual):
    free = many_kelly_fractions(MU3, COV3)
    capped = volatility_capped_fractions(MU3, COV3, cap)
    np.testing.assert_allclose(capped.fractions, scale * free, rtol=1e-9)
    np.testing.assert_allclose(capped.shadow_price, dual, rtol=1e-9)
    volatility = np.sqrt(capped.fractions @ COV3 @ capped.fractions)
    np.testing.assert_allclose(volatility, min(cap, 0.3792785409), rtol=1e-9)


def test_volatility_cap_shadow_price_is_the_finite_difference():
    value = lambda v2: float(  # noqa: E731
        many_growth_rate(volatility_capped_fractions(MU3, COV3, np.sqrt(v2)).fractions, MU3, COV3)
    )
    price = (value(0.04 + 1e-6) - value(0.04 - 1e-6)) / 2e-6
    computed = volatility_capped_fractions(MU3, COV3, 0.2).shadow_price
    np.testing.assert_allclose(computed, price, rtol=1e-6)


def test_uncorrelated_assets_are_sized_alone():
    volatility = np.sqrt(np.diag(COV3))
    f = many_kelly_fractions(MU3, np.diag(volatility**2), 0.01)
    np.testing.assert_allclose(f, continuous_kelly_fraction(MU3, volatility, 0.01), rtol=1e-12)


def test_indefinite_covariance_is_nan_and_not_a_size():
    assert np.isnan(many_kelly_fractions(MU2, np.array([[1.0, 2.0], [2.0, 1.0]]))).all()


def test_a_batch_of_books_equals_the_books():
    books = jax.vmap(many_kelly_fractions)(np.stack([MU3, 2 * MU3]), np.stack([COV3, 3 * COV3]))
    single = np.array(many_kelly_fractions(MU3, COV3))
    np.testing.assert_allclose(books, np.stack([single, single * 2 / 3]), rtol=1e-12)
