"""Kelly of a predicted mixture of regimes: reference numbers, quadrature, what is told."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from compute.adapt.regime_edges import RegimeProbabilities, mixed, with_regimes
from compute.signals import Signals
from compute.waterfall.layout import Source

MEAN, DEVIATION = (0.0006, -0.0010), (0.008, 0.020)


def signals(n: int = 1, **given: Any) -> Signals:
    return Signals(
        side=np.ones(n),
        source=np.full(n, int(Source.REGIMES), dtype=np.int64),
        regime_expected_return=np.tile(MEAN, n),
        regime_volatility=np.tile(DEVIATION, n),
        **given,
    )


def known(*rows: tuple[float, ...], lines: tuple[int, ...] = ()) -> RegimeProbabilities:
    return RegimeProbabilities("market", 3, lines or tuple(range(len(rows))), rows)


def test_the_mixture_and_no_mean_of_stakes_d7_trap_2() -> None:
    made, errors = with_regimes(signals(), ["A"], known((0.9, 0.1)))
    assert not errors
    assert made.source.tolist() == [Source.RETURN_VOLATILITY]
    assert made.expected_return is not None
    assert made.volatility is not None
    m, v = made.expected_return[0], made.volatility[0] ** 2
    assert (m, v) == pytest.approx((0.00044, 9.78304e-05), rel=1e-12)
    assert m / v == pytest.approx(4.4976, abs=5e-5)
    own = np.array(MEAN) / np.array(DEVIATION) ** 2
    assert own @ [0.9, 0.1] == pytest.approx(8.1875)


def test_it_is_where_the_growth_of_the_mixture_is_largest() -> None:
    """By quadrature over the densities, to second order of log(1 + f r), for small returns."""
    p = np.array([0.7, 0.3])

    def density(x: float) -> float:
        return float(p @ stats.norm.pdf(x, MEAN, DEVIATION))

    def loss(f: float) -> float:
        def growth(x: float) -> float:
            return (f * x - 0.5 * (f * (x - mean)) ** 2) * density(x)

        return -integrate.quad(growth, -0.3, 0.3, points=[-0.02, 0.0, 0.02], limit=200)[0]

    mean = float(p @ MEAN)
    best = optimize.minimize_scalar(loss, bracket=(0.0, 5.0), tol=1e-10).x
    (m,), (deviation,) = mixed(p[None], np.array([MEAN]), np.array([DEVIATION]))
    assert m / deviation**2 == pytest.approx(best, rel=1e-6)


@given(st.integers(0, 10**6), st.integers(2, 4))
def test_moments_are_those_of_draws_by_regime(seed: int, k: int) -> None:
    random = np.random.default_rng(seed)
    p, mean = random.dirichlet(np.ones(k)), random.normal(0.0, 0.01, k)
    deviation = random.uniform(0.001, 0.05, k)
    (m,), (s,) = mixed(p[None], mean[None], deviation[None])
    second = sum(q * (d**2 + a**2) for q, a, d in zip(p, mean, deviation, strict=True))
    assert m == pytest.approx(p @ mean, abs=1e-15)
    assert s**2 + m**2 == pytest.approx(second, rel=1e-12)
    assert s >= np.sqrt(p @ deviation**2) - 1e-15, "regimes that differ add risk"


def test_lines_that_are_wrong_or_unseen_are_told_once_and_have_no_edge() -> None:
    own = signals(4, expected_return=np.array([0.01, 0.0, 0.0, 0.0]), volatility=np.full(4, 0.1))
    own.source[0] = Source.RETURN_VOLATILITY
    own.regime_volatility[4:6] = 0.0
    found = known((), (0.5, 0.5), (0.5, 0.5), lines=(1, 2, 3))
    made, errors = with_regimes(own, ["A", "B", "C", "D"], found)
    assert [(e.line, e.column, e.reason) for e in errors] == [
        (1, "instrument_ids", "NOT_IN_REGIMES"),
        (2, "regime_volatility", "OUT_OF_RANGE"),
    ]
    assert made.source.tolist() == [Source.RETURN_VOLATILITY] * 4
    assert made.expected_return is not None
    assert made.expected_return.tolist() == pytest.approx([0.01, 0.0, 0.0, -0.0002])
    own.regime_expected_return[7] = np.nan
    again = with_regimes(own, ["A", "B", "C", "D"], found)[1]
    assert (3, "regime_expected_return", "NOT_FINITE") in [
        (e.line, e.column, e.reason) for e in again
    ]
    assert with_regimes(own, ["A"] * 4, None) == (own, [])
