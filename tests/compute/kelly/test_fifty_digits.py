"""Every elementary closed form on 600 random inputs, edges included, against 50 digits.

The formulas are written out again here, in mpmath. An answer may be wrong by 1e-12 of its
largest term: where terms cancel, inputs in doubles say no more.
"""

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

from compute.edge.posterior import BetaPosterior, posterior_mean, posterior_standard_error
from compute.kelly.classic import break_even_probability, growth_rate, kelly_fraction
from compute.kelly.confidence import shrinkage
from compute.kelly.continuous import continuous_growth_rate, continuous_kelly_fraction
from compute.kelly.costs import fee_kelly_fraction, impact_kelly_fraction
from compute.kelly.fractional import multiplier_for_drawdown, reach_before_probability
from compute.kelly.interval import kelly_standard_error, normal_interval

mp = mpmath.mp.clone()
mp.dps = 50
ROWS = 600


def uniform(low: float, high: float) -> np.ndarray:
    """Values over a range, its ends among them; each call draws others."""
    values = GENERATOR.uniform(low, high, ROWS)
    values[GENERATOR.permutation(ROWS)[:20]] = np.repeat([low, high], 10)
    return values


def spread(low: float, high: float) -> np.ndarray:
    """The same with uniform logarithms."""
    return np.exp(np.clip(uniform(np.log(low), np.log(high)), np.log(low), np.log(high)))


GENERATOR = np.random.default_rng(50)
P, Q, B, A = uniform(0.0, 1.0), uniform(0.01, 0.99), spread(1e-4, 1e3), spread(1e-4, 2.0)
S, M, R = spread(1e-3, 2.0), uniform(-0.5, 0.5), uniform(0.0, 0.1)
C, X = uniform(0.05, 2.0), uniform(0.05, 0.95)
PRICE, STOP, FEE = spread(1e-3, 1e5), uniform(0.01, 0.99), spread(1e-6, 0.05)
ERRORS = [spread(1e-6, 1.0) for _ in range(3)]
STAKE = uniform(0.0, 0.999) / A
ALPHA, BETA = spread(0.1, 1e4), spread(0.1, 1e4)
RHO, LEVEL = uniform(-0.05, 0.95), uniform(0.5, 0.999)

Formula = Callable[..., tuple[Any, Any]]
"""The value and its largest term."""


def kelly(p: Any, b: Any, a: Any) -> tuple[Any, Any]:
    return p / a - (1 - p) / b, max(p / a, (1 - p) / b)


def growth(f: Any, p: Any, b: Any, a: Any) -> tuple[Any, Any]:
    won, lost = p * mp.log(1 + b * f), (1 - p) * mp.log(1 - a * f)
    # What 1 - a f loses of a stake near ruin, the stake in a double has lost already.
    return won + lost, max(abs(won), abs(lost), (1 - p) * a * f / (1 - a * f))


def error(p: Any, b: Any, a: Any, *errors: Any) -> tuple[Any, Any]:
    slopes = (1 / a + 1 / b, (1 - p) / b**2, p / a**2)
    value = mp.sqrt(sum((s * e) ** 2 for s, e in zip(slopes, errors, strict=True)))
    return value, value


def reach(u: Any, low: Any, c: Any) -> tuple[Any, Any]:
    k = 1 - 2 / c
    if k == 0:
        value = -mp.log(low) / (mp.log(u) - mp.log(low))
    else:
        value = (1 - low**k) / (u**k - low**k)
    return value, value


def upper(f: Any, se: Any, level: Any) -> tuple[Any, Any]:
    width = mp.sqrt(2) * mp.erfinv(level) * se
    return f + width, max(abs(f), width)


def plain(formula: Callable[..., Any], terms: Callable[..., Any] | None = None) -> Formula:
    """A formula whose largest term is itself, or is given."""

    def both(*values: Any) -> tuple[Any, Any]:
        value = formula(*values)
        return value, abs(value) if terms is None else terms(*values)

    return both


CASES: dict[str, tuple[Callable[..., Any], list[np.ndarray], Formula]] = {
    "kelly": (kelly_fraction, [P, B, A], kelly),
    "growth": (growth_rate, [STAKE, Q, B, A], growth),
    "break even": (break_even_probability, [B, A], plain(lambda b, a: a / (a + b))),
    "fee": (
        fee_kelly_fraction,
        [P, B + 0.05, A, FEE],
        # b - c is exact to the last digit of b: that digit counts where they are alike.
        lambda p, b, a, c: (
            p / (a + c) - (1 - p) / (b - c),
            max(p / (a + c), (1 - p) * b / (b - c) ** 2, (1 - p) / (b - c)),
        ),
    ),
    "continuous": (
        continuous_kelly_fraction,
        [M, S, R],
        plain(lambda m, s, r: (m - r) / s**2, lambda m, s, r: max(abs(m), r) / s**2),
    ),
    "continuous growth": (
        continuous_growth_rate,
        [C, M, S, R],
        plain(
            lambda f, m, s, r: r + f * (m - r) - (s * f) ** 2 / 2,
            lambda f, m, s, r: max(r, abs(f * m), f * r, (s * f) ** 2),
        ),
    ),
    "shrinkage": (shrinkage, [C, ERRORS[0]], plain(lambda f, e: f**2 / (f**2 + e**2))),
    "standard error": (kelly_standard_error, [P, B, A, *ERRORS], error),
    "interval": (
        lambda f, e, level: normal_interval(f, e, level).upper,
        [M, ERRORS[0], LEVEL],
        upper,
    ),
    "multiplier": (
        lambda x, beta: multiplier_for_drawdown(x, beta, multiplier_max=2.0),
        [X, Q],
        plain(lambda x, beta: 2 / (1 + mp.log(beta) / mp.log(x))),
    ),
    "reach before": (reach_before_probability, [1.0 + A, X, C], reach),
    "impact": (
        impact_kelly_fraction,
        [X, S, FEE],
        plain(lambda m, s, c: ((mp.sqrt(2.25 * c**2 + 4 * s**2 * m) - 1.5 * c) / (2 * s**2)) ** 2),
    ),
    "posterior mean": (
        lambda a, b: posterior_mean(BetaPosterior(a, b)),
        [ALPHA, BETA],
        plain(lambda a, b: a / (a + b)),
    ),
    "posterior error": (
        lambda a, b: posterior_standard_error(BetaPosterior(a, b)),
        [ALPHA, BETA],
        plain(lambda a, b: mp.sqrt(a * b / ((a + b) ** 2 * (a + b + 1)))),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_closed_form(name: str) -> None:
    function, columns, formula = CASES[name]
    computed = np.asarray(function(*columns))
    assert computed.shape == (ROWS,)
    for row in range(ROWS):
        inputs = [mp.mpf(float(column[row])) for column in columns]
        value, largest = formula(*inputs)
        assert abs(mp.mpf(float(computed[row])) - value) <= mp.mpf("1e-12") * largest, (row, inputs)
