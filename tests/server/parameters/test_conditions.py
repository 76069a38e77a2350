"""Market conditions through the RPC: what they do to sizes, and what of them is refused."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import (
    condition_service_pb2,
    parameter_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
)

from server.parameters import conditions
from server.parameters.conditions import OBSERVATIONS_MAX
from tests.server.support.service_client import Client, new_id, refusal, sizing_request

EDGE = {"win_probability": [0.6], "payoff": [1.0]}


async def put(client: Client, portfolio_id: str, *rules: Any) -> None:
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(
            portfolio_id=portfolio_id,
            parameters=parameter_service_pb2.SizingParameters(
                condition_rules=parameter_service_pb2.ConditionRules(rules=rules)
            ),
        )
    )


def rule(condition_id: str, **given: Any) -> Any:
    return parameter_service_pb2.ConditionRule(
        **{"name": "calm", "condition_id": condition_id, **given}
    )


async def observe(client: Client, condition_id: str, seconds_ago: float, **given: Any) -> Any:
    time = Timestamp()
    time.FromDatetime(datetime.now(UTC) - timedelta(seconds=seconds_ago))
    seen = condition_service_pb2.Condition(condition_id=condition_id, as_of_time=time, **given)
    request = condition_service_pb2.PutConditionRequest(condition=seen)
    await client.condition.PutCondition(request)
    return request


async def test_a_condition_makes_sizes_smaller_with_hysteresis(client: Client) -> None:
    portfolio_id = await client.ready(weight_max=1.0, leverage_max=3.0)
    name = new_id("turbulence")
    await put(client, portfolio_id, rule(name, enter=0.7, leave=0.3, multiplier=0.5))
    request = sizing_request(portfolio_id, ["I0"], EDGE, validate_only=True)
    assert (await client.size(request)).sizes.lots[0] == 0  # never observed: the tightest
    for ago, value, lots in ((50, 0.5, 10_000), (40, 0.7, 5_000), (30, 0.31, 5_000),
                             (20, 0.3, 10_000), (10, 0.69, 10_000)):  # fmt: skip
        await observe(client, name, ago, value=value)
        decision = await client.size(request)
        assert decision.sizes.lots[0] == lots, value
        (item,) = decision.adjustments
        assert item.source == sizing_pb2.ADJUSTMENT_SOURCE_CONDITION
        assert item.name == "calm"

    recorded = await client.size(sizing_request(portfolio_id, ["I0"], EDGE))
    await observe(client, name, 5, value=0.9)
    replay = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=recorded.decision_id)
    )
    assert replay.lots_equal
    assert list(replay.replayed.adjustments) == list(recorded.adjustments)


async def test_what_lies_between_the_thresholds_for_long_changes_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Live and looked back at, and with what decided before the observations that are read."""
    portfolio_id = await client.ready(weight_max=1.0, leverage_max=3.0)
    calm, storm = new_id("calm"), new_id("storm")
    rules = [
        rule(name, name=name, enter=0.7, leave=0.3, multiplier=multiplier)
        for name, multiplier in ((calm, 0.5), (storm, 0.8))
    ]
    await put(client, portfolio_id, *rules)
    for name, first in ((calm, [0.1]), (storm, [0.1, 0.9])):
        values = [*first, *([0.5] * (2 * OBSERVATIONS_MAX))]
        for place, value in enumerate(values):
            await observe(client, name, 2.0 * (len(values) - place), value=value)
    decision = await client.size(sizing_request(portfolio_id, ["I0"], EDGE, validate_only=True))
    multipliers = {item.name: item.multiplier for item in decision.adjustments}
    assert multipliers == {calm: 1.0, storm: 0.8}

    monkeypatch.setattr(conditions, "LOOK_BACK_MAX", OBSERVATIONS_MAX // 2)
    for name in (calm, storm):  # new ones, so that the state is read anew
        await observe(client, name, 0.5, value=0.5)
    decision = await client.size(sizing_request(portfolio_id, ["I0"], EDGE, validate_only=True))
    multipliers = {item.name: item.multiplier for item in decision.adjustments}
    assert multipliers == {calm: 0.5, storm: 0.8}  # too far back: the tightest
    monkeypatch.undo()

    request = parameter_service_pb2.SimulateParametersRequest(portfolio_id=portfolio_id)
    request.parameters.condition_rules.rules.extend(rules)
    request.start_time.FromDatetime(datetime.now(UTC) - timedelta(seconds=1.5 * OBSERVATIONS_MAX))
    request.step.seconds = OBSERVATIONS_MAX // 2
    past = await client.parameter.SimulateParameters(request)
    counted = {item.name: set(item.multiplier) for item in past.rules}
    assert counted == {calm: {1.0}, storm: {0.8}}
    request.as_told = True  # all of it was stored only now
    past = await client.parameter.SimulateParameters(request)
    assert {r.multiplier[0] for r in past.rules} == {0.0}


async def test_an_observation_that_a_rule_cannot_read_counts_as_stale(client: Client) -> None:
    """Kelly of 0.6 at even odds is 0.2, of which half is 10,000 lots of 10."""
    portfolio_id = await client.ready(weight_max=1.0, leverage_max=3.0)
    name = new_id("mixed")
    request = sizing_request(portfolio_id, ["I0"], EDGE, validate_only=True)
    numeric = rule(name, enter=0.7, leave=0.3, multiplier=0.5, stale_multiplier=0.1)
    await put(client, portfolio_id, numeric)
    for ago, given, lots in (
        (50, {"value": 0.8}, 5_000),
        (40, {"category": "X"}, 1_000),
        (30, {"value": 0.5}, 5_000),  # between the thresholds it stays as it was
        (20, {"value": 0.2}, 10_000),
        (10, {"category": "X"}, 1_000),
    ):
        await observe(client, name, ago, **given)
        decision = await client.size(request)
        assert decision.sizes.lots[0] == lots, given
    assert "as a category; the rule needs a number" in decision.adjustments[0].explanation
    await put(client, portfolio_id, rule(name, categories=["X"], multiplier=0.5))
    assert (await client.size(request)).sizes.lots[0] == 5_000
    await observe(client, name, 5, value=0.2)
    assert (await client.size(request)).sizes.lots[0] == 0  # the tightest


async def test_a_condition_of_a_portfolio_that_is_not_there_is_refused(client: Client) -> None:
    request = condition_service_pb2.PutConditionRequest()
    request.condition.condition_id, request.condition.value = "heat", 1.0
    request.condition.portfolio_id = "nowhere"
    told = await refusal(client.condition.PutCondition(request))
    assert (told.code.name, told.reason) == ("NOT_FOUND", "PORTFOLIO_NOT_FOUND")


async def test_categories_and_stale_conditions(client: Client) -> None:
    portfolio_id = await client.ready(weight_max=1.0, leverage_max=3.0)
    name = new_id("regime")
    crisis = rule(name, categories=["CRISIS"], age_max={"seconds": 3600}, stale_multiplier=0.2)
    await put(client, portfolio_id, crisis)
    request = sizing_request(portfolio_id, ["I0"], EDGE, validate_only=True)
    for ago, category, multiplier in (
        (7200.0, "CALM", 0.2), (20.0, "CALM", 1.0), (10.0, "CRISIS", 0.0),
    ):  # fmt: skip
        await observe(client, name, ago, category=category)
        decision = await client.size(request)
        assert decision.adjustments[0].multiplier == multiplier
        assert decision.sizes.lots[0] == 10_000 * multiplier
    listed = await client.condition.ListConditions(condition_service_pb2.ListConditionsRequest())
    assert [c.category for c in listed.conditions if c.condition_id == name] == ["CRISIS"]


async def test_late_and_doubled_observations(client: Client) -> None:
    name = new_id("condition")
    first = await observe(client, name, 60, value=0.5)
    await client.condition.PutCondition(first)  # the same again is no error
    await observe(client, name, 50, value=0.7)
    await client.condition.PutCondition(first)  # nor is it when a newer one has come
    listed = await client.condition.ListConditions(condition_service_pb2.ListConditionsRequest())
    assert [item.value for item in listed.conditions if item.condition_id == name] == [0.7]
    first.condition.value = 0.6
    refused = await refusal(client.condition.PutCondition(first))
    assert (refused.code.name, refused.reason) == ("FAILED_PRECONDITION", "OUT_OF_ORDER")
    refused = await refusal(observe(client, name, 120, value=0.5))
    assert refused.reason == "OUT_OF_ORDER"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"value": float("nan")}, "condition.value"),
        ({"value": 1e10}, "condition.value"),
        ({}, "condition.value"),
        ({"value": 1.0, "category": "A"}, "condition.value"),
        ({"category": " "}, "condition.category"),
        ({"category": "CRISIS "}, "condition.category"),
        ({"value": 1.0, "condition_id": ""}, "condition.condition_id"),
        ({"value": 1.0, "as_of_time": Timestamp(seconds=4_000_000_000)}, "condition.as_of_time"),
    ],
)
async def test_bad_observations_are_refused(
    client: Client, given: dict[str, Any], field: str
) -> None:
    seen = condition_service_pb2.Condition(**{"condition_id": "c", **given})
    request = condition_service_pb2.PutConditionRequest(condition=seen)
    assert set((await refusal(client.condition.PutCondition(request))).fields) == {field}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "enter"),
        ({"enter": 1.0}, "leave"),
        ({"enter": 1.0, "leave": 0.5, "categories": ["A"]}, "enter"),
        ({"categories": ["A", ""]}, "categories[1]"),
        ({"categories": ["A", "CRISIS "]}, "categories[1]"),
        ({"categories": ["A", "B", "A"]}, "categories[2]"),
        ({"enter": 1.0, "leave": 0.5, "multiplier": -0.1}, "multiplier"),
        ({"enter": 1.0, "leave": 0.5, "stale_multiplier": 2.0}, "stale_multiplier"),
        ({"enter": 1.0, "leave": 0.5, "dwell": 101}, "dwell"),
        ({"enter": 1.0, "leave": 0.5, "name": ""}, "name"),
        ({"enter": 1.0, "leave": 0.5, "condition_id": "a b"}, "condition_id"),
        ({"enter": 1.0, "leave": 0.5, "age_max": {"seconds": 0}}, "age_max"),
    ],
)
async def test_bad_rules_are_told_by_path(
    client: Client, given: dict[str, Any], field: str
) -> None:
    portfolio_id = await client.ready()
    refused = await refusal(put(client, portfolio_id, rule(**{"condition_id": "c", **given})))
    assert set(refused.fields) == {f"parameters.condition_rules.rules[0].{field}"}
