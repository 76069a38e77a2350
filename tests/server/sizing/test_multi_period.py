"""The method MULTI_PERIOD: lines planned together over a horizon, as a client sees it."""

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

from tests.server.limits.test_limits_on_lots import put_matrix
from tests.server.sizing.test_trading_costs import JOINT, NONE, Parameters, book
from tests.server.support.service_client import PRICES, Client, refusal, sizing_request

PLANNED = types_pb2.SIZING_METHOD_MULTI_PERIOD
NAMES, OTHER = ["I0", "I1", "I2"], "I3"
MEANS = np.array([0.05, 0.06, 0.03])
HALF_LIFE = np.array([5.0, 4.0, 0.0])
COVARIANCE = 0.04 * np.array(
    [[1.0, 0.6, 0.3, 0.4], [0.6, 1.44, 0.2, 0.3], [0.3, 0.2, 0.81, 0.1], [0.4, 0.3, 0.1, 1.0]]
)
RATE, PERIODS = 0.3, 6


def whole_horizon(before: np.ndarray, means: np.ndarray, other: float = 0.0) -> np.ndarray:
    """All weights of all periods from one linear system: no gain is left in any, (H, n).

    Written for itself: risk by the covariance with what is held beside, each trade at
    (1 - r) / r^2 of the variance of its own size, full Kelly.
    """
    n, k = len(means), (1 - RATE) / RATE**2
    own, shared = COVARIANCE[:n, :n], COVARIANCE[:n, 3] * other
    left = np.where(HALF_LIFE > 0, 2.0 ** (-1 / np.maximum(HALF_LIFE, 1e-9)), 1.0)[:n]
    system, right = np.zeros((PERIODS * n, PERIODS * n)), np.zeros(PERIODS * n)
    for t in range(PERIODS):
        now = slice(t * n, (t + 1) * n)
        system[now, now] += own + k * np.diag(np.diag(own))
        right[now] += means * left**t - shared
        if t == 0:
            right[now] += k * np.diag(own) * before
        else:
            was = slice((t - 1) * n, t * n)
            system[was, was] += k * np.diag(np.diag(own))
            system[was, now] -= k * np.diag(np.diag(own))
            system[now, was] -= k * np.diag(np.diag(own))
    return np.linalg.solve(system, right).reshape(PERIODS, n)


async def planned(client: Client, portfolio_id: str, **given: Any) -> sizing_pb2.SizingDecision:
    matrix = np.zeros((8, 8))
    matrix[:4, :4] = COVARIANCE
    matrix[range(4, 8), range(4, 8)] = 0.04
    given.setdefault("covariance_matrix_id", await put_matrix(client, "COVARIANCE", matrix))
    columns = {
        "win_probability": [],
        "payoff": [],
        "expected_return": MEANS,
        "volatility": np.sqrt(np.diag(COVARIANCE)[:3]),
        "edge_half_life_periods": HALF_LIFE,
    }
    signals = columns | given.pop("signals", {})
    given.setdefault("method", PLANNED)
    return await client.size(sizing_request(portfolio_id, NAMES, signals, **given))


def path(decision: sizing_pb2.SizingDecision) -> np.ndarray:
    return np.array([period.weight for period in decision.plan.periods])


async def test_the_plan_is_the_best_of_the_whole_horizon_of_all_names(client: Client) -> None:
    portfolio_id = await book(client, 0.5, trade_rate=RATE, plan_periods=PERIODS)
    decision = await planned(client, portfolio_id)
    expected = whole_horizon(np.array([0.5, 0.0, 0.0]), MEANS)
    np.testing.assert_allclose(path(decision), expected, rtol=0.0, atol=2e-7)
    np.testing.assert_array_equal(path(decision)[0], decision.sizes.weight)
    replay = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )
    assert replay.lots_equal
    np.testing.assert_allclose(path(replay.replayed), path(decision), rtol=0.0, atol=1e-12)


async def test_what_is_held_beside_the_lines_counts(client: Client) -> None:
    """A position that the request doesn't size is hedged by those that it does."""
    market = await client.put_market(margin_rate_long=[0.01] * 8, margin_rate_short=[0.01] * 8)
    assert market
    portfolio_id = await book(client, trade_rate=RATE, plan_periods=PERIODS)
    holdings = portfolio_service_pb2.Holdings(
        instrument_ids=[OTHER], quantity=[0.8 * 1e9 / PRICES[3]]
    )
    await client.portfolio.SetHoldings(
        portfolio_service_pb2.SetHoldingsRequest(
            portfolio_id=portfolio_id, cash=0.2 * 1e9, holdings=holdings
        )
    )
    decision = await planned(client, portfolio_id)
    expected = whole_horizon(np.zeros(3), MEANS, other=0.8)
    np.testing.assert_allclose(path(decision), expected, rtol=0.0, atol=2e-7)
    assert expected[0, 0] < 0.7 * whole_horizon(np.zeros(3), MEANS)[0, 0]


async def test_each_planned_period_is_the_decision_that_will_be_taken(client: Client) -> None:
    """Within a limit that binds: later decisions plan anew from what it left."""
    portfolio_id = await book(client, 0.5, trade_rate=RATE, plan_periods=PERIODS)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, leverage_max=0.9, weight_max=0.52)
    decision = await planned(client, portfolio_id, validate_only=True)
    lots = np.array([period.lots for period in decision.plan.periods])
    weights = path(decision)
    assert any(kind for period in decision.plan.periods for kind in period.binding)
    assert (np.abs(weights) <= 0.52 + 1e-9).all()
    assert (np.abs(weights).sum(axis=1) <= 0.9 + 1e-9).all()
    price = np.array(PRICES[:3])
    left = np.where(HALF_LIFE > 0, 2.0 ** (-1 / np.maximum(HALF_LIFE, 1e-9)), 1.0)
    for t in range(1, 3):
        held = lots[t - 1].astype(float)
        holdings = portfolio_service_pb2.Holdings(
            instrument_ids=[n for n, q in zip(NAMES, held, strict=True) if q],
            quantity=[q for q in held if q],
        )
        await client.portfolio.SetHoldings(
            portfolio_service_pb2.SetHoldingsRequest(
                portfolio_id=portfolio_id, cash=1e9 - held @ price, holdings=holdings
            )
        )
        await client.parameter.SetParameters(_parameters(portfolio_id, PERIODS - t))
        signals = {"expected_return": MEANS * left**t}
        later = await planned(client, portfolio_id, validate_only=True, signals=signals)
        assert list(later.sizes.lots) == lots[t].tolist(), t


def _parameters(portfolio_id: str, periods: int) -> Any:
    return parameter_service_pb2.SetParametersRequest(
        portfolio_id=portfolio_id,
        parameters=Parameters(
            kelly_fraction=1.0, confidence_shrinkage=NONE, trade_rate=RATE, plan_periods=periods
        ),
    )


async def test_a_line_is_never_sized_against_its_side(client: Client) -> None:
    portfolio_id = await book(client, trade_rate=0.9, plan_periods=3)
    matrix = 0.04 * (0.05 * np.eye(8) + 0.95)
    covariance = await put_matrix(client, "COVARIANCE", matrix)
    signals = {"expected_return": [0.05, 0.001, 0.05]}
    decision = await planned(client, portfolio_id, covariance_matrix_id=covariance, signals=signals)
    assert decision.sizes.weight[0] > 0.5
    assert decision.sizes.weight[1] == 0.0


@pytest.mark.parametrize("case", ["periods", "matrix", "edge", "singular"])
async def test_what_is_missing_is_named(client: Client, case: str) -> None:
    given: dict[str, Any] = {"trade_rate": RATE, "plan_periods": PERIODS}
    asked: dict[str, Any] = {}
    reason = {
        "periods": "MISSING_PLAN_PERIODS",
        "matrix": "MISSING_MATRIX",
        "edge": "MISSING_EXPECTED_RETURN",
        "singular": "SINGULAR_COVARIANCE",
    }[case]
    if case == "periods":
        del given["plan_periods"]
    if case == "matrix":
        asked["covariance_matrix_id"] = ""
    if case == "edge":
        columns = {"win_probability": [0.6] * 3, "payoff": [1.0] * 3, "expected_return": []}
        asked["signals"] = columns | {"volatility": [], "edge_half_life_periods": []}
    if case == "singular":
        given["trade_rate"] = 1.0
        matrix = np.full((8, 8), 0.04)
        asked["covariance_matrix_id"] = await put_matrix(client, "COVARIANCE", matrix)
    portfolio_id = await book(client, **given)
    found = await refusal(planned(client, portfolio_id, **asked))
    assert found.reason == reason


async def test_the_example_of_the_page(client: Client) -> None:
    """Two correlated names whose edges fade at different speeds (docs/methods.md)."""
    given = {"kelly_fraction": 0.5, "trade_rate": 0.3, "plan_periods": 6}
    portfolio_id = await book(client, **given)
    matrix = np.diag(np.full(8, 0.0625))
    matrix[0, 0], matrix[0, 1], matrix[1, 0] = 0.04, 0.03, 0.03
    signals = {
        "instrument_ids": ["I0", "I1"],
        "side": [types_pb2.SIDE_LONG] * 2,
        "expected_return": [0.05, 0.04],
        "volatility": [0.2, 0.25],
        "edge_half_life_periods": [10.0, 2.0],
    }
    covariance = await put_matrix(client, "COVARIANCE", matrix)
    decision = await planned(client, portfolio_id, signals=signals, covariance_matrix_id=covariance)
    expected = [[0.166, 0.018], [0.274, 0.008]]
    np.testing.assert_allclose(path(decision)[:2], expected, atol=5e-4)


def joint_horizon(before: np.ndarray, left: np.ndarray, risk_costs: np.ndarray) -> np.ndarray:
    """As `whole_horizon`, the cost of each trade by any matrix; left: of each edge by a period."""
    n, k, own = len(MEANS), (1 - RATE) / RATE**2, COVARIANCE[:3, :3]
    moves = np.eye(PERIODS) - np.eye(PERIODS, k=-1)
    system = np.kron(np.eye(PERIODS), own) + k * np.kron(moves.T @ moves, risk_costs)
    right = (MEANS * left ** np.arange(PERIODS)[:, None]).ravel()
    right[:n] += k * risk_costs @ before
    return np.linalg.solve(system, right).reshape(PERIODS, n)


async def of_joint(client: Client, half_life: np.ndarray) -> sizing_pb2.SizingDecision:
    portfolio_id = await book(client, 0.5, trade_rate=RATE, plan_periods=PERIODS)
    signals = {"edge_half_life_periods": half_life}
    return await planned(client, portfolio_id, signals=signals, method=JOINT)


async def test_a_joint_optimum_is_planned_at_its_best_where_edges_fade_alike(
    joint_client: Client,
) -> None:
    """The whole horizon of correlated names at once, costs by their covariance, edges alike."""
    decision = await of_joint(joint_client, np.full(3, 4.0))
    before = np.array([0.5, 0.0, 0.0])
    expected = joint_horizon(before, np.full(3, 2 ** (-1 / 4)), COVARIANCE[:3, :3])
    assert (expected[-1] > 0.0).all()
    np.testing.assert_allclose(path(decision), expected, rtol=0.0, atol=4e-6)
    assert not any("line by line" in note for note in decision.notes)


async def test_a_joint_plan_of_edges_that_fade_unlike_says_what_it_is(joint_client: Client) -> None:
    decision = await of_joint(joint_client, HALF_LIFE)
    (note,) = (note for note in decision.notes if "line by line" in note)
    assert "MULTI_PERIOD" in note
    left = np.where(HALF_LIFE > 0, 2.0 ** (-1 / np.maximum(HALF_LIFE, 1e-9)), 1.0)
    best = joint_horizon(np.array([0.5, 0.0, 0.0]), left, COVARIANCE[:3, :3])
    assert np.abs(path(decision) - best).max() > 0.01
    # Each line follows its own part of the optimum of today.
    wanted = np.linalg.solve(COVARIANCE[:3, :3], MEANS)
    alone = [
        joint_line(start, aim, part)
        for start, aim, part in zip([0.5, 0.0, 0.0], wanted, left, strict=True)
    ]
    np.testing.assert_allclose(path(decision), np.array(alone).T, rtol=0.0, atol=4e-6)


def joint_line(before: float, wanted: float, left: float) -> np.ndarray:
    """One line by itself over the horizon, in units of its own risk, (H,)."""
    k, moves = (1 - RATE) / RATE**2, np.eye(PERIODS) - np.eye(PERIODS, k=-1)
    right = wanted * left ** np.arange(PERIODS)
    right[0] += k * before
    return np.linalg.solve(np.eye(PERIODS) + k * moves.T @ moves, right)
