"""A number that a rule needs and nobody gave is no licence: refused, or a size of 0."""

from typing import Any

import pytest
from positionsizing.v1 import (
    limits_pb2,
    parameter_service_pb2,
    portfolio_service_pb2,
    sizing_pb2,
    sizing_service_pb2,
)

from tests.server.support.service_client import Client, refusal, sizing_request

WIDE = {"weight_max": 1.0, "leverage_max": 100.0}


async def with_parameters(client: Client, portfolio_id: str, **given: Any) -> None:
    request = parameter_service_pb2.SetParametersRequest(
        portfolio_id=portfolio_id,
        parameters=parameter_service_pb2.SizingParameters(**given),
    )
    await client.parameter.SetParameters(request)


def refused_lines(decision: sizing_pb2.SizingDecision) -> dict[int, str]:
    return {error.line: error.reason for error in decision.line_errors}


@pytest.mark.parametrize("rule", ["volatility_target", "risk_budget"])
async def test_no_volatility_is_not_none(client: Client, rule: str) -> None:
    portfolio_id = await client.ready(**WIDE)
    market = await client.put_market(volatility=[0.3, 0.0, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3])
    request = sizing_request(portfolio_id, market_snapshot_id=market, validate_only=True)
    before = await client.size(request)
    assert not before.line_errors  # no rule needs it
    varied = sizing_service_pb2.Variation()
    setattr(varied.parameters, rule, 0.1)
    what_if = sizing_service_pb2.WhatIfRequest(base=request, variations=[varied])
    answer = (await client.sizing.WhatIf(what_if)).results[0]
    assert not answer.sizes.lots
    assert "volatility is 0" in answer.message
    await with_parameters(client, portfolio_id, **{rule: 0.1})
    decision = await client.size(request)
    assert refused_lines(decision) == {1: "MISSING_VOLATILITY"}
    assert decision.sizes.trade_lots[1] == 0
    assert decision.sizes.trade_lots[0] > 0
    request.all_or_nothing = True
    refused = await refusal(client.sizing.SizePositions(request))
    assert refused.fields == {"signals.instrument_ids[1]": "MISSING_VOLATILITY"}
    assert rule in refused.message


async def test_a_stop_of_the_market_beyond_the_price(client: Client) -> None:
    """Refused as the same stop in the signal is."""
    portfolio_id = await client.ready(**WIDE)
    stops = [9.0, 20.0, 60.0, 0.0, 0.0, 0.0, 0.0, 0.0]  # prices 10, 20, 50
    market = await client.put_market(stop_price=stops)
    request = sizing_request(portfolio_id, market_snapshot_id=market, validate_only=True)
    assert not (await client.size(request)).line_errors
    await with_parameters(client, portfolio_id, stop_risk_max=0.01)
    decision = await client.size(request)
    assert refused_lines(decision) == {1: "STOP_ON_WRONG_SIDE", 2: "STOP_ON_WRONG_SIDE"}
    assert 0.0 < decision.sizes.weight[0] <= 0.1
    request.signals.side[0] = 2
    assert refused_lines(await client.size(request))[0] == "STOP_ON_WRONG_SIDE"
    request.signals.stop_price.extend([11.0, 19.0, 49.0, 0.0])  # the signal's own come first
    assert not (await client.size(request)).line_errors


async def test_no_sector_under_a_sector_limit(client: Client) -> None:
    group = limits_pb2.GroupLimit(name="tech", sector="A", gross_weight_max=0.1)
    portfolio_id = await client.ready(groups=[group], **WIDE)
    market = await client.put_market(sector=["A", "", "A", "B", "A", "", "B", "B"])
    request = sizing_request(portfolio_id, market_snapshot_id=market, validate_only=True)
    assert refused_lines(await client.size(request)) == {1: "MISSING_SECTOR"}


async def test_no_volume_under_a_volume_limit(client: Client) -> None:
    portfolio_id = await client.ready(adv_trade_max=0.1, **WIDE)
    volume = [1e6, 0.0, 1e6, 1e6, 1e6, 1e6, 1e6, 1e6]
    market = await client.put_market(average_daily_volume=volume)
    request = sizing_request(portfolio_id, market_snapshot_id=market, validate_only=True)
    decision = await client.size(request)
    assert decision.sizes.trade_lots[1] == 0
    assert decision.sizes.trade_lots[0] > 0


HISTORIES = {
    "losses only": [-0.1] * 20,
    "one loss": [-0.5],
    "nothing ever": [0.0] * 5,
    "losses and nothing": [0.0, -0.2, 0.0],
    "one win": [0.05],
}


@pytest.mark.parametrize("name", HISTORIES)
async def test_a_history_without_an_edge_is_a_size_of_0(client: Client, name: str) -> None:
    """What is held is closed, with the interval: refusing the line would keep the position."""
    outcomes = HISTORIES[name]
    portfolio_id = await client.put_portfolio(1e6, {"I0": 100.0})
    await client.put_market()
    await client.set_limits(portfolio_service_pb2.Scope(portfolio_id=portfolio_id), **WIDE)
    if name != "one win":  # no prior makes an edge where no win was ever seen
        await with_parameters(client, portfolio_id, prior_wins=50.0)
    signals = {"edge_source": [4], "history_outcome": outcomes, "history_length": [len(outcomes)]}
    decision = await client.size(sizing_request(portfolio_id, ["I0"], signals))
    assert not decision.line_errors
    assert decision.sizes.lots[0] == 0
    assert decision.sizes.trade_lots[0] == -100
    assert decision.sizes.weight_low[0] == 0.0
    assert 0.0 <= decision.sizes.weight_high[0] < 1.0e4


async def test_wins_only_lose_the_whole_stake_at_times(client: Client) -> None:
    """20 wins of 10 %: p = 21/22, b = 0.1, a = 1: f = 21/22 - 10/22 = 1/2."""
    portfolio_id = await client.ready(**WIDE)
    await with_parameters(client, portfolio_id, confidence_shrinkage=1, kelly_fraction=1.0)
    signals = {"edge_source": [4], "history_outcome": [0.1] * 20, "history_length": [20]}
    decision = await client.size(sizing_request(portfolio_id, ["I3"], signals))
    assert decision.sizes.weight[0] == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize(
    ("columns", "rule", "reason"),
    [
        ({"volatility": [0.0] + [0.2] * 7}, {"risk_budget": 0.5}, "MISSING_VOLATILITY"),
        ({"sector": ["", *"AABBAAB"]}, {}, "MISSING_SECTOR"),
    ],
)
async def test_what_is_held_counts_and_needs_its_numbers(
    client: Client, columns: dict[str, Any], rule: dict[str, float], reason: str
) -> None:
    """Held I0 has none, and only I1 is asked for."""
    group = limits_pb2.GroupLimit(name="tech", sector="A", gross_weight_max=0.1)
    limits = {"groups": [group]} if reason == "MISSING_SECTOR" else {}
    whole = await client.put_market()
    portfolio_id = await client.put_portfolio(1e6, {"I0": 1_000.0})
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, **limits, **WIDE)
    await with_parameters(client, portfolio_id, **rule)
    market = await client.put_market(**columns)
    edge = {"win_probability": [0.6], "payoff": [1.0]}
    request = sizing_request(
        portfolio_id, ["I1"], edge, market_snapshot_id=whole, validate_only=True
    )
    await client.size(request)
    request.market_snapshot_id = market
    refused = await refusal(client.sizing.SizePositions(request))
    assert refused.reason == reason
    assert "'I0' is held or reserved" in refused.message
