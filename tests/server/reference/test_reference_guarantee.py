"""The growth that a whole book keeps whatever the distribution of its returns, along a frontier."""

import cvxpy as cp
import numpy as np
import pytest
from positionsizing.v1 import edge_service_pb2
from positionsizing.v1 import optimization_service_pb2 as pb

from tests.server.joint.test_joint import objective_of
from tests.server.reference.test_reference_portfolios import K5_2, MU, matrix
from tests.server.support.service_client import INSTRUMENTS, Client, refusal

MIN_VARIANCE = objective_of("MIN_VARIANCE")


async def frontier(
    client: Client,
    covariance: np.ndarray,
    mean: list[float],
    guarantee: edge_service_pb2.GrowthGuarantee | None,
    points: int = 200,
    kind: pb.Objective = MIN_VARIANCE,
) -> list[pb.FrontierPoint]:
    problem = pb.OptimizationProblem(
        instrument_ids=INSTRUMENTS[: len(mean)],
        objective=kind,
        covariance=matrix("COVARIANCE", covariance),
        mean=mean,
    )
    request = pb.TraceFrontierRequest(problem=problem, point_count=points, guarantee=guarantee)
    return list((await client.optimization.TraceFrontier(request)).points)


async def test_one_asset_at_a_stake_of_one_k9_5(joint_client: Client) -> None:
    guarantee = edge_service_pb2.GrowthGuarantee(periods=120, probability=0.05)
    points = await frontier(joint_client, np.array([[0.05**2]]), [0.01], guarantee, points=3)
    assert points[-1].weights[0] == pytest.approx(1.0, abs=1e-8)
    assert points[-1].guaranteed_growth == pytest.approx(-0.0347361884, abs=6e-10)
    assert points[0].guaranteed_growth == pytest.approx(0.0, abs=1e-7), "all cash"


@pytest.mark.parametrize(("periods", "probability"), [(120.0, 0.3), (360.0, 0.1)])
async def test_the_best_book_is_that_of_a_cone_program(
    joint_client: Client, periods: float, probability: float
) -> None:
    """Long weights within equity; the frontier has 200 points, and the optimum between two."""
    guarantee = edge_service_pb2.GrowthGuarantee(periods=periods, probability=probability)
    points = await frontier(joint_client, K5_2, MU, guarantee)
    best = max(points, key=lambda point: point.guaranteed_growth)
    kappa = np.sqrt((1 - probability) / (probability * periods))
    tau = (periods - 1) / (probability * periods)
    w, root = cp.Variable(3, nonneg=True), np.linalg.cholesky(K5_2)
    deviation = cp.norm(root.T @ w)
    short = cp.pos(1 - np.array(MU) @ w + kappa * deviation)
    growth = 0.5 - 0.5 * cp.square(short) - 0.5 * tau * cp.square(deviation)
    value = cp.Problem(cp.Maximize(growth), [cp.sum(w) <= 1]).solve(solver=cp.CLARABEL)
    assert value > 1e-4
    assert best.guaranteed_growth == pytest.approx(value, rel=1e-3)
    assert best.guaranteed_growth <= value + 1e-8
    np.testing.assert_allclose(best.weights, w.value, atol=0.01)


async def test_only_where_it_is_said_and_of_a_variance(joint_client: Client) -> None:
    plain = await frontier(joint_client, K5_2, MU, None, points=3)
    assert not any(point.HasField("guaranteed_growth") for point in plain)
    asked = edge_service_pb2.GrowthGuarantee(periods=0.5, probability=0.1)
    refused = await refusal(frontier(joint_client, K5_2, MU, asked, points=3))
    assert refused.fields == {"guarantee.periods": "OUT_OF_RANGE"}
    problem = pb.OptimizationProblem(
        instrument_ids=INSTRUMENTS[:1],
        objective=objective_of("MIN_CVAR"),
        scenarios=matrix("SCENARIOS", np.array([[0.1], [-0.05], [0.02]])),
    )
    asked.periods = 12.0
    request = pb.TraceFrontierRequest(problem=problem, point_count=3, guarantee=asked)
    refused = await refusal(joint_client.optimization.TraceFrontier(request))
    assert refused.fields == {"guarantee": "NOT_APPLICABLE"}
