"""One bet with two outcomes, against 50-digit arithmetic and the published tables."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.kelly.classic import (
    break_even_probability,
    doubling_time,
    growth_rate,
    kelly_fraction,
    kelly_sensitivity,
    zero_growth_fraction,
)

mp = mpmath.mp.clone()
mp.dps = 50

p_b_a_fraction_growth = [
    ("0.6", "1", "1", "0.2", "0.020135513551"),
    ("0.51", "1", "1", "0.02", "0.000200013335"),
    ("0.53", "1", "1", "0.06", "0.001801081558"),
    ("0.5", "2", "1", "0.25", "0.058891517828"),
    ("0.6", "0.3", "0.2", "1.666666666667", "0.081093021622"),
    ("0.55", "0.02", "0.01", "32.5", "0.098557243703"),
    ("0.57", "1", "1", "0.14", "0.009832266986"),
    ("0.38", "2", "1", "0.07", "0.004796910157"),
    ("0.285", "3", "1", "0.0466666666667", "0.003172730143"),
    ("0.228", "4", "1", "0.035", "0.002370262688"),
    ("0.19", "5", "1", "0.028", "0.001891795495"),
]

probabilities = st.floats(0.01, 0.99)
payoffs = st.floats(0.01, 10.0)
losses = st.floats(0.01, 2.0)


def mp_growth(f, p, b, a):
    return p * mp.log(1 + b * f) + (1 - p) * mp.log(1 - a * f)


def mp_optimum(p, b, a):
    """Solve dg/df = 0 from the definition, without the closed form."""
    slope = lambda f: p * b / (1 + b * f) - (1 - p) * a / (1 - a * f)  # noqa: E731
    span = 1 / b + 1 / a
    return mp.findroot(slope, (-1 / b + span / 10**9, 1 / a - span / 10**9), solver="anderson")


@pytest.mark.parametrize("row", p_b_a_fraction_growth)
def test_kelly_fraction_tables_match_fifty_digits_and_print(row):
    p, b, a, printed_fraction, printed_growth = (mp.mpf(x) for x in row)
    fraction = mp_optimum(p, b, a)
    growth = mp_growth(fraction, p, b, a)
    assert abs(fraction - printed_fraction) < mp.mpf("1e-12") * (1 + abs(fraction))
    assert abs(growth - printed_growth) < mp.mpf("6e-13")

    computed = kelly_fraction(float(p), float(b), float(a))
    np.testing.assert_allclose(float(computed), float(fraction), rtol=1e-12)
    computed_growth = growth_rate(computed, float(p), float(b), float(a))
    np.testing.assert_allclose(float(computed_growth), float(growth), rtol=1e-12)


@pytest.mark.parametrize(("p", "printed"), [("0.6", "0.3893906833"), ("0.51", "0.0399893339")])
def test_zero_growth_fraction_matches_fifty_digits(p, printed):
    best = 2 * mp.mpf(p) - 1
    root = mp.findroot(
        lambda f: mp_growth(f, mp.mpf(p), 1, 1), (1.5 * best, 2.5 * best), "anderson"
    )
    assert abs(root - mp.mpf(printed)) < mp.mpf("6e-11")
    computed = float(zero_growth_fraction(float(p), 1.0, 1.0))
    np.testing.assert_allclose(computed, float(root), rtol=1e-12)


def test_zero_growth_fraction_without_edge_or_without_loss():
    np.testing.assert_array_equal(
        zero_growth_fraction(jnp.array([0.4, 0.5, 1.0]), 1.0, jnp.array([1.0, 1.0, 0.5])),
        [0.0, 0.0, 2.0],
    )


def test_zero_growth_fraction_gradient_is_the_implicit_one():
    # g(f_c(p), p) = 0  =>  df_c/dp = -g_p / g_f
    p, f = 0.6, float(zero_growth_fraction(0.6, 1.0, 1.0))
    expected = -(np.log1p(f) - np.log1p(-f)) / (p / (1 + f) - (1 - p) / (1 - f))
    computed = jax.grad(zero_growth_fraction)(p, 1.0, 1.0)
    np.testing.assert_allclose(computed, expected, rtol=1e-12)


def test_doubling_time_of_the_coin_tables():
    growth = growth_rate(jnp.array([0.02, 0.2]), jnp.array([0.51, 0.6]), 1.0, 1.0)
    np.testing.assert_allclose(doubling_time(growth), [3465.5, 34.424], rtol=2e-5)
    np.testing.assert_array_equal(doubling_time(jnp.array([0.0, -0.1])), [np.inf, np.inf])


def test_sensitivity_table_and_autodiff_agree():
    slope = kelly_sensitivity(0.6, 0.3, 0.2)
    np.testing.assert_allclose(np.array(slope), [25 / 3, 40 / 9, -15.0], rtol=1e-12)
    gradient = jax.grad(kelly_fraction, argnums=(0, 1, 2))(0.6, 0.3, 0.2)
    np.testing.assert_allclose(np.array(gradient), np.array(slope), rtol=1e-12)


def test_growth_rate_at_and_past_ruin_is_minus_infinity():
    growth = growth_rate(jnp.array([1.0, 1.5, -1.0]), 0.6, 1.0, 1.0)
    np.testing.assert_array_equal(growth, [-np.inf] * 3)
    # A loss that can't happen can't ruin.
    assert float(growth_rate(1.0, 1.0, 1.0, 1.0)) == pytest.approx(np.log(2.0), rel=1e-12)


def test_growth_rate_gradient_is_finite_on_every_line_of_a_batch_with_ruin():
    total = lambda f: growth_rate(f, 0.6, 1.0, 1.0)[0]  # noqa: E731
    gradient = jax.grad(total)(jnp.array([0.1, 2.0]))
    np.testing.assert_allclose(gradient, [0.6 / 1.1 - 0.4 / 0.9, 0.0], rtol=1e-12)


def test_nan_stays_on_its_own_line():
    p = jnp.array([0.6, jnp.nan, 0.4])
    for computed in (
        kelly_fraction(p, 1.0, 1.0),
        growth_rate(0.1, p, 1.0, 1.0),
        zero_growth_fraction(p, 1.0, 1.0),
    ):
        np.testing.assert_array_equal(np.isnan(computed), [False, True, False])


@settings(deadline=None)
@given(probabilities, payoffs, losses)
def test_optimum_beats_its_neighbours(p, b, a):
    best = float(kelly_fraction(p, b, a))
    growth = float(growth_rate(best, p, b, a))
    room = min(1 / a - best, best + 1 / b) / 2
    for neighbour in (best - room, best + room):
        assert float(growth_rate(neighbour, p, b, a)) < growth


@settings(deadline=None)
@given(payoffs, losses)
def test_zero_edge_gives_zero_size(b, a):
    size = float(kelly_fraction(break_even_probability(b, a), b, a))
    assert abs(size) <= 4e-16 * (1 / a + 1 / b)


@settings(deadline=None)
@given(probabilities, payoffs, losses, st.floats(1e-6, 0.5))
def test_size_grows_with_the_win_probability(p, b, a, better):
    q = min(p + better, 1.0)
    assert float(kelly_fraction(q, b, a)) > float(kelly_fraction(p, b, a))


@settings(deadline=None)
@given(probabilities, payoffs, losses, st.floats(0.1, 10.0))
def test_scaling_both_outcomes_scales_the_size_inversely(p, b, a, unit):
    # The same bet in contracts `unit` times as large: the money at risk must not change.
    size = float(kelly_fraction(p, b, a))
    scaled = float(kelly_fraction(p, unit * b, unit * a))
    assert scaled * unit == pytest.approx(size, rel=1e-9, abs=1e-12 * (1 / a + 1 / b))


@settings(deadline=None)
@given(st.floats(0.501, 0.999), payoffs, losses)
def test_zero_growth_is_beyond_the_optimum(p, b, a):
    best = float(kelly_fraction(p, b, a))
    turning = float(zero_growth_fraction(p, b, a))
    assert turning == 0.0 if best <= 0.0 else best < turning <= 1 / a


def test_jit_and_vmap_equal_the_plain_call():
    rng = np.random.default_rng(7)
    p, b, a = rng.uniform(0.3, 0.7, 50), rng.uniform(0.1, 3.0, 50), rng.uniform(0.1, 1.0, 50)
    for function in (kelly_fraction, zero_growth_fraction):
        plain = function(p, b, a)
        np.testing.assert_allclose(jax.jit(function)(p, b, a), plain, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(jax.vmap(function)(p, b, a), plain, rtol=1e-12, atol=1e-15)
