"""Seals over decisions and settlements: anything done to a record is found (R14)."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from positionsizing.v1 import audit_service_pb2 as pb
from typer.testing import CliRunner

from compute.shapes import KernelRegistry
from server.cli import app as cli
from server.maintenance import seals
from server.maintenance.seals import seal_due
from storage import embedded
from storage.postgres.pool import Database
from storage.postgres.records import COLUMNS, record_digest
from tests.fixtures_postgres import create_database
from tests.server.analytics.test_analytics import decided_days
from tests.server.support.service_client import Client, started

TENANT = "local"
TABLES = ("decision", "settlement", "request", "record_seal")
NOT_SEALED = {("request", "archive"), ("request", "create_time"), ("record_seal", "create_time")}
"""Where a record is, and moments of writing that a decision says in a column of its own."""


def later() -> datetime:
    """A time at which all that is recorded now belongs to a period that is over."""
    return datetime.now(UTC) + timedelta(hours=3)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def sealed(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[str, Client, int]]:
    """A database with decisions and settlements under a seal; its service's address too."""
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    async with (
        started(postgres_server, kernels, tmp_path_factory.mktemp("seals"), dsn=dsn) as app,
        Client.connected(app.port) as client,
    ):
        none = await client.audit.VerifySeals(pb.VerifySealsRequest())
        assert (none.last, none.is_last, none.HasField("sealed_until")) == (0, True, False)
        await decided_days(client)
        await seal(dsn)
        yield dsn, client, app.port


async def seal(dsn: str, now: datetime | None = None) -> int:
    database = await Database.open(dsn)
    try:
        return await seal_due(database, TENANT, lambda: now or later())
    finally:
        await database.aclose()


async def faults(client: Client) -> list[str]:
    answer = await client.audit.VerifySeals(pb.VerifySealsRequest())
    chain = await client.audit.VerifyAudit(pb.VerifyAuditRequest())
    return [fault.text for fault in (*answer.faults, *chain.faults)]


async def test_seals_hold_and_are_in_the_chain(sealed: tuple[str, Client, int]) -> None:
    dsn, client, _ = sealed
    assert await faults(client) == []
    answer = await client.audit.VerifySeals(pb.VerifySealsRequest())
    assert (answer.last, answer.is_last) == (1, True)
    assert answer.records == 6, "three decisions, and what was filled of each"
    assert answer.sealed_until.ToDatetime(UTC) <= later() - timedelta(hours=1)
    events = await client.audit.ListAuditEvents(pb.ListAuditEventsRequest(page_size=1000))
    (made,) = [json.loads(e.document) for e in events.events if e.table_name == "record_seal"]
    assert made["records"] == 6
    assert await seal(dsn) == 0, "a period is sealed once"
    owner = await asyncpg.connect(dsn, server_settings={"timezone": "UTC"})
    for row in await owner.fetch("SELECT * FROM record"):
        assert record_digest(row) == row["digest"]
        assert set(COLUMNS) <= set(row.keys())
    await owner.close()


async def test_any_column_of_any_record_changed_is_found(
    sealed: tuple[str, Client, int],
) -> None:
    dsn, client, _ = sealed
    owner, tried = await owned(dsn), 0
    for table in TABLES:
        rows = await owner.fetch(
            """SELECT column_name, udt_name FROM information_schema.columns
            WHERE table_name = $1 AND table_schema = current_schema()""",
            table,
        )
        for name, kind in rows:
            if (table, name) not in NOT_SEALED:
                other = CHANGED.get(name, CHANGED[kind]).format(name)
                change = f"UPDATE {table} SET {name} = {other}"
                assert await found(owner, client, table, change), (table, name)
                tried += 1
    assert tried > 35
    assert await faults(client) == [], "all is as it was again"
    await owner.close()


async def test_records_removed_added_or_put_into_the_past_are_found(
    sealed: tuple[str, Client, int],
) -> None:
    dsn, client, _ = sealed
    owner = await owned(dsn)
    for table in ("decision", "settlement", "record_seal"):
        assert await found(owner, client, table, f"DELETE FROM {table}"), table
    again = """INSERT INTO decision SELECT (d).* FROM (
        SELECT jsonb_populate_record(decision, jsonb_build_object(
            'decision_id', gen_random_uuid(), 'create_time', create_time - {})) AS d FROM decision
        ) AS t LIMIT 1"""
    for ago in ("interval '0'", "interval '400 days'"):
        assert await found(owner, client, "decision", again.format(ago)), ago
    assert await faults(client) == []
    await owner.close()


async def test_periods_follow_each_other_and_are_of_a_day_at_most(
    postgres_server: embedded.EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    owner = await owned(dsn)
    begin = datetime(2026, 3, 1, 10, 30, tzinfo=UTC)
    await owner.execute("INSERT INTO tenant (tenant_id, display_name) VALUES ($1, '')", TENANT)
    for hours in (0, 1, 3, 60):
        key = uuid4()
        await owner.execute(
            """INSERT INTO request (tenant_id, request_id, method, request_hash, request, response)
            VALUES ($1, $2, '', $3, '', '')""",
            *(TENANT, key, bytes(32)),
        )
        await owner.execute(
            """INSERT INTO decision VALUES ($1, $2, $2, '', '', '', 0, $3, '', '', '{}',
            '{}', '{}', '{}', '{}', '{}', '{}')""",
            *(TENANT, key, begin + timedelta(hours=hours)),
        )
    monkeypatch.setattr(seals, "PAGE", 2)
    assert await seal(dsn, begin + timedelta(minutes=29)) == 0, "its hour isn't over by an hour"
    assert await seal(dsn, begin + timedelta(hours=2)) == 1
    assert await seal(dsn, begin + timedelta(days=30)) == 2
    rows = await owner.fetch("SELECT * FROM record_seal ORDER BY sequence")
    assert [row["records"] for row in rows] == [1, 2, 1]
    assert all(a["end_time"] == b["start_time"] for a, b in itertools.pairwise(rows))
    assert [f"{row['end_time']:%d %H}" for row in rows] == ["01 11", "02 11", "04 22"]
    database = await Database.open(dsn)
    for after, some, last in ((0, 1, 1), (1, 1, 2), (2, 100, 3), (3, 100, 3)):
        report = await seals.verify(
            database, TENANT, after=after, records_max=some, deadline_s=60.0
        )
        assert (report.last.sequence, report.faults) == (last, ())
        assert report.is_all == (some == 100)
    await database.aclose()
    await owner.close()


async def test_a_command_says_whether_they_hold(sealed: tuple[str, Client, int]) -> None:
    dsn, _, port = sealed
    words = ["audit", "seals", "--address", f"127.0.0.1:{port}"]
    done = await asyncio.to_thread(CliRunner().invoke, cli, words)
    assert (done.exit_code, "6 records until" in done.output) == (0, True), done.output
    owner = await owned(dsn)
    await owner.execute("UPDATE decision SET status = 'X' || status")
    done = await asyncio.to_thread(CliRunner().invoke, cli, words)
    assert (done.exit_code, "is not as it was sealed" in done.output) == (1, True), done.output
    await owner.execute("UPDATE decision SET status = substr(status, 2)")
    await owner.close()


async def owned(dsn: str) -> asyncpg.Connection:
    """An owner who has switched triggers and foreign keys off."""
    owner = await asyncpg.connect(dsn)
    await owner.execute("SET session_replication_role = replica")
    return owner


async def found(owner: asyncpg.Connection, client: Client, table: str, change: str) -> list[str]:
    """What is found of a change, which is undone then. An UPDATE is of one row that counts."""
    await owner.execute(f"DROP TABLE IF EXISTS kept; CREATE TABLE kept AS TABLE {table}")
    if change.startswith("UPDATE"):
        change += (
            f" WHERE ctid = (SELECT ctid FROM {table} AS t WHERE {OF_A_RECORD[table]} LIMIT 1)"
        )
    assert (await owner.execute(change)).split()[-1] != "0"
    told = await faults(client)
    await owner.execute(f"DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept")
    await owner.execute("DROP TABLE kept")
    return told


OF_A_RECORD = dict.fromkeys(TABLES, "true") | {
    "request": "EXISTS (SELECT FROM decision AS d WHERE d.request_id = t.request_id)"
}
CHANGED = {
    "outcome": "CASE {0} WHEN 'SETTLED' THEN 'RELEASED' ELSE 'SETTLED' END",
    "text": "{} || 'x'",
    "int8": "{} + 1",
    "float8": "{} + 1",
    "uuid": "gen_random_uuid()",
    "timestamptz": "{} + interval '1 microsecond'",
    "bytea": "CASE WHEN {0} = '' THEN ' ' ELSE set_byte({0}, 0, 255 - get_byte({0}, 0)) END",
    "jsonb": "{} || jsonb_build_object('x', 1)",
    "_text": "{} || 'x'::text",
    "_int8": "{} || 1::int8",
    "_int2": "{} || 1::int2",
    "_float8": "{} || 1::float8",
}
"""Another value of each type, near the one there is; of one column, of those it may have."""
