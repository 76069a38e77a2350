"""Sizes that get smaller with time: schedules and old edges, by RPC and from the record."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import (
    market_service_pb2,
    optimization_service_pb2,
    parameter_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
    types_pb2,
)

from tests.server.support.service_client import Client, refusal, sizing_request

WEIGHTS = {"weight_max": 1.0, "leverage_max": 3.0}


async def put(client: Client, portfolio_id: str, **given: Any) -> None:
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id,
            parameters=parameter_service_pb2.SizingParameters(**given),
        )
    )


def row(name: str, multiplier: float | None = None, **given: Any) -> Any:
    return parameter_service_pb2.ScheduleRow(
        name=name, time_zone="America/New_York", multiplier=multiplier, **given
    )


def schedule(*rows: Any) -> Any:
    return parameter_service_pb2.Schedule(rows=rows)


def ago(seconds: float) -> Timestamp:
    out = Timestamp()
    out.FromDatetime(datetime.now(UTC) - timedelta(seconds=seconds))
    return out


async def replayed(client: Client, decision: sizing_pb2.SizingDecision) -> Any:
    return await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=decision.decision_id)
    )


async def test_a_schedule_takes_its_part_and_replays_without_a_clock(client: Client) -> None:
    portfolio_id = await client.ready(**WEIGHTS)
    rows = schedule(row("half", 0.5), row("most", 0.8), row("past", 0.0, dates=["2020-02-28"]))
    await put(client, portfolio_id, schedule=rows)
    decision = await client.size(
        sizing_request(portfolio_id, ["I0"], {"win_probability": [0.6], "payoff": [1.0]})
    )
    # Kelly 0.2, half of it by default, and half of that by the schedule.
    weights = {stage.stage: stage.weight[0] for stage in decision.waterfall.stages}
    assert weights[types_pb2.SIZING_STAGE_KELLY_FRACTION] == pytest.approx(0.05, abs=1e-12)
    assert decision.sizes.lots[0] == 5_000
    told = [(item.name, item.multiplier, item.is_binding) for item in decision.adjustments]
    assert told == [("half", 0.5, True), ("most", 0.8, False)]
    assert "America/New_York" in decision.adjustments[0].explanation
    got = await client.parameter.GetParameters(
        parameter_service_pb2.GetParametersRequest(portfolio_id=portfolio_id)
    )
    assert [r.name for r in got.parameters.schedule.rows] == ["half", "most", "past"]

    await put(client, portfolio_id, schedule=schedule())  # none, whatever others say
    replay = await replayed(client, decision)
    assert replay.lots_equal
    assert list(replay.replayed.adjustments) == list(decision.adjustments)
    now = await client.size(
        sizing_request(portfolio_id, ["I1"], {"win_probability": [0.6], "payoff": [1.0]})
    )
    assert not now.adjustments


@pytest.mark.parametrize("objective", [None, "MEAN_VARIANCE"])
@pytest.mark.parametrize("multiplier", [0.5, None])
async def test_the_joint_method_takes_it_too(
    joint_client: Client, objective: str | None, multiplier: float | None
) -> None:
    """Unset is 0: no position at all."""
    client = joint_client
    portfolio_id = await client.ready(**WEIGHTS)
    matrix = market_service_pb2.Matrix(
        matrix_id=f"cov-{portfolio_id}",
        kind=market_service_pb2.MATRIX_KIND_COVARIANCE,
        instrument_ids=["I0"],
        as_of_time=ago(1),
        dense=market_service_pb2.DenseMatrix(values=[0.04]),
    )
    await client.market.PutMatrix(market_service_pb2.PutMatrixRequest(matrix=matrix))
    given: dict[str, Any] = {}
    if objective:
        given["joint_objective"] = optimization_service_pb2.Objective(
            kind=optimization_service_pb2.OBJECTIVE_KIND_MEAN_VARIANCE, risk_aversion=2.0
        )
    request = sizing_request(
        portfolio_id,
        ["I0"],
        {"win_probability": [], "payoff": [], "expected_return": [0.008], "volatility": [0.2]},
        validate_only=True,
        method=types_pb2.SIZING_METHOD_JOINT,
        covariance_matrix_id=matrix.matrix_id,
    )
    await put(client, portfolio_id, **given)
    before = (await client.size(request)).sizes.lots[0]
    assert before == pytest.approx(10_000, abs=1)
    await put(client, portfolio_id, schedule=schedule(row("r", multiplier)), **given)
    after = (await client.size(request)).sizes.lots[0]
    assert after == pytest.approx((multiplier or 0.0) * before, abs=1)


@pytest.mark.parametrize(
    ("signals", "half"),
    [
        ({"win_probability": [0.6], "payoff": [1.0]}, 5_000),
        # f = (b p - a q) / (a b): linear in the distance to break-even.
        ({"win_probability": [0.5], "payoff": [2.0], "loss_fraction": [1.0]}, 6_250),
        (
            {"win_probability": [], "payoff": [], "expected_return": [0.008], "volatility": [0.2]},
            5_000,
        ),
    ],
)
async def test_old_edges_count_less(client: Client, signals: dict[str, Any], half: int) -> None:
    portfolio_id = await client.ready(**WEIGHTS)
    request = sizing_request(portfolio_id, ["I0"], signals)
    request.signals.as_of_time.CopyFrom(ago(100 * 86400))
    fresh = await client.size(request)
    assert fresh.sizes.lots[0] == pytest.approx(2 * half, abs=1)  # nothing ages unless asked to

    portfolio_id = await client.ready(**WEIGHTS)
    await put(client, portfolio_id, edge_half_life={"seconds": 100 * 86400})
    request = sizing_request(portfolio_id, ["I0"], signals)
    request.signals.as_of_time.CopyFrom(ago(100 * 86400))
    decision = await client.size(request)
    assert decision.sizes.lots[0] == pytest.approx(half, abs=1)
    (aged,) = decision.adjustments
    assert aged.source == sizing_pb2.ADJUSTMENT_SOURCE_EDGE_AGE
    assert aged.multiplier == pytest.approx(0.5, abs=1e-4)
    assert (await replayed(client, decision)).lots_equal


async def test_histories_and_scenarios_age_as_well(client: Client) -> None:
    outcomes = [0.02, -0.01] * 28 + [0.02] * 5
    signals = {
        "win_probability": [], "payoff": [], "history_outcome": outcomes,
        "history_length": [len(outcomes)],
    }  # fmt: skip
    stakes = []
    for age in (0.0, 100 * 86400.0, 1e9):
        portfolio_id = await client.ready(**WEIGHTS)
        await put(
            client, portfolio_id, edge_half_life={"seconds": 100 * 86400},
            confidence_shrinkage=parameter_service_pb2.CONFIDENCE_SHRINKAGE_NONE,
        )  # fmt: skip
        request = sizing_request(portfolio_id, ["I0"], signals, validate_only=True)
        request.signals.as_of_time.CopyFrom(ago(age))
        stakes.append((await client.size(request)).waterfall.stages[0].weight[0])
    assert stakes[1] == pytest.approx(0.5 * stakes[0], rel=1e-4)
    assert stakes[2] == pytest.approx(0.0, abs=1e-9)


async def test_bad_rules_are_told_by_path(client: Client) -> None:
    portfolio_id = await client.ready(**WEIGHTS)

    async def wrong(**given: Any) -> set[tuple[str, str]]:
        refused = await refusal(put(client, portfolio_id, **given))
        assert refused.code.name == "INVALID_ARGUMENT"
        return set(refused.fields.items())

    path = "parameters.schedule.rows[0]"
    for field, reason, values in (
        ("multiplier", "OUT_OF_RANGE", {"multiplier": 1.5}),
        ("multiplier", "NOT_FINITE", {"multiplier": float("nan")}),
        ("name", "MISSING", {"name": ""}),
        ("time_zone", "UNKNOWN_VALUE", {"time_zone": "New York"}),
        ("time_zone", "MISSING", {"time_zone": ""}),
        ("weekdays[0]", "UNKNOWN_VALUE", {"weekdays": [9]}),
        ("dates[1]", "BAD_FORMAT", {"dates": ["2024-02-29", "2023-02-29"]}),
        ("from_time", "BAD_FORMAT", {"from_time": "9:30"}),
        ("to_time", "BAD_FORMAT", {"to_time": "24:01"}),
        ("to_time", "CONTRADICTION", {"from_time": "09:30", "to_time": "09:30"}),
    ):
        fields = {"name": "r", "time_zone": "UTC", **values}
        bad = schedule(parameter_service_pb2.ScheduleRow(**fields))
        assert await wrong(schedule=bad) == {(f"{path}.{field}", reason)}, values
    found = await wrong(edge_half_life={"seconds": 0})
    assert found == {("parameters.edge_half_life", "OUT_OF_RANGE")}

    await put(client, portfolio_id, edge_half_life={"seconds": 3600})
    request = sizing_request(portfolio_id, ["I0"])
    assert "signals.as_of_time" in (await refusal(client.size(request))).fields
    request.signals.as_of_time.CopyFrom(ago(-3600))
    assert "signals.as_of_time" in (await refusal(client.size(request))).fields
    assert await client.counts(portfolio_id) == (0, 0)
