"""Kelly against the worst distribution nearby."""

import mpmath
import numpy as np
import pytest

from compute.kelly.classic import kelly_fraction
from compute.kelly.exact import exact_kelly_fraction
from compute.kelly.robust import robust_kelly
from compute.parameters import Robust, RobustSet
from compute.waterfall.robust import worst_chance
from tests.compute.kelly.plain_growth import exact_growth_rate

mp = mpmath.mp.clone()
mp.dps = 50

OUTCOMES, ODDS = np.array([-0.1, 0.0, 0.15]), np.array([0.3, 0.3, 0.4])


def even_money(kind, radius):
    """Worst win probability of an even bet won in 6 of 10, and its stake."""
    worst = worst_chance(np.array([0.6]), np.array([2.0]), Robust(kind, radius))[0]
    return worst, max(float(kelly_fraction(worst, 1.0, 1.0)), 0.0)


@pytest.mark.parametrize("kind", [RobustSet.BOX, RobustSet.TOTAL_VARIATION])
def test_interval_table(kind):
    fractions = [even_money(kind, radius)[1] for radius in (0.02, 0.05, 0.1, 0.2)]
    np.testing.assert_allclose(fractions, [0.16, 0.10, 0.0, 0.0], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("radius", "printed_worst", "printed_fraction"),
    [
        ("0.001", ".5780281710", ".1560563420"),
        ("0.005", ".5507185343", ".1014370687"),
        ("0.01", ".5301688724", ".0603377449"),
        ("0.02", ".5010187634", ".0020375268"),
    ],
)
def test_divergence_table(radius, printed_worst, printed_fraction):
    p, d = mp.mpf("0.6"), mp.mpf(radius)
    gap = lambda w: w * mp.log(w / p) + (1 - w) * mp.log((1 - w) / (1 - p)) - d  # noqa: E731
    worst = mp.findroot(gap, (mp.mpf("0.4"), mp.mpf("0.5999")), "anderson", tol=1e-60)
    assert abs(worst - mp.mpf(printed_worst)) < mp.mpf("6e-11")
    assert abs(2 * worst - 1 - mp.mpf(printed_fraction)) < mp.mpf("1.1e-10")
    computed, fraction = even_money(RobustSet.KL, float(d))
    np.testing.assert_allclose(computed, float(worst), rtol=1e-12)
    np.testing.assert_allclose(fraction, float(2 * worst - 1), rtol=1e-12 / float(2 * worst - 1))


def test_certain_loss_within_reach_is_no_bet():
    assert even_money(RobustSet.KL, 1.0) == (0.0, 0.0)


def mp_worst_growth(f, radius):
    """The dual max_t -t ln E exp(-x/t) - t d, by a root of its derivative in t."""
    x = [mp.log(1 + f * mp.mpf(str(v))) for v in OUTCOMES]
    w = [mp.mpf(str(v)) for v in ODDS]

    def dual(t):
        tilted = mp.fsum(wk * mp.exp(-xk / t) for wk, xk in zip(w, x, strict=True))
        return -t * mp.log(tilted) - t * radius

    t = mp.findroot(lambda t: mp.diff(dual, t), mp.mpf("0.5") * f / 2)
    return dual(t)


@pytest.mark.parametrize(
    ("radius", "fraction", "growth"),
    [
        ("0.001", 2.41662707, 0.0298147399),
        ("0.01", 1.45514531, 0.0108151158),
        ("0.02", 0.86883098, 0.0038651955),
    ],
)
def test_robust_table_and_its_dual(radius, fraction, growth):
    best = robust_kelly(OUTCOMES, ODDS, float(radius))
    np.testing.assert_allclose(best.fraction, fraction, rtol=5e-8)
    np.testing.assert_allclose(best.worst_growth, growth, atol=6e-11)
    at = mp.mpf(float(best.fraction))
    dual = mp_worst_growth(at, mp.mpf(radius))
    np.testing.assert_allclose(best.worst_growth, float(dual), rtol=1e-11)
    for neighbour in (at * mp.mpf("0.999"), at * mp.mpf("1.001")):
        assert mp_worst_growth(neighbour, mp.mpf(radius)) < dual


def test_nominal_row_is_plain_kelly():
    plain = exact_kelly_fraction(OUTCOMES, ODDS)
    np.testing.assert_allclose(plain, 20 / 7, rtol=1e-12)
    np.testing.assert_allclose(exact_growth_rate(plain, OUTCOMES, ODDS), 0.0417283066, rtol=1e-8)
    # The worst case moves with the square root of the radius.
    near = robust_kelly(OUTCOMES, ODDS, 1e-10)
    np.testing.assert_allclose(near.fraction, plain, rtol=1e-3)


def test_two_outcomes_reduce_to_the_worst_probability():
    radii = np.array([0.001, 0.005, 0.01, 0.02, 0.03])
    outcomes, odds = np.tile([1.0, -1.0], (5, 1)), np.array([0.6, 0.4])
    general = robust_kelly(outcomes, odds, radii)
    special = [even_money(RobustSet.KL, float(radius))[1] for radius in radii]
    np.testing.assert_allclose(general.fraction, special, rtol=1e-9, atol=1e-13)


def test_short_mirrors_long_and_no_edge_is_no_bet():
    lines = np.stack([OUTCOMES, -OUTCOMES, [-0.1, 0.0, 0.075], [0.1, 0.2, 0.3], [np.nan, 0, 1]])
    best = robust_kelly(lines, ODDS, 0.01)
    np.testing.assert_allclose(best.fraction[:2], [1.45514531, -1.45514531], rtol=5e-8)
    assert float(best.fraction[2]) == 0.0
    np.testing.assert_array_equal(np.isnan(best.fraction), [False, False, False, True, True])


def test_padding_is_neutral():
    padded = robust_kelly(np.append(OUTCOMES, np.nan), np.append(ODDS, 0.0), 0.01)
    plain = robust_kelly(OUTCOMES, ODDS, 0.01)
    np.testing.assert_allclose(padded.fraction, plain.fraction, rtol=1e-12)
