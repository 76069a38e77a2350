"""How large a position may be, and what is traded towards it from what is held and reserved."""

from uuid import uuid4

import pytest
from positionsizing.v1 import limits_pb2, portfolio_service_pb2, sizing_service_pb2, types_pb2

from tests.server.support.service_client import Client, sizing_request

WEIGHT, NOTIONAL = types_pb2.LIMIT_KIND_WEIGHT_MAX, types_pb2.LIMIT_KIND_NOTIONAL_MAX


async def test_the_tightest_of_weight_money_and_the_instruments_own_holds(client: Client) -> None:
    """Kelly asks for 0.2 of each, and for 0.03 of the last; equity is a million."""
    own = [
        limits_pb2.InstrumentLimit(instrument_id="I1", weight_max=0.02),
        limits_pb2.InstrumentLimit(instrument_id="I2", quantity_max=500.0),
        limits_pb2.InstrumentLimit(instrument_id="I3", notional_max=30_000.0),
        limits_pb2.InstrumentLimit(instrument_id="I4", weight_max=0.5),
    ]
    portfolio_id = await client.ready(
        weight_max=0.08, notional_max=60_000.0, instruments=own, leverage_max=1.0
    )
    names = ["I0", "I1", "I2", "I3", "I4"]
    lines = {"win_probability": [0.7] * 4 + [0.53], "payoff": [1.0] * 5}
    sizes = (await client.size(sizing_request(portfolio_id, names, lines))).sizes
    assert list(sizes.lots) == [6000, 1000, 500, 300, 6000]
    assert list(sizes.binding) == [
        NOTIONAL, WEIGHT, types_pb2.LIMIT_KIND_QUANTITY_MAX, NOTIONAL,
        types_pb2.LIMIT_KIND_UNSPECIFIED,
    ]  # fmt: skip
    assert list(sizes.binding_bound)[:4] == [60_000.0, 0.02, 500.0, 30_000.0]


async def test_what_is_held_and_reserved_is_traded_from(client: Client) -> None:
    """Half of Kelly at 0.6 is a tenth of a million, 10,000 units at 10; at 0.52 a fifth of that."""
    portfolio_id = await client.put_portfolio(960_000.0, {"I0": 4_000.0})
    await client.put_market()
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=1.0, leverage_max=1.0)

    async def traded(p: float) -> tuple[str, int, int]:
        lines = {"win_probability": [p], "payoff": [1.0]}
        decision = await client.size(sizing_request(portfolio_id, ["I0"], lines))
        return decision.decision_id, decision.sizes.lots[0], decision.sizes.trade_lots[0]

    decision_id, lots, trade = await traded(0.6)
    assert (lots, trade) == (10_000, 6_000), "4,000 are held"
    assert (await traded(0.6))[1:] == (10_000, 0), "the rest is reserved"
    settled = sizing_service_pb2.SettleDecisionRequest(
        request_id=str(uuid4()), decision_id=decision_id, close=True
    )
    settled.fills.instrument_ids.append("I0")
    settled.fills.lots.append(2_500)
    settled.fills.price.append(10.0)
    await client.sizing.SettleDecision(settled)
    read = await client.portfolio.GetPortfolio(
        portfolio_service_pb2.GetPortfolioRequest(portfolio_id=portfolio_id)
    )
    assert list(read.portfolio.holdings.quantity) == [6_500.0]
    assert read.portfolio.cash == pytest.approx(935_000.0)
    assert (await traded(0.52))[1:] == (2_000, -4_500), "a smaller view sells what is held"
