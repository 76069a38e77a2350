"""A whole service in this process, on a real PostgreSQL and kernels compiled for small shapes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from compute.optimize.execution import Programs
from compute.shapes import KernelRegistry
from server.analytics.sizing_analytics import SizingAnalytics
from server.app import App
from storage import embedded
from storage.events import topics
from storage.events.client import BrokerConfig, PulsarBroker
from tests.fixtures_pulsar import TestBroker
from tests.server.support.outcomes import Desk
from tests.server.support.service_client import Client, started
from tests.server.support.subscriber import Sender, Subscriber


@pytest_asyncio.fixture(scope="session")
async def app(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[App]:
    """A serving app; its database is shared by all tests, which use portfolios of their own."""
    async with started(postgres_server, kernels, tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def client(app: App) -> AsyncIterator[Client]:
    """Stubs of every service of the app."""
    async with Client.connected(app.port) as connected:
        yield connected


@pytest_asyncio.fixture
async def own_client(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> AsyncIterator[Client]:
    """Stubs of a service of one test's own, for what others would see: its markets, its splits."""
    async with (
        started(postgres_server, kernels, tmp_path) as running,
        Client.connected(running.port) as connected,
    ):
        yield connected


@pytest_asyncio.fixture(scope="session")
async def joint_app(
    postgres_server: embedded.EmbeddedServer,
    joint_programs: Programs,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[App]:
    """A serving app that solves joint problems of up to 16 instruments and 64 scenarios."""
    folder = tmp_path_factory.mktemp("joint")
    settings = {"joint_assets": (16,), "joint_scenarios": (64,)}
    async with started(postgres_server, joint_programs.registry, folder, **settings) as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def joint_client(joint_app: App) -> AsyncIterator[Client]:
    """Stubs of that app."""
    async with Client.connected(joint_app.port) as connected:
        yield connected


@pytest.fixture(scope="session")
def events_config(pulsar_broker: TestBroker) -> BrokerConfig:
    """Topics for one service, reached over TLS with a token."""
    config = pulsar_broker.tls_config("service")
    topics.ensure(config)
    return config


@pytest_asyncio.fixture(scope="session")
async def events_app(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    events_config: BrokerConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[App]:
    """A serving app with a broker: TLS, its certificate alone trusted, the token in a file."""
    folder: Path = tmp_path_factory.mktemp("events")
    (folder / "token").write_text(events_config.token)
    async with started(
        postgres_server,
        kernels,
        folder,
        pulsar_url=events_config.service_url,
        pulsar_admin_url=events_config.admin_url,
        pulsar_namespace=events_config.namespace,
        pulsar_trust_file=events_config.tls_trust_file,
        pulsar_token_file=folder / "token",
    ) as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def events_client(events_app: App) -> AsyncIterator[Client]:
    """Stubs of that app."""
    async with Client.connected(events_app.port) as connected:
        yield connected


@pytest_asyncio.fixture(scope="session")
async def events_broker(events_config: BrokerConfig) -> AsyncIterator[PulsarBroker]:
    """A connection of somebody else."""
    broker = PulsarBroker(events_config)
    yield broker
    await broker.close()


@pytest.fixture(scope="session")
def subscriber(events_broker: PulsarBroker) -> Subscriber:
    """A reader of the service's topics."""
    return Subscriber(events_broker)


@pytest.fixture(scope="session")
def sender(events_broker: PulsarBroker, events_app: App) -> Sender:
    """A writer of the service's incoming topics."""
    return Sender(events_broker, events_app.config.tenant_id)


@pytest_asyncio.fixture
async def desk(
    postgres_server: embedded.EmbeddedServer, kernels: KernelRegistry, tmp_path: Path
) -> AsyncIterator[Desk]:
    """A service whose outcomes are looked at by the test alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SizingAnalytics, "run_due", _no_look)
        async with (
            started(postgres_server, kernels, tmp_path) as app,
            Client.connected(app.port) as connected,
        ):
            desk = Desk(connected, app)
            assert await desk.look() == 0  # from here on decisions count
            yield desk


async def _no_look(watch: SizingAnalytics) -> int:
    return 0
