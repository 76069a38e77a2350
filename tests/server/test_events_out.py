"""From a call to a subscriber and back, on a real PostgreSQL and a real broker."""

import asyncio
import types
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from fixtures_pulsar import TestBroker
from positionsizing.v1 import events_pb2, portfolio_service_pb2, types_pb2
from service_client import Client, sizing_request, started

from compute.shapes import KernelRegistry
from server import alerts
from server.alerts import Alerts
from server.app import App
from storage import embedded
from storage.events import topics
from storage.events.client import BrokerConfig, PulsarBroker
from storage.events.ports import InMessage, OutMessage, Sharing, Subscription
from storage.postgres.pool import Database

pytestmark = pytest.mark.integration
NAMESPACE = "events-out"
PATIENCE_S = 60.0
TENANT = "local"


@pytest.fixture(scope="module")
def broker_config(pulsar_broker: TestBroker) -> BrokerConfig:
    config = pulsar_broker.config(NAMESPACE)
    topics.ensure(config)
    return config


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def app(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    broker_config: BrokerConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[App]:
    folder: Path = tmp_path_factory.mktemp("events-out")
    async with started(
        postgres_server,
        kernels,
        folder,
        pulsar_url=broker_config.service_url,
        pulsar_admin_url=broker_config.admin_url,
        pulsar_namespace=NAMESPACE,
        pulsar_token=broker_config.token,
    ) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(app: App) -> AsyncIterator[Client]:
    async with Client.connected(app.port) as connected:
        yield connected


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def subscriber(broker_config: BrokerConfig) -> AsyncIterator["Subscriber"]:
    broker = PulsarBroker(broker_config)
    yield Subscriber(broker)
    await broker.close()


class Subscriber:
    """Reads topics as their subscribers do, until something wanted comes."""

    def __init__(self, broker: PulsarBroker) -> None:
        self.broker = broker
        self._open: dict[str, Subscription] = {}

    async def wait_for(self, topic: str, name: str, wanted: Any) -> tuple[InMessage, Any]:
        """The next message of a type for which `wanted` holds, with its payload."""
        if topic not in self._open:
            self._open[topic] = await self.broker.subscribe(
                topic, "reporting", Sharing.ONE_AT_A_TIME
            )
        async with asyncio.timeout(PATIENCE_S):
            while True:
                message = await self._open[topic].receive()
                await self._open[topic].acknowledge(message)
                event = getattr(events_pb2, name).FromString(message.payload)
                if message.event_type == name and wanted(event):
                    return message, event


async def test_a_breach_reaches_its_subscribers(client: Client, subscriber: Subscriber) -> None:
    await client.put_market()
    portfolio_id = await client.put_portfolio(900_000.0, {"I1": 5_000.0})
    scope = portfolio_service_pb2.Scope(portfolio_id=portfolio_id)
    await client.set_limits(scope, weight_max=0.05)
    message, event = await subscriber.wait_for(
        "limit-breached", "LimitBreached", lambda e: e.portfolio_id == portfolio_id
    )
    assert message.key == portfolio_id
    assert message.properties["portfolio_sequence"] == str(event.portfolio_sequence) == "1"
    assert (event.limit, event.kind) == ("I1", types_pb2.LIMIT_KIND_WEIGHT_MAX)
    assert (event.bound, event.found_by) == (0.05, "limits")
    assert event.value == pytest.approx(0.1, rel=1e-12)
    decision = await client.size(sizing_request(portfolio_id, ["I0"]))
    _, sized = await subscriber.wait_for(
        "position-sized", "PositionSized", lambda e: e.decision.portfolio_id == portfolio_id
    )
    assert sized.decision == decision
    assert sized.portfolio_sequence == 2, "the episode goes on, so nothing is between"


async def test_a_halt_is_an_alert(client: Client, subscriber: Subscriber) -> None:
    portfolio_id = await client.put_portfolio()
    for state in (types_pb2.TRADING_STATE_HALTED, types_pb2.TRADING_STATE_ACTIVE):
        await client.portfolio.SetTradingState(
            portfolio_service_pb2.SetTradingStateRequest(
                scope=portfolio_service_pb2.Scope(portfolio_id=portfolio_id),
                trading_state=state,
                reason="a fire drill",
            )
        )
    subject = f"portfolio:{portfolio_id}"
    _, event = await subscriber.wait_for("alerts", "Alert", lambda e: e.subject == subject)
    assert event.reason == "TRADING_HALTED"
    assert event.severity == events_pb2.ALERT_SEVERITY_WARNING
    assert "a fire drill" in event.message


async def test_what_is_refused_is_a_dead_letter_and_an_alert(
    client: Client, subscriber: Subscriber
) -> None:
    portfolio_id = await client.put_portfolio()
    producer = await subscriber.broker.open_producer("portfolio-state")
    wrong = events_pb2.PortfolioStateUpdated()
    wrong.request.portfolio_id = portfolio_id
    wrong.request.cash = float("nan")
    sent = [str(uuid4()) for _ in range(3)]
    for event_id in sent:
        properties = {
            "event_id": event_id,
            "event_type": "PortfolioStateUpdated",
            "tenant_id": TENANT,
        }
        await producer.send(OutMessage(portfolio_id, wrong.SerializeToString(), properties))
    letters = await subscriber.broker.subscribe(
        "portfolio-state-dead-letter", "operators", Sharing.BY_KEY
    )
    async with asyncio.timeout(PATIENCE_S):
        buried = [await letters.receive() for _ in sent]
    assert [letter.event_id for letter in buried] == sent
    subject = "topic:portfolio-state"
    message, event = await subscriber.wait_for("alerts", "Alert", lambda e: e.subject == subject)
    assert event.reason == "DEAD_LETTER"
    assert sent[0] in event.message
    assert message.key == TENANT


async def test_reservations_that_expire_in_numbers_are_an_alert(
    client: Client, subscriber: Subscriber
) -> None:
    await client.put_market()
    await client.set_limits(portfolio_service_pb2.Scope(), weight_max=0.1)
    portfolios = [await client.put_portfolio() for _ in range(alerts.EXPIRED_MIN + 5)]
    requests = [sizing_request(portfolio_id, ["I0"]) for portfolio_id in portfolios]
    for request in requests:
        request.reservation_ttl.FromSeconds(3)
    await asyncio.gather(*(client.size(request) for request in requests))
    _, event = await subscriber.wait_for(
        "alerts", "Alert", lambda e: e.reason == "RESERVATIONS_EXPIRED"
    )
    assert event.severity == events_pb2.ALERT_SEVERITY_WARNING


async def test_lag_is_told_once_an_episode(client: Client, app: App, app_alerts: Alerts) -> None:
    stats = types.SimpleNamespace(oldest_age_s=0.0, last_error="no bookie")
    relay: Any = types.SimpleNamespace(stats=stats, holds=lambda shard: shard == 0)
    told = []
    for age_s in (30.0, 61.0, 300.0, 20.0, 70.0, 1.0, 90.0):
        stats.oldest_age_s = age_s
        before = await _last_number(app)
        await app_alerts.look_at_lag(relay)
        told.append(await _last_number(app) - before)
    assert told == [0, 1, 0, 0, 0, 0, 1]
    relay.holds = lambda shard: False
    stats.oldest_age_s = 1.0
    await app_alerts.look_at_lag(relay)
    stats.oldest_age_s = 99.0
    await app_alerts.look_at_lag(relay)
    assert await _last_number(app) == before + 1


@pytest_asyncio.fixture(loop_scope="session")
async def app_alerts(app: App) -> AsyncIterator[Alerts]:
    assert app.config.dsn is not None
    database = await Database.open(app.config.dsn.get_secret_value())
    yield Alerts(database, app.config.tenant_id)
    await database.aclose()


async def _last_number(app: App) -> int:
    """Number of the newest event of the tenant's own stream."""
    assert app.config.dsn is not None
    connection = await asyncpg.connect(app.config.dsn.get_secret_value())
    number = await connection.fetchval(
        "SELECT event_sequence FROM tenant_stream WHERE tenant_id = $1", app.config.tenant_id
    )
    await connection.close()
    return int(number)
