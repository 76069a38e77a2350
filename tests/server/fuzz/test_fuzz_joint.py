"""Joint problems put together and mutated at random: an answer or a typed error (R9)."""

import asyncio
import os
import random
from collections import Counter

import grpc
import numpy as np
import pytest
from positionsizing.v1 import limits_pb2, market_service_pb2
from positionsizing.v1 import optimization_service_pb2 as pb

from tests.server.support.mutations import EXPECTED, mutate, scrambled
from tests.server.support.service_client import INSTRUMENTS, Client, refusal_of

FUZZ_JOINT = int(os.environ.get("FUZZ_JOINT", "600"))
AT_ONCE = 8
RETURNS = 0.02 * np.random.default_rng(6).standard_normal((40, 5))
# A problem that the solver gives up is answered with its status, one that takes too long is not.
ALLOWED = {*EXPECTED, grpc.StatusCode.DEADLINE_EXCEEDED}


def maybe(rng: random.Random, *choices: float) -> float | None:
    """One of the choices, half of the time."""
    return rng.choice(choices) if rng.random() < 0.5 else None


def drawn(rng: random.Random) -> pb.OptimizationProblem:
    """A problem whose parts are there or not; it may lack what it needs, or conflict."""
    n = rng.randrange(1, 6)
    ids = INSTRUMENTS[:n]
    kinds = pb.ObjectiveKind.values()
    objective = pb.Objective(kind=rng.choice(kinds), risk_aversion=maybe(rng, 0.0, 0.5, 1.0, 8.0))
    if objective.kind == pb.OBJECTIVE_KIND_COMBINATION:
        for kind in rng.sample(kinds, 2):
            objective.terms.add(weight=rng.choice((0.1, 1.0)), objective=pb.Objective(kind=kind))
    problem = pb.OptimizationProblem(
        instrument_ids=ids,
        objective=objective,
        budget_min=maybe(rng, 0.0, 0.5, 1.0),
        budget_max=maybe(rng, 0.5, 1.0, 2.0),
        gross_max=maybe(rng, 0.3, 1.0),
        turnover_max=maybe(rng, 0.0, 0.2, 1.0),
        drawdown_max=maybe(rng, 1e-3, 0.1) if rng.random() < 0.3 else None,
        cash_return=rng.choice((0.0, 0.001)),
        limits=limits_pb2.JointLimits(
            volatility_max=maybe(rng, 1e-3, 0.02),
            var_max=maybe(rng, 1e-3, 0.05) if rng.random() < 0.3 else None,
            cvar_max=maybe(rng, 1e-3, 0.05) if rng.random() < 0.5 else None,
            cdar_max=maybe(rng, 1e-2, 0.2) if rng.random() < 0.3 else None,
        ),
    )
    if rng.random() < 0.3:
        problem.limits.wealth_floor, problem.limits.wealth_floor_probability = 0.8, 0.1
    for name, values in (
        ("mean", (-0.01, 0.0, 0.01)),
        ("weight_min", (-0.5, 0.0, 0.1)),
        ("weight_max", (0.0, 0.3, 1.0)),
        ("holdings", (0.0, 0.2)),
        ("trade_max", (0.0, 0.1)),
        ("linear_cost", (0.0, 1e-3)),
        ("impact_cost", (0.0, 1e-3)),
    ):
        if rng.random() < 0.3:
            getattr(problem, name).extend(rng.choice(values) for _ in ids)
    if rng.random() < 0.8:
        problem.scenarios.kind = market_service_pb2.MATRIX_KIND_SCENARIOS
        problem.scenarios.instrument_ids.extend(ids)
        problem.scenarios.dense.values.extend(RETURNS[: rng.choice((1, 3, 40)), :n].ravel())
    if rng.random() < 0.3:
        problem.covariance.kind = market_service_pb2.MATRIX_KIND_COVARIANCE
        problem.covariance.instrument_ids.extend(ids)
        problem.covariance.dense.values.extend((rng.choice((0.0, 1e-4)) * np.eye(n)).ravel())
    return problem


def request_of(rng: random.Random) -> tuple[str, object]:
    """A method and a request of it."""
    problem = drawn(rng)
    match rng.randrange(4):
        case 0:
            return "TraceFrontier", pb.TraceFrontierRequest(problem=problem, point_count=3)
        case 1:
            return "ExplainInfeasibility", pb.ExplainInfeasibilityRequest(problem=problem)
    request = pb.OptimizePortfolioRequest(problem=problem)
    if rng.random() < 0.3:
        request.sensitivities.add(mean=INSTRUMENTS[0])
        request.sensitivities.add(limit=rng.choice(("gross_max", "upper[I0]", "budget_max", "?")))
    if rng.random() < 0.3:
        n = len(problem.instrument_ids)
        request.lots.lot_weight.extend(rng.choice((0.01, 0.07)) for _ in range(n))
    return "OptimizePortfolio", request


@pytest.mark.timeout(max(900, FUZZ_JOINT))
async def test_random_problems_get_an_answer_or_a_typed_error(joint_client: Client) -> None:
    rng = random.Random(20261125)
    seen: Counter[str] = Counter()

    async def one() -> None:
        method, request = request_of(rng)
        for _ in range(rng.choice((0, 0, 1, 2))):
            mutate(rng, request)
        if rng.random() < 0.05:
            request = scrambled(rng, request)
        try:
            answer = await getattr(joint_client.optimization, method)(request, timeout=60.0)
            seen[f"{method} answered"] += 1
            check(answer)
        except grpc.aio.AioRpcError as error:
            assert error.code() in ALLOWED, (method, error.details(), str(request)[:3000])
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                assert refusal_of(error).fields, (method, error.details())
            seen[error.code().name] += 1

    for _ in range(0, FUZZ_JOINT, AT_ONCE):
        await asyncio.gather(*(one() for _ in range(AT_ONCE)))
    assert seen["OptimizePortfolio answered"] > FUZZ_JOINT // 10, seen
    assert seen["INVALID_ARGUMENT"] > FUZZ_JOINT // 20, seen


def check(answer: object) -> None:
    """Weights are numbers, and only where the status says so."""
    if not isinstance(answer, pb.OptimizePortfolioResponse):
        return
    solved = answer.status in (pb.OPTIMIZATION_STATUS_OPTIMAL, pb.OPTIMIZATION_STATUS_UNPROVEN)
    assert bool(answer.weights) == solved, answer
    assert np.isfinite(list(answer.weights)).all(), answer
    if answer.status == pb.OPTIMIZATION_STATUS_INFEASIBLE:
        assert answer.explanation.conflict, answer
