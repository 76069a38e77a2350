"""A strategy or a request can only tighten: it grants nothing that the book's scopes don't."""

from typing import Any

import pytest
from positionsizing.v1 import limits_pb2, portfolio_service_pb2, sizing_service_pb2

from tests.server.support.service_client import Client, new_id, sizing_request

Scope = portfolio_service_pb2.Scope
GRANTS = {"allow_short": True, "allow_flip": True, "short_margin_rate": 0.0}


def shorts(portfolio_id: str, **given: Any) -> sizing_service_pb2.SizePositionsRequest:
    signals = {"side": [2] * 4, "win_probability": [0.9] * 4}
    return sizing_request(portfolio_id, signals=signals, **given)


async def test_a_request_grants_nothing(client: Client) -> None:
    portfolio_id = await client.ready()
    request = shorts(portfolio_id, limits=limits_pb2.Limits(**GRANTS))
    decision = await client.size(request)
    assert not any(decision.sizes.lots)
    base = shorts(portfolio_id)
    variation = sizing_service_pb2.Variation(limits=limits_pb2.Limits(**GRANTS))
    what_if = sizing_service_pb2.WhatIfRequest(base=base, variations=[variation])
    answer = await client.sizing.WhatIf(what_if)
    assert not any(answer.results[0].sizes.lots)


async def test_a_strategy_grants_nothing(client: Client) -> None:
    portfolio_id, strategy_id = await client.ready(), new_id("strategy")
    await client.set_limits(Scope(strategy_id=strategy_id), **GRANTS)
    decision = await client.size(shorts(portfolio_id, strategy_id=strategy_id))
    assert not any(decision.sizes.lots)


@pytest.mark.parametrize("who", ["strategy", "request"])
async def test_nobody_narrower_lowers_the_margin(client: Client, who: str) -> None:
    """Shorts for 10,000 of cash and no more, whoever says that they cost nothing."""
    portfolio_id = await client.ready(1e4, allow_short=True, leverage_max=50.0)
    given: dict[str, Any] = {}
    if who == "strategy":
        given["strategy_id"] = new_id("strategy")
        await client.set_limits(Scope(strategy_id=given["strategy_id"]), **GRANTS)
    else:
        given["limits"] = limits_pb2.Limits(**GRANTS)
    decision = await client.size(shorts(portfolio_id, **given))
    assert 0.9 < decision.summary.gross_weight_after <= 1.0
    sure = {"win_probability": [0.9] * 4, "payoff": [1.0] * 4, "side": [2] * 4}
    poor = limits_pb2.Limits(short_margin_rate=2.0)
    again = await client.ready(1e4, allow_short=True, leverage_max=50.0)
    decision = await client.size(sizing_request(again, signals=sure, limits=poor))
    assert 0.4 < decision.summary.gross_weight_after <= 0.5  # a dearer rate is taken


async def test_firm_group_and_portfolio_may_grant(client: Client) -> None:
    portfolio_id = await client.ready(leverage_max=1.0, allow_short=True)
    decision = await client.size(shorts(portfolio_id))
    assert all(lots < 0 for lots in decision.sizes.lots)
    off = limits_pb2.Limits(allow_short=False)
    again = await client.ready(leverage_max=1.0, allow_short=True)
    decision = await client.size(shorts(again, limits=off))
    assert not any(decision.sizes.lots)
