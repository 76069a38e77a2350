"""Limits that turnover keeps out of reach of one decision: the joint optimum as near as it leads.

The oracle is two programs by Clarabel: the least by which the limit stays exceeded, then the best
book that exceeds it no more.
"""

from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from positionsizing.v1 import types_pb2

from compute.market import Floats
from tests.server.joint.test_held_outside import EXCEEDED, JOINT, LONG, SHORT, Firm, is_proven
from tests.server.support.service_client import Client

N = 4
COVARIANCE = 0.0025 * np.array(
    [[1.0, 0.8, 0.2, 0.0], [0.8, 1.2, 0.1, 0.0], [0.2, 0.1, 0.9, 0.3], [0.0, 0.0, 0.3, 1.1]]
)
MEAN = np.array([0.0006, 0.0009, 0.0004, 0.0008])


def limits_of(firm: Firm, name: str) -> tuple[dict[str, Any], Floats, float]:
    """A limit, and what it says of the weights: row'w <= bound."""
    ones, some = np.ones(N), np.array([1.0, 1.0, 1.0, 0.0])
    if name == "leverage":
        return {"leverage_max": 0.5}, ones, 0.5
    if name == "net":
        return {"net_weight_max": 0.4}, ones, 0.4
    if name == "group":
        return firm.group([0, 1, 2], gross_weight_max=0.3), some, 0.3
    if name == "group net":
        return firm.group([0, 1, 2], net_weight_max=0.2), some, 0.2
    coefficients = [1.0, 2.0, 0.5]
    if name == "linear":
        return firm.linear([0, 1, 2], coefficients, upper=0.4), np.array([*coefficients, 0.0]), 0.4
    turned = [-one for one in coefficients]
    return firm.linear([0, 1, 2], turned, lower=-0.4), np.array([*coefficients, 0.0]), 0.4


def nearest(row: Floats, bound: float, held: Floats, turnover: float) -> tuple[Floats, float]:
    """The best of the books that exceed the limit least, and by how much they do."""
    weights, excess = cp.Variable(N), cp.Variable(nonneg=True)
    kept = [
        weights >= 0.0,
        weights <= 0.4,
        cp.norm1(weights - held) <= turnover,
        row @ weights <= bound + excess,
    ]
    least = cp.Problem(cp.Minimize(excess), kept)
    least.solve(solver="CLARABEL")
    gain = MEAN @ weights - 0.5 * cp.quad_form(weights, cp.psd_wrap(COVARIANCE))
    best = cp.Problem(cp.Maximize(gain), [*kept, excess <= float(least.value) + 1e-9])
    best.solve(solver="CLARABEL")
    return np.asarray(weights.value), float(least.value)


@pytest.mark.parametrize(
    "name", ["leverage", "net", "group", "group net", "linear", "least linear"]
)
async def test_what_turnover_leaves_out_of_reach_is_optimised(
    joint_client: Client, name: str
) -> None:
    """Held 0.3, 0.25, 0.2 and 0.1, of which a twelfth of equity may be traded."""
    held, turnover = np.array([0.3, 0.25, 0.2, 0.1]), 0.08
    firm = await Firm(joint_client, COVARIANCE).made(dict(enumerate(held.tolist())))
    limits, row, bound = limits_of(firm, name)
    await firm.limited(weight_max=0.4, turnover_max=turnover, **limits)
    decision = await firm.sized(MEAN, [LONG] * N, validate_only=True)
    best, excess = nearest(row, bound, held, turnover)
    assert excess > 0.01
    weights = np.array(decision.sizes.weight)
    assert decision.status == EXCEEDED
    assert decision.method == JOINT
    assert not decision.fallback_chain
    assert is_proven(decision)
    assert any("as near as it leads" in note for note in decision.notes)
    (told,) = decision.limits_exceeded
    assert row @ weights - bound == pytest.approx(excess, abs=1e-6)
    assert told.is_lower_bound == (name == "least linear")
    assert np.abs(weights - held).sum() <= turnover * (1.0 + 1e-9)
    assert weights == pytest.approx(best, abs=2e-5)
    gain = MEAN @ weights - 0.5 * weights @ COVARIANCE @ weights
    assert gain == pytest.approx(MEAN @ best - 0.5 * best @ COVARIANCE @ best, abs=1e-9)


async def test_what_is_in_reach_of_turnover_is_as_before(joint_client: Client) -> None:
    held = np.array([0.3, 0.25, 0.2, 0.1])
    firm = await Firm(joint_client, COVARIANCE).made(dict(enumerate(held.tolist())))
    await firm.limited(weight_max=0.4, turnover_max=0.5, leverage_max=0.6)
    decision = await firm.sized(MEAN, [LONG] * N, validate_only=True)
    assert not decision.limits_exceeded
    assert not decision.notes
    assert is_proven(decision)


async def test_two_limits_that_turnover_can_not_both_reach(joint_client: Client) -> None:
    """A short too large and a net too large: both need the same turnover, most is gained by one."""
    held = np.array([0.5, -0.1, 0.0, 0.0])
    firm = await Firm(joint_client, COVARIANCE).made({0: 0.5, 1: -0.1})
    await firm.limited(
        allow_short=True,
        turnover_max=0.1,
        net_weight_max=0.1,
        **firm.group([0, 2], gross_weight_max=0.2),
    )
    decision = await firm.sized(
        [0.0015, 0.0006, 0.0002, 0.0002], [LONG, SHORT, LONG, LONG], validate_only=True
    )
    weights = np.array(decision.sizes.weight)
    # What is sold of the first brings both limits nearer, the short only one.
    assert weights - held == pytest.approx([-0.1, 0.0, 0.0, 0.0], abs=1e-6)
    assert is_proven(decision)
    kinds = {item.kind for item in decision.limits_exceeded}
    assert kinds == {types_pb2.LIMIT_KIND_NET_MAX, types_pb2.LIMIT_KIND_GROUP_GROSS_MAX}
