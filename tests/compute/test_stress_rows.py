"""Limits on stored stress scenarios as linear limits of a book."""

import numpy as np
import pytest

from compute.limits.book_guard import ReturnData, ReturnMatrix
from compute.limits.policy import JointLimits, LimitKind, Limits, LinearLimit, StressLimit
from compute.limits.stress_limits import Others, StressEvent, returns_in, with_stress
from compute.limits.tightest import tightest
from compute.market import MissingInputError

NAMES = ("X", "Y", "Z")
CRASH = StressEvent("crash", 3, Others.STAY, ("X", "Q"), (-0.4, -0.9))
OIL = StressEvent("oil", 1, Others.SPREAD, ("X",), (-0.3,))
MARCH = StressEvent("march", 2, Others.UNKNOWN, ("X", "Y", "Z"), (-0.2, 0.1, -0.3))
NO_DATA = ReturnData()
ROOT = np.array([[0.02, 0.0, 0.0], [0.03, 0.01, 0.0], [-0.01, 0.02, 0.01]])
COVARIANCE = ReturnMatrix(NAMES, ROOT @ ROOT.T, np.zeros(0))


def limits_on(*stress: StressLimit, linear: tuple[LinearLimit, ...] = ()) -> Limits:
    return Limits(joint=JointLimits(stress=stress, linear=linear))


def test_each_is_the_row_of_what_it_loses() -> None:
    limits = limits_on(StressLimit("crash", 0.1), StressLimit("march", 0.05))
    made = with_stress(limits, (CRASH, MARCH), NAMES, NO_DATA).joint
    assert made.stress == ()
    crash, march = made.linear
    assert (crash.name, crash.kind, crash.upper) == ("crash", LimitKind.STRESS_LOSS_MAX, 0.1)
    assert crash.coefficients == {"X": 0.4}, "others stay, and what is in no book counts nothing"
    assert march.coefficients == {"X": 0.2, "Y": -0.1, "Z": 0.3}


def test_the_tightest_scope_counts_and_names_stay_apart() -> None:
    row = LinearLimit("crash", {"Y": 1.0}, upper=0.2)
    firm = limits_on(StressLimit("crash", 0.1), linear=(row,))
    both = tightest([firm, limits_on(StressLimit("crash", 0.02))])
    first, second = with_stress(both, (CRASH,), NAMES, NO_DATA).joint.linear
    assert first is row
    assert first.kind is LimitKind.LINEAR
    assert (second.name, second.upper) == ("crash (2)", 0.02)


def test_shocks_spread_as_the_covariance_says() -> None:
    """x = S_K' S_KK^-1 s of one shock: beta times it; never more than everything is lost."""
    beta = COVARIANCE.values[0] / COVARIANCE.values[0, 0]
    found = returns_in(OIL, NAMES, ReturnData(covariance=COVARIANCE))
    np.testing.assert_allclose(found, -0.3 * beta, rtol=1e-12)
    rng = np.random.default_rng(1)
    returns = rng.standard_normal((5000, 3)) @ ROOT.T
    drawn = ReturnMatrix(NAMES, returns, np.full(5000, 1 / 5000))
    own = np.cov(returns.T, bias=True)
    of_scenarios = returns_in(OIL, NAMES, ReturnData(scenarios=drawn))
    np.testing.assert_allclose(of_scenarios, -0.3 * own[0] / own[0, 0], rtol=1e-10)
    deep = StressEvent("deep", 1, Others.SPREAD, ("X",), (-0.9,))
    assert returns_in(deep, NAMES, ReturnData(covariance=COVARIANCE))[1] == -1.0


@pytest.mark.parametrize(
    ("limit", "ids", "data", "reason"),
    [
        (StressLimit("gone", 0.1), NAMES, NO_DATA, "NO_STRESS_SCENARIO"),
        (StressLimit("oil", 0.1), NAMES, NO_DATA, "MISSING_MATRIX"),
        (StressLimit("oil", 0.1), ("X", "Q"), ReturnData(covariance=COVARIANCE),
         "MISSING_MATRIX_ENTRY"),
        (StressLimit("march", 0.1), ("X", "Q"), NO_DATA, "HISTORY_GAPS"),
    ],
)  # fmt: skip
def test_a_loss_that_cannot_be_told_names_the_limit(
    limit: StressLimit, ids: tuple[str, ...], data: ReturnData, reason: str
) -> None:
    with pytest.raises(MissingInputError, match=rf"joint.stress \({limit.scenario_id}\)") as found:
        with_stress(limits_on(limit), (CRASH, OIL, MARCH), ids, data)
    assert found.value.reason == reason
