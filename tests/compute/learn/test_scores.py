"""Log loss is growth; decompositions against published and independent numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.kelly.classic import growth_rate, kelly_fraction
from compute.learn.scores import decomposed, log_losses, lost_growth

FORECASTS = np.array([0.1, 0.2, 0.2, 0.4, 0.4, 0.4, 0.6, 0.6, 0.8, 0.8])
OUTCOMES = np.array([0.0, 0, 1, 0, 1, 0, 1, 1, 1, 0])


@pytest.mark.parametrize(
    ("p", "believed", "payoff", "loss", "lost"),
    [
        (0.60, 0.55, 1.0, 1.0, 0.0050936119),
        (0.55, 0.60, 1.0, 1.0, 0.0051461087),
        (0.55, 0.58, 0.02, 0.01, 0.0018363882),
        (0.60, 0.62, 0.3, 0.2, 0.0008434241),
        (0.35, 0.40, 2.5, 1.0, 0.0052917726),
    ],
)
def test_lost_growth_is_excess_log_loss(
    p: float, believed: float, payoff: float, loss: float, lost: float
) -> None:
    right, wrong = (kelly_fraction(item, payoff, loss) for item in (p, believed))
    by_growth = growth_rate(right, p, payoff, loss) - growth_rate(wrong, p, payoff, loss)
    assert float(by_growth) == pytest.approx(lost, abs=5e-11)
    assert float(lost_growth(np.array(p), np.array(believed))) == pytest.approx(lost, abs=5e-11)


@given(st.floats(0.02, 0.98), st.floats(0.02, 0.98), st.floats(0.01, 10.0), st.floats(0.01, 1.0))
def test_whatever_the_odds(p: float, believed: float, payoff: float, loss: float) -> None:
    right, wrong = (kelly_fraction(item, payoff, loss) for item in (p, believed))
    by_growth = growth_rate(right, p, payoff, loss) - growth_rate(wrong, p, payoff, loss)
    assert abs(float(by_growth) - float(lost_growth(np.array(p), np.array(believed)))) <= 1e-13


def test_an_overconfident_half_kelly_grows_as_computed() -> None:
    for p, half in ((0.52, 0.0003485646), (0.55, 0.0050083668), (0.60, 0.0188495936)):
        stake = 0.5 * kelly_fraction(p + 0.05, 1.0, 1.0)
        assert float(growth_rate(stake, p, 1.0, 1.0)) == pytest.approx(half, abs=5e-11)


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
