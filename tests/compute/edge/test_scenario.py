"""The edge that scenarios imply."""

import numpy as np

from compute.edge.scenario import edge_from_scenarios
from compute.kelly.classic import kelly_fraction
from compute.kelly.exact import exact_kelly_fraction


def test_crash_lottery():
    edge = edge_from_scenarios(np.array([0.02, -0.5]), np.array([0.98, 0.02]))
    np.testing.assert_allclose(edge.win_probability, 0.98, rtol=1e-12)
    np.testing.assert_allclose(edge.payoff, 0.02, rtol=1e-12)
    np.testing.assert_allclose(edge.loss_fraction, 0.5, rtol=1e-12)
    np.testing.assert_allclose(edge.expected_return, 0.0096, rtol=1e-12)
    np.testing.assert_allclose(edge.expected_return / edge.volatility**2, 1.811375, rtol=5e-7)
    np.testing.assert_allclose(edge.worst, -0.5, rtol=1e-12)
    size = kelly_fraction(edge.win_probability, edge.payoff, edge.loss_fraction)
    np.testing.assert_allclose(size, 0.96, rtol=1e-12)


def test_scratches_do_not_move_the_size():
    outcomes, odds = np.array([0.1, 0.0, -0.08]), np.array([0.3, 0.5, 0.2])
    edge = edge_from_scenarios(outcomes, odds)
    size = kelly_fraction(edge.win_probability, edge.payoff, edge.loss_fraction)
    np.testing.assert_allclose(size, exact_kelly_fraction(outcomes, odds), rtol=1e-12)


def test_probabilities_are_normalised_and_padding_is_neutral():
    plain = edge_from_scenarios(np.array([0.1, -0.1]), np.array([0.6, 0.4]))
    padded = edge_from_scenarios(np.array([0.1, -0.1, np.nan]), np.array([6.0, 4.0, 0.0]))
    for field, expected in zip(padded, plain, strict=True):
        np.testing.assert_allclose(field, expected, rtol=1e-12)


def test_what_cannot_be_said_is_nan():
    lines = np.array([[0.1, 0.2], [-0.1, -0.2], [0.0, 0.0], [np.nan, 0.1]])
    edge = edge_from_scenarios(lines, np.array([0.5, 0.5]))
    np.testing.assert_array_equal(np.isnan(edge.payoff), [False, True, True, True])
    np.testing.assert_array_equal(np.isnan(edge.loss_fraction), [True, False, True, True])
    np.testing.assert_array_equal(np.isnan(edge.win_probability), [False, False, True, True])
    np.testing.assert_array_equal(np.isnan(edge.worst), [False, False, False, True])
    assert np.isnan(edge_from_scenarios(lines[0], np.zeros(2)).expected_return)
