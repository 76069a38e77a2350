"""Which limits hold whichever part of a decision fills, and which once all of it has."""

from typing import Any
from uuid import uuid4

import pytest
from positionsizing.v1 import (
    limits_pb2,
    portfolio_service_pb2,
    sizing_service_pb2,
    types_pb2,
)

from tests.server.support.kelly_books import METHODS, KellyBook
from tests.server.support.service_client import Client

NET = (types_pb2.LIMIT_KIND_NET_MAX, types_pb2.LIMIT_KIND_NET_MIN)


async def told(book: KellyBook) -> dict[int, tuple[float, bool]]:
    """Value and `only_reserved` of each breach, by kind."""
    found = await book.client.portfolio.GetBreaches(
        portfolio_service_pb2.GetBreachesRequest(portfolio_id=book.portfolio_id)
    )
    return {b.kind: (pytest.approx(b.value), b.only_reserved) for b in found.breaches}


async def settle(book: KellyBook, decision: Any, line: int) -> None:
    """Fills one line, at the market."""
    fills = sizing_service_pb2.Fills(
        instrument_ids=[decision.sizes.instrument_ids[line]],
        lots=[decision.sizes.trade_lots[line]],
        price=[100.0],
    )
    await book.client.sizing.SettleDecision(
        sizing_service_pb2.SettleDecisionRequest(
            request_id=str(uuid4()), decision_id=decision.decision_id, fills=fills
        )
    )


async def cancel(book: KellyBook, decision: Any) -> None:
    """Nothing more of it fills."""
    await book.client.sizing.SettleDecision(
        sizing_service_pb2.SettleDecisionRequest(
            request_id=str(uuid4()), decision_id=decision.decision_id, close=True
        )
    )


@pytest.mark.parametrize("method", METHODS)
async def test_a_leg_of_a_hedge_alone_passes_a_net_limit(joint_client: Client, method: str) -> None:
    """30 % long and 24 % short keep a net of 10 %; either alone does not."""
    book = await KellyBook(joint_client, method, 2).opened(100_000.0, [])
    await book.limited(net_weight_max=0.1, net_weight_min=-0.1, allow_short=True)
    decision = await book.size(0.3, -0.24)
    assert not decision.limits_exceeded
    long, short = decision.sizes.weight
    assert await told(book) == {NET[0]: (long, True), NET[1]: (short, True)}
    await settle(book, decision, 0)
    # The short is still open: filled, it brings the book inside; held alone is beyond.
    assert await told(book) == {NET[0]: (long, False)}
    await settle(book, decision, 1)
    assert await told(book) == {}


@pytest.mark.parametrize("method", METHODS)
async def test_a_purchase_in_the_room_of_a_sale_passes_gross(
    joint_client: Client, method: str
) -> None:
    """Half of equity may be held, and is; a fifth goes from one name to another."""
    book = await KellyBook(joint_client, method, 2).opened(50_000.0, [500.0])
    await book.limited(leverage_max=0.5, weight_max=0.5)
    decision = await book.size(0.3, 0.2)
    assert 0.495 <= sum(decision.sizes.weight) <= 0.5  # the joint optimum is within lots of it
    assert not decision.limits_exceeded
    bought = decision.sizes.weight[1]
    kind = types_pb2.LIMIT_KIND_LEVERAGE_MAX
    # Neither any single instrument nor capital, whichever part fills.
    assert await told(book) == {kind: (0.5 + bought, True)}
    await settle(book, decision, 1)
    assert await told(book) == {kind: (0.5 + bought, False)}
    await settle(book, decision, 0)
    assert await told(book) == {}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "limits", [{"gross_notional_max": 50_000.0}, {"leverage_max": 0.5}, {"group": 0.5}]
)
async def test_what_reverses_a_reserved_purchase_keeps_the_sum_without_it(
    joint_client: Client, method: str, limits: dict[str, float]
) -> None:
    """38 % short; 20 % of it is being bought back and 32 % of another name bought, whole inside.

    Selling what is bought there would be a short of its own, once those orders are cancelled.
    """
    book = await KellyBook(joint_client, method, 2).opened(138_000.0, [-380.0])
    given: dict[str, Any] = {"allow_short": True, "allow_flip": True, **limits}
    if most := given.pop("group", None):
        given["groups"] = [
            limits_pb2.GroupLimit(name="g", instrument_ids=book.names, gross_weight_max=most)
        ]
    await book.limited(**given)
    first = await book.size(-0.18, 0.32)
    assert list(first.sizes.trade_lots) == [pytest.approx(200, abs=1), pytest.approx(320, abs=1)]
    assert not first.limits_exceeded
    second = await book.size(-0.4, first=1)
    assert second.sizes.trade_lots[0] == pytest.approx(-120, abs=1)
    await cancel(book, first)
    await settle(book, second, 0)
    assert await told(book) == {}


@pytest.mark.parametrize("method", METHODS)
async def test_what_reverses_a_reserved_position_needs_a_place(
    joint_client: Client, method: str
) -> None:
    """One position may be there: sold, another bought, and the other sold short before that."""
    book = await KellyBook(joint_client, method, 2).opened(70_000.0, [300.0])
    await book.limited(positions_max=1, allow_short=True, allow_flip=True)
    first = await book.size(0.0, 0.2)
    second = await book.size(-0.2, first=1)
    assert list(second.sizes.trade_lots) == [0]
    await cancel(book, first)
    assert await told(book) == {}
    third = await book.size(-0.2, first=1)
    assert list(third.sizes.trade_lots) == [0], "the other has not been sold"
