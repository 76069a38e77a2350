"""The lock of a tenant: fair, never behind a client that is gone, never behind a full pool."""

import asyncio

import asyncpg
import pytest

from storage.errors import Contended, Unavailable
from storage.postgres import tenant_lock, tenants, trading_state
from storage.postgres.pool import Database, PoolOptions
from storage.postgres.scopes import TENANT_SCOPE, Scope, ScopeKind
from storage.postgres.trading_state import TradingState
from tests.fixtures_postgres import TENANT
from tests.storage.postgres.postgres_proxy import until

SHARED = tenant_lock.shared_sql(TENANT)
HALT = {"author": "ops", "reason": "fat finger"}


async def halt(database: Database, scope: Scope = TENANT_SCOPE) -> int:
    """Halts as the service does; the tenant's version after it."""
    async with tenant_lock.exclusively(database, TENANT, deadline_s=30) as connection:
        change = await trading_state.put(connection, TENANT, scope, TradingState.HALTED, **HALT)
    return change.tenant_version


async def n_waiting(connection: asyncpg.Connection) -> int:
    """Sessions that wait for an advisory lock in this database."""
    return int(
        await connection.fetchval(
            """SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
        )
    )


async def test_a_halt_goes_before_decisions_that_come_after_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many follow: one that shares the lock held now still queues behind the halt."""
    monkeypatch.setattr(tenant_lock, "STALLED_S", 60.0)
    order: list[str] = []

    async def decide(name: str) -> None:
        async with database.transaction(TENANT, deadline_s=30, first_sql=SHARED) as connection:
            found = await connection.fetchval("SELECT version FROM tenant")
            order.append(f"{name} sees {found}")

    async with database.connection(TENANT, deadline_s=30) as watch:
        before = (await tenants.get(watch, TENANT)).version
        async with database.transaction(TENANT, deadline_s=30, first_sql=SHARED) as first:
            halting = asyncio.create_task(halt(database))
            while await n_waiting(watch) < 1:
                await first.fetchval("SELECT 1")
            deciding = [asyncio.create_task(decide(f"decision {i}")) for i in range(4)]
            while await n_waiting(watch) < 5:
                await first.fetchval("SELECT 1")
            order.append("the first commits")
        assert await halting == before + 1
        await asyncio.gather(*deciding)
    assert order[0] == "the first commits"
    assert sorted(order[1:]) == [f"decision {i} sees {before + 1}" for i in range(4)]


async def test_a_session_whose_client_is_gone_does_not_hold_up_a_halt(database: Database) -> None:
    entered, released = asyncio.Event(), asyncio.Event()

    async def stall() -> None:
        async with database.transaction(TENANT, deadline_s=60, first_sql=SHARED) as connection:
            entered.set()
            await released.wait()
            await connection.fetchval("SELECT 1")

    stalled = asyncio.create_task(stall())
    await entered.wait()
    await halt(database)
    released.set()
    with pytest.raises(Unavailable):
        await stalled


async def test_neither_does_one_that_holds_a_row_a_decision_waits_for(
    postgres_dsn: str, database: Database
) -> None:
    entered, released = asyncio.Event(), asyncio.Event()
    patient = await Database.open(postgres_dsn, PoolOptions(lock_timeout_s=60.0))

    async def stall() -> None:
        async with database.transaction(TENANT, deadline_s=60) as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(77)")
            entered.set()
            await released.wait()
            await connection.fetchval("SELECT 1")

    async def decide() -> None:
        async with patient.transaction(TENANT, deadline_s=60, first_sql=SHARED) as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(77)")

    stalled = asyncio.create_task(stall())
    await entered.wait()
    deciding = asyncio.create_task(decide())
    async with database.connection(TENANT, deadline_s=30) as watch:
        while await n_waiting(watch) < 1:
            await watch.fetchval("SELECT pg_sleep(0.01)")
    await halt(database)
    released.set()
    with pytest.raises(Unavailable):
        await stalled
    await asyncio.gather(deciding, return_exceptions=True)
    await patient.aclose()


async def test_a_full_pool_does_not_hold_up_a_halt(postgres_dsn: str) -> None:
    database = await Database.open(postgres_dsn, PoolOptions(n_connections=1, n_waiting_max=1))
    async with database.transaction(TENANT, deadline_s=5) as connection:
        await tenants.ensure(connection, TENANT)
    async with database.connection(TENANT, deadline_s=30):
        waiting = asyncio.create_task(_ask(database))
        await until(lambda: database.n_busy == 1)
        await asyncio.sleep(0)
        await halt(database)
        assert not waiting.done()
    await waiting
    await database.aclose()


async def _ask(database: Database) -> None:
    async with database.connection(TENANT, deadline_s=30):
        pass


async def test_a_change_of_limits_waits_no_longer_than_a_lock_may(postgres_dsn: str) -> None:
    database = await Database.open(postgres_dsn, PoolOptions(lock_timeout_s=0.05))
    async with database.transaction(TENANT, deadline_s=30, first_sql=SHARED):
        with pytest.raises(Contended):
            async with database.transaction(TENANT, deadline_s=30) as other:
                await tenant_lock.lock(other, TENANT)
    await database.aclose()


async def test_every_change_of_a_state_has_a_number_of_the_tenant(database: Database) -> None:
    """Of a portfolio's too, so that a consumer can tell which of two came first."""
    async with database.transaction(TENANT, deadline_s=5) as connection:
        await connection.execute(
            "INSERT INTO portfolio_group (tenant_id, group_id, display_name) VALUES ($1, 'g', 'g')",
            TENANT,
        )
    strategy, group = Scope(ScopeKind.STRATEGY, "s"), Scope(ScopeKind.GROUP, "g")
    numbers = [await halt(database, scope) for scope in (strategy, group, strategy)]
    assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]
    async with database.connection(TENANT, deadline_s=5) as connection:
        found = await trading_state.current(connection, TENANT, [strategy, group])
        cause = await trading_state.cause(connection, TENANT, [group, strategy])
        assert (await tenants.get(connection, TENANT)).version == numbers[-1]
    assert [(change.version, change.tenant_version) for change in found] == [
        (2, numbers[2]),
        (1, numbers[1]),
    ]
    assert cause is not None
    assert (cause.scope, cause.reason, cause.author) == (group, "fat finger", "ops")
