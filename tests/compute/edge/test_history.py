"""A bet from a history of outcomes."""

import numpy as np

from compute.edge.history import edge_from_history
from compute.kelly.classic import kelly_fraction

OUTCOMES = np.array([0.10, -0.05, 0.20, 0.0, -0.10, 0.15])


def test_wins_losses_payoff_and_their_errors():
    edge = edge_from_history(OUTCOMES)
    assert float(edge.n_wins) == 3.0
    assert float(edge.n_losses) == 2.0
    np.testing.assert_allclose(edge.win_probability, 4 / 7, rtol=1e-12)
    np.testing.assert_allclose(edge.payoff, 0.15, rtol=1e-12)
    np.testing.assert_allclose(edge.loss_fraction, 0.075, rtol=1e-12)
    np.testing.assert_allclose(edge.payoff_standard_error, 0.05 / np.sqrt(3), rtol=1e-12)
    np.testing.assert_allclose(edge.loss_fraction_standard_error, 0.025, rtol=1e-12)
    variance = 4 * 3 / (7**2 * 8)
    np.testing.assert_allclose(edge.win_probability_standard_error, np.sqrt(variance), rtol=1e-12)


def test_prior_can_be_switched_off_to_get_the_sample_frequency():
    edge = edge_from_history(OUTCOMES, prior_wins=0.0, prior_losses=0.0)
    np.testing.assert_allclose(edge.win_probability, 0.6, rtol=1e-12)


def test_masked_and_missing_outcomes_do_not_count():
    padded = np.append(OUTCOMES, [np.nan, np.nan])
    masked = np.append(OUTCOMES, [9.0, -9.0])
    mask = np.append(np.ones(6, bool), [False, False])
    for edge in (edge_from_history(padded), edge_from_history(masked, mask)):
        for field, plain in zip(edge, edge_from_history(OUTCOMES), strict=True):
            np.testing.assert_array_equal(field, plain)


def test_a_nan_that_counts_breaks_its_line_alone():
    lines = np.stack([OUTCOMES, np.where(OUTCOMES == 0.0, np.nan, OUTCOMES)])
    edge = edge_from_history(lines, np.ones_like(lines, bool))
    size = kelly_fraction(edge.win_probability, edge.payoff, edge.loss_fraction)
    np.testing.assert_array_equal(np.isnan(size), [False, True])


def test_what_was_never_seen_is_unknown_and_not_zero():
    edge = edge_from_history(np.array([[0.1, 0.2], [-0.1, -0.3], [np.nan, np.nan]]))
    np.testing.assert_array_equal(np.isnan(edge.payoff), [False, True, True])
    np.testing.assert_array_equal(np.isnan(edge.loss_fraction), [True, False, True])
    np.testing.assert_allclose(edge.win_probability, [0.75, 0.25, 0.5], rtol=1e-12)


def test_errors_shrink_to_cover_the_truth():
    rng = np.random.default_rng(2)
    wins = rng.random((2_000, 300)) < 0.55
    gains, losses = rng.gamma(4, 0.01, wins.shape), rng.gamma(4, 0.008, wins.shape)
    edge = edge_from_history(np.where(wins, gains, -losses))
    for value, error, truth in (
        (edge.win_probability, edge.win_probability_standard_error, 0.55),
        (edge.payoff, edge.payoff_standard_error, 0.04),
        (edge.loss_fraction, edge.loss_fraction_standard_error, 0.032),
    ):
        covered = np.mean(np.abs(np.asarray(value) - truth) < 1.96 * np.asarray(error))
        assert 0.92 < covered < 0.98
