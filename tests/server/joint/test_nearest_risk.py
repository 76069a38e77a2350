"""Limits on the risk of the book that the lines of a request can't reach, and what they ask then.

The oracle is a program by Clarabel for the least of the measure; what is worth most of the books
that have it is the answer, with a proof.
"""

from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from positionsizing.v1 import limits_pb2, market_service_pb2, risk_service_pb2, types_pb2
from scipy.optimize import brentq
from scipy.stats import norm

from compute.market import Floats
from tests.server.joint.test_held_outside import EXCEEDED, LONG, Firm, is_proven
from tests.server.support.service_client import Client, new_id

CORRELATION = np.array([[1.0, 0.1, -0.7], [0.1, 1.0, 0.2], [-0.7, 0.2, 1.0]])
COVARIANCE = 0.0025 * CORRELATION
"""The first name hedges what is held of the third, the second doesn't."""
MOST, HELD = 0.08, 0.3
LEVEL = 0.95
MEAN = [0.0004, 0.0003]


def normal_tail(bound: float) -> limits_pb2.TailLimit:
    return limits_pb2.TailLimit(
        measure=limits_pb2.TAIL_MEASURE_EXPECTED_SHORTFALL,
        method=risk_service_pb2.TAIL_METHOD_NORMAL,
        level=LEVEL,
        bound=bound,
    )


MULTIPLE = {
    "volatility_max": 1.0,
    "var_max": float(norm.ppf(LEVEL)),
    "tails": float(norm.pdf(norm.ppf(LEVEL)) / (1.0 - LEVEL)),
}


def limit(name: str, bound: float) -> limits_pb2.JointLimits:
    """A limit on the book, alone."""
    if name == "tails":
        return limits_pb2.JointLimits(tails=[normal_tail(bound)])
    given: dict[str, Any] = {name: bound}
    return limits_pb2.JointLimits(**given)


def allowed(weights: cp.Variable) -> list[Any]:
    return [weights[:2] >= 0.0, weights[:2] <= MOST, weights[2] == HELD]


@pytest.mark.parametrize("name", sorted(MULTIPLE))
async def test_a_risk_out_of_reach_is_as_small_as_can_be(joint_client: Client, name: str) -> None:
    """What is held outside is beyond it, and the hedge that lines may have is too small."""
    firm = await Firm(joint_client, COVARIANCE).made({2: HELD})
    await firm.limited(weight_max=MOST, joint=limit(name, 0.01 * MULTIPLE[name]))
    decision = await firm.sized(MEAN, [LONG, LONG], validate_only=True)
    weights = cp.Variable(3)
    root = np.linalg.cholesky(COVARIANCE)
    least = cp.Problem(cp.Minimize(cp.norm(root.T @ weights)), allowed(weights))
    least.solve(solver="CLARABEL")
    assert float(least.value) > 0.0105
    assert is_proven(decision)
    assert not decision.fallback_chain
    assert decision.status == EXCEEDED
    assert any("as near as it leads" in note for note in decision.notes)
    book = np.array([*decision.sizes.weight, HELD])
    assert np.sqrt(book @ COVARIANCE @ book) == pytest.approx(float(least.value), rel=1e-5)
    told = {item.kind: item for item in decision.limits_exceeded}
    kind = {"volatility_max": "VOLATILITY_MAX", "var_max": "VAR_MAX", "tails": "CVAR_MAX"}[name]
    found = told[types_pb2.LimitKind.Value(f"LIMIT_KIND_{kind}")]
    assert found.bound == pytest.approx(0.01 * MULTIPLE[name])
    assert found.value == pytest.approx(float(least.value) * MULTIPLE[name], rel=1e-5)


def shortfall(losses: Any, count: int) -> tuple[Any, list[Any]]:
    """Mean of the worst losses, as a program has it."""
    level, beyond = cp.Variable(), cp.Variable(count, nonneg=True)
    return level + cp.sum(beyond) / (count * (1.0 - LEVEL)), [beyond >= losses - level]


def least_of(name: str, returns: Floats) -> float:
    """The least shortfall of losses or of drawdowns of the allowed books."""
    weights = cp.Variable(3)
    losses, kept = -(returns @ weights), allowed(weights)
    if name == "cdar_max":
        path = cp.cumsum(returns @ weights)
        peak = cp.Variable(len(returns), nonneg=True)
        kept += [peak >= path, peak[1:] >= peak[:-1]]
        losses = peak - path
    value, more = shortfall(losses, len(returns))
    found = cp.Problem(cp.Minimize(value), [*kept, *more])
    found.solve(solver="CLARABEL")
    return float(found.value)


@pytest.mark.parametrize("name", ["cvar_max", "cdar_max"])
async def test_of_scenarios_too(joint_client: Client, name: str) -> None:
    firm = await Firm(joint_client, COVARIANCE).made({2: HELD})
    rng = np.random.default_rng(3)
    returns = 5e-4 + rng.standard_t(5, (60, 3)) / 1.3 @ np.linalg.cholesky(COVARIANCE).T
    least = least_of(name, returns)
    matrix = market_service_pb2.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_service_pb2.MATRIX_KIND_SCENARIOS,
        instrument_ids=firm.ids,
        dense={"values": returns.ravel()},
    )
    matrix.as_of_time.GetCurrentTime()
    await joint_client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    await firm.limited(weight_max=MOST, joint=limit(name, 0.9 * least))
    decision = await firm.sized(
        MEAN, [LONG, LONG], validate_only=True, scenario_matrix_id=matrix.matrix_id
    )
    assert is_proven(decision)
    assert not decision.fallback_chain
    kind = types_pb2.LimitKind.Value(f"LIMIT_KIND_{name.upper()}")
    (told,) = [item for item in decision.limits_exceeded if item.kind == kind]
    assert told.value == pytest.approx(least, rel=1e-4)


async def test_a_hedge_against_its_signal_stays_as_far_as_the_risk_needs_it(
    joint_client: Client,
) -> None:
    """A short of 0.2 beside 0.3 at a correlation of 0.9, whose signal is to buy."""
    covariance = 0.0025 * np.array([[1.0, 0.9], [0.9, 1.0]])
    firm = await Firm(joint_client, covariance).made({0: -0.2, 1: 0.3})
    await firm.limited(allow_short=True, joint=limit("volatility_max", 0.009))
    decision = await firm.sized([0.0004], [LONG], validate_only=True)

    def beyond(short: float) -> float:
        book = np.array([-short, 0.3])
        return float(np.sqrt(book @ covariance @ book)) - 0.009

    assert is_proven(decision)
    assert not decision.fallback_chain
    assert not decision.limits_exceeded
    assert decision.sizes.weight[0] == pytest.approx(-brentq(beyond, 0.0, 0.2), abs=2e-6)


@pytest.mark.parametrize(("mean", "weight"), [(0.0002, 0.55), (0.002, 0.6)])
async def test_a_margin_deficit_asks_for_no_sale_that_a_limit_forbids(
    joint_client: Client, mean: float, weight: float
) -> None:
    """0.3 is borrowed: a sale may lead to the least of the line, and nothing may be bought."""
    firm = await Firm(joint_client, COVARIANCE[:2, :2]).made({0: 0.6, 1: 0.7})
    await firm.limited(**firm.linear([0], [1.0], lower=0.55))
    decision = await firm.sized([mean], [LONG], validate_only=True)
    assert is_proven(decision)
    assert not decision.fallback_chain
    assert list(decision.sizes.weight) == pytest.approx([weight], abs=2e-6)


FLOOR, CHANCE = 0.9, 0.05


def of_floor(returns: Floats) -> tuple[float, Floats]:
    """The least log E[W^-k] of the allowed books, and the book that has it."""
    weights, power = cp.Variable(3), np.log(CHANCE) / np.log(FLOOR)
    terms = -power * cp.log(1.0 + returns @ weights) - np.log(len(returns))
    found = cp.Problem(cp.Minimize(cp.log_sum_exp(terms)), allowed(weights))
    found.solve(solver="CLARABEL")
    return float(found.value), weights.value


@pytest.mark.parametrize("shortfall_too", [False, True])
async def test_a_wealth_floor_out_of_reach_is_approached(
    joint_client: Client, shortfall_too: bool
) -> None:
    """What is held outside loses on average, and the hedge that lines may have is too small."""
    firm = await Firm(joint_client, COVARIANCE).made({2: HELD})
    noise = np.random.default_rng(8).standard_t(5, (60, 3)) / 1.3
    returns = noise @ np.linalg.cholesky(COVARIANCE).T + np.array([5e-4, 5e-4, -1e-3])
    least, book = of_floor(returns)
    assert least > 1e-3
    matrix = market_service_pb2.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_service_pb2.MATRIX_KIND_SCENARIOS,
        instrument_ids=firm.ids,
        dense={"values": returns.ravel()},
    )
    matrix.as_of_time.GetCurrentTime()
    await joint_client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    joint = limits_pb2.JointLimits(wealth_floor=FLOOR, wealth_floor_probability=CHANCE)
    if shortfall_too:  # one that the nearest book keeps
        losses = np.sort(-(returns @ book))[-3:]
        joint.cvar_max = 1.2 * float(losses.mean())
    await firm.limited(weight_max=MOST, joint=joint)
    decision = await firm.sized(
        MEAN, [LONG, LONG], validate_only=True, scenario_matrix_id=matrix.matrix_id
    )
    assert is_proven(decision)
    assert not decision.fallback_chain
    assert decision.status == EXCEEDED
    assert any("wealth_floor" in note for note in decision.notes)
    weights = np.array([*decision.sizes.weight, HELD])
    power = np.log(CHANCE) / np.log(FLOOR)
    found = float(np.log(np.mean((1.0 + returns @ weights) ** -power)))
    assert found == pytest.approx(least, rel=1e-4)
    np.testing.assert_allclose(weights, book, atol=1e-3)
    kinds = {item.kind for item in decision.limits_exceeded}
    assert types_pb2.LIMIT_KIND_DRAWDOWN_RISK in kinds
    assert types_pb2.LIMIT_KIND_CVAR_MAX not in kinds
