"""A real PostgreSQL for tests: one embedded server a run, a fresh database a test module."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from storage import embedded
from storage.postgres import tenants
from storage.postgres.migrations import migrate
from storage.postgres.pool import Database

TENANT = "acme"

_numbers = itertools.count(1)


def run_apart(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on an event loop of its own, in a thread, so that the tests' is untouched."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, coroutine).result()


@pytest.fixture(scope="session")
def postgres_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[embedded.EmbeddedServer]:
    """A running server; its database "sizing" has the newest schema and is the template."""
    server = embedded.start(tmp_path_factory.mktemp("postgres"))
    run_apart(migrate(server.dsn))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def postgres_dsn(postgres_server: embedded.EmbeddedServer) -> str:
    """A database with the newest schema and no rows, of this test module alone."""
    return create_database(postgres_server, template=embedded.DATABASE)


@pytest_asyncio.fixture
async def database(postgres_dsn: str) -> AsyncIterator[Database]:
    """The module's database through a pool, with the tenant "acme" in it."""
    opened = await Database.open(postgres_dsn)
    async with opened.transaction(TENANT, deadline_s=5.0) as connection:
        await tenants.ensure(connection, TENANT)
    yield opened
    await opened.aclose()


@pytest_asyncio.fixture
async def connection(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A connection in a transaction that is rolled back after the test."""
    async with database.connection(TENANT, deadline_s=60.0) as opened:
        transaction = opened.transaction()
        await transaction.start()
        yield opened
        await transaction.rollback()


def create_database(server: embedded.EmbeddedServer, *, template: str = "template1") -> str:
    """Make a database and return its DSN; tens of milliseconds."""
    name = f"test_{next(_numbers)}"

    async def create() -> None:
        connection = await asyncpg.connect(server.dsn_of("postgres"))
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        await connection.close()

    run_apart(create())
    return server.dsn_of(name)
