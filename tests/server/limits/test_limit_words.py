"""What is told of a size that did not move, and of names in limits that the market has not."""

from typing import Any

from positionsizing.v1 import limits_pb2, portfolio_service_pb2, types_pb2

from tests.server.support.service_client import INSTRUMENTS, Client, refusal, sizing_request


async def sized(
    client: Client, portfolio_id: str, chance: float, **given: Any
) -> tuple[int, int, int]:
    """Trade, binding and lots of the one line of a decision."""
    signals = {"win_probability": [chance], "payoff": [1.0]}
    request = sizing_request(portfolio_id, INSTRUMENTS[:1], signals, **given)
    sizes = (await client.size(request)).sizes
    return sizes.trade_lots[0], sizes.binding[0], sizes.lots[0]


async def test_a_reserved_order_that_can_not_be_traded_back_is_the_reason(client: Client) -> None:
    portfolio_id = await client.ready(weight_max=0.5, leverage_max=1.0)
    bought, _, lots = await sized(client, portfolio_id, 0.7)
    assert bought == lots > 0
    trade, binding, kept = await sized(client, portfolio_id, 0.52)
    assert (trade, kept) == (0, lots)
    assert binding == types_pb2.LIMIT_KIND_RESERVED


async def test_a_change_of_side_is_told_where_nothing_is_reserved_or_restricted(
    client: Client,
) -> None:
    await client.put_market()
    portfolio_id = await client.put_portfolio(1e6, {INSTRUMENTS[0]: -100})
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    limits: dict[str, Any] = {"weight_max": 0.5, "leverage_max": 1.0, "allow_short": True}
    await client.set_limits(scope, **limits)
    _, binding, lots = await sized(client, portfolio_id, 0.7, validate_only=True)
    assert (binding, lots) == (types_pb2.LIMIT_KIND_FLIP_NOT_ALLOWED, 0)
    await client.set_limits(scope, **limits, restricted_instrument_ids=[INSTRUMENTS[0]])
    _, binding, lots = await sized(client, portfolio_id, 0.7, validate_only=True)
    assert (binding, lots) == (types_pb2.LIMIT_KIND_RESTRICTED, 0)


async def test_names_that_the_market_has_not_are_told_and_not_refused(client: Client) -> None:
    groups = [
        limits_pb2.GroupLimit(name="tech", sector="Technolgy", gross_weight_max=0.1),
        limits_pb2.GroupLimit(name="known", sector="A", gross_weight_max=0.5),
        limits_pb2.GroupLimit(name="own", instrument_ids=["KOO"], gross_weight_max=0.5),
    ]
    portfolio_id = await client.ready(
        weight_max=0.1, leverage_max=1.0, groups=groups, restricted_instrument_ids=["PEPP"]
    )
    decision = await client.size(sizing_request(portfolio_id))
    assert [note for note in decision.notes if "market" in note] == [
        "group 'tech' bounds nothing: the market has not the sector 'Technolgy'",
        "group 'own' bounds nothing: the market has not 'KOO'",
        "restricted, and not in the market: 'PEPP'",
    ]


async def test_names_given_twice_are_refused_by_their_path(client: Client) -> None:
    scope = portfolio_service_pb2.Scope(portfolio_id=await client.put_portfolio())
    group = limits_pb2.GroupLimit(name="g", instrument_ids=["A", "B", "A"], gross_weight_max=0.1)
    refused = await refusal(
        client.set_limits(scope, restricted_instrument_ids=["A", "A"], groups=[group])
    )
    assert set(refused.fields) == {
        "limits.restricted_instrument_ids[1]",
        "limits.groups[0].instrument_ids[2]",
    }
