"""A backup taken while the service serves, restored elsewhere, is the same service."""

import asyncio
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest
from positionsizing.v1 import portfolio_service_pb2, sizing_pb2, sizing_service_pb2

from compute.shapes import KernelRegistry
from server.cli import app as cli
from storage import embedded
from storage.postgres.backup import (
    DUMP,
    MANIFEST,
    BackupError,
    _is_known,
    _without_password,
    backup,
    checked,
    restore,
)
from storage.postgres.migrations import newest_version
from storage.server_user import run_as, server_user
from tests.fixtures_postgres import create_database
from tests.server.support.service_client import Client, same, sizing_request, started


class Told(NamedTuple):
    """All that a service is, as its callers and the database see it."""

    decisions: list[sizing_pb2.SizingDecision]
    portfolio: portfolio_service_pb2.Portfolio
    event_sequence: int
    outbox: list[tuple[Any, ...]]
    requests: list[tuple[Any, ...]]


async def told(client: Client, dsn: str, portfolio_id: str) -> Told:
    listed = await client.sizing.ListDecisions(
        sizing_service_pb2.ListDecisionsRequest(portfolio_id=portfolio_id)
    )
    decisions = [
        (
            await client.sizing.GetDecision(
                sizing_service_pb2.GetDecisionRequest(decision_id=item.decision_id)
            )
        ).decision
        for item in listed.decisions
    ]
    request = portfolio_service_pb2.GetPortfolioRequest(portfolio_id=portfolio_id)
    portfolio = (await client.portfolio.GetPortfolio(request)).portfolio
    owner = await asyncpg.connect(dsn)
    sequence = await owner.fetchval(
        "SELECT event_sequence FROM portfolio WHERE portfolio_id = $1", portfolio_id
    )
    outbox = await owner.fetch(
        """SELECT position, event_id, tenant_id, topic, portfolio_id, portfolio_sequence, type,
            payload, create_time FROM outbox ORDER BY position"""
    )
    requests = await owner.fetch("SELECT * FROM request ORDER BY request_id")
    await owner.close()
    return Told(decisions, portfolio, sequence, [*map(tuple, outbox)], [*map(tuple, requests)])


async def command(monkeypatch: pytest.MonkeyPatch, dsn: str, *words: str) -> int:
    """`sizing ...` on a database; its exit code."""
    monkeypatch.setenv("SIZING_DSN", dsn)

    def call() -> int:
        try:
            cli(list(words))
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return await asyncio.to_thread(call)


async def test_a_backup_restores_to_the_same_service(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As docs/operations.md has it: decisions, sequences, repeated answers and waiting events."""
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    restored, folder = create_database(postgres_server), tmp_path / "backup"
    async with (
        started(postgres_server, kernels, tmp_path / "a", dsn=dsn) as app,
        Client.connected(app.port) as client,
    ):
        portfolio_id = await client.ready()
        requests = [sizing_request(portfolio_id) for _ in range(3)]
        answers = [await client.size(request) for request in requests]
        before = await told(client, dsn, portfolio_id)
        assert await command(monkeypatch, dsn, "backup", str(folder)) == 0
        later = await client.size(sizing_request(portfolio_id))  # it served on, and this is lost
    assert len(before.decisions) == 3
    assert len(before.outbox) >= 4
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["schema_version"] == newest_version()
    assert manifest["row_counts"]["decision"] == 3
    assert manifest["row_counts"]["outbox"] == len(before.outbox)
    assert await command(monkeypatch, restored, "restore", str(folder)) == 0
    async with (
        started(postgres_server, kernels, tmp_path / "b", dsn=restored) as app,
        Client.connected(app.port) as client,
    ):
        after = await told(client, restored, portfolio_id)
        assert after == before
        for request, answer in zip(requests, answers, strict=True):
            assert same(await client.size(request), answer), "a repeated request gets its answer"
            wanted = sizing_service_pb2.ReplayDecisionRequest(decision_id=answer.decision_id)
            assert (await client.sizing.ReplayDecision(wanted)).lots_equal
        assert (await told(client, restored, portfolio_id)) == before, "repeating changed nothing"
        new = await client.size(sizing_request(portfolio_id))
        grown = await told(client, restored, portfolio_id)
        assert grown.event_sequence == before.event_sequence + 1, "and numbers go on without a gap"
        assert len(grown.decisions) == 4
        assert new.decision_id != later.decision_id
    wall = await asyncpg.connect(restored)
    assert await wall.fetchval("SELECT relrowsecurity FROM pg_class WHERE relname = 'decision'")
    await wall.close()
    assert await command(monkeypatch, restored, "restore", str(folder)) == 1, "not empty any more"


async def test_what_is_no_whole_backup_is_refused(
    postgres_server: embedded.EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn, folder = create_database(postgres_server, template=embedded.DATABASE), tmp_path / "backup"
    empty = create_database(postgres_server)
    assert await command(monkeypatch, empty, "backup", str(tmp_path / "none")) == 1, "no schema"
    assert await command(monkeypatch, dsn, "backup", str(folder)) == 0
    assert await command(monkeypatch, dsn, "backup", str(folder)) == 1, "the folder is not empty"
    manifest, dump = folder / "manifest.json", folder / "sizing.dump"
    text, content = manifest.read_text(), dump.read_bytes()

    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    newer = json.dumps({**json.loads(text), "schema_version": "9999"})
    fewer = json.loads(text)
    fewer["row_counts"]["decision"] = 7
    for broken, why in (
        (lambda: dump.write_bytes(changed), "is not what was written"),
        (lambda: manifest.write_text("{}"), "is no manifest"),
        (lambda: manifest.write_text(text.replace('"format": 1', '"format": 2')), "of a format"),
        (manifest.unlink, "manifest.json is missing"),
    ):
        broken()
        with pytest.raises(BackupError, match=why):
            checked(folder)
        assert await command(monkeypatch, empty, "restore", str(folder)) == 1
        manifest.write_text(text)
        dump.write_bytes(content)
    manifest.write_text(newer)
    assert await command(monkeypatch, empty, "restore", str(folder)) == 1
    owner = await asyncpg.connect(empty)
    assert await owner.fetchval("SELECT to_regclass('decision')") is None, "nothing was written"
    await owner.close()
    manifest.write_text(json.dumps(fewer))
    assert await command(monkeypatch, empty, "restore", str(folder)) == 1, "rows are counted"


async def test_an_embedded_database_is_made_of_a_backup(
    postgres_server: embedded.EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn, folder = create_database(postgres_server, template=embedded.DATABASE), tmp_path / "backup"
    owner = await asyncpg.connect(dsn)
    await owner.execute("INSERT INTO tenant VALUES ('acme', 'Acme')")
    await owner.close()
    assert await command(monkeypatch, dsn, "backup", str(folder)) == 0
    data = str(tmp_path / "data")

    def restore() -> int:
        monkeypatch.delenv("SIZING_DSN")
        try:
            cli(["restore", str(folder), "--data-dir", data])
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    assert await asyncio.to_thread(restore) == 0
    server = await asyncio.to_thread(embedded.start, Path(data) / "postgres")
    try:
        made = await asyncpg.connect(server.dsn)
        assert await made.fetchval("SELECT display_name FROM tenant") == "Acme"
        await made.close()
    finally:
        await asyncio.to_thread(server.stop)


@pytest.mark.parametrize(
    ("dsn", "shown", "password"),
    [
        ("postgresql://a@h/db", "postgresql://a@h/db", None),
        ("postgresql://a:p%40ss@h:5/db?x=1", "postgresql://a@h:5/db?x=1", "p@ss"),
        ("postgresql://a@/db?host=/run", "postgresql://a@/db?host=/run", None),
    ],
)
def test_a_password_is_not_among_arguments(dsn: str, shown: str, password: str | None) -> None:
    assert _without_password(dsn) == (shown, password)


@pytest.mark.parametrize(
    ("line", "version", "is_known"),
    [
        (b"SET transaction_timeout = 0;\n", 15, False),
        (b"SET transaction_timeout = 0;\n", 16, False),
        (b"SET transaction_timeout = 0;\n", 17, True),
        (b"SET statement_timeout = 0;\n", 15, True),
        (b"CREATE TABLE transaction_timeout (a int);\n", 15, True),
    ],
)
def test_a_setting_is_left_out_where_the_server_is_older_than_it(
    line: bytes, version: int, is_known: bool
) -> None:
    assert _is_known(line, version) is is_known


OLDER = [
    path
    for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if path.parent.name in ("15", "16")
]


@pytest.mark.skipif(not OLDER, reason="no PostgreSQL 15 or 16 below /usr/lib/postgresql")
async def test_a_backup_restores_into_an_older_server(
    postgres_server: embedded.EmbeddedServer, tmp_path: Path
) -> None:
    folder, data = tmp_path / "backup", Path(tempfile.mkdtemp(dir="/tmp"))
    user = server_user()
    if user is not None:
        os.chown(data, user.pw_uid, user.pw_gid)
    who = run_as(data)

    def older(program: str, *arguments: str) -> None:
        done = who.run([str(OLDER[0] / program), *arguments], capture_output=True, cwd="/")
        assert done.returncode == 0, done.stderr

    await backup(create_database(postgres_server, template=embedded.DATABASE), folder, release="1")
    older("initdb", "-D", str(data / "db"), "-U", "postgres", "-A", "trust")
    options = f"-c listen_addresses= -k {data}"
    try:
        older(
            "pg_ctl", "-D", str(data / "db"), "-o", options, "-l", str(data / "log"), "-w", "start"
        )
        made = await restore(f"postgresql://postgres@/postgres?host={data}", folder)
        assert made.row_counts["alembic_version"] == 1
    finally:
        older("pg_ctl", "-D", str(data / "db"), "-m", "immediate", "stop")
        shutil.rmtree(data)


async def test_a_dump_that_is_cut_off_leaves_nothing(
    postgres_server: embedded.EmbeddedServer, tmp_path: Path
) -> None:
    folder, dsn = tmp_path / "backup", create_database(postgres_server)
    await backup(create_database(postgres_server, template=embedded.DATABASE), folder, release="1")
    dump, manifest = folder / DUMP, folder / MANIFEST
    dump.write_bytes(dump.read_bytes()[:-2000])
    told = json.loads(manifest.read_text())
    told["dump_sha256"] = hashlib.sha256(dump.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(told))
    with pytest.raises(BackupError, match="pg_restore ended"):
        await restore(dsn, folder)
    owner = await asyncpg.connect(dsn)
    count = await owner.fetchval("SELECT count(*) FROM pg_class WHERE relname = 'decision'")
    await owner.close()
    assert count == 0
