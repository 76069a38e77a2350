"""Concurrent calls never spend the same cash or limit; what is not filled is given back."""

import asyncio
from uuid import uuid4

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from positionsizing.v1 import portfolio_service_pb2, sizing_service_pb2, types_pb2

from tests.server.support.service_client import INSTRUMENTS, PRICES, Client, new_id, sizing_request


async def reserved(
    client: Client, portfolio_id: str
) -> tuple[float, dict[str, int], dict[str, int]]:
    """Cash, and lots to buy and to sell, that open reservations hold."""
    answer = await client.portfolio.ListReservations(
        portfolio_service_pb2.ListReservationsRequest(portfolio_id=portfolio_id, page_size=1000)
    )
    buys: dict[str, int] = {}
    sells: dict[str, int] = {}
    for item in answer.reservations:
        for name, count in zip(item.instrument_ids, item.trade_lots_open, strict=True):
            side = buys if count > 0 else sells
            side[name] = side.get(name, 0) + abs(count)
    return sum(item.cash_open for item in answer.reservations), buys, sells


async def test_two_calls_at_once_share_the_limit(client: Client) -> None:
    portfolio_id = await client.ready(weight_max=0.1, leverage_max=1.0)
    requests = [sizing_request(portfolio_id, ["I0"]) for _ in range(2)]
    decisions = await asyncio.gather(*(client.size(request) for request in requests))
    assert sorted(decision.sizes.trade_lots[0] for decision in decisions) == [0, 10_000]
    assert [decision.sizes.lots[0] for decision in decisions] == [10_000, 10_000]


@pytest.mark.parametrize("seed", range(3))
async def test_many_calls_keep_cash_and_limits_together(client: Client, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cash, weight_max, leverage_max, fee = 1e6, 0.2, 0.8, 0.001
    portfolio_id = await client.ready(
        cash, weight_max=weight_max, leverage_max=leverage_max, fee_rate=fee, cash_buffer=0.3
    )

    async def one() -> None:
        chosen = rng.choice(INSTRUMENTS, 3, replace=False).tolist()
        # One view of each instrument throughout: nobody wants less than is reserved already.
        edges = [0.55 + 0.03 * INSTRUMENTS.index(name) for name in chosen]
        lines = {"win_probability": edges, "payoff": [1.0] * 3}
        decision = await client.size(sizing_request(portfolio_id, chosen, lines))
        if rng.random() < 0.3:
            await client.sizing.SettleDecision(
                sizing_service_pb2.SettleDecisionRequest(
                    request_id=str(uuid4()), decision_id=decision.decision_id, close=True
                )
            )

    async def safe() -> None:
        try:
            await one()
        except Exception as error:  # a decision without trades has nothing to settle
            assert "had nothing to trade" in str(error), error

    await asyncio.gather(*(safe() for _ in range(40)))
    held_cash, buys, sells = await reserved(client, portfolio_id)
    bought = [buys.get(name, 0) * PRICES[i] for i, name in enumerate(INSTRUMENTS)]
    assert not sells
    assert max(bought) <= weight_max * cash
    assert sum(bought) <= leverage_max * cash
    assert held_cash == pytest.approx((1.0 + fee) * sum(bought), rel=1e-9)
    assert held_cash <= 0.7 * cash
    assert sum(bought) > 0.5 * 0.7 * cash, "the cash should be nearly used"


async def test_what_is_not_held_is_not_sold(client: Client) -> None:
    """A smaller view on what is only reserved: the sale would be short if the purchase failed."""
    portfolio_id = await client.ready(weight_max=1.0, leverage_max=2.0)
    lines = {"win_probability": [0.6], "payoff": [1.0]}
    first = await client.size(sizing_request(portfolio_id, ["I0"], lines))
    assert first.sizes.trade_lots[0] > 0
    lines = {"win_probability": [0.55], "payoff": [1.0]}
    second = await client.size(sizing_request(portfolio_id, ["I0"], lines))
    assert second.sizes.trade_lots[0] >= 0  # nothing is held, and short is not allowed


async def test_members_of_a_group_share_across_calls(client: Client) -> None:
    await client.put_market()
    group = new_id("group")
    portfolios = [await client.put_portfolio(1e6, group_id=group) for _ in range(4)]
    shared = portfolio_service_pb2.SharedLimits(
        gross_notional_max=300_000.0, instrument_notional_max=120_000.0
    )
    await client.set_limits(
        portfolio_service_pb2.Scope(group_id=group), weight_max=0.1, shared=shared
    )
    requests = [sizing_request(name) for name in portfolios for _ in range(3)]
    await asyncio.gather(*(client.size(request) for request in requests))
    books = []
    for name in portfolios:
        _, buys, sells = await reserved(client, name)
        assert not sells
        books.append(buys)
    each = [
        sum(abs(book.get(name, 0)) * PRICES[i] for book in books)
        for i, name in enumerate(INSTRUMENTS)
    ]
    assert sum(each) <= 300_000.0
    assert max(each) <= 120_000.0
    assert sum(each) > 290_000.0


async def test_what_is_closed_or_expires_can_be_used_again(client: Client) -> None:
    portfolio_id = await client.ready(weight_max=0.1, leverage_max=0.1)
    first = await client.size(sizing_request(portfolio_id, ["I0"]))
    assert first.sizes.trade_lots[0] == 10_000
    blocked = await client.size(sizing_request(portfolio_id, ["I1"]))
    assert blocked.sizes.trade_lots[0] == 0
    assert blocked.sizes.line_status[0] == types_pb2.LINE_STATUS_ZERO
    await client.sizing.SettleDecision(
        sizing_service_pb2.SettleDecisionRequest(
            request_id=str(uuid4()), decision_id=first.decision_id, close=True
        )
    )
    short = sizing_request(portfolio_id, ["I1"], reservation_ttl=Duration(seconds=1))
    brief = await client.size(short)
    assert brief.sizes.trade_lots[0] == 5_000
    for _ in range(100):
        await asyncio.sleep(0.1)
        if (await client.counts(portfolio_id))[1] == 0:
            break
    state = await client.sizing.GetDecision(
        sizing_service_pb2.GetDecisionRequest(decision_id=brief.decision_id)
    )
    assert state.settlement_state == sizing_service_pb2.SETTLEMENT_STATE_EXPIRED
    again = await client.size(sizing_request(portfolio_id, ["I0"]))
    assert again.sizes.trade_lots[0] == 10_000


async def test_no_increase_is_committed_after_a_halt(client: Client) -> None:
    portfolio_id = await client.ready(weight_max=0.5, leverage_max=4.0)
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    halted = asyncio.Event()
    after: list[str] = []

    async def keep_sizing() -> None:
        for _ in range(30):
            late = halted.is_set()
            try:
                await client.size(sizing_request(portfolio_id))
            except Exception as error:
                assert "halted" in str(error), error
                return
            if late:
                after.append("sized")

    async def halt() -> None:
        await asyncio.sleep(0.05)
        await client.portfolio.SetTradingState(
            portfolio_service_pb2.SetTradingStateRequest(
                scope=scope, trading_state=types_pb2.TRADING_STATE_HALTED
            )
        )
        halted.set()

    await asyncio.gather(halt(), *(keep_sizing() for _ in range(8)))
    assert not after
