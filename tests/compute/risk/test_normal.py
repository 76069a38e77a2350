"""Normal value at risk and expected shortfall."""

import mpmath
import numpy as np
import pytest

from compute.kelly.continuous import continuous_kelly_fraction
from compute.risk.normal import (
    loss_limited_fraction,
    normal_expected_shortfall,
    normal_value_at_risk,
)

mp = mpmath.mp.clone()
mp.dps = 50


@pytest.mark.parametrize(
    ("level", "printed_var", "printed_es"),
    [
        ("0.95", "1.6448536270", "2.0627128075"),
        ("0.975", "1.9599639845", "2.3378027922"),
        ("0.99", "2.3263478740", "2.6652142203"),
    ],
)
def test_normal_tables(level, printed_var, printed_es):
    tail = mp.mpf(level)
    z = mp.sqrt(2) * mp.erfinv(2 * tail - 1)
    shortfall = mp.npdf(z) / (1 - tail)
    assert abs(z - mp.mpf(printed_var)) < mp.mpf("6e-11")
    assert abs(shortfall - mp.mpf(printed_es)) < mp.mpf("6e-11")
    np.testing.assert_allclose(normal_value_at_risk(float(level)), float(z), rtol=1e-12)
    np.testing.assert_allclose(
        normal_expected_shortfall(float(level)), float(shortfall), rtol=1e-12
    )


def test_loss_limited_kelly_table():
    m, s, limit = 0.0004, 0.012, 0.02
    np.testing.assert_allclose(continuous_kelly_fraction(m, s), 2.7777778, rtol=1e-8)
    deviations = np.array([normal_value_at_risk(0.99), normal_expected_shortfall(0.99)])
    capped = loss_limited_fraction(m, s, deviations, limit)
    np.testing.assert_allclose(capped, [0.7268452236, 0.6332606749], rtol=1e-10)
    np.testing.assert_allclose(capped * (deviations * s - m), limit, rtol=1e-12)


def test_a_short_loses_the_drift_and_a_sure_gain_is_not_limited():
    k = float(normal_value_at_risk(0.99))
    short = float(loss_limited_fraction(0.0004, 0.012, k, 0.02, side=-1.0))
    np.testing.assert_allclose(short, 0.02 / (k * 0.012 + 0.0004), rtol=1e-12)
    assert float(loss_limited_fraction(0.1, 0.01, k, 0.02)) == np.inf
    assert np.isnan(loss_limited_fraction(np.nan, 0.01, k, 0.02))
