"""What callers have asked for, as the service counts it."""

import asyncio
import json
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from positionsizing.v1 import server_service_pb2 as pb
from positionsizing.v1 import sizing_service_pb2
from typer.testing import CliRunner

from compute.shapes import KernelRegistry
from server.auth.access import SCOPES
from server.auth.identity import Identity
from server.cli import app as cli
from server.observability.usage import Usage, flush
from storage import embedded
from storage.errors import Unavailable
from storage.postgres import usage as storage
from storage.postgres.pool import Database
from tests.fixtures_postgres import TENANT, create_database
from tests.server.auth.test_denials import client_of
from tests.server.support.credentials import AUDIENCE, ISSUER, Issuer
from tests.server.support.service_client import Client, refusal, sizing_request, started

HOUR, DAY = pb.USAGE_DIMENSION_HOUR, pb.USAGE_DIMENSION_DAY
SUBJECT, METHOD = pb.USAGE_DIMENSION_SUBJECT, pb.USAGE_DIMENSION_METHOD
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


async def usage(client: Client, *by: int, **given: Any) -> list[pb.Usage]:
    answer = await client.server.ListUsage(pb.ListUsageRequest(by=by, **given))
    return list(answer.usage)


async def test_calls_of_each_caller_are_counted_and_outlive_the_server(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> None:
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    issuer = Issuer()
    settings = {
        "auth": "required",
        "jwks": str(issuer.write(tmp_path / "keys.json")),
        "jwt_issuer": ISSUER,
        "jwt_audience": AUDIENCE,
        "dsn": dsn,
    }

    def token(subject: str, **claims: Any) -> str:
        everything = " ".join(SCOPES.values())
        return issuer.token(sub=subject, scope=everything, **claims)

    async with started(postgres_server, kernels, tmp_path / "a", **settings) as app:
        ann, bob = client_of(app, token("ann")), client_of(app, token("bob"))
        portfolio_id = await ann.ready()
        size = sizing_request(portfolio_id)
        await ann.size(size)
        await ann.size(size)  # a retry is answered too
        what_if = sizing_service_pb2.WhatIfRequest(base=size)
        what_if.base.request_id = ""
        what_if.variations.add(price_multiplier=1.1)
        await ann.sizing.WhatIf(what_if)
        for _ in range(3):
            await refusal(bob.sizing.SizePositions(sizing_request(portfolio_id, request_id="x")))
        async with Client.connected(app.port) as nobody:
            assert (await refusal(nobody.sizing.SizePositions(size))).code.name == "UNAUTHENTICATED"
    async with started(postgres_server, kernels, tmp_path / "b", **settings) as app:
        await check_usage(client_of(app, token("eve")), len(size.signals.instrument_ids))
        (tmp_path / "token").write_text(token("eve"))
        words = ["--token-file", str(tmp_path / "token"), "usage", "--by", "subject"]
        words += ["--address", f"127.0.0.1:{app.port}"]
        shown = await asyncio.to_thread(CliRunner().invoke, cli, words)
        assert "user:ann" in shown.stdout, shown.output
        as_json = await asyncio.to_thread(CliRunner().invoke, cli, [*words, "--json"])
        assert {u["subject"] for u in json.loads(as_json.stdout)["usage"]} >= {"user:ann"}
        fay = client_of(app, token("fay", portfolios=[portfolio_id]))
        denied = await refusal(fay.server.ListUsage(pb.ListUsageRequest()))
        assert denied.code is grpc.StatusCode.PERMISSION_DENIED


async def check_usage(eve: Client, lines: int) -> None:
    found = {(u.subject, u.method): u for u in await usage(eve, SUBJECT, METHOD)}
    sized = found["user:ann", "SizePositions"]
    assert (sized.call_count, sized.refused_count, sized.line_count) == (2, 0, 2 * lines)
    assert sized.busy_seconds > 0.0
    assert found["user:ann", "WhatIf"].line_count == 2 * lines
    refused = found["user:bob", "SizePositions"]
    assert (refused.call_count, refused.refused_count, refused.line_count) == (3, 3, 0)
    assert {subject for subject, _ in found} == {"user:ann", "user:bob"}
    (all_of_it,) = await usage(eve)
    assert all_of_it.call_count == sum(u.call_count for u in found.values())
    assert not all_of_it.HasField("time")
    days = await usage(eve, DAY, start_time=datetime.now(UTC) - timedelta(days=2))
    assert sum(u.call_count for u in days) == all_of_it.call_count
    assert all(u.time.ToDatetime().time() == time() for u in days)
    assert await usage(eve, end_time=datetime(2020, 1, 1, tzinfo=UTC)) == []


@pytest.mark.parametrize(
    ("by", "field", "reason"),
    [
        ([0], "by[0]", "UNKNOWN_VALUE"),
        ([METHOD, 9], "by[1]", "UNKNOWN_VALUE"),
        ([METHOD, METHOD], "by[1]", "DUPLICATE"),
        ([HOUR, DAY], "by", "NOT_APPLICABLE"),
    ],
)
async def test_sums_by_what_is_none_are_refused(
    client: Client, by: list[int], field: str, reason: str
) -> None:
    refused = await refusal(client.server.ListUsage(pb.ListUsageRequest(by=by)))
    assert refused.fields == {field: reason}


async def test_servers_add_up_and_what_the_database_did_not_take_is_told_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = Identity(TENANT, "user:ann", frozenset())
    moment = NOON + timedelta(minutes=59)
    servers = [Usage(lambda: moment), Usage(lambda: moment)]
    for server in servers:
        server.count(ann, "SizePositions", sizing_request("p"), 0.25, is_ok=True)
        server.count(ann, "GetDecision", sizing_service_pb2.GetDecisionRequest(), 1.0, is_ok=False)
    add = storage.add

    async def away(*_: object) -> None:
        raise Unavailable("away")

    monkeypatch.setattr(storage, "add", away)
    for server in servers:
        with pytest.raises(Unavailable):
            await flush(database, server)
    monkeypatch.setattr(storage, "add", add)
    moment += timedelta(minutes=1)
    servers[0].count(ann, "SizePositions", sizing_request("p"), 0.25, is_ok=True)
    for server in servers:
        await flush(database, server)
        await flush(database, server)  # nothing twice
    by = [storage.Dimension.HOUR, storage.Dimension.METHOD]
    async with database.connection(TENANT, deadline_s=5) as connection:
        found = await storage.sums(connection, TENANT, by, start=NOON, end=None, limit=10)
    lines = len(sizing_request("p").signals.instrument_ids)
    assert [(sum.time, sum.method, sum.count) for sum in found] == [
        (NOON, "GetDecision", storage.Count(2, 2, 0, 2.0)),
        (NOON, "SizePositions", storage.Count(2, 0, 2 * lines, 0.5)),
        (NOON + timedelta(hours=1), "SizePositions", storage.Count(1, 0, lines, 0.25)),
    ]
