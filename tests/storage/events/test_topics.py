"""Topics, policies and subscriptions on a real broker, and who may do what there."""

import asyncio
import dataclasses
import itertools
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from server.cli import app
from server.cli.errors import CommandError
from storage.events import topics
from storage.events.admin import Admin, AdminRefused
from storage.events.client import BrokerConfig, PulsarBroker
from storage.events.ports import BrokerUnavailable, OutMessage, Sharing
from tests.fixtures_pulsar import TestBroker, token

pytestmark = pytest.mark.integration


def test_ensure_makes_every_topic_with_its_subscriptions(broker_config: BrokerConfig) -> None:
    admin = Admin(broker_config)
    place = f"persistent/{broker_config.tenant}/{broker_config.namespace}"
    made = {name.rsplit("/", 1)[1] for name in admin.get(place)}
    assert made == set(topics.expected_subscriptions())
    for topic, subscriptions in topics.expected_subscriptions().items():
        assert set(admin.get(f"{place}/{topic}/subscriptions")) == set(subscriptions)


def test_what_is_missing_is_named(broker_config: BrokerConfig) -> None:
    assert topics.missing(broker_config) == []
    elsewhere = dataclasses.replace(broker_config, namespace="nowhere")
    assert topics.missing(elsewhere) == list(topics.expected_subscriptions())


def test_ensure_again_makes_nothing(broker_config: BrokerConfig) -> None:
    assert topics.ensure(broker_config) == topics.Ensured((), ())


def test_ensure_sets_the_policies(broker_config: BrokerConfig) -> None:
    policies = topics.Policies(retention_minutes=60, retention_mb=100, time_to_live_s=600)
    topics.ensure(broker_config, policies)
    topics.ensure(broker_config)  # as a start of the service does: nothing is set back
    namespace = f"namespaces/{broker_config.tenant}/{broker_config.namespace}"
    admin = Admin(broker_config)
    assert admin.get(f"{namespace}/retention") == {
        "retentionTimeInMinutes": 60,
        "retentionSizeInMB": 100,
    }
    assert admin.get(f"{namespace}/messageTTL") == 600
    assert admin.get(f"{namespace}/deduplication") is True


def test_the_command_sets_the_policies_it_is_given(
    broker_config: BrokerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "PULSAR_URL": broker_config.service_url,
        "PULSAR_ADMIN_URL": broker_config.admin_url,
        "PULSAR_NAMESPACE": "by-command",
        "PULSAR_TOKEN": broker_config.token,
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"SIZING_{name}", value)
    ensure = ["topics", "ensure", "--json"]
    made = CliRunner().invoke(app, [*ensure, "--retention-mb", "200", "--time-to-live-s", "900"])
    assert made.exit_code == 0, made.output
    assert set(json.loads(made.output)["topics"]) == set(topics.expected_subscriptions())
    again = CliRunner().invoke(app, [*ensure, "--retention-minutes", "30"])
    assert json.loads(again.output) == {"topics": [], "subscriptions": []}
    admin = Admin(broker_config)
    assert admin.get("namespaces/public/by-command/retention") == {
        "retentionTimeInMinutes": 30,
        "retentionSizeInMB": 200,
    }
    assert admin.get("namespaces/public/by-command/messageTTL") == 900


async def test_a_role_may_do_what_it_is_granted_and_no_more(
    broker_config: BrokerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the broker itself: who was granted one topic writes that one, and until it is revoked."""
    settings = {
        "PULSAR_URL": broker_config.service_url,
        "PULSAR_ADMIN_URL": broker_config.admin_url,
        "PULSAR_NAMESPACE": broker_config.namespace,
        "PULSAR_TOKEN": broker_config.token,
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"SIZING_{name}", value)

    async def command(*words: str) -> str:
        done = await asyncio.to_thread(CliRunner().invoke, app, ["topics", *words])
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    async def may_write(topic: str) -> bool:
        theirs = dataclasses.replace(
            broker_config, token=token("conditions:feed"), operation_timeout_s=3
        )
        broker = PulsarBroker(theirs)
        try:
            await (await broker.open_producer(topic)).send(OutMessage("", b"x", {}))
        except BrokerUnavailable:
            return False
        finally:
            await broker.close()
        return True

    role = "conditions:feed"
    assert not await may_write("conditions")
    await command("grant", role, "--topic", "conditions", "--topic", "features", "--produce")
    await command("grant", "desk", "--consume")
    listed = json.loads(await command("grants", "--json"))["grants"]
    assert [(item["role"], item["topic"], item["actions"]) for item in listed] == [
        ("desk", "", ["consume"]),
        (role, "conditions", ["produce"]),
        (role, "features", ["produce"]),
    ]
    assert await may_write("conditions")
    assert not await may_write("limits")
    await command("revoke", role, "--topic", "conditions")
    assert not await may_write("conditions")
    await command("revoke", role, "--topic", "features")
    await command("revoke", "desk")
    assert json.loads(await command("grants", "--json"))["grants"] == []
    for words in (["grant", role], ["grant", role, "--produce", "--topic", "signal"]):
        refused = await asyncio.to_thread(CliRunner().invoke, app, ["topics", *words])
        assert isinstance(refused.exception, CommandError)


def test_ensure_waits_for_a_broker_that_is_busy(
    broker_config: BrokerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each eighth call fails as a broker does that has no bookie; all is made nevertheless."""
    once, n_calls = Admin._call_once, itertools.count()

    def flaky(self: Admin, method: str, path: str, body: object) -> Any:
        answer = once(self, method, path, body)
        if next(n_calls) % 8 == 0:
            raise BrokerUnavailable("Not enough non-faulty bookies available")
        return answer

    monkeypatch.setattr(Admin, "_call_once", flaky)
    config = dataclasses.replace(broker_config, namespace="busy")
    topics.ensure(config)
    assert next(n_calls) > 50
    monkeypatch.undo()
    assert topics.ensure(config) == topics.Ensured((), ())


def test_what_is_refused_is_not_tried_again(
    broker_config: BrokerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, calls = Admin._call_once, []

    def counted(self: Admin, method: str, path: str, body: object) -> Any:
        calls.append(path)
        return once(self, method, path, body)

    monkeypatch.setattr(Admin, "_call_once", counted)
    with pytest.raises(AdminRefused):
        topics.ensure(dataclasses.replace(broker_config, token=token("nobody")))
    assert len(calls) == 1


def test_ensure_makes_the_tenant_as_well(pulsar_broker: TestBroker) -> None:
    config = dataclasses.replace(pulsar_broker.config("desk"), tenant="another-firm")
    assert set(topics.ensure(config).topics) == set(topics.expected_subscriptions())


async def test_ensure_works_over_tls(pulsar_broker: TestBroker) -> None:
    config = pulsar_broker.tls_config("over-tls")
    topics.ensure(config)
    broker = PulsarBroker(config)
    try:
        producer = await broker.open_producer("alerts")
        await producer.send(OutMessage("k", b"over TLS", {}))
        subscription = await broker.subscribe("alerts", "operators", Sharing.BY_KEY)
        assert (await subscription.receive()).payload == b"over TLS"
    finally:
        await broker.close()


async def test_an_unknown_certificate_is_refused(pulsar_broker: TestBroker) -> None:
    config = dataclasses.replace(
        pulsar_broker.tls_config(), tls_trust_file="", operation_timeout_s=3
    )
    with pytest.raises(BrokerUnavailable):
        Admin(config).get("tenants")
    broker = PulsarBroker(config)
    try:
        with pytest.raises(BrokerUnavailable):
            await broker.open_producer("alerts")
    finally:
        await broker.close()


@pytest.mark.parametrize("given", ["", token("admin", b"x" * 32), token("nobody")])
async def test_without_the_right_token_nothing_is_allowed(
    pulsar_broker: TestBroker, broker_config: BrokerConfig, given: str
) -> None:
    config = dataclasses.replace(broker_config, token=given, operation_timeout_s=3)
    with pytest.raises(AdminRefused) as refused:
        topics.ensure(config)
    assert refused.value.status in (401, 403)
    broker = PulsarBroker(config)
    try:
        with pytest.raises(BrokerUnavailable):
            await broker.open_producer("alerts")
    finally:
        await broker.close()


async def test_the_token_file_is_read(pulsar_broker: TestBroker, tmp_path, broker_config) -> None:
    path = tmp_path / "token"
    path.write_text(token("admin") + "\n")
    config = dataclasses.replace(broker_config, token="", token_file=str(path))
    assert topics.ensure(config) == topics.Ensured((), ())
    broker = PulsarBroker(config)
    try:
        await (await broker.open_producer("alerts")).send(OutMessage("", b"x", {}))
    finally:
        await broker.close()


def test_no_secret_in_a_repr() -> None:
    config = BrokerConfig(service_url="pulsar://h:1", token="s3cret")
    assert "s3cret" not in repr(config)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"service_url": "http://h:1"}, "pulsar://"),
        ({"token": "a", "token_file": "b"}, "not both"),
        ({"namespace": ""}, "must not be empty"),
    ],
)
def test_a_wrong_configuration_says_what_is_wrong(changes: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        BrokerConfig(**{"service_url": "pulsar://h:1", **changes})


def test_no_broker_is_said_so() -> None:
    config = BrokerConfig(service_url="pulsar://127.0.0.1:1", admin_url="http://127.0.0.1:1")
    with pytest.raises(BrokerUnavailable, match="no answer"):
        topics.ensure(config, patience_s=0.5)
