"""The schema: from nothing, by several at once, again, and never from a newer release's."""

import asyncio

import asyncpg
import pytest

from storage import embedded
from storage.errors import SchemaMismatch
from storage.postgres.migrations import current_version, migrate, newest_version
from tests.fixtures_postgres import create_database


async def test_replicas_that_start_together_migrate_once(
    postgres_server: embedded.EmbeddedServer,
) -> None:
    dsn = create_database(postgres_server)
    assert await current_version(dsn) is None
    versions = await asyncio.gather(*(migrate(dsn) for _ in range(5)))
    assert set(versions) == {newest_version()}
    assert await current_version(dsn) == newest_version()
    assert await migrate(dsn) == newest_version()


async def test_a_newer_schema_is_left_alone(postgres_server: embedded.EmbeddedServer) -> None:
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    connection = await asyncpg.connect(dsn)
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    await connection.close()
    with pytest.raises(SchemaMismatch, match="run a newer release"):
        await migrate(dsn)
    assert await current_version(dsn) == "9999"


async def test_every_table_belongs_to_a_tenant(postgres_dsn: str) -> None:
    connection = await asyncpg.connect(postgres_dsn)
    first_of_key = await connection.fetch(
        """SELECT t.relname AS name, a.attname AS first FROM pg_class AS t
        JOIN pg_index AS i ON i.indrelid = t.oid AND i.indisprimary
        JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = i.indkey[0]
        WHERE t.relkind = 'r' AND t.relnamespace = 'public'::regnamespace"""
    )
    await connection.close()
    keys = {row["name"]: row["first"] for row in first_of_key}
    # Of the service itself, not of anyone's data; and keys, which say whose caller it is.
    apart = {"alembic_version", "outbox_batch", "api_key"}
    assert {name for name, first in keys.items() if first != "tenant_id"} <= apart
    assert len(keys) > 12
