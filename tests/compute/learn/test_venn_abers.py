"""Venn-Abers against published numbers, against fits made one by one, and in what it covers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from compute.learn import venn_abers
from compute.learn.calibration import Calibration, calibrator
from compute.learn.document import decode, encode
from compute.learn.models import ModelKind
from compute.learn.training import Plan, train

S = np.arange(-2.0, 2.6, 0.5)
Y = np.array([0.0, 0, 1, 0, 0, 1, 0, 1, 1, 1])


def one_by_one(score: np.ndarray, won: np.ndarray, new: float) -> list[float]:
    """Isotonic fits with the new score as a loss and as a win."""
    found = []
    for outcome in (0.0, 1.0):
        values, places, counts = np.unique(
            np.append(score, new), return_inverse=True, return_counts=True
        )
        wins = np.bincount(places, weights=np.append(won, outcome))
        assert len(values) == len(counts)
        found.append(float(isotonic_regression(wins / counts, weights=counts).x[places[-1]]))
    return found


def test_the_bounds_are_those_of_the_reference() -> None:
    """M10.13, computed with venn-abers 1.5.4."""
    new = np.array([-1.75, 0.25, 0.5, 1.25, 3.0])
    lower, upper, _ = venn_abers.fit(S, Y).at(new)
    assert lower == pytest.approx([0.0, 0.25, 1 / 3, 1 / 3, 0.75], abs=1e-15)
    assert upper == pytest.approx([0.4, 2 / 3, 2 / 3, 1.0, 1.0], abs=1e-15)
    p = venn_abers.merged(lower, upper)
    assert p == pytest.approx([0.2857142857, 0.4705882353, 0.5, 0.6, 0.8], abs=5e-11)


@given(
    st.lists(st.tuples(st.integers(-6, 6), st.booleans()), min_size=1, max_size=40),
    st.integers(-14, 14),
)
def test_every_place_has_the_fits_made_for_it(bets: list[tuple[int, bool]], new: int) -> None:
    score = np.array([float(s) for s, _ in bets])
    won = np.array([float(w) for _, w in bets])
    at = 0.5 * new  # on a score, between two, or beyond all
    lower, upper, pooled = venn_abers.fit(score, won).at(np.array([at]))
    assert [lower[0], upper[0]] == pytest.approx(one_by_one(score, won, at), abs=1e-12)
    assert lower[0] <= upper[0]
    assert 1.0 <= pooled[0] <= len(bets) + 1.0


def test_two_standard_errors_hold_the_truth_which_the_bounds_do_not() -> None:
    random, inside, between = np.random.default_rng(5), 0, 0
    for _ in range(200):
        score = random.uniform(0.5, 0.6, 500)
        won = (random.random(500) < score).astype(float)
        lower, upper, pooled = venn_abers.fit(score, won).at(np.array([0.56]))
        error = venn_abers.standard_error(lower, upper, pooled)
        inside += abs(venn_abers.merged(lower, upper)[0] - 0.56) < 2.0 * error[0]
        between += lower[0] <= 0.56 <= upper[0]
    assert inside >= 184
    assert between <= 60


def test_it_is_a_calibration_like_any_other_and_never_certain() -> None:
    score = np.linspace(0.1, 0.9, 10)
    found = calibrator(Calibration.VENN_ABERS, score, (score > 0.5).astype(float))
    p, error = found.apply(np.array([0.01, 0.99]), np.zeros(2))
    assert p[0] >= 1 / 12
    assert p[1] <= 11 / 12
    assert (error > 0.1).all()


def test_a_model_with_it_comes_back_from_its_document() -> None:
    from tests.compute.learn.test_training import ALL, rows_of

    plan = Plan(ModelKind.LOGISTIC, ALL, calibration=Calibration.VENN_ABERS)
    found = train(rows_of(1500), plan)
    assert found.model.members[0].calibrator.kind is Calibration.VENN_ABERS
    assert found.is_proven
    again = decode(encode(found.model))
    x = rows_of(50, seed=4).features
    for ours, theirs in zip(
        found.model.predict(x, x[:, 0]), again.predict(x, x[:, 0]), strict=True
    ):
        assert np.array_equal(ours, theirs)
