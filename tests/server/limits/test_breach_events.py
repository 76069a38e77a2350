"""LimitBreached: told once an episode, in the transaction that finds it, whatever finds it."""

from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from positionsizing.v1 import (
    events_pb2,
    limits_pb2,
    portfolio_service_pb2,
    sizing_service_pb2,
    types_pb2,
)

from server.app import App
from tests.server.support.service_client import INSTRUMENTS, PRICES, Client, sizing_request

Told = list[tuple[str, str, float, float]]


@pytest.fixture(scope="session")
def app_dsn(app: App) -> str:
    assert app.config.dsn is not None
    return app.config.dsn.get_secret_value()


async def test_a_decision_tells_what_the_market_did(client: Client, app_dsn: str) -> None:
    portfolio_id = await client.ready(weight_max=0.1, leverage_max=1.0)
    held = {"I1": 5_000.0, "I2": 1_000.0}  # 100,000 and 50,000 of a million
    await hold(client, portfolio_id, 850_000.0, held)
    await client.size(_small(portfolio_id))
    assert await _told(app_dsn, portfolio_id) == []
    await client.put_market(price=[*PRICES[:2], 2 * PRICES[2], *PRICES[3:]])
    await client.size(_small(portfolio_id))
    assert await _told(app_dsn, portfolio_id) == []
    await client.put_market(price=[*PRICES[:2], 4 * PRICES[2], *PRICES[3:]])
    decision = await client.size(_small(portfolio_id))
    expected = ("WEIGHT_MAX", "I2", 0.1, 200_000.0 / 1_150_000.0)
    assert _close(await _told(app_dsn, portfolio_id), [expected])
    event = (await breach_events(app_dsn, portfolio_id))[0]
    assert event.found_by == f"decision:{decision.decision_id}"
    await client.size(_small(portfolio_id))
    assert len(await _told(app_dsn, portfolio_id)) == 1, "the same episode"
    await client.put_market()
    await client.size(_small(portfolio_id))
    await client.put_market(price=[*PRICES[:2], 4 * PRICES[2], *PRICES[3:]])
    await client.size(_small(portfolio_id))
    assert len(await _told(app_dsn, portfolio_id)) == 2, "a new episode"
    await client.put_market()


async def test_new_limits_tell_at_once_and_once(client: Client, app_dsn: str) -> None:
    portfolio_id = await client.ready(weight_max=0.5, leverage_max=1.0)
    await hold(client, portfolio_id, 700_000.0, {"I1": 10_000.0, "I5": 500.0})
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(
        scope, weight_max=0.15, leverage_max=0.2, restricted_instrument_ids=["I5"]
    )
    weights = [
        ("WEIGHT_MAX", "I1", 0.15, 0.2),
        ("RESTRICTED", "I5", 0.0, 100_000.0),
        ("LEVERAGE_MAX", "portfolio", 0.2, 0.3),
    ]
    assert _close(await _told(app_dsn, portfolio_id), weights)
    await client.set_limits(scope, weight_max=0.14, leverage_max=0.5)
    assert len(await _told(app_dsn, portfolio_id)) == 3, "still the same episode"
    await client.set_limits(scope, weight_max=0.14, leverage_max=0.25)
    assert len(await _told(app_dsn, portfolio_id)) == 4, "leverage was kept in between"


async def test_limits_of_a_group_reach_its_members(client: Client, app_dsn: str) -> None:
    await client.put_market()
    group = f"desk-{uuid4()}"
    inside = await client.put_portfolio(900_000.0, {"I1": 5_000.0}, group_id=group)
    empty = await client.put_portfolio(900_000.0, group_id=group)
    outside = await client.put_portfolio(900_000.0, {"I1": 5_000.0})
    await client.set_limits(portfolio_service_pb2.Scope(group_id=group), weight_max=0.05)
    assert _close(await _told(app_dsn, inside), [("WEIGHT_MAX", "I1", 0.05, 0.1)])
    assert await _told(app_dsn, empty) == await _told(app_dsn, outside) == []


async def test_holdings_and_fills_tell(client: Client, app_dsn: str) -> None:
    portfolio_id = await client.ready(weight_max=0.1, leverage_max=1.0)
    request = sizing_request(portfolio_id, ["I1"])
    decision = await client.size(request)
    lots = decision.sizes.trade_lots[0]
    assert lots > 0
    # Filled far above the price it was decided at: the cash is gone, and with it equity.
    await client.sizing.SettleDecision(
        sizing_service_pb2.SettleDecisionRequest(
            request_id=str(uuid4()),
            decision_id=decision.decision_id,
            fills=sizing_service_pb2.Fills(instrument_ids=["I1"], lots=[lots], price=[100.0]),
            confirm_prices=True,
        )
    )
    [told] = await _told(app_dsn, portfolio_id)
    assert told[:3] == ("WEIGHT_MAX", "I1", 0.1)
    assert told[3] > 0.1
    await hold(client, portfolio_id, 1e6, {})
    await hold(client, portfolio_id, 0.0, {"I3": 1_000.0})
    found = await _told(app_dsn, portfolio_id)
    assert _close(found[1:], [("WEIGHT_MAX", "I3", 0.1, 1.0)])
    numbers = [event.portfolio_sequence for event in await breach_events(app_dsn, portfolio_id)]
    assert numbers == sorted(set(numbers))


async def test_reservations_count_and_own_decisions_never_breach(
    client: Client, app_dsn: str
) -> None:
    portfolio_id = await client.ready(weight_max=0.1, leverage_max=0.35)
    for _ in range(3):
        await client.size(sizing_request(portfolio_id, INSTRUMENTS))
    assert await _told(app_dsn, portfolio_id) == []
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=0.1, leverage_max=0.2)
    [told] = await _told(app_dsn, portfolio_id)
    assert told[:3] == ("LEVERAGE_MAX", "portfolio", 0.2)
    assert 0.2 < told[3] <= 0.35


async def test_limits_of_a_request_or_a_strategy_are_no_breach(
    client: Client, app_dsn: str
) -> None:
    portfolio_id = await client.ready(weight_max=0.5, leverage_max=1.0)
    await hold(client, portfolio_id, 800_000.0, {"I1": 10_000.0})
    await client.set_limits(portfolio_service_pb2.Scope(strategy_id="tight"), weight_max=0.01)
    await client.size(sizing_request(portfolio_id, ["I1"], strategy_id="tight"))
    await client.size(
        sizing_request(portfolio_id, ["I1"], limits=limits_pb2.Limits(weight_max=0.01))
    )
    assert await _told(app_dsn, portfolio_id) == []


def _small(portfolio_id: str) -> sizing_service_pb2.SizePositionsRequest:
    """A stake far inside the limits."""
    return sizing_request(portfolio_id, ["I0"], {"win_probability": [0.51]})


async def hold(client: Client, portfolio_id: str, cash: float, held: dict[str, float]) -> None:
    holdings = portfolio_service_pb2.Holdings(instrument_ids=held.keys(), quantity=held.values())
    request = portfolio_service_pb2.SetHoldingsRequest(
        portfolio_id=portfolio_id, cash=cash, holdings=holdings
    )
    await client.portfolio.SetHoldings(request)


async def breach_events(dsn: str, portfolio_id: str) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(
        """SELECT payload FROM outbox WHERE portfolio_id = $1 AND topic = 'limit-breached'
        ORDER BY portfolio_sequence""",
        portfolio_id,
    )
    await connection.close()
    return [events_pb2.LimitBreached.FromString(row["payload"]) for row in rows]


async def _told(dsn: str, portfolio_id: str) -> Told:
    return [
        (
            types_pb2.LimitKind.Name(event.kind).removeprefix("LIMIT_KIND_"),
            event.limit,
            event.bound,
            event.value,
        )
        for event in await breach_events(dsn, portfolio_id)
    ]


def _close(found: Told, expected: Told) -> bool:
    assert [one[:3] for one in found] == [one[:3] for one in expected]
    return all(abs(a[3] - b[3]) <= 1e-12 * abs(b[3]) for a, b in zip(found, expected, strict=True))
