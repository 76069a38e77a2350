"""What a joint decision says: its status, what bound each line, prices, and refusals by name."""

import io
from typing import Any
from uuid import uuid4

import grpc
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
from positionsizing.v1 import optimization_service_pb2 as pb
from rich.console import Console

from server.cli import render
from server.cli.optimum import prices_table
from server.sizing.engine import SizingEngine
from tests.server.joint.test_joint import (
    RETURNS,
    Joint,
    joint_request,
    optimize,
    problem,
    scenarios,
)
from tests.server.support.service_client import INSTRUMENTS, Client, new_id, refusal

UNLIMITED: dict[str, Any] = {"allow_short": True}
WRITTEN = {"none": {}} | {
    f"{name} {bound:g}": {name: bound}
    for name, bound in (
        ("weight_max", 1e4),
        ("weight_max", 1e6),
        ("weight_max", 1e9),
        ("notional_max", 1e12),
        ("weight_max", 1.0),
    )
}


async def stored(client: Client, *matrices: market_service_pb2.Matrix, **limits: Any) -> str:
    """A portfolio with these limits alone; matrices are stored as well."""
    portfolio_id = await client.ready(**(limits or {"cash_buffer": 0.0}))
    for matrix in matrices:
        matrix.as_of_time.GetCurrentTime()
        await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    return portfolio_id


async def set_parameters(client: Client, portfolio_id: str, **given: Any) -> None:
    """Stores sizing parameters."""
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id, parameters=parameter_service_pb2.SizingParameters(**given)
        )
    )


def covariance_of(values: np.ndarray[Any, Any]) -> market_service_pb2.Matrix:
    """A stored covariance of the first instruments."""
    return market_service_pb2.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
        instrument_ids=INSTRUMENTS[: len(values)],
        dense={"values": values.ravel()},
    )


def moments(
    portfolio_id: str,
    expected: list[float],
    side: list[int] | None = None,
    method: int = types_pb2.SIZING_METHOD_JOINT,
    **given: Any,
) -> sizing_service_pb2.SizePositionsRequest:
    """Signals of expected returns."""
    n = len(expected)
    return sizing_service_pb2.SizePositionsRequest(
        request_id=str(uuid4()),
        portfolio_id=portfolio_id,
        method=method,  # type: ignore[arg-type]
        validate_only=True,
        signals=sizing_pb2.SignalBatch(
            instrument_ids=INSTRUMENTS[:n],
            side=side or [types_pb2.SIDE_LONG] * n,  # type: ignore[arg-type]
            expected_return=expected,
            volatility=[0.2] * n,
        ),
        **given,
    )


def before_lots(decision: sizing_pb2.SizingDecision) -> np.ndarray[Any, Any]:
    """Weights at the joint optimum."""
    stages = {stage.stage: stage for stage in decision.waterfall.stages}
    for stage in (types_pb2.SIZING_STAGE_JOINT_OPTIMUM, types_pb2.SIZING_STAGE_RAW_KELLY):
        if stage in stages:
            return np.array(stages[stage].weight)
    raise AssertionError("no stage")


@pytest.mark.parametrize("written", WRITTEN)
async def test_cash_bounds_a_book_whatever_is_written_for_no_limit(
    joint_client: Client, written: str
) -> None:
    matrix = scenarios(2, matrix_id=new_id("matrix"))
    limits = {"cash_buffer": 0.0, **WRITTEN[written]}
    portfolio_id = await stored(joint_client, matrix, **limits)
    await set_parameters(joint_client, portfolio_id, kelly_fraction=1.0)
    request = joint_request(portfolio_id, matrix.matrix_id, 2, validate_only=True)
    decision = await joint_client.size(request)
    asked = problem(n=2, weight_max=np.ones(2))
    best = await optimize(joint_client, asked)
    np.testing.assert_allclose(before_lots(decision), best.weights, atol=1e-8)
    assert decision.certificate.duality_gap_relative <= 1e-8
    assert decision.status == types_pb2.SIZING_STATUS_CAPPED
    prices = {price.limit: price for price in decision.certificate.shadow_prices}
    assert prices["cash max"].kind == types_pb2.LIMIT_KIND_CASH
    if written != "weight_max 1":
        assert set(decision.sizes.binding) <= {types_pb2.LIMIT_KIND_CASH, 0}
    assert types_pb2.LIMIT_KIND_CASH in decision.sizes.binding
    floor = limits_pb2.Limits(net_weight_min=0.9, leverage_max=0.5)
    found = await refusal(
        joint_client.size(joint_request(portfolio_id, matrix.matrix_id, 2, limits=floor))
    )
    assert found.reason == "INFEASIBLE_LIMITS"


async def test_a_joint_line_names_its_limit_its_bound_and_its_price(joint_client: Client) -> None:
    matrix = scenarios(4, matrix_id=new_id("matrix"))
    row = limits_pb2.LinearLimit(name="cash", instrument_ids=["I1"], coefficients=[2.0], upper=0.3)
    portfolio_id = await stored(
        joint_client,
        matrix,
        leverage_max=0.8,
        instruments=[limits_pb2.InstrumentLimit(instrument_id="I2", notional_max=250_000.0)],
        joint=Joint(linear=[row]),
    )
    await set_parameters(joint_client, portfolio_id, kelly_fraction=1.0)
    request = joint_request(portfolio_id, matrix.matrix_id, 4, validate_only=True)
    decision = await joint_client.size(request)
    sizes = decision.sizes
    assert decision.status == types_pb2.SIZING_STATUS_CAPPED
    leverage, linear = types_pb2.LIMIT_KIND_LEVERAGE_MAX, types_pb2.LIMIT_KIND_LINEAR
    assert sizes.binding[1:] == [linear, types_pb2.LIMIT_KIND_NOTIONAL_MAX, leverage]
    assert sizes.binding_bound[1:] == [0.3, 250_000.0, 0.8]
    assert sizes.group_names[sizes.binding_group[1] - 1] == "cash"
    assert sizes.weight[3] > 0.1
    prices = {price.limit: price for price in decision.certificate.shadow_prices}
    gross = prices["portfolio gross max"].price_high
    assert sizes.marginal_growth[3] == pytest.approx(gross, rel=1e-6)
    own = prices["upper[I2]"]
    assert own.kind == types_pb2.LIMIT_KIND_NOTIONAL_MAX
    assert sizes.marginal_growth[2] == pytest.approx(gross + own.price_high, rel=1e-6)
    row = prices["linear cash max"]
    assert row.kind == linear
    assert sizes.marginal_growth[1] == pytest.approx(gross + 2.0 * row.price_high, rel=1e-6)
    stage = next(
        s for s in decision.waterfall.stages if s.stage == types_pb2.SIZING_STAGE_JOINT_OPTIMUM
    )
    assert list(stage.limit) == list(sizes.binding)
    assert list(stage.limit_bound) == list(sizes.binding_bound)
    shown = Console(width=80, file=io.StringIO(), record=True)
    shown.print(prices_table(decision))
    said = [*render.line_words(decision, 2), shown.export_text()]
    assert any("250" in sentence and "set by" in sentence for sentence in said)
    assert not any("cut it from" in sentence for sentence in said)
    assert "portfolio gross max" in said[-1]


async def test_joint_members_of_a_group_divide_what_they_share(
    joint_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = scenarios(4, matrix_id=new_id("matrix"))
    matrix.as_of_time.GetCurrentTime()
    await joint_client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    await joint_client.put_market()
    group_id = new_id("group")
    ids = [await joint_client.put_portfolio(group_id=group_id) for _ in range(2)]
    shared = portfolio_service_pb2.SharedLimits(gross_notional_max=500_000.0)
    await joint_client.set_limits(
        portfolio_service_pb2.Scope(group_id=group_id), shared=shared, leverage_max=1.0
    )
    threads: list[bool] = []
    run = SizingEngine.run

    async def watched(self: SizingEngine, *args: Any, **given: Any) -> Any:
        threads.append(given.get("is_joint", False))
        return await run(self, *args, **given)

    monkeypatch.setattr(SizingEngine, "run", watched)
    requests = [joint_request(name, matrix.matrix_id, 4, request_id="") for name in ids]
    answer = await joint_client.sizing.SizePortfolios(
        sizing_service_pb2.SizePortfoliosRequest(
            request_id=str(uuid4()), requests=requests, validate_only=True
        )
    )
    gross = [float(np.abs(d.sizes.weight).sum()) for d in answer.decisions]
    assert sum(gross) == pytest.approx(0.5, abs=1e-3)
    assert threads == [True] * 3
    for decision in answer.decisions:
        kinds = {price.kind for price in decision.certificate.shadow_prices}
        assert types_pb2.LIMIT_KIND_SHARED_GROSS_NOTIONAL_MAX in kinds


async def test_optimal_means_that_no_limit_cut(joint_client: Client) -> None:
    covariance = covariance_of(0.04 * np.eye(2))
    portfolio_id = await stored(joint_client, covariance)
    await set_parameters(joint_client, portfolio_id, kelly_fraction=1.0)
    request = moments(portfolio_id, [0.01, -0.01], covariance_matrix_id=covariance.matrix_id)
    decision = await joint_client.size(request)
    np.testing.assert_allclose(before_lots(decision), [0.25, 0.0], atol=1e-9)
    assert decision.status == types_pb2.SIZING_STATUS_OPTIMAL
    assert list(decision.sizes.binding) == [0, 0]
    assert not decision.certificate.shadow_prices
    assert decision.sizes.marginal_growth[0] == pytest.approx(0.0, abs=1e-9)


async def test_the_rate_is_taken_off_alike_in_every_form(joint_client: Client) -> None:
    """m = .02, s = .2, r = .01: 0.25; and no edge over the rate is no position."""
    covariance = covariance_of(0.04 * np.eye(2))
    portfolio_id = await stored(joint_client, covariance, allow_short=True)
    await set_parameters(joint_client, portfolio_id, kelly_fraction=1.0, risk_free_rate=0.01)
    sides = [types_pb2.SIDE_LONG, types_pb2.SIDE_SHORT]
    for expected, weight in (([0.02, 0.02], [0.25, -0.25]), ([0.01, 0.01], [0.0, 0.0])):
        edge = any(weight)
        for method in (types_pb2.SIZING_METHOD_JOINT, types_pb2.SIZING_METHOD_CLOSED_FORM):
            request = moments(
                portfolio_id,
                expected,
                sides,
                method,
                covariance_matrix_id=covariance.matrix_id,
            )
            decision = await joint_client.size(request)
            joint = method == types_pb2.SIZING_METHOD_JOINT
            exact = joint and edge
            found = before_lots(decision) if exact else np.array(decision.sizes.weight)
            np.testing.assert_allclose(found, weight, atol=1e-9 if exact else 1e-4 * edge)


async def test_both_methods_agree_on_a_short_from_scenarios(joint_client: Client) -> None:
    returns = np.array([-0.03, 0.028, -0.02, 0.016])
    matrix = market_service_pb2.Matrix(
        matrix_id=new_id("matrix"),
        kind=market_service_pb2.MATRIX_KIND_SCENARIOS,
        instrument_ids=["I0"],
        dense={"values": returns},
    )
    portfolio_id = await stored(
        joint_client, matrix, allow_short=True, short_margin_rate=0.0, weight_max=50.0
    )
    await set_parameters(
        joint_client,
        portfolio_id,
        kelly_fraction=1.0,
        risk_free_rate=0.001,
        confidence_shrinkage=parameter_service_pb2.CONFIDENCE_SHRINKAGE_NONE,
    )
    weights = []
    for method in (types_pb2.SIZING_METHOD_JOINT, types_pb2.SIZING_METHOD_CLOSED_FORM):
        request = joint_request(portfolio_id, matrix.matrix_id, 1, validate_only=True)
        request.method = method
        request.signals.side[0] = types_pb2.SIDE_SHORT
        decision = await joint_client.size(request)
        weights.append(decision.sizes.weight[0])
    assert weights[0] < -0.1
    assert weights[0] == pytest.approx(weights[1], abs=2e-5)


async def test_k5_1_with_cash_and_without_a_bound(joint_client: Client) -> None:
    """Two assets, volatilities .2 and .3, correlation .3, means .06 and .09, cash at .02."""
    volatility = np.array([0.2, 0.3])
    values = np.outer(volatility, volatility) * np.array([[1.0, 0.3], [0.3, 1.0]])
    for written in (1e9, 5.0):
        asked = pb.OptimizationProblem(
            instrument_ids=["I0", "I1"],
            objective=pb.Objective(kind=pb.OBJECTIVE_KIND_MEAN_VARIANCE),
            mean=[0.06, 0.09],
            covariance=market_service_pb2.Matrix(
                kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
                instrument_ids=["I0", "I1"],
                dense={"values": values.ravel()},
            ),
            weight_min=[-written] * 2,
            weight_max=[written] * 2,
            budget_max=5.0,
            cash_return=0.02,
        )
        answer = await optimize(joint_client, asked)
        assert answer.status == pb.OPTIMIZATION_STATUS_OPTIMAL
        np.testing.assert_allclose(answer.weights, [5 / 7, 40 / 63], atol=1e-9)


@pytest.mark.parametrize("limit", ["volatility_max", "var_max"])
async def test_a_limit_of_risk_is_bound_enough(joint_client: Client, limit: str) -> None:
    """sqrt(w'Sw) <= v alone: w = v S^-1 m / sqrt(m'S^-1 m), of a box of 1e9 as of one of 5."""
    mean, values = np.array([0.006, 0.009]), np.array([[0.04, 0.018], [0.018, 0.09]])
    best = np.linalg.solve(values, mean)
    ratio = np.sqrt(mean @ best)
    volatility = 0.1 if limit == "volatility_max" else 0.1 / (1.6448536269514722 - ratio)
    for written in (1e9, 1e6, 5.0):
        asked = pb.OptimizationProblem(
            instrument_ids=["I0", "I1"],
            objective=pb.Objective(kind=pb.OBJECTIVE_KIND_MAX_RETURN),
            mean=mean,
            covariance=market_service_pb2.Matrix(
                kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
                instrument_ids=["I0", "I1"],
                dense={"values": values.ravel()},
            ),
            weight_min=[-written] * 2,
            weight_max=[written] * 2,
            budget_max=written,
            limits=Joint(**{limit: 0.1}),
        )
        answer = await optimize(joint_client, asked)
        assert answer.status == pb.OPTIMIZATION_STATUS_OPTIMAL, written
        np.testing.assert_allclose(answer.weights, volatility * best / ratio, atol=1e-8)


async def test_a_soft_limit_gives_way_at_its_price(joint_client: Client) -> None:
    covariance = covariance_of(0.04 * np.eye(1))
    soft = limits_pb2.LinearLimit(
        name="soft", instrument_ids=["I0"], coefficients=[1.0], lower=0.5, soft_price=0.002
    )
    portfolio_id = await stored(joint_client, covariance, joint=Joint(linear=[soft]))
    await set_parameters(joint_client, portfolio_id, kelly_fraction=1.0)
    request = moments(portfolio_id, [0.01], covariance_matrix_id=covariance.matrix_id)
    decision = await joint_client.size(request)
    # (0.01 + 0.002) / 0.04: the price is a gain up to the limit.
    np.testing.assert_allclose(before_lots(decision), [0.3], atol=1e-9)


async def test_unmeasured_and_lone_limits_are_refused_by_name(joint_client: Client) -> None:
    covariance = covariance_of(0.04 * np.eye(1))
    portfolio_id = await stored(joint_client, covariance)
    for name, limit in {
        "cvar_max": Joint(cvar_max=0.1),
        "cdar_max": Joint(cdar_max=0.1),
        "wealth_floor": Joint(wealth_floor=0.8, wealth_floor_probability=0.1),
    }.items():
        request = moments(
            portfolio_id,
            [0.01],
            covariance_matrix_id=covariance.matrix_id,
            limits=limits_pb2.Limits(joint=limit),
        )
        found = await refusal(joint_client.size(request))
        assert found.code is grpc.StatusCode.FAILED_PRECONDITION
        assert name in found.message
        assert "scenario_matrix_id" in found.message
    lone = limits_pb2.Limits(joint=Joint(wealth_floor=0.8))
    request = moments(portfolio_id, [0.01], limits=lone)
    found = await refusal(joint_client.size(request))
    assert found.fields == {"limits.joint.wealth_floor_probability": "MISSING"}


async def test_what_nothing_bounds_says_what_would(joint_client: Client) -> None:
    covariance = covariance_of(0.04 * np.eye(1))
    portfolio_id = await stored(joint_client, covariance, allow_short=True, short_margin_rate=0.0)
    await set_parameters(
        joint_client,
        portfolio_id,
        joint_objective=pb.Objective(kind=pb.OBJECTIVE_KIND_MAX_RETURN),
    )
    request = moments(
        portfolio_id,
        [0.01],
        [types_pb2.SIDE_SHORT],
        covariance_matrix_id=covariance.matrix_id,
    )
    found = await refusal(joint_client.size(request))
    assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "UNBOUNDED")
    assert "I0" in found.message
    assert "weight_max" in found.message
    asked = problem(
        "MAX_RETURN", n=2, weight_max=[1e30, 1.0], budget_max=1e30, scenarios=scenarios(2)
    )
    asked.weight_max[0], asked.budget_max = 1e9, 1e9
    assert (await optimize(joint_client, asked)).status == pb.OPTIMIZATION_STATUS_OPTIMAL


async def test_what_if_changes_the_method_and_the_objective(joint_client: Client) -> None:
    matrix = scenarios(4, matrix_id=new_id("matrix"))
    portfolio_id = await stored(joint_client, matrix, leverage_max=1.0, net_weight_min=0.5)
    base = joint_request(portfolio_id, matrix.matrix_id, 4)
    base.method = types_pb2.SIZING_METHOD_CLOSED_FORM
    changed = parameter_service_pb2.SizingParameters(
        method=types_pb2.SIZING_METHOD_JOINT,
        joint_objective=pb.Objective(kind=pb.OBJECTIVE_KIND_MIN_CVAR),
    )
    answer = await joint_client.sizing.WhatIf(
        sizing_service_pb2.WhatIfRequest(
            base=base,
            variations=[
                sizing_service_pb2.Variation(name="joint", parameters=changed),
                sizing_service_pb2.Variation(name="same"),
            ],
        )
    )
    joint, same = (np.array(result.sizes.weight) for result in answer.results)
    np.testing.assert_allclose(same, answer.base.sizes.weight)
    assert joint.sum() == pytest.approx(0.5, abs=1e-3)
    worst = [-np.sort(RETURNS[:, :4] @ w / w.sum())[:3].mean() for w in (joint, same)]
    assert worst[0] < worst[1]
