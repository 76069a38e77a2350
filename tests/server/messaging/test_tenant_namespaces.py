"""A namespace of the broker for each tenant: whom the broker lets read one sees one firm."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from positionsizing.v1 import events_pb2, limits_pb2, portfolio_service_pb2
from typer.testing import CliRunner

from compute.waterfall.kernels import KernelRegistry
from server.app import App
from server.cli import app as cli
from server.cli.errors import CommandError
from server.maintenance.recover import known_streams, recover
from storage import embedded
from storage.events import history, streams, topics
from storage.events.client import BrokerConfig, PulsarBroker
from storage.events.ports import InMessage
from storage.postgres import tenants
from storage.postgres.pool import Database
from tests.fixtures_postgres import create_database
from tests.fixtures_pulsar import TestBroker
from tests.server.support.service_client import started
from tests.server.support.subscriber import Sender, Subscriber

pytestmark = pytest.mark.integration

OURS, RIVAL = "local", "rival"


@pytest.fixture(scope="module")
def shared(pulsar_broker: TestBroker) -> BrokerConfig:
    return pulsar_broker.config("firm-{tenant}")


@pytest_asyncio.fixture(scope="module")
async def app(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    shared: BrokerConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[App]:
    """A service of two tenants; the second is made while it serves."""
    patch = pytest.MonkeyPatch()
    patch.setattr(streams, "TENANTS_INTERVAL_S", 0.5)
    folder: Path = tmp_path_factory.mktemp("tenants")
    async with started(
        postgres_server,
        kernels,
        folder,
        pulsar_url=shared.service_url,
        pulsar_admin_url=shared.admin_url,
        pulsar_namespace=shared.namespace,
        pulsar_token=shared.token,
    ) as running:
        connection = await asyncpg.connect(running.config.dsn.get_secret_value())
        await tenants.ensure(connection, RIVAL)
        await connection.close()
        async with asyncio.timeout(120):
            while await asyncio.to_thread(topics.missing, shared.of_tenant(RIVAL)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        yield running
    patch.undo()


@pytest_asyncio.fixture(scope="module")
async def place_of(shared: BrokerConfig, app: App) -> AsyncIterator[Callable[[str], PulsarBroker]]:
    """A connection to the namespace of a tenant."""
    opened = {name: PulsarBroker(shared.of_tenant(name)) for name in (OURS, RIVAL)}
    yield opened.__getitem__
    for broker in opened.values():
        await broker.close()


def limits(weight_max: float) -> events_pb2.LimitsUpdated:
    """Of the whole firm."""
    return events_pb2.LimitsUpdated(
        request=portfolio_service_pb2.SetLimitsRequest(
            scope=portfolio_service_pb2.Scope(), limits=limits_pb2.Limits(weight_max=weight_max)
        )
    )


async def test_each_tenant_sends_to_its_own_topics_and_reads_its_own_events(
    place_of: Callable[[str], PulsarBroker],
) -> None:
    for tenant_id, weight in ((OURS, 0.31), (RIVAL, 0.29)):
        sender = Sender(place_of(tenant_id), tenant_id)
        await sender.send("limits", tenant_id, limits(weight))
    for tenant_id, weight in ((OURS, 0.31), (RIVAL, 0.29)):
        reader = Subscriber(place_of(tenant_id))
        message, told = await reader.wait_for("limits-changed", "LimitsChanged", lambda _: True)
        assert told.limits.weight_max == weight, "and not the other's, which was there before"
        assert message.tenant_id == tenant_id
        assert told.change.author == "topic:limits"


async def test_a_message_that_names_another_tenant_than_its_namespace_is_put_aside(
    place_of: Callable[[str], PulsarBroker], app: App
) -> None:
    sender = Sender(place_of(RIVAL), OURS)
    event_id = await sender.send("limits", OURS, limits(0.01))
    letter = await Subscriber(place_of(RIVAL)).letter("limits", event_id)
    assert letter.properties["dead_letter_reason"] == "UNKNOWN_TENANT"
    assert letter.properties["dead_letter_topic"] == "limits"
    connection = await asyncpg.connect(app.config.dsn.get_secret_value())
    stored = await connection.fetchval("SELECT count(*) FROM inbox WHERE event_id = $1", event_id)
    await connection.close()
    assert stored == 0
    alert, told = await Subscriber(place_of(RIVAL)).wait_for("alerts", "Alert", lambda _: True)
    assert (alert.tenant_id, told.reason) == (RIVAL, "DEAD_LETTER")


async def test_recovery_reads_the_topics_of_every_tenant(shared: BrokerConfig, app: App) -> None:
    """What was told of a tenant is known to its database; of one that is gone it is counted."""
    names = await asyncio.to_thread(history.published_topics, shared, ())
    found = list[InMessage]()
    await asyncio.to_thread(history.read, shared, names, found.append)
    assert {message.tenant_id for message in found} == {OURS, RIVAL}

    def read(take: Callable[[InMessage], None]) -> None:
        for message in found:
            take(message)

    database = await Database.open(app.config.dsn.get_secret_value())
    try:
        assert set(await known_streams(database)) == {OURS, RIVAL}
        assert (await recover(database, read, write=False)).findings == ()
    finally:
        await database.aclose()


async def test_the_command_tells_events_of_tenants_that_the_database_has_not(
    place_of: Callable[[str], PulsarBroker],
    postgres_server: embedded.EmbeddedServer,
    shared: BrokerConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A database of nobody beside topics of two tenants, each in its own namespace."""
    for tenant_id in (OURS, RIVAL):
        await Sender(place_of(tenant_id), tenant_id).send("limits", tenant_id, limits(0.27))
        reader = Subscriber(place_of(tenant_id))
        await reader.wait_for(
            "limits-changed", "LimitsChanged", lambda told: told.limits.weight_max == 0.27
        )
    monkeypatch.setenv("SIZING_DSN", create_database(postgres_server, template=embedded.DATABASE))
    settings = {"URL": shared.service_url, "ADMIN_URL": shared.admin_url, "TOKEN": shared.token}
    for key, value in {**settings, "NAMESPACE": shared.namespace}.items():
        monkeypatch.setenv(f"SIZING_PULSAR_{key}", value)
    done = await asyncio.to_thread(CliRunner().invoke, cli, ["recover", "--dry-run", "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    missing = json.loads(done.output)["tenants_missing"]
    counts = {item["tenant_id"]: item["event_count"] for item in missing}
    assert counts.keys() >= {OURS, RIVAL}
    assert min(counts[OURS], counts[RIVAL]) >= 1


def test_the_command_makes_the_topics_of_the_tenants_it_is_given(
    shared: BrokerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"t{uuid4().hex[:8]}"
    settings = {"URL": shared.service_url, "ADMIN_URL": shared.admin_url, "TOKEN": shared.token}
    for key, value in settings.items():
        monkeypatch.setenv(f"SIZING_PULSAR_{key}", value)
    monkeypatch.setenv("SIZING_PULSAR_NAMESPACE", shared.namespace)
    done = CliRunner().invoke(cli, ["topics", "ensure", "--tenant", name, "--tenant", f"{name}-b"])
    assert done.exit_code == 0, done.output
    assert f"{name}-b/position-sized" in done.output
    assert {name, f"{name}-b"} <= set(topics.tenant_ids(shared))
    assert topics.missing(shared.of_tenant(name)) == []
    monkeypatch.setenv("SIZING_PULSAR_NAMESPACE", "one-for-all")
    refused = CliRunner().invoke(cli, ["topics", "ensure", "--tenant", name])
    assert isinstance(refused.exception, CommandError)
    assert "sizing-{tenant}" in refused.exception.hint


@pytest.mark.parametrize("name", ["a/b", "{tenant}{tenant}", "{firm}", "with space", ""])
def test_a_name_that_is_no_namespace_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="namespace"):
        BrokerConfig(service_url="pulsar://h:1", namespace=name)


def test_a_topic_has_its_tenant_before_it_where_each_has_a_namespace() -> None:
    one = BrokerConfig(service_url="pulsar://h:1", namespace="sizing")
    each = BrokerConfig(service_url="pulsar://h:1", namespace="sizing-{tenant}")
    assert one.topic("fills") == "persistent://public/sizing/fills"
    assert each.topic("acme/fills") == "persistent://public/sizing-acme/fills"
    for config, topic in ((one, "acme/fills"), (each, "fills")):
        with pytest.raises(ValueError, match="tenant"):
            config.topic(topic)


def test_what_was_published_is_on_the_topics_of_tenants_that_broker_or_database_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    each = BrokerConfig(service_url="pulsar://h:1", namespace="sizing-{tenant}")
    asked = replace(each, admin_url="http://h:1")
    short = [topic.name for topic in topics.OUTGOING]
    namespaces = ["public/default", "public/sizing-gone", "public/sizing-acme", "public/sizing-"]
    monkeypatch.setattr(
        topics.Admin, "get", lambda _, path: {"namespaces/public": namespaces}[path]
    )
    assert history.published_topics(replace(asked, namespace="sizing"), ["acme"]) == short
    assert history.published_topics(each, ["acme"]) == [f"acme/{name}" for name in short]
    expected = [f"{tenant_id}/{name}" for tenant_id in ("acme", "gone") for name in short]
    assert history.published_topics(asked, ["acme"]) == expected
