"""A whole service in this process, on a real PostgreSQL and kernels compiled for small shapes."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from service_client import Client, started

from compute.shapes import KernelRegistry
from server.app import App
from storage import embedded


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
