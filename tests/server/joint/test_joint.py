"""The joint method and OptimizationService over gRPC: any structure, any input, no compiling."""

from typing import Any
from uuid import uuid4

import grpc
import jax
import numpy as np
import pytest
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    optimization_service_pb2_grpc,
    parameter_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)
from positionsizing.v1 import optimization_service_pb2 as pb

from tests.server.support.service_client import INSTRUMENTS, Client, new_id, refusal

Stub = optimization_service_pb2_grpc.OptimizationServiceStub
RNG = np.random.default_rng(5)
RETURNS = 0.02 * RNG.standard_normal((60, 8)) + np.linspace(0.004, 0.001, 8)


@pytest.fixture
def compiles() -> Any:
    """What XLA compiles during a test."""
    seen: list[str] = []

    def on_event(event: str, duration_secs: float, **kwargs: str | int) -> None:
        del duration_secs, kwargs
        if event.endswith("backend_compile_duration"):
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(on_event)
    yield seen
    jax.monitoring.unregister_event_duration_listener(on_event)


def scenarios(n: int = 8, **given: Any) -> market_service_pb2.Matrix:
    """Scenarios of the first n instruments."""
    return market_service_pb2.Matrix(
        **{
            "kind": market_service_pb2.MATRIX_KIND_SCENARIOS,
            "instrument_ids": INSTRUMENTS[:n],
            "dense": {"values": RETURNS[:, :n].ravel()},
            **given,
        }
    )


def objective_of(kind: str, **given: Any) -> pb.Objective:
    """An objective by its short name."""
    return pb.Objective(kind=pb.ObjectiveKind.Value(f"OBJECTIVE_KIND_{kind}"), **given)


def combination(*terms: tuple[str, float]) -> pb.Objective:
    """A weighted combination of objectives by their short names."""
    parts = [pb.ObjectiveTerm(weight=w, objective=objective_of(kind)) for kind, w in terms]
    return objective_of("COMBINATION", terms=parts)


def problem(
    kind: str | pb.Objective = "LOG_GROWTH", n: int = 8, **given: Any
) -> pb.OptimizationProblem:
    """A problem over scenarios given in the call."""
    given.setdefault("scenarios", scenarios(n))
    given.setdefault("weight_max", np.full(n, 0.4))
    objective = objective_of(kind) if isinstance(kind, str) else kind
    return pb.OptimizationProblem(instrument_ids=INSTRUMENTS[:n], objective=objective, **given)


async def optimize(client: Client, asked: pb.OptimizationProblem, **given: Any) -> Any:
    """The response of OptimizePortfolio."""
    request = pb.OptimizePortfolioRequest(problem=asked, **given)
    return await Stub(client.channel).OptimizePortfolio(request, timeout=60)


Joint = limits_pb2.JointLimits
MIX = [
    problem(),
    problem(n=3, gross_max=0.7),
    problem(limits=Joint(wealth_floor=0.8, wealth_floor_probability=0.1)),
    problem(limits=Joint(cvar_max=0.01)),
    problem("CRRA", turnover_max=0.5, linear_cost=np.full(8, 1e-4)),
    problem("MEAN_VARIANCE", limits=Joint(volatility_max=0.005)),
    problem("QUADRATIC_GROWTH", weight_min=np.full(8, -0.2), gross_max=0.6),
    problem("MAX_SHARPE", budget_min=1.0),
    problem(
        "MAX_SHARPE", limits=Joint(wealth_floor=0.95, wealth_floor_probability=0.01), budget_min=0.5
    ),
    problem("MAX_RETURN", limits=Joint(var_max=0.01, cdar_max=0.05)),
    problem("MIN_VARIANCE", n=5, budget_min=1.0, impact_cost=np.full(5, 1e-3)),
    problem("MIN_CVAR", budget_min=1.0),
    problem("MIN_CDAR", n=6, budget_min=1.0),
    problem("MIN_MAX_DRAWDOWN", n=4, budget_min=1.0),
    problem("RISK_BUDGET", budget_min=1.0, weight_max=np.ones(8)),
    problem(combination(("LOG_GROWTH", 1.0), ("MIN_VARIANCE", 3.0))),
    problem(combination(("CRRA", 1.0), ("MAX_RETURN", 0.1), ("QUADRATIC_GROWTH", 0.5))),
    problem(combination(("MAX_RETURN", 1.0), ("MIN_CVAR", 0.3), ("MIN_CDAR", 0.05))),
    problem(combination(("LOG_GROWTH", 1.0), ("MIN_CVAR", 0.05), ("MIN_CDAR", 0.01))),
    problem("MIN_CVAR", budget_min=1.0, limits=Joint(volatility_max=0.02)),
    problem("MIN_MAX_DRAWDOWN", n=4, budget_min=1.0, impact_cost=np.full(4, 1e-3)),
]


@pytest.mark.parametrize("asked", MIX, ids=lambda asked: str(asked.objective.kind))
async def test_any_structure_is_proven_without_compiling(
    joint_client: Client, compiles: list[str], asked: pb.OptimizationProblem
) -> None:
    answer = await optimize(joint_client, asked)
    assert answer.status == pb.OPTIMIZATION_STATUS_OPTIMAL
    assert list(answer.instrument_ids) == list(asked.instrument_ids)
    assert compiles == []


async def test_a_combination_is_what_its_terms_add_up_to(joint_client: Client) -> None:
    # mu'w - gamma/2 w'Sw, once by name and once as a sum.
    aversion = 6.0
    whole = await optimize(
        joint_client, problem(objective_of("MEAN_VARIANCE", risk_aversion=aversion))
    )
    parts = combination(("MAX_RETURN", 1.0), ("MIN_VARIANCE", aversion / 2))
    summed = await optimize(joint_client, problem(parts))
    assert any(0.01 < weight < 0.39 for weight in whole.weights)
    np.testing.assert_allclose(summed.weights, whole.weights, atol=1e-8)
    assert summed.certificate.objective == pytest.approx(whole.certificate.objective, rel=1e-9)


async def test_frontier_and_explanation_compile_nothing(
    joint_client: Client, compiles: list[str]
) -> None:
    stub = Stub(joint_client.channel)
    for kind in ("MIN_VARIANCE", "MIN_CVAR", combination(("MIN_VARIANCE", 1.0), ("MIN_CDAR", 0.1))):
        request = pb.TraceFrontierRequest(problem=problem(kind, budget_min=1.0), point_count=4)
        points = (await stub.TraceFrontier(request, timeout=60)).points
        returns = [point.expected_return for point in points]
        assert len(points) == 4
        assert returns == sorted(returns)
    mixed = problem(combination(("MIN_CVAR", 1.0), ("MAX_RETURN", 1.0)))
    found = await refusal(stub.TraceFrontier(pb.TraceFrontierRequest(problem=mixed)))
    assert found.fields == {"problem.objective.kind": "NOT_APPLICABLE"}
    conflict = problem(budget_min=0.9, gross_max=0.5)
    answer = await optimize(joint_client, conflict)
    assert answer.status == pb.OPTIMIZATION_STATUS_INFEASIBLE
    assert set(answer.explanation.conflict) == {"budget_min", "gross_max"}
    assert not answer.weights
    why = await stub.ExplainInfeasibility(pb.ExplainInfeasibilityRequest(problem=conflict))
    assert not why.feasible
    assert compiles == []


def with_value(matrix: market_service_pb2.Matrix, value: float) -> market_service_pb2.Matrix:
    """The matrix with one number exchanged."""
    matrix.dense.values[3] = value
    return matrix


def covariance(values: np.ndarray[Any, Any]) -> market_service_pb2.Matrix:
    """A covariance of as many instruments as it has rows."""
    return market_service_pb2.Matrix(
        kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
        instrument_ids=INSTRUMENTS[: len(values)],
        dense={"values": values.ravel()},
    )


WRONG = {
    "scenarios.dense": problem(scenarios=with_value(scenarios(), np.nan)),
    "scenarios.dense.": problem(scenarios=with_value(scenarios(), np.inf)),
    "scenarios": problem(scenarios=scenarios(dense={"values": []})),
    "covariance": problem("MIN_VARIANCE", n=2, covariance=covariance(np.array([[1, 2], [2, 1.0]]))),
    "instrument_ids": problem(n=0, weight_max=[]),
    "mean": problem(mean=[0.1]),
    "weight_min": problem(weight_min=np.full(8, np.nan)),
    "weight_max": problem(weight_max=np.full(7, 1.0)),
    "budget_min": problem(budget_min=np.inf),
    "gross_max": problem(gross_max=-1.0),
    "trade_max": problem(trade_max=np.full(8, -1.0)),
    "objective.kind": problem("UNSPECIFIED"),
    "objective.risk_aversion": problem(objective_of("CRRA", risk_aversion=np.nan)),
    "objective.tail_level": problem(objective_of("MIN_CVAR", tail_level=1.0)),
    "objective.budgets": problem(objective_of("RISK_BUDGET", budgets=[1.0] * 7 + [np.inf])),
    "objective.terms": problem("COMBINATION"),
    "objective.terms.": problem(objective_of("LOG_GROWTH", terms=combination(("CRRA", 1)).terms)),
    "objective.terms[1].weight": problem(combination(("LOG_GROWTH", 1), ("MIN_VARIANCE", -1))),
    "objective.terms[0].objective.kind": problem(combination(("MAX_SHARPE", 1.0))),
    "limits.cvar_max": problem(limits=Joint(cvar_max=-0.1)),
    "limits.wealth_floor": problem(limits=Joint(wealth_floor=2.0, wealth_floor_probability=0.1)),
}


@pytest.mark.parametrize("path", WRONG)
async def test_wrong_problems_are_refused_with_the_path(joint_client: Client, path: str) -> None:
    found = await refusal(optimize(joint_client, WRONG[path]))
    assert found.code is grpc.StatusCode.INVALID_ARGUMENT
    assert any(name.startswith(f"problem.{path.rstrip('.')}") for name in found.fields), found


NEEDS = {
    "no scenarios": problem(scenarios=None),
    "no covariance": problem("MIN_VARIANCE", scenarios=None),
    "no scenarios for CVaR": problem(
        "MEAN_VARIANCE",
        n=2,
        scenarios=None,
        covariance=covariance(np.eye(2)),
        mean=[0.1, 0.1],
        limits=Joint(cvar_max=0.1),
    ),
    "a matrix that lacks an instrument": problem(scenarios=scenarios(7)),
    "a risk budget without variance": problem(
        "RISK_BUDGET", n=2, covariance=covariance(np.zeros((2, 2)))
    ),
    "a limit on a stranger": problem(
        limits=Joint(
            linear=[
                limits_pb2.LinearLimit(name="x", instrument_ids=["?"], coefficients=[1], upper=1)
            ]
        )
    ),
}


@pytest.mark.parametrize("what", NEEDS)
async def test_missing_data_is_said(joint_client: Client, what: str) -> None:
    found = await refusal(optimize(joint_client, NEEDS[what]))
    assert found.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)
    assert found.fields or found.reason


@pytest.mark.parametrize("rpc", ["OptimizePortfolio", "TraceFrontier", "ExplainInfeasibility"])
@pytest.mark.parametrize(
    ("lacking", "field"),
    [
        (problem("MIN_CVAR", scenarios=None, mean=np.full(8, 0.1)), "problem.scenarios"),
        (problem("MIN_VARIANCE", scenarios=None, mean=np.full(8, 0.1)), "problem.covariance"),
        (
            problem("MIN_VARIANCE", scenarios=None, limits=Joint(cvar_max=0.1)),
            "problem.scenarios",
        ),
    ],
    ids=["scenarios for the objective", "covariance", "scenarios for a limit"],
)
async def test_missing_data_is_said_by_its_field_in_every_call(
    joint_client: Client, rpc: str, lacking: pb.OptimizationProblem, field: str
) -> None:
    call = getattr(Stub(joint_client.channel), rpc)
    request = getattr(pb, f"{rpc}Request")(problem=lacking)
    if rpc == "ExplainInfeasibility" and not lacking.HasField("limits"):
        assert (await call(request)).feasible  # the objective is not used
        return
    found = await refusal(call(request))
    assert (found.code, list(found.fields)) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


async def test_unknown_matrices_and_large_books_are_refused(joint_client: Client) -> None:
    found = await refusal(
        optimize(joint_client, problem(scenarios=None, scenario_matrix_id="never-stored"))
    )
    assert found.code is grpc.StatusCode.NOT_FOUND
    ids = [f"X{i}" for i in range(17)]
    large = pb.OptimizationProblem(
        instrument_ids=ids,
        objective=pb.Objective(kind=pb.OBJECTIVE_KIND_MEAN_VARIANCE),
        mean=np.full(17, 0.1),
        covariance=market_service_pb2.Matrix(
            kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
            instrument_ids=ids,
            dense={"values": np.eye(17).ravel()},
        ),
    )
    found = await refusal(optimize(joint_client, large))
    assert (found.code, found.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "PROBLEM_TOO_LARGE",
    )
    assert "SIZING_JOINT_ASSETS" in found.message
    five_thousand = pb.OptimizationProblem(
        instrument_ids=[f"X{i}" for i in range(5000)], objective=large.objective
    )
    found = await refusal(optimize(joint_client, five_thousand))
    assert found.fields["problem.instrument_ids"] == "TOO_MANY"


async def test_failures_of_the_solver_are_typed_and_without_weights(joint_client: Client) -> None:
    falling = problem("MAX_SHARPE", n=2, mean=[-0.1, -0.2], budget_min=1.0, weight_max=[1, 1])
    answer = await optimize(joint_client, falling)
    assert answer.status == pb.OPTIMIZATION_STATUS_NONPOSITIVE_MEAN
    assert not answer.weights
    shrinking = problem("MAX_SHARPE", n=4, impact_cost=np.full(4, 1e-3))
    answer = await optimize(joint_client, shrinking)
    assert answer.status == pb.OPTIMIZATION_STATUS_VANISHING
    assert not answer.weights
    crossed = problem(n=2, weight_min=[0.5, 0.0], weight_max=[0.1, 1.0])
    answer = await optimize(joint_client, crossed)
    assert answer.status == pb.OPTIMIZATION_STATUS_INFEASIBLE
    assert not answer.weights
    single = await optimize(joint_client, problem(n=1, weight_max=[1.0]))
    assert single.status == pb.OPTIMIZATION_STATUS_OPTIMAL
    assert len(single.weights) == 1
    closed = await optimize(joint_client, problem(weight_max=np.zeros(8)))
    assert closed.status == pb.OPTIMIZATION_STATUS_OPTIMAL
    assert not np.any(closed.weights)


async def ready(client: Client, **limits: Any) -> tuple[str, str]:
    """A portfolio with limits and a stored scenario matrix."""
    portfolio_id = await client.ready(**{"weight_max": 0.3, "leverage_max": 1.0, **limits})
    matrix = scenarios(matrix_id=new_id("matrix"))
    matrix.as_of_time.GetCurrentTime()
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    return portfolio_id, matrix.matrix_id


def joint_request(
    portfolio_id: str, matrix_id: str, n: int = 8, **given: Any
) -> sizing_service_pb2.SizePositionsRequest:
    """Long signals from scenarios, sized together."""
    given.setdefault("request_id", str(uuid4()))
    return sizing_service_pb2.SizePositionsRequest(
        portfolio_id=portfolio_id,
        scenario_matrix_id=matrix_id,
        method=types_pb2.SIZING_METHOD_JOINT,
        signals=sizing_pb2.SignalBatch(
            instrument_ids=INSTRUMENTS[:n],
            side=[types_pb2.SIDE_LONG] * n,
            edge_source=[sizing_pb2.EDGE_SOURCE_SCENARIOS] * n,
        ),
        **given,
    )


async def test_joint_sizes_are_recorded_proven_and_replayed(
    joint_client: Client, compiles: list[str]
) -> None:
    portfolio_id, matrix_id = await ready(joint_client)
    for n in (8, 3):
        decision = await joint_client.size(joint_request(portfolio_id, matrix_id, n))
        assert decision.method == types_pb2.SIZING_METHOD_JOINT
        assert decision.certificate.duality_gap_relative <= 1e-8
        assert not decision.fallback_chain
        replay = await joint_client.sizing.ReplayDecision(
            sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
        )
        assert replay.lots_equal
    assert compiles == []


async def test_the_parameters_choose_what_is_optimised(
    joint_client: Client, compiles: list[str]
) -> None:
    portfolio_id, matrix_id = await ready(joint_client, net_weight_min=0.9)
    request = joint_request(portfolio_id, matrix_id, validate_only=True)
    by_growth = await joint_client.size(request)
    chosen = parameter_service_pb2.SizingParameters(joint_objective=objective_of("MIN_CVAR"))
    await joint_client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id, parameters=chosen)
    )
    wanted = parameter_service_pb2.GetParametersRequest(portfolio_id=portfolio_id)
    stored = (await joint_client.parameter.GetParameters(wanted)).parameters
    assert stored.joint_objective == objective_of("MIN_CVAR", tail_level=0.95)
    by_tail = await joint_client.size(joint_request(portfolio_id, matrix_id))
    growth, tail = (np.array(d.sizes.weight) for d in (by_growth, by_tail))
    assert tail.sum() == pytest.approx(0.9, abs=1e-3)  # up to whole lots
    assert -np.sort(RETURNS @ tail)[:3].mean() < -np.sort(RETURNS @ growth)[:3].mean()
    assert by_tail.certificate.duality_gap_relative <= 1e-8
    replay = await joint_client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=by_tail.decision_id)
    )
    assert replay.lots_equal
    assert replay.weight_difference_max == 0.0
    assert compiles == []


async def test_joint_objectives_that_cannot_be_are_refused(joint_client: Client) -> None:
    def setting(chosen: pb.Objective) -> parameter_service_pb2.SetParametersRequest:
        parameters = parameter_service_pb2.SizingParameters(joint_objective=chosen)
        return parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id, parameters=parameters
        )

    portfolio_id, matrix_id = await ready(joint_client, joint=Joint(volatility_max=0.01))
    set_parameters = joint_client.parameter.SetParameters
    sized = objective_of("MIN_VARIANCE", gross_weight=0.5)
    found = await refusal(set_parameters(setting(sized)))
    assert found.fields["parameters.joint_objective.gross_weight"] == "NOT_APPLICABLE"
    apart = [objective_of("CRRA", risk_aversion=aversion) for aversion in (2.0, 3.0)]
    terms = [pb.ObjectiveTerm(weight=1.0, objective=part) for part in apart]
    await set_parameters(setting(objective_of("COMBINATION", terms=terms)))
    found = await refusal(joint_client.size(joint_request(portfolio_id, matrix_id)))
    assert (found.code, found.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "UNSUPPORTED_OBJECTIVE",
    )
    assert await joint_client.counts(portfolio_id) == (0, 0)


async def test_limits_of_the_book_hold_on_the_lots(joint_client: Client) -> None:
    bound = 0.002
    portfolio_id, matrix_id = await ready(joint_client, joint=Joint(cvar_max=bound))
    decision = await joint_client.size(joint_request(portfolio_id, matrix_id))
    losses = np.sort(-(RETURNS @ np.array(decision.sizes.weight)))[::-1]
    assert losses[:3].mean() <= bound * (1 + 1e-9)
    assert any(p.kind == types_pb2.LIMIT_KIND_CVAR_MAX for p in decision.certificate.shadow_prices)


async def test_joint_sizing_refuses_with_a_reason(joint_client: Client) -> None:
    portfolio_id, matrix_id = await ready(joint_client)
    without = joint_request(portfolio_id, "")
    found = await refusal(joint_client.size(without))
    assert found.code is not grpc.StatusCode.INTERNAL
    unknown = joint_request(portfolio_id, "never-stored")
    found = await refusal(joint_client.size(unknown))
    assert found.code is grpc.StatusCode.NOT_FOUND
    floor = limits_pb2.LinearLimit(
        name="floor", instrument_ids=["I0"], coefficients=[1.0], lower=0.9
    )
    tight = joint_request(
        portfolio_id, matrix_id, limits=limits_pb2.Limits(joint=Joint(linear=[floor]))
    )
    found = await refusal(joint_client.size(tight))
    assert (found.code, found.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "INFEASIBLE_LIMITS",
    )
    assert "floor" in found.message
    assert await joint_client.counts(portfolio_id) == (0, 0)


async def test_a_book_where_nothing_may_be_held_is_zero_not_an_error(joint_client: Client) -> None:
    portfolio_id, matrix_id = await ready(joint_client, restricted_instrument_ids=list(INSTRUMENTS))
    decision = await joint_client.size(joint_request(portfolio_id, matrix_id))
    assert not any(decision.sizes.lots)


def plain_problem(**given: Any) -> pb.OptimizationProblem:
    """Mean and variance, with a stated covariance, a binding gross limit and a binding bound."""
    given.setdefault("mean", np.linspace(0.02, 0.01, 8))
    given.setdefault("gross_max", 0.9)
    made = problem(
        "MEAN_VARIANCE",
        scenarios=None,
        covariance=covariance(np.cov(RETURNS.T)),
        weight_max=[0.15, *[1.0] * 7],
        **given,
    )
    made.objective.risk_aversion = 40.0
    return made


@pytest.mark.parametrize(
    ("parameter", "step", "moved"),
    [
        (
            pb.SensitivityParameter(mean="I2"),
            1e-6,
            lambda e: plain_problem(mean=np.linspace(0.02, 0.01, 8) + e * (np.arange(8) == 2)),
        ),
        (
            pb.SensitivityParameter(limit="gross_max"),
            1e-5,
            lambda e: plain_problem(gross_max=0.9 + e),
        ),
    ],
    ids=["mean", "limit"],
)
async def test_sensitivities_agree_with_finite_differences(
    joint_client: Client, compiles: list[str], parameter: Any, step: float, moved: Any
) -> None:
    answer = await optimize(joint_client, moved(0.0), sensitivities=[parameter])
    (found,) = answer.sensitivities
    low, high = [(await optimize(joint_client, moved(side * step))).weights for side in (-1, 1)]
    difference = (np.array(high) - np.array(low)) / (2 * step)
    assert np.abs(difference).max() > 0.1
    scale = np.abs(difference).max()
    np.testing.assert_allclose(found.rising, difference, atol=1e-4 * scale)
    np.testing.assert_allclose(found.falling, difference, atol=1e-4 * scale)
    assert compiles == []


def capped_growth(mean: float = 0.0, cap: float = 0.0) -> pb.OptimizationProblem:
    """Growth below a binding CVaR; `mean` is added to the returns of I1, `cap` to the cap."""
    moved = RETURNS + mean * (np.arange(8) == 1)
    return problem(
        limits=Joint(cvar_max=0.01 + cap), scenarios=scenarios(dense={"values": moved.ravel()})
    )


def budgets(total: float = 0.0) -> pb.OptimizationProblem:
    """Risk budgets, all of 0.9 invested."""
    return problem(
        "RISK_BUDGET", budget_min=0.9 + total, budget_max=0.9 + total, weight_max=np.ones(8)
    )


@pytest.mark.parametrize(
    ("parameter", "moved"),
    [
        (pb.SensitivityParameter(mean="I1"), lambda e: capped_growth(mean=e)),
        (pb.SensitivityParameter(limit="cvar_max"), lambda e: capped_growth(cap=e)),
    ],
    ids=["mean", "cap"],
)
async def test_sensitivities_below_a_tail_cap_agree_with_finite_differences(
    joint_client: Client, compiles: list[str], parameter: Any, moved: Any
) -> None:
    answer = await optimize(joint_client, moved(0.0), sensitivities=[parameter])
    (found,), step = answer.sensitivities, 1e-6
    for side, ours in ((1.0, found.rising), (-1.0, found.falling)):
        there = (await optimize(joint_client, moved(side * step))).weights
        difference = side * (np.array(there) - np.array(answer.weights)) / step
        assert np.abs(difference).max() > 0.1
        np.testing.assert_allclose(ours, difference, atol=2e-3 * np.abs(difference).max())
    assert compiles == []


async def test_risk_budgets_scale_with_what_is_invested(
    joint_client: Client, compiles: list[str]
) -> None:
    asked = [pb.SensitivityParameter(limit=name) for name in ("budget_max", "budget_min")]
    answer = await optimize(joint_client, budgets(), sensitivities=asked)
    by_most, by_least = answer.sensitivities
    # As much as allowed is invested, in the same shares; below its least sum there is no book.
    np.testing.assert_allclose(by_most.rising, np.array(answer.weights) / 0.9, rtol=1e-6)
    assert np.isnan(by_most.falling).all()
    assert np.isnan(by_least.rising).all()
    np.testing.assert_allclose(by_least.falling, np.zeros(8), atol=1e-6)
    assert compiles == []


async def test_shadow_prices_agree_with_finite_differences(joint_client: Client) -> None:
    answer = await optimize(joint_client, plain_problem())
    price = next(p for p in answer.certificate.shadow_prices if p.limit == "gross_max")
    step = 1e-4
    ends = [await optimize(joint_client, plain_problem(gross_max=0.9 + s * step)) for s in (-1, 1)]
    low, high = (end.certificate.objective for end in ends)
    assert price.price_low == pytest.approx((high - low) / (2 * step), rel=1e-4)
    assert price.price_high == pytest.approx(price.price_low, rel=1e-6)


async def test_what_cannot_be_varied_is_refused_by_path(joint_client: Client) -> None:
    for parameter in (
        pb.SensitivityParameter(),
        pb.SensitivityParameter(mean="?"),
        pb.SensitivityParameter(limit="turnover_max"),
        pb.SensitivityParameter(covariance=pb.InstrumentPair(first="I0", second="?")),
    ):
        found = await refusal(optimize(joint_client, plain_problem(), sensitivities=[parameter]))
        assert found.fields == {"sensitivities[0]": "NOT_APPLICABLE"}


async def test_whole_lots_keep_the_limits_within_a_stated_gap(joint_client: Client) -> None:
    rules = pb.LotRules(lot_weight=np.full(8, 0.01), names_max=4)
    answer = await optimize(joint_client, plain_problem(), lots=rules)
    lots, weights = np.array(answer.lots.lots), np.array(answer.lots.weights)
    np.testing.assert_allclose(weights, 0.01 * lots, rtol=1e-12)
    assert np.count_nonzero(lots) <= 4
    assert np.abs(weights).sum() <= 0.9 + 1e-9
    assert weights[0] <= 0.15 + 1e-9
    assert answer.lots.objective < answer.certificate.objective
    assert 0.0 <= answer.lots.gap <= answer.lots.shortfall + 1e-12
    wrong = pb.LotRules(lot_weight=[0.0] * 8)
    found = await refusal(optimize(joint_client, plain_problem(), lots=wrong))
    assert "lots.lot_weight[0]" in found.fields
