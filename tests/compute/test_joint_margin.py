"""The margin row in pieces: what else a problem says is said of the pieces too."""

import numpy as np

from compute.joint.margin import LineNeeds, divided
from compute.optimize.problem import Costs, Limits, Objective, ObjectiveKind, Problem, Rows


def test_prices_and_costs_stay_with_a_problem_in_pieces() -> None:
    """A line held at 0.2 that may be sold, which frees nothing, or bought, which is paid for."""
    rows = Rows(
        np.array([[1.0, 1.0], [1.0, 0.0]]),
        np.array([-np.inf, -np.inf]),
        np.array([0.5, 0.3]),
        ("cash", "soft"),
        np.array([np.inf, 1e-3]),
    )
    problem = Problem(
        Objective(ObjectiveKind.MAX_RETURN),
        Limits(lower=np.zeros(2), upper=np.array([1.0, 0.1]), rows=rows),
        Costs(linear=np.array([1e-3, 0.0]), impact=np.array([2e-3, 0.0])),
        mean=np.array([0.01, 0.0]),
        holdings=np.array([0.2, 0.1]),
    )
    needs = LineNeeds(
        points=np.array([[0.0, 0.2, 1.0]]),
        need=np.array([[0.0, 0.0, 0.8]]),
        before=np.array([0.2]),
        free=0.5,
    )
    found = divided(problem, needs, "cash")
    pieces = found.problem
    assert list(found.owner) == [0, 0, 1]
    assert pieces.limits.rows is not None
    np.testing.assert_array_equal(pieces.limits.rows.price, [np.inf, 1e-3])
    np.testing.assert_array_equal(pieces.limits.rows.matrix, [[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    np.testing.assert_array_equal(pieces.costs.linear, [1e-3, 1e-3, 0.0])
    np.testing.assert_array_equal(pieces.costs.impact, [2e-3, 2e-3, 0.0])
    np.testing.assert_array_equal(pieces.holdings, [0.2, 0.0, 0.1])
