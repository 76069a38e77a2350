"""What comes after the joint optimum finds nothing to cut; what has no optimum is told why."""

from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    types_pb2,
)
from positionsizing.v1 import optimization_service_pb2 as pb

from tests.server.joint.test_joint import joint_request, optimize, problem, scenarios
from tests.server.joint.test_joint_truth import moments, set_parameters
from tests.server.support.service_client import Client, new_id, refusal

LONG, SHORT = types_pb2.SIDE_LONG, types_pb2.SIDE_SHORT


async def held_book(
    client: Client, held: dict[str, float], cash: float, size: int, **limits: Any
) -> tuple[str, str]:
    """A portfolio with holdings and scenarios of `size` instruments; the ids of both."""
    await client.put_market()
    portfolio_id = await client.put_portfolio(cash=cash, held=held)
    await client.set_limits(portfolio_service_pb2.Scope(portfolio_id=portfolio_id), **limits)
    matrix = scenarios(size, matrix_id=new_id("matrix"))
    matrix.as_of_time.GetCurrentTime()
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    return portfolio_id, matrix.matrix_id


def after_the_optimum(decision: sizing_pb2.SizingDecision) -> tuple[np.ndarray[Any, Any], ...]:
    """Weights at the joint optimum and before lots."""
    stages = {stage.stage: np.array(stage.weight) for stage in decision.waterfall.stages}
    assert not decision.fallback_chain
    last = [kind for kind in stages if kind != types_pb2.SIZING_STAGE_LOTS][-1]
    return stages[types_pb2.SIZING_STAGE_JOINT_OPTIMUM], stages[last]


async def test_a_line_that_changes_side_counts_in_gross_exposure(joint_client: Client) -> None:
    group = limits_pb2.GroupLimit(name="g", instrument_ids=["I0", "I2"], gross_weight_max=0.3)
    portfolio_id, matrix_id = await held_book(
        joint_client,
        {"I0": 12_000.0},
        880_000.0,
        3,
        groups=[group],
        allow_short=True,
        allow_flip=True,
        leverage_max=2.0,
    )
    await set_parameters(joint_client, portfolio_id, kelly_fraction=1.0)
    request = moments(portfolio_id, [0.2, 0.01], [SHORT, LONG], scenario_matrix_id=matrix_id)
    optimum, kept = after_the_optimum(await joint_client.size(request))
    assert optimum[0] == pytest.approx(-0.3, abs=1e-7)
    np.testing.assert_allclose(kept, optimum, atol=1e-9)


async def test_a_linear_limit_leaves_room_for_what_is_reserved(joint_client: Client) -> None:
    """I1 at most 5 % above I0: a purchase of I0 that is not filled yet makes no room for I1."""
    row = limits_pb2.LinearLimit(
        name="pair", instrument_ids=["I0", "I1"], coefficients=[-1.0, 1.0], upper=0.05
    )
    portfolio_id, matrix_id = await held_book(
        joint_client, {}, 1e6, 2, weight_max=0.3, joint=limits_pb2.JointLimits(linear=[row])
    )
    await set_parameters(joint_client, portfolio_id, kelly_fraction=1.0)
    request = moments(portfolio_id, [0.2], scenario_matrix_id=matrix_id)
    request.validate_only = False
    first = await joint_client.size(request)
    assert first.sizes.weight[0] == pytest.approx(0.3)
    request = moments(portfolio_id, [0.0, 0.2], scenario_matrix_id=matrix_id)
    optimum, kept = after_the_optimum(await joint_client.size(request))
    assert optimum[1] == pytest.approx(0.05, abs=1e-7)
    np.testing.assert_allclose(kept, optimum, atol=1e-9)


@pytest.mark.parametrize(
    "method", [types_pb2.SIZING_METHOD_CLOSED_FORM, types_pb2.SIZING_METHOD_JOINT]
)
async def test_less_than_a_lot_closes_a_position_however_small_the_trade(
    joint_client: Client, method: int
) -> None:
    """What is wanted is half a share, worth 5; what is held 1,000, below the smallest trade."""
    portfolio_id, matrix_id = await held_book(
        joint_client, {"I0": 100.0}, 999_000.0, 1, weight_max=0.5, trade_notional_min=50_000.0
    )
    await set_parameters(joint_client, portfolio_id, kelly_fraction=1.0)
    request = moments(portfolio_id, [2e-7], method=method)
    if method == types_pb2.SIZING_METHOD_JOINT:
        request.scenario_matrix_id = matrix_id
        request.signals.expected_return[0] = 0.0
    decision = await joint_client.size(request)
    assert list(decision.sizes.lots) == [0]
    assert list(decision.sizes.trade_lots) == [-100]


async def test_a_ruined_book_takes_the_nearest_step(joint_client: Client) -> None:
    """A million held with an equity of 1, and 1,000 a trade: volatility, leverage and a row."""
    row = limits_pb2.LinearLimit(
        name="row", instrument_ids=["I0", "I1"], coefficients=[1e6, 5e5], upper=0.0
    )
    portfolio_id, matrix_id = await held_book(
        joint_client,
        {"I0": 100_000.0},
        -999_999.0,
        2,
        leverage_max=3.0,
        trade_notional_max=1_000.0,
        joint=limits_pb2.JointLimits(volatility_max=0.01, linear=[row]),
    )
    request = joint_request(portfolio_id, matrix_id, 2, validate_only=True)
    decision = await joint_client.size(request)
    assert decision.fallback_chain[0].outcome == "limits out of reach of one decision"
    assert list(decision.sizes.trade_lots) == [-100, 0]
    left = {item.kind for item in decision.limits_exceeded}
    assert types_pb2.LIMIT_KIND_LEVERAGE_MAX in left
    assert types_pb2.LIMIT_KIND_LINEAR in left


async def test_a_line_against_its_signal_is_closed_as_turnover_allows(
    joint_client: Client,
) -> None:
    portfolio_id, matrix_id = await held_book(
        joint_client, {"I0": 30_000.0}, 700_000.0, 2, allow_short=True, turnover_max=0.1
    )
    request = moments(portfolio_id, [0.01], [SHORT], scenario_matrix_id=matrix_id)
    decision = await joint_client.size(request)
    assert [step.outcome for step in decision.fallback_chain] == [
        "limits out of reach of one decision",
        "answered",
    ]
    assert decision.sizes.weight[0] == pytest.approx(0.2, abs=1e-4)


async def test_where_turnover_closes_one_of_two_positions_the_other_stays(
    joint_client: Client,
) -> None:
    """30 % and 20 % against their signals, 35 % may be traded: no more closes than the optimum."""
    portfolio_id, matrix_id = await held_book(
        joint_client,
        {"I0": 30_000.0, "I1": 10_000.0},
        500_000.0,
        2,
        allow_short=True,
        turnover_max=0.35,
        leverage_max=2.0,
    )
    request = moments(portfolio_id, [0.01, 0.01], [SHORT, SHORT], scenario_matrix_id=matrix_id)
    decision = await joint_client.size(request)
    optimum, kept = after_the_optimum(decision)
    assert float(optimum.sum()) == pytest.approx(0.15, abs=1e-7)
    np.testing.assert_allclose(kept, optimum, atol=1e-9)
    np.testing.assert_allclose(decision.sizes.weight, optimum, atol=2e-5)


async def test_a_position_that_a_net_limit_needs_stays_against_its_signal(
    joint_client: Client,
) -> None:
    """30 % net where 50 % is the least: a sale for the signal leads further from the limit."""
    portfolio_id, matrix_id = await held_book(
        joint_client, {"I0": 30_000.0}, 700_000.0, 2, allow_short=True, net_weight_min=0.5
    )
    request = moments(portfolio_id, [0.01], [SHORT], scenario_matrix_id=matrix_id)
    decision = await joint_client.size(request)
    optimum, kept = after_the_optimum(decision)
    assert optimum[0] == pytest.approx(0.3, abs=1e-9)
    np.testing.assert_allclose(kept, optimum, atol=1e-9)
    assert list(decision.sizes.trade_lots) == [0]


async def test_limits_of_instruments_in_a_conflict_are_named_with_them(
    joint_client: Client,
) -> None:
    own = limits_pb2.InstrumentLimit(instrument_id="I1", notional_max=100_000.0)
    row = limits_pb2.LinearLimit(
        name="pair", instrument_ids=["I0", "I1"], coefficients=[1.0, 1.0], lower=0.5
    )
    joint = limits_pb2.JointLimits(linear=[row])
    portfolio_id, matrix_id = await held_book(
        joint_client, {}, 1e6, 2, weight_max=0.2, instruments=[own], joint=joint
    )
    found = await refusal(
        joint_client.size(joint_request(portfolio_id, matrix_id, 2, validate_only=True))
    )
    assert found.reason == "INFEASIBLE_LIMITS"
    assert found.metadata["conflict"] == (
        "pair_min 0.5, weight_max 0.2 of I0, notional_max 100000 of I1"
    )
    asked = problem(n=3, weight_max=np.full(3, 0.2), budget_min=0.9, budget_max=1.0)
    answer = await optimize(joint_client, asked)
    assert answer.status == pb.OPTIMIZATION_STATUS_INFEASIBLE
    ids = list(asked.instrument_ids)
    assert set(answer.explanation.members) == {f"upper[{name}]" for name in ids} | {"budget_min"}


async def test_a_line_that_the_risk_budget_binds_says_so(joint_client: Client) -> None:
    portfolio_id, matrix_id = await held_book(joint_client, {}, 1e6, 2, weight_max=0.5)
    await set_parameters(joint_client, portfolio_id, kelly_fraction=1.0, risk_budget=0.03)
    request = moments(portfolio_id, [0.05], scenario_matrix_id=matrix_id)
    decision = await joint_client.size(request)
    assert list(decision.sizes.binding) == [types_pb2.LIMIT_KIND_RISK_BUDGET]
    assert list(decision.sizes.binding_bound) == [0.03]
    (price,) = decision.certificate.shadow_prices
    assert price.kind == types_pb2.LIMIT_KIND_RISK_BUDGET


@pytest.mark.parametrize("bound", [300.0, 1e4, 1e6, 1e9])
async def test_a_tail_limit_alone_bounds_a_book_whatever_the_box(
    joint_client: Client, bound: float
) -> None:
    limits = limits_pb2.JointLimits(cvar_max=0.02)
    tight, loose = [
        await optimize(
            joint_client,
            problem(n=4, weight_max=np.full(4, most), budget_max=None, limits=limits),
        )
        for most in (50.0, bound)
    ]
    assert tight.status == loose.status == pb.OPTIMIZATION_STATUS_OPTIMAL
    np.testing.assert_allclose(loose.weights, tight.weights, atol=1e-8)
