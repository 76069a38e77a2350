"""Log loss is growth; decompositions against published and independent numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binom

from compute.kelly.classic import growth_rate, kelly_fraction
from compute.learn.scores import brier_parts, decomposed, log_losses

FORECASTS = np.array([0.1, 0.2, 0.2, 0.4, 0.4, 0.4, 0.6, 0.6, 0.8, 0.8])
OUTCOMES = np.array([0.0, 0, 1, 0, 1, 0, 1, 1, 1, 0])


def lost(p: float, believed: float, payoff: float, loss: float) -> float:
    """Growth that full Kelly at a believed probability gives away."""
    right, wrong = (float(kelly_fraction(q, payoff, loss)) for q in (p, believed))
    best, made = (float(growth_rate(f, p, payoff, loss)) for f in (right, wrong))
    return best - made


def divergence(p: float, q: float) -> float:
    return p * np.log(p / q) + (1.0 - p) * np.log((1.0 - p) / (1.0 - q))


@pytest.mark.parametrize(
    ("p", "believed", "odds", "stakes", "want"),
    [
        (0.60, 0.55, (1.0, 1.0), (0.2, 0.1), 0.0050936119),
        (0.55, 0.60, (1.0, 1.0), (0.1, 0.2), 0.0051461087),
        (0.55, 0.58, (0.02, 0.01), (32.5, 37.0), 0.0018363882),
        (0.60, 0.62, (0.3, 0.2), (1.6666666667, 1.8333333333), 0.0008434241),
        (0.35, 0.40, (2.5, 1.0), (0.09, 0.16), 0.0052917726),
    ],
)
def test_lost_growth_is_excess_log_loss(
    p: float, believed: float, odds: tuple[float, float], stakes: tuple[float, float], want: float
) -> None:
    """M10.1 to M10.5."""
    found = [float(kelly_fraction(q, *odds)) for q in (p, believed)]
    assert found == pytest.approx(stakes, rel=1e-9)
    assert lost(p, believed, *odds) == pytest.approx(want, abs=5e-11)
    assert lost(p, believed, *odds) == pytest.approx(divergence(p, believed), abs=1e-13)


@given(
    *(st.floats(0.01, 0.95) for _ in range(2)),
    *(st.floats(0.02, 5.0) for _ in range(2)),
)
def test_it_is_so_at_any_odds(p: float, believed: float, payoff: float, loss: float) -> None:
    """Where both have an edge: a stake that is floored at 0 loses less."""
    fair = loss / (loss + payoff)
    p, believed = (fair + (1.0 - fair) * share for share in (p, believed))
    assert lost(p, believed, payoff, loss) == pytest.approx(divergence(p, believed), abs=1e-13)


def test_an_overconfident_half_kelly_grows_as_computed() -> None:
    """M10.7: half and full Kelly of a probability that is 0.05 too high, and of the right one."""
    for p, half, full, right in (
        (0.52, 0.0003485646, -0.0042602906, 0.0008002135),
        (0.55, 0.0050083668, -0.0001377419, 0.0050083668),
        (0.60, 0.0188495936, 0.0147485811, 0.0201355136),
    ):
        stakes = [c * kelly_fraction(q, 1.0, 1.0) for c, q in ((0.5, p + 0.05), (1.0, p + 0.05))]
        stakes.append(kelly_fraction(p, 1.0, 1.0))
        found = [float(growth_rate(stake, p, 1.0, 1.0)) for stake in stakes]
        assert found == pytest.approx([half, full, right], abs=5e-11)


@pytest.mark.parametrize(
    ("p", "fraction", "believed"),
    [
        (0.52, 1.0, 0.5399573),
        (0.55, 1.0, 0.5993342),
        (0.60, 1.0, 0.6946953),
        (0.55, 0.5, 0.6986684),
    ],
)
def test_overconfidence_that_kills_all_growth(p: float, fraction: float, believed: float) -> None:
    """M10.6."""

    def grown(q: float) -> float:
        return float(growth_rate(fraction * kelly_fraction(q, 1.0, 1.0), p, 1.0, 1.0))

    assert brentq(grown, p + 1e-6, 0.999) == pytest.approx(believed, abs=5e-8)


def test_a_probability_of_a_hundred_bets_loses_all_the_growth_of_a_small_edge() -> None:
    """M10.8: 1 / (2n), by the sum over all that n bets may show."""
    n, p = 100, 0.55
    wins = np.arange(1, n)
    chance = binom.pmf(wins, n, p)
    expected = float(chance @ np.array([divergence(p, k / n) for k in wins]))
    assert expected == pytest.approx(1.0 / (2.0 * n), rel=0.02)
    assert divergence(p, 0.5) == pytest.approx(0.0050083668, abs=5e-11)


def test_parts_of_a_score_are_those_published() -> None:
    brier, logs = decomposed(FORECASTS, OUTCOMES, brier=True), decomposed(FORECASTS, OUTCOMES)
    parts = brier.score, brier.miscalibration, brier.discrimination, brier.uncertainty
    assert parts == pytest.approx((0.237, 0.042, 0.055, 0.25), abs=1e-12)
    parts = logs.score, logs.miscalibration, logs.discrimination, logs.uncertainty
    assert parts == pytest.approx((0.6730116670, 0.111572, 0.131707, 0.693147), abs=5e-7)
    assert logs.score == pytest.approx(
        logs.miscalibration - logs.discrimination + logs.uncertainty, abs=1e-15
    )


def test_log_loss_of_known_forecasts() -> None:
    p, won = np.array([0.1, 0.4, 0.8, 0.9]), np.array([0.0, 1.0, 1.0, 0.0])
    assert log_losses(p, won).mean() == pytest.approx(0.88684497, abs=5e-9)
    assert log_losses(np.array([1.0, 0.0]), np.array([1.0, 0.0])).tolist() == [0.0, 0.0]
    assert np.isinf(log_losses(np.array([1.0]), np.array([0.0])))


def test_m10_14_the_brier_score_in_its_parts() -> None:
    parts = brier_parts(FORECASTS, OUTCOMES)
    found = (parts.score, parts.reliability, parts.resolution, parts.uncertainty)
    assert found == pytest.approx((0.237, 0.0703333333, 0.0833333333, 0.25), abs=1e-10)
    assert parts.within == pytest.approx(0.0, abs=1e-15)


@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.booleans()), min_size=1, max_size=200))
def test_the_parts_add_up_and_order_does_not_matter(bets: list[tuple[float, bool]]) -> None:
    p, won = (np.array(column, dtype=float) for column in zip(*bets, strict=True))
    parts = brier_parts(p, won)
    whole = parts.reliability - parts.resolution + parts.uncertainty + parts.within
    assert whole == pytest.approx(float(((p - won) ** 2).mean()), abs=1e-14)
    assert min(parts.reliability, parts.resolution) >= 0.0
    assert parts.resolution <= parts.uncertainty + 1e-14
    back = brier_parts(p[::-1], won[::-1])
    assert back.reliability == pytest.approx(parts.reliability, abs=1e-14)
    if len(set(p)) <= 10:
        assert parts.within == pytest.approx(0.0, abs=1e-14)


def test_many_values_are_grouped_in_tenths() -> None:
    p = np.linspace(0.05, 0.95, 1000)
    won = (np.random.default_rng(2).random(1000) < p).astype(float)
    parts = brier_parts(p, won)
    groups = [slice(100 * k, 100 * (k + 1)) for k in range(10)]
    by_hand = np.mean([(p[g].mean() - won[g].mean()) ** 2 for g in groups])
    assert parts.reliability == pytest.approx(by_hand, abs=1e-15)
    assert abs(parts.within) < 0.002
