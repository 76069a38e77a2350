"""Stakes that share risk, sized together by the closed form, as a client sees it."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from positionsizing.v1 import (
    market_service_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)

from tests.server.support.service_client import Client, new_id, refusal, sizing_request

PENALTY = parameter_service_pb2
Ids = tuple[str, ...]
MEAN, DEVIATION = 0.0002, 0.02
ALONE = 0.5 * MEAN / DEVIATION**2


async def put_covariance(
    client: Client,
    universe: str,
    correlation: np.ndarray,
    ids: Ids | None = None,
    age: timedelta = timedelta(0),
) -> str:
    matrix = market_service_pb2.Matrix(
        matrix_id=new_id("covariance"),
        kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
        instrument_ids=ids or [f"I{i}" for i in range(len(correlation))],
        universe_id=universe,
        dense=market_service_pb2.DenseMatrix(values=(DEVIATION**2 * correlation).ravel()),
    )
    matrix.as_of_time.FromDatetime(datetime.now(UTC) - age)
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    return matrix.matrix_id


def alike(n: int, rho: float) -> np.ndarray:
    return (1 - rho) * np.eye(n) + rho


async def book(
    client: Client, parameters: dict[str, Any], held: dict[str, float] | None = None
) -> str:
    """A portfolio that no limit but leverage stands in the way of."""
    lots = [1e-9] * 8
    snapshot = await client.put_market(snapshot_id=new_id("snapshot"), lot_size=lots)
    assert snapshot
    portfolio_id = await client.put_portfolio(1e6, held)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=5.0, leverage_max=20.0, allow_short=True)
    given = {"confidence_shrinkage": PENALTY.CONFIDENCE_SHRINKAGE_NONE, **parameters}
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id,
            parameters=parameter_service_pb2.SizingParameters(**given),
        )
    )
    return portfolio_id


def signals(n: int, **given: Any) -> dict[str, Any]:
    """n alike returns; the stake of each alone is `ALONE`."""
    columns = {"expected_return": [MEAN] * n, "volatility": [DEVIATION] * n}
    return {"win_probability": [], "payoff": [], **columns, **given}


async def sized(
    client: Client, portfolio_id: str, n: int, lines: dict[str, Any] | None = None, **given: Any
) -> sizing_pb2.SizingDecision:
    ids = [f"I{i}" for i in range(n)]
    columns = signals(n) if lines is None else lines
    return await client.size(sizing_request(portfolio_id, ids, columns, **given))


def stage(decision: sizing_pb2.SizingDecision, name: str) -> list[float]:
    """Weights after a stage; those before it where it changed nothing."""
    last: list[float] = []
    order = ["RAW_KELLY", "COST", "CONFIDENCE", "KELLY_FRACTION", "CORRELATION"]
    for item in decision.waterfall.stages:
        if types_pb2.SizingStage.Name(item.stage).removeprefix("SIZING_STAGE_") in order:
            last = list(item.weight)
    assert name == "CORRELATION"
    return last


async def test_nearly_the_same_name_twice_is_one_name(client: Client) -> None:
    universe = new_id("universe")
    correlation = np.eye(3)
    correlation[0, 1] = correlation[1, 0] = 0.9999
    matrix_id = await put_covariance(client, universe, correlation)
    portfolio_id = await book(client, {"covariance_universe": universe})
    decision = await sized(client, portfolio_id, 3)
    weights = stage(decision, "CORRELATION")
    assert weights[0] + weights[1] == pytest.approx(ALONE, rel=1e-4), "not twice"
    assert weights[2] == pytest.approx(ALONE, rel=1e-6)
    assert list(decision.sizes.weight) == pytest.approx(weights, abs=1e-6)
    assert decision.versions.covariance_matrix_id == matrix_id
    after = np.array(decision.sizes.weight)
    volatility = DEVIATION * np.sqrt(after @ correlation @ after)
    assert decision.risk.before.volatility == 0.0
    assert not decision.risk.before.HasField("diversification_ratio")
    assert decision.risk.after.volatility == pytest.approx(volatility, rel=1e-9)
    assert decision.risk.after.value_at_risk == pytest.approx(2.326347874 * volatility)
    assert decision.risk.after.expected_shortfall == pytest.approx(2.6652142203 * volatility)
    ratio = DEVIATION * after.sum() / volatility
    assert decision.risk.after.diversification_ratio == pytest.approx(ratio, rel=1e-9)
    assert 1.0 < decision.risk.after.effective_bets < 3.0
    stages = decision.waterfall.stages
    total = np.array(stages[0].weight)
    for before, after in itertools.pairwise(stages):
        total += np.array(after.weight) - np.array(before.weight)
    assert (total == np.array(stages[-1].weight)).all()
    # A newer matrix counts from now on, and the decision is replayed with its own.
    await put_covariance(client, universe, np.eye(3))
    apart = await sized(client, portfolio_id, 3, validate_only=True)
    assert stage(apart, "CORRELATION") == pytest.approx([ALONE] * 3, rel=1e-6)
    request = sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    replay = await client.sizing.ReplayDecision(request)
    assert replay.lots_equal
    assert replay.weight_difference_max == 0.0
    # An older one that arrives late does not.
    await put_covariance(client, universe, correlation, age=timedelta(days=1))
    again = await sized(client, portfolio_id, 3, validate_only=True)
    assert stage(again, "CORRELATION") == pytest.approx([ALONE] * 3, rel=1e-6)


@pytest.mark.parametrize(
    ("m", "rho", "each"),
    [(0.02, 0.0, 0.0199920032), (0.2, 0.0, 0.1923076923), (0.2, 0.5, 0.1315789474)],
)
@pytest.mark.parametrize("penalty", ["QUADRATIC", "PROPORTIONAL"])
async def test_two_bets_k4(client: Client, m: float, rho: float, each: float, penalty: str) -> None:
    value = PENALTY.CorrelationPenalty.Value(f"CORRELATION_PENALTY_{penalty}")
    portfolio_id = await book(client, {"correlation_penalty": value, "kelly_fraction": 1.0})
    matrix_id = await put_covariance(client, "", alike(2, rho))
    bets = {"win_probability": [0.5 + m / 2] * 2, "payoff": [1.0] * 2}
    decision = await sized(client, portfolio_id, 2, bets, covariance_matrix_id=matrix_id)
    assert stage(decision, "CORRELATION") == pytest.approx([each] * 2, abs=5e-10)


async def test_a_pair_of_opposite_sides_is_left_alone(client: Client) -> None:
    universe = new_id("universe")
    await put_covariance(client, universe, alike(2, 0.95))
    portfolio_id = await book(client, {"covariance_universe": universe})
    sides = {"side": [types_pb2.SIDE_LONG, types_pb2.SIDE_SHORT]}
    decision = await sized(client, portfolio_id, 2, signals(2, **sides))
    assert stage(decision, "CORRELATION") == pytest.approx([ALONE, -ALONE], rel=1e-6)


async def test_what_is_held_leaves_less_room(client: Client) -> None:
    """2,000 units of I1 at 20 are 1/26 of equity; I0 is nearly the same name."""
    universe = new_id("universe")
    await put_covariance(client, universe, alike(2, 0.9999))
    portfolio_id = await book(client, {"covariance_universe": universe}, {"I1": 2000.0})
    decision = await sized(client, portfolio_id, 1)
    held = 40_000 / 1_040_000
    assert stage(decision, "CORRELATION") == pytest.approx([ALONE - 0.9999 * held], rel=1e-6)


async def test_it_is_off_where_nothing_is_at_hand(client: Client) -> None:
    portfolio_id = await book(client, {})
    matrix_id = await put_covariance(client, "", alike(2, 0.9))
    plain = await sized(client, portfolio_id, 2, validate_only=True)
    named = await sized(client, portfolio_id, 2, covariance_matrix_id=matrix_id, validate_only=True)
    assert list(plain.sizes.weight) == list(named.sizes.weight)
    assert stage(plain, "CORRELATION") == pytest.approx([ALONE] * 2, rel=1e-6)
    universe = new_id("universe")
    await put_covariance(client, universe, alike(2, 0.9))
    none = {"correlation_penalty": PENALTY.CORRELATION_PENALTY_NONE}
    off = await book(client, {"covariance_universe": universe, **none})
    assert stage(await sized(client, off, 2), "CORRELATION") == pytest.approx([ALONE] * 2, rel=1e-6)
    effective = await client.parameter.GetParameters(
        parameter_service_pb2.GetParametersRequest(portfolio_id=portfolio_id)
    )
    assert effective.parameters.correlation_penalty == PENALTY.CORRELATION_PENALTY_NONE


async def test_what_it_lacks_is_named(client: Client) -> None:
    on = {"correlation_penalty": PENALTY.CORRELATION_PENALTY_QUADRATIC}
    portfolio_id = await book(client, on)
    refused = await refusal(sized(client, portfolio_id, 2))
    assert refused.reason == "MISSING_MATRIX"
    matrix_id = await put_covariance(client, "", alike(2, 0.5))
    refused = await refusal(sized(client, portfolio_id, 3, covariance_matrix_id=matrix_id))
    assert refused.reason == "MISSING_COVARIANCE"
    assert "'I2'" in refused.message
    nowhere = await book(client, {"covariance_universe": new_id("nowhere")})
    assert "does not exist" in (await refusal(sized(client, nowhere, 2))).message
    wrong = parameter_service_pb2.SetParametersRequest(
        parameters=parameter_service_pb2.SizingParameters(
            covariance_universe="a b", correlation_penalty=9
        )
    )
    refused = await refusal(client.parameter.SetParameters(wrong))
    assert set(refused.fields) == {
        "parameters.covariance_universe",
        "parameters.correlation_penalty",
    }


async def test_no_line_grows_on_random_books(client: Client) -> None:
    universe = new_id("universe")
    rng = np.random.default_rng(0)
    root = rng.normal(size=(8, 3))
    covariance = root @ root.T + 0.2 * np.eye(8)
    deviation = np.sqrt(np.diag(covariance))
    await put_covariance(client, universe, covariance / np.outer(deviation, deviation))
    with_it = await book(client, {"covariance_universe": universe})
    without = await book(client, {})
    for _ in range(5):
        lines = signals(8, expected_return=rng.uniform(0, 4e-4, 8).tolist())
        lines["side"] = rng.integers(1, 3, 8).tolist()
        ours = stage(await sized(client, with_it, 8, lines), "CORRELATION")
        alone = stage(await sized(client, without, 8, lines), "CORRELATION")
        ratio = np.array(ours) / np.array(alone)
        assert (ratio >= 0.0).all()
        assert (ratio <= 1.0 + 1e-9).all()
        assert ratio.min() < 0.9


async def test_the_joint_method_takes_the_same_default(joint_client: Client) -> None:
    universe = new_id("universe")
    matrix_id = await put_covariance(joint_client, universe, alike(3, 0.5))
    joint = {"method": types_pb2.SIZING_METHOD_JOINT, "covariance_universe": universe}
    portfolio_id = await book(joint_client, joint)
    decision = await sized(joint_client, portfolio_id, 3)
    assert decision.method == types_pb2.SIZING_METHOD_JOINT
    assert decision.versions.covariance_matrix_id == matrix_id
    # c m / (s^2 (1 + (n - 1) rho)): the quadratic at half Kelly.
    assert list(decision.sizes.weight) == pytest.approx([ALONE / 2.0] * 3, rel=1e-4)
    request = sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    assert (await joint_client.sizing.ReplayDecision(request)).lots_equal
