"""Reservations: counted while open, reduced by fills, released, expired; holdings follow fills."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from itertools import count
from uuid import UUID, uuid4

import asyncpg
import numpy as np
import pytest
import pytest_asyncio

from storage.errors import FailedPrecondition, NotFound, RequestIdReused
from storage.postgres import (
    groups,
    outbox,
    portfolios,
    reservations,
    settlements,
    snapshots,
    trading_state,
)
from storage.postgres.commit import CommitResult
from storage.postgres.group_commit import GroupCommitter
from storage.postgres.outbox import NewEvent
from storage.postgres.pool import Database
from storage.postgres.requests import Request
from storage.postgres.reservations import Reservation, ReservationState
from storage.postgres.scopes import TENANT_SCOPE
from storage.postgres.settlements import SettlementWrite
from storage.postgres.trading_state import TradingState
from tests.fixtures_postgres import TENANT
from tests.storage.postgres.writes import (
    NOON,
    create_portfolio,
    make_event,
    make_request,
    make_write,
)

_names = (f"account{i}" for i in count())


@pytest_asyncio.fixture
async def committer(database: Database) -> AsyncIterator[GroupCommitter]:
    committer = GroupCommitter(database)
    yield committer
    await committer.aclose()


class Book:
    """A portfolio with one decision: buy 1, 2 and 3 lots of 10 units at 10.01, holding cash."""

    def __init__(self, database: Database, portfolio_id: str, decision_id: UUID) -> None:
        self.database = database
        self.portfolio_id = portfolio_id
        self.decision_id = decision_id

    async def settle(
        self,
        fills: Sequence[tuple[str, int, float]],
        *,
        cash_change: float = 0.0,
        is_final: bool = False,
        request: Request | None = None,
    ) -> CommitResult:
        write = SettlementWrite(
            tenant_id=TENANT,
            request=request or make_request(),
            decision_id=self.decision_id,
            instrument_id=tuple(id for id, _, _ in fills),
            lots=np.array([lots for _, lots, _ in fills], dtype=np.int64),
            price=np.array([price for _, _, price in fills], dtype=np.float64),
            cash_change={"": cash_change},
            is_final=is_final,
            respond=lambda after, version: after.state.encode(),
            events_of=lambda after, version: [make_event()],
        )
        async with self.database.transaction(TENANT, deadline_s=5) as connection:
            return await settlements.settle(connection, write)

    async def snapshot(self) -> snapshots.PortfolioSnapshot:
        async with self.database.connection(TENANT, deadline_s=5) as connection:
            return await snapshots.read(connection, TENANT, self.portfolio_id)

    async def reservation(self) -> Reservation:
        async with self.database.connection(TENANT, deadline_s=5) as connection:
            return await reservations.get(connection, TENANT, self.decision_id)

    async def held(self) -> dict[str, tuple[float, float]]:
        holdings = (await self.snapshot()).holdings
        columns = (holdings.quantity.tolist(), holdings.average_price.tolist())
        return {id: (q, p) for id, q, p in zip(holdings.instrument_id, *columns, strict=True)}


@pytest_asyncio.fixture
async def book(database: Database, committer: GroupCommitter) -> Book:
    return await decided(database, committer)


async def decided(database: Database, committer: GroupCommitter, **more: object) -> Book:
    portfolio_id = next(_names)
    async with database.transaction(TENANT, deadline_s=5) as connection:
        await create_portfolio(connection, portfolio_id)
        version = await connection.fetchval("SELECT version FROM tenant WHERE tenant_id = 'acme'")
    write = make_write(portfolio_id, tenant_version=version, **more)
    await committer.commit(write, deadline_s=5)
    return Book(database, portfolio_id, write.portfolios[0].decision.decision_id)


async def test_an_open_reservation_counts_in_the_snapshot(book: Book) -> None:
    snapshot = await book.snapshot()
    assert snapshot.reserved.instrument_id == ("INS00000", "INS00001", "INS00002")
    assert snapshot.reserved.buy_quantity.tolist() == [10.0, 20.0, 30.0]
    assert snapshot.reserved.sell_quantity.tolist() == [0.0, 0.0, 0.0]
    assert snapshot.reserved.cash == 606.0
    assert snapshot.portfolio.version == 2
    assert snapshot.holdings.instrument_id == ()


async def test_partial_fills_move_what_was_reserved_into_holdings_and_cash(book: Book) -> None:
    result = await book.settle([("INS00002", 1, 9.0), ("INS00002", 1, 11.0)], cash_change=-201.0)
    assert result == CommitResult(b"OPEN", is_replay=False)
    snapshot = await book.snapshot()
    assert snapshot.portfolio.cash == 1e6 - 201.0
    assert await book.held() == {"INS00002": (20.0, 10.0)}
    assert snapshot.reserved.buy_quantity.tolist() == [10.0, 20.0, 10.0]
    assert snapshot.reserved.cash == pytest.approx(606.0 - 2 / 3 * 303.0, rel=1e-15)
    assert (snapshot.portfolio.version, snapshot.portfolio.event_sequence) == (3, 2)


async def test_the_last_fill_settles_and_a_release_gives_back_the_rest(
    book: Book, database: Database, committer: GroupCommitter
) -> None:
    fills = [("INS00000", 1, 10.0), ("INS00001", 2, 10.0), ("INS00002", 3, 10.0)]
    assert (await book.settle(fills)).response == b"SETTLED"
    assert (await book.snapshot()).reserved.instrument_id == ()
    other = await decided(database, committer)
    assert (await other.settle([("INS00000", 1, 10.0)], is_final=True)).response == b"RELEASED"
    assert (await other.snapshot()).reserved.cash == 0.0
    assert (await other.settle([("INS00001", 1, 10.0)])).response == b"RELEASED", "a late fill"
    assert await other.held() == {"INS00000": (10.0, 10.0), "INS00001": (10.0, 10.0)}


@pytest.mark.parametrize(
    "fill", [("INS00000", 2, 1.0), ("INS00000", -1, 1.0), ("INS00000", 0, 1.0), ("OTHER", 1, 1.0)]
)
async def test_a_fill_beyond_what_was_decided_changes_nothing(
    book: Book, fill: tuple[str, int, float]
) -> None:
    before = (await book.snapshot()).portfolio
    with pytest.raises(FailedPrecondition, match="lots of"):
        await book.settle([("INS00001", 1, 1.0), fill])
    assert (await book.snapshot()).portfolio == before
    assert (await book.reservation()).trade_lots_open.tolist() == [1, 2, 3]


async def test_a_repeated_report_is_counted_once(book: Book) -> None:
    request = make_request(b"fills")
    reports = [book.settle([("INS00002", 1, 9.0)], request=request) for _ in range(16)]
    results = await asyncio.gather(*reports)
    assert {result.response for result in results} == {b"OPEN"}
    assert sum(not result.is_replay for result in results) == 1
    assert (await book.reservation()).trade_lots_open.tolist() == [1, 2, 2]
    with pytest.raises(RequestIdReused):
        await book.settle([], request=make_request(b"other", request.request_id))


async def test_unknown_decisions_are_not_found(database: Database) -> None:
    with pytest.raises(NotFound):
        await Book(database, "account", uuid4()).settle([])


@pytest.mark.parametrize(
    ("held", "lots", "price", "quantity", "average"),
    [
        ((30.0, 4.0), 1, 8.0, 40.0, 5.0),  # adding averages: (30*4 + 10*8) / 40
        ((-5.0, 4.0), 1, 8.0, 5.0, 8.0),  # through zero starts anew
        ((-30.0, 4.0), 1, 8.0, -20.0, 4.0),  # reducing keeps
        ((-10.0, 4.0), 1, 8.0, None, None),  # flat is gone
    ],
)
async def test_average_prices_follow_the_position(
    book: Book,
    held: tuple[float, float],
    lots: int,
    price: float,
    quantity: float | None,
    average: float | None,
) -> None:
    async with book.database.transaction(TENANT, deadline_s=5) as connection:
        await connection.execute(
            "INSERT INTO holding VALUES ($1, $2, 'INS00000', $3, $4)",
            TENANT,
            book.portfolio_id,
            held[0],
            held[1],
        )
    await book.settle([("INS00000", lots, price)])
    expected = {} if quantity is None else {"INS00000": (quantity, average)}
    assert await book.held() == expected


async def test_fills_of_a_tenth_add_up_exactly(
    database: Database, committer: GroupCommitter
) -> None:
    book = await decided(database, committer)
    async with database.transaction(TENANT, deadline_s=5) as connection:
        await connection.execute(
            "UPDATE reservation SET lot_size = '{0.1, 0.1, 0.1}' WHERE decision_id = $1",
            book.decision_id,
        )
    for _ in range(3):
        await book.settle([("INS00002", 1, 1.0)])
    assert await book.held() == {"INS00002": (0.3, 1.0)}  # 0.1 + 0.1 + 0.1 is not 0.3 in binary


def expired_event(reservation: Reservation) -> NewEvent:
    return NewEvent(
        "reservation-expired", "ReservationExpired", lambda n: reservation.decision_id.bytes
    )


async def test_due_reservations_expire_once_with_an_event_each(
    database: Database, committer: GroupCommitter
) -> None:
    due = [
        await decided(database, committer, expire_time=NOON - timedelta(days=365, minutes=i))
        for i in range(6)
    ]
    later = await decided(database, committer, expire_time=NOON + timedelta(days=365))

    async def expire() -> list[Reservation]:
        async with database.transaction(TENANT, deadline_s=5) as connection:
            return await reservations.expire_due(
                connection, TENANT, NOON - timedelta(days=364), event_of=expired_event, limit=2
            )

    expired: list[Reservation] = []
    for _ in range(4):  # replicas at the same time, several rounds
        for found in await asyncio.gather(*(expire() for _ in range(3))):
            expired += found
    assert sorted(r.decision_id for r in expired) == sorted(b.decision_id for b in due)
    for book in due:
        assert (await book.reservation()).state is ReservationState.EXPIRED
        portfolio = (await book.snapshot()).portfolio
        assert (portfolio.version, portfolio.event_sequence) == (3, 2)
        assert (await book.snapshot()).reserved.instrument_id == ()
    assert (await later.reservation()).state is ReservationState.OPEN
    assert (await due[0].settle([("INS00000", 1, 10.0)])).response == b"EXPIRED", "a late fill"
    assert await due[0].held() == {"INS00000": (10.0, 10.0)}
    async with database.connection(TENANT, deadline_s=5) as connection:
        n_events = await connection.fetchval(
            "SELECT count(*) FROM outbox WHERE type = 'ReservationExpired'"
        )
    assert n_events == 6


async def test_a_busy_portfolio_expires_another_time(
    database: Database, committer: GroupCommitter
) -> None:
    book = await decided(database, committer, expire_time=NOON - timedelta(days=400))
    now = NOON - timedelta(days=399)
    async with database.transaction(TENANT, deadline_s=5) as busy:
        await busy.execute(
            "SELECT 1 FROM portfolio WHERE portfolio_id = $1 FOR UPDATE", book.portfolio_id
        )
        async with database.transaction(TENANT, deadline_s=5) as connection:
            expire = reservations.expire_due(connection, TENANT, now, event_of=expired_event)
            assert await expire == []
    async with database.transaction(TENANT, deadline_s=5) as connection:
        assert (
            len(await reservations.expire_due(connection, TENANT, now, event_of=expired_event)) == 1
        )


async def test_the_snapshot_carries_group_and_strictest_state(
    connection: asyncpg.Connection,
) -> None:
    await groups.create(connection, TENANT, "desk", "Desk")
    for portfolio_id in ("s1", "s2"):
        await create_portfolio(connection, portfolio_id, "desk")
    await create_portfolio(connection, "s3")
    await trading_state.put(
        connection, TENANT, TENANT_SCOPE, TradingState.REDUCING, author="risk", reason="test"
    )
    found = await snapshots.read_many(connection, TENANT, ["s3", "s1"])
    assert [snapshot.portfolio.portfolio_id for snapshot in found] == ["s3", "s1"]
    assert [snapshot.group_version for snapshot in found] == [None, 1]
    assert {snapshot.trading_state for snapshot in found} == {TradingState.REDUCING}
    assert found[0].portfolio == await portfolios.get(connection, TENANT, "s3")
    with pytest.raises(NotFound, match="nowhere"):
        await snapshots.read_many(connection, TENANT, ["s1", "nowhere"])


async def test_totals_keep_bought_and_sold_apart(book: Book) -> None:
    async with book.database.transaction(TENANT, deadline_s=5) as connection:
        await connection.execute(
            "UPDATE reservation SET trade_lots_open = '{1, -2, 0}' WHERE decision_id = $1",
            book.decision_id,
        )
        totals = await reservations.open_totals(connection, TENANT, book.portfolio_id)
        [listed] = await reservations.list_open(connection, TENANT, book.portfolio_id)
    assert totals.buy_quantity.tolist() == [10.0, 0.0, 0.0]
    assert totals.sell_quantity.tolist() == [0.0, -20.0, 0.0]
    assert listed.decision_id == book.decision_id


async def test_the_outbox_of_a_shard_is_one_relays_at_a_time(book: Book, postgres_dsn: str) -> None:
    one, two = [await asyncpg.connect(postgres_dsn) for _ in range(2)]
    shard = await one.fetchval(
        "SELECT shard FROM outbox WHERE portfolio_id = $1", book.portfolio_id
    )
    assert await outbox.claim_shard(one, shard)
    assert not await outbox.claim_shard(two, shard)
    n_before = await outbox.depth(one)
    [event] = [
        e
        for e in await outbox.oldest(one, shard, limit=1000)
        if e.portfolio_id == book.portfolio_id
    ]
    assert (event.portfolio_sequence, event.payload) == (1, b"event 1")
    assert await outbox.oldest_age_s(one) > 0
    await outbox.delete(one, [event])
    assert await outbox.depth(one) == n_before - 1
    await one.close()
    for _ in range(500):
        if await outbox.claim_shard(two, shard):
            break
        await asyncio.sleep(0.01)
    assert await outbox.release_shard(two, shard)
    await two.close()
