"""Portfolios, groups, tenants and market data: written, read back, refused."""

import math
from datetime import UTC, datetime, timedelta

import asyncpg
import numpy as np
import pytest

from storage.errors import AlreadyExists, NotFound, VersionConflict
from storage.postgres import groups, market, matrices, portfolios, tenants
from storage.postgres.portfolios import Holdings, Portfolio
from tests.fixtures_postgres import TENANT

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def holdings(**quantity: float) -> Holdings:
    n = len(quantity)
    return Holdings(tuple(quantity), np.array(list(quantity.values())), np.full(n, 10.0))


async def create(
    connection: asyncpg.Connection, portfolio_id: str = "book", **more: object
) -> Portfolio:
    details = {"display_name": "Book", "base_currency": "USD", "as_of_time": NOON, **more}
    return await portfolios.create(connection, TENANT, portfolio_id, **details)


async def test_a_portfolio_is_read_back_as_created(connection: asyncpg.Connection) -> None:
    created = await create(connection, cash=1e6 + 0.1, holdings=holdings(ABC=0.1, XYZ=-3.0))
    assert (created.version, created.event_sequence) == (1, 0)
    assert created.cash == 1e6 + 0.1
    assert await portfolios.get(connection, TENANT, "book") == created
    held = await portfolios.holdings(connection, TENANT, "book")
    assert held.instrument_id == ("ABC", "XYZ")
    assert held.quantity.tolist() == [0.1, -3.0]
    assert held.average_price.tolist() == [10.0, 10.0]


async def test_a_portfolio_is_created_once_and_only_where_its_group_is(
    connection: asyncpg.Connection,
) -> None:
    await create(connection)
    with pytest.raises(AlreadyExists):
        await create(connection)
    async with connection.transaction():
        with pytest.raises(NotFound) as missing:
            async with connection.transaction():
                await create(connection, "other", group_id="nowhere")
    assert (missing.value.kind, missing.value.id) == ("portfolio_group", "nowhere")


async def test_another_tenant_sees_nothing(connection: asyncpg.Connection) -> None:
    await create(connection)
    await connection.execute("SET ROLE NONE")  # by the WHERE alone, without the wall
    await tenants.ensure(connection, "rival")
    with pytest.raises(NotFound):
        await portfolios.get(connection, "rival", "book")
    assert await portfolios.list_page(connection, "rival") == []


async def test_replacing_the_state_checks_the_version_and_drops_what_is_gone(
    connection: asyncpg.Connection,
) -> None:
    created = await create(connection, holdings=holdings(ABC=1.0, OLD=2.0))
    books = {"cash": 5.0, "holdings": holdings(ABC=7.0, NONE=0.0)}
    replaced = await portfolios.replace_state(
        connection, TENANT, "book", **books, as_of_time=NOON, expected_version=created.version
    )
    assert (replaced.version, replaced.cash) == (2, 5.0)
    held = await portfolios.holdings(connection, TENANT, "book")
    assert dict(zip(held.instrument_id, held.quantity.tolist(), strict=True)) == {"ABC": 7.0}
    with pytest.raises(VersionConflict) as conflict:
        await portfolios.replace_state(
            connection, TENANT, "book", **books, as_of_time=NOON, expected_version=1
        )
    assert (conflict.value.expected, conflict.value.actual) == (1, 2)
    with pytest.raises(NotFound):
        await portfolios.replace_state(connection, TENANT, "none", **books, as_of_time=NOON)


async def test_joining_and_leaving_a_group_is_told_to_both_groups(
    connection: asyncpg.Connection,
) -> None:
    for group_id in ("one", "two"):
        await groups.create(connection, TENANT, group_id, group_id)
    await create(connection, group_id="one")
    moved = await portfolios.update_details(
        connection, TENANT, "book", display_name="Moved", group_id="two"
    )
    assert (moved.group_id, moved.display_name, moved.version) == ("two", "Moved", 2)
    assert [g.version for g in await groups.list_page(connection, TENANT)] == [2, 2]
    assert await groups.members(connection, TENANT, "one") == []
    assert await groups.members(connection, TENANT, "two") == ["book"]
    with pytest.raises(NotFound, match="nowhere"):
        await portfolios.update_details(
            connection, TENANT, "book", display_name="Moved", group_id="nowhere"
        )


async def test_pages_go_on_after_the_last_id(connection: asyncpg.Connection) -> None:
    for i in range(5):
        await create(connection, f"p{i}")
    first = await portfolios.list_page(connection, TENANT, limit=3)
    rest = await portfolios.list_page(connection, TENANT, after=first[-1].portfolio_id, limit=3)
    assert [p.portfolio_id for p in first + rest] == [f"p{i}" for i in range(5)]


async def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="quantity has 2 elements, instrument_id has 1"):
        Holdings(("ABC",), np.zeros(2), np.zeros(1))


async def test_the_latest_of_a_universe_is_one_look_at_an_index(
    connection: asyncpg.Connection,
) -> None:
    async def put(snapshot_id: str, universe_id: str, hours: int, *names: str) -> None:
        await market.put_snapshot(
            connection,
            TENANT,
            snapshot_id,
            as_of_time=NOON + timedelta(hours=hours),
            instrument_id=names,
            payload=b"",
            universe_id=universe_id,
        )

    await put("e1", "equities", 1, "ABC", "XYZ")
    await put("e2", "equities", 2, "ABC")
    await put("c3", "crypto", 3, "BTC", "XYZ")
    await put("n0", "", 0, "ABC")
    for universe_id, expected in (("equities", "e2"), ("crypto", "c3"), ("", "n0")):
        assert await market.latest_id(connection, TENANT, universe_id) == expected
    with pytest.raises(NotFound, match="bonds"):
        await market.latest_id(connection, TENANT, "bonds")
    listed = await market.latest_with(connection, TENANT, "ABC")
    assert [item.snapshot_id for item in listed] == ["n0", "e2"]
    assert [item.snapshot_id for item in await market.latest_with(connection, TENANT, "XYZ")] == [
        "c3"
    ], "the newest of equities has it no more"
    rows = await market.list_snapshots(connection, TENANT, universe_id="equities")
    assert [row.snapshot_id for row in rows] == ["e2", "e1"]
    assert len(await market.list_snapshots(connection, TENANT)) == 4
    await connection.execute("SET LOCAL enable_seqscan = off")
    plan = await connection.fetch(
        """EXPLAIN SELECT snapshot_id FROM market_snapshot
        WHERE tenant_id = $1 AND universe_id = 'equities'
        ORDER BY as_of_time DESC, sequence DESC LIMIT 1""",
        TENANT,
    )
    text = "\n".join(row[0] for row in plan)
    assert "market_snapshot_latest_of_universe" in text
    assert "Sort" not in text


async def test_the_latest_market_snapshot_is_by_as_of_time_then_by_arrival(
    connection: asyncpg.Connection,
) -> None:
    payload = bytes(range(256)) * 10

    async def put(snapshot_id: str, hours: int) -> market.MarketSnapshot:
        return await market.put_snapshot(
            connection,
            TENANT,
            snapshot_id,
            as_of_time=NOON + timedelta(hours=hours),
            instrument_id=["ABC", "XYZ"],
            payload=payload,
        )

    with pytest.raises(NotFound):
        await market.latest_snapshot(connection, TENANT, "")
    for snapshot_id, hours in (("late", 2), ("early", 1), ("corrected", 2)):
        await put(snapshot_id, hours)
    assert (await market.latest_snapshot(connection, TENANT, "")).snapshot_id == "corrected"
    at_one = await market.latest_snapshot(connection, TENANT, "", time=NOON + timedelta(hours=1))
    assert at_one.snapshot_id == "early"
    stored = await market.get_snapshot(connection, TENANT, "late")
    assert (stored.payload, stored.instrument_id) == (payload, ("ABC", "XYZ"))
    with pytest.raises(AlreadyExists):
        await put("late", 3)


async def test_a_matrix_keeps_all_its_versions(connection: asyncpg.Connection) -> None:
    for payload in (b"one", b"two"):
        await matrices.put(
            connection,
            TENANT,
            "correlation",
            kind="CORRELATION",
            as_of_time=NOON,
            instrument_id=["ABC"],
            payload=payload,
            document={"half_life_days": 60.5},
        )
    newest = await matrices.get(connection, TENANT, "correlation")
    assert (newest.version, newest.payload) == (2, b"two")
    assert newest.document == {"half_life_days": 60.5}
    old = await matrices.get(connection, TENANT, "correlation", version=1)
    assert old.payload == b"one"
    with pytest.raises(NotFound, match="correlation@3"):
        await matrices.get(connection, TENANT, "correlation", version=3)


async def test_cash_keeps_every_bit(connection: asyncpg.Connection) -> None:
    cash = math.nextafter(1e9 / 3, math.inf)
    await create(connection, cash=cash)
    assert (await portfolios.get(connection, TENANT, "book")).cash == cash
