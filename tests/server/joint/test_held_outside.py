"""Holdings outside a request beyond a limit: what is asked for is still sized together."""

from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)

from tests.server.support.service_client import Client, new_id, sizing_request

JOINT, CLOSED = types_pb2.SIZING_METHOD_JOINT, types_pb2.SIZING_METHOD_CLOSED_FORM
EXCEEDED = types_pb2.SIZING_STATUS_LIMIT_EXCEEDED
EQUITY, PRICE, LONG, SHORT = 1e5, 10.0, 1, 2


class Firm:
    """A market of instruments at 10, a covariance of them and a portfolio that holds some."""

    def __init__(self, client: Client, covariance: np.ndarray) -> None:
        self.client, self.covariance = client, covariance
        self.ids = [new_id("outside") for _ in covariance]

    async def made(self, held: dict[int, float]) -> "Firm":
        """held: weights by place."""
        client, n = self.client, len(self.ids)
        self.market_id = await client.put_market(
            instrument_ids=self.ids,
            price=[PRICE] * n,
            lot_size=[1e-3] * n,
            volatility=[],
            average_daily_volume=[],
            sector=[],
        )
        matrix = market_service_pb2.Matrix(
            matrix_id=new_id("matrix"),
            kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
            instrument_ids=self.ids,
            dense={"values": self.covariance.ravel()},
        )
        matrix.as_of_time.GetCurrentTime()
        await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
        self.matrix_id = matrix.matrix_id
        holdings = {self.ids[i]: weight * EQUITY / PRICE for i, weight in held.items()}
        cash = EQUITY * (1.0 - sum(held.values()))
        self.portfolio_id = await client.put_portfolio(cash, holdings)
        await client.parameter.SetParameters(
            parameter_service_pb2.SetParametersRequest(
                portfolio_id=self.portfolio_id,
                parameters=parameter_service_pb2.SizingParameters(kelly_fraction=1.0),
            )
        )
        return self

    async def limited(self, **limits: Any) -> None:
        scope = portfolio_service_pb2.Scope(portfolio_id=self.portfolio_id)
        await self.client.set_limits(
            scope, sale_proceeds=limits_pb2.SALE_PROCEEDS_AT_ONCE, **limits
        )

    async def sized(
        self, mean: Any, sides: list[int], method: int = JOINT, **given: Any
    ) -> sizing_pb2.SizingDecision:
        signals = {
            "win_probability": [],
            "payoff": [],
            "side": sides,
            "expected_return": np.abs(mean),
            "volatility": np.sqrt(np.diag(self.covariance))[: len(sides)],
        }
        return await self.client.size(
            sizing_request(
                self.portfolio_id,
                self.ids[: len(sides)],
                signals,
                method=method,
                covariance_matrix_id=self.matrix_id,
                market_snapshot_id=self.market_id,
                **given,
            )
        )

    def group(self, places: list[int], **bounds: float) -> dict[str, Any]:
        ids = [self.ids[place] for place in places]
        return {"groups": [limits_pb2.GroupLimit(name="g", instrument_ids=ids, **bounds)]}

    def linear(self, places: list[int], coefficients: list[float], **ends: float) -> dict[str, Any]:
        ids = [self.ids[place] for place in places]
        row = limits_pb2.LinearLimit(
            name="l", instrument_ids=ids, coefficients=coefficients, **ends
        )
        return {"joint": limits_pb2.JointLimits(linear=[row])}


def is_proven(decision: sizing_pb2.SizingDecision) -> bool:
    """Whether its weights before lots have a proof."""
    if not decision.HasField("certificate"):
        return False
    return abs(decision.certificate.duality_gap_relative) < 1e-6


ALIKE = 0.0025 * np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
BOTH = [LONG, LONG]


async def three(client: Client) -> Firm:
    """Two names of correlation 0.9 to buy, and a fifth of equity in a third."""
    return await Firm(client, ALIKE).made({2: 0.2})


async def test_a_limit_that_no_line_is_in_changes_nothing(joint_client: Client) -> None:
    """0.1 and 0.08 by themselves; together at 0.9 the second adds nothing to the first."""
    firm = await three(joint_client)
    for limits in (
        firm.group([2], gross_weight_max=0.1),
        firm.group([2], net_weight_max=0.1),
        firm.linear([2], [1.0], upper=0.1),
        firm.linear([2], [-1.0], lower=-0.1),
    ):
        await firm.limited(**limits)
        decision = await firm.sized([0.00025, 0.0002], BOTH, validate_only=True)
        assert list(decision.sizes.weight) == pytest.approx([0.1, 0.0], abs=2e-7)
        assert decision.status == EXCEEDED
        assert [item.value for item in decision.limits_exceeded] == pytest.approx(
            [-0.2 if "lower" in str(limits) else 0.2]
        )
        assert decision.method == JOINT
        assert not decision.fallback_chain
        assert not decision.notes
        assert is_proven(decision)


async def test_a_line_in_the_limit_gets_nothing_and_is_told_why(joint_client: Client) -> None:
    """Without the first name the second is bought for itself, to its own 0.08."""
    firm = await three(joint_client)
    for limits, kind in (
        (firm.group([0, 2], gross_weight_max=0.1), types_pb2.LIMIT_KIND_GROUP_GROSS_MAX),
        (firm.group([0, 2], net_weight_max=0.1), types_pb2.LIMIT_KIND_GROUP_NET_MAX),
        (firm.linear([0, 2], [2.0, 1.0], upper=0.1), types_pb2.LIMIT_KIND_LINEAR),
    ):
        await firm.limited(**limits)
        decision = await firm.sized([0.00025, 0.0002], BOTH, validate_only=True)
        assert list(decision.sizes.weight) == pytest.approx([0.0, 0.08], abs=2e-7)
        assert decision.sizes.binding[0] == kind
        assert decision.sizes.binding_bound[0] == pytest.approx(0.1)
        assert is_proven(decision)
        assert not decision.fallback_chain
    for limits in ({"leverage_max": 0.15}, {"net_weight_max": 0.1}):
        await firm.limited(**limits)
        decision = await firm.sized([0.00025, 0.0002], BOTH, validate_only=True)
        assert not any(decision.sizes.lots)
        assert not decision.fallback_chain
        assert is_proven(decision)


async def test_a_hedge_goes_as_far_as_it_may(joint_client: Client) -> None:
    firm = await three(joint_client)
    await firm.limited(allow_short=True, net_weight_max=0.1, weight_max=0.05)
    decision = await firm.sized([0.00025, -0.0002], [LONG, SHORT], validate_only=True)
    assert list(decision.sizes.weight) == pytest.approx([0.0, -0.05], abs=2e-7)
    assert not decision.fallback_chain
    assert is_proven(decision)


@pytest.mark.parametrize("seed", range(10))
async def test_random_books_are_the_best_of_the_nearest(joint_client: Client, seed: int) -> None:
    """Against two programs in a row: come as near to the limit as can be, then the most growth."""
    rng = np.random.default_rng([7, seed])
    root = rng.standard_normal((6, 4))
    covariance = 1e-3 * (root @ root.T + np.eye(6))
    mean = rng.uniform(1e-5, 1e-3, 4)
    before: np.ndarray = np.zeros(6)
    before[4:] = 0.12, 0.1
    before[:2] = rng.uniform(0.0, 0.04, 2)
    firm = await Firm(joint_client, covariance).made(
        {i: weight for i, weight in enumerate(before) if weight}
    )
    members = sorted({4, 5, *rng.choice(4, 2, replace=False).tolist()})
    row = np.zeros(6)
    if seed % 2:
        row[members] = 1.0
        limits = firm.group(members, gross_weight_max=0.15)
    else:
        row[members] = np.where(np.array(members) < 4, rng.choice([-1.0, 1.0], 4), 1.0)
        limits = firm.linear(members, row[members].tolist(), upper=0.05)
    await firm.limited(weight_max=0.06, leverage_max=0.4, **limits)
    decision = await firm.sized(mean, [LONG] * 4)

    weight = cp.Variable(6)
    inside = [weight[:4] >= 0, weight[:4] <= 0.06, weight[4:] == before[4:], cp.sum(weight) <= 0.4]
    excess = row @ weight - (0.15 if seed % 2 else 0.05)
    least = cp.Problem(cp.Minimize(cp.pos(excess)), inside).solve(solver=cp.CLARABEL)
    growth = mean @ weight[:4] - 0.5 * cp.quad_form(weight, cp.psd_wrap(covariance))
    cp.Problem(cp.Maximize(growth), [*inside, excess <= least + 1e-9]).solve(solver=cp.CLARABEL)
    own = np.concatenate([decision.sizes.weight, before[4:]])
    best, value = (
        float(mean @ w[:4] - 0.5 * w @ covariance @ w) for w in (np.array(weight.value), own)
    )
    assert value == pytest.approx(best, abs=2e-9)
    assert row @ own - (0.15 if seed % 2 else 0.05) <= least + 1e-6
    assert decision.method == JOINT
    assert is_proven(decision)
    assert not decision.fallback_chain
    assert (decision.status == EXCEEDED) == (least > 1e-7)
    replay = await joint_client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert replay.lots_equal


async def test_a_curved_limit_that_nothing_brings_nearer_is_said(joint_client: Client) -> None:
    """The third name alone has a volatility of 0.01; what is bought can only add to it."""
    firm = await three(joint_client)
    await firm.limited(joint=limits_pb2.JointLimits(volatility_max=1e-3))
    decision = await firm.sized([0.00025, 0.0002], BOTH)
    assert decision.status == EXCEEDED
    assert decision.method == JOINT
    assert not any(decision.sizes.trade_lots)
    assert not decision.fallback_chain
    assert is_proven(decision)
    assert decision.notes[0].endswith("as near as it leads: volatility_max 0.01")


async def test_the_method_is_the_one_that_answered(joint_client: Client) -> None:
    """Without equity positions are reduced line by line, whatever was asked for."""
    client, firm = joint_client, await three(joint_client)
    firm.portfolio_id = await client.put_portfolio(-EQUITY, {firm.ids[0]: 100.0})
    await firm.limited(leverage_max=2.0)
    decision = await firm.sized([0.00025, 0.0002], BOTH)
    assert decision.method == CLOSED
    assert [step.method for step in decision.fallback_chain] == ["joint", "closed form"]
    replay = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert replay.lots_equal
    assert replay.replayed.method == CLOSED
