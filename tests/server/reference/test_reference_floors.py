"""Risk-constrained Kelly of 20 bets with 100 outcomes, asked of a running service.

The numbers are those of Busseti, Ryu and Boyd 2016 (notebook finite_outcome), to all digits in
`tests/reference/rck_reference.json`: the last of the 20 bets is cash, which here is what is not
staked.
"""

import json
import math
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from positionsizing.v1 import limits_pb2, market_service_pb2
from positionsizing.v1 import optimization_service_pb2 as pb

from compute.optimize.execution import JointShapes
from compute.optimize.kernels import joint_kernels
from compute.shapes import KernelRegistry
from storage import embedded
from tests.fixtures_kernels import kept_programs
from tests.server.joint.test_joint import objective_of
from tests.server.support.service_client import Client, started

TABLE = json.loads((Path(__file__).parents[2] / "reference" / "rck_reference.json").read_text())
OUTCOMES = np.array(TABLE["r"]).T[:, :19] - 1.0
CHANCE = np.array(TABLE["pi"])
NAMES = [f"B{i}" for i in range(19)]
FLOOR = 0.7


@pytest_asyncio.fixture(scope="module")
async def wider_client(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Client]:
    """Stubs of an app that solves joint problems of 20 names and 100 scenarios."""
    shapes = JointShapes(assets=(20,), scenarios=(100,))
    programs = KernelRegistry([*kernels.kernels, *joint_kernels(shapes)])
    with kept_programs():
        programs.compile()
    settings = {"joint_assets": shapes.assets, "joint_scenarios": shapes.scenarios}
    folder = tmp_path_factory.mktemp("wider")
    async with (
        started(postgres_server, programs, folder, **settings) as app,
        Client.connected(app.port) as connected,
    ):
        yield connected


async def optimum(client: Client, problem: pb.OptimizationProblem) -> pb.OptimizePortfolioResponse:
    answer = await client.optimization.OptimizePortfolio(
        pb.OptimizePortfolioRequest(problem=problem)
    )
    assert answer.status == pb.OPTIMIZATION_STATUS_OPTIMAL
    return answer


def scenarios() -> market_service_pb2.Matrix:
    return market_service_pb2.Matrix(
        kind=market_service_pb2.MATRIX_KIND_SCENARIOS,
        instrument_ids=NAMES,
        dense={"values": OUTCOMES.ravel()},
        scenario_probability=CHANCE,
    )


def growth(weights: np.ndarray) -> float:
    return float(CHANCE @ np.log1p(OUTCOMES @ weights))


@pytest.mark.parametrize("name", [name for name in TABLE if name.startswith("RCK")])
async def test_risk_constrained_kelly(wider_client: Client, name: str) -> None:
    """Wealth ever falls below 0.7 with less than 0.7^lambda; 0.1 in the second row."""
    row = TABLE[name]
    problem = pb.OptimizationProblem(
        instrument_ids=NAMES, objective=objective_of("LOG_GROWTH"), scenarios=scenarios()
    )
    if row["lam"]:
        problem.limits.wealth_floor = FLOOR
        problem.limits.wealth_floor_probability = FLOOR ** row["lam"]
    answer = await optimum(wider_client, problem)
    np.testing.assert_allclose(answer.weights, row["b"][:19], atol=2e-7)
    assert answer.certificate.objective == pytest.approx(row["growth"], abs=1e-10)
    prices = {p.limit: p.price_low for p in answer.certificate.shadow_prices}
    assert prices.get("drawdown_risk", 0.0) == pytest.approx(row["kappa"], abs=1e-6)
    if row["lam"]:
        moment = CHANCE @ np.power(1.0 + OUTCOMES @ np.array(answer.weights), -row["lam"])
        assert math.log(moment) == pytest.approx(0.0, abs=1e-8), "the bound binds"


@pytest.mark.parametrize("name", [name for name in TABLE if name.startswith("QRCK")])
async def test_its_form_of_second_order(wider_client: Client, name: str) -> None:
    """With a multiplier k it is mean and variance by the second moments, at a risk aversion of
    (1 + k (lambda + 1)) / (1 + k); (1 + lambda) / 2 is always enough, and what it takes where
    cash is left."""
    row = TABLE[name]
    lam, k = row["lam"], row["kappa"]
    second = (OUTCOMES * CHANCE[:, None]).T @ OUTCOMES
    mean = CHANCE @ OUTCOMES

    def problem(aversion: float) -> pb.OptimizationProblem:
        return pb.OptimizationProblem(
            instrument_ids=NAMES,
            objective=objective_of("MEAN_VARIANCE", risk_aversion=aversion),
            mean=mean,
            covariance=market_service_pb2.Matrix(
                kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
                instrument_ids=NAMES,
                dense={"values": second.ravel()},
            ),
            limits=limits_pb2.JointLimits(),
        )

    answer = await optimum(wider_client, problem((1 + k * (lam + 1)) / (1 + k)))
    found = np.array(answer.weights)
    np.testing.assert_allclose(found, row["b"][:19], atol=2e-7)
    assert growth(found) == pytest.approx(row["growth"], abs=1e-8)
    if not lam:
        plain = pb.OptimizationProblem(
            instrument_ids=NAMES, objective=objective_of("QUADRATIC_GROWTH"), scenarios=scenarios()
        )
        same = await optimum(wider_client, plain)
        np.testing.assert_allclose(same.weights, found, atol=2e-7)
        return
    bound = (lam + 1) / 2
    assert bound * found @ second @ found == pytest.approx(mean @ found, abs=1e-8), "it binds"
    enough = np.array((await optimum(wider_client, problem(max(bound, 1.0)))).weights)
    assert bound * enough @ second @ enough <= mean @ enough + 1e-10
