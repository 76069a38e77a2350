"""The wall between tenants: no statement passes it, also where its WHERE is missing."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from storage import embedded
from storage.errors import SchemaMismatch
from storage.postgres import audit, limits, outbox, tenants
from storage.postgres.migrations import check, migrate
from storage.postgres.pool import Database, PoolOptions
from storage.postgres.scopes import TENANT_SCOPE
from storage.postgres.tenancy import ALL_TENANTS, ALL_TENANTS_ROLE, NO_ROWS, TENANT_ROLE, Session
from tests.fixtures_postgres import TENANT, create_database

RIVAL = "rival"
APART = {"alembic_version", "outbox_batch"}
"""Tables of the service itself, not of anyone's data."""
UNWRITTEN = {"audit_event", "audit_head"}
"""What only the database's own triggers write."""
UNSEEN = {"api_key", "identity_block", "quota_use"}
"""What sessions of a tenant may not even read."""
UPDATED = {
    *("tenant", "tenant_stream", "portfolio_group", "portfolio", "holding", "reservation"),
    *("high_water_mark", "trading_day", "volatility_state", "matrix_refresh"),
    *("effective_parameters", "effective_parameters_look"),
    *("edge_evidence", "edge_evidence_look"),
    *("webhook", "webhook_delivery", "model_schedule", "job", "usage_hour"),
}
DELETED = {
    *("holding", "limit_breach", "price_jump", "matrix_refresh", "webhook", "model_schedule"),
    "tenant_change",
}
VIEWS = {"decision_line", "decision_entry"}
VALUES = {
    "text": "'x'",
    "uuid": "'01890000-0000-7000-8000-000000000000'",
    "bytea": "'\\x00'",
    "jsonb": "'{}'",
    "timestamp with time zone": "'2026-01-05'",
    "date": "'2026-01-05'",
    "boolean": "false",
    "ARRAY": "'{}'",
}
"""A value of each type; numbers are 1."""


@pytest.fixture(scope="module")
def dsn(postgres_server: embedded.EmbeddedServer) -> str:
    return create_database(postgres_server, template=embedded.DATABASE)


@pytest_asyncio.fixture
async def owner(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def walled(dsn: str, owner: asyncpg.Connection) -> AsyncIterator[Database]:
    """A row of each of two tenants in every table; constraints, which need more, are dropped."""
    constraints = await owner.fetch(
        """SELECT conrelid::regclass AS name, conname FROM pg_constraint
        WHERE contype IN ('c', 'f') AND connamespace = 'public'::regnamespace AND conrelid <> 0"""
    )
    for row in constraints:
        await owner.execute(f'ALTER TABLE {row["name"]} DROP CONSTRAINT "{row["conname"]}"')
    await owner.execute("SET session_replication_role = replica")  # no triggers
    for table in await tables(owner):
        for tenant_id in (TENANT, RIVAL):
            await owner.execute(f"{await row_of(owner, table, tenant_id)} ON CONFLICT DO NOTHING")
    database = await Database.open(dsn, PoolOptions(n_connections=2))
    yield database
    await database.aclose()


async def tables(owner: asyncpg.Connection) -> list[str]:
    rows = await owner.fetch(
        """SELECT relname FROM pg_class WHERE relkind IN ('r', 'p')
        AND relnamespace = 'public'::regnamespace ORDER BY relname"""
    )
    return [row["relname"] for row in rows if row["relname"] not in APART]


async def row_of(owner: asyncpg.Connection, table: str, tenant_id: str) -> str:
    """The insertion of some row of a tenant, whatever columns a table has."""
    columns = await owner.fetch(
        """SELECT column_name AS name, data_type AS type FROM information_schema.columns
        WHERE table_name = $1 AND is_generated = 'NEVER' AND is_identity = 'NO'
        ORDER BY ordinal_position""",
        table,
    )
    names = [row["name"] for row in columns]
    values = [
        f"'{tenant_id}'"
        if row["name"] == "tenant_id"
        else f"'{tenant_id}-key'"  # the one table whose key does not begin with the tenant
        if row["name"] == "key_id"
        else VALUES.get(row["type"], "1")
        for row in columns
    ]
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(values)})"


async def test_every_table_with_a_tenant_is_walled(owner: asyncpg.Connection) -> None:
    walls = await owner.fetch(
        """SELECT relname, relrowsecurity, (SELECT count(*) FROM pg_policies
            WHERE tablename = relname AND policyname = 'of_tenant' AND roles = '{public}') AS n
        FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"""
    )
    open_ = {row["relname"] for row in walls if not row["relrowsecurity"] or row["n"] != 1}
    assert open_ == APART
    assert len(walls) > 30


async def test_statements_without_a_where_see_one_tenant(
    walled: Database, owner: asyncpg.Connection
) -> None:
    for table in [*await tables(owner), *sorted(VIEWS)]:
        async with walled.connection(TENANT, deadline_s=5) as connection:
            if table in UNSEEN:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.fetch(f"SELECT * FROM {table}")
                continue
            seen = await connection.fetch(f"SELECT DISTINCT tenant_id FROM {table}")
        async with walled.connection(NO_ROWS, deadline_s=5) as connection:
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0, table
        whose = {row["tenant_id"] for row in seen}
        assert whose == ({TENANT} if table != "decision_line" else set()), table


async def test_nothing_can_be_written_for_another_tenant(
    walled: Database, owner: asyncpg.Connection
) -> None:
    refused = asyncpg.InsufficientPrivilegeError
    for table in await tables(owner):
        before = await owner.fetch(f"SELECT * FROM {table} WHERE tenant_id = $1", RIVAL)
        changes = [await row_of(owner, table, RIVAL), f"TRUNCATE {table}"]
        if table in UPDATED:
            changes.append(f"UPDATE {table} SET tenant_id = '{RIVAL}'")
        else:
            changes.append(f"UPDATE {table} SET tenant_id = tenant_id")
        if table not in DELETED:
            changes.append(f"DELETE FROM {table}")
        for change in changes:
            with pytest.raises(refused):
                async with walled.transaction(TENANT, deadline_s=5) as connection:
                    await connection.execute(change)
        async with walled.transaction(TENANT, deadline_s=5) as connection:
            if table in UPDATED:
                moved = await connection.execute(f"UPDATE {table} SET tenant_id = tenant_id")
                assert moved == "UPDATE 1", table
            if table in DELETED:
                assert await connection.execute(f"DELETE FROM {table}") == "DELETE 1", table
        after = await owner.fetch(f"SELECT * FROM {table} WHERE tenant_id = $1", RIVAL)
        assert before == after, table
        assert len(after) == 1, table


async def test_what_is_done_for_all_tenants_is_little(
    walled: Database, owner: asyncpg.Connection
) -> None:
    readable = ("outbox", "inbox", "tenant", "api_key", "identity_block", "quota_use")
    rights = {("SELECT", name): {TENANT, RIVAL} for name in readable}
    written = {("INSERT", "quota_use"), ("UPDATE", "quota_use")}
    for table in await tables(owner):
        for verb, sql in (
            ("SELECT", f"SELECT * FROM {table}"),
            ("INSERT", await row_of(owner, table, TENANT)),
            ("UPDATE", f"UPDATE {table} SET tenant_id = tenant_id"),
            ("TRUNCATE", f"TRUNCATE {table}"),
        ):
            if (verb, table) in written:
                continue
            async with walled.connection(ALL_TENANTS, deadline_s=5) as connection:
                if wanted := rights.get((verb, table)):
                    assert {row["tenant_id"] for row in await connection.fetch(sql)} == wanted
                    continue
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(sql)
    found = await owner.fetch(
        """SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
        AND relkind = 'r' AND has_table_privilege($1, oid, 'DELETE')""",
        ALL_TENANTS_ROLE,
    )
    forgotten = {"outbox", "inbox", "quota_use", "webhook_event", "job", "usage_hour"}
    assert {row["relname"] for row in found} == forgotten


async def test_a_session_is_told_its_tenant_only_where_it_changes(
    walled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    execute, mine = Session.execute, asyncio.current_task()

    async def noted(self: asyncpg.Connection, query: str, *args: object, **kwargs: object) -> str:
        if asyncio.current_task() is mine:  # services of other tests are in this process too
            sent.append(query)
        return await execute(self, query, *args, **kwargs)

    monkeypatch.setattr(Session, "execute", noted)

    async def run(tenant_id: str) -> str:
        async with walled.transaction(tenant_id, deadline_s=5) as connection:
            return await connection.fetchval("SELECT current_setting('sizing.tenant_id')")

    for tenant_id in (TENANT, TENANT, RIVAL, TENANT):
        assert await run(tenant_id) == tenant_id
    told = f"SET ROLE {TENANT_ROLE}; SET sizing.tenant_id = '{{}}'; BEGIN"
    first = sent[0]
    assert first in ("BEGIN", told.format(TENANT))
    expected = ["BEGIN", told.format(RIVAL), told.format(TENANT)]
    assert [text for text in sent if text != "COMMIT"][1:] == expected


async def test_a_session_whose_transaction_failed_is_told_again(dsn: str) -> None:
    database = await Database.open(dsn, PoolOptions(n_connections=1))

    async def whose(tenant_id: str) -> object:
        async with database.connection(tenant_id, deadline_s=5) as connection:
            return await connection.fetchval("SELECT current_setting('sizing.tenant_id')")

    assert await whose(TENANT) == TENANT
    with pytest.raises(ZeroDivisionError):
        async with database.transaction(RIVAL, deadline_s=5):
            raise ZeroDivisionError  # the rollback undoes what was sent with the BEGIN
    assert await whose(RIVAL) == RIVAL
    assert await whose("o'brien") == "o'brien"
    await database.aclose()


async def test_the_service_needs_a_user_that_may_change_no_schema(
    postgres_server: embedded.EmbeddedServer,
) -> None:
    """As docs/security.md has it: an owner migrates, the service's user has the two roles."""
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    admin = await asyncpg.connect(dsn)
    await admin.execute(
        f"""CREATE ROLE sizing_app LOGIN; CREATE ROLE sizing_bare LOGIN;
        GRANT {TENANT_ROLE}, {ALL_TENANTS_ROLE} TO sizing_app"""
    )
    mine, bare = (
        dsn.replace("//postgres@", f"//{name}@") for name in ("sizing_app", "sizing_bare")
    )
    assert await check(mine) == await migrate(mine)
    database = await Database.open(mine, PoolOptions(n_connections=1))
    assert database.has_wall
    async with database.transaction(TENANT, deadline_s=5) as connection:
        assert (await tenants.ensure(connection, TENANT)).tenant_id == TENANT
    for sql in ("CREATE TABLE t ()", "ALTER TABLE tenant ADD COLUMN x int", "DROP TABLE inbox"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.connection(TENANT, deadline_s=5) as connection:
                await connection.execute(sql)
    await database.aclose()
    without = await Database.open(bare, PoolOptions(n_connections=1))
    assert not without.has_wall
    await without.aclose()
    await admin.execute("UPDATE alembic_version SET version_num = '0021'")
    with pytest.raises(SchemaMismatch, match="at schema version 0021"):
        await check(mine)
    await admin.close()


@pytest.mark.parametrize("may_make_roles", [True, False])
async def test_an_owner_that_is_no_superuser(
    postgres_server: embedded.EmbeddedServer, may_make_roles: bool
) -> None:
    """With the roles there is the wall; without them all else works, the chain of changes too."""
    dsn = create_database(postgres_server)
    admin = await asyncpg.connect(dsn)
    name, desk = await admin.fetchval("SELECT current_database()"), f"desk_{may_make_roles}".lower()
    await admin.execute(f"CREATE ROLE {desk} LOGIN; ALTER DATABASE {name} OWNER TO {desk}")
    if may_make_roles:
        await admin.execute(
            f"""ALTER ROLE {desk} CREATEROLE;
            GRANT {TENANT_ROLE}, {ALL_TENANTS_ROLE} TO {desk} WITH ADMIN OPTION"""
        )
    await admin.close()
    dsn = dsn.replace("//postgres@", f"//{desk}@")
    await migrate(dsn)
    database = await Database.open(dsn, PoolOptions(n_connections=1))
    assert database.has_wall is may_make_roles
    for tenant_id in (TENANT, RIVAL):
        async with database.transaction(tenant_id, deadline_s=5) as connection:
            await tenants.ensure(connection, tenant_id)
            await limits.put(connection, tenant_id, TENANT_SCOPE, {}, author=desk, reason="")
        async with database.connection(tenant_id, deadline_s=5) as connection:
            assert await connection.fetchval("SELECT count(*) FROM tenant") == (
                1 if may_make_roles or tenant_id == TENANT else 2
            )
            assert (await audit.head(connection, tenant_id)).sequence == 1
            assert await audit.differences(connection, tenant_id, 10) == []
    async with database.connection(ALL_TENANTS, deadline_s=5) as connection:
        assert await outbox.depth(connection) == 0
    await database.aclose()
