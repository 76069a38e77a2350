"""Kelly against the worst case of an edge, through the RPC: published numbers and properties."""

from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import (
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)
from scipy.optimize import minimize_scalar

from tests.server.limits.test_limits_on_lots import put_matrix
from tests.server.support.service_client import INSTRUMENTS, Client, refusal, sizing_request

pb = parameter_service_pb2
N = len(INSTRUMENTS)
JOINT, CLOSED = types_pb2.SIZING_METHOD_JOINT, types_pb2.SIZING_METHOD_CLOSED_FORM
SETS = ["BOX", "TOTAL_VARIATION", "KL", "WASSERSTEIN", "ELLIPSOID"]


async def book(client: Client, kind: str, radius: float, **more: Any) -> str:
    margin = {"margin_rate_long": [0.01] * N, "margin_rate_short": [0.01] * N}
    await client.put_market(**margin)
    portfolio_id = await client.put_portfolio(1e9)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, leverage_max=60.0, allow_short=True)
    robust = pb.RobustEdge(set=pb.UncertaintySet.Value(f"UNCERTAINTY_SET_{kind}"), radius=radius)
    given: dict[str, Any] = {
        "kelly_fraction": 1.0,
        "confidence_shrinkage": pb.CONFIDENCE_SHRINKAGE_NONE,
        "robust": robust,
    }
    await client.parameter.SetParameters(
        pb.SetParametersRequest(
            portfolio_id=portfolio_id, parameters=pb.SizingParameters(**(given | more))
        )
    )
    return portfolio_id


async def stake(
    client: Client, portfolio_id: str, signals: dict[str, Any], **given: Any
) -> sizing_pb2.SizingDecision:
    request = sizing_request(portfolio_id, ["I0"], signals, validate_only=True, **given)
    return await client.size(request)


def last(decision: sizing_pb2.SizingDecision) -> float:
    """The weight before limits."""
    names = ("RAW_KELLY", "COST", "ROBUST", "KELLY_FRACTION")
    wanted = [types_pb2.SizingStage.Value(f"SIZING_STAGE_{name}") for name in names]
    return [s.weight[0] for s in decision.waterfall.stages if s.stage in wanted][-1]


@pytest.mark.parametrize(
    ("kind", "radius", "f"),
    [
        ("BOX", 0.02, 0.16),
        ("TOTAL_VARIATION", 0.05, 0.1),
        ("BOX", 0.1, 0.0),
        ("KL", 0.001, 0.1560563420),
        ("KL", 0.005, 0.1014370687),
        ("KL", 0.01, 0.0603377449),
        ("KL", 0.02, 0.0020375268),
        ("WASSERSTEIN", 0.1, 0.1),
        ("ELLIPSOID", 0.1, 2 * (0.6 - 0.1 * 0.24**0.5) - 1),
    ],
)
async def test_a_bet_k9_1_and_k9_2(client: Client, kind: str, radius: float, f: float) -> None:
    portfolio_id = await book(client, kind, radius)
    decision = await stake(client, portfolio_id, {"win_probability": [0.6]})
    assert last(decision) == pytest.approx(f, abs=1e-9)
    assert types_pb2.SIZING_STAGE_ROBUST in [s.stage for s in decision.waterfall.stages]


@pytest.mark.parametrize(
    ("radius", "f"), [(0.001, 2.41662707), (0.01, 1.45514531), (0.02, 0.86883098)]
)
async def test_three_outcomes_k9_3(client: Client, radius: float, f: float) -> None:
    matrix_id = await three_outcomes(client)
    portfolio_id = await book(client, "KL", radius)
    decision = await stake(client, portfolio_id, SCENARIOS, scenario_matrix_id=matrix_id)
    assert decision.waterfall.stages[0].weight[0] == pytest.approx(20 / 7)
    assert last(decision) == pytest.approx(f, abs=1e-7)


SCENARIOS: dict[str, Any] = {"win_probability": [], "payoff": []}


async def three_outcomes(client: Client) -> str:
    """-10 % three times in ten, nothing three times, 15 % four times."""
    returns = np.array([-0.10] * 3 + [0.0] * 3 + [0.15] * 4)
    return await put_matrix(client, "SCENARIOS", np.tile(returns[:, None], N))


@pytest.mark.parametrize("method", [CLOSED, JOINT], ids=["closed form", "joint"])
@pytest.mark.parametrize(("kappa", "share"), [(0.2, 0.6), (0.5, 0.0), (0.7, 0.0)])
async def test_an_ellipsoid_k9_4(
    joint_client: Client, method: int, kappa: float, share: float
) -> None:
    """A Sharpe ratio of 0.5: Kelly of 2.5 times (1 - kappa / 0.5)."""
    portfolio_id = await book(joint_client, "ELLIPSOID", kappa)
    given: dict[str, Any] = {"method": method}
    if method == JOINT:
        given["covariance_matrix_id"] = await put_matrix(
            joint_client, "COVARIANCE", 0.04 * np.eye(N)
        )
    moments = {"expected_return": [0.1], "volatility": [0.2]}
    decision = await stake(joint_client, portfolio_id, SCENARIOS | moments, **given)
    assert decision.sizes.weight[0] == pytest.approx(2.5 * share, abs=1e-6)


GUARANTEE = {"periods": 36.0, "probability": 0.1}
KAPPA, TAU = (0.9 / 3.6) ** 0.5, 35 / 3.6
UNCORRELATED = pb.RobustEdge(set=pb.UNCERTAINTY_SET_UNCORRELATED, **GUARANTEE)


def guaranteed(d: float, s: float) -> float:
    """The stake whose growth over 36 periods falls short with a chance of 0.1 at most."""
    left = d - KAPPA * s
    return max(left, 0.0) / (left**2 + TAU * s**2)


@pytest.mark.parametrize("method", [CLOSED, JOINT], ids=["closed form", "joint"])
async def test_uncorrelated_periods_of_any_distribution_k9_5(
    joint_client: Client, method: int
) -> None:
    portfolio_id = await book(joint_client, "BOX", 0.0, robust=UNCORRELATED)
    given: dict[str, Any] = {"method": method}
    if method == JOINT:
        given["covariance_matrix_id"] = await put_matrix(
            joint_client, "COVARIANCE", 0.0036 * np.eye(N)
        )
    for d, s in ((0.05, 0.06), (0.02, 0.06)):
        moments = {"expected_return": [d], "volatility": [s]}
        decision = await stake(joint_client, portfolio_id, SCENARIOS | moments, **given)
        assert decision.sizes.weight[0] == pytest.approx(guaranteed(d, s), abs=2e-6)
    assert guaranteed(0.05, 0.06) > 0.4
    assert decision.sizes.weight[0] == 0.0


async def test_uncorrelated_bets_and_scenarios(client: Client) -> None:
    portfolio_id = await book(client, "BOX", 0.0, robust=UNCORRELATED)
    bet = {"win_probability": [0.9], "payoff": [0.5], "loss_fraction": [0.4]}
    d, s = 0.9 * 0.5 - 0.1 * 0.4, 0.3 * 0.9
    found = last(await stake(client, portfolio_id, bet))
    assert found == pytest.approx(guaranteed(d, s), rel=1e-9)
    returns = np.array([-0.02, 0.0, 0.03, 0.04, 0.05])
    matrix_id = await put_matrix(client, "SCENARIOS", np.tile(returns[:, None], N))
    decision = await stake(client, portfolio_id, SCENARIOS, scenario_matrix_id=matrix_id)
    expected = guaranteed(float(returns.mean()), float(returns.std()))
    assert last(decision) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("source", ["bet", "moments", "scenarios", "history"])
async def test_stakes_only_shrink_and_the_more_the_larger_the_set(
    client: Client, kind: str, source: str
) -> None:
    signals, given = dict(SCENARIOS), {}
    if source == "scenarios":
        given["scenario_matrix_id"] = await three_outcomes(client)
    elif source == "bet":
        signals |= {"win_probability": [0.6], "payoff": [0.3], "loss_fraction": [0.2]}
    elif source == "moments":
        signals |= {"expected_return": [0.05], "volatility": [0.2]}
    else:
        signals |= {"history_outcome": [0.1] * 7 + [-0.1] * 3, "history_length": [10]}
    stakes = []
    for radius in (0.0, 1e-4, 0.003, 0.01, 0.05, 10.0):
        portfolio_id = await book(client, kind, radius, cost_rate=0.001)
        stakes.append(last(await stake(client, portfolio_id, signals, **given)))
    assert stakes == sorted(stakes, reverse=True)
    assert stakes[0] > stakes[2] > 0.0
    assert stakes[-1] == 0.0


async def test_scenarios_against_a_direct_search(client: Client) -> None:
    """Total variation 0.1: a tenth of all mass moves from the best outcome to the worst."""
    portfolio_id = await book(client, "TOTAL_VARIATION", 0.1)
    matrix_id = await three_outcomes(client)
    decision = await stake(client, portfolio_id, SCENARIOS, scenario_matrix_id=matrix_id)
    x, p = np.array([-0.1, 0.0, 0.15]), np.array([0.4, 0.3, 0.3])
    best = minimize_scalar(
        lambda f: -float(np.log1p(f * x) @ p), bounds=(0, 9.9), method="bounded",
        options={"xatol": 1e-10},
    )  # fmt: skip
    assert last(decision) == pytest.approx(best.x, abs=1e-6)


async def test_the_joint_method_shrinks_bets_alike(joint_client: Client) -> None:
    portfolio_id = await book(joint_client, "BOX", 0.05)
    decision = await stake(joint_client, portfolio_id, {"win_probability": [0.6]}, method=JOINT)
    assert decision.sizes.weight[0] == pytest.approx(0.1, abs=1e-5)


@pytest.mark.parametrize(
    "robust", [pb.RobustEdge(set=pb.UNCERTAINTY_SET_KL, radius=0.01), UNCORRELATED]
)
async def test_robust_decisions_replay(client: Client, robust: pb.RobustEdge) -> None:
    portfolio_id = await book(client, "KL", 0.01, robust=robust)
    matrix_id = await three_outcomes(client)
    request = sizing_request(portfolio_id, ["I0"], SCENARIOS, scenario_matrix_id=matrix_id)
    decision = await client.size(request)
    replay = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert replay.lots_equal
    stored = await client.parameter.GetParameters(
        pb.GetParametersRequest(portfolio_id=portfolio_id)
    )
    assert stored.parameters.robust == robust


async def test_sets_without_a_kind_or_with_a_wrong_radius_are_refused(client: Client) -> None:
    portfolio_id = await client.ready()
    for robust, path, reason in (
        (pb.RobustEdge(radius=0.1), "parameters.robust.set", "UNKNOWN_VALUE"),
        (pb.RobustEdge(set=9, radius=0.1), "parameters.robust.set", "UNKNOWN_VALUE"),  # type: ignore[arg-type]
        (pb.RobustEdge(set=6, periods=9.0), "parameters.robust.probability", "MISSING"),  # type: ignore[arg-type]
        (pb.RobustEdge(set=6, probability=0.1), "parameters.robust.periods", "MISSING"),  # type: ignore[arg-type]
        (
            pb.RobustEdge(set=6, radius=1.0, periods=9.0, probability=0.1),  # type: ignore[arg-type]
            "parameters.robust.radius",
            "NOT_APPLICABLE",
        ),
        (pb.RobustEdge(set=1, periods=9.0), "parameters.robust.periods", "NOT_APPLICABLE"),  # type: ignore[arg-type]
        (
            pb.RobustEdge(set=6, periods=0.5, probability=0.1),  # type: ignore[arg-type]
            "parameters.robust.periods",
            "OUT_OF_RANGE",
        ),
        (pb.RobustEdge(set=1, radius=-0.1), "parameters.robust.radius", "OUT_OF_RANGE"),  # type: ignore[arg-type]
        (pb.RobustEdge(set=1, radius=11.0), "parameters.robust.radius", "OUT_OF_RANGE"),  # type: ignore[arg-type]
    ):
        request = pb.SetParametersRequest(
            portfolio_id=portfolio_id, parameters=pb.SizingParameters(robust=robust)
        )
        found = await refusal(client.parameter.SetParameters(request))
        assert found.fields[path] == reason
