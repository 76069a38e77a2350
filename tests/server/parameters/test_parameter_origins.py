"""Each effective parameter with the scope that set it, and what the rules come to now."""

from typing import Any

import pytest
from positionsizing.v1 import condition_service_pb2, sizing_pb2
from positionsizing.v1 import parameter_service_pb2 as pb

from tests.server.support.service_client import Client, new_id, sizing_request


async def put(client: Client, portfolio_id: str, strategy_id: str = "", **given: Any) -> int:
    answer = await client.parameter.SetParameters(
        pb.SetParametersRequest(
            portfolio_id=portfolio_id,
            strategy_id=strategy_id,
            parameters=pb.SizingParameters(**given),
            reason=f"of {portfolio_id} {strategy_id}",
        )
    )
    return answer.change.version


async def test_each_field_names_the_narrowest_scope_that_set_it(client: Client) -> None:
    portfolio_id, strategy_id = await client.ready(), new_id("strategy")
    first = await put(client, portfolio_id, kelly_fraction=0.4, cost_rate=0.001)
    await put(client, "", strategy_id, cost_rate=0.002, prior_wins=3.0)
    both = await put(client, portfolio_id, strategy_id, kelly_fraction=0.2)
    answer = await client.parameter.GetParameters(
        pb.GetParametersRequest(portfolio_id=portfolio_id, strategy_id=strategy_id)
    )
    found = {item.field: item for item in answer.origins}
    assert {name: (o.portfolio_id, o.strategy_id) for name, o in found.items()} == {
        "kelly_fraction": (portfolio_id, strategy_id),
        "cost_rate": (portfolio_id, ""),
        "prior_wins": ("", strategy_id),
    }
    assert found["kelly_fraction"].change.version == both
    assert found["cost_rate"].change.version == first
    assert found["cost_rate"].change.reason == f"of {portfolio_id} "
    assert answer.parameters.kelly_fraction == answer.kelly_fraction_now == 0.2
    assert [item.field for item in answer.origins] == ["kelly_fraction", "cost_rate", "prior_wins"]


async def test_rules_say_what_they_come_to_before_any_decision(client: Client) -> None:
    portfolio_id, condition_id = await client.ready(weight_max=1.0), new_id("turbulence")
    rule = pb.ConditionRule(
        name="calm", condition_id=condition_id, enter=0.7, leave=0.3, multiplier=0.5
    )
    await put(
        client,
        portfolio_id,
        kelly_fraction=0.8,
        drawdown_floor=0.2,
        condition_rules=pb.ConditionRules(rules=[rule]),
    )
    seen = condition_service_pb2.Condition(condition_id=condition_id, value=0.9)
    await client.condition.PutCondition(condition_service_pb2.PutConditionRequest(condition=seen))
    answer = await client.parameter.GetParameters(
        pb.GetParametersRequest(portfolio_id=portfolio_id)
    )
    told = {item.source: (item.multiplier, item.is_binding) for item in answer.adjustments}
    assert told == {
        sizing_pb2.ADJUSTMENT_SOURCE_DRAWDOWN_FLOOR: (pytest.approx(0.8), False),
        sizing_pb2.ADJUSTMENT_SOURCE_CONDITION: (0.5, True),
    }
    assert answer.kelly_fraction_now == pytest.approx(0.4)
    edge = {"win_probability": [0.6], "payoff": [1.0]}
    decision = await client.size(sizing_request(portfolio_id, ["I0"], edge, validate_only=True))
    assert list(decision.adjustments) == list(answer.adjustments)
    general = await client.parameter.GetParameters(pb.GetParametersRequest())
    assert not general.adjustments
