"""No broker configured, or one that was never there: calls go on, events wait and it shows."""

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compute.shapes import KernelRegistry
from server.app import App
from server.cli import app as cli
from server.cli.errors import CommandError
from server.config import ConfigError, load
from server.messaging.events import broker_config
from storage import embedded
from tests.server.support.service_client import Client, sizing_request, started

NOWHERE = {"pulsar_url": "pulsar://127.0.0.1:1", "pulsar_admin_url": "http://127.0.0.1:1"}


@pytest.mark.parametrize("settings", [{}, NOWHERE])
async def test_events_wait_and_their_age_is_told(
    settings: dict[str, str],
    postgres_server: embedded.EmbeddedServer,
    kernels: KernelRegistry,
    tmp_path: Path,
) -> None:
    async with started(postgres_server, kernels, tmp_path, **settings) as app:
        async with Client.connected(app.port) as client:
            portfolio_id = await client.ready()
            decision = await client.size(sizing_request(portfolio_id))
            assert decision.portfolio_id == portfolio_id
        ages = [await _older_than(app, 0.0)]
        ages.append(await _older_than(app, ages[0]))
        assert 0 < ages[0] < ages[1]
        before = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - before < 30, "a broker that is away held up the exit"


async def _older_than(app: App, seconds: float) -> float:
    """The age in the metrics, once it is more than that."""
    async with asyncio.timeout(60):
        while True:
            name = "sizing_outbox_oldest_age_seconds"
            age = app.telemetry.registry.get_sample_value(name)
            assert age is not None, "not among the metrics"
            if age > seconds:
                return age
            await asyncio.sleep(0.1)


def test_a_token_is_given_in_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIZING_PULSAR_TOKEN", "secret")
    monkeypatch.setenv("SIZING_PULSAR_TOKEN_FILE", "/run/token")
    with pytest.raises(ConfigError, match="pulsar_token or pulsar_token_file, not both"):
        load()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("URL", "localhost:6650", "service_url must begin with pulsar://"),
        ("NAMESPACE", "a/b", "namespace may have letters"),
        ("NAMESPACE", "sizing-{firm}", "once {tenant}"),
        ("TENANT", "", "must not be empty"),
    ],
)
def test_a_broker_that_can_not_be_is_a_fault_of_the_configuration(
    name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIZING_PULSAR_URL", "pulsar://127.0.0.1:1")
    monkeypatch.setenv(f"SIZING_PULSAR_{name}", value)
    with pytest.raises(ConfigError, match=words):
        broker_config(load())


def test_what_is_no_id_of_a_tenant_is_refused_before_it_names_a_namespace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SIZING_PULSAR_URL", NOWHERE["pulsar_url"])
    monkeypatch.setenv("SIZING_PULSAR_ADMIN_URL", NOWHERE["pulsar_admin_url"])
    monkeypatch.setenv("SIZING_PULSAR_NAMESPACE", "sizing-{tenant}")
    done = CliRunner().invoke(cli, ["topics", "ensure", "--tenant", "a firm", "--wait-s", "0"])
    assert isinstance(done.exception, CommandError)
    assert "'a firm' is no id of a tenant" in str(done.exception)
    monkeypatch.setenv("SIZING_TENANT_ID", "a firm")
    with pytest.raises(ConfigError, match="tenant_id"):
        load()
