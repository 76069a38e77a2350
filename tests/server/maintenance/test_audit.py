"""The chain of changes: written whatever changes a row, and anything done to it is found (R14)."""

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from positionsizing.v1 import audit_service_pb2 as audit_pb
from positionsizing.v1 import parameter_service_pb2, portfolio_service_pb2, types_pb2
from positionsizing.v1 import webhook_service_pb2 as webhook_pb

from compute.shapes import KernelRegistry
from server.cli import app as cli
from server.maintenance import audit
from server.maintenance.audit import chain_faults
from storage import embedded
from storage.postgres import audit as storage
from storage.postgres import credentials, limits, model_schedules, tenants
from storage.postgres.audit import FIRST, AuditEvent, Head
from storage.postgres.migrations import migrate
from storage.postgres.scopes import TENANT_SCOPE
from tests.fixtures_postgres import create_database
from tests.server.support.service_client import Client, refusal, started

TENANT = "local"
SOON = datetime.now(UTC) + timedelta(days=1)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def chain(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path_factory: Any
) -> AsyncIterator[tuple[str, list[AuditEvent]]]:
    """A database with a change of each kind that a service and an operator make, and its chain."""
    dsn = create_database(postgres_server, template=embedded.DATABASE)
    async with (
        started(postgres_server, kernels, tmp_path_factory.mktemp("audit"), dsn=dsn) as app,
        Client.connected(app.port) as client,
    ):
        book = await client.put_portfolio(1e6)
        scope = portfolio_service_pb2.Scope(portfolio_id=book)
        await client.set_limits(scope, weight_max=0.1)
        await client.parameter.SetParameters(
            parameter_service_pb2.SetParametersRequest(
                parameters=parameter_service_pb2.SizingParameters(kelly_fraction=0.25),
                reason="half of a half: »¼«",
            )
        )
        for state in (types_pb2.TRADING_STATE_HALTED, types_pb2.TRADING_STATE_ACTIVE):
            await client.portfolio.SetTradingState(
                portfolio_service_pb2.SetTradingStateRequest(
                    scope=scope, trading_state=state, reason="drill"
                )
            )
        owner = await asyncpg.connect(dsn)
        key = {"hash": bytes(32), "scopes": ("sizing.read",), "portfolios": ("*",)}
        await credentials.create_key(
            owner, TENANT, "0a", subject="key:a", expire_time=SOON, author="op", **key
        )
        await credentials.revoke_key(owner, TENANT, "0a")
        await credentials.block(owner, TENANT, "user:eve", until=SOON, author="op", reason="left")
        await change_webhooks(client)
        given = {"universe_id": "u", "document": b"\x01\xff", "train_time": SOON}
        for schedule_id in ("kept", "gone"):
            async with owner.transaction():
                await model_schedules.put(owner, TENANT, schedule_id, author="quant", **given)
        await owner.execute("UPDATE model_schedule SET claim_time = now(), failure = 'x'")
        async with owner.transaction():
            await model_schedules.remove(owner, TENANT, "gone", author="eve")
        answer = await client.audit.VerifyAudit(audit_pb.VerifyAuditRequest())
        assert not answer.faults
        listed = await client.audit.ListAuditEvents(audit_pb.ListAuditEventsRequest())
        check_by_the_contract(list(listed.events))
        assert answer.head.hash == listed.events[-1].hash
        first = await client.audit.ListAuditEvents(audit_pb.ListAuditEventsRequest(page_size=3))
        assert [event.sequence for event in first.events] == [1, 2, 3]
        await owner.execute("SELECT set_config('sizing.tenant_id', $1, false)", TENANT)
        events = await storage.page(owner, TENANT)
        await owner.close()
    yield dsn, events


async def change_webhooks(client: Client) -> None:
    """Made, changed, given another secret; one is deleted."""
    hooks = client.webhooks
    for name in ("gone", "kept"):
        hook = webhook_pb.Webhook(webhook_id=name, url="https://9.9.9.9/", topics=["alerts"])
        await hooks.CreateWebhook(webhook_pb.CreateWebhookRequest(webhook=hook))
    await hooks.DeleteWebhook(webhook_pb.DeleteWebhookRequest(webhook_id="gone"))
    await hooks.UpdateWebhook(webhook_pb.UpdateWebhookRequest(webhook_id="kept", enabled=False))
    await hooks.RotateWebhookSecret(webhook_pb.RotateWebhookSecretRequest(webhook_id="kept"))


def check_by_the_contract(events: list[audit_pb.AuditEvent]) -> None:
    """Hashes as `audit_service.proto` has them, and what they are of."""
    before = bytes(32)
    for number, event in enumerate(events, 1):
        texts = (TENANT, str(number), event.create_time, event.table_name, event.row_key)
        content = before
        for text in (*texts, event.document):
            content += str(len(text.encode())).encode() + b":" + text.encode()
        assert (event.sequence, event.previous) == (number, before)
        assert event.hash == hashlib.sha256(content).digest()
        before = event.hash
    said = [(event.table_name, json.loads(event.document)) for event in events]
    assert [name for name, _ in said] == [
        *("limit_set", "parameter_set", "trading_state", "trading_state"),
        *("api_key", "api_key", "identity_block"),
        *("webhook",) * 5,
        *("model_schedule",) * 3,
    ]
    assert said[0][1]["document"] == {"limits": {"weight_max": 0.1}}
    assert said[1][1]["reason"] == "half of a half: »¼«"
    assert [item["state"] for _, item in said[2:4]] == ["HALTED", "ACTIVE"]
    assert "hash" not in said[4][1]
    assert (said[4][1]["revoke_time"], said[5][1]["revoke_time"] is None) == (None, False)
    assert said[6][1]["author"] == "op"
    made, _, removed, disabled, turned = (item for _, item in said[7:12])
    assert removed == {"removed": True, "author": "local"}
    assert (made["changed_by"], disabled["disable_reason"]) == ("local", "by local")
    assert all("secret" not in item and "secret_before" not in item for _, item in said)
    assert turned["secrets_sha256"] != disabled["secrets_sha256"]
    assert said[12][1]["document"] == r"\x01ff"
    assert "claim_time" not in said[12][1]
    assert said[14][1] == {"removed": True, "author": "eve"}


def faults_of(events: list[AuditEvent]) -> list[str]:
    last, found = Head(0, FIRST), list[str]()
    for event in events:
        found += [fault.text for fault in chain_faults(TENANT, last, event)]
        last = Head(event.sequence, event.hash)
    return found


def flips(value: Any) -> list[Any]:
    """The same with one byte, or character, changed: each of them in turn."""
    if isinstance(value, int):
        return [value + 1, -value]
    if isinstance(value, bytes):
        return [value[:i] + bytes([byte ^ 1]) + value[i + 1 :] for i, byte in enumerate(value)]
    return [value[:i] + chr(ord(c) ^ 1) + value[i + 1 :] for i, c in enumerate(value)]


async def test_any_byte_of_any_event_changed_is_found(chain: tuple[str, list[AuditEvent]]) -> None:
    _, events = chain
    assert faults_of(events) == []
    tried = 0
    for place, event in enumerate(events):
        for column in fields(event):
            for other in flips(getattr(event, column.name)):
                changed = list(events)
                changed[place] = replace(event, **{column.name: other})
                assert faults_of(changed), (place, column.name)
                tried += 1
    assert tried > 2000


async def test_events_removed_or_swapped_are_found(chain: tuple[str, list[AuditEvent]]) -> None:
    _, events = chain
    for i in range(len(events) - 1):  # the last one is missed by the head, below
        assert faults_of(events[:i] + events[i + 1 :])
        swapped = list(events)
        swapped[i], swapped[i + 1] = swapped[i + 1], swapped[i]
        assert faults_of(swapped)
        renamed = [replace(a, sequence=b.sequence) for a, b in zip(swapped, events, strict=True)]
        assert faults_of(renamed)


async def test_whatever_is_done_to_the_tables_is_found(
    chain: tuple[str, list[AuditEvent]],
) -> None:
    """By an owner who switches the triggers off."""
    dsn, events = chain
    owner = await asyncpg.connect(dsn)
    await owner.execute("SELECT set_config('sizing.tenant_id', $1, false)", TENANT)
    await owner.execute("SET session_replication_role = replica")
    head = events[-1]
    noted = Head(head.sequence, head.hash)
    done = {
        "an event's text": "UPDATE audit_event SET document = replace(document, '0.1', '0.9')",
        "the last event": f"DELETE FROM audit_event WHERE sequence = {head.sequence}",
        "all events": "TRUNCATE audit_event",
        "the head": "UPDATE audit_head SET sequence = sequence + 1",
        "no head": "DELETE FROM audit_head",
        "limits": """UPDATE limit_set SET document = '{"limits": {"weight_max": 0.9}}'""",
        "more limits": """UPDATE limit_set
            SET document = '{"limits": {"weight_max": 0.1, "allow_short": true}}'""",
        "who": "UPDATE parameter_set SET author = 'somebody else'",
        "why": "UPDATE trading_state SET reason = 'another' WHERE version = 1",
        "when": "UPDATE trading_state SET create_time = create_time + interval '1 microsecond'",
        "a halt that never was": "DELETE FROM trading_state WHERE version = 1",
        "a state nobody set": """INSERT INTO trading_state
            (tenant_id, scope_kind, scope_id, version, state, author, reason)
            VALUES ('local', 'TENANT', '', 1, 'ACTIVE', 'x', '')""",
        "more scopes": "UPDATE api_key SET scopes = '{sizing.size}'",
        "a key that lives again": "UPDATE api_key SET revoke_time = NULL",
        "a block that ended": "UPDATE identity_block SET until = now()",
        "where events go": "UPDATE webhook SET url = 'https://8.8.8.8/'",
        "what signs": "UPDATE webhook SET secret = secret || 'x'::bytea",
        "a webhook that is gone": "DELETE FROM webhook",
        "a webhook that is back": """INSERT INTO webhook
            SELECT (jsonb_populate_record(w, '{"webhook_id": "gone"}')).* FROM webhook AS w""",
        "what is trained": "UPDATE model_schedule SET document = document || 'x'::bytea",
        "a key nobody made": """INSERT INTO api_key (tenant_id, key_id, hash, subject, scopes,
            portfolios, expire_time, author)
            SELECT tenant_id, '0b', hash, subject, scopes, portfolios, expire_time, author
            FROM api_key""",
    }
    for what, sql in done.items():
        await owner.execute("BEGIN")
        await owner.execute(sql)
        report = await audit.verify(owner, TENANT)
        await owner.execute("ROLLBACK")
        assert report.faults, what
    assert not (await audit.verify(owner, TENANT, noted)).faults
    await owner.execute("BEGIN")  # cut off, rows and all, and the head set back: a note tells
    await owner.execute(f"DELETE FROM audit_event WHERE sequence = {head.sequence}")
    await owner.execute(
        """INSERT INTO model_schedule SELECT (jsonb_populate_record(s, e.document::jsonb)).*
        FROM model_schedule AS s, audit_event AS e WHERE e.sequence = $1""",
        events[-2].sequence,
    )
    before = events[-2]
    await owner.execute(
        "UPDATE audit_head SET sequence = $1, hash = $2", before.sequence, before.hash
    )
    assert not (await audit.verify(owner, TENANT)).faults
    report = await audit.verify(owner, TENANT, noted)
    await owner.execute("ROLLBACK")
    assert [fault.text for fault in report.faults] == ["the event noted earlier is not there"]
    await owner.close()


async def test_what_was_there_before_begins_the_chain(
    postgres_server: embedded.EmbeddedServer,
) -> None:
    dsn = create_database(postgres_server)
    await migrate(dsn, "0023")
    owner = await asyncpg.connect(dsn)
    await tenants.ensure(owner, TENANT)
    for version in (1, 2):  # as a release of that schema wrote them
        await owner.execute(
            """INSERT INTO limit_set
                (tenant_id, scope_kind, scope_id, version, document, author, reason)
            VALUES ($1, 'TENANT', '', $2, '{"limits": {"weight_max": 0.1}}', 'a', '')""",
            TENANT,
            version,
        )
    await migrate(dsn)
    await owner.execute("SELECT set_config('sizing.tenant_id', $1, false)", TENANT)
    report = await audit.verify(owner, TENANT)
    assert (report.head.sequence, report.faults) == (2, ())
    async with owner.transaction():  # undone, so nothing of it is in the chain
        await limits.put(owner, TENANT, TENANT_SCOPE, {}, author="a", reason="")
        assert (await audit.verify(owner, TENANT)).faults, "not until it is committed"
    report = await audit.verify(owner, TENANT)
    assert (report.head.sequence, report.faults) == (3, ())
    await owner.close()


async def test_from_the_command_line(
    client: Client, app: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import asyncio

    where = ("--address", f"127.0.0.1:{app.port}")
    await client.ready()

    async def sizing(*words: str) -> tuple[int, str]:
        def run() -> int:
            try:
                cli([*words, *where])
            except SystemExit as end:
                return int(end.code or 0)
            return 0

        code = await asyncio.to_thread(run)
        return code, capsys.readouterr().out

    assert "limit_set" in (await sizing("audit", "list", "--limit", "1000"))[1]
    note = tmp_path / "head"
    code, out = await sizing("audit", "verify", "--noted", str(note))
    assert code == 0
    assert "each as it was written" in out
    kept = note.read_text()
    await client.ready()
    assert (await sizing("audit", "verify", "--noted", str(note)))[0] == 0
    sequence = int(kept.split(":")[0])
    assert int(note.read_text().split(":")[0]) > sequence
    note.write_text(f"{sequence}:{'00' * 32}\n")
    code, out = await sizing("audit", "verify", "--noted", str(note))
    assert code == 1
    assert f"event {sequence}: the event noted earlier is another" in out
    wrong = audit_pb.VerifyAuditRequest(noted=audit_pb.AuditHead(sequence=-1))
    assert (await refusal(client.audit.VerifyAudit(wrong))).reason == "OUT_OF_RANGE"
