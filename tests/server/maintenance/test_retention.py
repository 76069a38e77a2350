"""Decisions that the archive has leave the database, and nothing else does."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import polars
import pytest
import pytest_asyncio
from positionsizing.v1 import (
    analytics_service_pb2,
    audit_service_pb2,
    portfolio_service_pb2,
    sizing_service_pb2,
)
from positionsizing.v1 import explanation_service_pb2 as explanation_pb
from typer.testing import CliRunner

from compute.shapes import KernelRegistry
from server.auth.identity import Identity
from server.calls.request_context import Call
from server.cli import app as cli
from server.decisions.recorded import granted_decision
from server.maintenance import retention
from server.maintenance.archive import archive
from server.maintenance.retention import Removed, Retention, first_kept, retain
from server.maintenance.seals import seal_due
from storage import embedded
from storage.archive import files
from storage.archive.records import RecordError, find
from storage.errors import NotFound
from storage.postgres.pool import Database
from tests.fixtures_postgres import create_database
from tests.server.analytics.test_analytics import NAMES, decided_days
from tests.server.support.service_client import Client, Refused, refusal, sizing_request, started

TENANT = "local"
NOW = datetime.now(UTC)
DAY = (NOW - timedelta(days=40)).date()


@pytest_asyncio.fixture
async def served(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[str, Client]]:
    """A service on a database of its own, whose decisions a test may make older."""
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    async with (
        started(postgres_server, kernels, tmp_path_factory.mktemp("retention"), dsn=dsn) as app,
        Client.connected(app.port) as client,
    ):
        yield dsn, client


async def made_older(dsn: str, portfolio_id: str, settled_later: str = "") -> None:
    """All decided and reported for a portfolio was at noon of `DAY`, but for one report."""
    owner = await asyncpg.connect(dsn)
    first = await owner.fetchval(
        "SELECT min(create_time) FROM decision WHERE portfolio_id = $1", portfolio_id
    )
    ago = first - datetime.combine(DAY, time(12), UTC)
    for table in ("decision", "settlement"):
        await owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER append_only")
        await owner.execute(
            f"""UPDATE {table} SET create_time = create_time - $1::interval
            WHERE portfolio_id = $2
                AND (decision_id::text <> $3 OR '{table}' = 'decision')""",
            ago,
            portfolio_id,
            settled_later,
        )
        await owner.execute(f"ALTER TABLE {table} ENABLE TRIGGER append_only")
    await owner.close()


async def archived(dsn: str, root: Path, **options: Any) -> list[date]:
    database = await Database.open(dsn)
    try:
        await seal_due(database, TENANT, lambda: NOW + timedelta(days=2))
        days = archive(database, root, TENANT, now=lambda: NOW + timedelta(days=2), **options)
        return [day.day async for day in days]
    finally:
        await database.aclose()


def wanted(root: Path) -> Retention:
    return Retention(root, TENANT, first_kept(30, NOW), "s3://vault", "test", "drill", 0.0)


async def removed(dsn: str, root: Path, *, apply: bool) -> list[Removed]:
    return [day async for day in retain(dsn, wanted(root), NOW, apply=apply)]


async def ids_of(client: Client, portfolio_id: str) -> list[str]:
    """Its decisions, oldest first."""
    listed = await client.sizing.ListDecisions(
        sizing_service_pb2.ListDecisionsRequest(portfolio_id=portfolio_id)
    )
    return [item.decision_id for item in reversed(listed.decisions)]


async def faults(client: Client) -> list[str]:
    """What the chain of changes and the seals find."""
    chain = await client.audit.VerifyAudit(audit_service_pb2.VerifyAuditRequest())
    seals = await client.audit.VerifySeals(audit_service_pb2.VerifySealsRequest())
    assert seals.is_last
    return [fault.text for fault in (*chain.faults, *seals.faults)]


def asks(client: Client, decision_id: str) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Every call that names a decision."""
    sizing, explain = client.sizing, client.explanation
    return {
        "get": lambda: sizing.GetDecision(
            sizing_service_pb2.GetDecisionRequest(decision_id=decision_id)
        ),
        "replay": lambda: sizing.ReplayDecision(
            sizing_service_pb2.ReplayDecisionRequest(decision_id=decision_id)
        ),
        "settle": lambda: sizing.SettleDecision(
            sizing_service_pb2.SettleDecisionRequest(
                decision_id=decision_id, request_id=str(uuid4()), close=True
            )
        ),
        "ladder": lambda: explain.GetLimitLadder(
            explanation_pb.GetLimitLadderRequest(decision_id=decision_id, instrument_id="X")
        ),
        "what if": lambda: explain.WhatIfDecision(
            explanation_pb.WhatIfDecisionRequest(
                decision_id=decision_id, variations=[explanation_pb.DecisionVariation()]
            )
        ),
        "compare": lambda: explain.CompareDecisions(
            explanation_pb.CompareDecisionsRequest(
                first_decision_id=decision_id, second_decision_id=decision_id
            )
        ),
    }


async def test_what_the_archive_has_goes_and_calls_say_where_it_is(
    served: tuple[str, Client], tmp_path: Path
) -> None:
    dsn, client = served
    portfolio_id, snapshots, _ = await decided_days(client)
    line = {"side": [1, 1], "win_probability": [0.6, 0.52], "payoff": [1.0, 1.0]}
    request = sizing_request(portfolio_id, NAMES, line, market_snapshot_id=snapshots[0])
    open_one = await client.size(request)
    first, second, third, _ = await ids_of(client, portfolio_id)
    answered = await asks(client, first)["get"]()
    book = await client.portfolio.GetPortfolio(_book(portfolio_id))
    await made_older(dsn, portfolio_id, settled_later=third)

    assert await removed(dsn, tmp_path, apply=True) == [], "nothing is archived"
    assert DAY in await archived(dsn, tmp_path)
    assert not await faults(client)
    (plan,) = await removed(dsn, tmp_path, apply=False)
    assert plan == Removed(DAY, decisions=2, settlements=2, open=1, settled_later=1)
    assert await ids_of(client, portfolio_id) == [first, second, third, open_one.decision_id]

    assert await removed(dsn, tmp_path, apply=True) == [plan]
    assert await ids_of(client, portfolio_id) == [third, open_one.decision_id]
    for name, ask in asks(client, first).items():
        found = await refusal(ask())
        told = {"decision": first, "archive": "s3://vault", "day": f"{DAY}"}
        assert (found.reason, found.metadata) == ("ARCHIVED", told), name
    for name in ("get", "replay"):
        await asks(client, third)[name]()
    past = analytics_service_pb2.AnalyzeDecisionsRequest(portfolio_id=portfolio_id)
    assert (await refusal(client.analytics.AnalyzeDecisions(past))).reason == "ARCHIVED"
    assert await client.portfolio.GetPortfolio(_book(portfolio_id)) == book
    assert not await faults(client), "the seals hold over what has gone"
    events = await client.audit.ListAuditEvents(
        audit_service_pb2.ListAuditEventsRequest(page_size=1000)
    )
    told = [json.loads(e.document) for e in events.events if e.table_name == "retention"]
    assert [(t["decisions"], t["settlements"], t["reason"]) for t in told] == [(2, 2, "drill")]
    # The archive still has all of the day, and is not written again without what has gone.
    assert DAY not in await archived(dsn, tmp_path, again=True)
    shown = CliRunner().invoke(cli, ["explain", first, "--archive", str(tmp_path), "--json"])
    assert json.loads(shown.stdout)["decision"]["decision_id"] == first
    record = find(tmp_path, UUID(first))
    assert record is not None
    kept = sizing_service_pb2.SizePositionsResponse.FromString(record["response"])
    assert kept.decision == answered.decision


async def test_a_request_is_not_carried_out_again_after_its_answer_has_gone(
    served: tuple[str, Client], tmp_path: Path
) -> None:
    dsn, client = served
    portfolio_id, snapshots, _ = await decided_days(client)
    line = {"side": [1], "win_probability": [0.6], "payoff": [1.0]}
    request = sizing_request(portfolio_id, NAMES[:1], line, market_snapshot_id=snapshots[0])
    decision = await client.size(request)
    await client.sizing.SettleDecision(
        sizing_service_pb2.SettleDecisionRequest(
            decision_id=decision.decision_id, request_id=str(uuid4()), close=True
        )
    )
    await made_older(dsn, portfolio_id)
    await archived(dsn, tmp_path)
    await removed(dsn, tmp_path, apply=True)
    assert await ids_of(client, portfolio_id) == []
    found = await refusal(client.sizing.SizePositions(request))
    told = {"request": request.request_id, "archive": "s3://vault", "day": ""}
    assert (found.reason, found.metadata) == ("ARCHIVED", told)
    request.signals.payoff[0] = 2.0
    assert (await refusal(client.sizing.SizePositions(request))).reason == "REQUEST_ID_REUSED"
    assert await ids_of(client, portfolio_id) == []


async def test_what_differs_from_the_archive_by_a_byte_stays(
    served: tuple[str, Client], tmp_path: Path
) -> None:
    dsn, client = served
    portfolio_id, *_ = await decided_days(client)
    await made_older(dsn, portfolio_id)
    await archived(dsn, tmp_path)
    (path,) = files.day_folder(tmp_path, files.RECORDS, TENANT, DAY).glob("*.parquet")
    first, second, third = await ids_of(client, portfolio_id)
    whole = polars.read_parquet(path)
    # One record is lost, one has other bytes than were hashed, one is another's of its own digest.
    whole.filter(polars.col("record_id") != first).write_parquet(path)
    (plan,) = await removed(dsn, tmp_path, apply=False)
    assert (plan.decisions, plan.unlike) == (2, 1)
    bent = polars.when(polars.col("record_id") == second).then(b"x").otherwise("response")
    whole.with_columns(bent.alias("response")).write_parquet(path)
    with pytest.raises(RecordError, match=second):
        await removed(dsn, tmp_path, apply=True)
    assert len(await ids_of(client, portfolio_id)) == 3
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RecordError, match="can't be read"):
        await removed(dsn, tmp_path, apply=True)
    whole.write_parquet(path)
    owner = await asyncpg.connect(dsn)
    await owner.execute("ALTER TABLE decision DISABLE TRIGGER append_only")
    await owner.execute(
        "UPDATE decision SET status = 'X' || status WHERE decision_id = $1", UUID(third)
    )
    (done,) = await removed(dsn, tmp_path, apply=True)
    assert (done.decisions, done.unlike) == (2, 1)
    await owner.execute(
        "UPDATE decision SET status = substr(status, 2) WHERE decision_id = $1", UUID(third)
    )
    await owner.execute("ALTER TABLE decision ENABLE TRIGGER append_only")
    (done,) = await removed(dsn, tmp_path, apply=True)
    assert (done.decisions, done.unlike) == (1, 0)
    await owner.close()


async def test_what_is_settled_in_that_moment_is_left_and_calls_go_on(
    served: tuple[str, Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn, client = served
    portfolio_id, snapshots, _ = await decided_days(client)
    first, *_ = await ids_of(client, portfolio_id)
    await made_older(dsn, portfolio_id)
    await archived(dsn, tmp_path)
    monkeypatch.setattr(retention, "BATCH", 1)
    line = {"side": [1], "win_probability": [0.6], "payoff": [1.0]}
    owner = await asyncpg.connect(dsn)
    async with owner.transaction():
        # As a settlement does, by its foreign key.
        await owner.execute(
            "SELECT FROM decision WHERE decision_id = $1 FOR KEY SHARE", UUID(first)
        )
        going = asyncio.create_task(removed(dsn, tmp_path, apply=True))
        for _ in range(5):
            request = sizing_request(portfolio_id, NAMES[:1], line, market_snapshot_id=snapshots[0])
            await client.size(request)
        (done,) = await going
    assert (done.decisions, done.busy) == (2, 1)
    assert first in await ids_of(client, portfolio_id)
    (done,) = await removed(dsn, tmp_path, apply=True)
    assert (done.decisions, done.busy) == (1, 0)
    await owner.close()


async def test_an_archived_decision_of_another_portfolio_is_one_that_does_not_exist(
    served: tuple[str, Client], tmp_path: Path
) -> None:
    dsn, client = served
    portfolio_id, *_ = await decided_days(client)
    first, *_ = await ids_of(client, portfolio_id)
    await made_older(dsn, portfolio_id)
    await archived(dsn, tmp_path)
    await removed(dsn, tmp_path, apply=True)
    stranger = Identity(TENANT, "user:eve", frozenset(), ("other-*",))
    database = await Database.open(dsn)
    async with database.connection(TENANT, deadline_s=60.0) as connection:
        with pytest.raises(NotFound):
            await granted_decision(connection, Call(stranger, 0.0), UUID(first))
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT * FROM archive_records($1, '{}', '{}', 'x')", TENANT)
    async with database.connection("another", deadline_s=60.0) as connection:
        assert not await connection.fetch("SELECT * FROM archived_record")
    await database.aclose()


def test_the_command_plans_first_and_refuses_to_keep_less_than_a_month(
    served: tuple[str, Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn, _ = served
    monkeypatch.setenv("SIZING_DSN", dsn)
    run = CliRunner()
    (tmp_path / "records").mkdir()
    assert run.invoke(cli, ["retention", str(tmp_path)]).exit_code == 0
    assert run.invoke(cli, ["retention", str(tmp_path), "--keep-days", "29"]).exit_code == 2
    assert run.invoke(cli, ["retention", str(tmp_path / "none")]).exit_code == 2


async def test_days_are_archived_and_removed_by_commands(
    served: tuple[str, Client], tmp_path: Path
) -> None:
    dsn, client = served
    portfolio_id, *_ = await decided_days(client)
    first, *_ = await ids_of(client, portfolio_id)
    await made_older(dsn, portfolio_id)
    root = str(tmp_path / "vault")
    run, settings = CliRunner(env={"SIZING_DSN": dsn}), ["--keep-days", "30", "--json"]

    def ran(*words: str) -> Any:
        done = run.invoke(cli, [*words, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    written = await asyncio.to_thread(ran, "archive", root)
    assert [day["day"] for day in written] == [f"{DAY}"]
    planned = await asyncio.to_thread(ran, "retention", root, *settings[:2])
    assert planned[0]["decisions"] == 3
    assert first in await ids_of(client, portfolio_id)
    done = await asyncio.to_thread(ran, "retention", root, "--apply", *settings[:2])
    assert done == planned
    assert first not in await ids_of(client, portfolio_id)
    found: Refused = await refusal(asks(client, first)["replay"]())
    assert found.metadata["archive"] == root
    assert await asyncio.to_thread(ran, "retention", root, "--apply", *settings[:2]) == []


def _book(portfolio_id: str) -> portfolio_service_pb2.GetPortfolioRequest:
    return portfolio_service_pb2.GetPortfolioRequest(portfolio_id=portfolio_id)
