"""The pool under trouble: everything ends by its deadline, nothing leaks, it comes back by itself.

Times here are generous bounds on waiting, not measurements.
"""

import asyncio
import contextlib
import time

import asyncpg
import pytest

from storage.errors import Contended, DeadlineExceeded, InvalidContent, StorageError, Unavailable
from storage.postgres.pool import Database, PoolOptions, connect, masked
from tests.fixtures_postgres import TENANT
from tests.storage.postgres.postgres_proxy import proxied, until


async def is_well(database: Database, deadline_s: float = 0.5) -> bool:
    try:
        async with database.connection(TENANT, deadline_s=deadline_s) as connection:
            return bool(await connection.fetchval("SELECT true"))
    except StorageError:
        return False


async def recovers_within(database: Database, timeout_s: float) -> None:
    give_up = time.monotonic() + timeout_s
    while not await is_well(database):
        assert time.monotonic() < give_up
        await asyncio.sleep(0.02)


async def n_sessions(database: Database) -> int:
    async with database.connection(TENANT, deadline_s=5) as connection:
        return int(
            await connection.fetchval(
                """SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'position-sizing'"""
            )
        )


async def test_a_cut_is_unavailable_at_once_and_over_when_the_server_is_back(
    postgres_dsn: str,
) -> None:
    async with proxied(postgres_dsn) as (proxy, dsn):
        database = await Database.open(dsn, PoolOptions(n_connections=4))
        assert await is_well(database)
        await proxy.cut()
        for _ in range(20):
            began = time.monotonic()
            with pytest.raises(Unavailable):
                async with database.connection(TENANT, deadline_s=2.0) as connection:
                    await connection.fetchval("SELECT 1")
            assert time.monotonic() - began < 1.0
        await until(lambda: not database.is_available)
        await proxy.start()
        await recovers_within(database, 2.0)
        assert database.is_available
        assert await asyncio.gather(*(is_well(database, 10.0) for _ in range(16))) == [True] * 16
        assert database.n_busy == 0
        await database.aclose()


async def test_silence_ends_at_the_deadline_and_later_calls_fail_at_once(
    postgres_dsn: str,
) -> None:
    async with proxied(postgres_dsn) as (proxy, dsn):
        database = await Database.open(dsn, PoolOptions(n_connections=2, connect_timeout_s=5.0))
        proxy.silence()
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            async with database.transaction(TENANT, deadline_s=0.2) as connection:
                await connection.fetchval("SELECT 1")
        assert 0.2 <= time.monotonic() - began < 1.0
        await until(lambda: not database.is_available)
        began = time.monotonic()
        with pytest.raises(Unavailable, match="no answer"):
            async with database.connection(TENANT, deadline_s=5.0):
                pass
        assert time.monotonic() - began < 0.1
        proxy.speak()
        await recovers_within(database, 2.0)
        assert database.n_busy == 0
        await database.aclose()


async def test_cancelled_calls_leak_no_connection(postgres_dsn: str) -> None:
    """3,000 calls, each cancelled after a different number of steps of the event loop."""
    database = await Database.open(postgres_dsn, PoolOptions(n_connections=4))

    async def call() -> None:
        async with database.transaction(TENANT, deadline_s=5) as connection:
            await connection.fetchval("SELECT 1")

    for round_ in range(300):
        tasks = [asyncio.create_task(call()) for _ in range(10)]
        for _ in range(round_ % 12):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: database.n_busy == 0)
    await recovers_within(database, 5.0)  # so many calls may have let a probe wait too long
    assert await asyncio.gather(*(is_well(database, 10.0) for _ in range(32))) == [True] * 32
    assert await n_sessions(database) <= 4 + 1  # one is reserved
    await database.aclose()


async def test_slow_statements_end_at_the_deadline_without_hurting_others(
    database: Database,
) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        async with database.connection(TENANT, deadline_s=0.1) as connection:
            await connection.execute("SELECT pg_sleep(10)")
    assert time.monotonic() - began < 2.0
    assert await is_well(database)
    assert database.is_available


async def test_the_server_keeps_its_own_bounds(postgres_dsn: str) -> None:
    options = PoolOptions(n_connections=2, statement_timeout_s=0.5, lock_timeout_s=0.02)
    database = await Database.open(postgres_dsn, options)
    with pytest.raises(DeadlineExceeded, match="statement timeout"):
        async with database.connection(TENANT, deadline_s=5) as connection:
            await connection.execute("SELECT pg_sleep(10)")
    async with database.transaction(TENANT, deadline_s=5) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(1)")
        with pytest.raises(Contended):
            async with database.transaction(TENANT, deadline_s=5) as other:
                await other.execute("SELECT pg_advisory_xact_lock(1)")
    await database.aclose()


async def test_a_killed_session_is_replaced(database: Database) -> None:
    with pytest.raises(Unavailable):
        async with database.connection(TENANT, deadline_s=5) as connection:
            await connection.execute("SET ROLE NONE; SELECT pg_terminate_backend(pg_backend_pid())")
    assert await is_well(database)
    assert database.is_available


async def test_an_error_in_a_transaction_undoes_it(database: Database) -> None:
    insert = f"INSERT INTO inbox (tenant_id, topic, event_id) VALUES ('{TENANT}', 't', 'undone')"
    with pytest.raises(InvalidContent):
        async with database.transaction(TENANT, deadline_s=5) as connection:
            await connection.execute(f"{insert}; SELECT 1 / 0")
    async with database.connection(TENANT, deadline_s=5) as connection:
        assert await connection.fetchval("SELECT count(*) FROM inbox") == 0


async def test_an_error_of_the_statement_is_not_mistaken_for_a_loss(database: Database) -> None:
    with pytest.raises(asyncpg.PostgresSyntaxError):
        async with database.connection(TENANT, deadline_s=5) as connection:
            await connection.execute("SELEKT 1")
    with pytest.raises(InvalidContent):
        async with database.connection(TENANT, deadline_s=5) as connection:
            await connection.fetchval("SELECT $1::int8", "not a number")
    assert database.is_available


async def test_waiting_is_bounded_and_first_come_first_served(postgres_dsn: str) -> None:
    database = await Database.open(postgres_dsn, PoolOptions(n_connections=1, n_waiting_max=2))
    order: list[int] = []

    async def call(i: int) -> None:
        async with database.connection(TENANT, deadline_s=5):
            order.append(i)
            await asyncio.sleep(0.01)

    results = await asyncio.gather(*(call(i) for i in range(5)), return_exceptions=True)
    assert [type(result) for result in results[3:]] == [Unavailable, Unavailable]
    assert order == [0, 1, 2]
    await database.aclose()


async def test_no_server_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await Database.open("postgresql://u@127.0.0.1:1/x", PoolOptions(connect_timeout_s=0.5))
    with pytest.raises(Unavailable):
        await connect("postgresql://u@127.0.0.1:1/x", PoolOptions(connect_timeout_s=0.5))


async def test_passwords_are_masked(database: Database) -> None:
    assert masked("postgresql://me:s3cret@db:5432/x") == "postgresql://me:***@db:5432/x"
    assert masked("postgresql://me:s3:c/ret@db/x") == "postgresql://me:***@db/x"
    assert (
        masked("postgresql://me@db/x?password=s3cret&a=b")
        == "postgresql://me@db/x?password=***&a=b"
    )
    assert masked("host=db password=s3cret user=me") == "host=db password=*** user=me"
    assert "available" in repr(database)


@pytest.mark.parametrize(
    "wrong", [{"n_connections": 0}, {"n_waiting_max": 0}, {"statement_timeout_s": 0.0}]
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PoolOptions(**wrong)  # type: ignore[arg-type]


async def test_sessions_killed_in_any_phase_are_unavailable_and_never_anything_else(
    postgres_dsn: str,
) -> None:
    """A session may end between any two messages: the driver has many words for that."""
    options = PoolOptions(n_connections=6)
    database = await Database.open(postgres_dsn, options)
    killer = await connect(postgres_dsn)
    errors: list[BaseException] = []
    ended = asyncio.Event()

    async def work(i: int) -> None:
        while not ended.is_set():
            try:
                if i % 2:
                    async with database.transaction(
                        TENANT, deadline_s=10, first_sql="SELECT 1"
                    ) as mine:
                        await mine.fetch("SELECT * FROM generate_series(1, $1::int)", 100 + i)
                        await mine.execute("SELECT 1; SELECT 2")
                else:
                    async with database.connection(TENANT, deadline_s=10) as mine:
                        await mine.fetchval("SELECT $1::text", "x" * 1000)
            except Exception as error:
                errors.append(error)
                await asyncio.sleep(0.001)

    workers = [asyncio.create_task(work(i)) for i in range(12)]
    n_killed = 0
    for _ in range(150):
        await asyncio.sleep(0.01)
        n_killed += await killer.fetchval(
            """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND application_name = 'position-sizing'"""
        )
    ended.set()
    await asyncio.gather(*workers)
    await killer.close()
    unexpected = {repr(error) for error in errors if not isinstance(error, Unavailable)}
    assert n_killed > 0
    assert errors, "nothing was under way when sessions were killed"
    assert not unexpected
    await recovers_within(database, 5.0)
    await database.aclose()


async def test_an_error_inside_the_driver_is_a_lost_connection(database: Database) -> None:
    for error in (
        asyncpg.InternalClientError("unknown state"),
        EOFError(),
        asyncpg.ProtocolError(),
    ):
        with pytest.raises(Unavailable):
            async with database.transaction(TENANT, deadline_s=5):
                raise error
    assert await is_well(database)


async def test_a_future_cancelled_below_is_a_lost_connection_and_not_a_cancelled_call(
    database: Database,
) -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    with pytest.raises(Unavailable):
        async with database.connection(TENANT, deadline_s=5):
            await future
    task = asyncio.create_task(_sleep_in(database))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _sleep_in(database: Database) -> None:
    async with database.connection(TENANT, deadline_s=5):
        await asyncio.sleep(5)


async def test_a_block_that_hides_an_error_does_not_pass_for_committed(database: Database) -> None:
    with pytest.raises(RuntimeError, match="aborted"):
        await _hide_an_error_in(database)


async def _hide_an_error_in(database: Database) -> None:
    async with database.transaction(TENANT, deadline_s=5) as connection:
        with contextlib.suppress(asyncpg.PostgresSyntaxError):
            await connection.execute("SELEKT")
