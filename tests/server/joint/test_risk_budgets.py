"""Books by their risk alone, of stored portfolios: risk budgets and the largest diversification."""

from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from positionsizing.v1 import (
    limits_pb2,
    market_service_pb2,
    optimization_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)

from tests.server.limits.test_limits_on_lots import bets, put_matrix
from tests.server.support.service_client import INSTRUMENTS, Client, refusal

LONG, SHORT = types_pb2.SIDE_LONG, types_pb2.SIDE_SHORT
RISK_BUDGET = optimization_service_pb2.OBJECTIVE_KIND_RISK_BUDGET
MAX_DIVERSIFICATION = optimization_service_pb2.OBJECTIVE_KIND_MAX_DIVERSIFICATION
N = len(INSTRUMENTS)


def covariance(n: int) -> np.ndarray:
    """Of the first n instruments; the first three are those of Roncalli's example (R9)."""
    deviation = np.array([0.30, 0.20, 0.15, 0.25, 0.35, 0.18, 0.22, 0.27])[:n] / 16.0
    correlation = np.full((n, n), 0.3)
    np.fill_diagonal(correlation, 1.0)
    for one, other, value in ((0, 1, 0.8), (0, 2, 0.5), (1, 2, 0.3)):
        correlation[one, other] = correlation[other, one] = value
    return correlation * np.outer(deviation, deviation)


async def asked(
    client: Client,
    objective: optimization_service_pb2.Objective,
    matrix: np.ndarray,
    *,
    sides: list[int] | None = None,
    limits: dict[str, Any] | None = None,
) -> sizing_pb2.SizingDecision:
    """The decision on a new portfolio of a hundred millions whose parameters name the objective."""
    n = len(matrix)
    portfolio_id = await client.ready(1e8, **(limits or {"allow_short": True}))
    parameters = parameter_service_pb2.SizingParameters(joint_objective=objective)
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id, parameters=parameters)
    )
    request = bets(
        list(INSTRUMENTS[:n]),
        [0.5] * n,  # an edge of nothing: it plays no part
        sides or [LONG] * n,
        portfolio_id=portfolio_id,
        method=types_pb2.SIZING_METHOD_JOINT,
        covariance_matrix_id=await put_matrix(client, "COVARIANCE", matrix),
    )
    decision = await client.size(request)
    replay = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert replay.lots_equal
    return decision


def budgets_of(**shares: float) -> list[optimization_service_pb2.RiskBudgetShare]:
    """Budgets by instrument."""
    share = optimization_service_pb2.RiskBudgetShare
    return [share(instrument_id=name, budget=value) for name, value in shares.items()]


async def test_risk_budgets_of_a_stored_portfolio_r9(joint_client: Client) -> None:
    """Roncalli's example, 50, 20 and 30 per cent of the risk; then a third each."""
    named = optimization_service_pb2.Objective(
        kind=RISK_BUDGET, shares=budgets_of(I0=50.0, I1=20.0, I2=30.0)
    )
    sizes = (await asked(joint_client, named, covariance(3))).sizes
    assert list(sizes.weight) == pytest.approx([0.31145051, 0.21899751, 0.46955198], abs=2e-5)
    equal = optimization_service_pb2.Objective(kind=RISK_BUDGET, gross_weight=0.5)
    sizes = (await asked(joint_client, equal, covariance(3))).sizes
    third = np.array([0.19686194, 0.32444083, 0.47869723])
    assert list(sizes.weight) == pytest.approx(0.5 * third, abs=2e-5)


async def test_shorts_have_their_part_of_the_risk(joint_client: Client) -> None:
    matrix = covariance(6)
    sides = [LONG, SHORT, LONG, SHORT, LONG, LONG]
    objective = optimization_service_pb2.Objective(kind=RISK_BUDGET, gross_weight=0.4)
    sizes = (await asked(joint_client, objective, matrix, sides=sides)).sizes
    w = np.array(sizes.weight)
    assert (np.sign(w) == [1, -1, 1, -1, 1, 1]).all()
    part = w * (matrix @ w) / (w @ matrix @ w)
    assert part == pytest.approx(np.full(6, 1 / 6), abs=2e-4)
    assert np.abs(w).sum() == pytest.approx(0.4, abs=1e-4)


async def test_what_a_cap_cuts_goes_to_the_others_and_every_limit_holds(
    joint_client: Client,
) -> None:
    matrix, cap, leverage = covariance(6), 0.12, 0.7
    group = limits_pb2.GroupLimit(name="pair", instrument_ids=["I1", "I2"], gross_weight_max=0.15)
    limits = {"weight_max": cap, "leverage_max": leverage, "groups": [group]}
    objective = optimization_service_pb2.Objective(kind=RISK_BUDGET)
    decision = await asked(joint_client, objective, matrix, limits=limits)
    w = np.array(decision.sizes.weight)
    assert (w <= cap + 1e-12).all()
    assert w.sum() <= leverage + 1e-12
    assert w[1] + w[2] <= 0.15 + 1e-12
    pair = [decision.sizes.binding[place] for place in (1, 2)]
    assert pair == [types_pb2.LIMIT_KIND_GROUP_GROSS_MAX] * 2
    assert "limits keep a line" in decision.notes[0]
    level, x, shares = _unconstrained_level(matrix), cp.Variable(6, nonneg=True), np.full(6, 1 / 6)
    objective = 0.5 * cp.quad_form(x, matrix) - level * (shares @ cp.log(x))
    limited = [x <= cap, cp.sum(x) <= leverage, x[1] + x[2] <= 0.15]
    cp.Problem(cp.Minimize(objective / level), limited).solve(solver=cp.CLARABEL)
    assert w == pytest.approx(x.value, abs=3e-5)  # whole lots


def _unconstrained_level(matrix: np.ndarray) -> float:
    """v'Sv of the book v of equal shares, sum v = 1, by the convex form of Spinu."""
    y = cp.Variable(len(matrix))
    scaled = matrix / np.trace(matrix)
    cp.Problem(cp.Minimize(0.5 * cp.quad_form(y, scaled) - cp.sum(cp.log(y)))).solve(
        solver=cp.CLARABEL
    )
    v = y.value / y.value.sum()
    return float(v @ matrix @ v)


async def test_nets_and_linear_limits_are_inside_the_problem_with_shorts(
    joint_client: Client,
) -> None:
    matrix, signs = covariance(6), np.array([1, -1, 1, -1, 1, 1])
    beta = np.array([1.2, 0.8, 1.0, 0.5, 1.5, 0.9])
    linear = limits_pb2.LinearLimit(name="beta", upper=0.1)
    linear.instrument_ids.extend(INSTRUMENTS[:6])
    linear.coefficients.extend(beta)
    limits = {
        "allow_short": True,
        "net_weight_max": 0.05,
        "joint": limits_pb2.JointLimits(linear=[linear]),
    }
    objective = optimization_service_pb2.Objective(kind=RISK_BUDGET)
    sides = [LONG if sign > 0 else SHORT for sign in signs]
    decision = await asked(joint_client, objective, matrix, sides=sides, limits=limits)
    on_side = matrix * np.outer(signs, signs)
    level, x = _unconstrained_level(on_side), cp.Variable(6, nonneg=True)
    goal = 0.5 * cp.quad_form(x, on_side) - level / 6 * cp.sum(cp.log(x))
    limited = [cp.sum(x) <= 1.0, signs @ x <= 0.05, (beta * signs) @ x <= 0.1]
    cp.Problem(cp.Minimize(goal / level), limited).solve(solver=cp.CLARABEL)
    w = np.array(decision.sizes.weight)
    assert w * signs == pytest.approx(x.value, abs=3e-5)
    told = {types_pb2.LIMIT_KIND_NET_MAX, types_pb2.LIMIT_KIND_LINEAR}
    assert set(decision.sizes.binding) <= told | {types_pb2.LIMIT_KIND_UNSPECIFIED}
    assert set(decision.sizes.binding) & told


async def test_what_is_held_outside_the_batch_takes_room_in_a_group(joint_client: Client) -> None:
    """I3 is held and not sized: its part of the group is gone, and the two sized share the rest."""
    matrix = covariance(4)
    group = limits_pb2.GroupLimit(name="trio", instrument_ids=["I1", "I2", "I3"])
    group.gross_weight_max = 0.5
    await joint_client.put_market()
    portfolio_id = await joint_client.put_portfolio(8e7, {"I3": 2e5})
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await joint_client.set_limits(scope, groups=[group])
    objective = optimization_service_pb2.Objective(kind=RISK_BUDGET, gross_weight=0.8)
    await joint_client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id,
            parameters=parameter_service_pb2.SizingParameters(joint_objective=objective),
        )
    )
    request = bets(
        ["I0", "I1", "I2"],
        [0.5] * 3,
        [LONG] * 3,
        portfolio_id=portfolio_id,
        method=types_pb2.SIZING_METHOD_JOINT,
        covariance_matrix_id=await put_matrix(joint_client, "COVARIANCE", matrix),
    )
    sizes = (await joint_client.size(request)).sizes
    three = matrix[:3, :3]
    level, x = 0.8**2 * _unconstrained_level(three), cp.Variable(3, nonneg=True)
    goal = 0.5 * cp.quad_form(x, three) - level / 3 * cp.sum(cp.log(x))
    limited = [cp.sum(x) <= 0.8, x[1] + x[2] <= 0.5 - 0.2]
    cp.Problem(cp.Minimize(goal / level), limited).solve(solver=cp.CLARABEL)
    assert list(sizes.weight) == pytest.approx(x.value, abs=2e-5)
    kind = types_pb2.LIMIT_KIND_GROUP_GROSS_MAX
    assert [item == kind for item in sizes.binding] == [False, True, True]


@pytest.mark.parametrize("side", [LONG, SHORT])
async def test_a_line_that_a_limit_keeps_off_its_budget_is_told_as_cut(
    joint_client: Client, side: int
) -> None:
    """Independent instruments: alike parts are 1 / s_i, and the calmest may have less of that."""
    matrix = np.diag([0.01, 0.04, 0.09]) / 252
    own = limits_pb2.InstrumentLimit(instrument_id="I0", weight_max=0.3)
    objective = optimization_service_pb2.Objective(kind=RISK_BUDGET)
    decision = await asked(
        joint_client,
        objective,
        matrix,
        sides=[side] * 3,
        limits={"instruments": [own], "allow_short": True},
    )
    sizes = decision.sizes
    sign = 1.0 if side == LONG else -1.0
    free = np.array([3.0, 2.0]) / 11.0
    assert list(sizes.weight) == pytest.approx([0.3 * sign, *(sign * free)], abs=2e-5)
    none = types_pb2.LIMIT_KIND_UNSPECIFIED
    assert list(sizes.binding) == [types_pb2.LIMIT_KIND_WEIGHT_MAX, none, none]
    assert sizes.binding_bound[0] == 0.3
    capped, sized = types_pb2.LINE_STATUS_CAPPED, types_pb2.LINE_STATUS_SIZED
    assert list(sizes.line_status) == [capped, sized, sized]
    assert decision.status == types_pb2.SIZING_STATUS_CAPPED


async def test_nothing_to_measure_risk_by_is_refused(joint_client: Client) -> None:
    portfolio_id = await joint_client.ready()
    objective = optimization_service_pb2.Objective(kind=RISK_BUDGET)
    parameters = parameter_service_pb2.SizingParameters(joint_objective=objective)
    await joint_client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id, parameters=parameters)
    )
    request = bets(
        ["I0"], [0.6], [LONG], portfolio_id=portfolio_id, method=types_pb2.SIZING_METHOD_JOINT
    )
    found = await refusal(joint_client.size(request))
    assert found.reason == "MISSING_MATRIX"
    wrong = optimization_service_pb2.Objective(kind=MAX_DIVERSIFICATION, shares=budgets_of(I0=1.0))
    parameters = parameter_service_pb2.SizingParameters(joint_objective=wrong)
    found = await refusal(
        joint_client.parameter.SetParameters(
            parameter_service_pb2.SetParametersRequest(
                portfolio_id=portfolio_id, parameters=parameters
            )
        )
    )
    assert found.fields == {"parameters.joint_objective.shares": "NOT_APPLICABLE"}


def most_diversified(matrix: np.ndarray, upper: float) -> tuple[np.ndarray, float]:
    """The oracle: least variance of x with s'x = 1, scaled to a sum of 1 (Clarabel)."""
    deviation = np.sqrt(np.diag(matrix))
    x = cp.Variable(len(matrix))
    scaled = matrix / matrix.max()
    limits = [deviation @ x == deviation.mean(), x >= 0, x <= upper * cp.sum(x)]
    cp.Problem(cp.Minimize(cp.quad_form(x, cp.psd_wrap(scaled))), limits).solve(
        solver="CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12
    )
    w = np.asarray(x.value) / x.value.sum()
    return w, float(deviation @ w / np.sqrt(w @ matrix @ w))


@pytest.mark.parametrize("upper", [1.0, 0.2])
async def test_the_largest_diversification_is_that_of_an_oracle(
    joint_client: Client, upper: float
) -> None:
    matrix = covariance(N)
    weights, ratio = most_diversified(matrix, upper)
    problem = optimization_service_pb2.OptimizationProblem(
        instrument_ids=INSTRUMENTS,
        objective=optimization_service_pb2.Objective(kind=MAX_DIVERSIFICATION),
        covariance=market_service_pb2.Matrix(
            kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
            instrument_ids=INSTRUMENTS,
            dense={"values": matrix.ravel()},
        ),
        weight_max=[upper] * N,
        budget_min=1.0,
    )
    request = optimization_service_pb2.OptimizePortfolioRequest(problem=problem)
    answer = await joint_client.optimization.OptimizePortfolio(request)
    assert answer.status == optimization_service_pb2.OPTIMIZATION_STATUS_OPTIMAL
    assert answer.certificate.objective == pytest.approx(ratio, rel=1e-8)
    assert list(answer.weights) == pytest.approx(weights, abs=1e-5)


async def test_the_largest_diversification_of_a_stored_portfolio(joint_client: Client) -> None:
    """On whole lots, inside the caps, of the size asked for; and as large as a leverage lets it."""
    matrix = covariance(N)
    weights, ratio = most_diversified(matrix, 0.2)
    objective = optimization_service_pb2.Objective(kind=MAX_DIVERSIFICATION, gross_weight=0.9)
    limits = {"weight_max": 0.18}
    decision = await asked(joint_client, objective, matrix, limits=limits)
    w = np.array(decision.sizes.weight)
    assert w == pytest.approx(0.9 * weights, abs=1e-4)
    deviation = np.sqrt(np.diag(matrix))
    assert deviation @ w / np.sqrt(w @ matrix @ w) == pytest.approx(ratio, rel=1e-6)
    assert decision.certificate.objective == pytest.approx(ratio, rel=1e-6)
    small = await asked(joint_client, objective, matrix, limits={"leverage_max": 0.5})
    assert np.sum(small.sizes.weight) == pytest.approx(0.5, abs=1e-3)


async def test_of_the_sides_that_are_asked_for(joint_client: Client) -> None:
    """Two names correlated at 0.8, one of them short, spread more than both long do."""
    matrix = covariance(3)
    objective = optimization_service_pb2.Objective(kind=MAX_DIVERSIFICATION, gross_weight=0.5)
    decision = await asked(joint_client, objective, matrix, sides=[LONG, SHORT, LONG])
    w = np.array(decision.sizes.weight)
    assert w[0] > 0 > w[1]
    flipped = np.diag([1.0, -1.0, 1.0])
    weights, _ = most_diversified(flipped @ matrix @ flipped, 1.0)
    assert flipped @ w == pytest.approx(0.5 * weights, abs=1e-4)


async def test_what_plays_no_part_in_diversification_is_refused(client: Client) -> None:
    problem = optimization_service_pb2.OptimizationProblem(
        instrument_ids=INSTRUMENTS[:2],
        objective=optimization_service_pb2.Objective(kind=MAX_DIVERSIFICATION),
        mean=[0.1, 0.1],
        weight_min=[-0.1, 0.0],
        limits=limits_pb2.JointLimits(var_max=0.1),
    )
    request = optimization_service_pb2.OptimizePortfolioRequest(problem=problem)
    found = await refusal(client.optimization.OptimizePortfolio(request))
    assert found.fields == {
        "problem.mean": "NOT_APPLICABLE",
        "problem.weight_min[0]": "NOT_APPLICABLE",
        "problem.limits.var_max": "NOT_APPLICABLE",
    }
