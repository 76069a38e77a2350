"""Limits that portfolios of different universes share, reckoned by hand."""

from typing import Any
from uuid import uuid4

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from positionsizing.v1 import market_service_pb2 as market_pb
from positionsizing.v1 import parameter_service_pb2 as parameter_pb
from positionsizing.v1 import portfolio_service_pb2 as pb
from positionsizing.v1 import sizing_pb2, types_pb2
from positionsizing.v1 import sizing_service_pb2 as sizing

from tests.server.portfolios.test_shared import PRICE, Book, size_all
from tests.server.support.desks import Desk
from tests.server.support.service_client import INSTRUMENTS, Client, new_id, refusal, sizing_request

RATE = market_pb.ExchangeRate(from_currency="EUR", to_currency="USD", rate=1.25)


async def group_of(client: Client, *desks: Desk, **shared: Any) -> pb.Scope:
    """Puts limits on the sum of desks that are in one group."""
    (group_id,) = {(await desk.look()).portfolio.group_id for desk in desks}
    scope = pb.Scope(group_id=group_id)
    await client.set_limits(scope, weight_max=1.0, shared=pb.SharedLimits(**shared))
    return scope


async def two(client: Client, **shared: Any) -> tuple[Desk, Desk]:
    """Equities with 100,000 in cash, and crypto that holds 1,000 at 20."""
    group_id = new_id("group")
    equities = await Desk(client).open(100.0, cash=1e5, held=0.0, group_id=group_id)
    crypto = await Desk(client).open(20.0, cash=3e4, held=1000.0, group_id=group_id)
    await group_of(client, equities, crypto, **shared)
    return equities, crypto


async def size_both(client: Client, *desks: Desk, **given: Any) -> list[sizing_pb2.SizingDecision]:
    request = sizing.SizePortfoliosRequest(
        request_id=str(uuid4()),
        requests=[desk.request(request_id="", **given) for desk in desks],
    )
    return list((await client.sizing.SizePortfolios(request)).decisions)


async def test_what_a_member_holds_elsewhere_counts_at_the_newest_of_its_universe(
    client: Client,
) -> None:
    """Of 50,000 that both may have, crypto has 20,000: equities get 30,000, which is 300 lots."""
    equities, crypto = await two(client, gross_notional_max=5e4)
    decision = await equities.size()
    assert list(decision.sizes.trade_lots) == [300]
    assert list(decision.sizes.binding) == [types_pb2.LIMIT_KIND_SHARED_GROSS_NOTIONAL_MAX]
    replay = sizing.ReplayDecisionRequest(decision_id=decision.decision_id)
    assert (await client.sizing.ReplayDecision(replay)).lots_equal
    await crypto.tell(45.0)  # 45,000
    assert list((await equities.size(validate_only=True)).sizes.trade_lots) == [0]
    # What equities reserved counts for crypto, at its feed: 5,000 are left at first.
    await equities.tell(10.0)  # 300 lots are 3,000
    decision = await crypto.size(validate_only=True)
    assert list(decision.sizes.trade_lots) == [(50_000 - 3_000 - 45_000) // 45]


async def test_a_price_of_the_own_snapshot_comes_before_that_of_the_members_universe(
    client: Client,
) -> None:
    group_id = new_id("group")
    crypto = await Desk(client).open(20.0, cash=3e4, held=1000.0, group_id=group_id)
    equities = Desk(client, new_id("N"), crypto.name)
    await equities.open(100.0, 30.0, cash=1e5, held=0.0, group_id=group_id)
    await group_of(client, equities, crypto, gross_notional_max=5e4)
    decision = await equities.size(validate_only=True)
    assert list(decision.sizes.trade_lots) == [200], "crypto counts 30,000 here"


async def test_one_call_for_members_of_two_universes_divides_what_they_share(
    client: Client,
) -> None:
    """Each gets the same part of what it wants: together never beyond."""
    equities, crypto = await two(client, gross_notional_max=8e4)
    decisions = await size_both(client, equities, crypto)
    gained = [decision.sizes.notional[0] for decision in decisions]
    used = gained[0] + gained[1]
    assert used <= 8e4
    assert used > 8e4 - 120.0, "but for a lot of each"
    assert min(decision.sizes.trade_lots[0] for decision in decisions) > 0
    # Alone equities would take the 60,000 that are left, crypto nine tenths of its equity.
    part = (8e4 - 2e4) / (60_000.0 + 25_000.0)
    assert gained[0] == pytest.approx(part * 60_000.0, abs=100.0)
    assert gained[1] == pytest.approx(2e4 + part * 25_000.0, abs=20.0)
    for decision in decisions:
        replay = sizing.ReplayDecisionRequest(decision_id=decision.decision_id)
        assert (await client.sizing.ReplayDecision(replay)).lots_equal


async def test_members_sized_at_snapshots_that_they_name_share_as_well(client: Client) -> None:
    """Two snapshots of one feed in one call: each alone would take all that is left."""
    group_id = new_id("group")
    first = await Desk(client).open(100.0, cash=1e5, held=0.0, group_id=group_id)
    second = Desk(client, first.name, universe_id=first.universe_id)
    await second.open(100.0, cash=1e5, held=0.0, group_id=group_id)
    await group_of(client, first, second, gross_notional_max=6e4, instrument_notional_max=6e4)
    requests = [
        desk.request(request_id="", market_snapshot_id=desk.snapshot_id) for desk in (first, second)
    ]
    assert first.snapshot_id != second.snapshot_id
    request = sizing.SizePortfoliosRequest(request_id=str(uuid4()), requests=requests)
    decisions = (await client.sizing.SizePortfolios(request)).decisions
    assert [list(item.sizes.trade_lots) for item in decisions] == [[300], [300]]


async def test_a_third_member_outside_the_call_counts_from_its_own_universe(
    client: Client,
) -> None:
    group_id = new_id("group")
    equities = await Desk(client).open(100.0, cash=1e5, held=0.0, group_id=group_id)
    crypto = await Desk(client).open(20.0, cash=1e5, held=0.0, group_id=group_id)
    metals = await Desk(client).open(50.0, cash=1e5, held=200.0, group_id=group_id)
    await group_of(client, equities, crypto, metals, gross_notional_max=7e4)
    decisions = await size_both(client, equities, crypto)
    assert [item.sizes.notional[0] for item in decisions] == [30_000.0, 30_000.0]


async def test_a_member_in_euros_counts_at_the_rates_of_its_own_feed(client: Client) -> None:
    """800 units at 20 euros are 16,000 euros: 20,000 dollars."""
    group_id = new_id("group")
    quoted = {"currency": ["EUR"], "exchange_rates": [RATE]}
    equities = await Desk(client).open(100.0, cash=1e5, held=0.0, group_id=group_id)
    await equities.tell(100.0, currency=["USD"], exchange_rates=[RATE])
    other = await Desk(client).open(
        20.0, cash=3e4, held=800.0, group_id=group_id, base_currency="EUR"
    )
    await other.tell(20.0, **quoted)
    await group_of(client, equities, other, gross_notional_max=5e4, currency="USD")
    assert list((await equities.size(validate_only=True)).sizes.trade_lots) == [300]
    await other.tell(20.0, currency=["EUR"])  # and no rate
    refused = await refusal(equities.size(validate_only=True))
    assert refused.reason == "MISSING_PRICE"
    assert "in USD" in refused.message


async def test_what_no_universe_prices_is_refused_with_its_cure(client: Client) -> None:
    equities, crypto = await two(client, gross_notional_max=5e4)
    other = Desk(client)
    await other.tell(3.0)
    await crypto.move(other.universe_id)
    refused = await refusal(equities.size())
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "MISSING_PRICE",
    )
    for words in (crypto.name, crypto.id, other.universe_id, "market_snapshot_id"):
        assert words in refused.message
    whole = Desk(client, equities.name, crypto.name)
    await whole.tell(100.0, 20.0)
    decision = await equities.size(market_snapshot_id=whole.snapshot_id)
    assert list(decision.sizes.trade_lots) == [300]


async def test_prices_elsewhere_that_are_too_old_are_stale(client: Client) -> None:
    equities, crypto = await two(client, gross_notional_max=5e4)
    request = parameter_pb.SetParametersRequest(
        portfolio_id=equities.id,
        parameters=parameter_pb.SizingParameters(market_age_max=Duration(seconds=3600)),
    )
    await client.parameter.SetParameters(request)
    assert list((await equities.size(validate_only=True)).sizes.trade_lots) == [300]
    old = Desk(client, crypto.name)
    await old.tell(20.0, time=Timestamp(seconds=1_700_000_000))
    await crypto.move(old.universe_id)
    refused = await refusal(equities.size(validate_only=True))
    assert refused.reason == "STALE_INPUT"
    assert old.universe_id in refused.message


async def test_a_shared_limit_that_is_passed_elsewhere_is_found(client: Client) -> None:
    equities, crypto = await two(client, gross_notional_max=5e4)
    assert not (await equities.breaches()).breaches
    await crypto.tell(60.0)
    for desk in (equities, crypto):
        (found,) = (await desk.breaches()).breaches
        assert (found.kind, found.value) == (
            types_pb2.LIMIT_KIND_SHARED_GROSS_NOTIONAL_MAX,
            60_000.0,
        )


async def test_a_member_whose_price_jumped_holds_up_the_group(client: Client) -> None:
    """A slipped decimal point would make what it uses small, wherever it is priced."""
    equities, crypto = await two(client, gross_notional_max=5e4)
    same = Desk(client, equities.name, universe_id=equities.universe_id)
    group_id = (await equities.look()).portfolio.group_id
    await same.open(100.0, cash=1e5, held=10.0, group_id=group_id)
    assert list((await equities.size(validate_only=True)).sizes.trade_lots) == [290]
    await crypto.tell(0.2, confirm=False)
    refused = await refusal(equities.size(validate_only=True))
    assert (refused.reason, refused.metadata["instrument_ids"]) == ("PRICE_JUMP", crypto.name)
    assert crypto.id in refused.message
    await crypto.tell(20.0, confirm=False)
    assert list((await equities.size(validate_only=True)).sizes.trade_lots) == [290]
    both = Desk(client, equities.name, crypto.name)
    await both.tell(100.0, 20.0)
    await equities.tell(1.0, confirm=False)
    refused = await refusal(crypto.size(validate_only=True))
    assert (refused.reason, refused.metadata["instrument_ids"]) == ("PRICE_JUMP", equities.name)
    decision = await crypto.size(validate_only=True, market_snapshot_id=both.snapshot_id)
    assert decision.sizes.trade_lots[0] > 0, "the snapshot that is named has prices of all"


@pytest.mark.parametrize("seed", range(3))
async def test_random_books_of_two_universes_never_use_more_than_they_share(
    client: Client, seed: int
) -> None:
    """Feeds that have some instruments in common, and one call for all of the group each time."""
    rng = np.random.default_rng([71, seed])
    group, feeds = new_id("group"), (INSTRUMENTS[:5], INSTRUMENTS[3:])
    universes = [new_id("universe") for _ in feeds]
    for names, universe_id in zip(feeds, universes, strict=True):
        price = [PRICE[name] for name in names]
        columns: dict[str, Any] = {"volatility": [], "average_daily_volume": [], "sector": []}
        await client.put_market(
            instrument_ids=names, price=price, universe_id=universe_id, **columns
        )
    books: dict[str, tuple[dict[str, float], tuple[str, ...]]] = {}
    for member in range(4):
        names, universe_id = feeds[member % 2], universes[member % 2]
        chosen = rng.choice(names, 2, replace=False).tolist()
        held = {name: float(np.round(rng.normal(0.0, 40_000.0) / PRICE[name])) for name in chosen}
        given = {"group_id": group, "universe_id": universe_id}
        books[await client.put_portfolio(1e6, held, **given)] = held, names
    gross_max, instrument_max = rng.uniform(3e5, 1e6), rng.uniform(5e4, 2e5)
    shared = pb.SharedLimits(gross_notional_max=gross_max, instrument_notional_max=instrument_max)
    limits: dict[str, Any] = {"weight_max": 0.3, "allow_short": True, "allow_flip": True}
    await client.set_limits(pb.Scope(group_id=group), **limits, shared=shared)
    outside = next(iter(books))  # is in no call
    traded = 0
    for _ in range(4):
        before = {name: await Book.read(client, name, held) for name, (held, _) in books.items()}
        requests = []
        for name, (_, names) in books.items():
            if name != outside:
                lines = {
                    "side": rng.integers(1, 3, 3),
                    "win_probability": rng.uniform(0.5, 0.65, 3),
                    "payoff": [1.0] * 3,
                }
                asked = rng.choice(names, 3, replace=False).tolist()
                requests.append(sizing_request(name, asked, lines, request_id=""))
        decisions = {one.portfolio_id: one for one in await size_all(client, requests)}
        after = {
            name: book.filled(decisions[name]) if name in decisions else book
            for name, book in before.items()
        }
        used = sum(max(before[name].gross(), after[name].gross()) for name in books)
        least = sum(book.gross() for book in before.values())
        assert used <= max(gross_max, least) * (1.0 + 1e-9)
        for instrument in INSTRUMENTS:
            pairs = [
                (before[name].worst(instrument), after[name].worst(instrument)) for name in books
            ]
            used = sum(map(max, pairs))
            assert used <= max(instrument_max, sum(old for old, _ in pairs)) * (1.0 + 1e-9)
        traded += any(any(one.sizes.trade_lots) for one in decisions.values())
    assert traded
