"""Limits out of reach that ask for different ends of a line: what the stages after leave alone.

The right books are those of programs by Clarabel: how near the limits come together, each limit
that the book is beyond no further than now, then the most growth among those.
"""

from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from positionsizing.v1 import parameter_service_pb2, types_pb2

from compute.market import Floats
from tests.server.joint.test_after_the_optimum import after_the_optimum
from tests.server.joint.test_held_outside import EXCEEDED, LONG, SHORT, Firm, is_proven
from tests.server.support.service_client import Client

COVARIANCE = 0.0025 * np.array(
    [[1.0, 0.2, 0.1, 0.0], [0.2, 1.2, 0.0, 0.1], [0.1, 0.0, 0.9, 0.3], [0.0, 0.1, 0.3, 1.1]]
)
Terms = Callable[[cp.Variable], Any]


def nearest(mean: Floats, excess: list[Terms], now: Floats, kept: Terms) -> Floats:
    """The best of the books whose excesses, none beyond `now`, have the least sum.

    Of sums alike the one whose first excess is least.
    """
    weight = cp.Variable(4)
    limits = [*kept(weight), *(one(weight) <= most for one, most in zip(excess, now, strict=True))]
    total = sum(cp.pos(one(weight)) for one in excess)
    for least in (total, cp.pos(excess[0](weight))):
        found = cp.Problem(cp.Minimize(least), limits).solve(solver=cp.CLARABEL)
        limits.append(least <= found + 1e-8)
    growth = mean @ weight - 0.5 * cp.quad_form(weight, cp.psd_wrap(COVARIANCE))
    cp.Problem(cp.Maximize(growth), limits).solve(solver=cp.CLARABEL)
    return np.asarray(weight.value)


@pytest.mark.parametrize("side", [LONG, SHORT])
async def test_a_net_out_of_reach_keeps_a_short_that_its_gross_would_close(
    joint_client: Client, side: int
) -> None:
    """A quarter of equity in a name that isn't traded, beyond both limits of its group by itself.

    Closed, the short takes as much off the one as it adds to the other: it stays, also against its
    signal, and as the group is too large already no other is opened to come nearer to the net.
    """
    held = np.array([-0.05, 0.1, 0.0, 0.25])
    firm = await Firm(joint_client, COVARIANCE).made(
        {i: weight for i, weight in enumerate(held.tolist()) if weight}
    )
    group = firm.group([0, 1, 2, 3], gross_weight_max=0.1, net_weight_max=0.0)
    await firm.limited(allow_short=True, weight_max=0.3, **group)
    mean = np.array([2e-4 if side == LONG else -2e-4, 3e-4, -4e-4])
    decision = await firm.sized(mean, [side, LONG, SHORT], validate_only=True)

    def kept(weight: cp.Variable) -> list[Any]:
        return [weight[0] >= held[0], weight[0] <= 0, weight[1] >= 0, weight[2:] == held[2:]]

    best = nearest(
        np.array([*mean, 0.0]),
        [lambda w: cp.sum(w), lambda w: cp.norm1(w) - 0.1],
        np.array([held.sum(), np.abs(held).sum() - 0.1]),
        kept,
    )
    np.testing.assert_allclose(best[:3], [-0.05, 0.0, 0.0], atol=1e-6)
    optimum, left = after_the_optimum(decision)
    np.testing.assert_allclose(optimum, best[:3], atol=1e-6)
    np.testing.assert_allclose(left, optimum, atol=1e-9)
    assert decision.status == EXCEEDED
    assert is_proven(decision)
    told = {item.kind: item.value for item in decision.limits_exceeded}
    assert told[types_pb2.LIMIT_KIND_GROUP_NET_MAX] == pytest.approx(0.2, abs=1e-6)
    assert told[types_pb2.LIMIT_KIND_GROUP_GROSS_MAX] == pytest.approx(0.3, abs=1e-6)


async def test_a_net_out_of_reach_is_approached_as_far_as_the_risk_budget_lets(
    joint_client: Client,
) -> None:
    """Two names of at most 5 % each for a net of 15 %, and risk for less than both of them."""
    volatility = np.array([0.1, 0.4, 0.2, 0.2])
    held, budget = np.array([0.2, -0.2, 0.0, 0.0]), 0.012
    firm = await Firm(joint_client, COVARIANCE).made(dict(enumerate(held[:2].tolist())))
    firm.market_id = await joint_client.put_market(
        instrument_ids=firm.ids,
        price=[10.0] * 4,
        lot_size=[1e-3] * 4,
        volatility=volatility,
        average_daily_volume=[],
        sector=[],
    )
    parameters = parameter_service_pb2.SizingParameters(kelly_fraction=1.0, risk_budget=budget)
    await joint_client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            portfolio_id=firm.portfolio_id, parameters=parameters
        )
    )
    await firm.limited(allow_short=True, allow_flip=True, weight_max=0.05, net_weight_min=0.15)
    mean = np.array([1e-5, 9e-4])
    decision = await firm.sized(mean, [LONG, LONG], validate_only=True)

    def kept(weight: cp.Variable) -> list[Any]:
        spent = volatility @ cp.abs(weight)
        return [weight[:2] >= 0, weight[:2] <= 0.05, weight[2:] == 0, spent <= budget]

    best = nearest(
        np.array([*mean, 0.0, 0.0]), [lambda w: 0.15 - cp.sum(w)], np.array([0.15]), kept
    )
    np.testing.assert_allclose(best[:2], [0.05, 0.0175], atol=1e-6)
    optimum, left = after_the_optimum(decision)
    np.testing.assert_allclose(optimum, best[:2], atol=1e-6)
    np.testing.assert_allclose(left, optimum, atol=1e-9)
    assert decision.status == EXCEEDED
    assert is_proven(decision)
    (told,) = decision.limits_exceeded
    assert told.kind == types_pb2.LIMIT_KIND_NET_MIN
    assert told.value == pytest.approx(0.0675, abs=1e-6)


async def test_a_gross_out_of_reach_is_approached_as_far_as_turnover_lets(
    joint_client: Client,
) -> None:
    """Half of equity in two names and a quarter in one that isn't traded, for a gross of a fifth.

    Both closed would be five times what may be traded: what is sold is the worse of them.
    """
    held, turnover = np.array([0.3, 0.2, 0.0, 0.25]), 0.1
    firm = await Firm(joint_client, COVARIANCE).made(
        {i: weight for i, weight in enumerate(held.tolist()) if weight}
    )
    group = firm.group([0, 1, 2, 3], gross_weight_max=0.2)
    await firm.limited(weight_max=0.4, turnover_max=turnover, **group)
    mean = np.array([2e-4, 9e-4, 1e-3])
    decision = await firm.sized(mean, [LONG] * 3, validate_only=True)

    def kept(weight: cp.Variable) -> list[Any]:
        return [weight >= 0, weight[3] == held[3], cp.norm1(weight - held) <= turnover]

    excess = [lambda w: cp.norm1(w) - 0.2]
    best = nearest(np.array([*mean, 0.0]), excess, np.array([held.sum() - 0.2]), kept)
    np.testing.assert_allclose(best[:3], [0.2, 0.2, 0.0], atol=1e-6)
    optimum, left = after_the_optimum(decision)
    np.testing.assert_allclose(optimum, best[:3], atol=1e-6)
    np.testing.assert_allclose(left, optimum, atol=1e-9)
    assert decision.status == EXCEEDED
    assert is_proven(decision)
