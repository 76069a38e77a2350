"""`sizing webhooks` against a real service that posts to a real HTTP server."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from compute.shapes import KernelRegistry
from server.app import App
from storage import embedded
from tests.server.cli.test_commands import Sizing, sizing
from tests.server.support.receiver import Receiver, is_signed
from tests.server.support.service_client import started

__all__ = ["sizing"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def app(
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[App]:
    settings = {"webhook_networks": ("127.0.0.0/8",), "webhook_retry_s": 0.05}
    folder = tmp_path_factory.mktemp("webhooks")
    async with started(postgres_server, kernels, folder, **settings) as running:
        yield running


async def test_a_webhook_from_its_creation_to_its_end(sizing: Sizing) -> None:
    async with Receiver.started() as receiver:
        words = ("--topic", "trading-state-changed", "--topic", "alerts")
        made = await sizing("webhooks", "create", "desk", receiver.url(), *words)
        assert made.code == 0, made.err
        assert "shown once" in made.err
        secret = made.out.split()[-1]  # behind the log of the server, which starts just now
        await sizing("portfolio", "create", "hooked", "--cash", "1000")
        await sizing("portfolio", "halt", "hooked", "--reason", "a test")
        await receiver.until(lambda: len(receiver.accepted("/hook")) >= 2)
        assert all(is_signed(post, secret) for post in receiver.posts)
        listed = await sizing("webhooks", "list")
        assert receiver.url() in listed.out
        assert "enabled" in listed.out
        rows = (await sizing("webhooks", "deliveries", "desk", "--json")).json["deliveries"]
        state = next(row for row in rows if row["event_type"] == "TradingStateChanged")
        assert "TradingStateChanged" in (await sizing("webhooks", "deliveries", "desk")).out
        said = await sizing("webhooks", "redeliver", "desk", "--event", state["event_id"])
        assert "1 events are delivered again" in said.out
        await receiver.until(lambda: receiver.posts[-1].event_id == state["event_id"])
        turned = await sizing("webhooks", "rotate", "desk", "--overlap-hours", "1")
        assert turned.out.split()[-1].startswith("whsec_")
        assert turned.out.split()[-1] != secret
        assert "disabled" in (await sizing("webhooks", "disable", "desk")).out
        assert "disabled: by local" in (await sizing("webhooks", "list")).out
        assert "enabled" in (await sizing("webhooks", "enable", "desk")).out
        changed = await sizing("webhooks", "update", "desk", "--topic", "position-sized", "--json")
        assert changed.json["webhook"]["topics"] == ["position-sized"]
        assert "deleted" in (await sizing("webhooks", "delete", "desk")).out
        gone = await sizing("webhooks", "delete", "desk")
        assert gone.code == 1
        assert "does not exist" in gone.err


async def test_a_url_that_is_not_allowed_is_told(sizing: Sizing) -> None:
    words = ("webhooks", "create", "inside", "https://10.0.0.1/", "--topic", "alerts")
    refused = await sizing(*words)
    assert refused.code == 1
    assert "SIZING_WEBHOOK_NETWORKS" in refused.err
