"""Blackouts, schedules and conditions of single instruments, portfolios and strategies, by RPC."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from positionsizing.v1 import (
    condition_service_pb2,
    parameter_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
)

from tests.server.parameters.test_conditions import observe, put, rule
from tests.server.support.service_client import Client, new_id, refusal, sizing_request

EDGES = {"win_probability": [0.6, 0.6], "payoff": [1.0, 1.0]}
FULL = [10_000, 5_000]
"""Lots of I0 and I1 at a Kelly stake of a tenth."""


def asked(portfolio_id: str, **given: Any) -> sizing_service_pb2.SizePositionsRequest:
    """I0 and I1, each with an edge."""
    given.setdefault("validate_only", True)
    return sizing_request(portfolio_id, ["I0", "I1"], EDGES, **given)


def row(name: str, multiplier: float, *ids: str, away: bool = False) -> Any:
    """A span around now, or far from it, in UTC."""
    now = datetime.now(UTC)
    day = now + timedelta(days=3 if away else 0)
    dates = [f"{day + timedelta(days=d):%Y-%m-%d}" for d in (0, 1)]
    return parameter_service_pb2.ScheduleRow(
        name=name, multiplier=multiplier, dates=dates, time_zone="UTC", instrument_ids=ids
    )


async def schedule(client: Client, portfolio_id: str, *rows: Any) -> None:
    parameters = parameter_service_pb2.SizingParameters(
        schedule=parameter_service_pb2.Schedule(rows=rows)
    )
    await client.parameter.SetParameters(
        parameter_service_pb2.SetParametersRequest(portfolio_id=portfolio_id, parameters=parameters)
    )


async def test_a_blackout_of_one_instrument_leaves_the_others(client: Client) -> None:
    portfolio_id = await client.ready(weight_max=1.0, leverage_max=3.0)
    await schedule(
        client, portfolio_id, row("earnings", 0.0, "I0"), row("far", 0.0, "I1", away=True)
    )
    decision = await client.size(asked(portfolio_id))
    assert list(decision.sizes.lots) == [0, FULL[1]]
    (item,) = decision.adjustments
    assert (item.source, item.name) == (sizing_pb2.ADJUSTMENT_SOURCE_SCHEDULE, "earnings")
    assert list(item.line_multipliers) == [0.0, 1.0]
    assert "I0" in item.explanation
    other = sizing_request(portfolio_id, ["I1"], {"win_probability": [0.6], "payoff": [1.0]})
    other.validate_only = True
    assert not (await client.size(other)).adjustments


async def test_the_smallest_multiplier_of_a_line_counts_not_their_product(client: Client) -> None:
    """All lines at 0.8, I0 at 0.5 and at 0.6: I0 has 0.5 and I1 0.8 of its stake."""
    portfolio_id = await client.ready(weight_max=1.0, leverage_max=3.0)
    rows = row("all", 0.8), row("half", 0.5, "I0"), row("more", 0.6, "I0"), row("none", 0.9, "I1")
    await schedule(client, portfolio_id, *rows)
    decision = await client.size(asked(portfolio_id))
    assert list(decision.sizes.lots) == [FULL[0] * 0.5, FULL[1] * 0.8]
    recorded = await client.size(asked(portfolio_id, validate_only=False))
    await schedule(client, portfolio_id)
    replay = await client.sizing.ReplayDecision(
        sizing_service_pb2.ReplayDecisionRequest(decision_id=recorded.decision_id)
    )
    assert replay.lots_equal
    assert list(replay.replayed.adjustments) == list(recorded.adjustments)


async def test_conditions_of_instruments_move_their_own_lines(client: Client) -> None:
    portfolio_id = await client.ready(weight_max=1.0, leverage_max=3.0)
    name = new_id("spread")
    own = parameter_service_pb2.CONDITION_SCOPE_INSTRUMENT
    wide = rule(name, enter=2.0, leave=1.5, multiplier=0.5, scope=own, instrument_ids=["I0", "I1"])
    await put(client, portfolio_id, wide)
    await observe(client, name, 20, value=1.0, instrument_id="I0")
    await observe(client, name, 20, value=9.0)  # the firm's is another
    decision = await client.size(asked(portfolio_id))
    assert list(decision.sizes.lots) == [FULL[0], 0]  # I1 was never observed: the tightest
    await observe(client, name, 10, value=3.0, instrument_id="I1")
    decision = await client.size(asked(portfolio_id))
    assert list(decision.sizes.lots) == [FULL[0], FULL[1] * 0.5]
    assert decision.adjustments[0].explanation.startswith("I1: ")
    listed = await client.condition.ListConditions(condition_service_pb2.ListConditionsRequest())
    found = [(c.instrument_id, c.value) for c in listed.conditions if c.condition_id == name]
    assert found == [("", 9.0), ("I0", 1.0), ("I1", 3.0)]


async def test_conditions_of_portfolios_and_strategies_are_their_own(client: Client) -> None:
    portfolio_id = await client.ready(weight_max=1.0, leverage_max=3.0)
    other = await client.ready(weight_max=1.0, leverage_max=3.0)
    name, strategy = new_id("stress"), new_id("strategy")
    mine = parameter_service_pb2.CONDITION_SCOPE_PORTFOLIO
    for each in (portfolio_id, other):
        await put(client, each, rule(name, categories=["ON"], multiplier=0.5, scope=mine))
        await observe(client, name, 20, category="OFF", portfolio_id=each)
    await observe(client, name, 10, category="ON", portfolio_id=portfolio_id)
    assert (await client.size(asked(portfolio_id))).sizes.lots[0] == FULL[0] * 0.5
    assert (await client.size(asked(other))).sizes.lots[0] == FULL[0]
    traded = parameter_service_pb2.CONDITION_SCOPE_STRATEGY
    await put(client, other, rule(name, categories=["ON"], multiplier=0.5, scope=traded))
    await observe(client, name, 10, category="OFF", strategy_id=strategy)
    assert (await client.size(asked(other, strategy_id=strategy))).sizes.lots[0] == FULL[0]
    assert (await client.size(asked(other))).sizes.lots[0] == 0  # no strategy, no observation


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"scope": parameter_service_pb2.CONDITION_SCOPE_INSTRUMENT}, "instrument_ids"),
        ({"instrument_ids": ["A", "A"]}, "instrument_ids[1]"),
        ({"instrument_ids": [""]}, "instrument_ids[0]"),
        ({"instrument_ids": [f"I{i}" for i in range(1001)]}, "instrument_ids"),
    ],
)
async def test_rules_that_say_too_little_are_refused(
    client: Client, given: dict[str, Any], field: str
) -> None:
    portfolio_id = await client.ready()
    wrong = rule("c", enter=1.0, leave=0.5, **given)
    found = await refusal(put(client, portfolio_id, wrong))
    assert set(found.fields) == {f"parameters.condition_rules.rules[0].{field}"}


async def test_an_observation_is_of_one_thing(client: Client) -> None:
    seen = condition_service_pb2.Condition(
        condition_id="c", value=1.0, portfolio_id="p", instrument_id="i"
    )
    request = condition_service_pb2.PutConditionRequest(condition=seen)
    found = await refusal(client.condition.PutCondition(request))
    assert found.fields == {"condition.instrument_id": "AMBIGUOUS"}
